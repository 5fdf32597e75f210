//! Why a sealed object cannot be sealed or opened.

use strongroom_model::{Failure, Remedy};

/// Why a sealed object cannot be sealed or opened. The caller's error names the object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Not one of our envelopes.
    #[error("it does not begin like a sealed object")]
    NotSealed,
    /// A version, cipher or flag of the future.
    #[error("its {what} is {found}, which this version does not know")]
    Unknown {
        /// Which field.
        what: &'static str,
        /// What it says.
        found: u32,
    },
    /// Sealed under a master key that this keyring lacks.
    #[error("it is sealed under the master key of epoch {epoch}, which the keyring does not hold")]
    UnknownEpoch {
        /// Which epoch.
        epoch: u32,
    },
    /// Its data is sealed to a public key whose private key this keyring lacks.
    #[error("its data is sealed to the data key of epoch {epoch}, which a write-only key does not hold")]
    NoDataKey {
        /// Which epoch.
        epoch: u32,
    },
    /// The header does not commit to this key: another repository's key, or a damaged header.
    #[error("it is sealed under another key, or its header is damaged")]
    WrongKey,
    /// Damaged, exchanged, or tampered with.
    #[error("its seal is broken: it is damaged, or stands in another object's place")]
    Broken,
    /// Larger than its kind may be.
    #[error("it is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// It opened, but what is inside is not what a writer of this version writes.
    #[error("its content is malformed")]
    Malformed,
}

impl Failure for SealError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotSealed => "seal.not-sealed",
            Self::Unknown { .. } => "seal.unknown-version",
            Self::UnknownEpoch { .. } => "seal.unknown-epoch",
            Self::NoDataKey { .. } => "seal.no-data-key",
            Self::WrongKey => "seal.wrong-key",
            Self::Broken => "seal.broken",
            Self::TooLarge { .. } => "seal.too-large",
            Self::Malformed => "seal.malformed",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::NotSealed | Self::WrongKey | Self::Broken => Remedy::FixData,
            Self::Unknown { .. } | Self::UnknownEpoch { .. } => Remedy::FixSurroundings,
            Self::NoDataKey { .. } => Remedy::FixRequest,
            Self::TooLarge { .. } | Self::Malformed => Remedy::Bug,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::NotSealed | Self::WrongKey | Self::Broken => {
                "Run `strongroom repository check` to see what is damaged and which recovery points it touches."
            }
            Self::Unknown { .. } => "Use a newer version of strongroom: this repository was written by one.",
            Self::UnknownEpoch { .. } => {
                "The keys were rotated, and this key was removed or left behind: ask an owner to add it again with `strongroom \
                 repository key add`. A write-only key never opens what was sealed before write-only keys were switched on."
            }
            Self::NoDataKey { .. } => {
                "Use a key that grants everything: `strongroom repository key list` shows which do."
            }
            Self::TooLarge { .. } | Self::Malformed => {
                "Report it, with the version that wrote it: no version should write this."
            }
        }
        .to_owned()
    }
}
