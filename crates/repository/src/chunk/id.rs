//! The id of a chunk, and of every other entry.

use std::fmt;

use zeroize::Zeroizing;

use crate::keys::Keyring;
use crate::seal::key::derive;

/// The keyed BLAKE3-256 of an entry's plain bytes.
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
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Makes the ids of one dedup domain. Cheap to clone; one for all workers.
#[derive(Clone)]
pub struct ChunkHasher {
    key: Zeroizing<[u8; 32]>,
}

impl ChunkHasher {
    /// The hasher of the chunks of `domain`.
    #[must_use]
    pub fn new(keyring: &Keyring, domain: u32) -> Self {
        Self {
            key: derive(
                "strongroom 2026-11-21 format 1 chunk id key",
                keyring.identity(),
                &domain.to_le_bytes(),
            ),
        }
    }

    /// The hasher of the nodes of maps: under a key of its own, so that a chunk with the bytes of a node is not the node.
    pub(crate) fn of_maps(keyring: &Keyring) -> Self {
        Self { key: derive("strongroom 2026-11-21 format 1 map id key", keyring.identity(), &[]) }
    }

    /// The hasher of what lies in bundles of logs.
    pub(crate) fn of_logs(keyring: &Keyring) -> Self {
        Self { key: derive("strongroom 2026-11-21 format 1 log id key", keyring.identity(), &[]) }
    }

    /// The id of these bytes.
    #[must_use]
    pub fn id(&self, plain: &[u8]) -> ChunkId {
        ChunkId(*blake3::keyed_hash(&self.key, plain).as_bytes())
    }
}

impl fmt::Debug for ChunkHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChunkHasher(secret)")
    }
}

/// The id of `plain` in `domain`. For many chunks keep a [`ChunkHasher`].
#[must_use]
pub fn chunk_id(keyring: &Keyring, domain: u32, plain: &[u8]) -> ChunkId {
    ChunkHasher::new(keyring, domain).id(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SeededEntropy;

    #[test]
    fn ids_differ_by_content_domain_repository_and_use_but_not_by_epoch() {
        let ring = Keyring::generate(&SeededEntropy::new(1));
        let other = Keyring::generate(&SeededEntropy::new(2));
        let id = chunk_id(&ring, 0, b"content");
        assert_ne!(id, chunk_id(&ring, 0, b"contents"));
        assert_ne!(id, chunk_id(&ring, 1, b"content"));
        assert_ne!(id, chunk_id(&other, 0, b"content"));
        assert_ne!(id, ChunkHasher::of_maps(&ring).id(b"content"));
        assert_ne!(id.bytes(), blake3::hash(b"content").as_bytes());
        assert_eq!(id, chunk_id(&ring.rotated(&SeededEntropy::new(3)), 0, b"content"));
    }

    #[test]
    fn the_id_of_known_bytes_is_fixed() {
        let ring = Keyring::generate(&SeededEntropy::new(1));
        assert_eq!(
            chunk_id(&ring, 0, b"content").to_string(),
            "0052b78356ecd9b712a637a5ca2e5fad8ac9eb865ab86cb92544481952b358c7"
        );
    }
}
