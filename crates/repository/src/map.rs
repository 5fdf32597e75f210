//! Maps: which entry holds which chunk of a volume.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use strongroom_model::{Failure, PackId, Remedy};

use crate::pack::{EntryRef, EntrySource, FetchError, PackContext, PackSettings, Receipts, WriteError};

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
    /// How many chunks (of a data pack) or nodes (of a map pack) this map refers to in it; never 0.
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
    /// How many chunks are stored (the others are zero).
    pub stored_chunks: u64,
    /// The data packs it needs: exactly, sorted.
    pub data_packs: Vec<NeededPack>,
    /// The map packs it needs, its own root's among them: exactly, sorted.
    pub map_packs: Vec<NeededPack>,
}

impl MapHead {
    /// How many chunks the grid has.
    #[must_use]
    pub const fn chunks(&self) -> u64 {
        self.volume_bytes.div_ceil(self.chunk_bytes as u64)
    }
    /// All needed packs, data and map, sorted by id.
    #[must_use]
    pub fn packs(&self) -> Vec<PackId> {
        todo!()
    }
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

/// Reads a map, node by node, with a bounded cache. Cheap to clone.
#[derive(Clone)]
pub struct MapReader {}

impl fmt::Debug for MapReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MapReader")
    }
}

impl MapReader {
    /// Reads the root.
    ///
    /// # Errors
    /// When it cannot be read or is no root.
    pub async fn open(_source: Arc<dyn EntrySource>, _root: MapRoot) -> Result<Self, MapError> {
        todo!()
    }
    /// Where the root lies.
    #[must_use]
    pub fn root(&self) -> MapRoot {
        todo!()
    }
    /// What the root says.
    #[must_use]
    pub fn head(&self) -> &MapHead {
        todo!()
    }
    /// Where a chunk lies; `None` is zero.
    ///
    /// # Errors
    /// When a node cannot be read.
    pub async fn get(&self, _chunk: u64) -> Result<Option<EntryRef>, MapError> {
        todo!()
    }
    /// The runs within a range of chunks, in order; what no run covers is zero. All in memory: for a large volume ask
    /// for a window at a time (2^20 chunks are at most some tens of MB).
    ///
    /// # Errors
    /// When a node cannot be read.
    pub async fn runs(&self, _chunks: Range<u64>) -> Result<Vec<Run>, MapError> {
        todo!()
    }
    /// The ranges of chunks, in order, that may differ from `other`: where the references differ. Shared nodes are skipped
    /// unread. Beyond the end of the shorter volume a range differs where the longer one is not zero.
    ///
    /// # Errors
    /// When a node cannot be read, or the grids differ.
    pub async fn diff(&self, _other: &Self) -> Result<Vec<Range<u64>>, MapError> {
        todo!()
    }
    /// [`Self::diff`] within a window of chunks.
    ///
    /// # Errors
    /// As [`Self::diff`].
    pub async fn diff_within(&self, _other: &Self, _chunks: Range<u64>) -> Result<Vec<Range<u64>>, MapError> {
        todo!()
    }
    /// Adds every entry that this map needs, its own nodes among them. Nodes that are in `needed` already are not read
    /// again: their entries were added with them. After an error `needed` is of no use.
    ///
    /// # Errors
    /// When a node cannot be read.
    pub async fn walk(&self, _needed: &mut EntrySet) -> Result<(), MapError> {
        todo!()
    }
}

/// A set of entries: a bit for each entry of each pack.
#[derive(Debug, Clone, Default)]
pub struct EntrySet {}

impl EntrySet {
    /// Nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// Adds an entry; whether it is new.
    pub fn insert(&mut self, _at: EntryRef) -> bool {
        todo!()
    }
    /// Whether it is there.
    #[must_use]
    pub fn contains(&self, _at: EntryRef) -> bool {
        todo!()
    }
    /// Whether any entry of this pack is there.
    #[must_use]
    pub fn contains_pack(&self, _pack: &PackId) -> bool {
        todo!()
    }
    /// How many entries of this pack are there.
    #[must_use]
    pub fn count(&self, _pack: &PackId) -> u64 {
        todo!()
    }
    /// The packs, sorted.
    pub fn packs(&self) -> impl Iterator<Item = PackId> + '_ {
        std::iter::empty()
    }
    /// The entries of a pack, sorted.
    pub fn entries(&self, _pack: &PackId) -> impl Iterator<Item = u32> + '_ {
        std::iter::empty()
    }
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

/// Writes a map while its volume is read, in bounded memory.
pub struct MapWriter {}

impl fmt::Debug for MapWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MapWriter")
    }
}

impl MapWriter {
    /// A writer of a map. `receipts` are those of the session's writers.
    ///
    /// # Errors
    /// When the volume is too large for the grid, or the base has another grid.
    pub fn new(
        _context: PackContext,
        _settings: PackSettings,
        _receipts: Receipts,
        _spec: MapSpec,
        _base: MapBase,
    ) -> Result<Self, MapError> {
        todo!()
    }
    /// Says where a chunk lies; `None`: it is zero. Chunks come in ascending order.
    ///
    /// # Errors
    /// When the order is broken, the chunk is outside, the base cannot be read or a map pack cannot be written.
    pub async fn set(&mut self, _chunk: u64, _at: Option<EntryRef>) -> Result<(), MapError> {
        todo!()
    }
    /// Writes what is left, and the root. The data writers must have finished: a map that names a pack without a receipt
    /// is refused. When nothing differs from the base, its root is the answer and nothing is written.
    ///
    /// # Errors
    /// As [`Self::set`], and [`MapError::NotStored`].
    pub async fn finish(self) -> Result<WrittenMap, MapError> {
        todo!()
    }
}

/// Why a map cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// A node cannot be had.
    #[error("reading a node of the map")]
    Fetch(#[source] FetchError),
    /// A map pack cannot be written.
    #[error("writing the map")]
    Write(#[source] WriteError),
    /// A node is not what it should be.
    #[error("the map node at {at:?} is damaged: {what}")]
    Damaged {
        /// Where it lies.
        at: EntryRef,
        /// What was seen.
        what: String,
    },
    /// A chunk lies in a pack whose upload was not acknowledged.
    #[error("the map names {pack}, which is not stored")]
    NotStored {
        /// Which pack.
        pack: PackId,
    },
}

impl Failure for MapError {
    fn code(&self) -> &'static str {
        "map.damaged"
    }
    fn remedy(&self) -> Remedy {
        Remedy::FixData
    }
    fn advice(&self) -> String {
        String::new()
    }
}
