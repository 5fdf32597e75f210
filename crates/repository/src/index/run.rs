//! A run: sorted rows, in memory and as the object `index/<run id>`.
//!
//! The object is a sealed blob ([`crate::seal`], kind 4, bound to the run id):
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | version, u32 = 1 |
//! | 4 | 4 | how many packs, u32 |
//! | 8 | 4 | how many rows, u32, at most 2^20 |
//! | 12 | 16 each | pack ids |
//! | … | 24 each | rows: first 16 bytes of the chunk id; the pack's place u32; entry u32. Ascending, no id twice |

use std::collections::HashMap;

use bytes::Bytes;
use strongroom_model::{Entropy, PackId, RepositoryId};

use super::RunKey;
use crate::chunk::ChunkId;
use crate::keys::Keyring;
use crate::pack::{ENTRY_LIMIT, EntryRef};
use crate::seal::{self, BlobKind, Cipher, SealError};

const VERSION: u32 = 1;
const HEAD_BYTES: usize = 12;
pub(super) const ROW_BYTES: usize = 24;

/// What a chunk is known by.
pub(super) type Prefix = [u8; 16];

pub(super) fn prefix(id: &ChunkId) -> Prefix {
    *id.bytes().first_chunk().expect("16 bytes of 32")
}

/// Where a chunk lies: a pack's place in a table, and an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    pub(super) prefix: Prefix,
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

    /// Decodes a row; its place must be below `packs`.
    pub(super) fn decode(bytes: &[u8], packs: usize) -> Option<Self> {
        let (prefix, rest) = bytes.split_first_chunk::<16>()?;
        let row = Self {
            prefix: *prefix,
            pack: u32::from_le_bytes(*rest.first_chunk()?),
            entry: u32::from_le_bytes(*rest.last_chunk()?),
        };
        (usize::try_from(row.pack).is_ok_and(|place| place < packs) && row.entry < ENTRY_LIMIT).then_some(row)
    }
}

/// The rows of `rows` with this prefix. They are sorted.
pub(super) fn matching<'a>(rows: &'a [Row], prefix: &Prefix) -> &'a [Row] {
    let start = rows.partition_point(|row| row.prefix < *prefix);
    let count = rows[start..].iter().take_while(|row| row.prefix == *prefix).count();
    &rows[start..start + count]
}

/// A sorted, immutable set of (chunk, where it lies).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexRun {
    pub(super) packs: Vec<PackId>,
    pub(super) rows: Vec<Row>,
}

impl IndexRun {
    /// The most entries that one run has: 24 MiB.
    pub const MAX_ENTRIES: usize = 1 << 20;

    /// Takes at most [`Self::MAX_ENTRIES`] from `entries` and sorts them; what is over stays there.
    pub fn take_from(entries: &mut Vec<(ChunkId, EntryRef)>) -> Self {
        let over = entries.split_off(entries.len().min(Self::MAX_ENTRIES));
        let taken = std::mem::replace(entries, over);
        let mut packs = Vec::new();
        let mut places = HashMap::new();
        let mut rows: Vec<Row> = taken
            .iter()
            .map(|(id, at)| {
                let pack = *places.entry(at.pack).or_insert_with(|| {
                    packs.push(at.pack);
                    u32::try_from(packs.len() - 1).expect("at most 2^20 packs for 2^20 rows")
                });
                Row { prefix: prefix(id), pack, entry: at.entry }
            })
            .collect();
        // Stable, so that of two places of one chunk the first is kept.
        rows.sort_by_key(|row| row.prefix);
        rows.dedup_by_key(|row| row.prefix);
        Self { packs, rows }
    }

    /// One run with the rows of several, of which the first wins; only those in packs that stay. Together they have at
    /// most [`Self::MAX_ENTRIES`].
    pub fn join(runs: &[Self], stays: impl Fn(&PackId) -> bool) -> Self {
        let (mut packs, mut places, mut rows) = (Vec::new(), HashMap::new(), Vec::new());
        for run in runs {
            for row in &run.rows {
                let pack = run.packs[row.pack as usize];
                let place = places.entry(pack).or_insert_with(|| {
                    stays(&pack).then(|| {
                        packs.push(pack);
                        u32::try_from(packs.len() - 1).expect("at most 2^20 packs for 2^20 rows")
                    })
                });
                rows.extend(place.map(|pack| Row { pack, ..*row }));
            }
        }
        rows.sort_by_key(|row| row.prefix);
        rows.dedup_by_key(|row| row.prefix);
        Self { packs, rows }
    }

