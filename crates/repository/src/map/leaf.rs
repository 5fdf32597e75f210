//! A leaf: where 1024 chunks lie.
//!
//! After the table of packs ([`super::table`]) come the runs, 10 bytes each:
//!
//! | bytes | field |
//! |---|---|
//! | 2 | start: the first chunk's slot, u16 |
//! | 2 | count, u16, from 1 |
//! | 2 | the pack's place in the table, u16 |
//! | 4 | first entry, u32 |
//!
//! Chunk `start + i` is entry `first entry + i`. Runs are in ascending order, do not overlap, and neighbours that could be
//! one run are one. Behind them lie the [`deltas`], if there are any.

mod deltas;

use strongroom_model::PackId;

use super::table::{PackNames, PackTable};
use super::{ChunkPlace, DeltaOf, FAN_OUT};
use crate::pack::{ENTRY_LIMIT, EntryRef};
use deltas::Deltas;
pub(super) use deltas::LeafDelta;

const ROW_BYTES: usize = 10;
const SLOTS: u16 = 1024;
const _: () = assert!(SLOTS as u64 == FAN_OUT);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LeafRun {
    pub(super) start: u16,
    pub(super) count: u16,
    pub(super) pack: PackId,
    pub(super) first_entry: u32,
}

impl LeafRun {
    pub(super) const fn end(&self) -> u16 {
        self.start + self.count
    }

    /// Where the chunk in `slot` lies; it must be one of the run's.
    pub(super) const fn at(&self, slot: u16) -> EntryRef {
        EntryRef { pack: self.pack, entry: self.first_entry + (slot - self.start) as u32 }
    }
}

/// What the writer of a map changes in a leaf, in ascending order of slot.
pub(super) type Changes<'a> = &'a [(u16, Option<ChunkPlace>)];

/// Runs in canonical form, and what those of their chunks are built on that are deltas.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Leaf {
    runs: Vec<LeafRun>,
    deltas: Deltas,
}

impl Leaf {
    pub(super) fn runs(&self) -> &[LeafRun] {
        &self.runs
    }

    pub(super) fn deltas(&self) -> &[LeafDelta] {
        self.deltas.rows()
    }

    /// What a chunk is built on, if it is a delta.
    pub(super) fn delta_of(&self, slot: u16) -> Option<DeltaOf> {
        self.deltas.get(slot)
    }

    /// The packs that it names, in which chunks or their bases lie; one may come more than once.
    pub(super) fn packs(&self) -> impl Iterator<Item = PackId> + '_ {
        self.runs.iter().map(|run| run.pack).chain(self.deltas().iter().map(|delta| delta.of.base.pack))
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(super) fn get(&self, slot: u16) -> Option<EntryRef> {
        let after = self.runs.partition_point(|run| run.start <= slot);
        let run = self.runs[..after].last()?;
        (slot < run.end()).then(|| run.at(slot))
    }

    /// Adds what lies behind all there is; joins it to the last run where it continues that.
    pub(super) fn push(&mut self, run: LeafRun) {
        if let Some(last) = self.runs.last_mut() {
            debug_assert!(last.end() <= run.start, "runs come in order");
            if last.end() == run.start
                && last.pack == run.pack
                && last.first_entry + u32::from(last.count) == run.first_entry
            {
                last.count += run.count;
                return;
            }
        }
        self.runs.push(run);
    }

    /// This leaf without what lies from slot `end` on, and with `changes`.
    pub(super) fn with(&self, end: u16, changes: Changes<'_>) -> Self {
        let mut new = Self { runs: Vec::new(), deltas: self.deltas.with(end, changes) };
        let mut changes = changes.iter().peekable();
        for run in &self.runs {
            let run_end = run.end().min(end);
            let mut from = run.start;
            loop {
                while let Some((slot, at)) = changes.next_if(|(slot, _)| *slot < from) {
                    new.set(*slot, *at);
                }
                if from >= run_end {
                    break;
                }
                if let Some((slot, at)) = changes.next_if(|(slot, _)| *slot == from) {
                    new.set(*slot, *at);
                    from += 1;
                    continue;
                }
                let until = changes.peek().map_or(run_end, |(slot, _)| (*slot).min(run_end));
                let first_entry = run.at(from).entry;
                new.push(LeafRun { start: from, count: until - from, pack: run.pack, first_entry });
                from = until;
            }
        }
        for (slot, at) in changes {
            new.set(*slot, *at);
        }
        new
    }

