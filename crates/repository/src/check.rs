//! Looking whether everything is there and right.

use std::fmt;

use serde::Serialize;
use strongroom_model::{ByteRange, RecoveryPointId, VolumeName};

/// Told of progress: done and total, in bytes or records.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Send + Sync);

/// What a check saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct CheckReport {
    /// Points looked at.
    pub points: u64,
    /// Packs looked at.
    pub packs: u64,
    /// Bytes read of data.
    pub read_bytes: u64,
    /// What is wrong, worst first.
    pub damages: Vec<Damage>,
}

impl CheckReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.damages.is_empty()
    }
}

/// One damaged or missing object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Which object.
    pub object: String,
    /// What is wrong with it.
    pub what: String,
    /// What is lost by it.
    pub loses: Vec<Loss>,
}

/// What a point loses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// The point.
    pub point: RecoveryPointId,
    /// Of which volume.
    pub volume: VolumeName,
    /// Which bytes of the volume; empty: all that lies behind an unreadable map.
    pub ranges: Vec<ByteRange>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.what)
    }
}

/// How much there is of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
pub struct Stats {
    /// Current points.
    pub points: u64,
    /// Volumes with points.
    pub volumes: u64,
    /// What the newest points of all volumes would restore to, in bytes.
    pub volume_bytes: u64,
    /// Data packs.
    pub data_packs: u64,
    /// Bytes in data packs.
    pub data_bytes: u64,
    /// Map packs.
    pub map_packs: u64,
    /// Bytes in map packs.
    pub map_bytes: u64,
    /// Journal records.
    pub records: u64,
    /// Open sessions.
    pub open_sessions: u64,
}

/// What a rebuild of the index did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
pub struct RebuildReport {
    /// Packs whose footers were read.
    pub packs: u64,
    /// Entries found.
    pub entries: u64,
    /// Packs whose footers could not be read.
    pub unreadable: u64,
}

/// What an audit saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct AuditReport {
    /// Records read.
    pub records: u64,
    /// Checkpoints compared.
    pub checkpoints: u64,
    /// Checkpoints that do not say what the journal says.
    pub wrong_checkpoints: Vec<u64>,
    /// The hash of the last record, in hexadecimal.
    pub hash: String,
}

impl crate::Repository {
    /// Checks that everything that current points need is there, and with `read_data` that every needed byte is what was
    /// stored. Damage is in the report, not an error.
    ///
    /// # Errors
    /// Only when the journal cannot be read.
    pub async fn check(
        &self,
        _read_data: bool,
        _progress: Progress<'_>,
    ) -> Result<CheckReport, crate::JournalError> {
        todo!()
    }

    /// How much there is of what.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn stats(&self) -> Result<Stats, crate::JournalError> {
        todo!()
    }

    /// Makes the dedup index again from the footers of all packs, here and in the store.
    ///
    /// # Errors
    /// When the journal or the store fails.
    pub async fn rebuild_index(&self, _progress: Progress<'_>) -> Result<RebuildReport, crate::SweepError> {
        todo!()
    }

    /// Folds the journal from its first record and compares each checkpoint.
    ///
    /// # Errors
    /// When a record is missing, damaged, or breaks a rule.
    pub async fn audit(&self, _progress: Progress<'_>) -> Result<AuditReport, crate::JournalError> {
        todo!()
    }
}
