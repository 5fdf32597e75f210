//! Why what is archived of a database cannot be used.

use strongroom_database::{IndexError, LineageError, PlanError};
use strongroom_model::{Failure, Remedy};
use strongroom_repository::LogError;

/// What is archived cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// There is no such database here.
    #[error("no log of a database is archived for {what}")]
    NoDatabase {
        /// What was asked for.
        what: String,
    },
    /// Several lie on the volume.
    #[error("several databases lie on {volume}: {}", names.join(", "))]
    SeveralDatabases {
        /// The volume.
        volume: String,
        /// Their names.
        names: Vec<String>,
    },
    /// The histories contradict each other.
    #[error("the histories of {database}")]
    Histories {
        /// Which.
        database: String,
        /// How.
        #[source]
        cause: LineageError,
    },
    /// A bundle cannot be read.
    #[error("reading the log")]
    Log(#[source] Box<LogError>),
    /// The index of a bundle is none.
    #[error("the commit index of bundle {place}")]
    Index {
        /// Which.
        place: String,
        /// What is wrong.
        #[source]
        cause: IndexError,
    },
    /// A task was ended with the program.
    #[error("the program is ending")]
    Ending,
    /// It cannot be restored as it is wanted.
    #[error(transparent)]
    Refused(Box<strongroom_database::Refusal>),
}

impl From<LogError> for ArchiveError {
    fn from(cause: LogError) -> Self {
        Self::Log(Box::new(cause))
    }
}

impl From<PlanError<Self>> for ArchiveError {
    fn from(error: PlanError<Self>) -> Self {
        match error {
            PlanError::Refused(refusal) => Self::Refused(refusal),
            PlanError::Index(error) => error,
        }
    }
}

impl Failure for ArchiveError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoDatabase { .. } => "database.none",
            Self::SeveralDatabases { .. } => "database.several",
            Self::Histories { .. } => "database.histories",
            Self::Log(cause) => cause.code(),
            Self::Index { .. } => "database.index",
            Self::Ending => "database.ending",
            Self::Refused(refusal) => refusal.code(),
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::NoDatabase { .. } | Self::SeveralDatabases { .. } => Remedy::FixRequest,
            Self::Histories { .. } => Remedy::FixSurroundings,
            Self::Log(cause) => cause.remedy(),
            Self::Index { .. } => Remedy::FixData,
            Self::Ending => Remedy::Retry,
            Self::Refused(refusal) => refusal.remedy(),
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::NoDatabase { .. } => "`strongroom db list` shows what there is.".into(),
            Self::SeveralDatabases { .. } => "Say with --database which one is meant.".into(),
            Self::Histories { .. } => "Two servers took the same number: give one of them another name in the configuration.".into(),
            Self::Log(cause) => cause.advice(),
            Self::Index { .. } => "It was written by a newer version, or is damaged: run `strongroom repository check --read-data`.".into(),
            Self::Ending => "Run it again.".into(),
            Self::Refused(refusal) => refusal.advice(),
        }
    }
}
