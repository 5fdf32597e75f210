//! SQLite, as archiving knows it: a file in a volume that is mounted on this machine, followed by a thread.
//!
//! The positions of a log are given by whoever follows. So bases are made by the agent that follows, in this very process, and by
//! no other: a backup that somebody else makes is none.
//!
//! A log's positions begin at a multiple of 2^40 that no log of this database had: what was said of one log never fits another.

mod following;
mod place;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use async_trait::async_trait;
use jiff::Timestamp;
use strongroom_database::{Indexed, LineageId, Position};
use strongroom_log_spool::SpoolError;
use strongroom_model::{LogId, VolumeName};
use strongroom_repository::fold::LogState;
use strongroom_repository::record::LogOpened;
use strongroom_settings::SqliteConfig;
use strongroom_sqlite::{Follower, Reader, SqliteError};
use tokio::sync::{OwnedMutexGuard, oneshot};
use tokio::task::spawn_blocking;

use super::engine::{
    Beginning, Begun, Ended, Engine, EngineError, Fork, Guard, Held, LogReader, ReadFrom, Receiving, Source,
};
use crate::driver::{Driver, DriverError};
use following::{Following, MOST_LOG_BYTES};
use place::Place;

/// A log has so many positions, and the next one begins with the next so many.
const LOG_POSITIONS: u64 = 1 << 40;

/// Where the database was at a moment, or why nobody can say.
type Answer = Result<Reached, SqliteError>;

#[derive(Debug, Clone, Copy)]
struct Reached {
    log: LogId,
    position: Position,
    at: Timestamp,
}

/// A database, and whoever follows it.
#[derive(Debug)]
pub(super) struct Sqlite {
    path: PathBuf,
    volume: VolumeName,
    endpoint: Option<String>,
    /// Our own mount of the volume.
    mount_at: PathBuf,
    asking: Arc<Asking>,
    /// One follower at a time: its files carry locks that another's would drop.
    alone: Arc<tokio::sync::Mutex<()>>,
}

/// To ask whoever follows.
#[derive(Debug, Default)]
struct Asking {
    sender: Mutex<Option<mpsc::Sender<oneshot::Sender<Answer>>>>,
    /// How large the database's own log file is while the spool is full and we make it grow; else nothing.
    held_bytes: AtomicU64,
}

impl Asking {
    /// Reads all that is committed, and says where that ends; `None`: nobody follows.
    async fn ask(&self) -> Option<Answer> {
        let (sender, answer) = oneshot::channel();
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.send(sender).ok()?;
        answer.await.ok()
    }
}

impl Sqlite {
    pub(super) fn new(
        config: &SqliteConfig,
        volume: VolumeName,
        endpoint: Option<String>,
        mount_at: PathBuf,
    ) -> Self {
        let path = config.path.strip_prefix("/").unwrap_or(&config.path).to_owned();
        Self { path, volume, endpoint, mount_at, asking: Arc::default(), alone: Arc::default() }
    }

    /// Where the volume is mounted on this machine.
    async fn mounts(&self) -> Result<Vec<PathBuf>, EngineError> {
        let endpoint = self.endpoint.as_ref().ok_or(SqliteError::NotMounted)?;
        let volumes = Driver::connect(endpoint).await?.volumes().await?;
        let ours = volumes.into_iter().find(|volume| volume.name == self.volume);
        Ok(ours.map(|volume| volume.mounts).unwrap_or_default())
    }
}

impl From<SqliteError> for EngineError {
    fn from(error: SqliteError) -> Self {
        let is_gap = error.is_gap();
        Self::new(error, is_gap)
    }
}

impl From<DriverError> for EngineError {
    fn from(error: DriverError) -> Self {
        Self::new(error, false)
    }
}

#[async_trait]
impl Engine for Sqlite {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    async fn connect(&self) -> Result<Box<dyn Source>, EngineError> {
        let alone = Arc::clone(&self.alone).lock_owned().await;
        let mounts = self.mounts().await?;
        let (path, mount_at) = (self.path.clone(), self.mount_at.clone());
        let opening = spawn_blocking(move || {
            let place = Place::find(&mounts, &path, &mount_at)?;
            Ok::<_, SqliteError>(Open { follower: Follower::open(&place.file(&path))?, place, _alone: alone })
        });
        let open = opening.await.map_err(|error| SqliteError::from(SpoolError::ended(error)))??;
        let path = self.path.display().to_string();
        // The path alone is that of many.
        let identity = format!("{}/{path}", self.volume);
        let asking = Arc::clone(&self.asking);
        Ok(Box::new(Connected { open: Some(open), path, identity, asking, fresh: false }))
    }

