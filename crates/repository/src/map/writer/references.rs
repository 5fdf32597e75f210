//! How often a map refers to each pack.

use std::collections::BTreeMap;

use strongroom_model::PackId;

use crate::map::{MapHead, NeededPack};

/// Counts of references, kept exact while leaves and nodes are replaced.
#[derive(Debug, Default)]
pub(super) struct References {
    data: BTreeMap<PackId, u64>,
    maps: BTreeMap<PackId, u64>,
}

impl References {
    pub(super) fn of(head: &MapHead) -> Self {
        let counts =
            |list: &[NeededPack]| list.iter().map(|needed| (needed.pack, needed.references)).collect();
        Self { data: counts(&head.data_packs), maps: counts(&head.map_packs) }
    }

    pub(super) fn add_data(&mut self, pack: PackId, chunks: u64) {
        *self.data.entry(pack).or_default() += chunks;
    }

    pub(super) fn add_map(&mut self, pack: PackId) {
        *self.maps.entry(pack).or_default() += 1;
    }

    pub(super) fn remove_data(&mut self, pack: PackId, chunks: u64) -> Result<(), &'static str> {
        remove(&mut self.data, pack, chunks)
    }

    pub(super) fn remove_map(&mut self, pack: PackId) -> Result<(), &'static str> {
        remove(&mut self.maps, pack, 1)
    }

    /// Data packs and map packs that are needed, sorted.
    pub(super) fn into_lists(self) -> (Vec<NeededPack>, Vec<NeededPack>) {
        let list = |counts: BTreeMap<PackId, u64>| {
            let needed = counts.into_iter().filter(|(_, references)| *references > 0);
            needed.map(|(pack, references)| NeededPack { pack, references }).collect()
        };
        (list(self.data), list(self.maps))
    }
}

fn remove(counts: &mut BTreeMap<PackId, u64>, pack: PackId, references: u64) -> Result<(), &'static str> {
    let count = counts.get_mut(&pack).ok_or("its root does not list a pack that it names")?;
    *count =
        count.checked_sub(references).ok_or("its root counts too few references to a pack that it names")?;
    Ok(())
}
