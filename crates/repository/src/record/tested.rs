//! What the journal says of restore tests of databases: the evidence that a log and its bases come back.

use std::collections::BTreeMap;

use jiff::Timestamp;
use strongroom_model::{LogId, RecoveryPointId};

use crate::cbor::cbor_map;

/// A database was brought back for the sake of proving that it can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseTested {
    /// The log that its base belongs to; the newest of the database where it did not come to a base.
    pub log: LogId,
    /// The base.
    pub point: Option<RecoveryPointId>,
    /// Which moment was to be brought back; `None`: the newest.
    pub wanted_at: Option<Timestamp>,
    /// What begins before this position was to be in.
    pub cut: Option<u64>,
    /// The stamp of the last commit that was to be in, by the database's clock.
    pub last_kept_at: Option<Timestamp>,
    /// Whether all of it was as it should be.
    pub passed: bool,
    /// After how many milliseconds it could have been used: the measured RTO.
    pub rto_ms: Option<u64>,
    /// How many milliseconds each step took.
    pub steps: BTreeMap<String, u64>,
    /// What was checked, a sentence each.
    pub checks: Vec<String>,
    /// What was wrong.
    pub failure: Option<TestFailure>,
}
cbor_map!(DatabaseTested {
    0 => log, 1 => point, 2 => wanted_at, 3 => cut, 4 => last_kept_at, 5 => passed, 6 => rto_ms, 7 => steps,
    8 => checks, 9 => failure
});

/// Why a restore was not proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestFailure {
    /// Its stable code, as in docs/errors.md.
    pub code: String,
    /// What was wrong, for people.
    pub message: String,
}
cbor_map!(TestFailure { 0 => code, 1 => message });
