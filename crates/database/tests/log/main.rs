//! The reader of PostgreSQL's log: against logs that are made here for every version, against damage, and against a real
//! server and its own `pg_waldump`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod damage;
mod made;
mod real;
#[path = "../../../postgres/tests/real/server.rs"]
#[allow(dead_code, reason = "it serves the tests of the receiver, which use all of it")]
mod server;
mod writer;

use strongroom_database::postgres::{Interpreter, LogReader, ReadError, Start, Version};
use strongroom_database::{Entry, Position};

/// Reads a log in pieces of these sizes, over and over.
pub(crate) fn read(
    start: Start,
    bytes: &[u8],
    sizes: &[usize],
    segment: u32,
    version: Option<Version>,
) -> (Vec<Entry>, LogReader, Result<(), ReadError>) {
    let mut reader = LogReader::new(start, 1, segment, version);
    let mut interpreter = Interpreter::default();
    let mut entries = Vec::new();
    let (mut rest, mut sizes) = (bytes, sizes.iter().cycle());
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at((*sizes.next().unwrap()).clamp(1, rest.len()));
        let result =
            reader.push(reader.position(), piece, |record| entries.extend(interpreter.entry(record)));
        if result.is_err() {
            return (entries, reader, result);
        }
        rest = behind;
    }
    (entries, reader, Ok(()))
}

/// What matters of an entry, without what depends on where reading began.
pub(crate) fn key(entry: &Entry) -> (Position, Position, jiff::Timestamp, u8) {
    let kind = match entry {
        Entry::Commit(_) => 0,
        Entry::RolledBack(_) => 1,
        Entry::Prepared(_) => 2,
        Entry::Named(_) => 3,
        Entry::Checkpoint { .. } => 4,
        Entry::Began { .. } => 5,
    };
    (entry.start(), entry.end(), entry.at(), kind)
}
