//! The plan of a restore: a plain value, made without side effects, shown to a person and then carried out as it is.
//!
//! `restore plan` prints the very value that `restore run` executes. It names every request that will be sent: by
//! window of the volume, by pack, by range of bytes. What needs a decision was decided when it was made; a run that
//! goes on after a kill carries out the same plan minus what its journal says is done.
//!
//! Its size follows the packs that are needed and not the chunks: a pack has at most some hundred ranges (gaps of
//! 256 KiB in 64 MiB), so it stays below 1/30 000 of the data.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use strongroom_model::{PackId, RecoveryPointId, RepositoryId, RunId, SnapshotId, VolumeName};
use strongroom_repository::layout::ObjectName;
use strongroom_repository::pack::PackPlace;

use crate::aim::FetchRange;
use crate::work::Work;

mod estimate;
mod text;

pub use estimate::estimated_seconds;
pub(crate) use text::aligned;

/// All that a restore will do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RestorePlan {
    /// The name of this run: `restore undo` takes it.
    pub run: RunId,
    /// Which repository.
    pub repository: RepositoryId,
    /// Where it is.
    pub location: String,
    /// What is restored.
    pub point: PointSummary,
    /// The moment that was asked for, when a time chose the point.
    pub asked_at: Option<Timestamp>,
    /// The next younger point of the volume, when there is one.
    pub next_point: Option<(RecoveryPointId, Timestamp)>,
    /// Where to.
    pub target: Target,
    /// What the target holds before the first write.
    pub base: Base,
    /// Read everything back at the end and compare.
    pub verify: bool,
    /// Write what can be read where something is damaged, and list what is lost.
    pub keep_going: bool,
    /// Keep the point from being forgotten while this runs.
    pub hold: bool,
    /// How much of everything.
    pub totals: Totals,
    /// About how long it will take.
    pub estimated_seconds: u64,
    /// The command that brings the old content back, when there is old content.
    pub undo: Option<String>,
    /// What the person should know.
    pub notes: Vec<String>,
    /// What is known to be unreadable already. Only with `keep_going`.
    pub lost: Vec<Lost>,
    /// What is done, window by window.
    pub windows: Vec<Window>,
    /// Which chunks.
    #[serde(skip)]
    pub work: Arc<Work>,
}

/// The point, as far as a person wants to know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PointSummary {
    /// Its id.
    pub id: RecoveryPointId,
    /// Whose content it is.
    pub volume: VolumeName,
    /// The moment of the content.
    pub taken_at: Timestamp,
    /// The size of the volume.
    pub volume_bytes: u64,
    /// The filesystem, where known.
    pub fs: Option<String>,
    /// The journal record that published it.
    pub number: u64,
}

/// Where a restore writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Target {
    /// A new image file.
    File {
        /// Where it will be.
        path: PathBuf,
        /// A file of that name exists and will be replaced.
        overwrite: bool,
    },
    /// A block device.
    Device {
        /// Which.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// A new volume of the driver.
    Volume {
        /// Its name.
        name: VolumeName,
        /// Its size.
        bytes: u64,
        /// `ext4`, `xfs` or `block`.
        fs: String,
    },
    /// The content of an existing volume of the driver is exchanged.
    InPlace {
        /// Its name.
        volume: VolumeName,
        /// The driver's id of it.
        volume_id: String,
        /// Its size.
        bytes: u64,
        /// `ext4`, `xfs` or `block`.
        fs: String,
        /// The volume that is filled beside it before the exchange.
        staging: String,
        /// The label of the snapshot that keeps the present content.
        safety_label: String,
        /// Unmount and mount again what was mounted by hand.
        remount: bool,
    },
}

impl Target {
    /// The target in a few words. Also what a journal belongs to.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::File { path, .. } => format!("file {}", path.display()),
            Self::Device { path, .. } => format!("device {}", path.display()),
            Self::Volume { name, .. } => format!("new volume {name}"),
            Self::InPlace { volume, volume_id, .. } => format!("volume {volume} ({volume_id}), in place"),
        }
    }
}

