//! Why packs cannot be written, read, or rewritten.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use strongroom_model::{Failure, PackId, Remedy};

use crate::seal::SealError;
use crate::store::StoreError;

/// Why a pack could not be written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// The store failed.
    #[error("storing {object}")]
    Store {
        /// Which object.
        object: String,
        /// Why.
        #[source]
        cause: Arc<StoreError>,
    },
    /// The store acknowledged an upload, and then shows another size.
    #[error("{object} was stored with {expected} bytes, but the store shows {actual}")]
    Size {
        /// Which object.
        object: String,
        /// How many were sent.
        expected: u64,
        /// How many are there.
        actual: u64,
    },
    /// An entry is larger than the format allows.
    #[error("an entry of {bytes} bytes is larger than an entry may be ({limit})")]
    TooLarge {
        /// How many it has.
        bytes: u64,
        /// How many it may have.
        limit: u64,
    },
    /// An upload ended without an answer: the program is shutting down, or whoever waited for it gave up.
    #[error("an upload was broken off")]
    BrokenOff,
}

impl Failure for WriteError {
    fn code(&self) -> &'static str {
        match self {
            Self::Store { cause, .. } => cause.code(),
            Self::Size { .. } => "pack.stored-size",
            Self::TooLarge { .. } => "pack.entry-too-large",
            Self::BrokenOff => "pack.broken-off",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Store { cause, .. } => cause.remedy(),
            Self::Size { .. } | Self::BrokenOff => Remedy::Retry,
            Self::TooLarge { .. } => Remedy::FixRequest,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Store { cause, .. } => cause.advice(),
            Self::Size { .. } => {
                "Run it again; if it says so again, this store does not keep what it acknowledges: do not use it.".to_owned()
            }
            Self::TooLarge { .. } => "Use smaller chunks; a map of more than 170 TiB needs a newer version.".to_owned(),
            Self::BrokenOff => "Run it again: what was stored is kept.".to_owned(),
        }
    }
}

/// Why a pack or an entry cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// There is no such object.
    #[error("{object} is missing")]
    Missing {
        /// Which object.
        object: String,
    },
    /// The store failed.
    #[error("reading {object}")]
    Store {
        /// Which object.
        object: String,
        /// Why.
        #[source]
        cause: StoreError,
    },
    /// The bytes are not what was written.
    #[error("{object} is damaged: {what}")]
    Damaged {
        /// Which object.
        object: String,
        /// What was seen.
        what: String,
    },
    /// The footer, or the key that the header commits to, does not open.
    #[error("the table of entries of {object} does not open")]
    Sealed {
        /// Which object.
        object: String,
        /// Why.
        #[source]
        cause: SealError,
    },
    /// An entry is not what the table says.
    #[error("entry {entry} of {object} is damaged: {what}")]
    EntryDamaged {
        /// Which object.
        object: String,
        /// Which entry.
        entry: u32,
        /// What was seen.
        what: &'static str,
    },
    /// Something of the future.
    #[error("{object} holds {what}, which this version does not know")]
    Unknown {
        /// Which object.
        object: String,
        /// What it holds.
        what: String,
    },
    /// The entry is a hole: it was swept.
    #[error("entry {entry} is no longer in {object}")]
    Hole {
        /// Which object.
        object: String,
        /// Which entry.
        entry: u32,
    },
}

impl PackError {
    /// Whether bytes came, and are not those that were stored: another copy may have the right ones.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Sealed { .. } | Self::EntryDamaged { .. })
    }

    /// Whether the journal may know a newer place: the object is gone, or the entry is a hole in it.
    #[must_use]
    pub const fn may_have_moved(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::Hole { .. })
    }
}

impl Failure for PackError {
    fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "pack.missing",
            Self::Store { cause, .. } => cause.code(),
            Self::Damaged { .. } => "pack.damaged",
            Self::Sealed { cause, .. } => cause.code(),
            Self::EntryDamaged { .. } => "pack.entry-damaged",
            Self::Unknown { .. } => "pack.unknown",
            Self::Hole { .. } => "pack.hole",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Store { cause, .. } => cause.remedy(),
            Self::Sealed { cause, .. } => cause.remedy(),
            Self::Unknown { .. } => Remedy::FixSurroundings,
            _ => Remedy::FixData,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Store { cause, .. } => cause.advice(),
            Self::Sealed { cause, .. } => cause.advice(),
            Self::Unknown { .. } => "Use a newer version of strongroom: this repository was written by one.".to_owned(),
            _ => "Run `strongroom repository check --read-data` to see what is damaged and which recovery points it \
                  touches; another recovery point, or the bucket's own versions, may still have the data."
                .to_owned(),
        }
    }
}

/// Why an [`EntrySource`](super::EntrySource) has no entry. `Pack` and `Other` speak with the words of what they hold.
#[derive(Debug)]
pub enum FetchError {
    /// The pack table has no such pack.
    NotListed {
        /// Which pack.
        pack: PackId,
    },
    /// The pack cannot be read.
    Pack(PackError),
    /// What the source itself met.
    Other(Box<dyn Failure + Send + Sync>),
}

impl FetchError {
    /// Whether the journal may know better: the pack is not in it (any more), its object is gone, or the entry is a hole.
    #[must_use]
    pub const fn may_have_moved(&self) -> bool {
        match self {
            Self::NotListed { .. } => true,
            Self::Pack(cause) => cause.may_have_moved(),
            Self::Other(_) => false,
        }
    }
}

impl From<PackError> for FetchError {
    fn from(cause: PackError) -> Self {
        Self::Pack(cause)
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotListed { pack } => write!(f, "the journal names no {pack}"),
            Self::Pack(cause) => cause.fmt(f),
            Self::Other(cause) => cause.fmt(f),
        }
    }
}

impl Error for FetchError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NotListed { .. } => None,
            Self::Pack(cause) => cause.source(),
            Self::Other(cause) => cause.source(),
        }
    }
}

impl Failure for FetchError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotListed { .. } => "pack.not-listed",
            Self::Pack(cause) => cause.code(),
            Self::Other(cause) => cause.code(),
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::NotListed { .. } => Remedy::FixData,
            Self::Pack(cause) => cause.remedy(),
            Self::Other(cause) => cause.remedy(),
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::NotListed { .. } => {
                "Run `strongroom repository check` to see which recovery points are touched.".to_owned()
            }
            Self::Pack(cause) => cause.advice(),
            Self::Other(cause) => cause.advice(),
        }
    }
}

/// Why a pack could not be rewritten.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    /// The old object cannot be read, or is damaged.
    #[error(transparent)]
    Read(#[from] PackError),
    /// The new object cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Failure for RewriteError {
    fn code(&self) -> &'static str {
        match self {
            Self::Read(cause) => cause.code(),
            Self::Write(cause) => cause.code(),
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Read(cause) => cause.remedy(),
            Self::Write(cause) => cause.remedy(),
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Read(cause) => cause.advice(),
            Self::Write(cause) => cause.advice(),
        }
    }
}
