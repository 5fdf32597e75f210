//! The driver as a value: everything that can be asked of it.
//!
//! Every method may be called from many tasks at once. What blocks runs on threads for blocking work and goes
//! on when the caller goes away, so a request that is cancelled leaves nothing half done. Two operations on one
//! volume never overlap: the second is answered [`CoreError::Busy`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use strongroom_block_io::ChangedRanges;
use strongroom_model::{
    ByteRange, GroupId, RecoveryPointId, RepositoryId, SnapshotId, VolumeId, VolumeName, World,
};

use crate::background::Background;
use crate::core_error::CoreError;
use crate::driver::{Driver, Survey, Upkeep};
use crate::findings::{Finding, Repair, Repaired};
use crate::nouns::{Attachment, Capacity, Group, Outcome, Snapshot, Usage, Volume};
use crate::registry::Delivery;
use crate::requests::{
    BeginRestore, Changes, CreateGroup, CreateSnapshot, CreateVolume, DriverSettings, Exchange, Exchanged,
    Expanded, PublishEphemeral, PublishRequest, RestoreTarget, SnapshotFilter, StageRequest,
};

/// The driver. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Volumes {
    /// What goes on beside requests; it ends before the driver does.
    _background: Arc<[Background]>,
    driver: Arc<Driver>,
}

/// A driver that has just started, and what it found.
#[derive(Debug)]
pub struct OpenedDriver {
    /// The driver.
    pub volumes: Volumes,
    /// What the reconciler did and found, a sentence each, for the log.
    pub report: Vec<String>,
}

/// Runs blocking work on a thread for it. The work goes on when the caller goes away.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CoreError> + Send + 'static,
) -> Result<T, CoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(CoreError::Bug { what: format!("an operation ended early: {error}") }))
}

impl Volumes {
    /// Opens pool and registry (making them when there are none), and finishes or undoes what was half done.
    ///
    /// # Errors
    /// When the pool cannot be used, or belongs to another driver.
    pub async fn open(settings: DriverSettings, world: World) -> Result<OpenedDriver, CoreError> {
        blocking(move || {
            let (driver, report) = Driver::open(settings, world)?;
            let driver = Arc::new(driver);
            let watched = Arc::clone(&driver);
            let kept = Arc::clone(&driver);
            let mut upkeep = Upkeep::default();
            let background = [
                Background::start("pool-watch", move |_| watched.watch_room())?,
                Background::start("upkeep", move |stop| kept.look_after(&mut upkeep, stop))?,
            ];
            Ok(OpenedDriver { volumes: Self { _background: Arc::new(background), driver }, report })
        })
        .await
    }

    /// Opens pool and registry to examine and repair them while no driver runs: what [`Volumes::open`] would settle is
    /// left as it is, to be found.
    ///
    /// # Errors
    /// InUse: a driver runs. NotFound: there is no pool.
    pub async fn look(settings: DriverSettings, world: World) -> Result<Self, CoreError> {
        blocking(move || {
            Driver::look(settings, world)
                .map(|driver| Self { _background: Arc::new([]), driver: Arc::new(driver) })
        })
        .await
    }

    /// Looks for what is wrong, the worst first; changes nothing. `unstage_idle`: what is staged and published nowhere gets
    /// a repair.
    ///
    /// # Errors
    /// When registry, pool or mount table cannot be read.
    pub async fn examine(&self, unstage_idle: bool) -> Result<Vec<Finding>, CoreError> {
        self.run(move |driver| driver.examine(unstage_idle)).await
    }

