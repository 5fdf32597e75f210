//! Row files are merged in tiers, so that a look-up asks few files and each row is written a few times in its life.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strongroom_model::{PackId, RepositoryId};

use super::file::{self, RowFile};
use super::run::{Prefix, Row};
use super::{IndexError, RunKey, remove};

/// So many neighbours of one tier become one file of the next: with 8, a thousand million rows in runs of a thousand are
/// written 7 times, and a look-up passes some 50 filters.
const WIDTH: usize = 8;

/// The tier of a file: its size as a power of [`WIDTH`].
fn tier(file: &RowFile) -> u32 {
    (file.rows().max(1)).ilog2() / 3
}

/// The name of the next file: a number above all others, and a run it holds.
pub(super) fn next_path(dir: &Path, files: &[Arc<RowFile>], key: &RunKey) -> PathBuf {
    let newest = files.last().and_then(|file| number(file.path())).unwrap_or(0);
    dir.join(format!("{:020}-{}.rows", newest + 1, hex::encode(key)))
}

fn number(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.split_once('-')?.0.parse().ok()
}

/// Merges the newest files while [`WIDTH`] of them are of no higher tier than the oldest of them.
pub(super) fn merge_where_many(
    dir: &Path,
    repository: RepositoryId,
    files: &mut Vec<Arc<RowFile>>,
) -> Result<(), IndexError> {
    while let Some(from) = files.len().checked_sub(WIDTH) {
        let top = tier(&files[from]);
        if files[from..].iter().any(|file| tier(file) > top) {
            break;
        }
        let merged = merge(dir, repository, &files[from..], files)?;
        let old = files.split_off(from);
        files.extend(merged.map(Arc::new));
        old.iter().try_for_each(|file| remove(file.path()))?;
    }
    Ok(())
}

/// Removes files all of whose runs are in a newer one: a crash between the merge and the removal leaves them.
pub(super) fn drop_covered(files: &mut Vec<Arc<RowFile>>) -> Result<(), IndexError> {
    let mut newer = BTreeSet::new();
    let mut kept = Vec::new();
    for file in files.drain(..).rev() {
        if file.runs().iter().all(|run| newer.contains(run)) {
            remove(file.path())?;
        } else {
            newer.extend(file.runs().to_vec());
            kept.push(file);
        }
    }
    kept.reverse();
    *files = kept;
    Ok(())
}

/// One file of the rows of `sources` (oldest first); of doubles the newest stays, as a look-up would answer.
fn merge(
    dir: &Path,
    repository: RepositoryId,
    sources: &[Arc<RowFile>],
    all: &[Arc<RowFile>],
) -> Result<Option<RowFile>, IndexError> {
    let runs: Vec<RunKey> = sources.iter().flat_map(|file| file.runs().to_vec()).collect();
    let packs: Vec<PackId> =
        sources.iter().flat_map(|file| file.packs().to_vec()).collect::<BTreeSet<_>>().into_iter().collect();
    let positions: BTreeMap<PackId, u32> = packs.iter().copied().zip(0..).collect();
    let moved: Vec<Vec<u32>> =
        sources.iter().map(|file| file.packs().iter().map(|pack| positions[pack]).collect()).collect();
    let key = runs.first().copied().unwrap_or_default();
    let path = next_path(dir, all, &key);
    let rows = Rows::new(sources).map(|row| {
        let (source, mut row) = row?;
        let pack = moved[source].get(row.pack as usize).copied();
        row.pack = pack.ok_or_else(|| io::Error::other("a row names a pack that its file lacks"))?;
        Ok(row)
    });
    let at_most = sources.iter().map(|file| file.rows()).sum();
    file::write(&path, repository, &runs, &packs, at_most, rows).map_err(|cause| IndexError::at(&path, cause))?;
    RowFile::open(&path, repository).map_err(|cause| IndexError::at(&path, cause))
}

/// The rows of several files in one order, each with the file it came from, without doubles.
struct Rows<'a> {
    sources: Vec<Box<dyn Iterator<Item = io::Result<Row>> + 'a>>,
    /// The next row of each file; the newest of equals comes out first.
    next: BinaryHeap<Reverse<(Prefix, Reverse<usize>, u32, u32)>>,
    failed: Option<io::Error>,
    last: Option<Prefix>,
}

impl<'a> Rows<'a> {
    fn new(files: &'a [Arc<RowFile>]) -> Self {
        let sources = files.iter().map(|file| Box::new(file.iter()) as Box<dyn Iterator<Item = _>>).collect();
        let mut rows = Self { sources, next: BinaryHeap::new(), failed: None, last: None };
        (0..files.len()).for_each(|source| rows.advance(source));
        rows
    }

    fn advance(&mut self, source: usize) {
        match self.sources[source].next() {
            Some(Ok(row)) => self.next.push(Reverse((row.prefix, Reverse(source), row.pack, row.entry))),
            Some(Err(cause)) => self.failed = Some(cause),
            None => {}
        }
    }
}

impl Iterator for Rows<'_> {
    type Item = io::Result<(usize, Row)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(cause) = self.failed.take() {
                return Some(Err(cause));
            }
            let Reverse((prefix, Reverse(source), pack, entry)) = self.next.pop()?;
            self.advance(source);
            if self.last != Some(prefix) {
                self.last = Some(prefix);
                return Some(Ok((source, Row { prefix, pack, entry })));
            }
        }
    }
}
