//! A file of rows on this machine: one run, or several that were merged.
//!
//! It is a cache, written whole, fsynced and renamed into place. A wrong answer from it would put a wrong reference into
//! a map, so nothing is believed unchecked: the head is hashed as a whole, each page of rows by itself.
//!
//! | part | bytes | content |
//! |---|---|---|
//! | pages | 4096 each | hash of the rest of the page 16, then 170 rows of 24, the last page padded with 0xff |
//! | head | as counted | run keys, pack ids, first prefix half of each page, filter words |
//! | trailer | 96 | magic 8, repository id 16, counts of rows, runs, packs, filter words u64 each, hash of head + the fields before it 32, zero 8 |

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use strongroom_model::{PackId, RepositoryId};

use crate::chunk::ChunkId;
use crate::pack::EntryRef;

use super::RunKey;
use super::filter::Filter;
use super::run::{PREFIX_BYTES, ROW_BYTES, Row, prefix};

const MAGIC: &[u8; 8] = b"SRGMIDX1";
const PAGE_BYTES: usize = 4096;
const PAGE_HASH_BYTES: usize = 16;
const ROWS_PER_PAGE: usize = (PAGE_BYTES - PAGE_HASH_BYTES) / ROW_BYTES;
const TRAILER_BYTES: usize = 96;

/// An open file of rows. In memory are its filter, its fences and its list of packs: about 1.1 bytes a row.
#[derive(Debug)]
pub(super) struct RowFile {
    path: PathBuf,
    file: File,
    rows: u64,
    runs: Vec<RunKey>,
    packs: Vec<PackId>,
    /// The first half of the first prefix of each page.
    fences: Vec<u64>,
    filter: Filter,
}

impl RowFile {
    /// Opens a file; `None` when it is torn, damaged, or of another repository.
    pub(super) fn open(path: &Path, repository: RepositoryId) -> io::Result<Option<Self>> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let Some(trailer_at) = bytes.checked_sub(TRAILER_BYTES as u64) else { return Ok(None) };
        let mut trailer = [0; TRAILER_BYTES];
        file.read_exact_at(&mut trailer, trailer_at)?;
        let count = |at: usize| u64::from_le_bytes(trailer[at..at + 8].try_into().expect("8 bytes were cut out"));
        let (rows, runs, packs, words) = (count(24), count(32), count(40), count(48));
        let pages = rows.div_ceil(ROWS_PER_PAGE as u64);
        // Each count is at most the file's size, so that a damaged one cannot ask for more memory than the file has.
        let head_bytes = [(runs, 16), (packs, 16), (pages, 8), (words, 8)]
            .iter()
            .try_fold(0_u64, |sum, (count, each)| sum.checked_add(count.checked_mul(*each)?));
        let expected = head_bytes.and_then(|head| head.checked_add(pages.checked_mul(PAGE_BYTES as u64)?));
        if trailer[..8] != *MAGIC || trailer[8..24] != *repository.bytes() || expected != Some(trailer_at) {
            return Ok(None);
        }
        let mut head = vec![0; usize::try_from(head_bytes.unwrap_or(0)).map_err(io::Error::other)?];
        file.read_exact_at(&mut head, pages * PAGE_BYTES as u64)?;
        if hash(&head, &trailer[..56]).as_bytes() != &trailer[56..88] {
            return Ok(None);
        }
        let (run_bytes, rest) = head.split_at(cells(runs, 16));
        let (pack_bytes, rest) = rest.split_at(cells(packs, 16));
        let (fence_bytes, word_bytes) = rest.split_at(cells(pages, 8));
        Ok(Some(Self {
            path: path.to_owned(),
            file,
            rows,
            runs: run_bytes.as_chunks::<16>().0.to_vec(),
            packs: pack_bytes.as_chunks::<16>().0.iter().map(|bytes| PackId::from_bytes(*bytes)).collect(),
            fences: fence_bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect(),
            filter: Filter::from_words(
                word_bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect(),
            ),
        }))
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How many rows it has.
    pub(super) const fn rows(&self) -> u64 {
        self.rows
    }

    /// The runs whose rows it holds.
    pub(super) fn runs(&self) -> &[RunKey] {
        &self.runs
    }

    /// The packs its rows point into.
    pub(super) fn packs(&self) -> &[PackId] {
        &self.packs
    }

    /// Where a chunk may lie. `Err` when the file cannot be believed any more.
    pub(super) fn lookup(&self, id: &ChunkId) -> io::Result<Option<EntryRef>> {
        let wanted = prefix(id);
        if self.rows == 0 || !self.filter.may_hold(&wanted) {
            return Ok(None);
        }
        let half = fence(&wanted);
        // The page whose first row is the last at or before the wanted one. Pages that begin with an equal half are
        // looked at backwards; 64 equal bits in neighbouring rows are next to impossible, and stay correct.
        let mut page = self.fences.partition_point(|first| *first <= half);
        while page > 0 {
            page -= 1;
            let rows = self.page(page as u64)?;
            if let Ok(at) = rows.binary_search_by(|row| row[..PREFIX_BYTES].cmp(&wanted)) {
                let row = Row::decode(&rows[at]);
                let pack = self.packs.get(row.pack as usize).ok_or_else(|| damaged(&self.path))?;
                return Ok(Some(EntryRef { pack: *pack, entry: row.entry }));
            }
            if self.fences[page] < half {
                break;
            }
        }
        Ok(None)
    }

