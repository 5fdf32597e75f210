//! What is read: a fresh snapshot of a driver's volume, or an image as it is; and what to compare it with.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use strongroom_block_io::{BlockSource, Caching, FileSource};
use strongroom_model::{SnapshotId, VolumeId, VolumeName, chain};
use strongroom_repository::map::MapReader;
use strongroom_repository::record::BaseOfDatabase;
use strongroom_repository::{Fold, Point, Source};

use super::{Agent, BackupError, Cut, Given, Target};
use crate::capture::{CaptureError, Changes, Scope};
use crate::driver::{Driver, Snapshot, Volume};

/// A source that is open, with what its point will say of it.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) source: Arc<dyn BlockSource>,
    pub(super) taken_at: Timestamp,
    pub(super) provenance: Source,
    pub(super) fs: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
    /// What makes it a base of the database on the volume.
    pub(super) database: Option<BaseOfDatabase>,
    /// The point to compare with.
    pub(super) parent: Option<Point>,
    from: From,
}

#[derive(Debug)]
enum From {
    Snapshot {
        driver: Driver,
        snapshot: SnapshotId,
        /// The snapshot of the parent, if it still exists.
        base: Option<SnapshotId>,
        /// Snapshots that nobody needs once the new point is published.
        then: Vec<SnapshotId>,
    },
    Image {
        path: PathBuf,
        before: Option<Stamp>,
    },
    Given,
}

/// Changes when somebody writes to a file.
type Stamp = (i64, i64, i64, i64, u64);

impl Opened {
    pub(super) async fn open(agent: &Agent, target: &Target, fold: &Fold) -> Result<Self, BackupError> {
        match target {
            Target::Volume(driver, volume) => Self::snapshot(agent, driver, volume, fold).await,
            Target::Cut(driver, cut) => Self::cut(agent, driver, cut, fold).await,
            Target::Image(name, path) => Self::image(agent, name, path, fold).await,
            Target::Given(given) => Ok(Self::given(given, fold)),
        }
    }

    async fn snapshot(
        agent: &Agent,
        driver: &Driver,
        volume: &Volume,
        fold: &Fold,
    ) -> Result<Self, BackupError> {
        if let Some(why) = &volume.trouble {
            return Err(BackupError::NotReady { volume: volume.name.clone(), why: why.clone() });
        }
        agent.databases.calm(&volume.name).await;
        let repository = agent.repository.id();
        let Before { parent, base, kept } = before(agent, driver, volume, fold).await?;
        // A database whose log has no base yet needs a snapshot around which it was asked, also where nothing was written.
        if !agent.databases.lacks_base_on(&volume.name, fold)
            && let Some(base) = &base
            && let Some(at) = still_as(driver, volume, base).await
        {
            // The snapshot of the point before is that of this point as well, and stays.
            let path = driver.open(base.id).await?;
            let same = Snapshot { taken_at: at, ..base.clone() };
            return Self::over(driver, volume, &same, path, parent, Some(base), Vec::new()).await;
        }
        let mut drawn = [0; 4];
        agent.world.entropy.fill(&mut drawn);
        let now = agent.world.clock.now();
        let label = format!("backup-{}-{:08x}", now.strftime("%Y%m%dT%H%M%SZ"), u32::from_le_bytes(drawn));
        let mark = agent.databases.begin_base(&volume.name, fold, now).await;
        let snapshot = driver.cut(volume.id, &label, repository).await?;
        let database = match mark {
            Some(mark) => mark.end(now).await,
            None => None,
        };
        let path = match driver.open(snapshot.id).await {
            Ok(path) => path,
            Err(error) => {
                forget(driver, snapshot.id).await;
                return Err(error.into());
            }
        };
        let then = too_many(agent, volume, kept.iter());
        let mut opened = Self::over(driver, volume, &snapshot, path, parent, base.as_ref(), then).await?;
        opened.database = database;
        Ok(opened)
    }

    /// A snapshot that somebody else took, and will delete or hand over to the agent when it is a point.
    async fn cut(agent: &Agent, driver: &Driver, cut: &Cut, fold: &Fold) -> Result<Self, BackupError> {
        let Before { parent, base, kept } = before(agent, driver, &cut.volume, fold).await?;
        let path = driver.open(cut.snapshot.id).await?;
        // It becomes the base of the next run, unless there is a younger one.
        let older = kept.iter().filter(|kept| kept.taken_at <= cut.snapshot.taken_at);
        let then = too_many(agent, &cut.volume, older);
        Self::over(driver, &cut.volume, &cut.snapshot, path, parent, base.as_ref(), then).await
    }

