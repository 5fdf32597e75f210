//! What can be asked of the driver, as plain data.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::PathBuf;

use strongroom_model::{RecoveryPointId, SnapshotId, VolumeId, VolumeName};

use crate::io_limits::{IoLimits, IoQuantity};
use crate::limits::Limits;
use crate::nouns::{Access, ContentSource, Filesystem, Snapshot, Volume, VolumeKind};

/// How the driver is set up.
#[derive(Debug, Clone)]
pub struct DriverSettings {
    /// A folder, or a block device.
    pub pool: PathBuf,
    /// The size of a pool file, where one has to be made; `None`: four fifths of what is free there.
    pub pool_bytes: Option<u64>,
    /// Where the registry lies.
    pub state_dir: PathBuf,
    /// The name of this node, as its operator gave it.
    pub node: String,
    /// Below which folders an orchestrator may have volumes staged and published.
    pub mount_roots: Vec<PathBuf>,
    /// How far the pool may be filled.
    pub limits: Limits,
    /// How the thaw watchdog is started.
    pub watchdog: WatchdogCommand,
    /// Where the kernel's control groups are mounted, by which I/O is limited.
    pub cgroup_root: PathBuf,
    /// Which run of the kernel this is; `None`: as the kernel says. Another than at the last start: a reboot.
    pub boot_id: Option<String>,
}

/// How the process is started that thaws what a dying driver left frozen. It gets a device number, a deadline
/// in milliseconds and a path behind these arguments, and must end up in `thaw_watchdog`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchdogCommand {
    /// The program.
    pub program: PathBuf,
    /// Its first arguments.
    pub arguments: Vec<String>,
}

impl Default for WatchdogCommand {
    /// This very program with the hidden subcommand `driver-thaw-watchdog`.
    fn default() -> Self {
        Self { program: PathBuf::from("/proc/self/exe"), arguments: vec!["driver-thaw-watchdog".to_owned()] }
    }
}

/// A size that fits between two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeRange {
    /// At least; 0: whatever the driver likes (the size of the source, or 1 GiB).
    pub required_bytes: u64,
    /// At most; 0: no limit.
    pub limit_bytes: u64,
}

impl SizeRange {
    /// Exactly this much, rounded up to whole sectors of 4096 bytes.
    #[must_use]
    pub const fn of(bytes: u64) -> Self {
        Self { required_bytes: bytes, limit_bytes: 0 }
    }
}

/// A new volume.
#[derive(Debug, Clone)]
pub struct CreateVolume {
    /// Its name.
    pub name: VolumeName,
    /// Its size.
    pub size: SizeRange,
    /// Filesystem or raw; `None`: as its source, or ext4.
    pub kind: Option<VolumeKind>,
    /// What it begins with; `None`: empty.
    pub source: Option<ContentSource>,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// How much I/O a second its users may do.
    pub limits: IoLimits,
}

/// What shall change about a volume; what is not named stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Labels to set, or with `None` to remove.
    pub labels: BTreeMap<String, Option<String>>,
    /// Limits to set, or with `None` to lift.
    pub limits: BTreeMap<IoQuantity, Option<NonZeroU64>>,
}

/// A volume that grew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expanded {
    /// Its size now.
    pub bytes: u64,
    /// Whether its filesystem still has to grow (at once by [`Volumes::grow_filesystem`], else at the next
    /// stage).
    ///
    /// [`Volumes::grow_filesystem`]: crate::Volumes::grow_filesystem
    pub filesystem_pending: bool,
}

/// Attach a volume and mount it at the one place of this node (or only attach it, for raw access).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageRequest {
    /// Which.
    pub volume: VolumeId,
    /// Where; for raw access only remembered.
    pub path: PathBuf,
    /// As a folder or as a device.
    pub access: Access,
    /// The filesystem that the caller expects, if it does.
    pub filesystem: Option<Filesystem>,
    /// Mount options; only harmless ones are allowed.
    pub options: Vec<String>,
}

/// Show a staged volume at the place of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishRequest {
    /// Which.
    pub volume: VolumeId,
    /// Where it was staged.
    pub staging_path: PathBuf,
    /// Where it shall be seen. Made when it does not exist (its parent must).
    pub target: PathBuf,
    /// As a folder or as a device.
    pub access: Access,
    /// Refuse writing there.
    pub readonly: bool,
    /// Mount options of the bind mount.
    pub options: Vec<String>,
    /// Refuse when it is published at another target already.
    pub only_target: bool,
}

