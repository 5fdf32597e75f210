//! What a repository has of a database, as the planner wants it.
//!
//! The journal names logs, their bundles and the points that are bases. [`catalogue()`] makes of them what
//! [`strongroom_database`] plans with, and is pure; [`DatabaseArchive`] reads bundles where the plan or a person asks for what is
//! in them.

mod catalogue;
mod error;
mod reader;
mod segment;

pub use catalogue::{catalogue, databases, logs, newest_log, on_volume};
pub use error::ArchiveError;
pub use reader::DatabaseArchive;