    /// Carries those of the steps out that are still called for; one answer for each.
    ///
    /// # Errors
    /// As [`Volumes::examine`]. A step that fails does not keep the others from being done.
    pub async fn repair(&self, steps: Vec<Repair>, unstage_idle: bool) -> Result<Vec<Repaired>, CoreError> {
        self.run(move |driver| driver.carry_out(&steps, unstage_idle)).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Driver) -> Result<T, CoreError> + Send + 'static,
    ) -> Result<T, CoreError> {
        let driver = Arc::clone(&self.driver);
        blocking(move || work(&driver)).await
    }

    /// The name of this node.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.driver.settings().node
    }

    /// How many volumes can be attached to it; 0: as many as there are.
    #[must_use]
    pub fn max_volumes(&self) -> u64 {
        self.driver.settings().limits.max_volumes
    }

    /// Room in the pool.
    ///
    /// # Errors
    /// When the pool cannot be measured.
    pub async fn capacity(&self) -> Result<Capacity, CoreError> {
        self.run(Driver::capacity).await
    }

    /// Everything at once, for those who watch.
    pub(crate) async fn survey(&self) -> Result<Survey, CoreError> {
        self.run(Driver::survey).await
    }

    /// Makes a volume. Unless it is raw, it has a filesystem when this returns.
    ///
    /// # Errors
    /// NotFound: the source. NotReady: the source. Refused: the source is of another kind. Size, PoolFull, Busy.
    pub async fn create(&self, request: CreateVolume) -> Result<Outcome<Volume>, CoreError> {
        self.run(move |driver| driver.create(&request)).await
    }

    /// Deletes a volume. Unknown: fine. Its snapshots and clones stay.
    ///
    /// # Errors
    /// InUse: it is mounted, staged or held; then nothing was changed. Busy.
    pub async fn delete(&self, volume: VolumeId) -> Result<(), CoreError> {
        self.run(move |driver| driver.delete(volume)).await
    }

    /// Makes a volume larger (never smaller; already as large: fine). Its filesystem does not grow yet.
    ///
    /// # Errors
    /// NotFound, NotReady, PoolFull, Size, Busy.
    pub async fn expand(&self, volume: VolumeId, bytes: u64) -> Result<Expanded, CoreError> {
        self.run(move |driver| driver.expand(volume, bytes)).await
    }

    /// Lets the filesystem of a mounted volume take all of its volume. Not mounted: it will at its next mount.
    ///
    /// # Errors
    /// OnlineGrow: the kernel would not let it, for want of CAP_SYS_RESOURCE; it will grow before its next mount.
    pub async fn grow_filesystem(&self, volume: VolumeId) -> Result<Expanded, CoreError> {
        self.run(move |driver| driver.grow_filesystem(volume)).await
    }

    /// All volumes, by name.
    ///
    /// # Errors
    /// When the registry or the mount table cannot be read.
    pub async fn volumes(&self) -> Result<Vec<Volume>, CoreError> {
        self.run(Driver::volumes).await
    }

    /// One volume, with the number of its extents.
    ///
    /// # Errors
    /// NotFound.
    pub async fn volume(&self, volume: VolumeId) -> Result<Volume, CoreError> {
        self.run(move |driver| driver.volume(volume)).await
    }

    /// One volume, without counting its extents, which takes a second for a million of them.
    ///
    /// # Errors
    /// NotFound.
    pub async fn brief(&self, volume: VolumeId) -> Result<Volume, CoreError> {
        self.run(move |driver| driver.brief(volume)).await
    }

    /// The volume of this name.
    ///
    /// # Errors
    /// When the registry cannot be read.
    pub async fn volume_named(&self, name: &VolumeName) -> Result<Option<Volume>, CoreError> {
        let name = name.clone();
        self.run(move |driver| driver.volume_named(&name)).await
    }

    /// Replaces the labels of a volume.
    ///
    /// # Errors
    /// NotFound, Busy.
    pub async fn set_labels(
        &self,
        volume: VolumeId,
        labels: BTreeMap<String, String>,
    ) -> Result<Volume, CoreError> {
        self.run(move |driver| driver.set_labels(volume, &labels)).await
    }

    /// Changes labels and limits of a volume: all that is asked, or nothing.
    ///
    /// # Errors
    /// NotFound, Busy, Refused (too many labels), NoIoLimits.
    pub async fn modify(&self, volume: VolumeId, changes: Changes) -> Result<Volume, CoreError> {
        self.run(move |driver| driver.modify(volume, &changes)).await
    }

    /// Why the I/O of volumes cannot be limited on this machine; `None`: it can.
    ///
    /// # Errors
    /// When the driver cannot look.
    pub async fn cannot_limit(&self) -> Result<Option<String>, CoreError> {
        self.run(|driver| Ok(driver.cannot_limit())).await
    }

    /// Limits the I/O of volumes also in control groups that came since. Cheap where nothing is limited.
    ///
    /// # Errors
    /// NoIoLimits: the kernel no longer can.
    pub async fn limit_again(&self) -> Result<(), CoreError> {
        self.run(Driver::limit_again).await
    }

    /// Gives a volume to a node. Conflict: it was given to it otherwise.
    ///
    /// # Errors
    /// NotFound: the volume, or a node that is not this one. NotReady. InUse: it is attached elsewhere. NodeFull. Busy.
    pub async fn attach_to_node(
        &self,
        volume: VolumeId,
        attachment: Attachment,
    ) -> Result<Outcome<Attachment>, CoreError> {
        self.run(move |driver| driver.attach_to_node(volume, &attachment)).await
    }

    /// Takes a volume from a node, or from all. Not attached, or unknown: fine.
    ///
    /// # Errors
    /// InUse: it is still staged or published. Busy.
    pub async fn detach_from_node(&self, volume: VolumeId, node: Option<&str>) -> Result<(), CoreError> {
        let node = node.map(str::to_owned);
        self.run(move |driver| driver.detach_from_node(volume, node.as_deref())).await
    }

    /// Attaches a volume, checks its filesystem and mounts it. Conflict: it is staged elsewhere or otherwise.
    ///
    /// # Errors
    /// NotFound, NotReady (hydrating), Refused (kind, options, place), Filesystem (damaged), InUse (the place), Busy.
    pub async fn stage(&self, request: StageRequest) -> Result<Outcome<()>, CoreError> {
        self.run(move |driver| driver.stage(&request)).await
    }

    /// Undoes [`Volumes::stage`]. Not staged there: fine.
    ///
    /// # Errors
    /// NotFound: the volume. InUse: it is still published, open, or seen in another mount namespace. Busy.
    pub async fn unstage(&self, volume: VolumeId, path: &Path) -> Result<(), CoreError> {
        let path = path.to_owned();
        self.run(move |driver| driver.unstage(volume, &path)).await
    }

    /// Shows a staged volume to a workload. Conflict: it is published there otherwise.
    ///
    /// # Errors
    /// NotReady: not staged there. InUse: published elsewhere and `only_target`, or the target is covered. Busy.
    pub async fn publish(&self, request: PublishRequest) -> Result<Outcome<()>, CoreError> {
        self.run(move |driver| driver.publish(&request)).await
    }

    /// Undoes [`Volumes::publish`] and removes the target. Not published there: fine.
    ///
    /// # Errors
    /// NotFound: the volume. InUse: something is open there. Busy.
    pub async fn unpublish(&self, volume: VolumeId, target: &Path) -> Result<(), CoreError> {
        let target = target.to_owned();
        self.run(move |driver| driver.unpublish(volume, &target)).await
    }

    /// Lets a group share what is mounted at `path`: its root folder gets the group and hands it on to what is made in
    /// it. Files that are there keep their group.
    ///
    /// # Errors
    /// NotFound, NotReady: it is not mounted there. Busy.
    pub async fn share_with_group(&self, volume: VolumeId, path: &Path, group: u32) -> Result<(), CoreError> {
        let path = path.to_owned();
        self.run(move |driver| driver.share_with_group(volume, &path, group)).await
    }

    /// Makes an inline volume and publishes it. Conflict: it is published otherwise. After an error nothing is left.
    ///
    /// # Errors
    /// As [`Volumes::create`] and [`Volumes::stage`].
    pub async fn publish_ephemeral(&self, request: PublishEphemeral) -> Result<Outcome<VolumeId>, CoreError> {
        self.run(move |driver| driver.publish_ephemeral(&request)).await
    }

    /// Unpublishes an inline volume and deletes it. `false`: there is none of that id at that target.
    ///
    /// # Errors
    /// InUse: something is open there. Busy.
    pub async fn unpublish_ephemeral(&self, handle: &str, target: &Path) -> Result<bool, CoreError> {
        let (handle, target) = (handle.to_owned(), target.to_owned());
        self.run(move |driver| driver.unpublish_ephemeral(&handle, &target)).await
    }

    /// The volume of an inline id.
    ///
    /// # Errors
    /// When the registry cannot be read.
    pub async fn ephemeral(&self, handle: &str) -> Result<Option<VolumeId>, CoreError> {
        let handle = handle.to_owned();
        self.run(move |driver| driver.ephemeral(&handle)).await
    }

    /// What the volume that is staged, published or mounted at `path` holds.
    ///
    /// # Errors
    /// NotFound: the volume, or it is not there.
    pub async fn usage(&self, volume: VolumeId, path: &Path) -> Result<Usage, CoreError> {
        let path = path.to_owned();
        self.run(move |driver| driver.usage(volume, &path)).await
    }

    /// Mounts a volume by hand at an existing folder. Conflict: it is mounted there with other options.
    ///
    /// # Errors
    /// As [`Volumes::stage`]; NotFound also: the folder.
    pub async fn mount(
        &self,
        volume: VolumeId,
        folder: &Path,
        options: Vec<String>,
    ) -> Result<Outcome<()>, CoreError> {
        let folder = folder.to_owned();
        self.run(move |driver| driver.mount(volume, &folder, &options)).await
    }

    /// Unmounts what was mounted by hand, everywhere or at one folder; answers where it was.
    ///
    /// # Errors
    /// NotFound: the volume, or it is not mounted by hand at that folder. InUse names the holder. Busy.
    pub async fn unmount(&self, volume: VolumeId, folder: Option<&Path>) -> Result<Vec<PathBuf>, CoreError> {
        let folder = folder.map(Path::to_owned);
        self.run(move |driver| driver.unmount(volume, folder.as_deref())).await
    }

    /// Mounts a volume at `folder` (made when missing) for a container of Docker, or counts the container if the volume
    /// is mounted already. Answers where it is. The same reference again: the same.
    ///
    /// # Errors
    /// NotFound, NotReady, Refused (raw), InUse (an orchestrator has it), Filesystem, Busy.
    pub async fn docker_mount(
        &self,
        volume: VolumeId,
        reference: &str,
        folder: PathBuf,
    ) -> Result<PathBuf, CoreError> {
        let reference = reference.to_owned();
        self.run(move |driver| driver.docker_mount(volume, &reference, &folder)).await
    }

    /// Undoes [`Volumes::docker_mount`]; with the last reference the volume is unmounted and detached. Unknown
    /// reference: fine.
    ///
    /// # Errors
    /// NotFound: the volume. InUse: something on this machine is open there. Busy.
    pub async fn docker_unmount(&self, volume: VolumeId, reference: &str) -> Result<(), CoreError> {
        let reference = reference.to_owned();
        self.run(move |driver| driver.docker_unmount(volume, &reference)).await
    }

    /// Deletes a volume that no container of Docker uses. Unknown: fine.
    ///
    /// # Errors
    /// InUse names the references of Docker, or where else it is used; nothing was changed then. Busy.
    pub async fn docker_remove(&self, volume: VolumeId) -> Result<(), CoreError> {
        self.run(move |driver| driver.docker_remove(volume)).await
    }

    /// Takes a snapshot; a mounted filesystem is frozen for the cut. Conflict: the label is taken by another.
    ///
    /// # Errors
    /// NotFound, NotReady (hydrating), PoolFull, Freeze, Busy.
    pub async fn create_snapshot(&self, request: CreateSnapshot) -> Result<Outcome<Snapshot>, CoreError> {
        self.run(move |driver| driver.create_snapshot(&request)).await
    }

    /// Deletes a snapshot. Unknown: fine. Who has it open can read on.
    ///
    /// # Errors
    /// Busy.
    pub async fn delete_snapshot(&self, snapshot: SnapshotId) -> Result<(), CoreError> {
        self.run(move |driver| driver.delete_snapshot(snapshot)).await
    }

    /// Takes snapshots of several volumes at one moment: all of them or none. Conflict: the name is another group's.
    ///
    /// # Errors
    /// As [`Volumes::create_snapshot`]; Refused: the list of volumes. NotReady also: raw volumes that never stand still.
    pub async fn create_group(&self, request: CreateGroup) -> Result<Outcome<Group>, CoreError> {
        self.run(move |driver| driver.create_group(&request)).await
    }

    /// Deletes a group and its members, if `members` are these (`None`: whichever they are). Unknown: fine.
    ///
    /// # Errors
    /// Refused: other members. Busy.
    pub async fn delete_group(
        &self,
        group: GroupId,
        members: Option<Vec<SnapshotId>>,
    ) -> Result<(), CoreError> {
        self.run(move |driver| driver.delete_group(group, members.as_deref())).await
    }

    /// One group, if `members` are its members (`None`: whichever they are).
    ///
    /// # Errors
    /// NotFound. Refused: other members.
    pub async fn group(&self, group: GroupId, members: Option<Vec<SnapshotId>>) -> Result<Group, CoreError> {
        self.run(move |driver| match members {
            None => driver.group(group),
            Some(members) => driver.group_of(group, &members),
        })
        .await
    }

    /// Groups, oldest first.
    ///
    /// # Errors
    /// When the registry cannot be read.
    pub async fn groups(&self) -> Result<Vec<Group>, CoreError> {
        self.run(Driver::groups).await
    }

    /// Snapshots, oldest first.
    ///
    /// # Errors
    /// When the registry cannot be read.
    pub async fn snapshots(&self, filter: SnapshotFilter) -> Result<Vec<Snapshot>, CoreError> {
        self.run(move |driver| driver.snapshots(&filter)).await
    }

    /// One snapshot.
    ///
    /// # Errors
    /// NotFound.
    pub async fn snapshot(&self, snapshot: SnapshotId) -> Result<Snapshot, CoreError> {
        self.run(move |driver| driver.snapshot(snapshot)).await
    }

    /// The image of a snapshot, for reading on this machine.
    ///
    /// # Errors
    /// NotFound.
    pub async fn open_snapshot(&self, snapshot: SnapshotId) -> Result<PathBuf, CoreError> {
        self.run(move |driver| driver.open_snapshot(snapshot)).await
    }

    /// What a snapshot holds beside zeros, from byte `from` on.
    ///
    /// # Errors
    /// NotFound. Size: `from` is behind its end.
    pub async fn allocated(&self, snapshot: SnapshotId, from: u64) -> Result<ExtentReader, CoreError> {
        self.run(move |driver| driver.changed(None, snapshot, from).map(ExtentReader::new)).await
    }

    /// What differs in `target` from `base`, from byte `from` on. Any two snapshots of this driver can be
    /// compared; those of one volume share most.
    ///
    /// # Errors
    /// NotFound. Size: `from` is behind the end of `target`.
    pub async fn changed(
        &self,
        base: SnapshotId,
        target: SnapshotId,
        from: u64,
    ) -> Result<ExtentReader, CoreError> {
        self.run(move |driver| driver.changed(Some(base), target, from).map(ExtentReader::new)).await
    }

    /// Whether nothing was written to a volume since a snapshot of it, and the moment up to which that was looked at.
    ///
    /// # Errors
    /// NotFound, NotReady (hydrating), Busy. Refused: it is a snapshot of another volume.
    pub async fn holds_still(
        &self,
        volume: VolumeId,
        snapshot: SnapshotId,
    ) -> Result<(bool, Timestamp), CoreError> {
        self.run(move |driver| driver.holds_still(volume, snapshot)).await
    }

    /// Makes a hydrating volume and attaches it; asked again by the same name: the same.
    ///
    /// # Errors
    /// As [`Volumes::create`].
    pub async fn begin_restore(&self, request: BeginRestore) -> Result<Outcome<RestoreTarget>, CoreError> {
        self.run(move |driver| driver.begin_restore(&request)).await
    }

    /// Takes the cut of a snapshot that shall become a recovery point; asked again by the same name: the same.
    ///
    /// # Errors
    /// As [`Volumes::create_snapshot`]. Conflict: another snapshot has that name. Busy also: it is being deleted.
    pub(crate) async fn begin_delivery(
        &self,
        volume: VolumeId,
        name: String,
        labels: BTreeMap<String, String>,
    ) -> Result<Delivery, CoreError> {
        self.run(move |driver| driver.begin_delivery(volume, &name, &labels)).await
    }

    /// Snapshots that shall become recovery points, and those that did, oldest first.
    pub(crate) async fn deliveries(&self) -> Result<Vec<Delivery>, CoreError> {
        self.run(Driver::deliveries).await
    }

    pub(crate) async fn delivery(&self, point: RecoveryPointId) -> Result<Option<Delivery>, CoreError> {
        self.run(move |driver| driver.delivery(point)).await
    }

    pub(crate) async fn delivery_named(&self, name: String) -> Result<Option<Delivery>, CoreError> {
        self.run(move |driver| driver.delivery_named(&name)).await
    }

    /// The point is published; its snapshot becomes the agent's base for that repository, or goes.
    pub(crate) async fn finish_delivery(
        &self,
        point: RecoveryPointId,
        repository: Option<RepositoryId>,
    ) -> Result<(), CoreError> {
        self.run(move |driver| driver.finish_delivery(point, repository)).await
    }

    /// Nobody wants the point any more. It stays known until it is forgotten.
    pub(crate) async fn cancel_delivery(&self, point: RecoveryPointId) -> Result<(), CoreError> {
        self.run(move |driver| driver.cancel_delivery(point)).await
    }

    /// The point is gone, or never came to be.
    pub(crate) async fn forget_delivery(&self, point: RecoveryPointId) -> Result<(), CoreError> {
        self.run(move |driver| driver.forget_delivery(point)).await
    }

    /// By which words the recovery point was chosen that a volume was restored from; `None`: by its id.
    ///
    /// # Errors
    /// When the registry cannot be read.
    pub async fn chosen_by(&self, volume: VolumeId) -> Result<Option<String>, CoreError> {
        self.run(move |driver| driver.chosen_by(volume)).await
    }

    /// The content is complete: makes it durable and lets the volume be used. Already finished: fine.
    ///
    /// # Errors
    /// NotFound. InUse: something still has the device open. Busy.
    pub async fn finish_restore(&self, volume: VolumeId) -> Result<Volume, CoreError> {
        self.run(move |driver| driver.finish_restore(volume)).await
    }

    /// Throws a hydrating volume away. Unknown: fine.
    ///
    /// # Errors
    /// NotReady: it is finished. InUse: something still has the device open. Busy.
    pub async fn discard_restore(&self, volume: VolumeId) -> Result<(), CoreError> {
        self.run(move |driver| driver.discard_restore(volume)).await
    }

    /// Gives a volume the content of another, keeping the old content as a snapshot.
    ///
    /// # Errors
    /// InUse: the volume is staged or published, or mounted by hand and not to be remounted, or something is open in it. NotFound,
    /// Refused (other kind), Conflict (the label of the safety snapshot), PoolFull, Busy. Nothing was changed then.
    pub async fn exchange_content(&self, request: Exchange) -> Result<Outcome<Exchanged>, CoreError> {
        self.run(move |driver| driver.exchange_content(&request)).await
    }
}

