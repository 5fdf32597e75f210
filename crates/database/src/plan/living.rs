//! Which history is meant when nobody says: the one that was living then.
//!
//! After a restore was promoted there are two: the one that was left behind, with what was undone, and the new one. Asked
//! for a time between the two a person means what they saw then, which is in the old one. When two histories were
//! being written at the same time, only a person knows.

use jiff::Timestamp;

use super::PlanError;
use crate::refusal::Refusal;
use crate::runs::runs;
use crate::{Catalogue, CommitIndex, Lineage, LineageId, Position, Target};

/// The history that a target is in.
pub(super) fn lineage<I: CommitIndex>(
    catalogue: &Catalogue,
    index: &I,
    target: &Target,
) -> Result<LineageId, PlanError<I::Error>> {
    let newest = catalogue.lineages.newest().map(|lineage| lineage.id);
    // Without any history there is no log either, and whatever follows is refused for that.
    let newest = newest.unwrap_or(LineageId(0));
    match target {
        Target::Time(time) => at_time(catalogue, *time, newest, index),
        Target::Position(position) => at_position(catalogue, *position, newest),
        // Looked for in all of them, of which the newest is only the first to be asked.
        Target::Transaction(transaction, _) => {
            super::find::lineage_of_transaction(catalogue, *transaction, newest, index)
        }
        Target::Named(name) => super::find::lineage_of_name(catalogue, name, newest, index),
        Target::Latest => Ok(newest),
    }
}

fn at_time<I: CommitIndex>(
    catalogue: &Catalogue,
    time: Timestamp,
    newest: LineageId,
    index: &I,
) -> Result<LineageId, PlanError<I::Error>> {
    let begun = |lineage: &&Lineage| lineage.began_at <= time || lineage.fork.is_none();
    let Some(living) = catalogue.lineages.living(time) else { return Ok(newest) };
    let mut lineages = vec![living.id];
    for other in catalogue.lineages.iter().filter(begun).filter(|other| other.id != living.id) {
        if committed_after(catalogue, other.id, fork_from(catalogue, other.id, living.id), time, index)
            .map_err(PlanError::Index)?
        {
            lineages.push(other.id);
        }
    }
    lineages.sort();
    if lineages.len() == 1 { Ok(living.id) } else { Err(Refusal::SeveralLineages { lineages }.into()) }
}

/// From where on `other` shares nothing with `living`.
fn fork_from(catalogue: &Catalogue, other: LineageId, living: LineageId) -> Position {
    let shared = |step: &crate::PathStep| step.lineage == other;
    catalogue.lineages.path(living).into_iter().find(shared).map_or(Position::START, |step| step.to)
}

/// The history has a commit of its own behind `from` that is stamped later than `time`.
fn committed_after<I: CommitIndex>(
    catalogue: &Catalogue,
    lineage: LineageId,
    from: Position,
    time: Timestamp,
    index: &I,
) -> Result<bool, I::Error> {
    let path = catalogue.lineages.path(lineage);
    let own = path.last().map_or(Position::START, |step| step.from).max(from);
    for piece in runs(catalogue, &path).iter().flat_map(|run| &run.pieces) {
        if piece.range.lineage != lineage || piece.to <= own {
            continue;
        }
        let Some(summary) = &piece.range.commits else { continue };
        if summary.latest > time
            && piece.commits(index)?.iter().any(|commit| commit.start >= own && commit.at > time)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn at_position<E>(
    catalogue: &Catalogue,
    position: Position,
    newest: LineageId,
) -> Result<LineageId, PlanError<E>> {
    // Which history owns the byte before the position, on the way to each history that has log there.
    let mut owners: Vec<(LineageId, LineageId)> = Vec::new();
    for lineage in catalogue.lineages.iter().rev() {
        let path = catalogue.lineages.path(lineage.id);
        let runs = runs(catalogue, &path);
        let has = |piece: &&crate::runs::Piece<'_>| piece.from < position && position <= piece.to;
        if let Some(piece) = runs.iter().flat_map(|run| &run.pieces).find(has)
            && owners.iter().all(|(owner, _)| *owner != piece.range.lineage)
        {
            owners.push((piece.range.lineage, lineage.id));
        }
    }
    match owners[..] {
        [] => Ok(newest),
        [(owner, through)] => {
            // On the common way the living history is as good as any, and the one a person goes on with.
            let path = catalogue.lineages.path(newest);
            let on_way = path.iter().any(|step| step.lineage == owner && position <= step.to);
            Ok(if on_way { newest } else { through })
        }
        _ => {
            let mut lineages: Vec<_> = owners.into_iter().map(|(owner, _)| owner).collect();
            lineages.sort();
            Err(Refusal::SeveralLineages { lineages }.into())
        }
    }
}
