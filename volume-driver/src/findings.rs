//! What `strongroom driver doctor` finds, and what it would do about it: a plan as a value.
//!
//! The plan that is printed is the plan that is carried out: repairing takes repairs of an earlier plan, and does those
//! that are still called for. None of them can lose data.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use strongroom_model::{SnapshotId, VolumeId};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Note,
    /// It works now and will fail some day.
    Warning,
    /// Something does not work, or data is in danger.
    Problem,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        })
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which kind of finding; the words are a promise.
    pub code: String,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub subject: String,
    /// What was found, in a sentence.
    pub message: String,
    /// What a person can do.
    pub advice: String,
    /// What `--repair` does; `None`: nothing by itself.
    pub repair: Option<Repair>,
}

/// A step that mends a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Repair {
    /// An image that the registry does not know becomes a volume or a snapshot.
    Adopt {
        /// Its name in the pool.
        image: String,
    },
    /// A volume that was never finished is taken back.
    UndoVolume {
        /// Which.
        volume: VolumeId,
    },
    /// A snapshot that was never finished is taken back.
    UndoSnapshot {
        /// Which.
        snapshot: SnapshotId,
    },
    /// Mounts that were never finished are taken back.
    UndoMounts {
        /// Of which volume.
        volume: VolumeId,
    },
    /// The registry forgets a mount that is gone.
    ForgetMount {
        /// Of which volume.
        volume: VolumeId,
        /// Where it was.
        path: PathBuf,
    },
    /// A device that nothing uses is taken away from a volume.
    Detach {
        /// Which volume.
        volume: VolumeId,
    },
    /// An image that was already discarded is removed.
    RemoveDiscarded {
        /// Its name in the pool.
        image: String,
    },
    /// A volume that is staged, and published nowhere, is unstaged.
    Unstage {
        /// Which.
        volume: VolumeId,
        /// Where it is staged.
        path: PathBuf,
    },
}

impl Repair {
    /// As it crosses the wire.
    #[must_use]
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("plain data becomes JSON")
    }

    /// As it comes off the wire. `None`: it is no repair.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

impl fmt::Display for Repair {
    /// What will be done, for a person.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Adopt { image } => write!(f, "make a volume or snapshot of the image {image}"),
            Self::UndoVolume { volume } => write!(f, "take back {volume}"),
            Self::UndoSnapshot { snapshot } => write!(f, "take back {snapshot}"),
            Self::UndoMounts { volume } => write!(f, "take back the half mounts of {volume}"),
            Self::ForgetMount { volume, path } => {
                write!(f, "forget that {volume} was mounted at {}", path.display())
            }
            Self::Detach { volume } => write!(f, "detach the device of {volume}"),
            Self::RemoveDiscarded { image } => write!(f, "remove the image {image}"),
            Self::Unstage { volume, path } => write!(f, "unstage {volume} at {}", path.display()),
        }
    }
}

/// How a repair went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repaired {
    /// It is mended.
    Done,
    /// It was not called for any more.
    Gone,
    /// It could not be mended, and why.
    Failed(String),
}

impl fmt::Display for Repaired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Gone => f.write_str("gone"),
            Self::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}
