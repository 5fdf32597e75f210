//! What can go wrong between the bucket and the target.

use strongroom_block_io::BlockIoError;
use strongroom_model::{ByteRange, Failure, PackId, RecoveryPointId, Remedy};
use strongroom_repository::map::MapError;
use strongroom_repository::pack::{FetchError, PackError};

use crate::journal::JournalError;

/// Why surveying, hydrating or verifying stopped. Whatever the variant, no wrong byte was written.
#[derive(Debug, thiserror::Error)]
pub enum HydrateError {
    /// The map of the point cannot be read.
    #[error("reading the map of {point} for volume bytes {range}")]
    Map {
        /// The point.
        point: RecoveryPointId,
        /// The part of the volume.
        range: ByteRange,
        /// Why.
        #[source]
        cause: Box<MapError>,
    },
    /// A pack, or a range of it, cannot be read.
    #[error("reading {pack}, needed for volume bytes {range}")]
    Pack {
        /// The pack.
        pack: PackId,
        /// The first part of the volume that needs it.
        range: ByteRange,
        /// Why.
        #[source]
        cause: Box<FetchError>,
    },
    /// An entry of a pack is not what was stored.
    #[error("entry {entry} of {pack}, needed for volume bytes {range}, is damaged")]
    Entry {
        /// The pack.
        pack: PackId,
        /// The entry.
        entry: u32,
        /// The first part of the volume that needs it.
        range: ByteRange,
        /// What was seen.
        #[source]
        cause: Box<PackError>,
    },
    /// An entry holds another number of bytes than the grid has room for.
    #[error(
        "entry {entry} of {pack} holds {actual} bytes, the chunk at volume bytes {range} needs {expected}"
    )]
    Misfit {
        /// The pack.
        pack: PackId,
        /// The entry.
        entry: u32,
        /// The chunk.
        range: ByteRange,
        /// What it holds.
        actual: u64,
        /// What is needed.
        expected: u64,
    },
    /// The point was forgotten while it was being restored, and what it needs is gone.
    #[error("recovery point {point} was forgotten while it was being restored, and data it needs was swept")]
    Forgotten {
        /// The point.
        point: RecoveryPointId,
    },
    /// The target or the local source refused.
    #[error(transparent)]
    Target(#[from] BlockIoError),
    /// The restore journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// What was written reads back differently.
    #[error("{chunks} chunks at the target are not what was written there, the first at bytes {range}")]
    NotKept {
        /// How many.
        chunks: u64,
        /// The first.
        range: ByteRange,
    },
    /// The map says another thing than when the plan was made.
    #[error("the plan does not fit the map of {point} at volume bytes {range}")]
    PlanMisfit {
        /// The point.
        point: RecoveryPointId,
        /// Where.
        range: ByteRange,
    },
}

impl HydrateError {
    /// Whether it is damage in the repository that other parts of the volume need not suffer from.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Map { cause, .. } => cause.remedy() == Remedy::FixData,
            Self::Pack { cause, .. } => cause.remedy() == Remedy::FixData,
            // What this key may not read is not damaged.
            Self::Entry { cause, .. } => cause.remedy() == Remedy::FixData,
            Self::Misfit { .. } => true,
            _ => false,
        }
    }
}

impl Failure for HydrateError {
    fn code(&self) -> &'static str {
        match self {
            Self::Map { .. } if self.is_damage() => "restore.map-damaged",
            Self::Map { cause, .. } => cause.code(),
            Self::Pack { .. } if self.is_damage() => "restore.pack-damaged",
            Self::Pack { cause, .. } => cause.code(),
            Self::Entry { cause, .. } if !self.is_damage() => cause.code(),
            Self::Entry { .. } | Self::Misfit { .. } => "restore.chunk-damaged",
            Self::Forgotten { .. } => "restore.forgotten",
            Self::Target(cause) if cause.is_full() => "restore.target-full",
            Self::Target(cause) => cause.code(),
            Self::Journal(JournalError::Io { .. }) => "restore.journal",
            Self::Journal(JournalError::Locked { .. }) => "restore.in-use",
            Self::NotKept { .. } => "restore.not-kept",
            Self::PlanMisfit { .. } => "restore.plan-misfit",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Map { cause, .. } => cause.remedy(),
            Self::Pack { cause, .. } => cause.remedy(),
            Self::Entry { cause, .. } => cause.remedy(),
            Self::Misfit { .. } => Remedy::FixData,
            Self::Forgotten { .. } => Remedy::FixRequest,
            Self::Target(cause) => cause.remedy(),
            Self::Journal(JournalError::Io { .. }) | Self::NotKept { .. } => Remedy::FixSurroundings,
            Self::Journal(JournalError::Locked { .. }) => Remedy::Wait,
            Self::PlanMisfit { .. } => Remedy::Bug,
        }
    }

    fn advice(&self) -> String {
        match self {
            _ if self.is_damage() => {
                "Nothing wrong was written. Choose another point (`strongroom points list`), or add --keep-going to write \
                 all that can be read and list what cannot; `strongroom repository check` shows what else is touched."
                    .into()
            }
            Self::Map { cause, .. } => cause.advice(),
            Self::Pack { cause, .. } => cause.advice(),
            Self::Entry { cause, .. } => cause.advice(),
            Self::Forgotten { .. } => {
                "Choose another point (`strongroom points list`); `strongroom points hold` keeps one from being forgotten.".into()
            }
            Self::Target(cause) if cause.is_full() => {
                "Free space where the target lies and run the same command again: it goes on where it stopped.".into()
            }
            Self::Target(cause) => cause.advice(),
            Self::Journal(JournalError::Io { .. }) => {
                "Check the folder of the journal: free space, rights, read-only mounts; then run the same command again.".into()
            }
            Self::Journal(JournalError::Locked { .. }) => {
                "Wait for the other restore to end, or choose another target.".into()
            }
            Self::NotKept { .. } => {
                "Look for disk errors in the kernel's log. Run the same command again: what did not keep is written again.".into()
            }
            Self::Misfit { .. } | Self::PlanMisfit { .. } => {
                "Report this: the program contradicts itself.".into()
            }
        }
    }
}
