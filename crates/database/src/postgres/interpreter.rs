//! From records of the log to what is told of it.

use super::bytes::Bytes;
use super::record::{Record, manager};
use super::tally::Tallies;
use super::transaction::{Outcome, ending};
use crate::{Commit, Ended, Entry, LineageId, NamedPoint, Position, TransactionId};

/// Understands records, one after the other.
#[derive(Debug, Default)]
pub struct Interpreter {
    tallies: Tallies,
}

impl Interpreter {
    /// What the record says, if it is of interest. Records of all kinds are given, in order: what a commit did is said
    /// by those before it.
    pub fn entry(&mut self, record: &Record<'_>) -> Option<Entry> {
        match record.manager {
            manager::TRANSACTION => self.transaction(record),
            manager::XLOG => control(record),
            _ => {
                self.tallies.count(record);
                None
            }
        }
    }

    fn transaction(&mut self, record: &Record<'_>) -> Option<Entry> {
        let ending = ending(record.info, record.parts()?.data?)?;
        let transaction = ending.of.unwrap_or(record.transaction);
        let ended = Ended {
            start: record.start,
            end: record.end,
            at: ending.at,
            transaction: TransactionId::Number(u64::from(transaction)),
        };
        match ending.outcome {
            Outcome::Committed => Some(Entry::Commit(Commit {
                start: ended.start,
                end: ended.end,
                at: ended.at,
                transaction: ended.transaction,
                changes: self.tallies.close(transaction, &ending),
            })),
            Outcome::RolledBack => {
                self.tallies.close(transaction, &ending);
                Some(Entry::RolledBack(ended))
            }
            Outcome::Prepared => Some(Entry::Prepared(ended)),
        }
    }
}

fn control(record: &Record<'_>) -> Option<Entry> {
    let data = record.parts()?.data?;
    let mut bytes = Bytes(data);
    match record.info & 0xF0 {
        // A checkpoint, at a shutdown or while the server runs.
        kind @ (0x00 | 0x10) => {
            let redo = Position::new(bytes.u64()?);
            let (timeline, before) = (bytes.u32()?, bytes.u32()?);
            let at = Bytes(data.get(64..)?).seconds()?;
            // The first record of a timeline, when the server was stopped to begin it.
            if kind == 0x00 && timeline != before {
                return Some(began(record, at, timeline, before));
            }
            Some(Entry::Checkpoint { start: record.start, end: record.end, at, redo })
        }
        0x70 => {
            let at = bytes.time()?;
            let name = bytes.take(64)?.split(|byte| *byte == 0).next()?;
            let name = String::from_utf8_lossy(name).into_owned();
            Some(Entry::Named(NamedPoint { name, start: record.start, end: record.end, at }))
        }
        // The first record of a timeline.
        0x90 => {
            let at = bytes.time()?;
            let (timeline, before) = (bytes.u32()?, bytes.u32()?);
            Some(began(record, at, timeline, before))
        }
        _ => None,
    }
}

fn began(record: &Record<'_>, at: jiff::Timestamp, timeline: u32, before: u32) -> Entry {
    let (start, end) = (record.start, record.end);
    Entry::Began { start, end, at, lineage: LineageId(timeline), parent: LineageId(before) }
}
