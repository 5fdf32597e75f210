//! The planner: from what exists and what is wanted to what is done, or to a refusal.
//!
//! A pure function. Every target becomes a *cut*: what begins before it is in, what begins at it or behind it is not. Then a
//! base is chosen whose end is at or before the cut, in a stretch of log without a hole, and the way to stop there is
//! told in terms that every engine has: before a record that is there, or after the last one.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::refusal::{Candidate, Nearest, Refusal};
use crate::resolve::{Crossing, crossings};
use crate::runs::{self, Run, gaps};
use crate::window::window;
use crate::{
    Base, Catalogue, Commit, CommitIndex, LineageId, LogPiece, PathStep, Position, StandsOn, Target, Wanted,
};

mod find;
mod living;

/// What a restore to one state does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Where it begins.
    pub base: Base,
    /// The history whose log is the last to be read; the cut is in it or before it began.
    pub lineage: LineageId,
    /// The histories it goes through, from that in which the replay begins.
    pub path: Vec<PathStep>,
    /// The log to replay, without a hole, each piece beginning where the one before ends. It may reach beyond the cut: an
    /// engine that stops before a record has to read it.
    pub log: Vec<LogPiece>,
    /// What begins before this position is in the result; nothing else is.
    pub cut: Position,
    /// How the engine is told.
    pub stop: Stop,
    /// The last commit that is in, as far as the log from the base on has one.
    pub last_kept: Option<Commit>,
    /// The first commit that is not in.
    pub first_dropped: Option<Commit>,
    /// How many commits of this history are not in: what is lost against now.
    pub dropped_commits: u64,
    /// Of them, those stamped at or before the time that was asked for: sessions overtook each other.
    pub stragglers: u64,
    /// The newest time of this history of which all is known.
    pub known_until: Timestamp,
    /// How many bytes of the log are fetched.
    pub log_bytes: u64,
    /// How many bytes of log the engine replays.
    pub replay_bytes: u64,
    /// About how long it takes.
    pub estimated: Duration,
}

/// How the engine finds the cut. Positions are those of records, never times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "position")]
pub enum Stop {
    /// Before the first record that begins here or later. There is one in the log.
    Before(Position),
    /// After the record that begins here: it is the last whole one before the cut, and nothing is behind it.
    After(Position),
    /// As soon as the base is consistent: there is nothing to replay behind it.
    Consistent,
}

/// How fast things go here, for the estimate and the choice between bases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Fetching a base, bytes a second.
    pub fetch: u64,
    /// Replaying log, bytes a second.
    pub replay: u64,
    /// What a restore takes however small it is.
    pub least: Duration,
}

impl Default for Rates {
    /// Cautious figures, until a restore was measured: 100 MB/s from a bucket, 50 MB/s of replay in one thread.
    fn default() -> Self {
        Self { fetch: 100_000_000, replay: 50_000_000, least: Duration::from_secs(10) }
    }
}

impl Rates {
    fn estimate(&self, base: &Base, cut: Position) -> Duration {
        let seconds = base.bytes / self.fetch.max(1) + cut.since(base.start) / self.replay.max(1);
        self.least.saturating_add(Duration::from_secs(seconds))
    }
}

/// No plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError<E> {
    /// The state cannot be restored, or it is not clear which one is meant.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// The commit index could not be read.
    #[error("reading the commit index")]
    Index(#[source] E),
}

