//! Behind a leaf's runs: which of its chunks were stored as deltas, and what they are built on.
//!
//! A leaf without deltas ends with its runs. Else follow:
//!
//! | bytes | field |
//! |---|---|
//! | 2 | how many rows, u16, from 1 |
//! | 2 | bytes of a bitmap B, u16: the fewest that hold every row's highest block |
//! | 8 + B each | slot u16, place of the base's pack in the leaf's table u16, base entry u32, bitmap of the delta's blocks |
//!
//! in ascending order of slot. The bitmap is here so that the next incremental can build on the same base without reading any pack.

use super::super::DeltaOf;
use super::super::table::{PackNames, PackTable};
use super::Changes;
use crate::chunk::Blocks;
use crate::pack::{ENTRY_LIMIT, EntryRef};

const HEAD_BYTES: usize = 4;
const FIXED_BYTES: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::map) struct LeafDelta {
    pub(in crate::map) slot: u16,
    pub(in crate::map) of: DeltaOf,
}

/// The rows, in ascending order of slot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Deltas(Vec<LeafDelta>);

impl Deltas {
    pub(super) fn rows(&self) -> &[LeafDelta] {
        &self.0
    }

    pub(super) fn get(&self, slot: u16) -> Option<DeltaOf> {
        self.0.binary_search_by_key(&slot, |row| row.slot).ok().map(|at| self.0[at].of)
    }

    /// These without what lies from slot `end` on, and with what `changes` says of its slots.
    pub(super) fn with(&self, end: u16, changes: Changes<'_>) -> Self {
        let is_changed = |slot: u16| changes.binary_search_by_key(&slot, |(slot, _)| *slot).is_ok();
        let kept = self.0.iter().filter(|row| row.slot < end && !is_changed(row.slot)).copied();
        let new = changes.iter().filter_map(|(slot, place)| {
            let of = (*place)?.delta_of?;
            Some(LeafDelta { slot: *slot, of })
        });
        let mut rows: Vec<LeafDelta> = kept.chain(new).collect();
        rows.sort_unstable_by_key(|row| row.slot);
        Self(rows)
    }

