//! Chunks: their ids, zero detection, and compression.

use std::fmt;

use bytes::Bytes;

use crate::keys::Keyring;

/// The keyed BLAKE3-256 of a chunk's plain bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId([u8; 32]);

impl ChunkId {
    /// The id with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
    /// The 32 bytes as they are stored.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Makes chunk ids of one dedup domain.
#[derive(Clone)]
pub struct ChunkHasher {}

impl fmt::Debug for ChunkHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChunkHasher(secret)")
    }
}

impl ChunkHasher {
    /// The hasher of `domain`.
    #[must_use]
    pub fn new(_keyring: &Keyring, _domain: u32) -> Self {
        todo!()
    }
    /// The id of these bytes.
    #[must_use]
    pub fn id(&self, _plain: &[u8]) -> ChunkId {
        todo!()
    }
}

/// The id of `plain` in `domain`. For many chunks keep a [`ChunkHasher`].
#[must_use]
pub fn chunk_id(keyring: &Keyring, domain: u32, plain: &[u8]) -> ChunkId {
    ChunkHasher::new(keyring, domain).id(plain)
}

/// Whether every byte is zero.
#[must_use]
pub fn is_zero(_bytes: &[u8]) -> bool {
    todo!()
}

/// How an entry's plain bytes were coded before sealing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// As they are.
    Stored = 0,
    /// One zstd frame.
    Zstd = 1,
}

/// A chunk ready for sealing.
#[derive(Debug, Clone)]
pub struct Compressed {
    /// How `bytes` are coded.
    pub codec: Codec,
    /// How many plain bytes there are.
    pub plain_bytes: u32,
    /// The coded bytes.
    pub bytes: Bytes,
}

/// Compresses chunk after chunk with one zstd context. One per worker.
pub struct Compressor {}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Compressor")
    }
}

impl Default for Compressor {
    fn default() -> Self {
        Self::new(Self::DEFAULT_LEVEL)
    }
}

impl Compressor {
    /// zstd's level 3.
    pub const DEFAULT_LEVEL: i32 = 3;
    /// A compressor of this zstd level.
    #[must_use]
    pub fn new(_level: i32) -> Self {
        todo!()
    }
    /// Compresses one chunk; what does not shrink is stored as it is.
    pub fn compress(&mut self, _plain: Bytes) -> Compressed {
        todo!()
    }
}