    /// The packs in which its entries lie.
    #[must_use]
    pub fn packs(&self) -> &[PackId] {
        &self.packs
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

    /// Where a chunk lies.
    #[must_use]
    pub fn lookup(&self, id: &ChunkId) -> Option<EntryRef> {
        matching(&self.rows, &prefix(id)).first().map(|row| self.at(row))
    }

    /// Every row: the beginning of a chunk's id, and where it lies.
    pub(crate) fn entries(&self) -> impl Iterator<Item = ([u8; 16], EntryRef)> + '_ {
        self.rows.iter().map(|row| (row.prefix, self.at(row)))
    }

    fn at(&self, row: &Row) -> EntryRef {
        EntryRef { pack: self.packs[row.pack as usize], entry: row.entry }
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
        let (epoch, master) = keyring.sealing();
        self.seal_under(&master, epoch, keyring.cipher(), repository, key, entropy)
    }

    /// [`Self::seal`] under the master key of an epoch that the caller chooses.
    pub(crate) fn seal_under(
        &self,
        master: &[u8; 32],
        epoch: u32,
        cipher: Cipher,
        repository: RepositoryId,
        key: RunKey,
        entropy: &dyn Entropy,
    ) -> Result<Bytes, SealError> {
        let plain = self.encode();
        seal::seal_under(master, epoch, cipher, repository, BlobKind::IndexRun, &key, &plain, entropy)
    }

    /// Opens the object `index/<key>`.
    ///
    /// # Errors
    /// When it is not authentic, or malformed.
    pub fn open(
        keyring: &Keyring,
        repository: RepositoryId,
        key: RunKey,
        sealed: &[u8],
    ) -> Result<Self, SealError> {
        Self::decode(&seal::open(keyring, repository, BlobKind::IndexRun, &key, sealed)?)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.packs.len() * 16 + self.rows.len() * ROW_BYTES);
        let count = |count: usize| u32::try_from(count).expect("at most 2^20").to_le_bytes();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&count(self.packs.len()));
        bytes.extend_from_slice(&count(self.rows.len()));
        for pack in &self.packs {
            bytes.extend_from_slice(pack.bytes());
        }
        for row in &self.rows {
            bytes.extend_from_slice(&row.encode());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, SealError> {
        let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>().ok_or(SealError::Malformed)?;
        let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("4 bytes"));
        if word(0) != VERSION {
            return Err(SealError::Unknown { what: "version of index runs", found: word(0) });
        }
        let (packs, rows) = (word(4) as usize, word(8) as usize);
        if packs > Self::MAX_ENTRIES
            || rows > Self::MAX_ENTRIES
            || rest.len() != packs * 16 + rows * ROW_BYTES
        {
            return Err(SealError::Malformed);
        }
        let (pack_bytes, row_bytes) = rest.split_at(packs * 16);
        let packs: Vec<PackId> = pack_ids(pack_bytes).collect();
        let rows: Option<Vec<Row>> =
            row_bytes.chunks_exact(ROW_BYTES).map(|row| Row::decode(row, packs.len())).collect();
        let rows = rows.ok_or(SealError::Malformed)?;
        if rows.windows(2).all(|pair| pair[0].prefix < pair[1].prefix) {
            Ok(Self { packs, rows })
        } else {
            Err(SealError::Malformed)
        }
    }
}