impl<E> From<Refusal> for PlanError<E> {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

/// The plan for what is wanted.
///
/// # Errors
/// A typed refusal when it cannot be restored exactly, or what the index said when it could not be read.
pub fn plan<I: CommitIndex>(
    catalogue: &Catalogue,
    index: &I,
    wanted: &Wanted,
    rates: &Rates,
) -> Result<Plan, PlanError<I::Error>> {
    if let Some(lineage) = wanted.lineage
        && catalogue.lineages.get(lineage).is_none()
    {
        let known = catalogue.lineages.iter().map(|lineage| lineage.id).collect();
        return Err(Refusal::UnknownLineage { lineage, known }.into());
    }
    let lineage = match wanted.lineage {
        Some(lineage) => lineage,
        None => living::lineage(catalogue, index, &wanted.target)?,
    };
    let path = catalogue.lineages.path(lineage);
    let runs = runs::runs(catalogue, &path);
    let place = match &wanted.target {
        Target::Time(time) => at_time(&runs, *time, index)?,
        Target::Position(position) => at_position(&runs, *position, index)?,
        Target::Transaction(transaction, side) => find::transaction(&runs, *transaction, *side, index)?,
        Target::Named(name) => find::named(&runs, name, index)?,
        Target::Latest => latest(&runs, index)?,
    };
    let dropped = dropped_commits(&runs, place, index).map_err(PlanError::Index)?;
    let known_until = runs.last().map_or(Timestamp::MIN, |run| run.complete_until);

    // The history in which the cut lies is the same up to there as the way that left it, and may have more log behind it.
    let owner = path.iter().find(|step| place.crossing.cut <= step.to).map_or(lineage, |step| step.lineage);
    let within = if owner == lineage { None } else { through_owner(catalogue, owner, place, rates) };
    let plan = within.map_or_else(|| assemble(&path, &runs, place, rates), Ok)?;
    Ok(Plan { dropped_commits: dropped, known_until, ..plan })
}

fn through_owner(catalogue: &Catalogue, owner: LineageId, place: Place, rates: &Rates) -> Option<Plan> {
    let cut = place.crossing.cut;
    let path = catalogue.lineages.path(owner);
    let runs = runs::runs(catalogue, &path);
    let run = runs.iter().position(|run| run.from <= cut && cut <= run.whole_to)?;
    assemble(&path, &runs, Place { run, ..place }, rates).ok()
}

/// A cut, and the run it lies in.
#[derive(Debug, Clone, Copy)]
struct Place {
    run: usize,
    crossing: Crossing,
}

fn at_time<I: CommitIndex>(
    runs: &[Run<'_>],
    time: Timestamp,
    index: &I,
) -> Result<Place, PlanError<I::Error>> {
    let mut places = Vec::new();
    for (number, run) in runs.iter().enumerate() {
        for crossing in crossings(run, time, index).map_err(PlanError::Index)? {
            // What lies before the run is proved to be old enough by a base that was ready by then, or by old commits.
            let ready = |base: &&Base| base.ready_at <= time && base.end <= crossing.cut;
            if crossing.settled || run.bases.iter().any(ready) {
                places.push(Place { run: number, crossing });
            }
        }
    }
    match places[..] {
        [place] => Ok(place),
        [] => Err(outside(runs, |window| window.earliest.at <= time).into()),
        _ => {
            let candidates = places.iter().map(|place| candidate(runs, place)).collect();
            Err(Refusal::TimeIsAmbiguous { candidates }.into())
        }
    }
}

fn at_position<I: CommitIndex>(
    runs: &[Run<'_>],
    position: Position,
    index: &I,
) -> Result<Place, PlanError<I::Error>> {
    let run = runs.iter().position(|run| run.from <= position && position <= run.whole_to);
    let run = run.ok_or_else(|| outside(runs, |window| window.earliest.position <= position))?;
    place(runs, run, position, index).map_err(PlanError::Index)
}

/// The cut at a position of a run, with its neighbours.
fn place<I: CommitIndex>(runs: &[Run<'_>], run: usize, cut: Position, index: &I) -> Result<Place, I::Error> {
    let (mut kept, mut dropped) = (None, None);
    for piece in &runs[run].pieces {
        match piece.summary() {
            Ok(None) => continue,
            Ok(Some(summary)) if summary.last.start < cut => kept = Some(summary.last),
            Ok(Some(summary)) if summary.first.start >= cut => dropped = Some(summary.first),
            _ => {
                for commit in piece.commits(index)? {
                    if commit.start < cut {
                        kept = Some(commit);
                    } else {
                        dropped = dropped.or(Some(commit));
                    }
                }
            }
        }
        if dropped.is_some() {
            break;
        }
    }
    Ok(Place { run, crossing: Crossing { cut, kept, settled: true, dropped, stragglers: 0 } })
}

fn latest<I: CommitIndex>(runs: &[Run<'_>], index: &I) -> Result<Place, PlanError<I::Error>> {
    let run = runs.iter().rposition(|run| run.first_base().is_some());
    let run = run.ok_or_else(|| outside(runs, |_| true))?;
    place(runs, run, runs[run].whole_to, index).map_err(PlanError::Index)
}

/// Why nothing is there, with what is around: `begun` says which windows begin at or before what was asked for.
fn outside(runs: &[Run<'_>], begun: impl Fn(&crate::Window) -> bool) -> Refusal {
    let windows: Vec<_> =
        runs.iter().enumerate().filter_map(|(run, content)| Some((run, window(content)?))).collect();
    let (before, after): (Vec<_>, Vec<_>) = windows.iter().partition(|(_, window)| begun(window));
    let nearest = Nearest {
        before: before.last().map(|(_, window)| window.latest),
        after: after.first().map(|(_, window)| window.earliest),
    };
    match (before.last(), after.first()) {
        (None, None) if runs.is_empty() => Refusal::NotArchived { nearest },
        (None, None) => Refusal::NoBase { nearest },
        (None, Some(_)) => Refusal::BeforeWindow { nearest },
        (Some(_), None) => Refusal::NotArchived { nearest },
        (Some((run, _)), Some(_)) => match gaps(runs).get(*run) {
            Some(gap) => Refusal::InGap { gap: Box::new(*gap), nearest },
            None => Refusal::NoBase { nearest },
        },
    }
}

/// The restorable states around a cut that no base reaches.
fn around(runs: &[Run<'_>], cut: Position) -> Nearest {
    let windows: Vec<_> = runs.iter().filter_map(window).collect();
    let before = windows.iter().rev().find(|window| window.earliest.position <= cut);
    let after = windows.iter().find(|window| window.earliest.position > cut);
    Nearest { before: before.map(|window| window.latest), after: after.map(|window| window.earliest) }
}

fn candidate(runs: &[Run<'_>], place: &Place) -> Candidate {
    let (run, crossing) = (&runs[place.run], &place.crossing);
    Candidate {
        lineage: lineage_at(run, crossing.cut),
        position: crossing.cut,
        last_kept: crossing.kept,
        first_dropped: crossing.dropped,
        restorable: run.bases.iter().any(|base| base.end <= crossing.cut),
    }
}

fn lineage_at(run: &Run<'_>, cut: Position) -> LineageId {
    run.pieces.iter().find(|piece| cut <= piece.to).map_or(run.lineage, |piece| piece.range.lineage)
}

fn dropped_commits<I: CommitIndex>(runs: &[Run<'_>], place: Place, index: &I) -> Result<u64, I::Error> {
    let mut dropped = runs[place.run].commits_from(place.crossing.cut, index)?;
    for later in &runs[place.run + 1..] {
        dropped += later.commits_from(Position::START, index)?;
    }
    Ok(dropped)
}

fn assemble(path: &[PathStep], runs: &[Run<'_>], place: Place, rates: &Rates) -> Result<Plan, Refusal> {
    let (run, crossing) = (&runs[place.run], place.crossing);
    let cut = crossing.cut;
    // Of equally quick ones that in the pool, which needs no network; then the one that replays least.
    let rank = |base: &&&Base| {
        let remote = matches!(base.stands_on, StandsOn::Point(_));
        (rates.estimate(base, cut), remote, std::cmp::Reverse(base.end), base.stands_on)
    };
    let base = run.bases.iter().filter(|base| base.end <= cut).min_by_key(rank);
    let Some(&base) = base else {
        let nearest = around(runs, cut);
        return Err(match (nearest.before, runs.iter().any(|run| run.first_base().is_some())) {
            (None, true) => Refusal::BeforeWindow { nearest },
            _ => Refusal::NoBase { nearest },
        });
    };

    let last_record = run.last_record();
    let stop = match last_record {
        Some(last) if last >= cut => Stop::Before(cut),
        Some(last) if last >= base.end => Stop::After(last),
        _ => Stop::Consistent,
    };
    let log = pieces(run, base.start, cut, stop);
    let read_to = log.last().map_or(cut, |piece| piece.to);
    let through: Vec<_> =
        path.iter().filter(|step| step.to > base.start && step.from < read_to).copied().collect();
    Ok(Plan {
        base: base.clone(),
        lineage: through.last().map_or(base.lineage, |step| step.lineage),
        path: through,
        log_bytes: log.iter().map(|piece| piece.range.stored_bytes).sum(),
        log,
        cut,
        stop,
        last_kept: crossing.kept,
        first_dropped: crossing.dropped,
        dropped_commits: 0,
        stragglers: crossing.stragglers,
        known_until: run.complete_until,
        replay_bytes: cut.since(base.start),
        estimated: rates.estimate(base, cut),
    })
}

/// The pieces that a replay from `start` reads: up to the cut, and where it stops before a record, that record whole.
fn pieces(run: &Run<'_>, start: Position, cut: Position, stop: Stop) -> Vec<LogPiece> {
    let mut log = Vec::new();
    let mut enough = false;
    for piece in run.pieces.iter().filter(|piece| piece.to > start) {
        if enough {
            break;
        }
        let from = piece.from.max(start);
        log.push(LogPiece { range: piece.range.clone(), from, to: piece.to });
        enough = match stop {
            Stop::Before(_) => piece.last_record().is_some_and(|last| last >= cut),
            Stop::After(record) => piece.to >= cut && piece.last_record().is_some_and(|last| last >= record),
            Stop::Consistent => piece.to >= cut,
        };
    }
    log
}
