//! What the journal says of a database, as the planner wants to know it. Pure.

use std::collections::BTreeSet;

use strongroom_database::{
    Base, Catalogue, Changes, Commit, CommitSummary, Fork, Heard, Lineage, LineageError, LineageId, LogRange,
    Position, StandsOn, TransactionId,
};
use strongroom_model::VolumeName;
use strongroom_repository::Fold;
use strongroom_repository::fold::LogState;
use strongroom_repository::record::{BundleNote, CommitNote};

/// The newest log of a database.
#[must_use]
pub fn newest_log<'a>(fold: &'a Fold, database: &str) -> Option<&'a LogState> {
    logs(fold, database).max_by_key(|log| log.number)
}

/// All logs of a database, in no order.
pub fn logs<'a>(fold: &'a Fold, database: &str) -> impl Iterator<Item = &'a LogState> {
    fold.logs.values().filter(move |log| log.opened.database == database)
}

/// The names of all databases whose log was ever archived.
#[must_use]
pub fn databases(fold: &Fold) -> BTreeSet<&str> {
    fold.logs.values().map(|log| log.opened.database.as_str()).collect()
}

/// The names of the databases that lie on a volume.
#[must_use]
pub fn on_volume<'a>(fold: &'a Fold, volume: &VolumeName) -> BTreeSet<&'a str> {
    let here = fold.logs.values().filter(|log| log.opened.volume.as_ref() == Some(volume));
    here.map(|log| log.opened.database.as_str()).collect()
}

/// What the planner is told: all logs and bases of a database. `beyond` are bundles that no record names yet, by the number of
/// the record that opened their log.
///
/// # Errors
/// When the histories contradict each other: two servers were promoted to the same timeline.
pub fn catalogue(
    fold: &Fold,
    database: &str,
    beyond: &dyn Fn(&LogState) -> Vec<BundleNote>,
) -> Result<Catalogue, LineageError> {
    let mut catalogue = Catalogue::default();
    for log in logs(fold, database) {
        let lineage = LineageId(log.opened.lineage);
        let fork = log.opened.parent.zip(log.opened.fork);
        let fork = fork.map(|(parent, at)| Fork { parent: LineageId(parent), at: Position::new(at) });
        catalogue.lineages.add(Lineage { id: lineage, fork, began_at: log.opened.began_at })?;
        let beyond = beyond(log);
        let stored = log.kept().map(|(number, note)| (number, note.clone()));
        let found = (log.next..).zip(beyond.iter().cloned());
        // What a check found damaged is a hole: plans go round it.
        for (number, note) in stored.chain(found).filter(|(number, _)| !log.is_damaged(*number)) {
            catalogue.log.push(range(log, number, &note));
        }
        if let Some(heard) = log.heard.filter(|_| beyond.is_empty()) {
            catalogue.heard.push(Heard { lineage, position: Position::new(heard.position), at: heard.at });
        }
        for point in fold.points.values() {
            let Some(base) = point.info.database.as_ref().filter(|base| base.log == log.opened.log) else {
                continue;
            };
            catalogue.bases.push(Base {
                stands_on: StandsOn::Point(point.id),
                lineage,
                start: Position::new(base.start),
                end: Position::new(base.end),
                ready_at: base.ready_at,
                bytes: point.info.volume_bytes,
            });
        }
    }
    Ok(catalogue)
}

pub(crate) fn range(log: &LogState, number: u32, note: &BundleNote) -> LogRange {
    LogRange {
        place: format!("{}/{number}", log.opened.log),
        lineage: LineageId(log.opened.lineage),
        from: Position::new(note.from),
        to: Position::new(note.to),
        stored_bytes: note.bytes,
        complete_until: note.complete_until,
        whole_to: Position::new(note.whole_to),
        last_record: note.last_record.map(Position::new),
        commits: note.commits.as_ref().map(|commits| CommitSummary {
            count: commits.count,
            first: commit(&commits.first),
            last: commit(&commits.last),
            earliest: commits.earliest,
            latest: commits.latest,
        }),
        named_points: note.named_points,
    }
}

fn commit(note: &CommitNote) -> Commit {
    Commit {
        start: Position::new(note.start),
        end: Position::new(note.end),
        at: note.at,
        transaction: match note.source {
            None => TransactionId::Number(note.transaction),
            Some(source) => {
                TransactionId::Global { source: u128::from_le_bytes(source), sequence: note.transaction }
            }
        },
        changes: Changes { partial: true, ..Changes::default() },
    }
}
