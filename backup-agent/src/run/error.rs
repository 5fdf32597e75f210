//! Why a backup published no point.

use std::path::PathBuf;
use std::time::Duration;

use strongroom_block_io::BlockIoError;
use strongroom_console::TimeSpan;
use strongroom_model::{Failure, RecoveryPointId, Remedy, VolumeName};
use strongroom_repository::map::MapError;
use strongroom_repository::{DomainError, PublishError, SessionError};

use crate::capture::CaptureError;
use crate::driver::DriverError;

/// Why a backup published no point. What was stored until then is kept, and not sent again by the next run.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The driver failed.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The volume is not fit to be backed up.
    #[error("volume {volume} cannot be backed up now: {why}")]
    NotReady {
        /// Which volume.
        volume: VolumeName,
        /// Why not.
        why: String,
    },
    /// The image, device or snapshot cannot be opened.
    #[error("opening {}", path.display())]
    Open {
        /// What.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: BlockIoError,
    },
    /// The image was written to.
    #[error("{} was written to while it was read, so it was never as it was read", path.display())]
    Written {
        /// Which image.
        path: PathBuf,
    },
    /// The volume is another domain's.
    #[error(transparent)]
    Domain(#[from] DomainError),
    /// The session.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The map of the point before.
    #[error("reading the map of {point}, the point before")]
    Parent {
        /// Which point.
        point: RecoveryPointId,
        /// Why.
        #[source]
        cause: MapError,
    },
    /// Reading and storing.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// Nothing moved.
    #[error("the backup stalled: nothing moved for {}", TimeSpan(*after))]
    Stalled {
        /// How long it was waited.
        after: Duration,
    },
    /// Publishing.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// Somebody else is at it.
    #[error("another backup of {volume} is under way on this machine")]
    Busy {
        /// Of which volume.
        volume: VolumeName,
    },
    /// The state folder.
    #[error("using the state folder {}", path.display())]
    State {
        /// Which file or folder.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
}

impl BackupError {
    fn cause(&self) -> Option<&dyn Failure> {
        match self {
            Self::Driver(cause) => Some(cause),
            Self::Open { cause, .. } => Some(cause),
            Self::Domain(cause) => Some(cause),
            Self::Session(cause) => Some(cause),
            Self::Parent { cause, .. } => Some(cause),
            Self::Capture(cause) => Some(cause),
            Self::Publish(cause) => Some(cause),
            Self::NotReady { .. }
            | Self::Written { .. }
            | Self::Stalled { .. }
            | Self::Busy { .. }
            | Self::State { .. } => None,
        }
    }
}

impl Failure for BackupError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotReady { .. } => "backup.not-ready",
            Self::Written { .. } => "backup.image-written",
            Self::Stalled { .. } => "backup.stalled",
            Self::Busy { .. } => "backup.busy",
            Self::State { .. } => "backup.state",
            other => other.cause().map_or("backup.failed", Failure::code),
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::NotReady { .. } | Self::Written { .. } | Self::State { .. } => Remedy::FixSurroundings,
            Self::Stalled { .. } => Remedy::Retry,
            Self::Busy { .. } => Remedy::Wait,
            other => other.cause().map_or(Remedy::Bug, Failure::remedy),
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::NotReady { volume, .. } => format!("See `strongroom volume show {volume}`."),
            Self::Written { .. } => "Stop what writes to it, or take a snapshot of it and back that up.".into(),
            Self::Stalled { .. } => {
                "Check the store and the disk; then run it again: what was stored is kept, and not sent again.".into()
            }
            Self::Busy { .. } => "Wait until it has ended.".into(),
            Self::State { .. } => "Make the state folder writable for this program, with space left on its disk.".into(),
            other => other.cause().map_or_else(String::new, Failure::advice),
        }
    }
}
