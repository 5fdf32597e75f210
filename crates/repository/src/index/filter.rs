//! The filter in front of a file of rows: tells of nearly every chunk that is not there, for one small read.
//!
//! Lines of 64 bytes: 448 bits, 8 bytes of check. A row belongs to the line that its place in the order of all rows says, so
//! the lines are written in one go with the rows, and five of the line's bits say that it is there. With 8 bits a row, two or
//! three of a hundred strangers look as if they were there, and cost the read of a block that was always paid before. It is
//! read from the page cache, so it takes no memory of its own however large the index is.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt as _;

use super::run::Prefix;

pub(super) const LINE_BYTES: usize = 64;
const BITS_BYTES: usize = 56;
const BITS: u64 = BITS_BYTES as u64 * 8;
/// 8 bits a row.
const ROWS_PER_LINE: u64 = BITS / 8;
const BITS_PER_ROW: u32 = 5;

/// How many lines a file of at most so many rows has.
pub(super) const fn lines_for(rows: u64) -> u64 {
    rows.div_ceil(ROWS_PER_LINE)
}

/// Which line of `lines` tells of a row. Ascending with the prefix.
fn line_of(prefix: &Prefix, lines: u64) -> u64 {
    let order = u64::from_be_bytes(*prefix.first_chunk().expect("8 bytes of 16"));
    u64::try_from((u128::from(order) * u128::from(lines)) >> 64).expect("below the number of lines")
}

/// The bits of a row within its line: from the half of the prefix that does not choose the line.
fn bits_of(prefix: &Prefix) -> impl Iterator<Item = (usize, u8)> {
    let random = u64::from_le_bytes(*prefix.last_chunk().expect("8 bytes of 16"));
    (0..BITS_PER_ROW).map(move |turn| {
        let bit = (((random >> (12 * turn)) & 0xfff) * BITS) >> 12;
        (usize::try_from(bit / 8).expect("below 56"), 1 << (bit % 8))
    })
}

/// Bound to the line's place, so that no line can stand for another.
fn check(number: u64, bits: &[u8]) -> [u8; LINE_BYTES - BITS_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"line");
    hasher.update(&number.to_le_bytes());
    hasher.update(bits);
    *hasher.finalize().as_bytes().first_chunk().expect("8 bytes of 32")
}

/// Whether a row may be in the file; `None`: the line is damaged.
pub(super) fn may_have(file: &File, lines: u64, prefix: &Prefix) -> Option<bool> {
    let number = line_of(prefix, lines);
    let mut line = [0; LINE_BYTES];
    file.read_exact_at(&mut line, number * LINE_BYTES as u64).ok()?;
    let (bits, sum) = line.split_at(BITS_BYTES);
    (sum == check(number, bits)).then(|| bits_of(prefix).all(|(byte, bit)| bits[byte] & bit != 0))
}

/// Writes to a place in a file, whoever else writes to other places of it.
pub(super) struct At<'a> {
    pub(super) file: &'a File,
    pub(super) offset: u64,
}

impl Write for At<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write_at(bytes, self.offset)?;
        self.offset += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the lines, from the beginning of the file, while the rows come in order.
pub(super) struct FilterWriter<'a> {
    out: BufWriter<At<'a>>,
    lines: u64,
    number: u64,
    bits: [u8; BITS_BYTES],
}

impl<'a> FilterWriter<'a> {
    pub(super) fn new(file: &'a File, lines: u64) -> Self {
        let out = BufWriter::with_capacity(64 << 10, At { file, offset: 0 });
        Self { out, lines, number: 0, bits: [0; BITS_BYTES] }
    }

    pub(super) fn add(&mut self, prefix: &Prefix) -> io::Result<()> {
        self.write_until(line_of(prefix, self.lines))?;
        for (byte, bit) in bits_of(prefix) {
            self.bits[byte] |= bit;
        }
        Ok(())
    }

    /// Writes the lines before `number`.
    fn write_until(&mut self, number: u64) -> io::Result<()> {
        while self.number < number {
            self.out.write_all(&self.bits)?;
            self.out.write_all(&check(self.number, &self.bits))?;
            self.bits = [0; BITS_BYTES];
            self.number += 1;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.write_until(self.lines)?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(n: u64) -> Prefix {
        *blake3::hash(&n.to_le_bytes()).as_bytes().first_chunk().unwrap()
    }

    #[test]
    fn what_is_there_is_never_denied_and_few_strangers_pass() {
        let file = tempfile::tempfile().unwrap();
        let mut rows: Vec<Prefix> = (0..20_000).map(prefix).collect();
        rows.sort_unstable();
        let lines = lines_for(20_000);
        let mut writer = FilterWriter::new(&file, lines);
        for row in &rows {
            writer.add(row).unwrap();
        }
        writer.finish().unwrap();
        assert_eq!(file.metadata().unwrap().len(), lines * LINE_BYTES as u64);
        assert!(rows.iter().all(|row| may_have(&file, lines, row) == Some(true)));
        let passed = (20_000..120_000).filter(|n| may_have(&file, lines, &prefix(*n)) == Some(true)).count();
        assert!(passed < 4_000, "{passed} of 100,000 strangers passed");
    }

    #[test]
    fn a_damaged_line_denies_nothing() {
        let file = tempfile::tempfile().unwrap();
        let mut writer = FilterWriter::new(&file, 1);
        writer.add(&prefix(1)).unwrap();
        writer.finish().unwrap();
        assert_eq!(may_have(&file, 1, &prefix(1)), Some(true));
        file.write_all_at(&[0], 17).unwrap();
        file.write_all_at(&[0xff], 3).unwrap();
        assert_eq!(may_have(&file, 1, &prefix(1)), None);
    }
}
