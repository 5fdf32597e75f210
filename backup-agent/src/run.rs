//! One backup of one volume, from its snapshot to its recovery point.
//!
//! ```text
//! session -> parent -> snapshot -> what changed? -> capture -> publish -> the old base goes
//! ```
//! What can be relied on is in the repository and at the driver. The newest point says which snapshot it was taken from; while
//! that snapshot exists, only what changed since is read. Otherwise all that is allocated is read and compared by hash:
//! never a guess. A run that was killed left its session open, and what it stored is found there; the snapshot that it left is a
//! stray, and goes with the next run.

mod error;
mod lock;
mod source;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use strongroom_block_io::BlockSource;
use strongroom_console::Progress;
use strongroom_model::{Failure as _, RecoveryPointId, Remedy, VolumeName, World, chain};
use strongroom_object_store::Counts;
use strongroom_repository::map::{MapError, MapReader};
use strongroom_repository::{
    Draft, DraftMap, Point, PointInfo, PublishError, Published, Repository, Session,
};
use tokio_util::sync::CancellationToken;

use crate::capture::{Budget, Capture, CaptureError, Meter, Scope, Tally, capture};
use crate::databases::Databases;
use crate::driver::{Driver, Snapshot, Volume};

pub use error::BackupError;

use lock::Lock;
use source::Opened;

/// How often a publish is tried again in another way: after a fence, or after a sweep took what the map refers to.
const ATTEMPTS: u32 = 3;

/// What all backups of a process share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Where to.
    pub repository: Repository,
    /// Counts the requests of its store.
    pub counts: Arc<Counts>,
    /// What time it is, and randomness.
    pub world: World,
    /// As whom.
    pub name: String,
    /// Where locks go, so that no volume is backed up twice at the same time on this machine. `None`: nowhere.
    pub state_dir: Option<PathBuf>,
    /// What one backup may hold in memory.
    pub budget: Budget,
    /// A backup that moves nothing for this long has failed.
    pub stall_after: Duration,
    /// The databases that lie on volumes: backups of these are bases of them.
    pub databases: Databases,
}

/// What is backed up.
#[derive(Debug, Clone)]
pub enum Target {
    /// A volume of a driver.
    Volume(Driver, Volume),
    /// A snapshot that was cut for a point whose id is chosen already.
    Cut(Driver, Box<Cut>),
    /// An image file or block device.
    Image(VolumeName, PathBuf),
    /// An image that somebody else reads, and says all about.
    Given(Box<Given>),
}

impl Target {
    /// The name under which its points are kept.
    #[must_use]
    pub const fn name(&self) -> &VolumeName {
        match self {
            Self::Volume(_, volume) => &volume.name,
            Self::Cut(_, cut) => &cut.volume.name,
            Self::Image(name, _) => name,
            Self::Given(given) => &given.volume,
        }
    }

    /// What it is read from, whatever name its points have: a volume of a driver, or a file.
    fn origin(&self) -> String {
        match self {
            Self::Volume(_, volume) => volume.id.to_string(),
            Self::Cut(_, cut) => cut.volume.id.to_string(),
            Self::Image(_, path) => {
                std::fs::canonicalize(path).unwrap_or_else(|_| path.clone()).display().to_string()
            }
            Self::Given(given) => given.path.clone(),
        }
    }
}

/// An image that is neither a file here nor a volume of a driver: one in a backup of another program.
#[derive(Debug, Clone)]
pub struct Given {
    /// The name under which its points are kept.
    pub volume: VolumeName,
    /// Its bytes. They must not change.
    pub source: Arc<dyn BlockSource>,
    /// The moment of its content.
    pub taken_at: Timestamp,
    /// Its path where it came from, for people.
    pub path: String,
    /// What its point says besides.
    pub labels: BTreeMap<String, String>,
}

/// A snapshot of a driver that shall become a recovery point. Its volume may be gone by now.
#[derive(Debug, Clone)]
pub struct Cut {
    /// The volume, as it was.
    pub volume: Volume,
    /// The snapshot.
    pub snapshot: Snapshot,
    /// The id that the point shall have.
    pub point: RecoveryPointId,
}

/// How much of a volume was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// All that is allocated, and nothing to compare it with.
    Full,
    /// All that is allocated, compared by hash with the point before.
    Compared,
    /// Only what changed since the point before.
    Incremental,
    /// Nothing: nothing changed.
    Unchanged,
}

/// What a backup did.
#[derive(Debug, Clone, Serialize)]
pub struct BackupReport {
    /// Of which volume.
    pub volume: VolumeName,
    /// The new recovery point.
    pub point: RecoveryPointId,
    /// The moment of its content.
    pub taken_at: Timestamp,
    /// The point that it was compared with.
    pub parent: Option<RecoveryPointId>,
    /// How much was looked at.
    pub mode: Mode,
    /// The size of the volume.
    pub volume_bytes: u64,
    /// What was read, what differed, and what nobody had.
    #[serde(flatten)]
    pub tally: Tally,
    /// Bytes of packs that were sent, compressed and sealed.
    pub sent_bytes: u64,
    /// Requests to the store, those of other backups at the same time among them.
    pub requests: u64,
    /// From the cut to the end.
    pub duration_ms: u64,
    /// The journal record that published it.
    pub record: u64,
    /// The hash of that record: with it a machine that never saw the repository can tell a rollback.
    pub record_hash: String,
}

