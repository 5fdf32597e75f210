//! What the driver knows about: volumes, snapshots, mounts, room.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use jiff::Timestamp;
use strongroom_model::{GroupId, RecoveryPointId, SnapshotId, VolumeId, VolumeName};

use crate::io_limits::IoLimits;

/// A filesystem that the driver makes, checks, mounts and grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filesystem {
    /// ext4.
    Ext4,
    /// XFS; at least 300 MiB, which mkfs.xfs asks for.
    Xfs,
    /// btrfs; at least 256 MiB.
    Btrfs,
}

/// What a volume is for its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeKind {
    /// A folder with an ext4 filesystem.
    Ext4,
    /// A folder with an XFS filesystem.
    Xfs,
    /// A folder with a btrfs filesystem.
    Btrfs,
    /// A raw block device. The driver never formats it.
    Block,
}

impl VolumeKind {
    /// The smallest that it can be.
    #[must_use]
    pub const fn least_bytes(self) -> u64 {
        crate::filesystem::minimum_bytes(self.filesystem())
    }

    /// The filesystem, if it is not a raw device.
    #[must_use]
    pub const fn filesystem(self) -> Option<Filesystem> {
        match self {
            Self::Ext4 => Some(Filesystem::Ext4),
            Self::Xfs => Some(Filesystem::Xfs),
            Self::Btrfs => Some(Filesystem::Btrfs),
            Self::Block => None,
        }
    }

    /// `ext4`, `xfs`, `btrfs` or `block`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Block => "block",
        }
    }
}

impl Filesystem {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Ext4, Self::Xfs, Self::Btrfs];

    /// `ext4`, `xfs` or `btrfs`, as mount(8) and mkfs call it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }
}

impl From<Filesystem> for VolumeKind {
    fn from(filesystem: Filesystem) -> Self {
        match filesystem {
            Filesystem::Ext4 => Self::Ext4,
            Filesystem::Xfs => Self::Xfs,
            Filesystem::Btrfs => Self::Btrfs,
        }
    }
}

impl fmt::Display for VolumeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The text is none of `ext4`, `xfs`, `btrfs`, `block`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a kind of volume: ext4, xfs, btrfs or block")]
pub struct KindError {
    /// What was given, cut to 64 characters.
    pub text: String,
}

impl FromStr for VolumeKind {
    type Err = KindError;

    fn from_str(text: &str) -> Result<Self, KindError> {
        [Self::Ext4, Self::Xfs, Self::Btrfs, Self::Block]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| KindError { text: text.chars().take(64).collect() })
    }
}

/// How a volume is handed to its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// As a mounted folder.
    Mount,
    /// As a block device.
    Block,
}

/// Where the first content of a volume came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContentSource {
    /// A clone of this snapshot.
    Snapshot(SnapshotId),
    /// A clone of this volume, as it was at that moment.
    Volume(VolumeId),
    /// Restored from this recovery point of a repository.
    Point(RecoveryPointId),
}

/// Whether a volume may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeState {
    /// Yes.
    Ready,
    /// A restore is writing its content; it cannot be staged or mounted before that is finished.
    Hydrating,
}

/// Why something of the volume is mounted somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountUse {
    /// The one place per node that an orchestrator stages it at.
    Staged,
    /// A bind mount of the staged place, for one workload.
    Published,
    /// Mounted by a person with `strongroom volume mount`.
    Hand,
    /// Mounted for containers of Docker, which are counted by their references.
    Docker,
}

/// One place where a volume is in use.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Mount {
    /// Where.
    pub path: PathBuf,
    /// What for.
    pub purpose: MountUse,
    /// As a folder or as a device.
    pub access: Access,
    /// Whether writing is refused there.
    pub readonly: bool,
    /// The mount options that were asked for.
    pub options: Vec<String>,
}

