//! Writes a map while its volume is read.
//!
//! Leaves are made one after another, as chunks come. A leaf that names a pack still under way waits here until that
//! pack has its receipt: so nothing of a map is put before the data it names is durable. Nodes follow their leaves, the root
//! comes last. Memory: one leaf, the leaves that wait (when they grow over [`WAITING_BYTES`], the data writers are asked to
//! close their packs), their nodes, and the counts of needed packs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use strongroom_model::PackId;

use super::leaf::{Changes, Leaf};
use super::node::Node;
use super::root::{Root, node_slots};
use super::{ChunkPlace, FAN_OUT, MapBase, MapError, MapHead, MapRoot, MapSpec, WrittenMap, slot};
use crate::chunk::{ChunkHasher, Compressor};
use crate::layout::PackKind;
use crate::pack::{EntryRef, EntryType, PackContext, PackSettings, PackWriter, Receipts};
use references::References;

mod references;

/// How much of leaves may wait before the data writers are asked to hurry.
pub(super) const WAITING_BYTES: usize = 8 << 20;

/// Writes a map while its volume is read, in bounded memory.
pub struct MapWriter {
    spec: MapSpec,
    domain: u32,
    base: MapBase,
    chunks: u64,
    /// The first chunk that may come.
    next: u64,
    /// What was set of the leaf under way.
    changes: Vec<(u16, Option<ChunkPlace>)>,
    pub(super) waiting: BTreeMap<u64, Leaf>,
    pub(super) waiting_bytes: usize,
    /// How many receipts there were when the waiting leaves were last looked through.
    looked_at: u64,
    nodes: BTreeMap<u32, NodeDraft>,
    root_nodes: BTreeMap<u32, EntryRef>,
    references: References,
    /// A step is under way, or did not end well: what is here is not whole.
    broken: bool,
    receipts: Receipts,
    packs: PackWriter,
    hasher: ChunkHasher,
    compressor: Compressor,
}

/// A node some of whose leaves are known.
#[derive(Default)]
struct NodeDraft {
    node: Node,
    /// Leaves that wait for receipts.
    waiting: u32,
}

impl MapWriter {
    /// A writer of a map. `receipts` are those of the session's writers.
    ///
    /// # Errors
    /// When the volume is too large for the grid, or the base has another grid or domain.
    pub fn new(
        context: PackContext,
        settings: PackSettings,
        receipts: Receipts,
        spec: MapSpec,
        base: MapBase,
    ) -> Result<Self, MapError> {
        let MapSpec { volume_bytes, chunk_bytes } = spec;
        if node_slots(volume_bytes, chunk_bytes).is_none() {
            return Err(MapError::TooLarge { volume_bytes, chunk_bytes });
        }
        if let MapBase::Delta(base) | MapBase::Full(Some(base)) = &base
            && (base.head().chunk_bytes != chunk_bytes || base.head().domain != settings.domain)
        {
            return Err(MapError::Grid { ours: chunk_bytes, theirs: base.head().chunk_bytes });
        }
        let (references, root_nodes) = match &base {
            MapBase::Full(_) => (References::default(), BTreeMap::new()),
            MapBase::Delta(base) => (References::of(base.head()), base.nodes().clone()),
        };
        Ok(Self {
            spec,
            domain: settings.domain,
            base,
            chunks: volume_bytes.div_ceil(chunk_bytes.into()),
            next: 0,
            changes: Vec::new(),
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            looked_at: 0,
            nodes: BTreeMap::new(),
            root_nodes,
            references,
            broken: false,
            receipts: receipts.clone(),
            hasher: ChunkHasher::of_maps(&context.keyring),
            packs: PackWriter::new(context, PackKind::Map, settings, receipts),
            compressor: Compressor::default(),
        })
    }