/// What the target holds before the first write, and so what need not be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Base {
    /// Zeros: it is fresh.
    Zeros,
    /// Anything: all of it is written, zeros too.
    Unknown,
    /// Anything, but it is compared with the point by the hash of each chunk first.
    Compared {
        /// What is read for that.
        what: String,
    },
    /// A clone of the very snapshot that the point was taken from: everything is there.
    OwnSnapshot {
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// A clone of the snapshot that another point was taken from: what differs is known from both maps.
    OtherSnapshot {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The point that was taken from it.
        point: RecoveryPointId,
    },
    /// A clone of the volume as it is, made when the run begins and compared by hash then: until then it is not known how
    /// much is there already.
    VolumeItself,
}

impl Base {
    /// The snapshot that the target is cloned from.
    #[must_use]
    pub const fn snapshot(&self) -> Option<SnapshotId> {
        match self {
            Self::OwnSnapshot { snapshot } | Self::OtherSnapshot { snapshot, .. } => Some(*snapshot),
            _ => None,
        }
    }

    /// The base in a few words. Also what a journal belongs to.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Zeros => "zeros (the target is fresh)".into(),
            Self::Unknown => "unknown; everything is written".into(),
            Self::Compared { what } => format!("{what}, compared by hash"),
            Self::OwnSnapshot { snapshot } => {
                format!("a clone of {snapshot}, from which the point was taken")
            }
            Self::OtherSnapshot { snapshot, point } => {
                format!("a clone of {snapshot}, from which {point} was taken")
            }
            Self::VolumeItself => "a clone of the volume, compared by hash when the run begins".into(),
        }
    }
}

/// How much of everything. Bytes are of the volume unless another thing is named.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// The point's volume.
    pub volume_bytes: u64,
    /// What the restore answers for: larger when the target volume is larger.
    pub target_bytes: u64,
    /// Right at the target already, known by the maps or found by comparing.
    pub present_bytes: u64,
    /// Written by an earlier run of the same restore.
    pub done_bytes: u64,
    /// Copied from what exists locally.
    pub copy_bytes: u64,
    /// Zero, and left as holes.
    pub hole_bytes: u64,
    /// Zero, and made so.
    pub zero_bytes: u64,
    /// Filled with fetched data.
    pub write_bytes: u64,
    /// Sent by the store, compressed and sealed.
    pub fetch_bytes: u64,
    /// Requests for data. Those for maps and footers are few and not counted.
    pub requests: u64,
    /// Packs that are read.
    pub packs: u64,
    /// Cannot be read. Only with `keep_going`.
    pub lost_bytes: u64,
}

/// One stretch of the volume: what is planned and carried out together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Window {
    /// The first chunk and one past the last.
    pub chunks: Range<u64>,
    /// Deltas, which are fetched first: they wait in memory for what they are built on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deltas: Vec<PackFetch>,
    /// Everything else that is fetched, in the order in which the packs are first needed.
    pub fetch: Vec<PackFetch>,
}

/// What is fetched of one pack for one window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackFetch {
    /// The logical pack.
    pub pack: PackId,
    /// The object that holds it now.
    #[serde(serialize_with = "object")]
    pub object: PackPlace,
    /// How many chunks are filled from it, or built on what it has.
    pub chunks: u64,
    /// How many of them are copied locally and only compared with its table.
    pub copies: u64,
    /// The requests.
    pub ranges: Vec<FetchRange>,
}

fn object<S: Serializer>(place: &PackPlace, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&ObjectName::pack(place.kind, place.object))
}

/// A part of the volume that cannot be read from the repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// The first byte of the volume.
    pub start: u64,
    /// The byte after the last.
    pub end: u64,
    /// The pack, when it is one pack's fault.
    pub pack: Option<PackId>,
    /// The entry, when it is one entry's fault.
    pub entry: Option<u32>,
    /// What was seen.
    pub why: String,
}
