//! Why a part of a point's image cannot be read.

use std::io;
use std::ops::Range;

use strongroom_model::{ByteRange, Failure, PackId, Remedy};
use strongroom_repository::map::MapError;
use strongroom_repository::pack::FetchError;

/// Why a part of the image cannot be read. No wrong byte was given out.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The map cannot be read.
    #[error("reading the map of the point for volume bytes {range}")]
    Map {
        /// The part of the volume.
        range: ByteRange,
        /// Why.
        #[source]
        cause: Box<MapError>,
    },
    /// A pack cannot be read.
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
    /// An entry holds another number of bytes than the grid has room for.
    #[error("entry {entry} of {pack} holds {actual} bytes, the chunk at volume byte {offset} has {expected}")]
    Misfit {
        /// The pack.
        pack: PackId,
        /// The entry.
        entry: u32,
        /// Where the chunk begins.
        offset: u64,
        /// What it has.
        actual: u64,
        /// What it should have.
        expected: u64,
    },
    /// Nothing of the kind is in the image.
    #[error("{bytes} bytes from {offset} on are not inside of the image of {image_bytes} bytes")]
    Outside {
        /// Where it would begin.
        offset: u64,
        /// How many were asked for.
        bytes: u64,
        /// How many there are.
        image_bytes: u64,
    },
    /// The program is ending.
    #[error("reading was broken off")]
    BrokenOff,
}

impl ImageError {
    pub(super) fn map(range: Range<u64>, cause: MapError) -> Self {
        Self::Map { range: super::named(range), cause: Box::new(cause) }
    }

    pub(super) fn pack(pack: PackId, range: Range<u64>, cause: FetchError) -> Self {
        Self::Pack { pack, range: super::named(range), cause: Box::new(cause) }
    }
}

impl From<ImageError> for io::Error {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Outside { .. } => Self::new(io::ErrorKind::UnexpectedEof, error),
            error => Self::other(error),
        }
    }
}

impl Failure for ImageError {
    fn code(&self) -> &'static str {
        match self {
            Self::Map { cause, .. } => cause.code(),
            Self::Pack { cause, .. } => cause.code(),
            Self::Misfit { .. } => "files.misfit",
            Self::Outside { .. } => "files.outside-image",
            Self::BrokenOff => "files.broken-off",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Map { cause, .. } => cause.remedy(),
            Self::Pack { cause, .. } => cause.remedy(),
            Self::Misfit { .. } | Self::Outside { .. } => Remedy::FixData,
            Self::BrokenOff => Remedy::Retry,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Map { cause, .. } => cause.advice(),
            Self::Pack { cause, .. } => cause.advice(),
            Self::Misfit { .. } => {
                "`strongroom repository check` says which points this touches; another point of the volume may be whole."
                    .into()
            }
            Self::Outside { .. } => {
                "The filesystem in the image is damaged, or larger than the image. Another point of the volume may be whole."
                    .into()
            }
            Self::BrokenOff => "Run it again.".into(),
        }
    }
}
