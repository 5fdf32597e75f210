//! The archived log along the way to a history, as stretches without a hole.
//!
//! Ranges overlap, come in any order, and belong to histories that parted. Here they become *runs*: disjoint pieces in
//! the order of the log, each beginning where the one before ends. All other questions are asked of runs.
//!
//! A log to which nothing was written since its base was taken has no range at all. Where it was heard to end there it is a run
//! without a piece: the base alone, for as long as nothing came.

use std::cmp::Reverse;

use jiff::{SignedDuration, Timestamp};

use crate::{
    Base, Catalogue, Commit, CommitIndex, CommitSummary, Gap, Lineage, LineageId, LogRange, PathStep,
    Position,
};

/// A part of a range that no other piece has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece<'a> {
    pub(crate) range: &'a LogRange,
    pub(crate) from: Position,
    pub(crate) to: Position,
}

impl Piece<'_> {
    /// The commits in short, where the summary of the range is that of this piece; `Err` where only the index knows.
    pub(crate) fn summary(&self) -> Result<Option<&CommitSummary>, NeedsIndex> {
        match &self.range.commits {
            None => Ok(None),
            Some(summary) if self.from == self.range.from && self.to == self.range.to => Ok(Some(summary)),
            Some(_) => Err(NeedsIndex),
        }
    }

    /// The commits that end in this piece.
    pub(crate) fn commits<I: CommitIndex>(&self, index: &I) -> Result<Vec<Commit>, I::Error> {
        if self.range.commits.is_none() {
            return Ok(Vec::new());
        }
        let mut commits = index.commits(self.range)?;
        commits.retain(|commit| self.has_end(commit.end));
        Ok(commits)
    }

    pub(crate) fn has_end(&self, end: Position) -> bool {
        self.from < end && end <= self.to
    }

    /// Where a record begins that is whole with the pieces up to this one. A piece that is cut at a fork does not know:
    /// the range's last record may be one of the history that was left.
    pub(crate) fn last_record(&self) -> Option<Position> {
        self.range.last_record.filter(|_| self.to == self.range.to)
    }
}

/// The summary is not that of the piece.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NeedsIndex;

/// Log without a hole, and the bases that it can bring forward.
#[derive(Debug, Clone)]
pub(crate) struct Run<'a> {
    /// The history in which it ends.
    pub(crate) lineage: LineageId,
    pub(crate) pieces: Vec<Piece<'a>>,
    pub(crate) from: Position,
    pub(crate) to: Position,
    /// Every record that begins before this is whole. What is asked for lies at or before it.
    pub(crate) whole_to: Position,
    /// Every commit up to then lies in the run or before it.
    pub(crate) complete_until: Timestamp,
    /// Those whose log, from start to end, is in the run; by end.
    pub(crate) bases: Vec<&'a Base>,
}

impl<'a> Run<'a> {
    /// The base with which the restorable part begins.
    pub(crate) fn first_base(&self) -> Option<&'a Base> {
        self.bases.first().copied()
    }

    /// The last position at which a record of the run begins that is whole.
    pub(crate) fn last_record(&self) -> Option<Position> {
        self.pieces.iter().rev().find_map(Piece::last_record)
    }

    /// How many commits begin at `cut` or behind it.
    pub(crate) fn commits_from<I: CommitIndex>(&self, cut: Position, index: &I) -> Result<u64, I::Error> {
        let mut count = 0;
        for piece in self.pieces.iter().filter(|piece| piece.to > cut) {
            count += match piece.summary() {
                Ok(None) => 0,
                Ok(Some(summary)) if summary.first.start >= cut => summary.count,
                Ok(Some(summary)) if summary.last.start < cut => 0,
                _ => piece.commits(index)?.iter().filter(|commit| commit.start >= cut).map(|_| 1).sum(),
            };
        }
        Ok(count)
    }
}

