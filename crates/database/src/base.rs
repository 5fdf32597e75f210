//! A copy of a whole database at one moment.

use jiff::Timestamp;
use serde::Serialize;
use strongroom_model::{RecoveryPointId, SnapshotId};

use crate::{LineageId, Position};

/// A copy of all of a database, from which replay begins.
///
/// The copy was cut somewhere between two positions that were read before and after: `start` and `end` are such that
/// it has nothing that was written after `end`, and replaying the log from `start` to `end` makes it a consistent state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Base {
    /// Where its bytes are.
    pub stands_on: StandsOn,
    /// The history it belongs to.
    pub lineage: LineageId,
    /// The engine replays from here. Log must be there from here on (PostgreSQL: the redo position of the copy).
    pub start: Position,
    /// Consistent from here on, and nothing in it is later. A position before it cannot be restored from this base: the
    /// engine may not notice, and give a state that has what should be gone.
    pub end: Position,
    /// When it was finished, by the clock of the database's machine, read after `end` was: nothing in it is stamped later.
    pub ready_at: Timestamp,
    /// How many bytes have to be fetched to have it; none for a snapshot in the pool.
    pub bytes: u64,
}

/// What holds the bytes of a base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "id")]
pub enum StandsOn {
    /// A snapshot in the pool of this machine.
    Snapshot(SnapshotId),
    /// A recovery point in the repository.
    Point(RecoveryPointId),
}

impl std::fmt::Display for StandsOn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Snapshot(id) => id.fmt(f),
            Self::Point(id) => id.fmt(f),
        }
    }
}
