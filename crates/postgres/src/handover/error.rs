//! Why a file of the log cannot be handed over, or be taken.

use std::io;
use std::path::{Path, PathBuf};

use strongroom_database::postgres::PageError;
use strongroom_model::{Failure, Remedy};

/// Why a file of the log cannot be handed over, or be taken.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// The disk failed, or does not let us.
    #[error("{}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Nobody takes what is put there.
    #[error("no agent takes the log from {} now", folder.display())]
    NoAgent {
        /// Which folder.
        folder: PathBuf,
    },
    /// Two agents would take from one folder.
    #[error("another agent takes the log from {}", folder.display())]
    OtherAgent {
        /// Which folder.
        folder: PathBuf,
    },
    /// No file of a log is called that.
    #[error("{name:?} is not the name of a file of PostgreSQL's log")]
    NoName {
        /// The name.
        name: String,
    },
    /// It does not begin as a segment does.
    #[error("{name} is not a segment")]
    NoSegment {
        /// Its name.
        name: String,
        /// Why not.
        #[source]
        cause: PageError,
    },
    /// It is a segment, and another one.
    #[error("{name} is not what its name says: {what}")]
    Misnamed {
        /// Its name.
        name: String,
        /// What it is.
        what: String,
    },
    /// It is of another cluster.
    #[error("{name} is of another cluster: its system identifier is {found}, taken is the log of {expected}")]
    OtherCluster {
        /// Its name.
        name: String,
        /// Whose log is taken.
        expected: u64,
        /// Whose it is.
        found: u64,
    },
    /// A file of this name was handed over before, and had other bytes.
    #[error("another {name} was handed over already")]
    Differs {
        /// Its name.
        name: String,
    },
    /// Enough waits there.
    #[error("{} holds as much as it may: {bytes} bytes", folder.display())]
    Full {
        /// Which folder.
        folder: PathBuf,
        /// What is in it.
        bytes: u64,
    },
}

impl HandoverError {
    pub(super) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::File { path: path.to_owned(), cause }
    }
}

impl Failure for HandoverError {
    fn code(&self) -> &'static str {
        match self {
            Self::File { .. } => "handover.file",
            Self::NoAgent { .. } => "handover.no-agent",
            Self::OtherAgent { .. } => "handover.other-agent",
            Self::NoName { .. } => "handover.no-name",
            Self::NoSegment { .. } => "handover.no-segment",
            Self::Misnamed { .. } => "handover.misnamed",
            Self::OtherCluster { .. } => "handover.other-cluster",
            Self::Differs { .. } => "handover.differs",
            Self::Full { .. } => "handover.full",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::NoAgent { .. } | Self::Full { .. } => Remedy::Wait,
            Self::NoName { .. } => Remedy::FixRequest,
            Self::NoSegment { .. } | Self::Misnamed { .. } | Self::Differs { .. } => Remedy::FixData,
            Self::File { .. } | Self::OtherAgent { .. } | Self::OtherCluster { .. } => {
                Remedy::FixSurroundings
            }
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::File { .. } => "The folder belongs to the server's user, and the agent may write there too: check rights and free space.".into(),
            Self::NoAgent { .. } => "PostgreSQL keeps the segment and tries again. Start the agent whose `handover` this folder is, or correct the folder in archive_command.".into(),
            Self::OtherAgent { .. } => "Each `[[database]]` needs a `handover` of its own, and one agent.".into(),
            Self::NoName { .. } => "Write archive_command = 'strongroom db archive-wal %p --to FOLDER'.".into(),
            Self::NoSegment { .. } | Self::Misnamed { .. } => "PostgreSQL keeps the file and tries again. Look at it: a disk may be damaged. Versions 13 to 17 are understood.".into(),
            Self::OtherCluster { .. } => "Give every cluster a `[[database]]` and a `handover` of its own. A copy that was started for a look archives nothing: archive_mode = off.".into(),
            Self::Differs { .. } => "Two servers write the same history: one of them is a copy. Stop it, or set its archive_mode = off; if the copy is the one that is to live, promote it, so that it gets a timeline of its own.".into(),
            Self::Full { .. } => "PostgreSQL keeps the segment and tries again. The agent takes more as soon as its spool has room: see `strongroom status` for why the log does not get into the repository.".into(),
        }
    }
}
