//! Why a map cannot be read or written.

use strongroom_model::{Failure, PackId, Remedy};

use crate::pack::{EntryRef, FetchError, WriteError};

/// Why a map cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// A node cannot be had.
    #[error("reading a node of the map")]
    Fetch(#[source] FetchError),
    /// A map pack cannot be written.
    #[error("writing the map")]
    Write(#[source] WriteError),
    /// A node opened, and is not what a writer of this version writes.
    #[error("the map node at entry {} of {} is malformed: {what}", at.entry, at.pack)]
    Malformed {
        /// Where it lies.
        at: EntryRef,
        /// What was seen.
        what: &'static str,
    },
    /// A chunk lies in a pack whose upload was not acknowledged.
    #[error("the map names {pack}, which is not stored")]
    NotStored {
        /// Which pack.
        pack: PackId,
    },
    /// An earlier step failed, or was given up before it had ended.
    #[error("an earlier step of writing the map did not end")]
    BrokenOff,
    /// Chunks were set out of order, twice, or outside of the volume.
    #[error("chunk {chunk} was set where one from {expected} on, below {chunks}, was expected")]
    Order {
        /// The chunk.
        chunk: u64,
        /// The first that could come.
        expected: u64,
        /// How many the volume has.
        chunks: u64,
    },
    /// Two maps that should fit each other have different grids or dedup domains.
    #[error("the maps have different grids: chunks of {ours} and of {theirs} bytes")]
    Grid {
        /// One.
        ours: u32,
        /// The other.
        theirs: u32,
    },
    /// The volume has more chunks than a map can name.
    #[error("a volume of {volume_bytes} bytes is too large for chunks of {chunk_bytes} bytes")]
    TooLarge {
        /// The volume's size.
        volume_bytes: u64,
        /// The grid.
        chunk_bytes: u32,
    },
}

impl Failure for MapError {
    fn code(&self) -> &'static str {
        match self {
            Self::Fetch(cause) => cause.code(),
            Self::Write(cause) => cause.code(),
            Self::Malformed { .. } => "map.malformed",
            Self::NotStored { .. } => "map.not-stored",
            Self::BrokenOff => "map.broken-off",
            Self::Order { .. } => "map.order",
            Self::Grid { .. } => "map.grid",
            Self::TooLarge { .. } => "map.too-large",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Fetch(cause) => cause.remedy(),
            Self::Write(cause) => cause.remedy(),
            Self::Malformed { .. } | Self::NotStored { .. } | Self::Order { .. } | Self::Grid { .. } => {
                Remedy::Bug
            }
            Self::BrokenOff => Remedy::Retry,
            Self::TooLarge { .. } => Remedy::FixRequest,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Fetch(cause) => cause.advice(),
            Self::Write(cause) => cause.advice(),
            Self::Malformed { .. } => {
                "Report it, with the version that wrote the recovery point. Other points may not share \
                                       this node: try one."
                    .to_owned()
            }
            Self::NotStored { .. } | Self::BrokenOff | Self::Order { .. } | Self::Grid { .. } => {
                "Run it again; if it says so again, report it.".to_owned()
            }
            Self::TooLarge { .. } => "Make a repository with larger chunks for it.".to_owned(),
        }
    }
}