    fn reader(&self, opened: &LogOpened, from: ReadFrom) -> Option<Box<dyn LogReader>> {
        // Spool and bundles are cut between frames; so this is where one begins.
        let (ReadFrom::Anywhere(at) | ReadFrom::Boundary(at)) = from;
        Some(Box::new(Reader::new(at, LineageId(opened.lineage))))
    }

    async fn begin_base(&self, opened: &LogOpened) -> Result<Begun, EngineError> {
        let Some(answer) = self.asking.ask().await else {
            return Ok(Begun::No("nobody in this process follows it: the agent makes its bases".to_owned()));
        };
        let reached = answer?;
        if reached.log != opened.log {
            return Ok(Begun::No("its log begins just now".to_owned()));
        }
        let guard = Box::new(Asked { asking: Arc::clone(&self.asking), log: opened.log });
        Ok(Begun::At { start: reached.position, guard })
    }

    /// Whoever follows lets go at the limit by itself.
    async fn held(&self) -> Result<Option<Held>, EngineError> {
        let bytes = self.asking.held_bytes.load(Ordering::Relaxed);
        Ok(Some(Held { bytes, limit_bytes: MOST_LOG_BYTES }))
    }
}

impl LogReader for Reader {
    fn push(&mut self, at: Position, bytes: &[u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self::push(self, at, bytes)?)
    }

    fn cut(&mut self) -> Indexed {
        Self::cut(self)
    }
}

/// Nothing is held of the database: what is in the snapshot was written before whoever follows reads again.
struct Asked {
    asking: Arc<Asking>,
    log: LogId,
}

#[async_trait]
impl Guard for Asked {
    async fn end(self: Box<Self>) -> Result<(Position, Timestamp), EngineError> {
        let reached = self.asking.ask().await.ok_or(SqliteError::NotMounted)??;
        if reached.log == self.log {
            Ok((reached.position, reached.at))
        } else {
            // The old log ended before the cut.
            Err(SqliteError::NotMounted.into())
        }
    }
}

/// A database that is open. Fields go in this order: the mount behind the files in it.
#[derive(Debug)]
struct Open {
    follower: Follower,
    place: Place,
    _alone: OwnedMutexGuard<()>,
}

struct Connected {
    open: Option<Open>,
    path: String,
    identity: String,
    asking: Arc<Asking>,
    /// A log was begun by it: where it is, is known.
    fresh: bool,
}

#[async_trait]
impl Source for Connected {
    fn is_of(&self, opened: &LogOpened) -> Result<(), EngineError> {
        if opened.engine == "sqlite" && opened.identity == self.identity {
            return Ok(());
        }
        let expected = format!("{} {}", opened.engine, opened.identity);
        Err(SqliteError::OtherDatabase { expected, found: format!("sqlite {}", self.identity) }.into())
    }

    async fn beginning(
        &mut self,
        _: Option<Fork>,
        newest: Option<&LogState>,
    ) -> Result<Beginning, EngineError> {
        let begun = newest.map_or(0, |log| log.opened.start / LOG_POSITIONS);
        let start = Position::new((begun + 1) * LOG_POSITIONS);
        // Numbers of commits go on, so that as few as possible come twice.
        let commits = newest.and_then(|log| {
            let last = log.kept().filter_map(|(_, note)| note.commits.as_ref()).next_back();
            let first = log.opened.facts.get("first-commit").and_then(|first| first.parse().ok());
            last.map(|commits| commits.last.transaction).or(first.map(|first: u64| first.saturating_sub(1)))
        });
        let commits = commits.unwrap_or(0);
        let mut open = self.open.take().ok_or(SqliteError::NotMounted)?;
        let beginning = spawn_blocking(move || open.follower.begin_at(start, commits).map(|()| open));
        let open = beginning.await.map_err(|error| SqliteError::from(SpoolError::ended(error)))??;
        self.open = Some(open);
        self.fresh = true;
        Ok(Beginning {
            identity: self.identity.clone(),
            lineage: LineageId(1),
            start,
            fork: None,
            history: None,
            facts: vec![("path", self.path.clone()), ("first-commit", (commits + 1).to_string())],
        })
    }

    async fn receive(mut self: Box<Self>, into: Receiving) -> Result<Ended, EngineError> {
        let open = self.open.take().ok_or(SqliteError::NotMounted)?;
        let (asking, asked) = mpsc::channel();
        *self.asking.sender.lock().unwrap_or_else(PoisonError::into_inner) = Some(asking);
        // Dropped, this ends the thread soon.
        let cancel = into.cancel.child_token();
        let _ends = cancel.clone().drop_guard();
        let whoever = Arc::clone(&self.asking);
        let following = Following::new(open, into, self.path.into(), (asked, whoever), cancel);
        let fresh = self.fresh;
        let done = spawn_blocking(move || following.run(fresh)).await;
        done.map_err(|error| SqliteError::from(SpoolError::ended(error)))??;
        Ok(Ended::Cancelled)
    }
}
