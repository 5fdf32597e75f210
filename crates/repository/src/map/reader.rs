//! Reads a map, node by node.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::leaf::Leaf;
use super::node::Node;
use super::root::Root;
use super::{ChunkDelta, ChunkPlace, FAN_OUT, MapError, MapHead, MapRoot, NODE_CHUNKS, Run, slot};
use crate::layout::PackKind;
use crate::pack::{Cache, EntryRef, EntrySource, EntryType};

/// What a reader keeps of nodes and leaves: the path to where it is, and some thousand leaves of runs.
const CACHE_BYTES: usize = 4 << 20;

/// Reads a map, node by node, with a bounded cache. Cheap to clone; clones share the cache.
#[derive(Clone)]
pub struct MapReader(Arc<Inner>);

struct Inner {
    source: Arc<dyn EntrySource>,
    at: MapRoot,
    root: Root,
    head: Arc<MapHead>,
    cache: Mutex<Cache<EntryRef, Known>>,
}

#[derive(Clone)]
enum Known {
    Node(Arc<Node>),
    Leaf(Arc<Leaf>),
}

impl MapReader {
    /// Reads the root.
    ///
    /// # Errors
    /// When it cannot be read or is no root.
    pub async fn open(source: Arc<dyn EntrySource>, at: MapRoot) -> Result<Self, MapError> {
        let plain = fetch(&*source, at.at, EntryType::MapRoot).await?;
        let root = Root::decode(&plain).map_err(|what| MapError::Malformed { at: at.at, what })?;
        let head = Arc::new(root.head.clone());
        let cache = Mutex::new(Cache::new(CACHE_BYTES));
        Ok(Self(Arc::new(Inner { source, at, root, head, cache })))
    }

    /// Where the root lies.
    #[must_use]
    pub fn root(&self) -> MapRoot {
        self.0.at
    }

    /// What the root says.
    #[must_use]
    pub fn head(&self) -> &MapHead {
        &self.0.head
    }

    pub(super) fn shared_head(&self) -> Arc<MapHead> {
        Arc::clone(&self.0.head)
    }

    /// Where a chunk lies; `None` is zero.
    ///
    /// # Errors
    /// When a node cannot be read.
    pub async fn get(&self, chunk: u64) -> Result<Option<EntryRef>, MapError> {
        let leaf = self.leaf_of(chunk / FAN_OUT).await?;
        Ok(leaf.and_then(|(_, leaf)| leaf.get(slot(chunk))))
    }

    /// The runs within a range of chunks, in order; what no run covers is zero.
    ///
    /// All in memory, 40 bytes a run: for a large volume ask for a window at a time (2^20 chunks are 40 MB at the very worst).
    ///
    /// # Errors
    /// When a node cannot be read.
    pub async fn runs(&self, chunks: Range<u64>) -> Result<Vec<Run>, MapError> {
        let mut runs: Vec<Run> = Vec::new();
        let leaf = |first_chunk: u64, leaf: &Leaf| {
            for run in leaf.runs() {
                let start = (first_chunk + u64::from(run.start)).max(chunks.start);
                let end = (first_chunk + u64::from(run.end())).min(chunks.end);
                if start < end {
                    let at = run.at(slot(start));
                    push(&mut runs, Run { start, count: end - start, pack: at.pack, first_entry: at.entry });
                }
            }
        };
        self.visit(&chunks, leaf).await?;
        Ok(runs)
    }

    /// The chunks within a range that were stored as deltas, in order, and what they are built on. Their entries are in
    /// [`Self::runs`] as any.
    ///
    /// All in memory, as there.
    ///
    /// # Errors
    /// When a node cannot be read.
    pub async fn deltas(&self, chunks: Range<u64>) -> Result<Vec<ChunkDelta>, MapError> {
        let mut deltas = Vec::new();
        let leaf = |first_chunk: u64, leaf: &Leaf| {
            let all = leaf.deltas().iter();
            let all =
                all.map(|delta| ChunkDelta { chunk: first_chunk + u64::from(delta.slot), of: delta.of });
            deltas.extend(all.filter(|delta| chunks.contains(&delta.chunk)));
        };
        self.visit(&chunks, leaf).await?;
        Ok(deltas)
    }

    /// Where a chunk lies and what it is built on; `None` is zero.
    ///
    /// # Errors
    /// When a node cannot be read.
    pub async fn place(&self, chunk: u64) -> Result<Option<ChunkPlace>, MapError> {
        let leaf = self.leaf_of(chunk / FAN_OUT).await?;
        Ok(leaf.and_then(|(_, leaf)| {
            let at = leaf.get(slot(chunk))?;
            Some(ChunkPlace { at, delta_of: leaf.delta_of(slot(chunk)) })
        }))
    }

