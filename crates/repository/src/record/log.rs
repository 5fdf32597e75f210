//! Logs of databases: what the journal says of them.
//!
//! A *log* is the log of one history of one database from some position on, without a gap. Its bytes lie in *bundles*, numbered from 1,
//! each of which begins where the one before ends. Positions are numbers that the engine gives their meaning; they only grow.
//!
//! Bundles are not named by a record each: a busy database makes one every ten seconds. A writer puts bundle n + 1 under its known
//! name and says so now and then for many. What it has put and not said yet is found by looking for the next number.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use strongroom_model::{LogId, VolumeName};

use crate::cbor::cbor_map;
use crate::entry_runs::EntryRuns;

/// A log of a database is archived from here on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogOpened {
    /// The log.
    pub log: LogId,
    /// What people call the database.
    pub database: String,
    /// The volume on which it lies.
    pub volume: Option<VolumeName>,
    /// `postgresql`.
    pub engine: String,
    /// What tells this database from every other, in the engine's own words: the system identifier.
    pub identity: String,
    /// The history: PostgreSQL's timeline.
    pub lineage: u32,
    /// Where the first bundle begins.
    pub start: u64,
    /// The history that this one left.
    pub parent: Option<u32>,
    /// Where it left it.
    pub fork: Option<u64>,
    /// The engine's own account of its histories, byte by byte: PostgreSQL's history file.
    pub history: Option<String>,
    /// This history's first writing was at or before this time.
    pub began_at: Timestamp,
    /// What else a restore has to know, such as `version` and `segment-bytes`.
    pub facts: BTreeMap<String, String>,
}
cbor_map!(LogOpened {
    0 => log, 1 => database, 2 => volume, 3 => engine, 4 => identity, 5 => lineage, 6 => start, 7 => parent, 8 => fork,
    9 => history, 10 => began_at, 11 => facts
});

/// Bundles of a log are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogArchived {
    /// The log.
    pub log: LogId,
    /// The number of the first of these bundles: the one after those that are known.
    pub first: u32,
    /// The bundles, in their order; none where only something was heard.
    pub bundles: Vec<BundleNote>,
    /// The end of the log, heard when nothing was missing.
    pub heard: Option<HeardNote>,
}
cbor_map!(LogArchived { 0 => log, 1 => first, 2 => bundles, 3 => heard });

/// What the journal, and the bundle's own footer, say of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BundleNote {
    /// The size of the object; 0 in its footer, which is in it.
    pub bytes: u64,
    /// Where its first byte belongs.
    pub from: u64,
    /// Where the next bundle begins.
    pub to: u64,
    /// Every commit that the database stamped up to this time lies before `to`.
    pub complete_until: Timestamp,
    /// Where the last record that ends in it begins.
    pub last_record: Option<u64>,
    /// The commits that end in it, in short.
    pub commits: Option<CommitsNote>,
    /// How many named points end in it.
    pub named_points: u32,
    /// Where the first record begins that is not whole with this bundle.
    pub whole_to: u64,
}
cbor_map!(BundleNote {
    0 => bytes, 1 => from, 2 => to, 3 => complete_until, 4 => last_record, 5 => commits, 6 => named_points, 7 => whole_to
});

/// Commits in short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CommitsNote {
    /// How many.
    pub count: u64,
    /// The first in the order of the log.
    pub first: CommitNote,
    /// The last in the order of the log.
    pub last: CommitNote,
    /// The earliest stamp.
    pub earliest: Timestamp,
    /// The latest stamp.
    pub latest: Timestamp,
}
cbor_map!(CommitsNote { 0 => count, 1 => first, 2 => last, 3 => earliest, 4 => latest });

/// One commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CommitNote {
    /// Where its record begins.
    pub start: u64,
    /// Where its record ends.
    pub end: u64,
    /// What the database's clock said.
    pub at: Timestamp,
    /// The transaction, by its number.
    pub transaction: u64,
    /// Who counts it, little-endian, where the number alone is no name (MariaDB: domain and server).
    pub source: Option<[u8; 16]>,
}
cbor_map!(CommitNote { 0 => start, 1 => end, 2 => at, 3 => transaction, 4 => source });

/// At this time the log ended here, and nothing of it was missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct HeardNote {
    /// Where it ended.
    pub position: u64,
    /// When, by the server's clock.
    pub at: Timestamp,
}
cbor_map!(HeardNote { 0 => position, 1 => at });

/// Bundles of a log are not needed any more: by a policy or a person. The next sweep takes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogTrimmed {
    /// The log.
    pub log: LogId,
    /// The numbers of the bundles.
    pub bundles: EntryRuns,
    /// By which rule or person.
    pub reason: String,
}
cbor_map!(LogTrimmed { 0 => log, 1 => bundles, 2 => reason });

/// What a recovery point is for the database on its volume: a base, from which the log is replayed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BaseOfDatabase {
    /// The log that was archived while the snapshot was cut.
    pub log: LogId,
    /// Replay begins here.
    pub start: u64,
    /// The content is consistent from here on, and has nothing later.
    pub end: u64,
    /// Nothing in it is stamped later, by the database's clock.
    pub ready_at: Timestamp,
}
cbor_map!(BaseOfDatabase { 0 => log, 1 => start, 2 => end, 3 => ready_at });
