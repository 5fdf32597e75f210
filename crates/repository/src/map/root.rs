//! The root of a map.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 2 | version of maps, u16 = 1 |
//! | 2 | 2 | fan-out, u16 = 1024 |
//! | 4 | 4 | chunk bytes, u32 |
//! | 8 | 8 | volume bytes, u64 |
//! | 16 | 4 | dedup domain, u32 |
//! | 20 | 4 | how many nodes, u32 |
//! | 24 | 4 | how many data packs, u32 |
//! | 28 | 4 | how many map packs, u32 |
//! | 32 | 12 each | nodes: slot u32, place of the pack among the map packs u32, entry u32; ascending by slot |
//! | … | 24 each | data packs: id 16, references u64; ascending by id |
//! | … | 24 each | map packs: the same; this root counts as a reference to its own pack |

use std::collections::BTreeMap;

use strongroom_model::PackId;

use super::{MAX_NODES, MapHead, NODE_CHUNKS, NeededPack};
use crate::pack::{ENTRY_LIMIT, EntryRef};

const VERSION: u16 = 1;
const FAN_OUT: u16 = 1024;
const HEAD_BYTES: usize = 32;
const NODE_BYTES: usize = 12;
const PACK_BYTES: usize = 24;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Root {
    pub(super) head: MapHead,
    pub(super) nodes: BTreeMap<u32, EntryRef>,
}

impl Root {
    pub(super) fn encode(&self) -> Vec<u8> {
        let MapHead { volume_bytes, chunk_bytes, domain, data_packs, map_packs } = &self.head;
        let rows = data_packs.len() + map_packs.len();
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.nodes.len() * NODE_BYTES + rows * PACK_BYTES);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&FAN_OUT.to_le_bytes());
        bytes.extend_from_slice(&chunk_bytes.to_le_bytes());
        bytes.extend_from_slice(&volume_bytes.to_le_bytes());
        bytes.extend_from_slice(&domain.to_le_bytes());
        for count in [self.nodes.len(), data_packs.len(), map_packs.len()] {
            let count =
                u32::try_from(count).expect("an entry of 4 billion rows is refused when it is pushed");
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        for (slot, at) in &self.nodes {
            let place = map_packs
                .binary_search_by_key(&at.pack, |needed| needed.pack)
                .expect("the list of needed packs has every node's");
            bytes.extend_from_slice(&slot.to_le_bytes());
            bytes.extend_from_slice(&u32::try_from(place).expect("counted above").to_le_bytes());
            bytes.extend_from_slice(&at.entry.to_le_bytes());
        }
        for needed in data_packs.iter().chain(map_packs) {
            bytes.extend_from_slice(needed.pack.bytes());
            bytes.extend_from_slice(&needed.references.to_le_bytes());
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>().ok_or("it is too short")?;
        let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("4 bytes"));
        if head[..2] != VERSION.to_le_bytes() || head[2..4] != FAN_OUT.to_le_bytes() {
            return Err("its version or fan-out is unknown");
        }
        let count = |at| usize::try_from(word(at)).map_err(|_| "its counts are too large");
        let (nodes, data, maps) = (count(20)?, count(24)?, count(28)?);
        let node_bytes = nodes.checked_mul(NODE_BYTES).ok_or("its counts are too large")?;
        let data_bytes = data.checked_mul(PACK_BYTES).ok_or("its counts are too large")?;
        let map_bytes = maps.checked_mul(PACK_BYTES).ok_or("its counts are too large")?;
        let all = node_bytes.checked_add(data_bytes).and_then(|sum| sum.checked_add(map_bytes));
        if all != Some(rest.len()) {
            return Err("its length does not fit its counts");
        }
        let (node_rows, packs) = rest.split_at(node_bytes);
        let (data_rows, map_rows) = packs.split_at(data_bytes);
        let head = MapHead {
            volume_bytes: u64::from_le_bytes(head[8..16].try_into().expect("8 bytes")),
            chunk_bytes: word(4),
            domain: word(16),
            data_packs: decode_packs(data_rows)?,
            map_packs: decode_packs(map_rows)?,
        };
        let slots = node_slots(head.volume_bytes, head.chunk_bytes).ok_or("its grid is out of bounds")?;
        let nodes = decode_nodes(node_rows, slots, &head.map_packs)?;
        Ok(Self { head, nodes })
    }
}

