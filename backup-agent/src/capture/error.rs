//! Why a capture ended without a map.

use strongroom_block_io::BlockIoError;
use strongroom_model::{Failure, Remedy};
use strongroom_repository::map::MapError;
use strongroom_repository::pack::WriteError;

/// Whoever knows what changed could not say it to the end.
pub type ChangesError = Box<dyn Failure + Send + Sync>;

/// Why a capture ended without a map. What it stored until then is kept.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The volume cannot be read.
    #[error("reading the volume")]
    Read(#[source] BlockIoError),
    /// The list of what changed broke off. What came before must not be taken for all.
    #[error("{}", strongroom_model::chain(&**.0))]
    Changes(ChangesError),
    /// The list of what changed goes backwards.
    #[error("the list of changes goes backwards: byte {at} after byte {after}")]
    Order {
        /// Where a range begins.
        at: u64,
        /// How far the list was.
        after: u64,
    },
    /// A pack cannot be stored.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The map of the parent cannot be read, or the new map cannot be written.
    #[error(transparent)]
    Map(MapError),
    /// Stopped from outside.
    #[error("the backup was stopped")]
    Cancelled,
    /// A room ended without saying why.
    #[error("a room of the capture panicked")]
    Panicked,
}

impl Failure for CaptureError {
    fn code(&self) -> &'static str {
        match self {
            Self::Read(cause) => cause.code(),
            Self::Changes(cause) => cause.code(),
            Self::Order { .. } => "capture.order",
            Self::Write(cause) => cause.code(),
            Self::Map(cause) => cause.code(),
            Self::Cancelled => "backup.stopped",
            Self::Panicked => "capture.panicked",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Read(cause) => cause.remedy(),
            Self::Changes(cause) => cause.remedy(),
            Self::Order { .. } | Self::Panicked => Remedy::Bug,
            Self::Write(cause) => cause.remedy(),
            Self::Map(cause) => cause.remedy(),
            Self::Cancelled => Remedy::Retry,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Read(cause) => cause.advice(),
            Self::Changes(cause) => cause.advice(),
            Self::Order { .. } => {
                "Report it: the driver broke its promise, and the backup would not have been complete.".into()
            }
            Self::Panicked => "Report it, with the log.".into(),
            Self::Write(cause) => cause.advice(),
            Self::Map(cause) => cause.advice(),
            Self::Cancelled => "Run it again: what was stored is kept, and not sent again.".into(),
        }
    }
}