    async fn over(
        driver: &Driver,
        volume: &Volume,
        snapshot: &Snapshot,
        path: PathBuf,
        parent: Option<&Point>,
        base: Option<&Snapshot>,
        then: Vec<SnapshotId>,
    ) -> Result<Self, BackupError> {
        let source = open_file(path.clone()).await.map_err(|cause| BackupError::Open { path, cause })?;
        Ok(Self {
            source: Arc::new(source),
            taken_at: snapshot.taken_at,
            provenance: Source::Driver {
                node: driver.node().to_owned(),
                volume: volume.id,
                snapshot: snapshot.id,
            },
            fs: volume.fs.clone(),
            labels: volume.labels.clone(),
            database: None,
            parent: parent.cloned(),
            from: From::Snapshot {
                driver: driver.clone(),
                snapshot: snapshot.id,
                base: base.map(|base| base.id),
                then,
            },
        })
    }

    async fn image(agent: &Agent, name: &VolumeName, path: &Path, fold: &Fold) -> Result<Self, BackupError> {
        let source = open_file(path.to_owned())
            .await
            .map_err(|cause| BackupError::Open { path: path.to_owned(), cause })?;
        let shown = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Ok(Self {
            source: Arc::new(source),
            taken_at: agent.world.clock.now(),
            provenance: Source::Image { path: shown.display().to_string() },
            fs: None,
            labels: BTreeMap::new(),
            database: None,
            parent: fold.points_of(name).last().map(|point| (*point).clone()),
            from: From::Image { path: path.to_owned(), before: stamp(path) },
        })
    }

    /// Its bytes are what they were: compared with the point before it in time, or with the newest.
    fn given(given: &Given, fold: &Fold) -> Self {
        let points = fold.points_of(&given.volume);
        let before = points.iter().rev().find(|point| point.info.taken_at <= given.taken_at);
        Self {
            source: Arc::clone(&given.source),
            taken_at: given.taken_at,
            provenance: Source::Image { path: given.path.clone() },
            fs: None,
            labels: given.labels.clone(),
            database: None,
            parent: before.or(points.last()).map(|point| (*point).clone()),
            from: From::Given,
        }
    }

    /// What is to be read, given the map of the parent.
    pub(super) async fn changes(&self, parent: Option<MapReader>) -> Result<Scope, BackupError> {
        match &self.from {
            From::Image { .. } | From::Given => Ok(Scope::Allocated(parent)),
            From::Snapshot { driver, snapshot, base: Some(base), .. } if parent.is_some() => {
                let changes = driver.changes(*base, *snapshot).await?;
                Ok(match parent {
                    Some(parent) => Scope::Delta(changes, parent),
                    None => Scope::Listed(changes, None),
                })
            }
            From::Snapshot { driver, snapshot, .. } => {
                Ok(Scope::Listed(driver.allocated(*snapshot).await?, parent))
            }
        }
    }

    /// Whether it is known, before anything is read, that nothing was written since the parent.
    pub(super) fn holds_still(&self) -> bool {
        matches!(&self.from, From::Snapshot { snapshot, base: Some(base), .. } if snapshot == base)
            && self.parent.as_ref().is_some_and(|parent| parent.info.volume_bytes == self.source.bytes())
    }

    /// Whether what was read is still what it was. A snapshot is.
    pub(super) fn check_unchanged(&self) -> Result<(), BackupError> {
        match &self.from {
            From::Image { path, before: Some(before) } if stamp(path) != Some(*before) => {
                Err(BackupError::Written { path: path.clone() })
            }
            From::Image { .. } | From::Given | From::Snapshot { .. } => Ok(()),
        }
    }

    /// The new point is published: its snapshot is the base of the next run, and the old base goes.
    pub(super) async fn tidy(&self) {
        if let From::Snapshot { driver, then, .. } = &self.from {
            for old in then {
                forget(driver, *old).await;
            }
        }
    }
}

