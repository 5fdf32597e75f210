//! Reading what the log says while it is stored: each bundle gets the index of its bytes.
//!
//! What cannot be understood is stored all the same, but nothing is said to be complete any more: a time behind it is refused
//! by the planner, never guessed at.

use jiff::Timestamp;
use strongroom_database::{CommitSummary, Indexed, Position, TransactionId};
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
            let Some(bytes) = since(repository, opened.log, number, last).await? else {
                // What is under way here is passed over: one record at most.
                let reader = engine.reader(opened, ReadFrom::Anywhere(Position::new(last.to)));
                return Ok(Self { reader, complete_until });
            };
            let read = reader.push(Position::new(last.whole_to), &bytes);
            reader.cut();
            if let Err(error) = read {
                tracing::error!(log = %opened.log, error = chain(&*error), "the log cannot be read on from here: it is stored, and cannot be restored to a time");
                return Ok(Self { reader: None, complete_until });
            }
        }
        Ok(Self { reader: Some(reader), complete_until })
    }

    /// The bundle that a piece makes. Work for a thread that may take its time.
    pub(super) fn bundle(&mut self, piece: Piece) -> Bundle {
        let (from, to) = (piece.start, piece.start.plus(piece.bytes.len() as u64));
        let mut indexed: Option<Indexed> = None;
        if let Some(reader) = &mut self.reader {
            let read = reader.push(from, &piece.bytes);
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
        let commits = indexed.as_ref().and_then(|indexed| indexed.commits.as_ref()).and_then(commits_note);
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

/// The bytes from where `last` is whole to its end; `None`: this key does not open them.
async fn since(
    repository: &Repository,
    log: LogId,
    number: u32,
    last: &BundleNote,
) -> Result<Option<Vec<u8>>, LogError> {
    let mut bytes = Vec::new();
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
        bytes.splice(0..0, bundle.log.iter().copied());
    }
    let skip = last.whole_to.checked_sub(from).and_then(|skip| usize::try_from(skip).ok());
    Ok(skip.and_then(|skip| bytes.get(skip..)).map(<[u8]>::to_vec))
}

fn commits_note(commits: &CommitSummary) -> Option<CommitsNote> {
    let note = |commit: &strongroom_database::Commit| match commit.transaction {
        TransactionId::Number(transaction) => Some(CommitNote {
            start: commit.start.number(),
            end: commit.end.number(),
            at: commit.at,
            transaction,
        }),
        TransactionId::Global { .. } => None,
    };
    Some(CommitsNote {
        count: commits.count,
        first: note(&commits.first)?,
        last: note(&commits.last)?,
        earliest: commits.earliest,
        latest: commits.latest,
    })
}
