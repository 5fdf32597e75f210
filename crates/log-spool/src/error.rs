//! Why the spool cannot be used.

use std::io;
use std::path::PathBuf;

use strongroom_database::Position;
use strongroom_model::{Failure, Remedy};

/// Why the spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The disk failed.
    #[error("the spool {}", path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// It holds what cannot be.
    #[error("the spool {}: {what}", path.display())]
    Damaged {
        /// The file or folder.
        path: PathBuf,
        /// What was seen.
        what: String,
    },
    /// Bytes that do not follow.
    #[error("the log came from {found}, expected was {expected}")]
    NotNext {
        /// Where it ends.
        expected: Position,
        /// What came.
        found: Position,
    },
    /// It begins behind what is archived: what is between is in neither.
    #[error("the repository ends at {archived}, the spool begins at {start}")]
    Ahead {
        /// Where the repository ends.
        archived: Position,
        /// Where the spool begins.
        start: Position,
    },
}

impl SpoolError {
    /// A task that works with the spool was ended before its time.
    #[must_use]
    pub fn ended(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Disk { path: "a task that uses it".into(), cause: io::Error::other(error) }
    }

    /// Whether log is lost to it, so that what comes has to be another log.
    #[must_use]
    pub const fn is_gap(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Ahead { .. })
    }
}

impl Failure for SpoolError {
    fn code(&self) -> &'static str {
        match self {
            Self::Disk { .. } => "spool.disk",
            Self::Damaged { .. } => "spool.damaged",
            Self::NotNext { .. } => "spool.not-next",
            Self::Ahead { .. } => "spool.ahead",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Disk { .. } => Remedy::FixSurroundings,
            Self::Damaged { .. } | Self::Ahead { .. } => Remedy::FixData,
            Self::NotNext { .. } => Remedy::Bug,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Disk { .. } => "Check the disk below the agent's `state_dir`: free space and rights.".into(),
            Self::Damaged { .. } => "A new log begins by itself, and a new base is taken: the restorable window has a gap here. Check the disk below the agent's `state_dir`.".into(),
            Self::Ahead { .. } => "A new log begins by itself, and a new base is taken: the restorable window has a gap here.".into(),
            Self::NotNext { .. } => "Report it.".into(),
        }
    }
}