/// What there is of a volume before its next point.
struct Before<'a> {
    /// The point to compare with.
    parent: Option<&'a Point>,
    /// Its snapshot, if it still exists.
    base: Option<Snapshot>,
    /// The snapshots of points that stay in the pool for now, newest first; the base is the first.
    kept: Vec<Snapshot>,
}

/// What there is of a volume. Strays of killed runs go first, so that they cannot pile up while runs keep failing.
async fn before<'a>(
    agent: &Agent,
    driver: &Driver,
    volume: &Volume,
    fold: &'a Fold,
) -> Result<Before<'a>, BackupError> {
    let existing = driver.snapshots(volume.id, agent.repository.id()).await?;
    let (parent, base) = parent_and_base(fold, &volume.name, volume.id, &existing);
    let stays = |id: SnapshotId| {
        let of_point =
            |point: &&Point| matches!(&point.info.source, Source::Driver { snapshot, .. } if *snapshot == id);
        fold.points_of(&volume.name).iter().any(of_point)
    };
    let (mut kept, strays): (Vec<_>, Vec<_>) = existing.into_iter().partition(|one| stays(one.id));
    kept.sort_by_key(|one| (Some(one.id) != base, std::cmp::Reverse(one.taken_at)));
    let many = kept.split_off(kept.len().min(agent.databases.local_bases(&volume.name)));
    for stray in strays.into_iter().chain(many) {
        forget(driver, stray.id).await;
    }
    Ok(Before { parent, base: kept.iter().find(|kept| Some(kept.id) == base).cloned(), kept })
}

/// Those of the kept snapshots, newest first, that nobody needs once there is another point.
fn too_many<'a>(agent: &Agent, volume: &Volume, kept: impl Iterator<Item = &'a Snapshot>) -> Vec<SnapshotId> {
    kept.skip(agent.databases.local_bases(&volume.name) - 1).map(|kept| kept.id).collect()
}

/// Whether nothing was written since `base` was cut, and up to when. It spares writers the freeze, and the driver a snapshot; where it
/// cannot be told, a snapshot tells.
async fn still_as(driver: &Driver, volume: &Volume, base: &Snapshot) -> Option<Timestamp> {
    match driver.still_as(volume.id, base.id).await {
        Ok(at) => at,
        Err(error) => {
            tracing::debug!(volume = %volume.name, error = chain(&error), "whether it changed could not be told");
            None
        }
    }
}

/// The newest point of this very volume whose snapshot still exists, with that snapshot; else the newest point of the name.
fn parent_and_base<'a>(
    fold: &'a Fold,
    name: &VolumeName,
    volume: VolumeId,
    existing: &[Snapshot],
) -> (Option<&'a Point>, Option<SnapshotId>) {
    let points = fold.points_of(name);
    let with_base = points.iter().rev().find_map(|point| match &point.info.source {
        Source::Driver { volume: of, snapshot, .. } if *of == volume => {
            existing.iter().any(|one| one.id == *snapshot).then_some((*point, *snapshot))
        }
        _ => None,
    });
    match with_base {
        Some((point, snapshot)) => (Some(point), Some(snapshot)),
        None => (points.last().copied(), None),
    }
}

/// A snapshot that stays behind costs space and is found again by the next run: no reason to fail.
async fn forget(driver: &Driver, snapshot: SnapshotId) {
    if let Err(error) = driver.delete(snapshot).await {
        tracing::warn!(%snapshot, error = chain(&error), "a snapshot that nobody needs could not be deleted");
    }
}

async fn open_file(path: PathBuf) -> Result<FileSource, strongroom_block_io::BlockIoError> {
    let opening = tokio::task::spawn_blocking(move || FileSource::open(&path, Caching::Direct));
    opening.await.expect("opening a file does not panic")
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = std::fs::metadata(path).ok().filter(|found| found.is_file())?;
    Some((found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec(), found.len()))
}

/// Whether there are no changes at all; and the changes.
pub(super) async fn peek(mut changes: Changes) -> Result<(Changes, bool), BackupError> {
    let peeked = tokio::task::spawn_blocking(move || (changes.next(), changes));
    match peeked.await.map_err(|_| CaptureError::Panicked)? {
        (None, changes) => Ok((changes, true)),
        (Some(Err(error)), _) => Err(CaptureError::Changes(error).into()),
        (Some(first), changes) => Ok((Box::new(std::iter::once(first).chain(changes)), false)),
    }
}
