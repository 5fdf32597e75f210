//! The seal: how bytes are made secret and unforgeable, and the envelope of objects that are one sealed blob.
//!
//! What always holds:
//!
//! * A key seals only when it is *fresh*: drawn together with its 32-byte salt a moment ago (`seal/key.rs`). Keys derived
//!   from a stored salt can only open. The sealer counts its nonces itself. So no (key, nonce) pair can be used twice,
//!   whoever crashes or races.
//! * The header carries a commitment to the key: AES-GCM alone would let one ciphertext open under two keys.
//! * All that gives a blob its meaning is authenticated with it: header, repository, kind, and the binding (such as
//!   the number of a journal record), so that no object can stand in for another.
//!
//! A blob's bytes:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 80 | header (`seal/header.rs`), magic `SRGMBLOB`, flags bit 0 = zstd |
//! | 80 | n | ciphertext; plain is the content, or with zstd its length (u64) and one zstd frame |
//! | 80+n | 16 | tag; nonce = 12 zero bytes; AD = header, repository id 16, kind u8, binding |

pub(crate) mod agreement;
mod cipher;
mod error;
pub(crate) mod header;
pub(crate) mod key;

use bytes::Bytes;
use strongroom_model::{Entropy, RepositoryId};
use zeroize::Zeroizing;

pub use agreement::PublicKey;
pub use cipher::Cipher;
pub use error::SealError;

use crate::keys::Keyring;
pub(crate) use header::HEADER_BYTES;
use header::Header;
use key::{Opener, Purpose, Sealer, TAG_BYTES};

const MAGIC: &[u8; 8] = b"SRGMBLOB";
const FLAG_ZSTD: u8 = 1;
/// Below this, a zstd frame is hardly ever worth its own 10 bytes.
const WORTH_COMPRESSING: usize = 256;
const ZSTD_LEVEL: i32 = 3;

/// What a blob is; part of what is authenticated, so that no blob can pass for one of another kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum BlobKind {
    /// The keyring inside a key slot; binding: see docs/format.md, section 4.
    KeySlot = 1,
    /// A journal record; binding: its number, u64 little-endian.
    JournalRecord = 2,
    /// A checkpoint; binding: its number, u64 little-endian.
    Checkpoint = 3,
    /// A run of the dedup index; binding: the run id.
    IndexRun = 4,
    /// The footer of a pack; binding: pack id, object suffix, pack kind.
    PackFooter = 5,
    /// A note that a machine keeps for itself (receipts, the highest record seen); binding: as its owner says.
    LocalNote = 6,
    /// What only one domain of a shared repository may read of its journal; binding: see docs/format.md, section 9.
    Names = 8,
}

impl BlobKind {
    /// The most plain bytes that a blob of this kind may have. Bounds what opening one can cost.
    #[must_use]
    pub const fn limit(self) -> u64 {
        match self {
            Self::KeySlot => 64 << 10,
            // Labels are most of it, and a record that is not sealed twice has room for no more.
            Self::Names => 1 << 20,
            Self::PackFooter => 16 << 20,
            // A sweep plan names entries by the million at most; a run has 2^20 entries of 24 bytes.
            Self::JournalRecord | Self::IndexRun | Self::LocalNote => 64 << 20,
            // The pack table: about 64 bytes a pack, so this is 16 million packs or a petabyte.
            Self::Checkpoint => 1 << 30,
        }
    }

    /// Keys, ids and hashes do not shrink; records of words and tables do.
    const fn may_shrink(self) -> bool {
        matches!(self, Self::JournalRecord | Self::Checkpoint | Self::LocalNote | Self::Names)
    }
}

/// Seals `plain` under a fresh salt and the master key of the epoch that seals now.
///
/// # Errors
/// [`SealError::TooLarge`] when `plain` is over the limit of its kind.
pub fn seal(
    keyring: &Keyring,
    repository: RepositoryId,
    kind: BlobKind,
    binding: &[u8],
    plain: &[u8],
    entropy: &dyn Entropy,
) -> Result<Bytes, SealError> {
    let (epoch, master) = keyring.sealing();
    seal_under(&master, epoch, keyring.cipher(), repository, kind, binding, plain, entropy)
}

/// [`seal`] with a secret of an epoch that the caller chooses.
#[expect(clippy::too_many_arguments, reason = "each is one thing that is authenticated")]
pub(crate) fn seal_under(
    secret: &[u8; 32],
    epoch: u32,
    cipher: Cipher,
    repository: RepositoryId,
    kind: BlobKind,
    binding: &[u8],
    plain: &[u8],
    entropy: &dyn Entropy,
) -> Result<Bytes, SealError> {
    if plain.len() as u64 > kind.limit() {
        return Err(SealError::TooLarge { limit: kind.limit() });
    }
    Ok(seal_with(secret, epoch, cipher, repository, kind, binding, plain, entropy))
}

