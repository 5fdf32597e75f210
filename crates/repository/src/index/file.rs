//! A file of the local index: rows in blocks that are checked when they are read.
//!
//! | bytes | what |
//! |---|---|
//! | 64 each | lines of the filter, see [`super::filter`]; then zeros up to a multiple of 4096 |
//! | 4096 each | blocks: 170 rows of 24 bytes (the last block may have fewer; zeros follow), the block's number u64, 8 bytes of check |
//! | … | end: repository id 16, age u64, rows u64, lines u64, bits u8, part u8, zero 6, table u64; then, with table 0, the list of packs ([`super::packs`]); then the first 8 bytes of each block |
//! | 48 | length of the end u64; BLAKE3 of the end 32; magic `SRGMIDX3` |
//!
//! The end is at the end so that a merge of any size can be written in one go. A file is never changed; a torn one has
//! no valid end. A block is a page, so a chunk that is there costs one page from the disk. This is no part of the
//! repository's format: another version may drop it and begin anew.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strongroom_model::RepositoryId;

use super::filter::{self, At, FilterWriter, LINE_BYTES};
use super::packs::PackList;
use super::run::{Prefix, ROW_BYTES, Row};
use crate::pack::EntryRef;

const MAGIC: &[u8; 8] = b"SRGMIDX3";
const BLOCK_BYTES: usize = 4096;
const CHECK_BYTES: usize = 8;
/// What is over has room for the block's number.
const BLOCK_ROWS: usize = (BLOCK_BYTES - CHECK_BYTES) / ROW_BYTES;
const END_HEAD_BYTES: usize = 56;
const TAIL_BYTES: usize = 48;
/// More than the end of an index of a petabyte.
const MAX_END_BYTES: u64 = 1 << 30;

/// The ids that a file may have: those that begin with these bits. All of them with 0 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Part {
    /// How many bits, at most 8.
    pub(super) bits: u8,
    /// What they say.
    pub(super) number: u8,
}

impl Part {
    pub(super) const ALL: Self = Self { bits: 0, number: 0 };

    /// The part, of parts by so many bits, to which a prefix belongs.
    pub(super) fn of(prefix: &Prefix, bits: u8) -> Self {
        let number = prefix[0].checked_shr(8 - u32::from(bits)).unwrap_or(0);
        Self { bits, number }
    }

    pub(super) fn has(self, prefix: &Prefix) -> bool {
        Self::of(prefix, self.bits) == self
    }

    /// The part by fewer bits in which this one lies.
    pub(super) fn within(self, bits: u8) -> Self {
        let number = self.number.checked_shr(u32::from(self.bits - bits)).unwrap_or(0);
        Self { bits, number }
    }

    /// The first 8 bytes of the least prefix in it.
    pub(super) fn least(self) -> u64 {
        u64::from(self.number).checked_shl(64 - u32::from(self.bits)).unwrap_or(0)
    }

    /// Where a prefix of this part lies in it: ascending, spread over all of u64.
    fn order(self, prefix: &Prefix) -> u64 {
        fence(prefix) << self.bits
    }
}

/// Which list of packs a file's rows speak of.
#[derive(Debug, Clone)]
pub(super) enum Packs {
    /// One in the file itself.
    Own(Arc<PackList>),
    /// One in a file of its own, of this age.
    Table(u64, Arc<PackList>),
}

/// An open file of sorted rows. In memory: 8 bytes for each block, and the packs.
#[derive(Debug)]
pub(super) struct RunFile {
    path: PathBuf,
    file: File,
    age: u64,
    part: Part,
    rows: u64,
    lines: u64,
    table: u64,
    packs: Arc<PackList>,
    fences: Vec<u64>,
}

/// The file is not what was written. It is to be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damaged;

