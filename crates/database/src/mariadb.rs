//! What MariaDB's binary log says: 10.6 and newer.
//!
//! The log is a row of files, numbered one after the other. A [`Position`](crate::Position) has the number of the file in its upper
//! half and the offset in the file in its lower; see [`place`](fn@place). [`LogReader`] takes the bytes as they come, in pieces of any
//! size, and gives events; [`Interpreter`] puts events together to transactions. A *record*, in the words of the planner, is
//! a transaction (from its GTID event to the event that commits it), or an event that belongs to none.
//!
//! Bytes come from servers that crash and disks that lie: every length is bounded before it is believed, every event is
//! checked by its sum and its place, and damage is an error with its position, never a panic and never a guess.
//!
//! Sources: MariaDB's documentation of its replication protocol; `sql/log_event.h`, `sql/rpl_gtid.h`.

mod event;
mod gtid;
mod indexer;
mod interpreter;
mod place;
mod reader;
mod replay;
mod rows;
mod statement;

pub use event::{Event, HEADER_BYTES, Header, kind};
pub use gtid::{Gtid, GtidState};
pub use indexer::Indexer;
pub use interpreter::{Interpreter, Step};
pub use place::{FIRST_EVENT, bytes, file, file_number, offset, place};
pub use reader::{LogReader, MAGIC, ReadError};
pub use replay::{Replay, ReplayScan, Unreplayable};

#[cfg(test)]
mod tests;