/// Backs a volume up.
///
/// # Errors
/// When no point was published. What was stored is kept for the next run.
pub async fn back_up(
    agent: &Agent,
    target: &Target,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<BackupReport, BackupError> {
    let name = target.name();
    let _lock = agent.state_dir.as_deref().map(|dir| Lock::take(dir, name)).transpose()?;
    let begun = agent.world.clock.now();
    let requests = agent.counts.all_requests();

    progress.stage("opening");
    agent.repository.assign_volume(name, &target.origin())?;
    let session = agent.repository.open_session(&format!("backup of {name:?}")).await?;
    let kept_bytes = stored_bytes(&session);
    let mut run = Run {
        agent,
        target,
        progress,
        cancel,
        session: Some(Arc::new(session)),
        begun,
        requests,
        kept_bytes,
        alone: false,
    };
    match run.run().await {
        Ok(report) => Ok(report),
        Err(error) => {
            run.leave().await;
            Err(error)
        }
    }
}

struct Run<'a> {
    agent: &'a Agent,
    target: &'a Target,
    progress: &'a Progress,
    cancel: &'a CancellationToken,
    /// `None` only while one session gives way to the next.
    session: Option<Arc<Session>>,
    begun: Timestamp,
    requests: u64,
    kept_bytes: u64,
    /// The map of the point before turned out to be damaged: everything is read, and the new map is written whole.
    alone: bool,
}

