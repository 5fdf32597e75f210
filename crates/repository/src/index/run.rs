//! A run: a sorted, immutable set of (chunk, where it lies).
//!
//! Rows hold 16 of a chunk id's 32 bytes. Ids are keyed hashes, so two chunks of one prefix are as likely as a forged
//! 128-bit hash; who refers to a hit all the same compares nothing more, because a reader re-computes the whole id.
//!
//! The content of the object `index/<run id>`, all numbers little-endian:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | number of packs P |
//! | 4 | 4 | number of rows N |
//! | 8 | 16 P | pack ids, ascending |
//! | 8 + 16 P | 24 N | rows, ascending by prefix: id prefix 16, position of the pack in the list u32, entry u32 |

use std::collections::BTreeMap;

use bytes::Bytes;
use strongroom_model::{Entropy, PackId, RepositoryId};

use crate::chunk::ChunkId;
use crate::keys::Keyring;
use crate::pack::EntryRef;
use crate::seal::{self, BlobKind, SealError};

use super::RunKey;

/// Bytes of a row.
pub(super) const ROW_BYTES: usize = 24;
/// Bytes of a chunk id that a row keeps.
pub(super) const PREFIX_BYTES: usize = 16;

/// The part of a chunk id by which rows are sorted and found.
pub(super) type Prefix = [u8; PREFIX_BYTES];

/// The prefix of an id.
pub(super) fn prefix(id: &ChunkId) -> Prefix {
    let mut prefix = [0; PREFIX_BYTES];
    prefix.copy_from_slice(&id.bytes()[..PREFIX_BYTES]);
    prefix
}

/// One row, unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) prefix: Prefix,
    /// The position of its pack in the list of packs beside it.
    pub(super) pack: u32,
    pub(super) entry: u32,
}

impl Row {
    pub(super) fn encode(&self) -> [u8; ROW_BYTES] {
        let mut bytes = [0; ROW_BYTES];
        bytes[..16].copy_from_slice(&self.prefix);
        bytes[16..20].copy_from_slice(&self.pack.to_le_bytes());
        bytes[20..].copy_from_slice(&self.entry.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; ROW_BYTES]) -> Self {
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let mut prefix = [0; PREFIX_BYTES];
        prefix.copy_from_slice(&bytes[..16]);
        Self { prefix, pack: number(16), entry: number(20) }
    }
}

/// A sorted, immutable set of (chunk, where it lies).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexRun {
    packs: Vec<PackId>,
    rows: Vec<[u8; ROW_BYTES]>,
}

impl IndexRun {
    /// The most entries that one run has: about 24 MB.
    pub const MAX_ENTRIES: usize = 1 << 20;

    /// Sorts and packs at most [`Self::MAX_ENTRIES`] entries; what is over is left in `entries`.
    ///
    /// Of several places of one chunk the one that was given first stays.
    pub fn take_from(entries: &mut Vec<(ChunkId, EntryRef)>) -> Self {
        let rest = entries.split_off(entries.len().min(Self::MAX_ENTRIES));
        let taken = std::mem::replace(entries, rest);
        let mut positions: BTreeMap<PackId, u32> = taken.iter().map(|(_, at)| (at.pack, 0)).collect();
        for (position, place) in (0..).zip(positions.values_mut()) {
            *place = position;
        }
        let mut rows: Vec<_> = taken
            .iter()
            .map(|(id, at)| Row { prefix: prefix(id), pack: positions[&at.pack], entry: at.entry }.encode())
            .collect();
        // A stable sort by the prefix alone, so that the first of equals stays.
        rows.sort_by(|a, b| a[..PREFIX_BYTES].cmp(&b[..PREFIX_BYTES]));
        rows.dedup_by(|a, b| a[..PREFIX_BYTES] == b[..PREFIX_BYTES]);
        Self { packs: positions.into_keys().collect(), rows }
    }

    /// How many entries.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The packs its rows lie in, ascending. A run all of whose packs are gone is of no more use.
    #[must_use]
    pub fn packs(&self) -> &[PackId] {
        &self.packs
    }

    /// Where a chunk lies.
    #[must_use]
    pub fn lookup(&self, id: &ChunkId) -> Option<EntryRef> {
        let wanted = prefix(id);
        let at = self.rows.binary_search_by(|row| row[..PREFIX_BYTES].cmp(&wanted)).ok()?;
        let row = Row::decode(&self.rows[at]);
        Some(EntryRef { pack: *self.packs.get(row.pack as usize)?, entry: row.entry })
    }

