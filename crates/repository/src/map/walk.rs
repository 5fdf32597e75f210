//! Everything that maps need: for the sweep.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use strongroom_model::PackId;

use super::{MapError, MapReader};
use crate::pack::{ENTRY_LIMIT, EntryRef};

/// A set of entries: one bit for each entry of each pack, 2 MiB for each TiB of chunks of 64 KiB.
#[derive(Debug, Clone, Default)]
pub struct EntrySet {
    packs: BTreeMap<PackId, Vec<u64>>,
}

impl EntrySet {
    /// Nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry; whether it is new.
    ///
    /// # Panics
    /// When its number is beyond [`ENTRY_LIMIT`], which no decoder lets through.
    pub fn insert(&mut self, at: EntryRef) -> bool {
        self.insert_run(at.pack, at.entry..at.entry + 1) == 1
    }

    /// Adds neighbouring entries; how many are new.
    pub(super) fn insert_run(&mut self, pack: PackId, entries: Range<u32>) -> u64 {
        assert!(entries.end <= ENTRY_LIMIT, "decoders refuse larger numbers");
        let words = self.packs.entry(pack).or_default();
        let needed = entries.end.div_ceil(64) as usize;
        if words.len() < needed {
            words.resize(needed, 0);
        }
        let mut new = 0;
        for entry in entries {
            let (word, bit) = (&mut words[(entry / 64) as usize], 1 << (entry % 64));
            new += u64::from(*word & bit == 0);
            *word |= bit;
        }
        new
    }

    /// Whether it is there.
    #[must_use]
    pub fn contains(&self, at: EntryRef) -> bool {
        let word = self.packs.get(&at.pack).and_then(|words| words.get((at.entry / 64) as usize));
        word.is_some_and(|word| word & (1 << (at.entry % 64)) != 0)
    }

    /// Whether any entry of this pack is there.
    #[must_use]
    pub fn contains_pack(&self, pack: &PackId) -> bool {
        self.packs.contains_key(pack)
    }

    /// How many entries of this pack are there.
    #[must_use]
    pub fn count(&self, pack: &PackId) -> u64 {
        self.packs.get(pack).map_or(0, |words| words.iter().map(|word| u64::from(word.count_ones())).sum())
    }

    /// The packs, sorted.
    pub fn packs(&self) -> impl Iterator<Item = PackId> + '_ {
        self.packs.keys().copied()
    }

    /// The entries of a pack, sorted.
    pub fn entries(&self, pack: &PackId) -> impl Iterator<Item = u32> + '_ {
        let words = self.packs.get(pack).map_or(&[][..], Vec::as_slice);
        (0_u32..).zip(words).flat_map(|(at, word)| {
            (0..64).filter(move |bit| word & (1 << bit) != 0).map(move |bit| at * 64 + bit)
        })
    }
}

impl MapReader {
    /// Adds every entry that this map needs, its own root, nodes and leaves and the bases of its deltas among them.
    ///
    /// What is in `needed` already is not read again: its entries were added before it was. So the walk of all points of a
    /// repository reads each shared node once; and after an error `needed` has no node without what is below it, so it
    /// can be used for other maps.
    ///
    /// # Errors
    /// When a node cannot be read.
    pub async fn walk(&self, needed: &mut EntrySet) -> Result<(), MapError> {
        let shared = Mutex::new(std::mem::take(needed));
        let walked = self.walk_beside(&shared).await;
        *needed = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
        walked
    }

    /// [`Self::walk`], while other maps are walked. What two have in common may be read twice then.
    ///
    /// # Errors
    /// When a node cannot be read.
    pub async fn walk_beside(&self, needed: &Mutex<EntrySet>) -> Result<(), MapError> {
        // Every change is one insert.
        let set = || needed.lock().unwrap_or_else(PoisonError::into_inner);
        if set().contains(self.root().at) {
            return Ok(());
        }
        for node_at in self.nodes().values() {
            if set().contains(*node_at) {
                continue;
            }
            for leaf_at in self.node(*node_at).await?.leaves.values() {
                if set().contains(*leaf_at) {
                    continue;
                }
                let leaf = self.leaf(*leaf_at).await?;
                let mut set = set();
                leaf.needs(&mut set);
                set.insert(*leaf_at);
            }
            set().insert(*node_at);
        }
        set().insert(self.root().at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_keeps_what_was_added_in_order() {
        let pack = |n| PackId::from_bytes([n; 16]);
        let mut set = EntrySet::new();
        assert!(set.insert(EntryRef { pack: pack(2), entry: 64 }));
        assert!(!set.insert(EntryRef { pack: pack(2), entry: 64 }));
        assert_eq!(set.insert_run(pack(1), 60..70), 10);
        assert_eq!(set.insert_run(pack(1), 65..71), 1);
        assert_eq!(set.packs().collect::<Vec<_>>(), [pack(1), pack(2)]);
        assert_eq!(set.entries(&pack(1)).collect::<Vec<_>>(), (60..71).collect::<Vec<_>>());
        assert_eq!((set.count(&pack(1)), set.count(&pack(3))), (11, 0));
        assert!(set.contains_pack(&pack(2)) && !set.contains_pack(&pack(3)));
        assert!(!set.contains(EntryRef { pack: pack(2), entry: 63 }));
        assert!(!set.contains(EntryRef { pack: pack(2), entry: 1000 }));
    }
}
