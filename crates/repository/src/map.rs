//! Maps: which entry holds which chunk of a volume.
//!
//! A map is a tree of three levels over the volume's grid of chunks. A *leaf* stands for 1024 chunks and holds runs
//! (start, count, pack, first entry), since a backup in order writes neighbours next to each other; a *node* stands for 1024
//! leaves; the *root* holds up to 65,536 nodes and the head. What is absent is zero. Two points of a volume share the leaves
//! and nodes in which nothing changed. With chunks of 64 KiB a leaf is 64 MiB, a node 64 GiB, and a root 4 PiB: so there
//! is no need for trees of varying height.
//!
//! The root carries the *exact* list of packs that the map needs, each with how often the map refers to it. The counts are
//! what keeps the list exact at the cost of the change alone: a writer that replaces a leaf takes the old leaf's
//! references off and adds the new one's, and a pack whose count comes to 0 is no longer needed.
//!
//! A chunk may be stored as a *delta* to another chunk, its base. Then its leaf names the base as well: the map alone says every
//! entry that a point needs, without a look into packs.
//!
//! Nodes are entries of map packs, so they are sealed, bounded and checked like chunks. Equal content has equal bytes:
//! every encoding has one form only, and decoding refuses any other.

mod diff;
mod error;
mod leaf;
mod losses;
mod node;
mod reader;
mod root;
mod table;
mod walk;
mod writer;

use std::sync::Arc;

use strongroom_model::PackId;

pub use error::MapError;
pub(crate) use losses::{LostEntries, Memo};
pub use reader::MapReader;
pub use walk::EntrySet;
pub use writer::MapWriter;

use crate::chunk::Blocks;
use crate::pack::EntryRef;

/// How many chunks a leaf stands for, and how many leaves a node.
pub const FAN_OUT: u64 = 1024;
/// How many chunks a node stands for.
const NODE_CHUNKS: u64 = FAN_OUT * FAN_OUT;
/// How many nodes a root holds at most.
const MAX_NODES: u64 = 65_536;

/// Where the root of a map lies. All that a point needs to remember of its map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MapRoot {
    /// The root entry, in a map pack.
    pub at: EntryRef,
}

/// A pack that a map needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeededPack {
    /// The pack.
    pub pack: PackId,
    /// How many chunks and bases of deltas (of a data pack), or nodes, leaves and roots (of a map pack), this map refers to
    /// in it; never 0.
    pub references: u64,
}

/// What the root says of the whole map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapHead {
    /// The size of the volume.
    pub volume_bytes: u64,
    /// The grid.
    pub chunk_bytes: u32,
    /// The dedup domain of its chunks.
    pub domain: u32,
    /// The data packs it needs: exactly, sorted by id.
    pub data_packs: Vec<NeededPack>,
    /// The map packs it needs, its own root's among them: exactly, sorted by id.
    pub map_packs: Vec<NeededPack>,
}

impl MapHead {
    /// How many chunks the grid has; the last may be cut short by the volume's end.
    #[must_use]
    pub fn chunks(&self) -> u64 {
        self.volume_bytes.div_ceil(self.chunk_bytes.max(1).into())
    }

    /// How many chunks are stored; the others are zero. One that is a delta counts twice, with its base.
    #[must_use]
    pub fn stored_chunks(&self) -> u64 {
        self.data_packs.iter().map(|needed| needed.references).sum()
    }

    /// All needed packs, data and map, sorted by id.
    #[must_use]
    pub fn packs(&self) -> Vec<PackId> {
        let mut packs: Vec<PackId> =
            self.data_packs.iter().chain(&self.map_packs).map(|needed| needed.pack).collect();
        packs.sort_unstable();
        packs
    }
}

/// What holds a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkPlace {
    /// Its entry.
    pub at: EntryRef,
    /// What it is built on, where it was stored as a delta. Since then a sweep may have made a whole chunk of it: what the
    /// entry is now, its footer says.
    pub delta_of: Option<DeltaOf>,
}

impl From<EntryRef> for ChunkPlace {
    fn from(at: EntryRef) -> Self {
        Self { at, delta_of: None }
    }
}

/// What a delta is built on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaOf {
    /// The chunk: an entry of type 1. A map needs it as it needs the delta.
    pub base: EntryRef,
    /// In which blocks the delta differs from it.
    pub blocks: Blocks,
}

/// A chunk that was stored as a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkDelta {
    /// The chunk.
    pub chunk: u64,
    /// What it is built on.
    pub of: DeltaOf,
}

/// Neighbouring chunks that lie in neighbouring entries of one pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first chunk.
    pub start: u64,
    /// How many.
    pub count: u64,
    /// The pack.
    pub pack: PackId,
    /// The entry of the first chunk.
    pub first_entry: u32,
}

/// What chunks hold that are not set.
#[derive(Debug, Clone)]
pub enum MapBase {
    /// Zero. Leaves that come out as in this map, if any, are shared with it.
    Full(Option<MapReader>),
    /// What they hold in this map; its untouched leaves are shared, unread.
    Delta(MapReader),
}

/// The volume that a map describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapSpec {
    /// Its size.
    pub volume_bytes: u64,
    /// The grid.
    pub chunk_bytes: u32,
}

/// A finished map.
#[derive(Debug, Clone)]
pub struct WrittenMap {
    /// Where its root lies.
    pub root: MapRoot,
    /// What the root says.
    pub head: Arc<MapHead>,
}

/// The slot of a chunk in its leaf, or of a leaf in its node.
fn slot(number: u64) -> u16 {
    u16::try_from(number % FAN_OUT).expect("a remainder of 1024")
}

#[cfg(test)]
mod tests;