    /// The rows of a page, checked.
    fn page(&self, number: u64) -> io::Result<Vec<[u8; ROW_BYTES]>> {
        let mut page = [0; PAGE_BYTES];
        self.file.read_exact_at(&mut page, number * PAGE_BYTES as u64)?;
        let (found, rest) = page.split_at(PAGE_HASH_BYTES);
        if page_hash(number, rest) != *found {
            return Err(damaged(&self.path));
        }
        let before = number * ROWS_PER_PAGE as u64;
        let rows = usize::try_from(self.rows - before).unwrap_or(usize::MAX).min(ROWS_PER_PAGE);
        Ok(rest.as_chunks::<ROW_BYTES>().0[..rows].to_vec())
    }

    /// All rows in order, a page at a time.
    pub(super) fn iter(&self) -> impl Iterator<Item = io::Result<Row>> + '_ {
        let pages = self.rows.div_ceil(ROWS_PER_PAGE as u64);
        (0..pages).flat_map(|number| match self.page(number) {
            Ok(rows) => rows.iter().map(|row| Ok(Row::decode(row))).collect::<Vec<_>>(),
            Err(cause) => vec![Err(cause)],
        })
    }
}

/// Writes a file of rows and makes it appear whole under `path`.
///
/// `rows` come in order of their prefixes and without doubles; `at_most` is an upper bound of their number.
pub(super) fn write(
    path: &Path,
    repository: RepositoryId,
    runs: &[RunKey],
    packs: &[PackId],
    at_most: u64,
    rows: impl Iterator<Item = io::Result<Row>>,
) -> io::Result<()> {
    let draft = path.with_extension("draft");
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    let mut out = BufWriter::with_capacity(1 << 18, file);
    let mut filter = Filter::for_rows(at_most);
    let mut fences = Vec::new();
    let mut page = Vec::with_capacity(PAGE_BYTES - PAGE_HASH_BYTES);
    let mut count = 0_u64;
    for row in rows {
        let row = row?;
        if page.is_empty() {
            fences.push(fence(&row.prefix));
        }
        filter.add(&row.prefix);
        page.extend(row.encode());
        count += 1;
        if page.len() == PAGE_BYTES - PAGE_HASH_BYTES {
            write_page(&mut out, fences.len() as u64 - 1, &mut page)?;
        }
    }
    if !page.is_empty() {
        write_page(&mut out, fences.len() as u64 - 1, &mut page)?;
    }
    let mut head = Vec::new();
    runs.iter().for_each(|run| head.extend(run));
    packs.iter().for_each(|pack| head.extend(pack.bytes()));
    fences.iter().for_each(|half| head.extend(half.to_le_bytes()));
    filter.words().iter().for_each(|word| head.extend(word.to_le_bytes()));
    let mut trailer = Vec::with_capacity(TRAILER_BYTES);
    trailer.extend(MAGIC);
    trailer.extend(repository.bytes());
    for number in [count, runs.len() as u64, packs.len() as u64, filter.words().len() as u64] {
        trailer.extend(number.to_le_bytes());
    }
    trailer.extend(hash(&head, &trailer).as_bytes());
    trailer.resize(TRAILER_BYTES, 0);
    out.write_all(&head)?;
    out.write_all(&trailer)?;
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    std::fs::rename(&draft, path)
}

fn write_page(out: &mut impl Write, number: u64, page: &mut Vec<u8>) -> io::Result<()> {
    page.resize(PAGE_BYTES - PAGE_HASH_BYTES, 0xff);
    out.write_all(&page_hash(number, page))?;
    out.write_all(page)?;
    page.clear();
    Ok(())
}

/// Binds the page to its place, so that an exchanged page is seen, too.
fn page_hash(number: u64, rest: &[u8]) -> [u8; PAGE_HASH_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&number.to_le_bytes()).update(rest);
    let mut short = [0; PAGE_HASH_BYTES];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..PAGE_HASH_BYTES]);
    short
}

fn hash(head: &[u8], counts: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(head).update(counts);
    hasher.finalize()
}

fn fence(prefix: &[u8; PREFIX_BYTES]) -> u64 {
    u64::from_be_bytes(prefix[..8].try_into().expect("half of 16 bytes"))
}

fn cells(count: u64, each: usize) -> usize {
    usize::try_from(count).expect("the head is in memory") * each
}

fn damaged(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged", path.display()))
}
