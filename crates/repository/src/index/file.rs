//! A file of the local index: rows in blocks that are checked when they are read.
//!
//! | bytes | what |
//! |---|---|
//! | 64 each | lines of the filter, see [`super::filter`] |
//! | 6152 each | blocks: 256 rows of 24 bytes (the last block may have fewer), 8 bytes of check |
//! | … | list: repository id 16, age u64, rows u64, lines u64, how many runs u32, how many packs u32; run ids, pack ids; the first 8 bytes of each block |
//! | 48 | length of the list u64; BLAKE3 of the list 32; magic `SRGMIDX2` |
//!
//! The list is at the end so that a merge of any size can be written in one go. A file is never changed; a torn one has
//! no valid end. This is no part of the repository's format: another version may drop it and begin anew.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use strongroom_model::{PackId, RepositoryId};

use super::RunKey;
use super::filter::{self, At, FilterWriter, LINE_BYTES};
use super::run::{Prefix, ROW_BYTES, Row, matching, pack_ids};
use crate::pack::EntryRef;

const MAGIC: &[u8; 8] = b"SRGMIDX2";
const BLOCK_ROWS: usize = 256;
const CHECK_BYTES: usize = 8;
const BLOCK_BYTES: usize = BLOCK_ROWS * ROW_BYTES + CHECK_BYTES;
const LIST_HEAD_BYTES: usize = 48;
const TAIL_BYTES: usize = 48;
/// More than the list of an index of a petabyte.
const MAX_LIST_BYTES: u64 = 1 << 30;

/// An open file of sorted rows. In memory: 8 bytes for each 256 rows, and the packs.
#[derive(Debug)]
pub(super) struct RunFile {
    path: PathBuf,
    file: File,
    age: u64,
    rows: u64,
    lines: u64,
    runs: Vec<RunKey>,
    packs: Vec<PackId>,
    fences: Vec<u64>,
}

/// The file is not what was written. It is to be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damaged;

impl RunFile {
    /// Opens a file; anything odd about it is damage.
    pub(super) fn open(path: &Path, repository: RepositoryId) -> Result<Self, Damaged> {
        let file = File::open(path).map_err(|_| Damaged)?;
        let length = file.metadata().map_err(|_| Damaged)?.len();
        let mut tail = [0; TAIL_BYTES];
        let tail_at = length.checked_sub(TAIL_BYTES as u64).ok_or(Damaged)?;
        file.read_exact_at(&mut tail, tail_at).map_err(|_| Damaged)?;
        let list_bytes = u64::from_le_bytes(*tail.first_chunk().ok_or(Damaged)?);
        let list_at = tail_at.checked_sub(list_bytes).ok_or(Damaged)?;
        if &tail[40..] != MAGIC || list_bytes > MAX_LIST_BYTES {
            return Err(Damaged);
        }
        let mut list = vec![0; usize::try_from(list_bytes).map_err(|_| Damaged)?];
        file.read_exact_at(&mut list, list_at).map_err(|_| Damaged)?;
        if blake3::hash(&list).as_bytes()[..] != tail[8..40] {
            return Err(Damaged);
        }
        let (head, rest) = list.split_first_chunk::<LIST_HEAD_BYTES>().ok_or(Damaged)?;
        let long = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("8 bytes"));
        let count = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("4 bytes")) as usize;
        let (rows, lines, runs, packs) = (long(24), long(32), count(40), count(44));
        if head[..16] != repository.bytes()[..] {
            return Err(Damaged);
        }
        let blocks = rows.div_ceil(BLOCK_ROWS as u64);
        let expected = rows
            .checked_mul(ROW_BYTES as u64)
            .and_then(|bytes| bytes.checked_add(blocks.checked_mul(CHECK_BYTES as u64)?))
            .and_then(|bytes| bytes.checked_add(lines.checked_mul(LINE_BYTES as u64)?));
        let ids = (runs + packs) * 16;
        if expected != Some(list_at)
            || (lines == 0 && rows > 0)
            || rest.len() as u64 != ids as u64 + blocks * 8
        {
            return Err(Damaged);
        }
        let (ids, fences) = rest.split_at(ids);
        let (runs, packs) = ids.split_at(runs * 16);
        Ok(Self {
            path: path.to_owned(),
            file,
            age: long(16),
            rows,
            lines,
            runs: runs.chunks_exact(16).map(|key| key.try_into().expect("16 bytes")).collect(),
            packs: pack_ids(packs).collect(),
            fences: fences
                .chunks_exact(8)
                .map(|fence| u64::from_be_bytes(fence.try_into().expect("8 bytes")))
                .collect(),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Counts up with each run that is added.
    pub(super) const fn age(&self) -> u64 {
        self.age
    }

    pub(super) const fn rows(&self) -> u64 {
        self.rows
    }

    /// The runs whose rows are in it.
    pub(super) fn runs(&self) -> &[RunKey] {
        &self.runs
    }

    pub(super) fn packs(&self) -> &[PackId] {
        &self.packs
    }

    pub(super) fn blocks(&self) -> usize {
        self.fences.len()
    }

    /// Every place of a chunk in this file.
    pub(super) fn lookup(&self, prefix: &Prefix) -> Result<Vec<EntryRef>, Damaged> {
        if self.rows == 0 || !filter::may_have(&self.file, self.lines, prefix).ok_or(Damaged)? {
            return Ok(Vec::new());
        }
        let key = fence(prefix);
        let first = self.fences.partition_point(|fence| *fence < key).saturating_sub(1);
        let end = self.fences.partition_point(|fence| *fence <= key);
        let mut found = Vec::new();
        for block in first..end {
            let rows = self.block(block)?;
            let at = |row: &Row| EntryRef { pack: self.packs[row.pack as usize], entry: row.entry };
            found.extend(matching(&rows, prefix).iter().map(at));
        }
        Ok(found)
    }

    /// The rows of one block, checked.
    pub(super) fn block(&self, number: usize) -> Result<Vec<Row>, Damaged> {
        let first_row = (number * BLOCK_ROWS) as u64;
        let rows = usize::try_from(self.rows.saturating_sub(first_row))
            .map_or(BLOCK_ROWS, |left| left.min(BLOCK_ROWS));
        let mut bytes = vec![0; rows * ROW_BYTES + CHECK_BYTES];
        let at = self.lines * LINE_BYTES as u64 + (number * BLOCK_BYTES) as u64;
        self.file.read_exact_at(&mut bytes, at).map_err(|_| Damaged)?;
        let (rows, sum) = bytes.split_at(rows * ROW_BYTES);
        if sum != check(number, rows) {
            return Err(Damaged);
        }
        rows.chunks_exact(ROW_BYTES).map(|row| Row::decode(row, self.packs.len()).ok_or(Damaged)).collect()
    }
}

/// What a new file says of itself.
pub(super) struct Heading<'a> {
    pub(super) repository: RepositoryId,
    pub(super) age: u64,
    pub(super) runs: &'a [RunKey],
    pub(super) packs: &'a [PackId],
    /// How many rows come at the most; the filter is made for so many.
    pub(super) most_rows: u64,
}

