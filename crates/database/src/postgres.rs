//! What PostgreSQL's write-ahead log says: versions 13 to 17.
//!
//! [`LogReader`] takes the bytes of the log as they come, in pieces of any size, and gives its records one by one; nothing is kept
//! of a record but what is asked of it. [`Interpreter`] takes records and gives [`crate::Entry`] values: commits with what they did,
//! rollbacks, restore points, checkpoints, beginnings of timelines.
//!
//! Bytes come from servers that crash and disks that lie: every length is bounded before it is believed, every record
//! is checked by its sum, and damage is an error with its position, never a panic and never a guess.
//!
//! Sources: PostgreSQL's `access/xlog_internal.h`, `access/xlogrecord.h`, `access/xact.h`, `catalog/pg_control.h`,
//! `access/heapam_xlog.h`; machines of little-endian order, pages of 8 KiB.

mod bytes;
mod history;
mod interpreter;
mod page;
mod reader;
mod record;
mod segments;
mod sum;
mod tally;
mod transaction;

pub(crate) use bytes::Bytes;
pub use history::forks;
pub use interpreter::Interpreter;
pub use page::{PAGE_BYTES, PageError, SegmentHead, Version};
pub use reader::{LogReader, ReadError, Start};
pub use record::Record;
pub use segments::{FileName, Missing, Part, Segment, history_name, segment_name, segments};