impl RunFile {
    /// Opens a file; anything odd about it is damage. `tables` knows the lists of packs in files of their own.
    pub(super) fn open(
        path: &Path,
        repository: RepositoryId,
        tables: impl Fn(u64) -> Option<Arc<PackList>>,
    ) -> Result<Self, Damaged> {
        let file = File::open(path).map_err(|_| Damaged)?;
        let length = file.metadata().map_err(|_| Damaged)?.len();
        let mut tail = [0; TAIL_BYTES];
        let tail_at = length.checked_sub(TAIL_BYTES as u64).ok_or(Damaged)?;
        file.read_exact_at(&mut tail, tail_at).map_err(|_| Damaged)?;
        let end_bytes = u64::from_le_bytes(*tail.first_chunk().ok_or(Damaged)?);
        let end_at = tail_at.checked_sub(end_bytes).ok_or(Damaged)?;
        if &tail[40..] != MAGIC || end_bytes > MAX_END_BYTES {
            return Err(Damaged);
        }
        let mut end = vec![0; usize::try_from(end_bytes).map_err(|_| Damaged)?];
        file.read_exact_at(&mut end, end_at).map_err(|_| Damaged)?;
        if blake3::hash(&end).as_bytes()[..] != tail[8..40] {
            return Err(Damaged);
        }
        let (head, rest) = end.split_first_chunk::<END_HEAD_BYTES>().ok_or(Damaged)?;
        let long = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("8 bytes"));
        let (rows, lines, table) = (long(24), long(32), long(48));
        let part = Part { bits: head[40], number: head[41] };
        if head[..16] != repository.bytes()[..]
            || part.bits > 8
            || u32::from(part.number) >= 1 << part.bits
            || (lines == 0 && rows > 0)
        {
            return Err(Damaged);
        }
        let (packs, fences) = match table {
            0 => PackList::decode(rest).map(|(list, fences)| (Arc::new(list), fences))?,
            table => (tables(table).ok_or(Damaged)?, rest),
        };
        let blocks = rows.div_ceil(BLOCK_ROWS as u64);
        let expected = blocks
            .checked_mul(BLOCK_BYTES as u64)
            .and_then(|bytes| bytes.checked_add(filter_bytes(lines)?))
            .filter(|bytes| *bytes == end_at);
        if expected.is_none() || fences.len() as u64 != blocks * 8 {
            return Err(Damaged);
        }
        let fences: Vec<u64> = fences
            .chunks_exact(8)
            .map(|fence| u64::from_be_bytes(fence.try_into().expect("8 bytes")))
            .collect();
        Ok(Self { path: path.to_owned(), file, age: long(16), part, rows, lines, table, packs, fences })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Counts up with each file that is added.
    pub(super) const fn age(&self) -> u64 {
        self.age
    }

    pub(super) const fn part(&self) -> Part {
        self.part
    }

    pub(super) const fn rows(&self) -> u64 {
        self.rows
    }

    /// The age of the list of packs that it shares with others; 0: it has its own.
    pub(super) const fn table(&self) -> u64 {
        self.table
    }

    pub(super) const fn packs(&self) -> &Arc<PackList> {
        &self.packs
    }

    pub(super) fn blocks(&self) -> usize {
        self.fences.len()
    }

    /// Bytes in memory, its own list of packs among them.
    pub(super) fn memory_bytes(&self) -> usize {
        let packs = if self.table == 0 { self.packs.memory_bytes() } else { 0 };
        size_of::<Self>() + self.fences.capacity() * 8 + packs
    }

    /// Every place of a chunk in this file.
    pub(super) fn lookup(&self, prefix: &Prefix, found: &mut Vec<EntryRef>) -> Result<(), Damaged> {
        let order = self.part.order(prefix);
        if self.rows == 0 || !filter::may_have(&self.file, self.lines, order, prefix).ok_or(Damaged)? {
            return Ok(());
        }
        let key = fence(prefix);
        let first = self.fences.partition_point(|fence| *fence < key).saturating_sub(1);
        let end = self.fences.partition_point(|fence| *fence <= key);
        for block in first..end {
            let bytes = self.read_block(block)?;
            let rows = self.rows_of(block, &bytes);
            let start = rows.partition_point(|row| row[..16] < prefix[..]);
            for row in rows[start..].iter().take_while(|row| row[..16] == prefix[..]) {
                let row = Row::decode(row, self.packs.packs.len()).ok_or(Damaged)?;
                found.push(EntryRef { pack: self.packs.packs[row.pack as usize], entry: row.entry });
            }
        }
        Ok(())
    }

    /// At most how many rows of a part it has; about as many as it has.
    pub(super) fn rows_in(&self, part: Part) -> u64 {
        let next = part.number.checked_add(1).filter(|next| u32::from(*next) < 1 << part.bits);
        let end = next.map_or(self.blocks(), |number| self.first_block_of(Part { number, ..part }) + 1);
        let blocks = end.saturating_sub(self.first_block_of(part)) as u64;
        (blocks * BLOCK_ROWS as u64).min(self.rows)
    }

    /// The block in which the first row of a part is, or would be.
    pub(super) fn first_block_of(&self, part: Part) -> usize {
        self.fences.partition_point(|fence| *fence < part.least()).saturating_sub(1)
    }

    /// The rows of one block, checked.
    pub(super) fn block(&self, number: usize) -> Result<Vec<Row>, Damaged> {
        let bytes = self.read_block(number)?;
        let packs = self.packs.packs.len();
        self.rows_of(number, &bytes).iter().map(|row| Row::decode(row, packs).ok_or(Damaged)).collect()
    }

