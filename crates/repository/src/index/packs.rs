//! Which packs the rows of a file name, and which runs of the bucket went into it.
//!
//! A row names its pack by a place in such a list. A small file has a list of its own; the parts of the settled tier share
//! one, since each of them names nearly every pack.
//!
//! | bytes | what |
//! |---|---|
//! | 4, 4 | how many runs, how many packs: u32 |
//! | 16 each | run ids, ascending |
//! | 16 each | pack ids, ascending |
//! | 1 each | of each pack: 0, it was in the pack table when this was written; else at how many merges it was not |

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use strongroom_model::{PackId, RepositoryId};

use super::file::Damaged;
use super::run::pack_ids;
use super::{Listed, RunKey};

/// A pack that no merge saw in the pack table is given up after so many: its writer crashed, or it died before anyone here
/// saw it alive. Before that it may belong to a backup under way.
const MOST_UNLISTED: u8 = 16;

/// The place of a pack whose rows are left out.
pub(super) const GONE: u32 = u32::MAX;

const MAGIC: &[u8; 8] = b"SRGMIPK1";
const HEAD_BYTES: usize = 8 + 16;

/// Runs and packs, both ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PackList {
    pub(super) runs: Vec<RunKey>,
    pub(super) packs: Vec<PackId>,
    unlisted: Vec<u8>,
}

impl PackList {
    /// The list of one run, with the places in it of the run's packs.
    pub(super) fn of_run(key: RunKey, packs: &[PackId]) -> (Self, Vec<u32>) {
        let mut sorted = packs.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let place = |pack: &PackId| {
            u32::try_from(sorted.binary_search(pack).expect("it is one of these")).expect("at most 2^20")
        };
        let places = packs.iter().map(place).collect();
        let unlisted = vec![1; sorted.len()];
        (Self { runs: vec![key], packs: sorted, unlisted }, places)
    }

    /// What is left of several lists: without the packs that have left the pack table.
    pub(super) fn merged(lists: &[&Self], listed: Listed<'_>) -> Self {
        let mut runs: Vec<RunKey> = lists.iter().flat_map(|list| &list.runs).copied().collect();
        runs.sort_unstable();
        runs.dedup();
        let mut all: Vec<(PackId, u8)> = lists
            .iter()
            .flat_map(|list| list.packs.iter().copied().zip(list.unlisted.iter().copied()))
            .collect();
        // Of a pack that several know: whoever saw it in the table decides.
        all.sort_unstable();
        all.dedup_by_key(|(pack, _)| *pack);
        let (mut packs, mut unlisted) = (Vec::new(), Vec::new());
        for (pack, misses) in all {
            let misses = match (listed(&pack), misses) {
                (true, _) => 0,
                (false, 0 | MOST_UNLISTED..) => continue,
                (false, misses) => misses + 1,
            };
            packs.push(pack);
            unlisted.push(misses);
        }
        Self { runs, packs, unlisted }
    }

    /// Where the packs of `older` are in this list; [`GONE`] for those that are not.
    pub(super) fn places_of(&self, older: &Self) -> Vec<u32> {
        let mut ours = self.packs.iter().enumerate().peekable();
        let mut places = Vec::with_capacity(older.packs.len());
        for pack in &older.packs {
            while ours.next_if(|(_, known)| *known < pack).is_some() {}
            let place = ours.peek().filter(|(_, known)| *known == pack).map(|(place, _)| *place);
            places.push(place.and_then(|place| u32::try_from(place).ok()).unwrap_or(GONE));
        }
        places
    }

    pub(super) fn knows_run(&self, key: &RunKey) -> bool {
        self.runs.binary_search(key).is_ok()
    }

    pub(super) fn knows_pack(&self, pack: &PackId) -> bool {
        self.packs.binary_search(pack).is_ok()
    }

    /// How many packs have left the pack table.
    pub(super) fn dead(&self, listed: Listed<'_>) -> usize {
        self.packs.iter().zip(&self.unlisted).filter(|(pack, misses)| **misses == 0 && !listed(pack)).count()
    }

    /// Bytes in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.runs.capacity() * 16 + self.packs.capacity() * 16 + self.unlisted.capacity()
    }

    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        for length in [self.runs.len(), self.packs.len()] {
            bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        }
        self.runs.iter().for_each(|run| bytes.extend_from_slice(run));
        self.packs.iter().for_each(|pack| bytes.extend_from_slice(pack.bytes()));
        bytes.extend_from_slice(&self.unlisted);
    }

    /// The list at the beginning of `bytes`, and what follows it.
    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), Damaged> {
        let (head, rest) = bytes.split_first_chunk::<8>().ok_or(Damaged)?;
        let count = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("4 bytes")) as usize;
        let (runs, packs) = (count(0), count(4));
        let (run_bytes, rest) = rest.split_at_checked(runs * 16).ok_or(Damaged)?;
        let (pack_bytes, rest) = rest.split_at_checked(packs * 16).ok_or(Damaged)?;
        let (unlisted, rest) = rest.split_at_checked(packs).ok_or(Damaged)?;
        let list = Self {
            runs: run_bytes.chunks_exact(16).map(|key| key.try_into().expect("16 bytes")).collect(),
            packs: pack_ids(pack_bytes).collect(),
            unlisted: unlisted.to_vec(),
        };
        let ascends = list.runs.windows(2).all(|pair| pair[0] < pair[1])
            && list.packs.windows(2).all(|pair| pair[0] < pair[1]);
        if ascends { Ok((list, rest)) } else { Err(Damaged) }
    }

    /// Writes the list to a file of its own; it appears when it is whole, and is on the disk.
    pub(super) fn write(&self, path: &Path, repository: RepositoryId) -> io::Result<()> {
        let mut bytes = [&MAGIC[..], repository.bytes()].concat();
        self.encode(&mut bytes);
        let sum = blake3::hash(&bytes);
        bytes.extend_from_slice(sum.as_bytes());
        let draft = path.with_extension("draft");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        std::fs::rename(&draft, path)
    }

    /// Reads a file of [`Self::write`]; anything odd about it is damage.
    pub(super) fn read(path: &Path, repository: RepositoryId) -> Result<Self, Damaged> {
        let bytes = std::fs::read(path).map_err(|_| Damaged)?;
        let (bytes, sum) = bytes.split_last_chunk::<32>().ok_or(Damaged)?;
        if blake3::hash(bytes).as_bytes() != sum || bytes.len() < HEAD_BYTES {
            return Err(Damaged);
        }
        if &bytes[..8] != MAGIC || bytes[8..HEAD_BYTES] != repository.bytes()[..] {
            return Err(Damaged);
        }
        match Self::decode(&bytes[HEAD_BYTES..])? {
            (list, []) => Ok(list),
            _ => Err(Damaged),
        }
    }
}