/// Writes a file of sorted rows. It appears under `path` when it is whole; the file that is open is returned.
pub(super) fn write(
    path: &Path,
    heading: &Heading<'_>,
    rows: &mut dyn Iterator<Item = Result<Row, Damaged>>,
) -> io::Result<Result<RunFile, Damaged>> {
    let draft = path.with_extension("draft");
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    let lines = filter::lines_for(heading.most_rows);
    let mut filter = FilterWriter::new(&file, lines);
    let mut out = BufWriter::with_capacity(1 << 20, At { file: &file, offset: lines * LINE_BYTES as u64 });
    let (mut count, mut fences) = (0_u64, Vec::new());
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    loop {
        block.clear();
        for row in rows.take(BLOCK_ROWS) {
            let Ok(row) = row else {
                std::fs::remove_file(&draft)?;
                return Ok(Err(Damaged));
            };
            if block.is_empty() {
                fences.extend_from_slice(&fence(&row.prefix).to_be_bytes());
            }
            filter.add(&row.prefix)?;
            block.extend_from_slice(&row.encode());
            count += 1;
        }
        if block.is_empty() {
            break;
        }
        out.write_all(&block)?;
        out.write_all(&check(fences.len() / 8 - 1, &block))?;
    }
    let mut list = Vec::new();
    list.extend_from_slice(heading.repository.bytes());
    list.extend_from_slice(&heading.age.to_le_bytes());
    list.extend_from_slice(&count.to_le_bytes());
    list.extend_from_slice(&lines.to_le_bytes());
    for length in [heading.runs.len(), heading.packs.len()] {
        let length = u32::try_from(length).map_err(|_| io::Error::other("too many packs for one file"))?;
        list.extend_from_slice(&length.to_le_bytes());
    }
    heading.runs.iter().for_each(|run| list.extend_from_slice(run));
    heading.packs.iter().for_each(|pack| list.extend_from_slice(pack.bytes()));
    list.extend_from_slice(&fences);
    out.write_all(&list)?;
    out.write_all(&(list.len() as u64).to_le_bytes())?;
    out.write_all(blake3::hash(&list).as_bytes())?;
    out.write_all(MAGIC)?;
    // No fsync: what a power cut tears is noticed and dropped.
    out.flush()?;
    filter.finish()?;
    std::fs::rename(&draft, path)?;
    Ok(RunFile::open(path, heading.repository))
}

fn fence(prefix: &Prefix) -> u64 {
    u64::from_be_bytes(*prefix.first_chunk().expect("8 bytes of 16"))
}

/// Bound to the block's place, so that no block can stand for another.
fn check(number: usize, rows: &[u8]) -> [u8; CHECK_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(number as u64).to_le_bytes());
    hasher.update(rows);
    *hasher.finalize().as_bytes().first_chunk().expect("8 bytes of 32")
}