/// How many nodes a volume has; `None` when a map cannot name them.
pub(super) fn node_slots(volume_bytes: u64, chunk_bytes: u32) -> Option<u32> {
    if chunk_bytes == 0 {
        return None;
    }
    let nodes = volume_bytes.div_ceil(chunk_bytes.into()).div_ceil(NODE_CHUNKS);
    if nodes > MAX_NODES { None } else { u32::try_from(nodes).ok() }
}

fn decode_nodes(
    rows: &[u8],
    slots: u32,
    map_packs: &[NeededPack],
) -> Result<BTreeMap<u32, EntryRef>, &'static str> {
    let mut nodes = BTreeMap::new();
    for row in rows.chunks_exact(NODE_BYTES) {
        let word = |at: usize| u32::from_le_bytes(row[at..at + 4].try_into().expect("4 bytes"));
        let (slot, place, entry) = (word(0), word(4), word(8));
        if nodes.last_key_value().is_some_and(|(last, _)| *last >= slot) || slot >= slots {
            return Err("its slots are not in order or out of bounds");
        }
        if entry >= ENTRY_LIMIT {
            return Err("an entry's number is out of bounds");
        }
        let needed = usize::try_from(place).ok().and_then(|place| map_packs.get(place));
        let pack = needed.ok_or("it names a pack that its list lacks")?.pack;
        nodes.insert(slot, EntryRef { pack, entry });
    }
    Ok(nodes)
}

fn decode_packs(rows: &[u8]) -> Result<Vec<NeededPack>, &'static str> {
    let mut packs: Vec<NeededPack> = Vec::with_capacity(rows.len() / PACK_BYTES);
    for row in rows.chunks_exact(PACK_BYTES) {
        let needed = NeededPack {
            pack: PackId::from_bytes(row[..16].try_into().expect("16 bytes")),
            references: u64::from_le_bytes(row[16..].try_into().expect("8 bytes")),
        };
        if packs.last().is_some_and(|last| last.pack >= needed.pack) || needed.references == 0 {
            return Err("its packs are not in order or not needed");
        }
        packs.push(needed);
    }
    Ok(packs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn root() -> Root {
        let needed = |n: u8, references| NeededPack { pack: PackId::from_bytes([n; 16]), references };
        Root {
            head: MapHead {
                volume_bytes: 3 * NODE_CHUNKS * 65_536 - 7,
                chunk_bytes: 65_536,
                domain: 9,
                data_packs: vec![needed(1, 5), needed(2, 6)],
                map_packs: vec![needed(3, 7)],
            },
            nodes: [(0, EntryRef { pack: PackId::from_bytes([3; 16]), entry: 4 })].into(),
        }
    }

    #[test]
    fn a_root_is_read_back_and_its_bytes_are_fixed() {
        let bytes = root().encode();
        assert_eq!(Root::decode(&bytes).unwrap(), root());
        let row = |n: &str, references: &str| n.repeat(16) + references + "00000000000000";
        let expected = [
            "0100000400000100f9ffffff2f00000009000000010000000200000001000000",
            "000000000000000004000000",
            &row("01", "05"),
            &row("02", "06"),
            &row("03", "07"),
        ]
        .concat();
        assert_eq!(hex::encode(bytes), expected);
    }

    #[test]
    fn a_root_in_any_other_form_is_refused() {
        let good = root().encode();
        for (at, byte) in
            [(0, 2), (3, 5), (7, 1), (20, 2), (24, 255), (32, 3), (36, 1), (43, 1), (44, 9), (60, 0), (68, 0)]
        {
            let mut bad = good.clone();
            bad[at] = byte;
            if bad != good {
                assert!(Root::decode(&bad).is_err() || at == 7, "byte {at} = {byte}");
            }
        }
        for cut in 0..good.len() {
            assert!(Root::decode(&good[..cut]).is_err());
        }
        let mut no_grid = good;
        no_grid[4..8].fill(0);
        assert_eq!(Root::decode(&no_grid), Err("its grid is out of bounds"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let forged = [&[1, 0, 0, 4], &bytes[..]].concat();
            if let Ok(root) = Root::decode(&forged) {
                prop_assert_eq!(root.encode(), forged);
            }
        }
    }
}