/// Make a volume for one workload, that ends with it, and show it there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishEphemeral {
    /// What the orchestrator calls it.
    pub handle: String,
    /// Where it shall be seen. Made when it does not exist (its parent must).
    pub target: PathBuf,
    /// Its size.
    pub size: SizeRange,
    /// What it holds; `None`: ext4.
    pub filesystem: Option<Filesystem>,
    /// Refuse writing there.
    pub readonly: bool,
    /// Mount options; only harmless ones are allowed.
    pub options: Vec<String>,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
}

/// Among which snapshots a label must be unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelScope {
    /// Those of the same volume.
    Volume,
    /// All of this driver, as CSI wants its names.
    Driver,
}

/// A new snapshot.
#[derive(Debug, Clone)]
pub struct CreateSnapshot {
    /// Of which volume.
    pub volume: VolumeId,
    /// What it is called: 1 to 128 bytes without control characters.
    pub label: String,
    /// Among which snapshots that must be unique.
    pub scope: LabelScope,
    /// Who asks: `user`, `csi`, `agent`, `restore`.
    pub owner: String,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
}

/// Snapshots of several volumes at one moment.
#[derive(Debug, Clone)]
pub struct CreateGroup {
    /// Its name: 1 to 128 bytes, as CSI allows them.
    pub name: String,
    /// Of which volumes, each once.
    pub volumes: Vec<VolumeId>,
    /// Who asks: `user`, `csi`.
    pub owner: String,
    /// Free labels, also of each member.
    pub labels: BTreeMap<String, String>,
}

/// Which snapshots to list; all conditions that are given must hold.
#[derive(Debug, Clone, Default)]
pub struct SnapshotFilter {
    /// This one.
    pub id: Option<SnapshotId>,
    /// Those of this volume.
    pub volume: Option<VolumeId>,
    /// Those with this label.
    pub label: Option<String>,
    /// Those of this owner.
    pub owner: Option<String>,
}

/// A volume whose content a restore will write.
#[derive(Debug, Clone)]
pub struct BeginRestore {
    /// Its name.
    pub name: VolumeName,
    /// What it will be.
    pub kind: VolumeKind,
    /// Its size; at least that of the point, if it is known.
    pub size: SizeRange,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// A snapshot to begin with, so that only what differs needs to be written.
    pub from_snapshot: Option<SnapshotId>,
    /// The recovery point whose content it will be, where that is to be remembered as its source.
    pub point: Option<PointContent>,
    /// Go on with this volume and no other: when it is gone, nothing is made.
    pub only: Option<VolumeId>,
}

/// A recovery point, as far as a volume that is restored from it remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointContent {
    /// Which.
    pub id: RecoveryPointId,
    /// The size of its content. A filesystem in a larger volume grows when it is first used; 0: not known.
    pub bytes: u64,
    /// The words by which it was chosen, when it was not named by its id: `db@latest`.
    pub words: Option<String>,
}

/// A hydrating volume and where to write its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreTarget {
    /// The volume, hydrating.
    pub volume: Volume,
    /// The device to write to.
    pub device: PathBuf,
}

/// Give a volume the content of a hydrating one, in place.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// The volume that gets new content.
    pub volume: VolumeId,
    /// The hydrating (or finished) volume whose content it gets; it is gone afterwards.
    pub staged: VolumeId,
    /// The run that asks; the same run asked again gets the same answer.
    pub run: String,
    /// What the safety snapshot of the old content is called.
    pub safety_label: String,
    /// Labels of the safety snapshot.
    pub safety_labels: BTreeMap<String, String>,
    /// Unmount hand mounts before and mount them again afterwards; otherwise a mounted volume is refused.
    pub remount: bool,
}

/// What an exchange did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchanged {
    /// The volume with its new content.
    pub volume: Volume,
    /// The old content.
    pub safety: Snapshot,
    /// Where it was mounted again.
    pub remounted: Vec<PathBuf>,
    /// Where it could not be mounted again, and why. The content was exchanged all the same.
    pub not_remounted: Vec<(PathBuf, String)>,
}
