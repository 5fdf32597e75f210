//! Making a snapshot a base: what is asked of the database before and after the cut.
//!
//! A database that does not answer costs the base, never the backup; and a backup that does not come back from the cut never costs
//! the database: what is held of it is let go of by a watchdog.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use strongroom_database::Position;
use strongroom_model::{LogId, VolumeName, chain};
use strongroom_repository::Fold;
use strongroom_repository::record::BaseOfDatabase;
use tokio_util::task::AbortOnDropHandle;

use super::engine::{Begun, Guard};
use super::{Database, Databases, view};

/// For how long a database may be held. A cut takes some tenths of a second; with very many extents two seconds.
const MOST_HELD: Duration = Duration::from_secs(30);

/// The beginning of a base, before the cut. Dropped, it lets go of the database.
pub(crate) struct BaseMark {
    database: Arc<Database>,
    log: LogId,
    /// From here on it is replayed.
    start: Position,
    held: Arc<Mutex<Option<Box<dyn Guard>>>>,
    _watchdog: AbortOnDropHandle<()>,
}

impl Databases {
    /// To be called before a volume is cut. `None`: it has no database, or none that is archived now.
    pub(crate) async fn begin_base(
        &self,
        volume: &VolumeName,
        fold: &Fold,
        now: Timestamp,
    ) -> Option<BaseMark> {
        let database = self.on(volume)?;
        let log = view::newest_log(fold, &database.name)?;
        let why = match database.engine.begin_base(&log.opened).await {
            // It could not be replayed past that.
            Ok(Begun::At { start, .. }) if start < view::base_from(log) => {
                format!(
                    "its last checkpoint ({start}) lies before a damaged part of its log: grant the role pg_checkpoint, or wait for the next"
                )
            }
            Ok(Begun::At { start, guard }) => {
                return Some(BaseMark::new(Arc::clone(database), log.opened.log, start, guard));
            }
            Ok(Begun::No(why)) => why,
            Err(error) => chain(&error),
        };
        database.no_base(now, &why);
        None
    }
}

impl Database {
    /// The backup is one all the same.
    fn no_base(&self, now: Timestamp, why: &str) {
        self.live.update(|live| live.base_failed_at = Some(now));
        let (database, volume) = (&self.name, &self.volume);
        tracing::warn!(database, %volume, why, "this backup of its volume is no base of the database");
    }
}

impl BaseMark {
    fn new(database: Arc<Database>, log: LogId, start: Position, guard: Box<dyn Guard>) -> Self {
        let held = Arc::new(Mutex::new(Some(guard)));
        let watched = Arc::clone(&held);
        let watchdog = AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::time::sleep(MOST_HELD).await;
            drop(take(&watched));
        }));
        Self { database, log, start, held, _watchdog: watchdog }
    }

    /// To be called after the cut.
    pub(crate) async fn end(self, now: Timestamp) -> Option<BaseOfDatabase> {
        let Some(guard) = take(&self.held) else {
            self.database.no_base(now, "the cut took so long that the database was let go before it");
            return None;
        };
        match guard.end().await {
            Ok((end, ready_at)) => {
                self.database.live.update(|live| {
                    live.base_failed_at = None;
                    live.base_ready_at = Some(ready_at);
                });
                Some(BaseOfDatabase {
                    log: self.log,
                    start: self.start.number(),
                    end: end.number(),
                    ready_at,
                })
            }
            Err(error) => {
                self.database.no_base(now, &chain(&error));
                None
            }
        }
    }
}

fn take(held: &Mutex<Option<Box<dyn Guard>>>) -> Option<Box<dyn Guard>> {
    held.lock().unwrap_or_else(PoisonError::into_inner).take()
}
