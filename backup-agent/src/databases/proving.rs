//! Restore tests: when one is due, by what the journal says alone. Pure.
//!
//! | what the journal says of the newest test | what is tested next, and when |
//! |---|---|
//! | there was none | the newest base, at once |
//! | it failed | the very state that failed, while it can still be asked for: another state that comes back says nothing of it |
//! | a base is newer | that base |
//! | it is older than `every` | a random second of the newest window |
//!
//! However it is, there is at least `at_most_every` between two. Without a window nothing is due: that is another problem,
//! and told as one.

use jiff::{SignedDuration, Timestamp};
use strongroom_archive::{catalogue, logs, newest_log};
use strongroom_database::{LineageId, Window, windows};
use strongroom_repository::Fold;
use strongroom_repository::fold::TestNote;
use strongroom_settings::RestoreTestConfig;

mod child;

pub use child::Prover;

/// What is to be tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// A random second of the newest window.
    Window,
    /// A random second since the newest base.
    NewestBase,
    /// This moment.
    At(Timestamp),
    /// The newest state.
    Latest,
}

/// What the journal says of the tests of a database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The newest test.
    pub last: Option<Last>,
    /// The record of the newest base.
    pub newest_base: Option<u64>,
    /// What can be restored, oldest first.
    pub windows: Vec<Window>,
}

/// The newest test of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Last {
    /// Its record.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// Whether it passed.
    pub passed: bool,
    /// Of which moment; `None`: of the newest.
    pub wanted_at: Option<Timestamp>,
}

/// The newest test of a database that passed, and the newest that did not.
#[must_use]
pub fn tests<'a>(fold: &'a Fold, database: &str) -> (Option<&'a TestNote>, Option<&'a TestNote>) {
    let newest = |one: fn(&strongroom_repository::fold::LogState) -> Option<&TestNote>| {
        logs(fold, database).filter_map(one).max_by_key(|note| note.number)
    };
    (newest(|log| log.proved.as_deref()), newest(|log| log.failed.as_deref()))
}

impl Evidence {
    /// What the journal says.
    #[must_use]
    pub fn of(fold: &Fold, database: &str) -> Self {
        let (proved, failed) = tests(fold, database);
        let last = [proved, failed].into_iter().flatten().max_by_key(|note| note.number);
        let is_base = |point: &&strongroom_repository::Point| {
            let base = point.info.database.as_ref();
            base.is_some_and(|base| logs(fold, database).any(|log| log.opened.log == base.log))
        };
        // Bundles that no record names yet are for the test itself to find: they make no window that is not there.
        let known = catalogue(fold, database, &|_| Vec::new()).ok();
        let lineage = newest_log(fold, database).map(|log| LineageId(log.opened.lineage));
        Self {
            last: last.map(|note| Last {
                number: note.number,
                at: note.at,
                passed: note.tested.passed,
                wanted_at: note.tested.wanted_at,
            }),
            newest_base: fold.points.values().filter(is_base).map(|point| point.number).max(),
            windows: known.zip(lineage).map(|(known, lineage)| windows(&known, lineage)).unwrap_or_default(),
        }
    }
}

/// What is to be tested now.
#[must_use]
pub fn due(evidence: &Evidence, rules: &RestoreTestConfig, now: Timestamp) -> Option<Aim> {
    if evidence.windows.is_empty() {
        return None;
    }
    let Some(last) = evidence.last else { return Some(Aim::NewestBase) };
    // A test of the future is that of a clock that was wrong.
    let since = if last.at > now { SignedDuration::MAX } else { now.duration_since(last.at) };
    let is_past = |span: strongroom_settings::Interval| {
        since >= SignedDuration::try_from(span.get()).unwrap_or(SignedDuration::MAX)
    };
    if !is_past(rules.at_most_every) {
        return None;
    }
    if !last.passed {
        return Some(match last.wanted_at {
            None => Aim::Latest,
            Some(at) if evidence.windows.iter().any(|one| one.earliest.at <= at && at <= one.latest.at) => {
                Aim::At(at)
            }
            Some(_) => Aim::Window,
        });
    }
    if rules.after_base && evidence.newest_base.is_some_and(|base| base > last.number) {
        return Some(Aim::NewestBase);
    }
    is_past(rules.every).then_some(Aim::Window)
}

/// How long a database may go without a proof before that itself is a problem: two rounds, and the time that a test may take.
#[must_use]
pub fn stale_after(rules: &RestoreTestConfig) -> SignedDuration {
    let round = rules.every.get().max(rules.at_most_every.get());
    SignedDuration::try_from(round.saturating_mul(2).saturating_add(rules.time_limit.get()))
        .unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests;
