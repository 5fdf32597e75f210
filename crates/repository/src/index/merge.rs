//! Makes one file out of several.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::file::{self, Damaged, Heading, Packs, Part, RunFile};
use super::packs::{GONE, PackList};
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

/// Writes the rows of all `sources` that belong to the part of `heading`, and whose packs are in its list, to one file.
/// Memory: a block of each source, and the places of the packs.
pub(super) fn merge(
    path: &Path,
    heading: &Heading,
    sources: &[Arc<RunFile>],
) -> io::Result<Result<RunFile, Damaged>> {
    let (Packs::Own(list) | Packs::Table(_, list)) = &heading.packs;
    let mut cursors: Vec<Cursor<'_>> =
        sources.iter().map(|source| Cursor::new(source, list, heading.part)).collect();
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
    file::write(path, heading, &mut rows)
}

/// Where a merge is in one of its sources.
struct Cursor<'a> {
    source: &'a RunFile,
    part: Part,
    /// The places of the source's packs in the merged list.
    places: Vec<u32>,
    next_block: usize,
    rows: std::vec::IntoIter<Row>,
    is_past: bool,
}

impl<'a> Cursor<'a> {
    fn new(source: &'a RunFile, list: &PackList, part: Part) -> Self {
        let places = list.places_of(source.packs());
        let next_block = source.first_block_of(part);
        Self { source, part, places, next_block, rows: Vec::new().into_iter(), is_past: false }
    }

    /// Reads on until there is a row, or none is left.
    fn fill(&mut self) -> Result<(), Damaged> {
        while self.rows.len() == 0 && !self.is_past && self.next_block < self.source.blocks() {
            let mut rows = self.source.block(self.next_block)?;
            self.next_block += 1;
            let ours = |row: &Row| Part::of(&row.prefix, self.part.bits).number;
            self.is_past = rows.last().is_some_and(|row| ours(row) > self.part.number);
            rows.retain_mut(|row| {
                row.pack = self.places[row.pack as usize];
                row.pack != GONE && self.part.has(&row.prefix)
            });
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
