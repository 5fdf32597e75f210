//! SQLite's write-ahead log: followed as it is written, understood, and put together again.
//!
//! ```text
//! wal       pure: the log file: its header, frames, the chain of sums
//! shared    pure: the header of the shared index, which says how much of the log file is committed
//! record    pure: a frame as we keep it
//! reader    pure: from records to the commit index
//! follower  reads what is committed, into the spool; holds the log file so that nothing of it goes unseen
//! cursor    where it was, for whoever goes on
//! rebuild   a base and records become the database at a commit
//! still     a database that nobody writes: asked, checked, dumped
//! ```
//! What always holds: only committed frames are kept; a log has every frame that was committed since it began, or it ends. SQLite
//! throws its log file away when it is checkpointed; we hold a read transaction, under which it cannot do so with frames that
//! were not read (see [`follower`]).

mod cursor;
mod error;
pub mod follower;
mod reader;
mod rebuild;
mod record;
mod shared;
mod still;
mod wal;

pub use cursor::Cursor;
pub use error::SqliteError;
pub use follower::Follower;
pub use reader::Reader;
pub use rebuild::{LastCommit, Rebuild, Rebuilt};
pub use record::{HEADER_BYTES, Record, RecordError};
pub use shared::Shared;
pub use still::{Rows, Still, is_missing, uri};
pub use wal::{Frame, Sum, WalError, WalHeader};