    fn set(&mut self, slot: u16, place: Option<ChunkPlace>) {
        if let Some(ChunkPlace { at, .. }) = place {
            self.push(LeafRun { start: slot, count: 1, pack: at.pack, first_entry: at.entry });
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(&self.runs[..]) + size_of_val(self.deltas())
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut table = PackTable::default();
        let places: Vec<u16> = self.runs.iter().map(|run| table.place_of(run.pack)).collect();
        let deltas = self.deltas.encode(&mut table);
        let mut bytes = table.encode(self.runs.len());
        for (run, place) in self.runs.iter().zip(places) {
            for field in [run.start, run.count, place] {
                bytes.extend_from_slice(&field.to_le_bytes());
            }
            bytes.extend_from_slice(&run.first_entry.to_le_bytes());
        }
        bytes.extend_from_slice(&deltas);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let (mut names, rows, more) = PackNames::decode_with_more(bytes, ROW_BYTES)?;
        let mut leaf = Self { runs: Vec::with_capacity(rows.len()), deltas: Deltas::default() };
        let mut free = 0;
        for row in rows {
            let field = |at: usize| u16::from_le_bytes([row[at], row[at + 1]]);
            let (start, count) = (field(0), field(2));
            let first_entry = u32::from_le_bytes(row[6..10].try_into().expect("4 bytes"));
            let fits = count > 0 && start >= free && start.checked_add(count).is_some_and(|end| end <= SLOTS);
            if !fits {
                return Err("its runs overlap or leave it");
            }
            if first_entry.checked_add(count.into()).is_none_or(|end| end > ENTRY_LIMIT) {
                return Err("an entry's number is out of bounds");
            }
            let before = leaf.runs.len();
            leaf.push(LeafRun { start, count, pack: names.pack(field(4))?, first_entry });
            if leaf.runs.len() == before {
                return Err("two of its runs are one");
            }
            free = start + count;
        }
        leaf.deltas = Deltas::decode(more, &mut names)?;
        if leaf.deltas().iter().any(|delta| leaf.get(delta.slot).is_none()) {
            return Err("it has a delta where it has no chunk");
        }
        names.finish()?;
        if leaf.is_empty() { Err("it is empty") } else { Ok(leaf) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pack(n: u8) -> PackId {
        PackId::from_bytes([n; 16])
    }

    fn cells() -> impl Strategy<Value = Vec<Option<(u8, u32)>>> {
        prop::collection::vec(prop::option::of((0_u8..3, 0_u32..6)), 0..40)
    }

    fn leaf(cells: &[Option<(u8, u32)>]) -> Leaf {
        let changes: Vec<_> = cells
            .iter()
            .enumerate()
            .map(|(slot, cell)| {
                let at = cell.map(|(n, entry)| EntryRef { pack: pack(n), entry }.into());
                (u16::try_from(slot).unwrap(), at)
            })
            .collect();
        Leaf::default().with(SLOTS, &changes)
    }

    #[test]
    fn neighbours_become_one_run_and_the_bytes_are_fixed() {
        let cells: Vec<_> = [(1, 5), (1, 6), (1, 7), (2, 8)].into_iter().map(Some).collect();
        let leaf = leaf(&cells);
        let expected =
            format!("02000200{}{}0000030000000500000003000100010008000000", "01".repeat(16), "02".repeat(16));
        assert_eq!(hex::encode(leaf.encode()), expected);
        assert_eq!(leaf.get(2), Some(EntryRef { pack: pack(1), entry: 7 }));
        assert_eq!((leaf.get(4), leaf.get(1023)), (None, None));
    }

    #[test]
    fn a_leaf_in_any_other_form_is_refused() {
        let good = leaf(&[Some((1, 5)), None, Some((2, 8))]).encode();
        for (at, byte, why) in [
            (36, 2, "its runs overlap or leave it"),
            (38, 0, "its runs overlap or leave it"),
            (38, 3, "its runs overlap or leave it"),
            (47, 4, "its runs overlap or leave it"),
            (40, 1, "its packs are not in the order of their use"),
            (45, 1, "an entry's number is out of bounds"),
            (0, 3, "its length does not fit its counts"),
            (3, 5, "its length does not fit its counts"),
        ] {
            let mut bad = good.clone();
            bad[at] = byte;
            if bad != good {
                assert_eq!(Leaf::decode(&bad), Err(why), "byte {at} = {byte}");
            }
        }
        let mut twice = good.clone();
        twice[20..36].fill(1);
        assert!(Leaf::decode(&twice).is_err());
        assert_eq!(Leaf::decode(&[0; 4]), Err("it is empty"));
        assert_eq!(Leaf::decode(&[0; 3]), Err("it is too short"));
    }

    proptest! {
        #[test]
        fn a_leaf_is_read_back_in_one_form_only(cells in cells()) {
            let leaf = leaf(&cells);
            for (slot, cell) in cells.iter().enumerate() {
                let at = leaf.get(u16::try_from(slot).unwrap()).map(|at| (at.pack, at.entry));
                prop_assert_eq!(at, cell.map(|(n, entry)| (pack(n), entry)));
            }
            if !leaf.is_empty() {
                prop_assert_eq!(Leaf::decode(&leaf.encode()).unwrap(), leaf);
            }
        }

        #[test]
        fn changes_are_applied_slot_by_slot(
            old in cells(),
            changes in prop::collection::btree_map(0_u16..50, prop::option::of((0_u8..3, 0_u32..6)), 0..30),
            end in 0_u16..60,
        ) {
            let mut expected: Vec<Option<(u8, u32)>> = old.clone();
            expected.truncate(end.into());
            expected.resize(60, None);
            let mut list = Vec::new();
            for (slot, cell) in &changes {
                expected[usize::from(*slot)] = *cell;
                list.push((*slot, cell.map(|(n, entry)| EntryRef { pack: pack(n), entry }.into())));
            }
            prop_assert_eq!(leaf(&old).with(end, &list), leaf(&expected));
        }

        #[test]
        fn no_bytes_make_it_panic_and_what_it_accepts_is_canonical(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(leaf) = Leaf::decode(&bytes) {
                prop_assert_eq!(leaf.encode(), bytes);
            }
        }
    }
}
