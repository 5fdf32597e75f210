//! A node: where 1024 leaves lie.
//!
//! After the table of packs ([`super::table`]) come the children, 8 bytes each, in ascending order of slot; an absent leaf
//! is all zero:
//!
//! | bytes | field |
//! |---|---|
//! | 2 | slot, u16, below 1024 |
//! | 2 | the pack's place in the table, u16 |
//! | 4 | entry, u32 |

use std::collections::BTreeMap;

use super::FAN_OUT;
use super::table::{PackNames, PackTable};
use crate::pack::{ENTRY_LIMIT, EntryRef};

const ROW_BYTES: usize = 8;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) leaves: BTreeMap<u16, EntryRef>,
}

impl Node {
    pub(super) fn memory_bytes(&self) -> usize {
        // A tree's cell and its share of the inner ones.
        size_of::<Self>() + self.leaves.len() * 40
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut table = PackTable::default();
        let places: Vec<u16> = self.leaves.values().map(|at| table.place_of(at.pack)).collect();
        let mut bytes = table.encode(self.leaves.len());
        for ((slot, at), place) in self.leaves.iter().zip(places) {
            bytes.extend_from_slice(&slot.to_le_bytes());
            bytes.extend_from_slice(&place.to_le_bytes());
            bytes.extend_from_slice(&at.entry.to_le_bytes());
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let (mut names, rows) = PackNames::decode(bytes, ROW_BYTES)?;
        let mut node = Self::default();
        for row in rows {
            let slot = u16::from_le_bytes([row[0], row[1]]);
            let entry = u32::from_le_bytes(row[4..8].try_into().expect("4 bytes"));
            if node.leaves.last_key_value().is_some_and(|(last, _)| *last >= slot)
                || u64::from(slot) >= FAN_OUT
            {
                return Err("its slots are not in order or out of bounds");
            }
            if entry >= ENTRY_LIMIT {
                return Err("an entry's number is out of bounds");
            }
            let pack = names.pack(u16::from_le_bytes([row[2], row[3]]))?;
            node.leaves.insert(slot, EntryRef { pack, entry });
        }
        names.finish()?;
        if node.leaves.is_empty() { Err("it is empty") } else { Ok(node) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use strongroom_model::PackId;

    use super::*;

    proptest! {
        #[test]
        fn a_node_is_read_back(leaves in prop::collection::btree_map(0_u16..1024, (0_u8..4, 0..ENTRY_LIMIT), 1..200)) {
            let leaves = leaves
                .into_iter()
                .map(|(slot, (n, entry))| (slot, EntryRef { pack: PackId::from_bytes([n; 16]), entry }))
                .collect();
            let node = Node { leaves };
            prop_assert_eq!(Node::decode(&node.encode()).unwrap(), node);
        }

        #[test]
        fn no_bytes_make_it_panic_and_what_it_accepts_is_canonical(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(node) = Node::decode(&bytes) {
                prop_assert_eq!(node.encode(), bytes);
            }
        }
    }

    #[test]
    fn the_bytes_of_a_node_are_fixed() {
        let at = |entry| EntryRef { pack: PackId::from_bytes([1; 16]), entry };
        let node = Node { leaves: [(0, at(9)), (1023, at(8))].into() };
        let expected = format!("01000200{}0000000009000000ff03000008000000", "01".repeat(16));
        assert_eq!(hex::encode(node.encode()), expected);
    }
}