impl Run<'_> {
    async fn run(&mut self) -> Result<BackupReport, BackupError> {
        self.progress.stage("snapshot");
        let opened = Opened::open(self.agent, self.target, &self.session().fold()).await?;
        let mut attempt = 1;
        let (published, mode, info) = loop {
            match self.attempt(&opened).await {
                // A sweep took what the map refers to: this session stores it anew.
                Err(BackupError::Publish(PublishError::Gone { pack })) if attempt < ATTEMPTS => {
                    tracing::warn!(%pack, volume = %self.target.name(), "the map refers to what was swept meanwhile; reading again");
                    attempt += 1;
                }
                // Only reading the parent's map can fail like this, and a backup must not fail for ever because of it.
                Err(BackupError::Capture(CaptureError::Map(error)))
                    if error.remedy() == Remedy::FixData && !self.alone && opened.parent.is_some() =>
                {
                    tracing::error!(
                        volume = %self.target.name(), code = error.code(), error = chain(&error),
                        "the map of the point before is damaged; backing up without it"
                    );
                    self.alone = true;
                }
                other => break other?,
            }
        };
        self.progress.stage("tidying");
        opened.tidy().await;
        Ok(BackupReport {
            volume: self.target.name().clone(),
            point: published.point,
            taken_at: info.taken_at,
            parent: opened.parent.as_ref().filter(|_| !self.alone).map(|parent| parent.id),
            mode,
            volume_bytes: info.volume_bytes,
            tally: Tally {
                scanned_bytes: info.scanned_bytes,
                changed_bytes: info.changed_bytes,
                new_bytes: info.new_bytes,
            },
            sent_bytes: info.sent_bytes,
            requests: self.agent.counts.all_requests().saturating_sub(self.requests),
            duration_ms: self.elapsed_ms(),
            record: published.number,
            record_hash: published.hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }

    /// Reads, stores and publishes.
    async fn attempt(&mut self, opened: &Opened) -> Result<(Published, Mode, PointInfo), BackupError> {
        self.progress.stage("comparing");
        let (map, mode, tally) = self.capture(opened).await?;
        opened.check_unchanged()?;
        self.progress.stage("publishing");
        let info = PointInfo {
            taken_at: opened.taken_at,
            published_at: self.agent.world.clock.now(),
            volume_bytes: opened.source.bytes(),
            source: opened.provenance.clone(),
            fs: opened.fs.clone(),
            labels: opened.labels.clone(),
            agent: self.agent.name.clone(),
            scanned_bytes: tally.scanned_bytes,
            changed_bytes: tally.changed_bytes,
            new_bytes: tally.new_bytes,
            sent_bytes: stored_bytes(self.session()).saturating_sub(self.kept_bytes),
            duration_ms: self.elapsed_ms(),
            requests: self.agent.counts.all_requests().saturating_sub(self.requests),
            database: opened.database.clone(),
        };
        let parent = opened.parent.clone().filter(|_| !self.alone);
        let draft = Draft { volume: self.target.name().clone(), parent, map, info: info.clone() };
        let published = self.publish(draft).await?;
        Ok((published, mode, info))
    }

    /// The map of the volume as it is now.
    async fn capture(&mut self, opened: &Opened) -> Result<(DraftMap, Mode, Tally), BackupError> {
        // Where a check found damage, the map is looked at below, and what is lost is stored anew.
        if opened.holds_still() && !self.alone && !self.agent.repository.knows_damage() {
            return Ok((DraftMap::SameAsParent, Mode::Unchanged, Tally::default()));
        }
        let before = match opened.parent.as_ref().filter(|_| !self.alone) {
            Some(parent) => self.parent_map(parent).await?,
            None => None,
        };
        self.alone |= before.is_none();
        let same_size = before.as_ref().is_some_and(|map| map.head().volume_bytes == opened.source.bytes());
        let (scope, mode) = match opened.changes(before).await? {
            Scope::Delta(changes, parent) => {
                let (changes, none) = source::peek(changes).await?;
                if none && same_size {
                    return Ok((DraftMap::SameAsParent, Mode::Unchanged, Tally::default()));
                }
                (Scope::Delta(changes, parent), Mode::Incremental)
            }
            Scope::Allocated(None) => (Scope::Allocated(None), Mode::Full),
            Scope::Listed(changes, None) => (Scope::Listed(changes, None), Mode::Full),
            scope => (scope, Mode::Compared),
        };
        let meter = Arc::new(Meter::new());
        if mode != Mode::Incremental {
            self.progress.set_total(opened.source.bytes());
        }
        self.progress.stage("storing");
        let cancel = self.cancel.child_token();
        let capturing = capture(Capture {
            repository: self.agent.repository.clone(),
            session: Arc::clone(self.session()),
            source: Arc::clone(&opened.source),
            scope,
            budget: self.agent.budget,
            meter: Arc::clone(&meter),
            cancel: cancel.clone(),
        });
        let map = watch::watched(capturing, self.agent, &meter, mode, self.progress, &cancel).await?;
        Ok((DraftMap::Written(map), mode, meter.tally()))
    }

    /// The map of the parent. One that is damaged, or refers to entries that a check found damaged, is done without: then
    /// everything is read, and what cannot be had in the repository any more is stored again, which heals. The same where
    /// this key does not open it: what was sealed before write-only keys were switched on.
    async fn parent_map(&self, parent: &Point) -> Result<Option<MapReader>, BackupError> {
        let sound = async {
            let map = self.agent.repository.map(parent).await?;
            let refers = self.agent.repository.refers_to_damage(&map).await?;
            if refers {
                tracing::warn!(point = %parent.id, "the point before refers to entries that a check found damaged; reading everything");
            }
            Ok::<_, MapError>((!refers).then_some(map))
        };
        match sound.await {
            Ok(map) => Ok(map),
            Err(error) if error.remedy() == Remedy::FixData => {
                tracing::error!(point = %parent.id, error = chain(&error), "the map of the point before is damaged; backing up without it");
                Ok(None)
            }
            Err(error) if error.code() == "seal.unknown-epoch" => {
                tracing::warn!(point = %parent.id, error = chain(&error), "this key does not open the map of the point before; backing up without it");
                Ok(None)
            }
            Err(error) => Err(BackupError::Parent { point: parent.id, cause: error }),
        }
    }

    async fn publish(&mut self, draft: Draft) -> Result<Published, BackupError> {
        let mut attempt = 1;
        loop {
            let published = match self.target {
                Target::Cut(_, cut) => self.session().publish_under(cut.point, draft.clone(), true).await,
                Target::Volume(..) | Target::Image(..) | Target::Given(_) => {
                    self.session().publish(draft.clone(), true).await
                }
            };
            match published {
                Err(PublishError::Fenced { session }) if attempt < ATTEMPTS => {
                    tracing::warn!(session, "this session was fenced; going on in a new one");
                    attempt += 1;
                    self.reopen(session).await?;
                }
                other => return Ok(other?),
            }
        }
    }

    async fn reopen(&mut self, fenced: u64) -> Result<(), BackupError> {
        // The rooms are gone, so this is the only handle; if one hangs in a read after all, the run ends here.
        let session =
            self.session.take().and_then(Arc::into_inner).ok_or(PublishError::Fenced { session: fenced })?;
        self.session = Some(Arc::new(session.reopen().await?));
        Ok(())
    }

    /// After an error: a session that stored nothing is closed; one that did stays open for the next run.
    async fn leave(self) {
        if let Some(session) = self.session.and_then(Arc::into_inner)
            && session.receipts().stored().is_empty()
        {
            // When it cannot be closed, it is taken up again or fenced, like that of a killed run.
            let _ = session.close().await;
        }
    }

    const fn session(&self) -> &Arc<Session> {
        self.session.as_ref().expect("there is a session but while one gives way to the next")
    }

    fn elapsed_ms(&self) -> u64 {
        let now = self.agent.world.clock.now();
        u64::try_from(now.as_millisecond() - self.begun.as_millisecond()).unwrap_or(0)
    }
}

fn stored_bytes(session: &Session) -> u64 {
    session.receipts().stored().iter().map(strongroom_repository::pack::StoredPack::bytes).sum()
}

#[cfg(test)]
mod tests;
