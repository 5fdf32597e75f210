//! Makes one file out of several.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use strongroom_model::{PackId, RepositoryId};

use super::RunKey;
use super::file::{self, Damaged, Heading, RunFile};
use super::run::Row;

/// Files that are too many to look through for every chunk: those to be merged, by their numbers of rows.
///
/// More than `most` files: the smallest, as long as the next is not larger than twice all before. So each row is merged
/// about log times, and a large file is left alone until there is as much again.
pub(super) fn choose(mut files: Vec<Arc<RunFile>>, most: usize) -> Vec<Arc<RunFile>> {
    if files.len() <= most {
        return Vec::new();
    }
    files.sort_by_key(|file| file.rows());
    let (mut sum, mut chosen) = (0, 0);
    for file in &files {
        if chosen >= 2 && file.rows() > 2 * sum {
            break;
        }
        sum += file.rows();
        chosen += 1;
    }
    files.truncate(chosen);
    files
}

/// Writes the rows of all `sources` to one file. Memory: a block of each source, and the packs.
pub(super) fn merge(
    dir: &Path,
    repository: RepositoryId,
    sources: &[Arc<RunFile>],
) -> io::Result<Result<RunFile, Damaged>> {
    let packs: Vec<PackId> = sources
        .iter()
        .flat_map(|source| source.packs())
        .copied()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let runs: Vec<RunKey> = sources
        .iter()
        .flat_map(|source| source.runs())
        .copied()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let age = sources.iter().map(|source| source.age()).max().unwrap_or(0);
    let mut cursors: Vec<Cursor> = sources.iter().map(|source| Cursor::new(source, &packs)).collect();
    let mut last: Option<Row> = None;
    let mut rows = std::iter::from_fn(|| {
        loop {
            for cursor in &mut cursors {
                if let Err(damaged) = cursor.fill() {
                    return Some(Err(damaged));
                }
            }
            let smallest = cursors
                .iter_mut()
                .filter(|cursor| cursor.row().is_some())
                .min_by_key(|cursor| cursor.row())?;
            let row = smallest.next();
            // The same place twice is one row; another place of the same chunk stays, in case the first is swept.
            if row != last {
                last = row;
                return row.map(Ok);
            }
        }
    });
    let path = dir.join(name(&runs));
    let most_rows = sources.iter().map(|source| source.rows()).sum();
    file::write(&path, &Heading { repository, age, runs: &runs, packs: &packs, most_rows }, &mut rows)
}

/// The name of the file that holds these runs.
pub(super) fn name(runs: &[RunKey]) -> String {
    match runs {
        [run] => format!("{}.run", hex::encode(run)),
        many => format!("{}.run", &blake3::hash(&many.concat()).to_hex()[..32]),
    }
}

/// Where a merge is in one of its sources.
struct Cursor<'a> {
    source: &'a RunFile,
    /// The places of the source's packs in the merged table.
    places: Vec<u32>,
    next_block: usize,
    rows: std::vec::IntoIter<Row>,
}

impl<'a> Cursor<'a> {
    fn new(source: &'a RunFile, packs: &[PackId]) -> Self {
        let place = |pack: &PackId| {
            let place = packs.binary_search(pack).expect("the merged table has every pack");
            u32::try_from(place).expect("the writer refuses more")
        };
        Self {
            source,
            places: source.packs().iter().map(place).collect(),
            next_block: 0,
            rows: Vec::new().into_iter(),
        }
    }

    fn fill(&mut self) -> Result<(), Damaged> {
        if self.rows.len() == 0 && self.next_block < self.source.blocks() {
            let mut rows = self.source.block(self.next_block)?;
            for row in &mut rows {
                row.pack = self.places[row.pack as usize];
            }
            self.next_block += 1;
            self.rows = rows.into_iter();
        }
        Ok(())
    }

    fn row(&self) -> Option<Row> {
        self.rows.as_slice().first().copied()
    }

    fn next(&mut self) -> Option<Row> {
        self.rows.next()
    }
}
