//! What a person asks for: plain data, however it was said.

use std::collections::BTreeMap;
use std::path::PathBuf;

use strongroom_model::VolumeName;
use strongroom_settings::Choice;

/// A restore that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Whose content. May be left out when the choice is an id.
    pub volume: Option<VolumeName>,
    /// Which point.
    pub choice: Choice,
    /// Where to.
    pub target: TargetRequest,
    /// Read everything back at the end; `None`: for files.
    pub verify: Option<bool>,
    /// Write what can be read where something is damaged.
    pub keep_going: bool,
    /// Give up an unfinished restore of another point to the same target.
    pub start_over: bool,
}

/// Where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetRequest {
    /// An image file.
    File {
        /// Where.
        path: PathBuf,
        /// A file of that name may be replaced.
        overwrite: bool,
    },
    /// A block device.
    Device {
        /// Which.
        path: PathBuf,
        /// Read it first and fetch only what differs.
        compare: bool,
    },
    /// A new volume of the driver.
    Volume {
        /// Its name.
        name: VolumeName,
        /// Its size, when it is to be larger than the point's volume.
        bytes: Option<u64>,
        /// What it is, when the point does not say or says it wrong: `ext4`, `xfs` or `block`.
        fs: Option<String>,
        /// The driver's id of the volume, when it waits there to be filled: then no other is made.
        only: Option<String>,
        /// The labels it gets instead of those of its source: it is then no continuation of that one, and goes again. The
        /// repository's journal is told nothing of it.
        labels: Option<BTreeMap<String, String>>,
    },
    /// An existing volume of the driver.
    InPlace {
        /// Which, when it is not the one whose content it is.
        into: Option<VolumeName>,
        /// One volume's content may go into another.
        force_identity: bool,
        /// Unmount and mount again what was mounted by hand.
        remount: bool,
    },
}
