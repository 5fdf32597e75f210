//! What is not needed any more: a pure function that says which bases and ranges may go.
//!
//! Two policies, and what neither reaches may go:
//! * **the window**: any second back to a horizon can be restored. It needs all log since the horizon, the newest base from
//!   which the horizon's state can be had, and the log between the two;
//! * **kept points**: bases that a person or a schedule keeps for longer. Each pins the log from its start to its end, without
//!   which it is not consistent, and nothing more.
//!
//! The horizon is counted from the newest time that the archive knows and never from a clock that runs ahead of it: neither a
//! wrong clock nor an agent that was away for a year takes the window away.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::resolve::{DISORDER, crossings};
use crate::runs::{Run, runs};
use crate::{Base, Catalogue, CommitIndex, StandsOn};

/// What has to stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// How far back any second can be restored.
    pub window: SignedDuration,
    /// Bases that stay however old they are.
    pub kept: BTreeSet<StandsOn>,
}

/// What may go, as places in the catalogue's lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expendable {
    /// Places in [`Catalogue::bases`].
    pub bases: BTreeSet<usize>,
    /// Places in [`Catalogue::log`].
    pub log: BTreeSet<usize>,
}

/// What neither policy needs at `now`.
///
/// # Errors
/// When the commit index cannot be read.
pub fn expendable<I: CommitIndex>(
    catalogue: &Catalogue,
    index: &I,
    policy: &Policy,
    now: Timestamp,
) -> Result<Expendable, I::Error> {
    let newest = catalogue.log.iter().map(|range| range.complete_until);
    let newest = newest.chain(catalogue.heard.iter().map(|heard| heard.at)).max().unwrap_or(now);
    // A little more than asked for: a range has commits that are stamped later than what it is complete until.
    let back = policy.window.saturating_add(DISORDER);
    let horizon = now.min(newest).checked_sub(back).unwrap_or(Timestamp::MIN);

    // A base may be under way whose log is only in the window by time, so that stays whatever else is true.
    let mut log: BTreeSet<usize> = BTreeSet::new();
    log.extend(places(catalogue, |range| range.complete_until >= horizon));
    let mut bases: BTreeSet<StandsOn> = policy.kept.clone();
    for base in &catalogue.bases {
        if base.ready_at >= horizon {
            bases.insert(base.stands_on);
        }
    }
    for lineage in catalogue.lineages.iter() {
        for run in runs(catalogue, &catalogue.lineages.path(lineage.id)) {
            for base in run.bases.iter().filter(|base| policy.kept.contains(&base.stands_on)) {
                log.extend(pinned(catalogue, &run, base.start, base.end));
            }
            if run.complete_until < horizon {
                continue;
            }
            if let Some(anchor) = anchor(&run, horizon, now, index)? {
                let needed = run.bases.iter().filter(|base| base.end >= anchor.end);
                bases.extend(needed.map(|base| base.stands_on));
                log.extend(pinned(catalogue, &run, anchor.start, run.to));
            }
        }
    }
    Ok(Expendable {
        bases: (0..catalogue.bases.len())
            .filter(|at| !bases.contains(&catalogue.bases[*at].stands_on))
            .collect(),
        log: (0..catalogue.log.len()).filter(|at| !log.contains(at)).collect(),
    })
}

/// The newest base from which the state at the horizon can be had; the first of the run when the run begins later.
fn anchor<'a, I: CommitIndex>(
    run: &Run<'a>,
    horizon: Timestamp,
    now: Timestamp,
    index: &I,
) -> Result<Option<&'a Base>, I::Error> {
    // One commit stamped years ahead, by a clock that was wrong for a minute, must not keep everything since then.
    let believed = |at: Timestamp| at <= now.max(run.complete_until);
    let crossings = crossings(run, horizon, index)?;
    let cut = crossings.iter().find(|crossing| crossing.dropped.is_none_or(|commit| believed(commit.at)));
    let reaches =
        |base: &&&Base| cut.is_some_and(|crossing| base.end <= crossing.cut) && base.ready_at <= horizon;
    Ok(run.bases.iter().rev().find(reaches).copied().or_else(|| run.first_base()))
}

/// The ranges whose bytes the run has between two positions.
fn pinned(
    catalogue: &Catalogue,
    run: &Run<'_>,
    from: crate::Position,
    to: crate::Position,
) -> BTreeSet<usize> {
    let needed: Vec<_> = run.pieces.iter().filter(|piece| piece.to > from && piece.from <= to).collect();
    let is = |range: &crate::LogRange| needed.iter().any(|piece| std::ptr::eq(piece.range, range));
    places(catalogue, is).collect()
}

fn places(catalogue: &Catalogue, is: impl Fn(&crate::LogRange) -> bool) -> impl Iterator<Item = usize> {
    catalogue.log.iter().enumerate().filter(move |(_, range)| is(range)).map(|(at, _)| at)
}
