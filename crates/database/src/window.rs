//! What can be restored, from what is there.
//!
//! It is computed and never configured: a window begins with a base and ends where the log ends or has a hole. Behind a hole
//! the next base begins another.

use jiff::Timestamp;
use serde::Serialize;

use crate::runs::{Run, gaps, runs};
use crate::{Catalogue, Gap, LineageId, RestorablePoint};

/// A stretch of time in which every second can be restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Window {
    /// The first state.
    pub earliest: RestorablePoint,
    /// The last state: everything up to this time is there.
    pub latest: RestorablePoint,
    /// How many bases serve it.
    pub bases: usize,
    /// What is missing between the window before and this one.
    pub gap_before: Option<Gap>,
}

/// The windows along the way to a history, oldest first.
#[must_use]
pub fn windows(catalogue: &Catalogue, lineage: LineageId) -> Vec<Window> {
    let runs = runs(catalogue, &catalogue.lineages.path(lineage));
    let holes = gaps(&runs);
    let with_hole = |(place, run)| {
        let gap = if place == 0 { None } else { holes.get(place - 1).copied() };
        window(run).map(|window| Window { gap_before: gap, ..window })
    };
    runs.iter().enumerate().filter_map(with_hole).collect()
}

pub(crate) fn window(run: &Run<'_>) -> Option<Window> {
    // Until the receiver has heard of a time after the base was ready, not one second is proved.
    let first = run.first_base().filter(|base| base.ready_at <= run.complete_until)?;
    Some(Window {
        earliest: RestorablePoint { lineage: first.lineage, position: first.end, at: first.ready_at },
        latest: RestorablePoint { lineage: run.lineage, position: run.whole_to, at: run.complete_until },
        bases: run.bases.len(),
        gap_before: None,
    })
}

/// The newest state of the living history that can be restored: what is lost now if everything else is. The RPO now is how
/// long it is ago.
#[must_use]
pub fn newest(catalogue: &Catalogue) -> Option<RestorablePoint> {
    let lineage = catalogue.lineages.newest()?.id;
    windows(catalogue, lineage).last().map(|window| window.latest)
}

/// How long ago the newest restorable state is at `now`; `None` when there is none.
#[must_use]
pub fn rpo(catalogue: &Catalogue, now: Timestamp) -> Option<jiff::SignedDuration> {
    newest(catalogue).map(|point| now.duration_since(point.at).max(jiff::SignedDuration::ZERO))
}
