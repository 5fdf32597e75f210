//! The filter in front of a file of rows: tells of nearly every chunk that is not there, for one small read.
//!
//! Lines of 64 bytes, one for about 64 rows: so 8 bits a row. A row belongs to the line that its place in the order of all
//! rows says, so the lines are written in one go with the rows, and five of the line's 512 bits say that it is there. Two
//! or three of a hundred strangers look as if they were there, and cost the read of a block that was always paid before. It
//! is read from the page cache, so it takes no memory of its own however large the index is.
//!
//! A line has no check: one that is wrong costs a chunk stored twice, or a block read in vain. But a line of zeros, which is
//! what a power cut leaves of a torn file, says that the file is damaged: no line of a whole file is empty but by a chance
//! of e^-32.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt as _;

use super::run::Prefix;

pub(super) const LINE_BYTES: usize = 64;
const BITS: u64 = LINE_BYTES as u64 * 8;
const ROWS_PER_LINE: u64 = BITS / 8;
const BITS_PER_ROW: u32 = 5;

/// How many lines a file of so many rows has.
pub(super) const fn lines_for(rows: u64) -> u64 {
    rows.div_ceil(ROWS_PER_LINE)
}

/// Which line of `lines` tells of a row. `order` ascends with the rows and is spread over all of u64.
fn line_of(order: u64, lines: u64) -> u64 {
    u64::try_from((u128::from(order) * u128::from(lines)) >> 64).expect("below the number of lines")
}

/// The bits of a row within its line: from the half of the prefix that does not choose the line.
fn bits_of(prefix: &Prefix) -> impl Iterator<Item = (usize, u8)> {
    let random = u64::from_le_bytes(*prefix.last_chunk().expect("8 bytes of 16"));
    (0..BITS_PER_ROW).map(move |turn| {
        let bit = (random >> (9 * turn)) % BITS;
        (usize::try_from(bit / 8).expect("below 64"), 1 << (bit % 8))
    })
}

/// Whether a row may be in the file; `None`: the line is damaged.
pub(super) fn may_have(file: &File, lines: u64, order: u64, prefix: &Prefix) -> Option<bool> {
    let mut line = [0; LINE_BYTES];
    file.read_exact_at(&mut line, line_of(order, lines) * LINE_BYTES as u64).ok()?;
    if line == [0; LINE_BYTES] && lines > 1 {
        return None;
    }
    Some(bits_of(prefix).all(|(byte, bit)| line[byte] & bit != 0))
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
    bits: [u8; LINE_BYTES],
}

impl<'a> FilterWriter<'a> {
    pub(super) fn new(file: &'a File, lines: u64) -> Self {
        let out = BufWriter::with_capacity(64 << 10, At { file, offset: 0 });
        Self { out, lines, number: 0, bits: [0; LINE_BYTES] }
    }

    pub(super) fn add(&mut self, order: u64, prefix: &Prefix) -> io::Result<()> {
        self.write_until(line_of(order, self.lines))?;
        for (byte, bit) in bits_of(prefix) {
            self.bits[byte] |= bit;
        }
        Ok(())
    }

    /// Writes the lines before `number`.
    fn write_until(&mut self, number: u64) -> io::Result<()> {
        while self.number < number {
            if self.bits == [0; LINE_BYTES] {
                // Fewer rows came than were expected, or ids that nobody hashed: such a line denies nothing.
                self.bits = [0xff; LINE_BYTES];
            }
            self.out.write_all(&self.bits)?;
            self.bits = [0; LINE_BYTES];
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

    fn order(prefix: &Prefix) -> u64 {
        u64::from_be_bytes(*prefix.first_chunk().unwrap())
    }

    fn filter(rows: u64, lines: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        let mut rows: Vec<Prefix> = (0..rows).map(prefix).collect();
        rows.sort_unstable();
        let mut writer = FilterWriter::new(&file, lines);
        for row in &rows {
            writer.add(order(row), row).unwrap();
        }
        writer.finish().unwrap();
        file
    }

    #[test]
    fn what_is_there_is_never_denied_and_few_strangers_pass() {
        let lines = lines_for(20_000);
        let file = filter(20_000, lines);
        assert_eq!(file.metadata().unwrap().len(), lines * LINE_BYTES as u64);
        let asked = |n| may_have(&file, lines, order(&prefix(n)), &prefix(n));
        assert!((0..20_000).all(|n| asked(n) == Some(true)));
        let passed = (20_000..120_000).filter(|n| asked(*n) == Some(true)).count();
        assert!(passed < 4_000, "{passed} of 100,000 strangers passed");
    }

    #[test]
    fn a_line_of_zeros_is_damage_and_one_without_rows_denies_nothing() {
        let file = filter(1, 2);
        assert!((0..100).all(|n| may_have(&file, 2, order(&prefix(n)), &prefix(n)).is_some()));
        assert_eq!(may_have(&file, 2, order(&prefix(0)), &prefix(0)), Some(true));
        file.write_all_at(&[0; 128], 0).unwrap();
        assert_eq!(may_have(&file, 2, order(&prefix(0)), &prefix(0)), None);
    }
}
