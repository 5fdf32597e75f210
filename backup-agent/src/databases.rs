//! Databases whose log is archived, as it is written.
//!
//! ```text
//! engine      what archiving needs of an engine, and nothing more; everything else here knows none
//! mariadb     MariaDB
//! postgres    PostgreSQL
//! sqlite      SQLite
//! redis       Redis and Valkey, of which no log is archived: asked before a volume is cut
//! archiver    one task a database: connect, find where its log goes on, receive; again after whatever happens
//! uploader    what the spool holds → bundles of 8 MiB or 10 seconds → the repository; now and then a record
//! indexing    what the bytes say: commits, named points
//! guard       what the server keeps for us never fills its disk silently
//! base        what a snapshot has to be told so that it is a base: positions before and after the cut
//! view        pure: from the journal to what the planner knows of a database
//! live        what is going on, for metrics
//! proving     restore tests: when one is due, and carrying it out
//! ```
//! Nothing that matters is remembered here: where a log goes on follows from the repository and the spool, whether a base is
//! missing from the journal.

mod archiver;
mod base;
mod engine;
mod guard;
mod indexing;
mod live;
mod mariadb;
mod postgres;
pub mod proving;
mod redis;
mod sqlite;
mod uploader;
pub mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use strongroom_model::{RecoveryPointId, VolumeName};
use strongroom_repository::{Fold, LogError};
use strongroom_settings::{Config, DatabaseConfig, EngineConfig, RestoreTestConfig};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::run::Agent;

pub use live::{Live, Now};

use engine::Engine;

/// After a backup that became no base, because the database would not say what has to be known, the next is taken for its sake.
const BASE_AGAIN: SignedDuration = SignedDuration::from_mins(1);

/// A database of the configuration.
#[derive(Debug)]
pub struct Database {
    /// What people call it.
    pub name: String,
    /// On which volume it lies.
    pub volume: VolumeName,
    /// How far back any second can be restored.
    pub window: std::time::Duration,
    engine: Arc<dyn Engine>,
    spool_bytes: u64,
    local_bases: usize,
    /// Ends the stream that runs now: the guard lets go of what it would receive next.
    receiving: Mutex<CancellationToken>,
    /// How it is proved that it can be brought back; `None`: it is not.
    pub test: Option<RestoreTestConfig>,
    /// What is going on.
    pub live: Live,
    stream_began: Arc<Notify>,
}

/// All databases of the configuration. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Databases {
    all: Arc<BTreeMap<String, Arc<Database>>>,
    /// Those of which no log is archived: their names and servers, by volume.
    asked: Arc<BTreeMap<VolumeName, (String, redis::Redis)>>,
    stream_began: Arc<Notify>,
}