/// A volume was given to a node, which may use it from then on.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Attachment {
    /// The node.
    pub node: String,
    /// Whether writing is refused there.
    pub readonly: bool,
    /// Whether one workload alone may use it there.
    pub only_target: bool,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Volume {
    /// Its id, ours.
    pub id: VolumeId,
    /// The name it was created under; unique in this driver.
    pub name: VolumeName,
    /// Filesystem or raw.
    pub kind: VolumeKind,
    /// Its size for its user; a multiple of 4096.
    pub bytes: u64,
    /// What its image takes in the pool, blocks shared with snapshots included.
    pub allocated_bytes: u64,
    /// Free labels, for policies to select by.
    pub labels: BTreeMap<String, String>,
    /// Whether it may be used.
    pub state: VolumeState,
    /// What is wrong with it, in a sentence; `None`: nothing known.
    pub condition: Option<String>,
    /// How much I/O a second its users may do.
    pub limits: IoLimits,
    /// To which nodes an orchestrator gave it; volumes that nobody attaches are used all the same.
    pub attachments: Vec<Attachment>,
    /// Where it is in use, as far as this driver put it there.
    pub mounts: Vec<Mount>,
    /// The loop device while it is attached.
    pub device: Option<PathBuf>,
    /// In how many extents its image lies (a snapshot takes about 11 microseconds each). Only
    /// [`Volumes::volume`] tells it, since counting takes time.
    ///
    /// [`Volumes::volume`]: crate::Volumes::volume
    pub extents: Option<u64>,
    /// What its last snapshot cost; `None`: it has had none.
    pub last_snapshot: Option<SnapshotCost>,
    /// Where its first content came from; `None`: it began empty.
    pub source: Option<ContentSource>,
    /// When it was created.
    pub created_at: Timestamp,
}

/// What a snapshot cost the volume it was taken of.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SnapshotCost {
    /// In how many extents the image lay.
    pub extents: u64,
    /// How long writers had to wait, in microseconds.
    pub stall_us: u64,
    /// When it was asked for.
    pub at: Timestamp,
}

/// A snapshot: a read-only image of a volume at one moment. It depends on nothing; volume and snapshots can be
/// deleted in any order.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Snapshot {
    /// Its id, ours.
    pub id: SnapshotId,
    /// The volume it was taken of; that may be gone by now.
    pub volume: VolumeId,
    /// The name that volume had.
    pub volume_name: VolumeName,
    /// What the snapshot is called: unique among the snapshots of its volume.
    pub label: String,
    /// Who asked for it: `user`, `csi`, `agent`, `restore`.
    pub owner: String,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// What the volume was.
    pub kind: VolumeKind,
    /// The size of the volume then.
    pub bytes: u64,
    /// The moment of the cut.
    pub created_at: Timestamp,
    /// Whether a mounted filesystem was frozen for the cut (so that it needs no log replay), or nothing was
    /// mounted.
    pub quiesced: bool,
    /// The group that it is a member of.
    pub group: Option<GroupId>,
}

/// Snapshots of several volumes, all of them taken at the same moment: what one shows, the others agree with.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Group {
    /// Its id, ours.
    pub id: GroupId,
    /// The name it was created under; unique in this driver.
    pub name: String,
    /// Who asked for it: `user`, `csi`.
    pub owner: String,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// The moment of the cut.
    pub created_at: Timestamp,
    /// Its members; they come and go with it.
    pub snapshots: Vec<Snapshot>,
}

/// Room in the pool.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Capacity {
    /// The folder that holds the images.
    pub pool: PathBuf,
    /// The size of the pool.
    pub pool_bytes: u64,
    /// What is taken.
    pub used_bytes: u64,
    /// New volumes and snapshots are refused when more than this is taken.
    pub high_water_bytes: u64,
    /// The sum of the sizes of all volumes.
    pub provisioned_bytes: u64,
    /// What that sum may reach.
    pub provisionable_bytes: u64,
    /// The largest volume that would be created now; 0 when none.
    pub available_bytes: u64,
    /// The smallest volume that can be created.
    pub minimum_volume_bytes: u64,
    /// What is wrong, in a sentence; `None`: nothing.
    pub condition: Option<String>,
}

/// What a volume holds, as its user sees it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Usage {
    /// Its size: of the filesystem, or of the device.
    pub total_bytes: u64,
    /// What is used; `None` for a raw device.
    pub used_bytes: Option<u64>,
    /// What can still be written; `None` for a raw device.
    pub available_bytes: Option<u64>,
    /// Inodes: all, used, free; `None` for a raw device.
    pub inodes: Option<(u64, u64, u64)>,
    /// What is wrong with it; `None`: nothing known.
    pub condition: Option<String>,
}

/// The answer to a request that may come twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<T> {
    /// It was made now.
    Created(T),
    /// The same had been asked before, and is there.
    Identical(T),
    /// Something else of that name (or at that place) is there.
    Conflict {
        /// What is there.
        existing: T,
        /// How it differs from what was asked, in a sentence.
        difference: String,
    },
}

impl<T> Outcome<T> {
    /// What is there now, unless it is something else than was asked for.
    #[must_use]
    pub fn agreed(self) -> Option<T> {
        match self {
            Self::Created(value) | Self::Identical(value) => Some(value),
            Self::Conflict { .. } => None,
        }
    }
}
