//! Looking for a commit by the name of its transaction, and for a named point.
//!
//! Both may come twice: numbers of transactions wrap around, and nobody keeps a person from giving a name again. An engine
//! takes the first it meets behind the base, which depends on the base; here all are found and named.

use super::{Place, PlanError, candidate, place};
use crate::refusal::Refusal;
use crate::runs::{Run, runs};
use crate::{Catalogue, CommitIndex, LineageId, Position, Side, TransactionId};

/// As many names as are told when one is not there.
const KNOWN: usize = 12;

pub(super) fn transaction<I: CommitIndex>(
    runs: &[Run<'_>],
    transaction: TransactionId,
    side: Side,
    index: &I,
) -> Result<Place, PlanError<I::Error>> {
    let cuts = cuts_of_transaction(runs, transaction, side, index).map_err(PlanError::Index)?;
    match cuts[..] {
        [(run, cut)] => place(runs, run, cut, index).map_err(PlanError::Index),
        [] => Err(Refusal::UnknownTransaction { transaction }.into()),
        _ => {
            let mut candidates = Vec::new();
            for (run, cut) in cuts {
                let place = place(runs, run, cut, index).map_err(PlanError::Index)?;
                candidates.push(candidate(runs, &place));
            }
            Err(Refusal::TransactionIsAmbiguous { transaction, candidates }.into())
        }
    }
}

fn cuts_of_transaction<I: CommitIndex>(
    runs: &[Run<'_>],
    transaction: TransactionId,
    side: Side,
    index: &I,
) -> Result<Vec<(usize, Position)>, I::Error> {
    let mut cuts = Vec::new();
    for (number, run) in runs.iter().enumerate() {
        for piece in &run.pieces {
            for commit in piece.commits(index)?.iter().filter(|commit| commit.transaction == transaction) {
                let cut = match side {
                    Side::Before => commit.start,
                    Side::After => commit.end,
                };
                cuts.push((number, cut));
            }
        }
    }
    Ok(cuts)
}

pub(super) fn named<I: CommitIndex>(
    runs: &[Run<'_>],
    name: &str,
    index: &I,
) -> Result<Place, PlanError<I::Error>> {
    let (cuts, known) = cuts_of_name(runs, name, index).map_err(PlanError::Index)?;
    match cuts[..] {
        [(run, cut)] => place(runs, run, cut, index).map_err(PlanError::Index),
        [] => Err(Refusal::UnknownName { name: name.to_owned(), known }.into()),
        _ => {
            let mut candidates = Vec::new();
            for (run, cut) in cuts {
                let place = place(runs, run, cut, index).map_err(PlanError::Index)?;
                candidates.push(candidate(runs, &place));
            }
            Err(Refusal::NameIsAmbiguous { name: name.to_owned(), candidates }.into())
        }
    }
}

/// Where points of this name are, and the last few names there are.
type Named = (Vec<(usize, Position)>, Vec<String>);

fn cuts_of_name<I: CommitIndex>(runs: &[Run<'_>], name: &str, index: &I) -> Result<Named, I::Error> {
    let (mut cuts, mut known) = (Vec::new(), Vec::new());
    for (number, run) in runs.iter().enumerate() {
        for piece in run.pieces.iter().filter(|piece| piece.range.named_points > 0) {
            for point in index.named_points(piece.range)?.into_iter().filter(|point| piece.has_end(point.end))
            {
                if point.name == name {
                    cuts.push((number, point.end));
                }
                known.retain(|known| *known != point.name);
                known.push(point.name);
                if known.len() > KNOWN {
                    known.remove(0);
                }
            }
        }
    }
    Ok((cuts, known))
}

/// The history in which a transaction committed. On the way to the newest one, where it is there.
pub(super) fn lineage_of_transaction<I: CommitIndex>(
    catalogue: &Catalogue,
    transaction: TransactionId,
    newest: LineageId,
    index: &I,
) -> Result<LineageId, PlanError<I::Error>> {
    owner(catalogue, newest, |runs| {
        let cuts = cuts_of_transaction(runs, transaction, Side::Before, index)?;
        Ok(cuts.into_iter().map(|(run, cut)| super::lineage_at(&runs[run], cut.plus(1))).collect())
    })
}

/// The history in which a name was given. On the way to the newest one, where it is there.
pub(super) fn lineage_of_name<I: CommitIndex>(
    catalogue: &Catalogue,
    name: &str,
    newest: LineageId,
    index: &I,
) -> Result<LineageId, PlanError<I::Error>> {
    owner(catalogue, newest, |runs| {
        let (cuts, _) = cuts_of_name(runs, name, index)?;
        Ok(cuts.into_iter().map(|(run, cut)| super::lineage_at(&runs[run], cut)).collect())
    })
}

/// The history to take, where `owners` says which histories along a way have what is looked for.
fn owner<E>(
    catalogue: &Catalogue,
    newest: LineageId,
    owners: impl Fn(&[Run<'_>]) -> Result<Vec<LineageId>, E>,
) -> Result<LineageId, PlanError<E>> {
    let mut found: Vec<(LineageId, LineageId)> = Vec::new();
    let ways = std::iter::once(newest).chain(catalogue.lineages.iter().rev().map(|lineage| lineage.id));
    for way in ways {
        let runs = runs(catalogue, &catalogue.lineages.path(way));
        for owner in owners(&runs).map_err(PlanError::Index)? {
            if found.iter().all(|(known, _)| *known != owner) {
                found.push((owner, way));
            }
        }
    }
    // Several on the way to one history are told apart there, by position.
    let ways: Vec<_> = found.iter().map(|(_, way)| *way).collect();
    match found[..] {
        [] => Ok(newest),
        [(_, way), ..] if ways.iter().all(|other| *other == way) => Ok(way),
        _ => {
            let mut lineages: Vec<_> = found.into_iter().map(|(owner, _)| owner).collect();
            lineages.sort();
            Err(Refusal::SeveralLineages { lineages }.into())
        }
    }
}
