//! Databases, restored to a position of their log: base and log are put together by the engine's own recovery.
//!
//! The copy is recovered where nobody sees it: on a socket in a private folder, without a network where the machine permits
//! that, with archiving, replication and logical workers off: all is said on the command line of the one server that does the
//! recovery. A copy that stays has a mark, and a few settings that keep it from disturbing anybody until it is promoted.

mod answer;
mod beside;
mod bisect;
pub mod cli;
mod copy;
mod dump;
pub mod engine;
mod interrupts;
mod leftovers;
mod look;
mod mariadb;
mod mark;
mod outside;
mod postgres;
mod promote;
pub mod proving;
pub mod recovery;
mod session;
pub mod show;
mod sqlite;
mod workspace;

pub use answer::AskError;
pub use engine::Engine;
pub use mariadb::{LaidOutLog, MariadbCopy, Reached, ReplayError};
pub use recovery::{Recovered, Recovery, RecoveryError};
