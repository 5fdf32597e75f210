//! Stretches of the log that are archived, and what is missing between them.

use jiff::Timestamp;
use serde::Serialize;

use crate::{Commit, LineageId, Position};

/// A stretch of the log that is archived, `from` to `to` without a hole.
///
/// Ranges may overlap: a receiver that starts again sends some bytes twice, and many small ones are joined into a large
/// one. A record belongs to the range in which it *ends*, so the commits of a range are those with `from < end <= to`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogRange {
    /// What the archive calls it.
    pub place: String,
    /// The history it belongs to.
    pub lineage: LineageId,
    /// Where it begins.
    pub from: Position,
    /// Where it ends: the first byte that is not in it.
    pub to: Position,
    /// How many bytes it takes in the archive.
    pub stored_bytes: u64,
    /// Every commit stamped up to this time lies before `to`. The receiver knows it from the server, which says with each
    /// message what its clock is and where its log ends. When unsure, the stamp of the last commit is right.
    pub complete_until: Timestamp,
    /// Where the first record begins that is not whole with this range; where the next one will begin, when all are. At most
    /// `to`, and before `from` when a long record goes through all of the range.
    pub whole_to: Position,
    /// Where the last record that ends in this range begins.
    pub last_record: Option<Position>,
    /// Its commits in short; `None` when there are none.
    pub commits: Option<CommitSummary>,
    /// How many named points end in it.
    pub named_points: u32,
}

/// The commits of a range in short, so that most questions are answered without reading its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CommitSummary {
    /// How many.
    pub count: u64,
    /// The first in the order of the log.
    pub first: Commit,
    /// The last in the order of the log.
    pub last: Commit,
    /// The earliest stamp: not always that of the first.
    pub earliest: Timestamp,
    /// The latest stamp: not always that of the last.
    pub latest: Timestamp,
}

impl CommitSummary {
    /// The summary of these commits, which are in the order of the log.
    pub fn of<'a>(commits: impl IntoIterator<Item = &'a Commit>) -> Option<Self> {
        let mut summary: Option<Self> = None;
        for commit in commits {
            match &mut summary {
                None => summary = Some(Self::one(commit)),
                Some(summary) => summary.add(commit),
            }
        }
        summary
    }

    /// The summary of a single commit.
    #[must_use]
    pub const fn one(commit: &Commit) -> Self {
        Self { count: 1, first: *commit, last: *commit, earliest: commit.at, latest: commit.at }
    }

    /// One more commit behind the others.
    pub fn add(&mut self, commit: &Commit) {
        self.count += 1;
        self.last = *commit;
        self.earliest = self.earliest.min(commit.at);
        self.latest = self.latest.max(commit.at);
    }
}

/// A part of an archived range that a plan replays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogPiece {
    /// The range.
    pub range: LogRange,
    /// From here.
    pub from: Position,
    /// To here.
    pub to: Position,
}

/// A part of a history of which nothing is archived: no position in it can be restored, and no base before it reaches
/// what is behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The history that it interrupts.
    pub lineage: LineageId,
    /// The log ends here.
    pub from: Position,
    /// It goes on here.
    pub to: Position,
    /// Until then everything is known.
    pub after: Timestamp,
}
