//! The task of one database: finds where its log goes on, receives it, and comes again after whatever happens.
//!
//! A log goes on where the repository and the spool end. Where the server no longer has what comes next, there is a gap: it is said
//! loudly, and a new log begins, whose first base the daemon takes at once. Where the timeline ends, what is left of it is stored,
//! and a log of the next begins.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use strongroom_database::{LineageId, Position};
use strongroom_model::{Failure, LogId, Remedy, chain};
use strongroom_postgres::receiver::{Ended, Progress, Receiver};
use strongroom_postgres::spool::Spool;
use strongroom_postgres::{PostgresError, ReplicationConnection, System};
use strongroom_repository::record::LogOpened;
use strongroom_repository::{JournalError, LogError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

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
    #[error("the server")]
    Server(#[from] PostgresError),
    #[error("the repository")]
    Log(#[from] LogError),
    #[error("the journal")]
    Journal(#[from] JournalError),
}

impl Trouble {
    fn failure(&self) -> &dyn Failure {
        match self {
            Self::Server(cause) => cause,
            Self::Log(cause) => cause,
            Self::Journal(cause) => cause,
        }
    }
}

/// A log to go on with.
struct Going {
    log: LogId,
    timeline: LineageId,
    /// The next bundle, and where it begins.
    number: u32,
    archived: Position,
    uncovered: Vec<strongroom_repository::record::BundleNote>,
    spool: Arc<Spool>,
    /// Where the stream goes on.
    from: Position,
    indexing: Indexing,
}

impl Archiver {
    pub(super) async fn run(self) {
        if self.agent.repository.is_shared() {
            // Before anything is asked of the server: a slot that nobody receives from would fill its disk.
            return self.tell(&LogError::Shared.into(), true);
        }
        let mut failures = 0_u32;
        // The log after a gap or a new timeline, until it is opened.
        let mut fresh = None;
        while !self.cancel.is_cancelled() {
            let began = tokio::time::Instant::now();
            match self.once(&mut fresh).await {
                Ok(()) => failures = 0,
                Err(trouble) => {
                    if began.elapsed() > WELL_AFTER {
                        failures = 0;
                    }
                    self.tell(&trouble, failures == 0);
                    fresh = self.after(&trouble).or(fresh);
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
    fn after(&self, trouble: &Trouble) -> Option<Fresh> {
        match trouble {
            Trouble::Server(PostgresError::Gap { .. }) => {
                self.database.live.update(|now| now.gaps += 1);
                Some(Fresh::AfterGap)
            }
            // Somebody else wrote under our numbers: theirs stays theirs.
            Trouble::Log(LogError::Taken { .. }) => Some(Fresh::AfterGap),
            // What the spool held and was not stored is asked for again by the next log.
            Trouble::Server(PostgresError::SpoolDamaged { .. }) => Some(Fresh::AfterGap),
            _ => None,
        }
    }

    /// One connection, from finding where to go on until it ends.
    async fn once(&self, fresh: &mut Option<Fresh>) -> Result<(), Trouble> {
        let database = &self.database;
        let mut connection = ReplicationConnection::open(&database.target).await?;
        // The slot first: from here on the server keeps what the log will begin with.
        connection.create_slot(&database.slot).await?;
        let system = connection.identify().await?;
        let going = match fresh.take() {
            Some(why) => self.begin(&mut connection, &system, why).await?,
            None => match self.go_on(&system).await? {
                Some(going) => going,
                None => self.begin(&mut connection, &system, Fresh::First).await?,
            },
        };
        let (progress, seen) = watch::channel(Progress { flushed: going.from, ..Progress::default() });
        let receiver = Receiver {
            slot: database.slot.clone(),
            timeline: going.timeline,
            spool: Arc::clone(&going.spool),
            budget_bytes: database.spool_bytes,
            world: self.agent.world.clone(),
        };
        let timeline = going.timeline;
        let mut uploader = Uploader {
            agent: Arc::clone(&self.agent),
            database: Arc::clone(database),
            log: going.log,
            spool: going.spool,
            number: going.number,
            end: going.archived,
            uncovered: going.uncovered,
            uncovered_since: None,
            heard_at: None,
            progress: seen,
            indexing: Some(going.indexing),
        };
        tracing::info!(
            database = database.name, log = %going.log, %timeline, from = %going.from, encrypted = connection.is_encrypted(),
            "archiving the log of a database"
        );
        let upload_stop = self.cancel.child_token();
        let receiving = receiver.receive(connection, &system, going.from, &progress, &self.cancel);
        tokio::pin!(receiving);
        let ended = {
            let uploading = uploader.run(&upload_stop);
            tokio::pin!(uploading);
            tokio::select! {
                ended = &mut receiving => {
                    upload_stop.cancel();
                    let uploaded = (&mut uploading).await;
                    let ended = ended?;
                    uploaded?;
                    ended
                }
                uploaded = &mut uploading => {
                    uploaded?;
                    // It ends by itself only when we stop.
                    (&mut receiving).await?
                }
            }
        };
        if let Ended::Timeline { next, at } = ended {
            tracing::warn!(database = database.name, %timeline, %next, %at, "the database went on in a new timeline");
            // All of the old one, so that its log is whole when the new one begins.
            tokio::select! {
                drained = uploader.drain() => drained?,
                () = self.cancel.cancelled() => {}
            }
            *fresh = Some(Fresh::Timeline { next, parent: timeline, at });
        }
        Ok(())
    }

    /// Where a log of this very cluster and timeline goes on; `None`: there is none.
    async fn go_on(&self, system: &System) -> Result<Option<Going>, Trouble> {
        let fold = self.agent.repository.fold().await?;
        let Some(state) = view::newest_log(&fold, &self.database.name) else { return Ok(None) };
        let found: u64 = system.identifier;
        if let Ok(expected) = state.opened.identity.parse::<u64>()
            && expected != found
        {
            return Err(PostgresError::OtherCluster { expected, found }.into());
        }
        let (log, timeline) = (state.opened.log, LineageId(state.opened.lineage));
        let uncovered = self.agent.repository.bundles_beyond(log, state.next, state.end).await?;
        let beyond = u32::try_from(uncovered.len()).unwrap_or(u32::MAX);
        let archived = Position::new(uncovered.last().map_or(state.end, |last| last.to));
        let spool = self.spool(log).await?;
        let from = match spool.range() {
            // What it holds is needed or stored already, and follows on.
            Some((start, end)) if start <= archived && archived <= end => end,
            // Behind what is stored: an older state of this machine's disk.
            Some((_, end)) if end < archived => {
                spool.release(end)?;
                archived
            }
            // A spool that begins behind the repository's end: what is between is in neither. The slot may still have it.
            Some((start, _)) => {
                let message = format!("the repository ends at {archived}, the spool begins at {start}");
                return Err(PostgresError::Gap { from: archived, timeline, message }.into());
            }
            None => archived,
        };
        let number = state.next.saturating_add(beyond);
        let last = uncovered.last().or_else(|| state.bundles.get(&(state.next - 1)));
        let indexing =
            Indexing::resume(&self.agent.repository, &state.opened, (number, archived), last).await?;
        Ok(Some(Going { log, timeline, number, archived, uncovered, spool, from, indexing }))
    }

    /// Opens a log that begins with the segment that the server writes, or in which the last timeline ended.
    async fn begin(
        &self,
        connection: &mut ReplicationConnection,
        system: &System,
        why: Fresh,
    ) -> Result<Going, Trouble> {
        let (timeline, at, fork) = match why {
            Fresh::Timeline { next, parent, at } => (next, at, Some((parent, at))),
            Fresh::First | Fresh::AfterGap => (system.timeline, system.flushed, None),
        };
        let history = match timeline {
            LineageId(1) => None,
            timeline => Some(connection.timeline_history(timeline).await?),
        };
        // Where nobody saw the fork, the server's own account of it does.
        let fork = fork.or_else(|| history.as_deref().and_then(view::last_fork));
        let log = LogId::random(&*self.agent.world.entropy);
        let start = at.segment_start(system.segment_bytes);
        let facts = [
            ("version".to_owned(), system.version.clone()),
            ("segment-bytes".to_owned(), system.segment_bytes.to_string()),
        ];
        let opened = LogOpened {
            log,
            database: self.database.name.clone(),
            volume: Some(self.database.volume.clone()),
            engine: "postgresql".to_owned(),
            identity: system.identifier.to_string(),
            lineage: timeline.0,
            start: start.number(),
            parent: fork.map(|(parent, _)| parent.0),
            fork: fork.map(|(_, at)| at.number()),
            history,
            began_at: self.agent.world.clock.now(),
            facts: facts.into(),
        };
        let indexing = Indexing::resume(&self.agent.repository, &opened, (1, start), None).await?;
        self.agent.repository.open_log(opened).await?;
        match why {
            Fresh::AfterGap => tracing::error!(
                database = self.database.name, %log, %start,
                "the log of a database has a GAP before this: nothing in it can be restored; a new base is taken at once"
            ),
            _ => tracing::info!(database = self.database.name, %log, %timeline, %start, "a log begins"),
        }
        self.remove_other_spools(log).await;
        let spool = self.spool(log).await?;
        Ok(Going {
            log,
            timeline,
            number: 1,
            archived: start,
            uncovered: Vec::new(),
            spool,
            from: start,
            indexing,
        })
    }

    async fn spool(&self, log: LogId) -> Result<Arc<Spool>, Trouble> {
        let folder = self.folder.join(log.hex());
        let opening = tokio::task::spawn_blocking(move || Spool::open(&folder));
        let spool = opening.await.map_err(|error| PostgresError::Spool {
            path: self.folder.clone(),
            cause: std::io::Error::other(error),
        })??;
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

/// Why a new log begins.
#[derive(Debug, Clone, Copy)]
enum Fresh {
    First,
    AfterGap,
    Timeline { next: LineageId, parent: LineageId, at: Position },
}
