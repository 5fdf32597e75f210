//! What the journal says of a database, as the planner wants to know it. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;
pub use strongroom_archive::{catalogue, databases, logs, newest_log};
use strongroom_database::{Catalogue, LineageId, Position};
use strongroom_model::{LogId, RecoveryPointId};
use strongroom_repository::entry_runs::EntryRuns;
use strongroom_repository::fold::{LogState, TestNote};
use strongroom_repository::record::{BundleNote, DatabaseTested};
use strongroom_repository::{Fold, Point};

use super::proving;

/// From where on a base has to begin, so that this log can be replayed up to its end: behind all that a check found damaged.
#[must_use]
pub fn base_from(log: &LogState) -> Position {
    let damaged = log.kept().filter(|(number, _)| log.is_damaged(*number));
    Position::new(damaged.map(|(_, note)| note.to).max().unwrap_or(log.opened.start))
}

/// Whether there is a point from which this log can be replayed up to its end.
#[must_use]
pub fn has_base(fold: &Fold, log: &LogState) -> bool {
    let from = base_from(log).number();
    let is_base = |point: &Point| {
        let base = point.info.database.as_ref();
        base.is_some_and(|base| base.log == log.opened.log && base.start >= from)
    };
    fold.points.values().any(is_base)
}

/// Whether a part of this log is lost, and no base lies behind that: then a new log is the shortest way to one, since a server has
/// its log from where it would replay, and so perhaps even what was lost.
#[must_use]
pub fn is_spoiled(fold: &Fold, log: &LogState) -> bool {
    log.kept().any(|(number, _)| log.is_damaged(number)) && !has_base(fold, log)
}

/// The newest moment up to which the repository has everything of a database.
#[must_use]
pub fn known_until(fold: &Fold, database: &str) -> Option<Timestamp> {
    let until = |log: &LogState| {
        let stored = log.kept().next_back().map(|(_, note)| note.complete_until);
        stored.max(log.heard.map(|heard| heard.at))
    };
    logs(fold, database).filter_map(until).max()
}

/// The newest base of a database that was ready at `horizon`: what is older is restored from it.
#[must_use]
pub fn anchor<'a>(fold: &'a Fold, database: &str, horizon: Timestamp) -> Option<&'a Point> {
    let of_database: BTreeSet<LogId> = logs(fold, database).map(|log| log.opened.log).collect();
    let ready = |point: &&Point| {
        let base = point.info.database.as_ref();
        base.is_some_and(|base| of_database.contains(&base.log) && base.ready_at <= horizon)
    };
    let moment = |point: &&Point| point.info.database.as_ref().map(|base| (base.ready_at, point.number));
    fold.points.values().filter(ready).max_by_key(moment)
}

/// The bundles that no window needs which begins at `horizon`, and no point. While no base is older than the window nothing is.
#[must_use]
pub fn expendable(fold: &Fold, database: &str, horizon: Timestamp) -> Vec<(LogId, EntryRuns)> {
    let Some(base) = anchor(fold, database, horizon).and_then(|point| point.info.database.as_ref()) else {
        return Vec::new();
    };
    let Some(first) = fold.logs.get(&base.log).map(|log| log.number) else { return Vec::new() };
    let bases: Vec<_> = fold.points.values().filter_map(|point| point.info.database.as_ref()).collect();
    let of_log = |log: &LogState| {
        let id = log.opened.log;
        let is_pinned = |note: &BundleNote| {
            bases.iter().any(|base| base.log == id && base.start < note.to && note.from < base.end)
        };
        let is_old = |note: &BundleNote| {
            let before_anchor = log.number < first || (id == base.log && note.to <= base.start);
            before_anchor && note.complete_until < horizon
        };
        let gone = log.kept().filter(|(_, note)| is_old(note) && !is_pinned(note));
        (id, gone.map(|(number, _)| number).collect::<EntryRuns>())
    };
    logs(fold, database).map(of_log).filter(|(_, bundles)| !bundles.is_empty()).collect()
}

/// What can be restored of a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DatabaseStatus {
    /// What people call it.
    pub database: String,
    /// What kind it is.
    pub engine: String,
    /// What tells it from others.
    pub identity: String,
    /// On which volume it lies.
    pub volume: Option<strongroom_model::VolumeName>,
    /// The history that lives.
    pub lineage: u32,
    /// The stretches of time in which every second can be restored, oldest first.
    pub windows: Vec<strongroom_database::Window>,
    /// How old the newest moment is that can be restored: what would be lost if everything but the repository were.
    pub rpo_now_seconds: Option<u64>,
    /// Where the archived log ends.
    pub log_end: Position,
    /// Everything up to then is in the repository.
    pub log_until_at: Option<Timestamp>,
    /// What of the log is in the repository.
    pub log_bytes: u64,
    /// The newest restore test that passed.
    pub last_proven_restore: Option<Proven>,
    /// The newest that did not.
    pub last_unproven_restore: Option<Unproven>,
    /// What is wrong, one sentence each.
    pub problems: Vec<String>,
}

