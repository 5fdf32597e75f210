//! The envelope of objects that are one sealed blob.

use bytes::Bytes;
use strongroom_model::{Entropy, Failure, Remedy, RepositoryId};

use crate::keys::Keyring;

/// What a blob is; part of what is authenticated, so that no blob can pass for another kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum BlobKind {
    /// The keyring inside a key slot; binding: slot id and its plain fields.
    KeySlot = 1,
    /// A journal record; binding: its number, u64 little-endian.
    JournalRecord = 2,
    /// A checkpoint; binding: its number, u64 little-endian.
    Checkpoint = 3,
    /// A run of the dedup index; binding: the run id.
    IndexRun = 4,
    /// The footer of a pack; binding: pack id, object suffix, pack kind.
    PackFooter = 5,
    /// A note that a machine keeps for itself (receipts, high-water mark); binding: as its owner says.
    LocalNote = 6,
}

/// Seals `plain` under a fresh salt.
///
/// # Errors
/// [`SealError::TooLarge`] when `plain` is over the limit of its kind.
pub fn seal(
    _keyring: &Keyring,
    _repository: RepositoryId,
    _kind: BlobKind,
    _binding: &[u8],
    _plain: &[u8],
    _entropy: &dyn Entropy,
) -> Result<Bytes, SealError> {
    todo!()
}

/// Opens what [`seal`] made.
///
/// # Errors
/// When it is no blob, was made by a newer version, under a key that the ring lacks, or is not authentic.
pub fn open(
    _keyring: &Keyring,
    _repository: RepositoryId,
    _kind: BlobKind,
    _binding: &[u8],
    _sealed: &[u8],
) -> Result<Vec<u8>, SealError> {
    todo!()
}

/// Why a blob cannot be sealed or opened. The caller's error names the object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Not one of our envelopes.
    #[error("it is not a sealed object of Strongroom")]
    NotSealed,
    /// Damaged, exchanged, or tampered with.
    #[error("its seal is broken")]
    Broken,
    /// Larger than its kind may be.
    #[error("it is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
}

impl Failure for SealError {
    fn code(&self) -> &'static str {
        "seal.broken"
    }
    fn remedy(&self) -> Remedy {
        Remedy::FixData
    }
    fn advice(&self) -> String {
        String::new()
    }
}