    /// Shows every leaf that has chunks of a range, with its first chunk.
    async fn visit(&self, chunks: &Range<u64>, mut leaf: impl FnMut(u64, &Leaf)) -> Result<(), MapError> {
        if chunks.is_empty() {
            return Ok(());
        }
        let node_of = |chunk: u64| u32::try_from(chunk / NODE_CHUNKS).unwrap_or(u32::MAX);
        for (number, at) in self.nodes().range(node_of(chunks.start)..=node_of(chunks.end - 1)) {
            let first_chunk = u64::from(*number) * NODE_CHUNKS;
            for (number, at) in &self.node(*at).await?.leaves {
                let first_chunk = first_chunk + u64::from(*number) * FAN_OUT;
                if first_chunk < chunks.end && first_chunk + FAN_OUT > chunks.start {
                    leaf(first_chunk, &*self.leaf(*at).await?);
                }
            }
        }
        Ok(())
    }

    pub(super) fn nodes(&self) -> &BTreeMap<u32, EntryRef> {
        &self.0.root.nodes
    }

    /// A node by its number, and where it lies.
    pub(super) async fn node_of(&self, number: u32) -> Result<Option<(EntryRef, Arc<Node>)>, MapError> {
        match self.nodes().get(&number) {
            Some(at) => Ok(Some((*at, self.node(*at).await?))),
            None => Ok(None),
        }
    }

    /// A leaf by its number, and where it lies.
    pub(super) async fn leaf_of(&self, number: u64) -> Result<Option<(EntryRef, Arc<Leaf>)>, MapError> {
        let Ok(node) = u32::try_from(number / FAN_OUT) else { return Ok(None) };
        let Some((_, node)) = self.node_of(node).await? else { return Ok(None) };
        match node.leaves.get(&slot(number)) {
            Some(at) => Ok(Some((*at, self.leaf(*at).await?))),
            None => Ok(None),
        }
    }

    pub(super) async fn node(&self, at: EntryRef) -> Result<Arc<Node>, MapError> {
        if let Some(Known::Node(node)) = self.cached(at) {
            return Ok(node);
        }
        let plain = fetch(&*self.0.source, at, EntryType::MapNode).await?;
        let node = Arc::new(Node::decode(&plain).map_err(|what| MapError::Malformed { at, what })?);
        self.keep(at, Known::Node(Arc::clone(&node)), node.memory_bytes());
        Ok(node)
    }

    pub(super) async fn leaf(&self, at: EntryRef) -> Result<Arc<Leaf>, MapError> {
        if let Some(Known::Leaf(leaf)) = self.cached(at) {
            return Ok(leaf);
        }
        let plain = fetch(&*self.0.source, at, EntryType::MapLeaf).await?;
        let leaf = Arc::new(Leaf::decode(&plain).map_err(|what| MapError::Malformed { at, what })?);
        self.keep(at, Known::Leaf(Arc::clone(&leaf)), leaf.memory_bytes());
        Ok(leaf)
    }

    pub(super) async fn node_or_zero(&self, at: Option<&EntryRef>) -> Result<Arc<Node>, MapError> {
        match at {
            Some(at) => self.node(*at).await,
            None => Ok(Arc::default()),
        }
    }

    pub(super) async fn leaf_or_zero(&self, at: Option<&EntryRef>) -> Result<Arc<Leaf>, MapError> {
        match at {
            Some(at) => self.leaf(*at).await,
            None => Ok(Arc::default()),
        }
    }

    fn cached(&self, at: EntryRef) -> Option<Known> {
        self.0.cache.lock().unwrap_or_else(PoisonError::into_inner).get(&at)
    }

    fn keep(&self, at: EntryRef, known: Known, bytes: usize) {
        self.0.cache.lock().unwrap_or_else(PoisonError::into_inner).insert(at, known, bytes + 128);
    }
}

impl fmt::Debug for MapReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapReader").field("root", &self.0.at).finish_non_exhaustive()
    }
}

async fn fetch(source: &dyn EntrySource, at: EntryRef, expected: EntryType) -> Result<Bytes, MapError> {
    let entry = source.entry(PackKind::Map, at).await.map_err(MapError::Fetch)?;
    if entry.row.entry_type == expected {
        Ok(entry.plain)
    } else {
        Err(MapError::Malformed { at, what: "it is a part of a map, but not the one that was named" })
    }
}

/// Adds a run, joined to the last where it continues that.
fn push(runs: &mut Vec<Run>, run: Run) {
    match runs.last_mut() {
        Some(last)
            if last.start + last.count == run.start
                && last.pack == run.pack
                && u64::from(last.first_entry) + last.count == u64::from(run.first_entry) =>
        {
            last.count += run.count;
        }
        _ => runs.push(run),
    }
}
