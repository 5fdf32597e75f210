//! Why a copy was not brought up to date.

use strongroom_model::{Failure, RecoveryPointId, Remedy};

use crate::errors::{DomainError, JournalError};
use crate::head::HeadError;
use crate::map::MapError;
use crate::pack::PackError;
use crate::store::StoreError;

/// Why a copy was not brought up to date, or not promoted. What was copied until then stays and is not sent again.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The journal of the repository, or that of the copy.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Reading what is to be copied.
    #[error("reading {object}, to copy it")]
    Source {
        /// Which object.
        object: String,
        /// Why.
        #[source]
        cause: StoreError,
    },
    /// A pack of the repository could not be read.
    #[error("copying a pack")]
    Pack(#[source] PackError),
    /// The map of a point, which says what it needs.
    #[error("reading the map of {point}, to know what it needs")]
    Map {
        /// Which point.
        point: RecoveryPointId,
        /// Why.
        #[source]
        cause: MapError,
    },
    /// What the points of other domains need cannot be known, so no rule can say what is left out.
    #[error("what the key domains of the repository need, to choose what is copied")]
    Domains(#[from] DomainError),
    /// The copy's store failed.
    #[error("writing {object} to the copy")]
    Target {
        /// Which object.
        object: String,
        /// Why.
        #[source]
        cause: StoreError,
    },
    /// The head at the copy is none that is known.
    #[error("the head of the copy at {location}")]
    Head {
        /// Where.
        location: String,
        /// Why.
        #[source]
        cause: HeadError,
    },
    /// Somebody else's objects are there.
    #[error("{location} holds another repository")]
    Other {
        /// Where.
        location: String,
    },
    /// A repository that is no copy is there.
    #[error("{location} holds a repository of its own, not a copy")]
    NotACopy {
        /// Where.
        location: String,
    },
    /// The copy was promoted.
    #[error("the copy at {location} was promoted: it is a repository of its own now")]
    Promoted {
        /// Where.
        location: String,
    },
    /// The copy's journal went another way.
    #[error("journal record {number} of the copy at {location} is not the one of the repository")]
    Forked {
        /// Which record.
        number: u64,
        /// Where.
        location: String,
    },
    /// Sweeps were always faster.
    #[error("{times} times a sweep took what was to be copied")]
    Moving {
        /// How often.
        times: u32,
    },
    /// Nobody knows what the store of a first copy can do.
    #[error("the store at {location} was not tried before its first copy")]
    NotProbed {
        /// Where.
        location: String,
    },
}

impl Failure for CopyError {
    fn code(&self) -> &'static str {
        match self {
            Self::Journal(cause) => cause.code(),
            Self::Source { cause, .. } | Self::Target { cause, .. } => cause.code(),
            Self::Pack(cause) => cause.code(),
            Self::Map { cause, .. } => cause.code(),
            Self::Domains(cause) => cause.code(),
            Self::Head { .. } => "copy.head",
            Self::Other { .. } => "copy.other-repository",
            Self::NotACopy { .. } => "copy.none",
            Self::Promoted { .. } => "copy.promoted",
            Self::Forked { .. } => "copy.forked",
            Self::Moving { .. } => "copy.moving",
            Self::NotProbed { .. } => "copy.not-probed",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Journal(cause) => cause.remedy(),
            Self::Source { cause, .. } | Self::Target { cause, .. } => cause.remedy(),
            Self::Pack(cause) => cause.remedy(),
            Self::Map { cause, .. } => cause.remedy(),
            Self::Domains(cause) => cause.remedy(),
            Self::Head { .. } => Remedy::FixData,
            Self::Other { .. } | Self::NotACopy { .. } | Self::Promoted { .. } => Remedy::FixRequest,
            Self::Forked { .. } => Remedy::FixData,
            Self::Moving { .. } => Remedy::Retry,
            Self::NotProbed { .. } => Remedy::Bug,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Journal(cause) => return cause.advice(),
            Self::Source { cause, .. } | Self::Target { cause, .. } => return cause.advice(),
            Self::Pack(cause) => return cause.advice(),
            Self::Map { cause, .. } => return cause.advice(),
            Self::Domains(cause) => return cause.advice(),
            Self::Head { .. } => "Look at strongroom.json there; the copy can be begun anew under another prefix.",
            Self::Other { .. } => "Nothing was overwritten. Choose another bucket, prefix or folder for the copy.",
            Self::NotACopy { .. } => "Nothing was changed. Name the copy, or choose an empty place for it.",
            Self::Promoted { .. } => {
                "Nothing was changed. Take it out of the configuration, and copy to another place if a second copy is still wanted."
            }
            Self::Forked { .. } => {
                "Nothing was overwritten or deleted. Somebody wrote to the copy, or one of the two was replaced by an older state: compare them with `strongroom repository audit`, then begin a copy under another prefix."
            }
            Self::Moving { .. } => "Run it again; what was copied is not sent again.",
            Self::NotProbed { .. } => "Report it.",
        }
        .to_owned()
    }
}
