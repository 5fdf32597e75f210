//! Databases, restored to a position of their log: base and log are put together by the engine's own recovery.
//!
//! The copy is recovered where nobody sees it: on a socket in a private folder, without a network where the machine permits
//! that, with archiving, replication and logical workers off. Neither its data folder nor its settings get anything of
//! ours: all is said on the command line of the one server that does the recovery.

mod beside;
pub mod cli;
pub mod engine;
pub mod proving;
pub mod recovery;
pub mod show;
mod sqlite;

pub use engine::Engine;
pub use recovery::{Recovered, Recovery, RecoveryError};
