//! The task of one database: finds where its log goes on, receives it, and comes again after whatever happens.
//!
//! A log goes on where the repository and the spool end. Where the server no longer has what comes next, there is a gap: it is said
//! loudly, and a new log begins, whose first base the daemon takes at once. Where a history ends, what is left of it is stored,
//! and a log of the next begins.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use strongroom_database::{LineageId, Position};
use strongroom_log_spool::{Progress, Spool, SpoolError};
use strongroom_model::{Failure, LogId, Remedy, chain};
use strongroom_repository::fold::LogState;
use strongroom_repository::record::LogOpened;
use strongroom_repository::{JournalError, LogError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::engine::{Ended, EngineError, Fork, Known, Onward, Reached, Receiving, Source};
use super::indexing::Indexing;
use super::uploader::Uploader;
use super::{Database, view};
use crate::run::Agent;

/// The first pause after a failure, and the longest.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

/// A stream that ran for so long was well: the next failure is a first one.
const WELL_AFTER: Duration = Duration::from_secs(60);

pub(super) struct Archiver {
    pub(super) agent: Arc<Agent>,
    pub(super) database: Arc<Database>,
    /// Below it a folder for each log.
    pub(super) folder: PathBuf,
    pub(super) cancel: CancellationToken,
}

/// Why archiving stopped for now.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("the database")]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error("the repository")]
    Log(#[from] LogError),
    #[error("the journal")]
    Journal(#[from] JournalError),
}

impl Trouble {
    fn failure(&self) -> &dyn Failure {
        match self {
            Self::Engine(cause) => cause,
            Self::Spool(cause) => cause,
            Self::Log(cause) => cause,
            Self::Journal(cause) => cause,
        }
    }
}

/// A log to go on with.
struct Going {
    opened: LogOpened,
    /// The next bundle, and where it begins.
    number: u32,
    archived: Position,
    uncovered: Vec<strongroom_repository::record::BundleNote>,
    spool: Arc<Spool>,
    /// Where the stream goes on, and what is known before that.
    from: Position,
    reached: Reached,
    indexing: Indexing,
}

impl Archiver {
    pub(super) async fn run(self) {
        if self.agent.repository.is_shared() {
            // Before anything is asked of the server: a slot that nobody receives from would fill its disk.
            return self.tell(&LogError::Shared.into(), true);
        }
        let mut failures = 0_u32;
        // The log after a gap or of a new history, until it is opened.
        let mut fresh = None;
        let mut was_taken = false;
        while !self.cancel.is_cancelled() {
            let began = tokio::time::Instant::now();
            match self.once(&mut fresh).await {
                Ok(()) => failures = 0,
                Err(trouble) => {
                    if began.elapsed() > WELL_AFTER {
                        failures = 0;
                    }
                    self.tell(&trouble, failures == 0);
                    fresh = self.after(&trouble, was_taken).or(fresh);
                    was_taken = matches!(trouble, Trouble::Log(LogError::Taken { .. }));
                    failures += 1;
                    let pause = FIRST.saturating_mul(1 << (failures - 1).min(8)).min(LONGEST);
                    // Many agents that lost one server do not come back in step.
                    let mut random = [0];
                    self.agent.world.entropy.fill(&mut random);
                    let pause = pause.mul_f64(0.5 + f64::from(random[0]) / 255.0);
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.cancel.cancelled() => {}
                    }
                }
            }
        }
    }

    fn tell(&self, trouble: &Trouble, is_first: bool) {
        let failure = trouble.failure();
        let (code, advice, text) = (failure.code(), failure.advice(), chain(trouble));
        self.database.live.update(|now| {
            now.streaming = false;
            now.trouble = Some(format!("{text} [{code}] {advice}"));
        });
        let database = &self.database.name;
        if is_first || !matches!(failure.remedy(), Remedy::Retry | Remedy::Wait) {
            tracing::error!(database, code, error = text, advice, "the log of a database is not archived");
        } else {
            tracing::debug!(database, code, error = text, "still not archived");
        }
    }

    /// What such a trouble means for the next try: a log of its own.
    fn after(&self, trouble: &Trouble, was_taken: bool) -> Option<Fresh> {
        match trouble {
            Trouble::Engine(cause) if cause.is_gap() => self.gap(),
            // What the spool held and was not stored is lost, or comes again with the next log.
            Trouble::Spool(cause) if cause.is_gap() => self.gap(),
            // Mostly a bundle of our own whose answer was lost: the next look finds it, and goes on behind it. Where it does not
            // follow, somebody else wrote under our numbers: theirs stays theirs.
            Trouble::Log(LogError::Taken { .. }) => was_taken.then_some(Fresh::AfterGap),
            _ => None,
        }
    }

    fn gap(&self) -> Option<Fresh> {
        self.database.live.update(|now| now.gaps += 1);
        Some(Fresh::AfterGap)
    }

    /// One connection, from finding where to go on until it ends.
    async fn once(&self, fresh: &mut Option<Fresh>) -> Result<(), Trouble> {
        let database = &self.database;
        let mut source = database.engine.connect().await?;
        let (going, parted) = match fresh.take() {
            Some(why) => (self.begin(&mut *source, why).await?, None),
            None => match self.go_on(&mut *source).await? {
                Some(found) => found,
                None => (self.begin(&mut *source, Fresh::First).await?, None),
            },
        };
        let (progress, seen) = watch::channel(Progress { flushed: going.from, ..Progress::default() });
        let (log, lineage) = (going.opened.log, LineageId(going.opened.lineage));
        let mut uploader = Uploader {
            agent: Arc::clone(&self.agent),
            database: Arc::clone(database),
            log,
            spool: Arc::clone(&going.spool),
            number: going.number,
            end: going.archived,
            uncovered: going.uncovered,
            uncovered_since: None,
            heard_at: None,
            progress: seen,
            indexing: Some(going.indexing),
        };
        let (upload_stop, last) = (self.cancel.child_token(), CancellationToken::new());
        if parted.is_some() {
            // Nothing more comes to this log either.
            last.cancel();
            uploader.run(&upload_stop, &last).await?;
            *fresh = parted;
            return Ok(());
        }
        tracing::info!(database = database.name, %log, %lineage, from = %going.from, "archiving the log of a database");
        let receive_stop = self.cancel.child_token();
        database.receive_until(receive_stop.clone());
        let receiving = source.receive(Receiving {
            opened: going.opened,
            from: going.from,
            reached: going.reached,
            spool: going.spool,
            folder: self.spool_folder(log),
            budget_bytes: database.spool_bytes,
            progress,
            world: self.agent.world.clone(),
            cancel: receive_stop,
        });
        tokio::pin!(receiving);
        let uploading = uploader.run(&upload_stop, &last);
        tokio::pin!(uploading);
        let ended = tokio::select! {
            ended = &mut receiving => {
                match &ended {
                    // Nothing more comes to this log: all of it is stored before another begins.
                    Ok(_) => last.cancel(),
                    Err(error) if error.is_gap() => last.cancel(),
                    Err(_) => upload_stop.cancel(),
                }
                (&mut uploading).await?;
                ended?
            }
            uploaded = &mut uploading => {
                uploaded?;
                // It ends by itself only when we stop.
                (&mut receiving).await?
            }
        };
        if let Ended::Lineage { next, at } = ended {
            tracing::warn!(database = database.name, %lineage, %next, %at, "the database went on in a new history");
            *fresh = Some(Fresh::Fork(Fork { next, parent: Some(lineage), at }));
        }
        Ok(())
    }

    /// Where the log that was written last goes on, and why another has to follow, if the database is not in its history any
    /// more. `None`: there is none.
    async fn go_on(&self, source: &mut dyn Source) -> Result<Option<(Going, Option<Fresh>)>, Trouble> {
        let fold = self.agent.repository.fold().await?;
        let Some(state) = view::newest_log(&fold, &self.database.name) else { return Ok(None) };
        source.is_of(&state.opened)?;
        let log = state.opened.log;
        if view::is_spoiled(&fold, state) {
            tracing::error!(database = self.database.name, %log, "a part of this log is lost, and no base lies behind it: another log begins");
            return Ok(None);
        }
        let uncovered = self.agent.repository.bundles_beyond(log, state.next, state.end).await?;
        let beyond = u32::try_from(uncovered.len()).unwrap_or(u32::MAX);
        let archived = Position::new(uncovered.last().map_or(state.end, |last| last.to));
        let spool = self.spool(log).await?;
        let from = match spool.range() {
            // What it holds is needed or stored already, and follows on.
            Some((start, end)) if start <= archived && archived <= end => end,
            Some((start, end)) if archived.is_followed_by(start) => end,
            // Behind what is stored: an older state of this machine's disk.
            Some((_, end)) if end < archived => {
                spool.release(end)?;
                archived
            }
            // A spool that begins behind the repository's end: what is between is in neither. The engine may still have it.
            Some((start, _)) => return Err(SpoolError::Ahead { archived, start }.into()),
            None => archived,
        };
        let others =
            view::logs(&fold, &self.database.name).filter(|other| other.opened.log != log).map(known);
        let mut all: Vec<Known> = others.collect();
        all.sort_by_key(|known| known.end);
        all.push(Known { end: from, ..known(state) });
        let parted = match source.onward(&all).await? {
            Onward::Same => None,
            Onward::With(fork) => Some(Fresh::Fork(fork)),
            Onward::Elsewhere => Some(Fresh::First),
        };
        let number = state.next.saturating_add(beyond);
        let last = uncovered.last().or_else(|| state.bundles.get(&(state.next - 1)));
        let indexing = Indexing::resume(
            &*self.database.engine,
            &self.agent.repository,
            &state.opened,
            (number, archived),
            last,
        )
        .await?;
        let opened = state.opened.clone();
        let stored = state.bundles.values().chain(&uncovered).rev();
        let reached = Reached {
            whole_to: Position::new(last.map_or(opened.start, |last| last.whole_to)),
            commit: stored.filter_map(|note| note.commits).map(|commits| commits.last).next(),
        };
        Ok(Some((Going { reached, opened, number, archived, uncovered, spool, from, indexing }, parted)))
    }

    /// Opens a log that begins where the engine says.
    async fn begin(&self, source: &mut dyn Source, why: Fresh) -> Result<Going, Trouble> {
        let fork = if let Fresh::Fork(fork) = why { Some(fork) } else { None };
        let fold = self.agent.repository.fold().await?;
        let beginning = source.beginning(fork, view::newest_log(&fold, &self.database.name)).await?;
        let log = LogId::random(&*self.agent.world.entropy);
        let (lineage, start) = (beginning.lineage, beginning.start);
        let opened = LogOpened {
            log,
            database: self.database.name.clone(),
            volume: Some(self.database.volume.clone()),
            engine: self.database.engine.name().to_owned(),
            identity: beginning.identity,
            lineage: lineage.0,
            start: start.number(),
            parent: beginning.fork.map(|(parent, _)| parent.0),
            fork: beginning.fork.map(|(_, at)| at.number()),
            history: beginning.history,
            began_at: self.agent.world.clock.now(),
            facts: beginning.facts.into_iter().map(|(fact, value)| (fact.to_owned(), value)).collect(),
        };
        let indexing =
            Indexing::resume(&*self.database.engine, &self.agent.repository, &opened, (1, start), None)
                .await?;
        self.agent.repository.open_log(opened.clone()).await?;
        match why {
            Fresh::AfterGap => tracing::error!(
                database = self.database.name, %log, %start,
                "the log of a database has a GAP before this: nothing in it can be restored; a new base is taken at once"
            ),
            Fresh::Fork(Fork { parent: Some(parent), at, .. }) => tracing::warn!(
                database = self.database.name, %log, %lineage, %parent, %at,
                "the database is in a new history: its log begins; what is archived of the old one stays"
            ),
            Fresh::Fork(_) => tracing::warn!(
                database = self.database.name, %log, %lineage, %start,
                "the database is back in a history that it had left: its log goes on"
            ),
            Fresh::First => {
                tracing::info!(database = self.database.name, %log, %lineage, %start, "a log begins")
            }
        }
        self.remove_other_spools(log).await;
        let spool = self.spool(log).await?;
        let reached = Reached { whole_to: start, commit: None };
        Ok(Going {
            reached,
            opened,
            number: 1,
            archived: start,
            uncovered: Vec::new(),
            spool,
            from: start,
            indexing,
        })
    }

    fn spool_folder(&self, log: LogId) -> PathBuf {
        self.folder.join(log.hex())
    }

    async fn spool(&self, log: LogId) -> Result<Arc<Spool>, Trouble> {
        let folder = self.spool_folder(log);
        let opening = tokio::task::spawn_blocking(move || Spool::open(&folder));
        let spool = opening.await.map_err(SpoolError::ended)??;
        Ok(Arc::new(spool))
    }

    /// Spools of logs that are not gone on with hold nothing that can still be used.
    async fn remove_other_spools(&self, log: LogId) {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            let is_spool = entry.file_name().to_str().is_some_and(|name| {
                name.len() == 32 && name != log.hex() && name.bytes().all(|byte| byte.is_ascii_hexdigit())
            });
            if is_spool {
                let _ = tokio::fs::remove_dir_all(entry.path()).await;
            }
        }
    }
}

fn known(log: &LogState) -> Known {
    let fork = log.opened.parent.zip(log.opened.fork);
    Known {
        lineage: LineageId(log.opened.lineage),
        fork: fork.map(|(parent, at)| (LineageId(parent), Position::new(at))),
        end: Position::new(log.end),
    }
}

/// Why a new log begins.
#[derive(Debug, Clone, Copy)]
enum Fresh {
    First,
    AfterGap,
    Fork(Fork),
}