    /// The section, or nothing. Its packs go behind those of the runs.
    pub(super) fn encode(&self, table: &mut PackTable) -> Vec<u8> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let bitmap_bytes = self.bitmap_bytes();
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.0.len() * (FIXED_BYTES + bitmap_bytes));
        for count in [self.0.len(), bitmap_bytes] {
            bytes.extend_from_slice(&u16::try_from(count).expect("at most 1024 rows").to_le_bytes());
        }
        for LeafDelta { slot, of: DeltaOf { base, blocks } } in &self.0 {
            bytes.extend_from_slice(&slot.to_le_bytes());
            bytes.extend_from_slice(&table.place_of(base.pack).to_le_bytes());
            bytes.extend_from_slice(&base.entry.to_le_bytes());
            bytes.extend_from_slice(&blocks.to_bytes(bitmap_bytes));
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8], names: &mut PackNames<'_>) -> Result<Self, &'static str> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let (head, rest) =
            bytes.split_first_chunk::<HEAD_BYTES>().ok_or("its length does not fit its counts")?;
        let count = usize::from(u16::from_le_bytes([head[0], head[1]]));
        let bitmap_bytes = usize::from(u16::from_le_bytes([head[2], head[3]]));
        if count == 0 || bitmap_bytes > Blocks::MOST_BYTES {
            return Err("its deltas have no valid form");
        }
        if rest.len() != count * (FIXED_BYTES + bitmap_bytes) {
            return Err("its length does not fit its counts");
        }
        let mut rows: Vec<LeafDelta> = Vec::with_capacity(count);
        for row in rest.chunks_exact(FIXED_BYTES + bitmap_bytes) {
            let slot = u16::from_le_bytes([row[0], row[1]]);
            let pack = names.pack(u16::from_le_bytes([row[2], row[3]]))?;
            let entry = u32::from_le_bytes(row[4..8].try_into().expect("4 bytes"));
            let blocks = Blocks::from_bytes(&row[FIXED_BYTES..]);
            if rows.last().is_some_and(|last| last.slot >= slot) {
                return Err("its deltas are not in order");
            }
            if entry >= ENTRY_LIMIT {
                return Err("an entry's number is out of bounds");
            }
            if blocks.is_empty() {
                return Err("it has a delta of nothing");
            }
            rows.push(LeafDelta { slot, of: DeltaOf { base: EntryRef { pack, entry }, blocks } });
        }
        let deltas = Self(rows);
        if deltas.bitmap_bytes() == bitmap_bytes {
            Ok(deltas)
        } else {
            Err("its bitmaps are longer than needed")
        }
    }

    /// The fewest bytes that hold every bitmap.
    fn bitmap_bytes(&self) -> usize {
        let end = self.0.iter().map(|row| row.of.blocks.end()).max().unwrap_or(0);
        (end as usize).div_ceil(8)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use strongroom_model::PackId;

    use super::super::super::ChunkPlace;
    use super::super::Leaf;
    use super::*;

    type Cell = (u8, u32, Option<(u8, u32, Vec<u32>)>);

    fn at(pack: u8, entry: u32) -> EntryRef {
        EntryRef { pack: PackId::from_bytes([pack; 16]), entry }
    }

    fn place((pack, entry, delta): &Cell) -> ChunkPlace {
        let delta_of = delta.as_ref().map(|(pack, entry, changed)| {
            let mut blocks = Blocks::NONE;
            changed.iter().for_each(|block| blocks.insert(*block));
            DeltaOf { base: at(*pack, *entry), blocks }
        });
        ChunkPlace { at: at(*pack, *entry), delta_of }
    }

    fn cell() -> impl Strategy<Value = Option<Cell>> {
        let delta = (3_u8..6, 0_u32..6, prop::collection::vec(0_u32..256, 1..4));
        prop::option::of((0_u8..3, 0_u32..6, prop::option::of(delta)))
    }

    fn leaf(cells: &[Option<Cell>]) -> Leaf {
        let changes: Vec<_> = (0..).zip(cells).map(|(slot, cell)| (slot, cell.as_ref().map(place))).collect();
        Leaf::default().with(1024, &changes)
    }

    #[test]
    fn the_bytes_of_a_leaf_with_a_delta_are_fixed() {
        let leaf = leaf(&[Some((1, 5, None)), Some((2, 0, Some((1, 4, vec![0, 9]))))]);
        let expected = [
            "02000200",
            &"01".repeat(16),
            &"02".repeat(16),
            "00000100000005000000",
            "01000100010000000000",
            "01000200",
            "01000000040000000102",
        ];
        assert_eq!(hex::encode(leaf.encode()), expected.concat());
        assert_eq!(leaf.delta_of(0), None);
        assert_eq!(leaf.delta_of(1).unwrap().base, at(1, 4));
    }

    #[test]
    fn deltas_in_any_other_form_are_refused() {
        let good = leaf(&[Some((1, 5, None)), Some((2, 0, Some((3, 4, vec![9]))))]).encode();
        let section = 4 + 3 * 16 + 2 * 10;
        for (byte, value, why) in [
            (section, 0, "its deltas have no valid form"),
            (section, 2, "its length does not fit its counts"),
            (section + 2, 1, "its length does not fit its counts"),
            (section + 3, 1, "its deltas have no valid form"),
            (section + 4, 2, "it has a delta where it has no chunk"),
            (section + 6, 0, "its table has a pack that no row names"),
            (section + 11, 1, "an entry's number is out of bounds"),
            (section + 13, 0, "it has a delta of nothing"),
        ] {
            let mut bad = good.clone();
            bad[byte] = value;
            assert_eq!(Leaf::decode(&bad), Err(why), "byte {byte} = {value}");
        }
        let mut longer = good;
        longer[section + 12] = 1;
        longer[section + 13] = 0;
        assert_eq!(Leaf::decode(&longer), Err("its bitmaps are longer than needed"));
    }

    proptest! {
        #[test]
        fn a_leaf_with_deltas_is_read_back_in_one_form_only(cells in prop::collection::vec(cell(), 0..40)) {
            let leaf = leaf(&cells);
            for (slot, cell) in (0..).zip(&cells) {
                let found = leaf.get(slot).map(|at| ChunkPlace { at, delta_of: leaf.delta_of(slot) });
                prop_assert_eq!(found, cell.as_ref().map(place));
            }
            if !leaf.is_empty() {
                prop_assert_eq!(Leaf::decode(&leaf.encode()).unwrap(), leaf);
            }
        }

        #[test]
        fn changes_are_applied_slot_by_slot(
            old in prop::collection::vec(cell(), 0..40),
            changes in prop::collection::btree_map(0_u16..50, cell(), 0..30),
            end in 0_u16..60,
        ) {
            let mut expected = old.clone();
            expected.truncate(end.into());
            expected.resize(60, None);
            for (slot, cell) in &changes {
                expected[usize::from(*slot)].clone_from(cell);
            }
            let list: Vec<_> = changes.iter().map(|(slot, cell)| (*slot, cell.as_ref().map(place))).collect();
            prop_assert_eq!(leaf(&old).with(end, &list), leaf(&expected));
        }

        #[test]
        fn no_bytes_make_it_panic_and_what_it_accepts_is_canonical(bytes in prop::collection::vec(any::<u8>(), 0..60), flips in prop::collection::vec((0_usize..200, any::<u8>()), 0..3)) {
            let mut forged = leaf(&[Some((1, 5, None)), Some((2, 0, Some((3, 4, vec![9])))), Some((2, 1, Some((1, 4, vec![200]))))]).encode();
            forged.extend(&bytes[..bytes.len() / 8]);
            for (at, byte) in flips {
                if let Some(target) = forged.get_mut(at) {
                    *target = byte;
                }
            }
            if let Ok(leaf) = Leaf::decode(&forged) {
                prop_assert_eq!(leaf.encode(), forged);
            }
        }
    }
}
