//! What a map loses when entries cannot be had; and a walk that goes on where nodes cannot be read.
//!
//! Points share most of their nodes. What was found of a node is kept in a [`Memo`], so that ten thousand points of a volume
//! cost little more than one.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use strongroom_model::PackId;

use super::leaf::Leaf;
use super::{EntrySet, FAN_OUT, MapError, MapReader, NODE_CHUNKS};
use crate::entry_runs::EntryRuns;
use crate::pack::EntryRef;

/// Ranges that are remembered of damaged nodes; beyond it they are computed again. About 40 MB.
const MOST_REMEMBERED: usize = 1 << 20;

/// Entries that cannot be had, by pack.
#[derive(Debug, Clone, Default)]
pub(crate) struct LostEntries(pub(crate) BTreeMap<PackId, EntryRuns>);

impl LostEntries {
    pub(crate) fn contains(&self, at: EntryRef) -> bool {
        self.0.get(&at.pack).is_some_and(|entries| entries.contains(at.entry))
    }

    pub(crate) fn insert(&mut self, at: EntryRef) {
        self.0.entry(at.pack).or_default().insert_run(at.entry, 1);
    }
}

/// Chunks that are lost, counted from the beginning of a volume or of a node, and the pack to blame.
pub(crate) type LostChunks = Vec<(PackId, Range<u64>)>;

/// What was found of nodes and leaves so far, for one set of lost entries.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    whole: EntrySet,
    damaged: BTreeMap<EntryRef, Arc<LostChunks>>,
    remembered: usize,
}

impl Memo {
    fn get(&self, at: EntryRef) -> Option<Arc<LostChunks>> {
        if self.whole.contains(at) { Some(Arc::default()) } else { self.damaged.get(&at).cloned() }
    }

    fn keep(&mut self, at: EntryRef, found: LostChunks) -> Arc<LostChunks> {
        let found = Arc::new(found);
        if found.is_empty() {
            self.whole.insert(at);
        } else if self.remembered + found.len() <= MOST_REMEMBERED {
            self.remembered += found.len();
            self.damaged.insert(at, Arc::clone(&found));
        }
        found
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change is one insertion.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MapReader {
    /// [`Self::walk`], which goes on where a node or leaf cannot be read and says which. Side by side with others on the
    /// same set: whoever inserts a node first reads it.
    pub(crate) async fn walk_on(
        &self,
        needed: &Mutex<EntrySet>,
        unreadable: &Mutex<Vec<(EntryRef, MapError)>>,
    ) {
        if !locked(needed).insert(self.root().at) {
            return;
        }
        for at in self.nodes().values() {
            if !locked(needed).insert(*at) {
                continue;
            }
            let node = match self.node(*at).await {
                Ok(node) => node,
                Err(cause) => {
                    locked(unreadable).push((*at, cause));
                    continue;
                }
            };
            for at in node.leaves.values() {
                if !locked(needed).insert(*at) {
                    continue;
                }
                match self.leaf(*at).await {
                    Ok(leaf) => leaf.needs(&mut locked(needed)),
                    Err(cause) => locked(unreadable).push((*at, cause)),
                }
            }
        }
    }

    /// The chunks that are lost when these entries are, ascending by place in the volume. A node that cannot be read though
    /// it is not among them is lost as well.
    pub(crate) async fn lost_chunks(&self, lost: &LostEntries, memo: &Mutex<Memo>) -> LostChunks {
        let end = self.head().chunks();
        if lost.contains(self.root().at) {
            return vec![(self.root().at.pack, 0..end)];
        }
        let mut found = LostChunks::new();
        if !self.head().packs().iter().any(|pack| lost.0.contains_key(pack)) {
            return found;
        }
        for (number, at) in self.nodes() {
            let first = u64::from(*number) * NODE_CHUNKS;
            let of_node = self.lost_of_node(*at, lost, memo).await;
            let placed =
                of_node.iter().map(|(pack, chunks)| (*pack, first + chunks.start..first + chunks.end));
            found.extend(placed.map(|(pack, chunks)| (pack, chunks.start..chunks.end.min(end))));
        }
        found.retain(|(_, chunks)| !chunks.is_empty());
        found
    }

    async fn lost_of_node(&self, at: EntryRef, lost: &LostEntries, memo: &Mutex<Memo>) -> Arc<LostChunks> {
        if let Some(known) = locked(memo).get(at) {
            return known;
        }
        let node = match self.node(at).await {
            Ok(node) if !lost.contains(at) => node,
            _ => return locked(memo).keep(at, vec![(at.pack, 0..NODE_CHUNKS)]),
        };
        let mut found = LostChunks::new();
        for (number, at) in &node.leaves {
            let first = u64::from(*number) * FAN_OUT;
            let of_leaf = self.lost_of_leaf(*at, lost, memo).await;
            found.extend(
                of_leaf.iter().map(|(pack, chunks)| (*pack, first + chunks.start..first + chunks.end)),
            );
        }
        locked(memo).keep(at, found)
    }

    async fn lost_of_leaf(&self, at: EntryRef, lost: &LostEntries, memo: &Mutex<Memo>) -> Arc<LostChunks> {
        if let Some(known) = locked(memo).get(at) {
            return known;
        }
        let found = match self.leaf(at).await {
            Ok(leaf) if !lost.contains(at) => leaf.losses(lost),
            _ => vec![(at.pack, 0..FAN_OUT)],
        };
        locked(memo).keep(at, found)
    }
}

impl Leaf {
    /// Adds every entry that its chunks are made of, the bases of deltas among them.
    pub(super) fn needs(&self, needed: &mut EntrySet) {
        for delta in self.deltas() {
            needed.insert(delta.of.base);
        }
        for run in self.runs() {
            needed.insert_run(run.pack, run.first_entry..run.first_entry + u32::from(run.count));
        }
    }

    /// Its chunks that are made of entries that are lost.
    fn losses(&self, lost: &LostEntries) -> LostChunks {
        let mut found = LostChunks::new();
        for run in self.runs() {
            let Some(entries) = lost.0.get(&run.pack) else { continue };
            let (first, end) = (run.first_entry, run.first_entry + u32::from(run.count));
            let overlaps = entries.runs().map(|(from, to)| (from.max(first), to.min(end)));
            for (from, to) in overlaps.filter(|(from, to)| from < to) {
                let start = u64::from(run.start) + u64::from(from - first);
                found.push((run.pack, start..start + u64::from(to - from)));
            }
        }
        // Without its base a delta is nothing, however sound it is.
        let without = self.deltas().iter().filter(|delta| lost.contains(delta.of.base));
        found.extend(without.map(|delta| {
            let chunk = u64::from(delta.slot);
            (delta.of.base.pack, chunk..chunk + 1)
        }));
        found.sort_by_key(|(_, chunks)| chunks.start);
        found
    }
}