impl Databases {
    /// Those of a configuration that was checked.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let stream_began = Arc::new(Notify::new());
        let all = config.databases.iter().filter_map(|database| {
            let database = Database::new(database, config, &stream_began)?;
            Some((database.name.clone(), Arc::new(database)))
        });
        let asked = config.databases.iter().filter_map(|database| match &database.engine {
            EngineConfig::Redis(config) => {
                let named = (database.name.value.clone(), redis::Redis::new(config));
                Some((database.volume.clone(), named))
            }
            _ => None,
        });
        Self { all: Arc::new(all.collect()), asked: Arc::new(asked.collect()), stream_began }
    }

    /// To be called before a volume is looked at for a backup: sees to it that what a server holds in memory alone is on it too.
    pub(crate) async fn calm(&self, volume: &VolumeName) {
        let Some((database, server)) = self.asked.get(volume) else { return };
        match server.calm().await {
            Ok(calm) => tracing::info!(
                database, %volume, version = calm.version, identity = calm.identity, holds = %calm,
                "what the volume holds of this database loads as it is"
            ),
            Err(error) => {
                use strongroom_model::Failure as _;
                let (code, advice, error) = (error.code(), error.advice(), strongroom_model::chain(&error));
                tracing::error!(
                    database, %volume, code, error, advice,
                    "the database was not ready for this backup of its volume: it has what the files say, as after a crash"
                );
            }
        }
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Database>> {
        self.all.values()
    }

    /// The database on a volume.
    #[must_use]
    pub fn on(&self, volume: &VolumeName) -> Option<&Arc<Database>> {
        self.iter().find(|database| database.volume == *volume)
    }

    /// How many snapshots of a volume's newest points stay in the pool, at least 1: with which the next point is compared.
    pub(crate) fn local_bases(&self, volume: &VolumeName) -> usize {
        self.on(volume).map_or(1, |database| database.local_bases)
    }

    /// Until the log of one of them comes in that did not before: then a base may be due.
    pub async fn stream_began(&self) {
        self.stream_began.notified().await;
    }

    /// Volumes whose database streams and has no base since its log began: after a gap, or at the very start. A backup
    /// of them is due at once; where one of them became no base, another only after a minute.
    #[must_use]
    pub fn lacking_base(&self, fold: &Fold, now: Timestamp) -> Vec<VolumeName> {
        let may_try = |at: Timestamp| now.duration_since(at) >= BASE_AGAIN;
        let lacks = |database: &&Arc<Database>| {
            let live = database.live.get();
            live.streaming && live.base_failed_at.is_none_or(may_try) && database.lacks_base(fold)
        };
        self.iter().filter(lacks).map(|database| database.volume.clone()).collect()
    }

    /// Whether a volume has a database whose log has no base yet.
    pub(crate) fn lacks_base_on(&self, volume: &VolumeName, fold: &Fold) -> bool {
        self.on(volume).is_some_and(|database| database.lacks_base(fold))
    }

    /// The points without which the oldest seconds of the windows could not be restored: of each database the newest base that
    /// was ready before its window begins. Retention leaves them.
    #[must_use]
    pub fn anchors(&self, fold: &Fold) -> BTreeSet<RecoveryPointId> {
        let anchor =
            |database: &Arc<Database>| Some(view::anchor(fold, &database.name, database.horizon(fold)?)?.id);
        self.iter().filter_map(anchor).collect()
    }

    /// Ends the streams of logs of which a part is lost: another log begins, once what was received is stored.
    pub(crate) fn begin_anew_where_spoiled(&self, fold: &Fold) {
        for database in self.iter() {
            if view::newest_log(fold, &database.name).is_some_and(|log| view::is_spoiled(fold, log)) {
                database.receiving().cancel();
            }
        }
    }

    /// Takes off the logs what is older than the windows and no point needs.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn trim(&self, agent: &Agent) -> Result<(), LogError> {
        for database in self.iter() {
            let fold = agent.repository.known_fold();
            let Some(horizon) = database.horizon(&fold) else { continue };
            for (log, bundles) in view::expendable(&fold, &database.name, horizon) {
                let count = bundles.len();
                agent.repository.trim_log(log, bundles, "older than the window").await?;
                tracing::info!(database = database.name, %log, bundles = count, "trimmed the log of a database");
            }
        }
        Ok(())
    }

    /// Archives them all until `cancel`.
    pub async fn archive(&self, agent: &Arc<Agent>, state_dir: PathBuf, cancel: &CancellationToken) {
        let mut tasks = JoinSet::new();
        for database in self.iter() {
            let folder = folder(&state_dir, &database.name);
            let archiver = archiver::Archiver {
                agent: Arc::clone(agent),
                database: Arc::clone(database),
                folder,
                cancel: cancel.clone(),
            };
            tasks.spawn(archiver.run());
            tasks.spawn(guard::Guard { database: Arc::clone(database), cancel: cancel.clone() }.run());
        }
        while tasks.join_next().await.is_some() {}
    }
}

impl Database {
    /// Where its window begins: counted from the newest moment that the repository knows, never from a clock that runs ahead.
    fn horizon(&self, fold: &Fold) -> Option<Timestamp> {
        let window = SignedDuration::try_from(self.window).unwrap_or(SignedDuration::MAX);
        view::known_until(fold, &self.name)?.checked_sub(window).ok()
    }

    /// What ends the stream that runs now.
    fn receiving(&self) -> CancellationToken {
        self.receiving.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A stream begins that this token ends.
    fn receive_until(&self, token: CancellationToken) {
        *self.receiving.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }

    fn lacks_base(&self, fold: &Fold) -> bool {
        view::newest_log(fold, &self.name).is_some_and(|log| !view::has_base(fold, log))
    }

    /// `None`: its engine cannot be asked in this way, which the configuration was checked for.
    fn new(config: &DatabaseConfig, all: &Config, stream_began: &Arc<Notify>) -> Option<Self> {
        let engine: Arc<dyn Engine> = match &config.engine {
            EngineConfig::Mariadb(mariadb) => Arc::new(mariadb::Mariadb::new(&config.name.value, mariadb)),
            EngineConfig::Postgres(postgres) => {
                Arc::new(postgres::Postgres::new(postgres, config.spool.bytes())?)
            }
            // It has no log.
            EngineConfig::Redis(_) => return None,
            EngineConfig::Sqlite(sqlite) => Arc::new(sqlite::Sqlite::new(
                sqlite,
                config.volume.clone(),
                all.driver.as_ref().map(|driver| driver.endpoint.clone()),
                folder(&all.agent.state_dir, &config.name.value).join("volume"),
            )),
        };
        Some(Self {
            name: config.name.value.clone(),
            volume: config.volume.clone(),
            window: config.window.get(),
            engine,
            test: config.test.clone(),
            spool_bytes: config.spool.bytes(),
            local_bases: usize::from(config.local_bases.get()),
            receiving: Mutex::default(),
            live: Live::default(),
            stream_began: Arc::clone(stream_began),
        })
    }
}

/// What is kept of a database on this machine's disk.
fn folder(state_dir: &Path, database: &str) -> PathBuf {
    state_dir.join("databases").join(database)
}
