//! Why a target is not taken. All of these are found before anything is changed.

use std::io;
use std::path::PathBuf;

use strongroom_model::{Failure, RecoveryPointId, Remedy, VolumeName};

/// The target cannot or must not be written.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A file of that name exists.
    #[error("{} exists already", path.display())]
    FileExists {
        /// Which.
        path: PathBuf,
    },
    /// Something of that name exists that is no regular file.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// Which.
        path: PathBuf,
    },
    /// The folder of the file cannot be used.
    #[error("the folder of {}", path.display())]
    Folder {
        /// The file.
        path: PathBuf,
        /// What the machine said.
        #[source]
        cause: io::Error,
    },
    /// Moving the finished file to its name failed.
    #[error("giving {} its name", path.display())]
    Rename {
        /// The file.
        path: PathBuf,
        /// What the machine said.
        #[source]
        cause: io::Error,
    },
    /// Another restore to the same target was begun and not finished.
    #[error("an unfinished restore of {point} lies at {target}")]
    Unfinished {
        /// The target.
        target: String,
        /// What it restores.
        point: RecoveryPointId,
    },
    /// It is not a block device.
    #[error("{} is not a block device", path.display())]
    NotADevice {
        /// Which.
        path: PathBuf,
    },
    /// Somebody uses it.
    #[error("{} is in use: it is mounted, or another program has claimed it", path.display())]
    DeviceInUse {
        /// Which.
        path: PathBuf,
    },
    /// It cannot be written.
    #[error("{} cannot be written", path.display())]
    ReadOnly {
        /// Which.
        path: PathBuf,
        /// What the machine said.
        #[source]
        cause: io::Error,
    },
    /// The target has less room than the volume had.
    #[error("{target} has {bytes} bytes, the point needs {needed}")]
    TooSmall {
        /// Which.
        target: String,
        /// How large it is.
        bytes: u64,
        /// How large it must be.
        needed: u64,
    },
    /// A volume of that name exists.
    #[error("the driver has a volume {name} already")]
    VolumeExists {
        /// Its name.
        name: VolumeName,
    },
    /// There is no such volume.
    #[error("the driver has no volume {name}")]
    NoSuchVolume {
        /// Its name.
        name: VolumeName,
    },
    /// The volume cannot be restored to as it is.
    #[error("volume {name} is {state}")]
    VolumeNotReady {
        /// Its name.
        name: VolumeName,
        /// What is with it.
        state: String,
    },
    /// One volume's content would go into another.
    #[error("the point holds the content of {owner}, and {target} is another volume")]
    Identity {
        /// Whose content it is.
        owner: String,
        /// Where it would go.
        target: String,
    },
    /// Nobody said where the driver is.
    #[error("the target is a volume of the driver, and no driver was named")]
    NoDriver,
    /// No safety snapshot of such a run.
    #[error("the driver keeps no safety snapshot of a run {text}")]
    NoSuchRun {
        /// What was asked for.
        text: String,
        /// The runs that can be taken back, newest first, at most 5.
        known: Vec<String>,
    },
    /// More than one run begins like that.
    #[error("{count} runs begin with {text}")]
    AmbiguousRun {
        /// What was asked for.
        text: String,
        /// How many.
        count: usize,
    },
    /// A name that the driver gave makes no sense.
    #[error("the driver answered {what:?}, which makes no sense here")]
    DriverAnswer {
        /// What it said.
        what: String,
    },
}

impl Failure for Refusal {
    fn code(&self) -> &'static str {
        match self {
            Self::FileExists { .. } => "restore.file-exists",
            Self::NotAFile { .. } => "restore.not-a-file",
            Self::Folder { .. } => "restore.folder",
            Self::Rename { .. } => "restore.rename",
            Self::Unfinished { .. } => "restore.unfinished",
            Self::NotADevice { .. } => "restore.not-a-device",
            Self::DeviceInUse { .. } => "restore.device-in-use",
            Self::ReadOnly { .. } => "restore.read-only",
            Self::TooSmall { .. } => "restore.target-too-small",
            Self::VolumeExists { .. } => "restore.volume-exists",
            Self::NoSuchVolume { .. } => "restore.no-target-volume",
            Self::VolumeNotReady { .. } => "restore.volume-not-ready",
            Self::Identity { .. } => "restore.identity",
            Self::NoDriver => "restore.no-driver",
            Self::NoSuchRun { .. } => "restore.no-such-run",
            Self::AmbiguousRun { .. } => "restore.ambiguous-run",
            Self::DriverAnswer { .. } => "restore.driver-answer",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Folder { .. } | Self::Rename { .. } | Self::ReadOnly { .. } => Remedy::FixSurroundings,
            Self::VolumeNotReady { .. } => Remedy::Wait,
            Self::DriverAnswer { .. } => Remedy::Bug,
            _ => Remedy::FixRequest,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::FileExists { .. } => {
                "Choose another path, or add --overwrite: then it is replaced at the end, and what of it is right already is not fetched.".into()
            }
            Self::NotAFile { .. } => "Use --to-device for a block device, or choose another path.".into(),
            Self::Folder { .. } => "Make the folder, or choose one that exists and can be written.".into(),
            Self::Rename { .. } => "Everything is written: mend the cause and run the same command again.".into(),
            Self::Unfinished { point, .. } => {
                format!("Finish it with --point {point}, or add --start-over to give it up.")
            }
            Self::NotADevice { .. } => "Use --to-file for a file.".into(),
            Self::DeviceInUse { .. } => "Unmount it, or stop what uses it (`lsblk`, `fuser -v` show what).".into(),
            Self::ReadOnly { .. } => "Check rights and whether the medium is write-protected.".into(),
            Self::TooSmall { needed, .. } => {
                format!("Use a target of at least {needed} bytes; a volume can be made larger with `strongroom volume expand`.")
            }
            Self::VolumeExists { .. } => {
                "Choose another name, or use --in-place to exchange the content of the existing volume.".into()
            }
            Self::NoSuchVolume { .. } => "Use --to-volume to make it from the point.".into(),
            Self::VolumeNotReady { .. } => "`strongroom volume show` says more; wait, or mend it, then try again.".into(),
            Self::Identity { .. } => {
                "Check that this is what you mean. Then add --force-identity, or restore to a new volume with --to-volume.".into()
            }
            Self::NoDriver => "Name its socket with --endpoint, STRONGROOM_ENDPOINT, or [driver] in the configuration.".into(),
            Self::NoSuchRun { known, .. } if known.is_empty() => {
                "There is no run that can be taken back: its safety snapshot was deleted, or it was on another machine.".into()
            }
            Self::NoSuchRun { known, .. } => format!("Runs that can be taken back, newest first: {}.", known.join(", ")),
            Self::AmbiguousRun { .. } => "Give more digits.".into(),
            Self::DriverAnswer { .. } => "Check that driver and command are of the same version.".into(),
        }
    }
}
