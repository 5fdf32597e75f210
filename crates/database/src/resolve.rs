//! From a time to a position.
//!
//! The state at time T is the longest part of the log that has no commit stamped later than T. In a log whose stamps only
//! rise that is one place: before the first commit stamped later. Stamps do not only rise:
//! * Sessions take the time a moment before they write their commit, so neighbours are out of order by milliseconds, on a
//!   busy machine by more. Within [`DISORDER`] the first commit stamped later decides, as engines do; commits
//!   behind it that are stamped earlier are counted and told.
//! * A clock that was set back passes T twice. Then there are several places, hours of work apart, and nothing says
//!   which one is meant: all are named.

use jiff::{SignedDuration, Timestamp};

use crate::runs::{Piece, Run};
use crate::{Commit, CommitIndex, Position};

/// Stamps that go back by no more than this are the order of sessions, not a clock that was set. A session takes its stamp
/// before it writes its commit record, and between the two a starved machine can hold it for seconds.
pub(crate) const DISORDER: SignedDuration = SignedDuration::from_secs(10);

/// More places than this are not told: a clock that was set back as often cannot be followed anyway.
const MOST_CROSSINGS: usize = 64;

/// A place where the stamps pass the time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crossing {
    /// What begins before it is in.
    pub(crate) cut: Position,
    /// The last commit before it, in this run.
    pub(crate) kept: Option<Commit>,
    /// The run has commits before it that are so old that none before the run can be stamped later than the time.
    pub(crate) settled: bool,
    /// The commit at which it is; `None` at the end of the run.
    pub(crate) dropped: Option<Commit>,
    /// Commits behind it that are stamped at or before the time, by disorder.
    pub(crate) stragglers: u64,
}

/// Every place of the run where the stamps pass `time`, in the order of the log.
pub(crate) fn crossings<I: CommitIndex>(
    run: &Run<'_>,
    time: Timestamp,
    index: &I,
) -> Result<Vec<Crossing>, I::Error> {
    let settled_by = time.checked_sub(DISORDER).unwrap_or(Timestamp::MIN);
    let mut walk =
        Walk { time, settled_by, settled: false, found: Vec::new(), above: None, kept: None, same: false };
    for piece in &run.pieces {
        walk.piece(piece, index)?;
    }
    if walk.above.is_none() && time <= run.complete_until {
        walk.cross(run.whole_to, None);
    }
    Ok(walk.found)
}

struct Walk {
    time: Timestamp,
    /// Whatever comes before a commit of this time or earlier is stamped at or before `time`.
    settled_by: Timestamp,
    settled: bool,
    found: Vec<Crossing>,
    /// The latest stamp since the time was passed; `None` before that.
    above: Option<Timestamp>,
    kept: Option<Commit>,
    /// The stamps fell below the time by disorder only: the next passing is still the one before.
    same: bool,
}

impl Walk {
    fn piece<I: CommitIndex>(&mut self, piece: &Piece<'_>, index: &I) -> Result<(), I::Error> {
        match piece.summary() {
            Ok(None) => {}
            Ok(Some(summary)) if summary.earliest > self.time => {
                self.commit(&summary.first);
                self.above = self.above.max(Some(summary.latest));
            }
            // While nothing is out of order all that matters of commits below the time is the last.
            Ok(Some(summary)) if summary.latest <= self.time && self.above.is_none() && !self.same => {
                self.kept = Some(summary.last);
                self.settled |= summary.earliest <= self.settled_by;
            }
            _ => piece.commits(index)?.iter().for_each(|commit| self.commit(commit)),
        }
        Ok(())
    }

    fn commit(&mut self, commit: &Commit) {
        if commit.at > self.time {
            if self.above.is_none() {
                self.cross(commit.start, Some(*commit));
            }
            self.above = self.above.max(Some(commit.at));
            return;
        }
        if let Some(above) = self.above.take() {
            self.same = above.duration_since(commit.at) <= DISORDER;
        }
        if self.same
            && let Some(crossing) = self.found.last_mut()
        {
            crossing.stragglers += 1;
        }
        self.kept = Some(*commit);
        self.settled |= commit.at <= self.settled_by;
    }

    fn cross(&mut self, cut: Position, dropped: Option<Commit>) {
        if !std::mem::take(&mut self.same) && self.found.len() < MOST_CROSSINGS {
            let kept = self.kept;
            self.found.push(Crossing { cut, kept, settled: self.settled, dropped, stragglers: 0 });
        }
    }
}
