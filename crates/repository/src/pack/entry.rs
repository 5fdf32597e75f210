//! An entry of a pack: where it lies, what it is, and what is authenticated with it.

use bytes::Bytes;
use strongroom_model::{PackId, RepositoryId};

use crate::chunk::{ChunkId, Codec};
use crate::layout::PackKind;

/// Where something lies, for ever: a logical pack and a number in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryRef {
    /// The logical pack.
    pub pack: PackId,
    /// The number of the entry.
    pub entry: u32,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EntryType {
    /// A chunk of a volume.
    Chunk = 1,
    /// A chunk as another chunk, its base, and the blocks in which it differs ([`super::Delta`]).
    Delta = 2,
    /// A leaf of a map.
    MapLeaf = 3,
    /// An inner node of a map.
    MapNode = 4,
    /// The root of a map.
    MapRoot = 5,
    /// Bytes of a database's log as they were written.
    LogBytes = 6,
    /// What the bytes of a bundle say, in the form of the engine's own index.
    LogIndex = 7,
}

impl EntryType {
    pub(super) const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Chunk),
            2 => Some(Self::Delta),
            3 => Some(Self::MapLeaf),
            4 => Some(Self::MapNode),
            5 => Some(Self::MapRoot),
            6 => Some(Self::LogBytes),
            7 => Some(Self::LogIndex),
            _ => None,
        }
    }

    /// In packs of which kind it lies.
    #[must_use]
    pub const fn pack_kind(self) -> PackKind {
        match self {
            Self::Chunk | Self::Delta => PackKind::Data,
            Self::MapLeaf | Self::MapNode | Self::MapRoot => PackKind::Map,
            Self::LogBytes | Self::LogIndex => PackKind::Log,
        }
    }
}

/// What the footer says of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryRow {
    /// The number of the entry.
    pub number: u32,
    /// Where its sealed bytes begin in the object.
    pub offset: u64,
    /// How many sealed bytes there are, tag included.
    pub stored_bytes: u32,
    /// How many plain bytes come out: of a delta those of the delta, not of its chunk.
    pub plain_bytes: u32,
    /// What it is.
    pub entry_type: EntryType,
    /// How it is coded.
    pub codec: Codec,
    /// The id that the plain bytes have; of a delta the chunk's.
    pub id: ChunkId,
}

impl EntryRow {
    /// The byte after its last.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset + self.stored_bytes as u64
    }
}

/// An opened entry.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What the footer says of it.
    pub row: EntryRow,
    /// The plain bytes.
    pub plain: Bytes,
}

/// What is authenticated with an entry: all that gives its bytes their meaning. The key stands for the rest (cipher, epoch).
///
/// | offset | bytes | field |
/// |---|---|---|
/// | 0 | 16 | repository id |
/// | 16 | 16 | pack id |
/// | 32 | 4 | entry number, u32 |
/// | 36 | 4 | stored length, u32 |
/// | 40 | 4 | plain length, u32 |
/// | 44 | 1 | type |
/// | 45 | 1 | codec |
/// | 46 | 2 | zero |
pub(super) fn associated(
    repository: RepositoryId,
    pack: PackId,
    number: u32,
    stored_bytes: u32,
    plain_bytes: u32,
    entry_type: EntryType,
    codec: Codec,
) -> [u8; 48] {
    let mut bytes = [0; 48];
    bytes[..16].copy_from_slice(repository.bytes());
    bytes[16..32].copy_from_slice(pack.bytes());
    bytes[32..36].copy_from_slice(&number.to_le_bytes());
    bytes[36..40].copy_from_slice(&stored_bytes.to_le_bytes());
    bytes[40..44].copy_from_slice(&plain_bytes.to_le_bytes());
    bytes[44] = entry_type as u8;
    bytes[45] = codec as u8;
    bytes
}