/// A restore test that passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proven {
    /// When.
    pub at: Timestamp,
    /// Which moment was brought back; `None`: the newest.
    pub wanted_at: Option<Timestamp>,
    /// From which base.
    pub point: Option<RecoveryPointId>,
    /// After how many milliseconds it could have been used.
    pub rto_ms: Option<u64>,
    /// What was checked, a sentence each.
    pub checks: Vec<String>,
}

/// A restore test that did not pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unproven {
    /// When.
    pub at: Timestamp,
    /// Which moment was to be brought back; `None`: the newest.
    pub wanted_at: Option<Timestamp>,
    /// As in docs/errors.md.
    pub code: String,
    /// What was wrong.
    pub message: String,
}

impl From<&TestNote> for Proven {
    fn from(note: &TestNote) -> Self {
        let DatabaseTested { wanted_at, point, rto_ms, checks, .. } = &note.tested;
        let checks = checks.clone();
        Self { at: note.at, wanted_at: *wanted_at, point: *point, rto_ms: *rto_ms, checks }
    }
}

impl From<&TestNote> for Unproven {
    fn from(note: &TestNote) -> Self {
        let told = note.tested.failure.clone();
        let (code, message) = told.map(|told| (told.code, told.message)).unwrap_or_default();
        Self { at: note.at, wanted_at: note.tested.wanted_at, code, message }
    }
}

/// The newest test says that the database does not come back.
#[must_use]
pub fn is_unproven(fold: &Fold, database: &str) -> bool {
    let (proved, failed) = proving::tests(fold, database);
    failed.map(|note| note.number) > proved.map(|note| note.number)
}

/// What can be restored of a database at `now`; `None`: nothing of it was ever archived.
#[must_use]
pub fn assess(
    fold: &Fold,
    database: &str,
    beyond: &dyn Fn(&LogState) -> Vec<BundleNote>,
    now: Timestamp,
) -> Option<DatabaseStatus> {
    let newest = newest_log(fold, database)?;
    let mut problems = Vec::new();
    let catalogue = match catalogue(fold, database, beyond) {
        Ok(catalogue) => catalogue,
        Err(error) => {
            problems.push(format!("{error}; give one of the two servers another name in the configuration"));
            Catalogue::default()
        }
    };
    let lineage = LineageId(newest.opened.lineage);
    let windows = strongroom_database::windows(&catalogue, lineage);
    if !has_base(fold, newest) {
        problems.push(
            "nothing since its log began, or since a damaged part of it, can be restored: no backup of its volume is a base yet"
                .to_owned(),
        );
    }
    for gap in windows.iter().filter_map(|window| window.gap_before.as_ref()) {
        problems.push(format!(
            "the log has a gap from {} to {}: nothing between {} and the next base can be restored",
            gap.from, gap.to, gap.after
        ));
    }
    let (proved, failed) = proving::tests(fold, database);
    let last_unproven_restore = failed.map(Unproven::from);
    if let Some(failed) = last_unproven_restore.as_ref().filter(|_| is_unproven(fold, database)) {
        let wanted = failed.wanted_at.map_or_else(|| "the newest state".to_owned(), |at| at.to_string());
        problems.push(format!(
            "the restore test of {} failed, of {wanted}: {} [{}]",
            failed.at, failed.message, failed.code
        ));
    }
    let mine = catalogue.log.iter().filter(|range| range.lineage == lineage);
    let until = mine.map(|range| range.complete_until);
    let log_until_at = until.chain(catalogue.heard.iter().map(|heard| heard.at)).max();
    let latest = windows.last().map(|window| window.latest.at);
    Some(DatabaseStatus {
        database: database.to_owned(),
        engine: newest.opened.engine.clone(),
        identity: newest.opened.identity.clone(),
        volume: newest.opened.volume.clone(),
        lineage: newest.opened.lineage,
        rpo_now_seconds: latest.map(|at| u64::try_from(now.duration_since(at).as_secs()).unwrap_or(0)),
        windows,
        log_end: catalogue.log.iter().map(|range| range.to).max().unwrap_or(Position::new(newest.end)),
        log_until_at,
        log_bytes: catalogue.log.iter().map(|range| range.stored_bytes).sum(),
        last_proven_restore: proved.map(Proven::from),
        last_unproven_restore,
        problems,
    })
}
