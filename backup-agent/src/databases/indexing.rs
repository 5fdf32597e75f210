//! Reading what the log says while it is stored: each bundle gets the index of its bytes.
//!
//! What cannot be understood is stored all the same, but nothing is said to be complete any more: a time behind it is refused
//! by the planner, never guessed at.

use bytes::Bytes;
use jiff::Timestamp;
use strongroom_database::{Commit, CommitSummary, Indexed, Position, TransactionId};
use strongroom_log_spool::Piece;
use strongroom_model::{LogId, chain};
use strongroom_repository::record::{BundleNote, CommitNote, CommitsNote, LogOpened};
use strongroom_repository::{Bundle, LogError, Repository};

use super::engine::{Engine, LogReader, ReadFrom};
use super::uploader::before;

/// Reads one log from some bundle on.
#[derive(Debug)]
pub(super) struct Indexing {
    /// `None`: the log is not understood.
    reader: Option<Box<dyn LogReader>>,
    /// What the bundle before said.
    complete_until: Timestamp,
}

impl Indexing {
    /// Goes on at `end` with bundle `number`, behind `last`. Where that is swept already, a record under way is passed over.
    pub(super) async fn resume(
        engine: &dyn Engine,
        repository: &Repository,
        opened: &LogOpened,
        (number, end): (u32, Position),
        last: Option<&BundleNote>,
    ) -> Result<Self, LogError> {
        let began =
            last.map_or(ReadFrom::Anywhere(end), |last| ReadFrom::Boundary(Position::new(last.whole_to)));
        let complete_until = last.map_or(opened.began_at, |last| last.complete_until);
        let Some(mut reader) = engine.reader(opened, began) else {
            tracing::error!(
                log = %opened.log, facts = ?opened.facts,
                "the log of this database cannot be read here: it is stored, and cannot be restored to a time"
            );
            return Ok(Self { reader: None, complete_until });
        };
        if let Some(last) = last.filter(|last| last.whole_to < last.to) {
            let Some(parts) = since(repository, opened.log, number, last).await? else {
                // What is under way here is passed over: one record at most.
                let reader = engine.reader(opened, ReadFrom::Anywhere(Position::new(last.to)));
                return Ok(Self { reader, complete_until });
            };
            let read = parts.iter().try_for_each(|(at, bytes)| reader.push(*at, bytes));
            reader.cut();
            if let Err(error) = read {
                tracing::error!(log = %opened.log, error = chain(&*error), "the log cannot be read on from here: it is stored, and cannot be restored to a time");
                return Ok(Self { reader: None, complete_until });
            }
        }
        Ok(Self { reader: Some(reader), complete_until })
    }

    /// The bundle that a piece makes, which follows what ends at `from`. Work for a thread that may take its time.
    pub(super) fn bundle(&mut self, from: Position, piece: Piece) -> Bundle {
        let to = piece.start.plus(piece.bytes.len() as u64);
        let mut indexed: Option<Indexed> = None;
        if let Some(reader) = &mut self.reader {
            let read = reader.push(piece.start, &piece.bytes);
            indexed = Some(reader.cut());
            if let Err(error) = read {
                tracing::error!(
                    error = chain(&*error),
                    "the log cannot be read on from here: it is stored, and cannot be restored to a time"
                );
                self.reader = None;
                indexed = None;
            }
        }
        let commits = indexed.as_ref().and_then(|indexed| indexed.commits.as_ref()).map(commits_note);
        if self.reader.is_some() {
            // The newest stamp is complete at least where it was written last; the server's clock says more, but for stamps
            // that were taken and not written yet.
            let heard = before(piece.sent_at);
            self.complete_until = self.complete_until.max(heard);
        }
        let note = BundleNote {
            bytes: 0,
            from: from.number(),
            to: to.number(),
            complete_until: self.complete_until,
            last_record: indexed.as_ref().and_then(|indexed| indexed.last_record).map(Position::number),
            commits,
            named_points: indexed.as_ref().map_or(0, |indexed| indexed.named_points),
            whole_to: indexed.as_ref().map_or(from, |indexed| indexed.whole_to).number(),
        };
        let index = indexed.map(|indexed| indexed.index).unwrap_or_default();
        Bundle { note, log: piece.bytes.into(), index: index.into() }
    }

    /// Whether the log is understood: then it is complete up to where it was heard to end.
    pub(super) const fn understands(&self) -> bool {
        self.reader.is_some()
    }
}

/// The bytes from where `last` is whole to its end, and where they belong; `None`: this key does not open them.
async fn since(
    repository: &Repository,
    log: LogId,
    number: u32,
    last: &BundleNote,
) -> Result<Option<Vec<(Position, Bytes)>>, LogError> {
    let whole_to = Position::new(last.whole_to);
    let mut found = Vec::new();
    let mut from = last.to;
    let mut at = number;
    while from > last.whole_to && at > 1 {
        at -= 1;
        let bundle = match repository.describe_bundle(log, at).await? {
            Some(note) => repository.read_bundle(log, at, note.bytes).await,
            None => return Ok(None),
        };
        let bundle = match bundle {
            Ok(bundle) => bundle,
            Err(LogError::Unreadable { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        from = bundle.note.from;
        let parts = Position::new(from).split(Position::new(bundle.note.to), bundle.log.len());
        let Some(parts) = parts else { return Ok(None) };
        found.extend(parts.into_iter().rev().map(|(at, part)| (at, bundle.log.slice(part))));
    }
    let needed = found.into_iter().rev().filter_map(|(at, bytes)| {
        let skip = usize::try_from(whole_to.since(at)).unwrap_or(usize::MAX);
        (skip < bytes.len()).then(|| (at.plus(skip as u64), bytes.slice(skip..)))
    });
    Ok(Some(needed.collect()))
}

fn commits_note(commits: &CommitSummary) -> CommitsNote {
    let note = |commit: &Commit| {
        let (transaction, source) = match commit.transaction {
            TransactionId::Number(number) => (number, None),
            TransactionId::Global { source, sequence } => (sequence, Some(source.to_le_bytes())),
        };
        let (start, end) = (commit.start.number(), commit.end.number());
        CommitNote { start, end, at: commit.at, transaction, source }
    };
    CommitsNote {
        count: commits.count,
        first: note(&commits.first),
        last: note(&commits.last),
        earliest: commits.earliest,
        latest: commits.latest,
    }
}