    /// Says where a chunk lies; `None`: it is zero. Chunks come in ascending order.
    ///
    /// # Errors
    /// When the order is broken, the chunk is outside, the base cannot be read or a map pack cannot be written. After one of
    /// the latter two, or when this future was dropped before it had ended, there is nothing left but an error.
    pub async fn set(&mut self, chunk: u64, at: Option<EntryRef>) -> Result<(), MapError> {
        self.place(chunk, at.map(ChunkPlace::from)).await
    }

    /// [`Self::set`] of a chunk that may be stored as a delta.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub async fn place(&mut self, chunk: u64, place: Option<ChunkPlace>) -> Result<(), MapError> {
        if chunk < self.next || chunk >= self.chunks {
            return Err(MapError::Order { chunk, expected: self.next, chunks: self.chunks });
        }
        if self.broken {
            return Err(MapError::BrokenOff);
        }
        if chunk / FAN_OUT != self.next / FAN_OUT || self.next.is_multiple_of(FAN_OUT) {
            // An error, or a caller who gives up waiting, leaves it so.
            self.broken = true;
            self.finish_leaf().await?;
            self.broken = false;
        }
        self.changes.push((slot(chunk), place));
        self.next = chunk + 1;
        Ok(())
    }

    /// Writes what is left, and the root. The data writers must have finished: a map that names a pack without a receipt is
    /// refused. When nothing differs from the base, its root is the answer and nothing is written.
    ///
    /// # Errors
    /// As [`Self::set`], and [`MapError::NotStored`].
    pub async fn finish(mut self) -> Result<WrittenMap, MapError> {
        if self.broken {
            return Err(MapError::BrokenOff);
        }
        self.finish_leaf().await?;
        self.cut_off_the_end().await?;
        self.write_waiting().await?;
        if let Some(leaf) = self.waiting.values().next() {
            let pack = leaf.packs().find(|pack| self.receipts.is_under_way(pack));
            let pack = pack.unwrap_or(leaf.runs()[0].pack);
            return Err(MapError::NotStored { pack });
        }
        self.finish_nodes(None).await?;
        self.finish_root().await
    }

    /// The number of the leaf under way: that of the last chunk that was set.
    const fn leaf_number(&self) -> u64 {
        self.next.saturating_sub(1) / FAN_OUT
    }

    async fn finish_leaf(&mut self) -> Result<(), MapError> {
        if self.changes.is_empty() {
            return Ok(());
        }
        let number = self.leaf_number();
        let changes = std::mem::take(&mut self.changes);
        self.make_leaf(number, &changes).await?;
        self.write_waiting().await?;
        self.finish_nodes(Some(node_number(number))).await
    }

    /// Makes a leaf out of the base and what was set.
    async fn make_leaf(&mut self, number: u64, changes: Changes<'_>) -> Result<(), MapError> {
        let old = match &self.base {
            MapBase::Delta(base) | MapBase::Full(Some(base)) => base.leaf_of(number).await?,
            MapBase::Full(None) => None,
        };
        // Where the volume ends now; beyond it the base's chunks are gone.
        let end =
            u16::try_from(self.chunks.saturating_sub(number * FAN_OUT).min(FAN_OUT)).expect("at most 1024");
        let new = match (&self.base, &old) {
            (MapBase::Delta(_), Some((_, old))) => old.with(end, changes),
            _ => Leaf::default().with(end, changes),
        };
        let same = old.as_ref().filter(|(_, old)| **old == new).map(|(at, _)| *at);
        if matches!(self.base, MapBase::Delta(_)) {
            match (same, old) {
                (Some(_), _) => return Ok(()),
                (None, Some((at, old))) => self.forget_leaf(at, &old)?,
                // It was zero, and it is.
                (None, None) if new.is_empty() => return Ok(()),
                (None, None) => {}
            }
        }
        self.draft(number).await?;
        for run in new.runs() {
            self.references.add_data(run.pack, run.count.into());
        }
        for delta in new.deltas() {
            self.references.add_data(delta.of.base.pack, 1);
        }
        if let Some(at) = same {
            self.references.add_map(at.pack);
            self.place_leaf(number, Some(at));
        } else if new.is_empty() {
            self.place_leaf(number, None);
        } else if new.packs().any(|pack| self.receipts.is_under_way(&pack)) {
            self.wait(number, new);
        } else {
            self.write_leaf(number, &new).await?;
        }
        Ok(())
    }

    fn wait(&mut self, number: u64, leaf: Leaf) {
        self.place_leaf(number, None);
        self.draft_of(number).waiting += 1;
        self.waiting_bytes += leaf.memory_bytes();
        self.waiting.insert(number, leaf);
        if self.waiting_bytes > WAITING_BYTES {
            self.receipts.ask_to_close();
        }
    }

    /// Writes the leaves whose packs are all stored by now.
    async fn write_waiting(&mut self) -> Result<(), MapError> {
        let acknowledged = self.receipts.acknowledged();
        if self.waiting.is_empty() || acknowledged == self.looked_at {
            return Ok(());
        }
        self.looked_at = acknowledged;
        let under_way = |pack: PackId| self.receipts.is_under_way(&pack);
        let ready: Vec<u64> = self
            .waiting
            .iter()
            .filter(|(_, leaf)| !leaf.packs().any(under_way))
            .map(|(number, _)| *number)
            .collect();
        for number in ready {
            let Some(leaf) = self.waiting.remove(&number) else { continue };
            self.waiting_bytes -= leaf.memory_bytes();
            self.write_leaf(number, &leaf).await?;
            self.draft_of(number).waiting -= 1;
        }
        Ok(())
    }

    async fn write_leaf(&mut self, number: u64, leaf: &Leaf) -> Result<(), MapError> {
        let at = self.write(EntryType::MapLeaf, leaf.encode()).await?;
        self.place_leaf(number, Some(at));
        Ok(())
    }

    /// Seals a part of the map, and counts the reference to it.
    async fn write(&mut self, entry_type: EntryType, plain: Vec<u8>) -> Result<EntryRef, MapError> {
        let plain = Bytes::from(plain);
        let id = self.hasher.id(&plain);
        let at = self
            .packs
            .push(id, entry_type, self.compressor.compress(plain))
            .await
            .map_err(MapError::Write)?;
        self.references.add_map(at.pack);
        Ok(at)
    }

    /// The node that a leaf belongs to, begun with the base's leaves where it was not yet.
    async fn draft(&mut self, leaf: u64) -> Result<(), MapError> {
        let number = node_number(leaf);
        if !self.nodes.contains_key(&number) {
            let node = match &self.base {
                MapBase::Delta(base) => base.node_of(number).await?.map(|(_, node)| Node::clone(&node)),
                MapBase::Full(_) => None,
            };
            self.nodes.insert(number, NodeDraft { node: node.unwrap_or_default(), waiting: 0 });
        }
        Ok(())
    }

    fn draft_of(&mut self, leaf: u64) -> &mut NodeDraft {
        self.nodes.entry(node_number(leaf)).or_default()
    }

    fn place_leaf(&mut self, number: u64, at: Option<EntryRef>) {
        let leaves = &mut self.draft_of(number).node.leaves;
        match at {
            Some(at) => leaves.insert(slot(number), at),
            None => leaves.remove(&slot(number)),
        };
    }

    fn forget_leaf(&mut self, at: EntryRef, leaf: &Leaf) -> Result<(), MapError> {
        let malformed = |what| MapError::Malformed { at, what };
        self.references.remove_map(at.pack).map_err(malformed)?;
        for run in leaf.runs() {
            self.references.remove_data(run.pack, run.count.into()).map_err(malformed)?;
        }
        for delta in leaf.deltas() {
            self.references.remove_data(delta.of.base.pack, 1).map_err(malformed)?;
        }
        Ok(())
    }

    /// Takes off what the base has beyond the end of a volume that became smaller.
    async fn cut_off_the_end(&mut self) -> Result<(), MapError> {
        let MapBase::Delta(base) = self.base.clone() else { return Ok(()) };
        if base.head().chunks() <= self.chunks {
            return Ok(());
        }
        let first_gone = self.chunks.div_ceil(FAN_OUT);
        let last_kept = self.chunks / FAN_OUT;
        if !self.chunks.is_multiple_of(FAN_OUT) && (self.next == 0 || self.leaf_number() < last_kept) {
            self.make_leaf(last_kept, &[]).await?;
        }
        for number in
            base.nodes().range(node_number(first_gone)..).map(|(number, _)| *number).collect::<Vec<_>>()
        {
            let Some((_, node)) = base.node_of(number).await? else { continue };
            for (slot, at) in &node.leaves {
                let leaf_number = u64::from(number) * FAN_OUT + u64::from(*slot);
                if leaf_number >= first_gone {
                    self.draft(leaf_number).await?;
                    self.forget_leaf(*at, &*base.leaf(*at).await?)?;
                    self.place_leaf(leaf_number, None);
                }
            }
        }
        Ok(())
    }

    /// Writes the nodes that are complete: those before node `until` of which no leaf waits.
    async fn finish_nodes(&mut self, until: Option<u32>) -> Result<(), MapError> {
        let complete: Vec<u32> = self
            .nodes
            .iter()
            .filter(|(number, draft)| until.is_none_or(|until| **number < until) && draft.waiting == 0)
            .map(|(number, _)| *number)
            .collect();
        for number in complete {
            let Some(NodeDraft { node, .. }) = self.nodes.remove(&number) else { continue };
            let old = match &self.base {
                MapBase::Delta(base) | MapBase::Full(Some(base)) => base.node_of(number).await?,
                MapBase::Full(None) => None,
            };
            let same = old.as_ref().filter(|(_, old)| **old == node).map(|(at, _)| *at);
            if let (MapBase::Delta(_), Some((at, _))) = (&self.base, old) {
                self.references.remove_map(at.pack).map_err(|what| MapError::Malformed { at, what })?;
            }
            let at = match same {
                Some(at) => {
                    self.references.add_map(at.pack);
                    Some(at)
                }
                None if node.leaves.is_empty() => None,
                None => Some(self.write(EntryType::MapNode, node.encode()).await?),
            };
            match at {
                Some(at) => self.root_nodes.insert(number, at),
                None => self.root_nodes.remove(&number),
            };
        }
        Ok(())
    }

    async fn finish_root(mut self) -> Result<WrittenMap, MapError> {
        if let MapBase::Delta(base) | MapBase::Full(Some(base)) = &self.base
            && base.head().volume_bytes == self.spec.volume_bytes
            && *base.nodes() == self.root_nodes
        {
            return Ok(WrittenMap { root: base.root(), head: base.shared_head() });
        }
        if let MapBase::Delta(base) = &self.base {
            let at = base.root().at;
            self.references.remove_map(at.pack).map_err(|what| MapError::Malformed { at, what })?;
        }
        // The root names the pack that it lies in itself.
        let at = self.packs.next_at();
        self.references.add_map(at.pack);
        let (data_packs, map_packs) = std::mem::take(&mut self.references).into_lists();
        let MapSpec { volume_bytes, chunk_bytes } = self.spec;
        let head = MapHead { volume_bytes, chunk_bytes, domain: self.domain, data_packs, map_packs };
        let root = Root { head, nodes: std::mem::take(&mut self.root_nodes) };
        let written = self.write(EntryType::MapRoot, root.encode()).await?;
        debug_assert_eq!(written, at, "nothing was pushed in between");
        self.packs.finish().await.map_err(MapError::Write)?;
        Ok(WrittenMap { root: MapRoot { at }, head: Arc::new(root.head) })
    }
}

impl fmt::Debug for MapWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapWriter")
            .field("spec", &self.spec)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

fn node_number(leaf: u64) -> u32 {
    u32::try_from(leaf / FAN_OUT).expect("a map has at most 65,536 nodes")
}
