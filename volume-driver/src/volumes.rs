//! The driver as a value: everything that can be asked of it.
//!
//! Every method may be called from many tasks at once. What blocks runs on threads for blocking work and goes on when
//! the caller goes away, so a request that is cancelled leaves nothing half done. Two operations on one volume
//! never overlap: the second is answered [`CoreError::Busy`].

use std::path::{Path, PathBuf};

use strongroom_model::{ByteRange, SnapshotId, VolumeId, VolumeName, World};

use crate::core_error::CoreError;
use crate::nouns::{Capacity, Outcome, Snapshot, Usage, Volume};
use crate::requests::{
    BeginRestore, CreateSnapshot, CreateVolume, DriverSettings, Exchange, Exchanged, Expanded, PublishRequest,
    RestoreTarget, SnapshotFilter, StageRequest,
};

/// The driver. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Volumes {}

/// A driver that has just started, and what it found.
#[derive(Debug)]
pub struct OpenedDriver {
    /// The driver.
    pub volumes: Volumes,
    /// What the reconciler did and found, a sentence each, for the log.
    pub report: Vec<String>,
}

impl Volumes {
    /// Opens pool and registry (making them when there are none), and finishes or undoes what was half done.
    ///
    /// # Errors
    /// When the pool cannot be used, or belongs to another driver.
    pub async fn open(settings: DriverSettings, world: World) -> Result<OpenedDriver, CoreError> { todo!() }

    /// The name of this node.
    #[must_use]
    pub fn node(&self) -> &str { todo!() }

    /// Room in the pool.
    pub async fn capacity(&self) -> Result<Capacity, CoreError> { todo!() }

    // Volumes

    /// Makes a volume. Unless it is raw, it has a filesystem when this returns.
    pub async fn create(&self, request: CreateVolume) -> Result<Outcome<Volume>, CoreError> { todo!() }
    /// Deletes a volume that is not in use. Unknown: fine. Its snapshots stay.
    pub async fn delete(&self, volume: VolumeId) -> Result<(), CoreError> { todo!() }
    /// Makes a volume larger (never smaller; already as large: fine). Its filesystem does not grow yet.
    pub async fn expand(&self, volume: VolumeId, bytes: u64) -> Result<Expanded, CoreError> { todo!() }
    /// Lets the filesystem of a mounted volume take all of its volume. Not mounted: it will at its next mount (Ok).
    pub async fn grow_filesystem(&self, volume: VolumeId) -> Result<Expanded, CoreError> { todo!() }
    /// All volumes, by name.
    pub async fn volumes(&self) -> Result<Vec<Volume>, CoreError> { todo!() }
    /// One volume, with the number of its extents.
    pub async fn volume(&self, volume: VolumeId) -> Result<Volume, CoreError> { todo!() }
    /// The volume of this name.
    pub async fn volume_named(&self, name: &VolumeName) -> Result<Option<Volume>, CoreError> { todo!() }
    /// Replaces the labels of a volume.
    pub async fn set_labels(&self, volume: VolumeId, labels: std::collections::BTreeMap<String, String>) -> Result<Volume, CoreError> { todo!() }

    // Use on this node

    /// Attaches a volume, checks its filesystem and mounts it. Conflict: staged there otherwise.
    pub async fn stage(&self, request: StageRequest) -> Result<Outcome<()>, CoreError> { todo!() }
    /// Undoes [`Volumes::stage`]. Not staged there: fine. Unknown volume: NotFound.
    pub async fn unstage(&self, volume: VolumeId, path: &Path) -> Result<(), CoreError> { todo!() }
    /// Shows a staged volume to a workload. NotReady: not staged. InUse: published elsewhere and `only_target`.
    pub async fn publish(&self, request: PublishRequest) -> Result<Outcome<()>, CoreError> { todo!() }
    /// Undoes [`Volumes::publish`] and removes the target. Not published there: fine. Unknown volume: NotFound.
    pub async fn unpublish(&self, volume: VolumeId, target: &Path) -> Result<(), CoreError> { todo!() }
    /// What the volume that is staged, published or mounted at `path` holds. NotFound: it is not there.
    pub async fn usage(&self, volume: VolumeId, path: &Path) -> Result<Usage, CoreError> { todo!() }
    /// Mounts a volume by hand at an existing folder.
    pub async fn mount(&self, volume: VolumeId, folder: &Path, options: Vec<String>) -> Result<Outcome<()>, CoreError> { todo!() }
    /// Unmounts what was mounted by hand, everywhere or at one folder; answers where it was.
    pub async fn unmount(&self, volume: VolumeId, folder: Option<&Path>) -> Result<Vec<PathBuf>, CoreError> { todo!() }

    // Snapshots

    /// Takes a snapshot; a mounted filesystem is frozen for the cut.
    pub async fn create_snapshot(&self, request: CreateSnapshot) -> Result<Outcome<Snapshot>, CoreError> { todo!() }
    /// Deletes a snapshot. Unknown: fine.
    pub async fn delete_snapshot(&self, snapshot: SnapshotId) -> Result<(), CoreError> { todo!() }
    /// Snapshots, oldest first.
    pub async fn snapshots(&self, filter: SnapshotFilter) -> Result<Vec<Snapshot>, CoreError> { todo!() }
    /// One snapshot.
    pub async fn snapshot(&self, snapshot: SnapshotId) -> Result<Snapshot, CoreError> { todo!() }
    /// The read-only image of a snapshot, for reading on this machine.
    pub async fn open_snapshot(&self, snapshot: SnapshotId) -> Result<PathBuf, CoreError> { todo!() }
    /// What a snapshot holds beside zeros, from byte `from` on.
    pub async fn allocated(&self, snapshot: SnapshotId, from: u64) -> Result<ExtentReader, CoreError> { todo!() }
    /// What differs in `target` from `base`, from byte `from` on. Any two snapshots of this driver can be compared.
    pub async fn changed(&self, base: SnapshotId, target: SnapshotId, from: u64) -> Result<ExtentReader, CoreError> { todo!() }

    // Restore

    /// Makes a hydrating volume and attaches it; asked again by the same name: the same.
    pub async fn begin_restore(&self, request: BeginRestore) -> Result<Outcome<RestoreTarget>, CoreError> { todo!() }
    /// The content is complete: the volume may be used. Already finished: fine.
    pub async fn finish_restore(&self, volume: VolumeId) -> Result<Volume, CoreError> { todo!() }
    /// Throws a hydrating volume away. Unknown: fine. Already finished: NotReady.
    pub async fn discard_restore(&self, volume: VolumeId) -> Result<(), CoreError> { todo!() }
    /// Gives a volume the content of another, keeping the old content as a snapshot.
    pub async fn exchange_content(&self, request: Exchange) -> Result<Outcome<Exchanged>, CoreError> { todo!() }
}

/// Reads ranges of a snapshot in batches, ascending; memory stays bounded.
#[derive(Debug)]
pub struct ExtentReader {
    /// The size of the (newer) snapshot.
    pub volume_bytes: u64,
}

impl ExtentReader {
    /// The next ranges, at most `limit`; empty: that was all.
    ///
    /// # Errors
    /// When the extents cannot be read; then what came before must not be taken for all.
    pub async fn next(&mut self, limit: usize) -> Result<Vec<ByteRange>, CoreError> { todo!() }
}