/// Reads ranges of a snapshot in batches, ascending; memory stays bounded.
#[derive(Debug)]
pub struct ExtentReader {
    /// The size of the (newer) snapshot.
    pub volume_bytes: u64,
    ranges: Option<ChangedRanges>,
}

impl ExtentReader {
    const fn new(ranges: ChangedRanges) -> Self {
        Self { volume_bytes: ranges.target_bytes(), ranges: Some(ranges) }
    }

    /// The next ranges, at most `limit`; empty: that was all.
    ///
    /// # Errors
    /// When the extents cannot be read; then what came before must not be taken for all.
    pub async fn next(&mut self, limit: usize) -> Result<Vec<ByteRange>, CoreError> {
        let Some(mut ranges) = self.ranges.take() else {
            return Err(CoreError::Bug { what: "a list of extents was read on after an error".to_owned() });
        };
        let (batch, ranges) = blocking(move || {
            let batch: Result<Vec<_>, _> = ranges.by_ref().take(limit).collect();
            let subject = "a snapshot".to_owned();
            batch.map(|batch| (batch, ranges)).map_err(|cause| CoreError::Blocks { subject, cause })
        })
        .await?;
        self.ranges = Some(ranges);
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::nouns::VolumeKind;
    use crate::testing::{Scratch, can_mount, settings, volume_request, world};

    use super::*;

    #[tokio::test]
    async fn a_request_that_its_caller_gave_up_is_completed() {
        if !can_mount() {
            return;
        }
        let scratch = Scratch::new();
        let volumes = Volumes::open(settings(&scratch), world()).await.unwrap().volumes;
        let creating = volumes.create(volume_request("db", 64, VolumeKind::Ext4));
        assert!(tokio::time::timeout(Duration::from_millis(1), creating).await.is_err());
        // Meanwhile it is being worked on; then it is there.
        let mut found = None;
        for _ in 0..1000 {
            match volumes.create(volume_request("db", 64, VolumeKind::Ext4)).await {
                Err(CoreError::Busy { .. }) => tokio::time::sleep(Duration::from_millis(10)).await,
                answer => {
                    found = Some(answer.unwrap());
                    break;
                }
            }
        }
        assert!(matches!(found, Some(Outcome::Identical(_))), "{found:?}");
        assert_eq!(volumes.volumes().await.unwrap().len(), 1);
    }
}