    fn read_block(&self, number: usize) -> Result<[u8; BLOCK_BYTES], Damaged> {
        let mut bytes = [0; BLOCK_BYTES];
        let at = filter_bytes(self.lines).ok_or(Damaged)? + (number * BLOCK_BYTES) as u64;
        self.file.read_exact_at(&mut bytes, at).map_err(|_| Damaged)?;
        let (content, sum) = bytes.split_at(BLOCK_BYTES - CHECK_BYTES);
        // The number in it, so that no block can stand for another.
        let is_whole =
            sum == check(content) && content[BLOCK_ROWS * ROW_BYTES..] == (number as u64).to_le_bytes();
        if is_whole { Ok(bytes) } else { Err(Damaged) }
    }

    fn rows_of<'a>(&self, number: usize, block: &'a [u8; BLOCK_BYTES]) -> &'a [[u8; ROW_BYTES]] {
        let before = (number * BLOCK_ROWS) as u64;
        let rows =
            usize::try_from(self.rows.saturating_sub(before)).map_or(BLOCK_ROWS, |left| left.min(BLOCK_ROWS));
        block[..rows * ROW_BYTES].as_chunks().0
    }
}

/// What a new file says of itself.
pub(super) struct Heading {
    pub(super) repository: RepositoryId,
    pub(super) age: u64,
    pub(super) part: Part,
    pub(super) packs: Packs,
    /// How many rows come at the most; the filter is made for so many.
    pub(super) most_rows: u64,
    /// Whether it must outlast a power cut: what it is made of is removed afterwards.
    pub(super) durable: bool,
}

/// Writes a file of sorted rows. It appears under `path` when it is whole; the file that is open is returned.
pub(super) fn write(
    path: &Path,
    heading: &Heading,
    rows: &mut dyn Iterator<Item = Result<Row, Damaged>>,
) -> io::Result<Result<RunFile, Damaged>> {
    let draft = path.with_extension("draft");
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    let lines = filter::lines_for(heading.most_rows);
    let first_block = filter_bytes(lines).ok_or_else(|| io::Error::other("too many rows for one file"))?;
    let mut filter = FilterWriter::new(&file, lines);
    let mut out = BufWriter::with_capacity(1 << 20, At { file: &file, offset: first_block });
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
            filter.add(heading.part.order(&row.prefix), &row.prefix)?;
            block.extend_from_slice(&row.encode());
            count += 1;
        }
        if block.is_empty() {
            break;
        }
        block.resize(BLOCK_ROWS * ROW_BYTES, 0);
        block.extend_from_slice(&(fences.len() as u64 / 8 - 1).to_le_bytes());
        out.write_all(&block)?;
        out.write_all(&check(&block))?;
    }
    let (table, list) = match &heading.packs {
        Packs::Own(list) => (0, list),
        Packs::Table(age, list) => (*age, list),
    };
    let mut end = Vec::new();
    end.extend_from_slice(heading.repository.bytes());
    end.extend_from_slice(&heading.age.to_le_bytes());
    end.extend_from_slice(&count.to_le_bytes());
    end.extend_from_slice(&lines.to_le_bytes());
    end.extend_from_slice(&[heading.part.bits, heading.part.number, 0, 0, 0, 0, 0, 0]);
    end.extend_from_slice(&table.to_le_bytes());
    if table == 0 {
        list.encode(&mut end);
    }
    end.extend_from_slice(&fences);
    out.write_all(&end)?;
    out.write_all(&(end.len() as u64).to_le_bytes())?;
    out.write_all(blake3::hash(&end).as_bytes())?;
    out.write_all(MAGIC)?;
    out.flush()?;
    drop(out);
    filter.finish()?;
    if heading.durable {
        file.sync_data()?;
    }
    // Otherwise no fsync: what a power cut tears is noticed and dropped.
    std::fs::rename(&draft, path)?;
    Ok(RunFile::open(path, heading.repository, |age| (age == table).then(|| Arc::clone(list))))
}

/// How many bytes the filter has, with what fills its last page.
fn filter_bytes(lines: u64) -> Option<u64> {
    lines.checked_mul(LINE_BYTES as u64)?.checked_next_multiple_of(BLOCK_BYTES as u64)
}

fn fence(prefix: &Prefix) -> u64 {
    u64::from_be_bytes(*prefix.first_chunk().expect("8 bytes of 16"))
}

fn check(content: &[u8]) -> [u8; CHECK_BYTES] {
    *blake3::hash(content).as_bytes().first_chunk().expect("8 bytes of 32")
}
