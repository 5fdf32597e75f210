//! What was received of a database's log and is not archived yet.
//!
//! Receivers write into a [`Spool`] and tell their [`Progress`]; whoever archives reads from it, and frees what is stored.
//! Nothing here knows an engine: a log is bytes at positions.

mod error;
mod progress;
mod spool;

pub use error::SpoolError;
pub use progress::Progress;
pub use spool::{MOST_FRAME_BYTES, Piece, Spool};