/// Opens what [`seal_under`] made.
pub(crate) fn open_under(
    secret: &[u8; 32],
    repository: RepositoryId,
    kind: BlobKind,
    binding: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    open_with(secret, repository, kind, binding, sealed)
}

/// The epoch that a blob says it was sealed under. Not authenticated: for whoever knows the bytes' hash from elsewhere.
pub(crate) fn epoch_of(sealed: &[u8]) -> Result<u32, SealError> {
    Ok(Header::parse(MAGIC, sealed)?.epoch)
}

/// Opens what [`seal`] made.
///
/// # Errors
/// When it is no blob, was made by a newer version, under a key that the ring lacks, or is not authentic.
pub fn open(
    keyring: &Keyring,
    repository: RepositoryId,
    kind: BlobKind,
    binding: &[u8],
    sealed: &[u8],
) -> Result<Vec<u8>, SealError> {
    let epoch = Header::parse(MAGIC, sealed)?.epoch;
    let master = keyring.master(epoch).ok_or(SealError::UnknownEpoch { epoch })?;
    open_with(&master, repository, kind, binding, sealed).map(|mut plain| std::mem::take(&mut *plain))
}

/// Seals the keyring of a slot under the slot's own secret.
pub(crate) fn wrap(
    secret: &[u8; 32],
    cipher: Cipher,
    repository: RepositoryId,
    binding: &[u8],
    plain: &[u8],
    entropy: &dyn Entropy,
) -> Bytes {
    seal_with(secret, 0, cipher, repository, BlobKind::KeySlot, binding, plain, entropy)
}

/// Opens what [`wrap`] made. [`SealError::WrongKey`] says that `secret` is another one.
pub(crate) fn unwrap(
    secret: &[u8; 32],
    repository: RepositoryId,
    binding: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    open_with(secret, repository, BlobKind::KeySlot, binding, sealed)
}

#[expect(clippy::too_many_arguments, reason = "private; each is one thing that is authenticated")]
fn seal_with(
    secret: &[u8; 32],
    epoch: u32,
    cipher: Cipher,
    repository: RepositoryId,
    kind: BlobKind,
    binding: &[u8],
    plain: &[u8],
    entropy: &dyn Entropy,
) -> Bytes {
    let packed = (kind.may_shrink() && plain.len() >= WORTH_COMPRESSING).then(|| compress(plain)).flatten();
    let (flags, body) = packed.as_ref().map_or((0, plain), |packed| (FLAG_ZSTD, packed.as_slice()));
    let (header, mut sealer) = Sealer::fresh(Purpose::Blob, MAGIC, cipher, flags, epoch, secret, entropy);
    let header = header.encode();
    let mut sealed = Vec::with_capacity(HEADER_BYTES + body.len() + TAG_BYTES);
    sealed.extend_from_slice(&header);
    sealer.seal(|_| associated(&header, repository, kind, binding), body, &mut sealed);
    sealed.into()
}

fn open_with(
    secret: &[u8; 32],
    repository: RepositoryId,
    kind: BlobKind,
    binding: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let header = Header::parse(MAGIC, sealed)?;
    let (head, body) = sealed.split_at(HEADER_BYTES);
    if body.len() as u64 > kind.limit() + TAG_BYTES as u64 + 64 {
        return Err(SealError::TooLarge { limit: kind.limit() });
    }
    if header.flags & !FLAG_ZSTD != 0 {
        return Err(SealError::Unknown { what: "flags", found: header.flags.into() });
    }
    let opener = Opener::derive(Purpose::Blob, &header, secret)?;
    let plain =
        opener.open(0, &associated(head, repository, kind, binding), body).ok_or(SealError::Broken)?;
    if header.flags & FLAG_ZSTD == 0 { Ok(Zeroizing::new(plain)) } else { decompress(&plain, kind.limit()) }
}

fn associated(header: &[u8], repository: RepositoryId, kind: BlobKind, binding: &[u8]) -> Vec<u8> {
    [header, repository.bytes(), &[kind as u8], binding].concat()
}

/// The length and a zstd frame, where that is shorter than `plain`.
fn compress(plain: &[u8]) -> Option<Vec<u8>> {
    let frame = zstd::bulk::compress(plain, ZSTD_LEVEL).ok()?;
    let packed = [&(plain.len() as u64).to_le_bytes(), frame.as_slice()].concat();
    (packed.len() < plain.len()).then_some(packed)
}

fn decompress(packed: &[u8], limit: u64) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (length, frame) = packed.split_first_chunk::<8>().ok_or(SealError::Malformed)?;
    let length = u64::from_le_bytes(*length);
    if length > limit {
        return Err(SealError::TooLarge { limit });
    }
    let length = usize::try_from(length).map_err(|_| SealError::Malformed)?;
    let plain = zstd::bulk::decompress(frame, length).map_err(|_| SealError::Malformed)?;
    if plain.len() == length { Ok(Zeroizing::new(plain)) } else { Err(SealError::Malformed) }
}

#[cfg(test)]
mod tests;