/// The runs along the way to `lineage`, in the order of the log.
pub(crate) fn runs<'a>(catalogue: &'a Catalogue, path: &[PathStep]) -> Vec<Run<'a>> {
    let mut runs: Vec<Run<'a>> = Vec::new();
    for piece in pieces(catalogue, path) {
        match runs.last_mut() {
            Some(run) if run.to == piece.from => run.pieces.push(piece),
            _ => runs.push(Run {
                lineage: piece.range.lineage,
                from: piece.from,
                to: piece.to,
                whole_to: piece.to,
                complete_until: Timestamp::MIN,
                pieces: vec![piece],
                bases: Vec::new(),
            }),
        }
        if let Some(run) = runs.last_mut() {
            (run.lineage, run.to) = (piece.range.lineage, piece.to);
            (run.whole_to, run.complete_until) = match left_at(catalogue, path, &piece) {
                // The next history has nothing of its own that is stamped before it began.
                Some(next) => (piece.to, before(next.began_at)),
                None => (piece.range.whole_to.min(piece.to), piece.range.complete_until),
            };
        }
    }
    add_empty(&mut runs, catalogue, path);
    for run in &mut runs {
        let lineage = run.lineage;
        if run.pieces.last().is_none_or(|piece| left_at(catalogue, path, piece).is_none()) {
            // What was heard counts when nothing of the history was missing then: it ended within the run.
            let heard = catalogue.heard.iter().filter(|heard| heard.lineage == lineage);
            let heard = heard.filter(|heard| run.from <= heard.position && heard.position <= run.to);
            run.complete_until = heard.map(|heard| heard.at).fold(run.complete_until, Timestamp::max);
        }
        run.bases =
            catalogue.bases.iter().filter(|base| serves(base, path, run.from, run.whole_to)).collect();
        run.bases.sort_by_key(|base| (base.end, base.start));
    }
    runs
}

/// Adds what was heard of logs of which there is nothing but a base: they were empty then.
fn add_empty(runs: &mut Vec<Run<'_>>, catalogue: &Catalogue, path: &[PathStep]) {
    for heard in &catalogue.heard {
        let (at, lineage) = (heard.position, heard.lineage);
        let on_path = |step: &PathStep| step.lineage == lineage && step.from <= at && at <= step.to;
        let is_all = |base: &Base| base.lineage == lineage && base.start == at && base.end == at;
        let is_within = |run: &Run<'_>| run.from <= at && at <= run.to;
        if path.iter().any(on_path) && catalogue.bases.iter().any(is_all) && !runs.iter().any(is_within) {
            let place = runs.partition_point(|run| run.from < at);
            runs.insert(
                place,
                Run {
                    lineage,
                    pieces: Vec::new(),
                    from: at,
                    to: at,
                    whole_to: at,
                    complete_until: heard.at,
                    bases: Vec::new(),
                },
            );
        }
    }
}

/// The history to which the way goes on where the piece ends, when it ends at the fork.
fn left_at<'a>(catalogue: &'a Catalogue, path: &[PathStep], piece: &Piece<'_>) -> Option<&'a Lineage> {
    let step = path.iter().position(|step| step.lineage == piece.range.lineage)?;
    let next = path.get(step + 1).filter(|next| next.from == piece.to)?;
    catalogue.lineages.get(next.lineage)
}

fn before(time: Timestamp) -> Timestamp {
    time.checked_sub(SignedDuration::from_micros(1)).unwrap_or(Timestamp::MIN)
}

fn serves(base: &Base, path: &[PathStep], from: Position, to: Position) -> bool {
    let on_path =
        |step: &PathStep| step.lineage == base.lineage && step.from <= base.end && base.end <= step.to;
    path.iter().any(on_path) && base.start <= base.end && from <= base.start && base.end <= to
}

fn pieces<'a>(catalogue: &'a Catalogue, path: &[PathStep]) -> Vec<Piece<'a>> {
    let mut pieces = Vec::new();
    for step in path {
        let mut ranges: Vec<_> = catalogue.log.iter().filter(|range| range.lineage == step.lineage).collect();
        // Of those that begin at one place the longest first: many small ones may lie beside one they were joined into.
        ranges.sort_by_key(|range| (range.from, Reverse(range.to)));
        let mut done = step.from;
        for range in ranges {
            let (from, to) = (range.from.max(done), range.to.min(step.to));
            if from < to {
                pieces.push(Piece { range, from, to });
                done = to;
            }
        }
    }
    pieces
}

/// What is missing between runs.
pub(crate) fn gaps(runs: &[Run<'_>]) -> Vec<Gap> {
    let gap = |pair: &[Run<'_>]| Gap {
        lineage: pair[1].pieces.first().map_or(pair[1].lineage, |piece| piece.range.lineage),
        from: pair[0].to,
        to: pair[1].from,
        after: pair[0].complete_until,
    };
    runs.windows(2).map(gap).collect()
}