pub(super) fn pack_ids(bytes: &[u8]) -> impl Iterator<Item = PackId> + '_ {
    bytes.chunks_exact(16).map(|id| PackId::from_bytes(id.try_into().expect("16 bytes")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::SeededEntropy;

    const REPOSITORY: RepositoryId = RepositoryId::from_bytes([0x5a; 16]);

    fn entries(list: &[(u8, u8, u32)]) -> Vec<(ChunkId, EntryRef)> {
        list.iter()
            .map(|(id, pack, entry)| {
                (
                    ChunkId::from_bytes([*id; 32]),
                    EntryRef { pack: PackId::from_bytes([*pack; 16]), entry: *entry },
                )
            })
            .collect()
    }

    #[test]
    fn the_bytes_of_a_run_are_fixed() {
        let run = IndexRun::take_from(&mut entries(&[(9, 1, 5), (3, 2, 6), (9, 2, 7)]));
        let pack = |n: &str| n.repeat(16);
        let expected = format!(
            "010000000200000002000000{}{}{}0100000006000000{}0000000005000000",
            pack("01"),
            pack("02"),
            pack("03"),
            pack("09")
        );
        assert_eq!(hex::encode(run.encode()), expected);
    }

    #[test]
    fn a_run_is_sealed_under_its_own_name_and_refused_in_any_other_form() {
        let keyring = Keyring::generate(&SeededEntropy::new(1));
        let run = IndexRun::take_from(&mut entries(&[(9, 1, 5), (3, 2, 6)]));
        let sealed = run.seal(&keyring, REPOSITORY, [7; 16], &SeededEntropy::new(2)).unwrap();
        assert_eq!(IndexRun::open(&keyring, REPOSITORY, [7; 16], &sealed).unwrap(), run);
        assert_eq!(IndexRun::open(&keyring, REPOSITORY, [8; 16], &sealed), Err(SealError::Broken));
        let good = run.encode();
        for (at, byte) in [(0, 2), (4, 3), (8, 1), (8, 255), (11, 1), (44, 10), (60, 2), (67, 1)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert!(IndexRun::decode(&bad).is_err(), "byte {at} = {byte}");
        }
    }

    #[test]
    fn what_is_over_the_limit_stays() {
        let mut many: Vec<_> = (0..IndexRun::MAX_ENTRIES as u64 + 3)
            .map(|n| {
                let id = ChunkId::from_bytes(*blake3::hash(&n.to_le_bytes()).as_bytes());
                (id, EntryRef { pack: PackId::from_bytes([1; 16]), entry: 0 })
            })
            .collect();
        let last = many.last().unwrap().0;
        assert_eq!(IndexRun::take_from(&mut many).len(), IndexRun::MAX_ENTRIES);
        assert_eq!(many.len(), 3);
        assert!(IndexRun::take_from(&mut many).lookup(&last).is_some() && many.is_empty());
    }

    #[test]
    fn runs_are_joined_without_what_is_gone() {
        let one = IndexRun::take_from(&mut entries(&[(9, 1, 5), (3, 2, 6)]));
        let two = IndexRun::take_from(&mut entries(&[(9, 3, 7), (4, 2, 8), (5, 4, 1)]));
        let gone = PackId::from_bytes([4; 16]);
        let joined = IndexRun::join(&[one, two], |pack| *pack != gone);
        assert_eq!(IndexRun::decode(&joined.encode()).unwrap(), joined);
        let found = |n| joined.lookup(&ChunkId::from_bytes([n; 32])).map(|at| (at.pack.bytes()[0], at.entry));
        assert_eq!(
            (found(9), found(3), found(4), found(5)),
            (Some((1, 5)), Some((2, 6)), Some((2, 8)), None)
        );
        assert!(IndexRun::join(&[joined], |_| false).is_empty());
    }

    proptest! {
        #[test]
        fn a_run_finds_what_went_into_it(list in prop::collection::vec((any::<u8>(), 0_u8..5, 0_u32..100), 0..200)) {
            let run = IndexRun::take_from(&mut entries(&list));
            prop_assert_eq!(&IndexRun::decode(&run.encode()).unwrap(), &run);
            for id in 0..=255 {
                let expected = entries(&list).into_iter().find(|(known, _)| known.bytes()[0] == id).map(|(_, at)| at);
                prop_assert_eq!(run.lookup(&ChunkId::from_bytes([id; 32])), expected);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = IndexRun::decode(&[&[1, 0, 0, 0], &bytes[..]].concat());
        }
    }
}