    /// The rows in order.
    pub(super) fn rows(&self) -> impl ExactSizeIterator<Item = Row> {
        self.rows.iter().map(Row::decode)
    }

    /// The object `index/<key>`, sealed.
    ///
    /// # Errors
    /// Never for a run within its limit.
    pub fn seal(
        &self,
        keyring: &Keyring,
        repository: RepositoryId,
        key: RunKey,
        entropy: &dyn Entropy,
    ) -> Result<Bytes, SealError> {
        seal::seal(keyring, repository, BlobKind::IndexRun, &key, &self.encode(), entropy)
    }

    /// Opens the object `index/<key>`.
    ///
    /// # Errors
    /// When it is not authentic or malformed.
    pub fn open(
        keyring: &Keyring,
        repository: RepositoryId,
        key: RunKey,
        sealed: &[u8],
    ) -> Result<Self, SealError> {
        let plain = seal::open(keyring, repository, BlobKind::IndexRun, &key, sealed)?;
        Self::decode(&plain).ok_or(SealError::Malformed)
    }

    fn encode(&self) -> Vec<u8> {
        let count = |length: usize| u32::try_from(length).expect("a run has at most 2^20 rows").to_le_bytes();
        let mut bytes = Vec::with_capacity(8 + 16 * self.packs.len() + ROW_BYTES * self.rows.len());
        bytes.extend(count(self.packs.len()));
        bytes.extend(count(self.rows.len()));
        self.packs.iter().for_each(|pack| bytes.extend(pack.bytes()));
        self.rows.iter().for_each(|row| bytes.extend(row));
        bytes
    }

    fn decode(plain: &[u8]) -> Option<Self> {
        let (packs, rest) = plain.split_first_chunk::<4>()?;
        let (rows, rest) = rest.split_first_chunk::<4>()?;
        let packs = usize::try_from(u32::from_le_bytes(*packs)).ok()?;
        let rows = usize::try_from(u32::from_le_bytes(*rows)).ok()?;
        let (packs, rest) = rest.split_at_checked(packs.checked_mul(16)?)?;
        if rest.len() != rows.checked_mul(ROW_BYTES)? {
            return None;
        }
        let run = Self {
            packs: packs.as_chunks::<16>().0.iter().map(|bytes| PackId::from_bytes(*bytes)).collect(),
            rows: rest.as_chunks::<ROW_BYTES>().0.to_vec(),
        };
        let ascending = run.packs.is_sorted_by(|a, b| a < b)
            && run.rows.is_sorted_by(|a, b| a[..PREFIX_BYTES] < b[..PREFIX_BYTES]);
        let in_list = run.rows().all(|row| (row.pack as usize) < run.packs.len());
        (ascending && in_list).then_some(run)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries() -> impl Strategy<Value = Vec<(ChunkId, EntryRef)>> {
        let entry = (any::<[u8; 32]>(), 0..4_u8, any::<u32>()).prop_map(|(id, pack, entry)| {
            (ChunkId::from_bytes(id), EntryRef { pack: PackId::from_bytes([pack; 16]), entry })
        });
        prop::collection::vec(entry, 0..200)
    }

    proptest! {
        #[test]
        fn a_run_finds_what_it_was_given_and_is_read_back(entries in entries(), stranger in any::<[u8; 32]>()) {
            let run = IndexRun::take_from(&mut entries.clone());
            for (id, at) in &entries {
                prop_assert_eq!(run.lookup(id), Some(*at));
            }
            prop_assert_eq!(run.lookup(&ChunkId::from_bytes(stranger)), None);
            prop_assert_eq!(IndexRun::decode(&run.encode()), Some(run));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = IndexRun::decode(&bytes);
        }
    }

    #[test]
    fn the_first_place_of_a_chunk_stays() {
        let id = ChunkId::from_bytes([5; 32]);
        let place = |entry| EntryRef { pack: PackId::from_bytes([1; 16]), entry };
        let run = IndexRun::take_from(&mut vec![(id, place(7)), (id, place(8))]);
        assert_eq!((run.len(), run.lookup(&id)), (1, Some(place(7))));
    }

    #[test]
    fn the_golden_bytes_of_a_run() {
        let at = EntryRef { pack: PackId::from_bytes([0xaa; 16]), entry: 3 };
        let run = IndexRun::take_from(&mut vec![(ChunkId::from_bytes([0x11; 32]), at)]);
        let mut golden = vec![1, 0, 0, 0, 1, 0, 0, 0];
        golden.extend([0xaa; 16]);
        golden.extend([0x11; 16]);
        golden.extend([0, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(run.encode(), golden);
    }
}
