//! A range of bytes of a volume.

use std::fmt;

/// The bytes from `start` up to and without `end`; never empty.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct ByteRange {
    start: u64,
    end: u64,
}

/// A range must hold at least one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the range {start}..{end} holds no byte")]
pub struct EmptyRange {
    /// Where it would begin.
    pub start: u64,
    /// Where it would end.
    pub end: u64,
}

impl ByteRange {
    /// The bytes from `start` up to `end`.
    ///
    /// # Errors
    /// When there are none.
    pub const fn new(start: u64, end: u64) -> Result<Self, EmptyRange> {
        if start < end { Ok(Self { start, end }) } else { Err(EmptyRange { start, end }) }
    }

    /// `length` bytes from `start`.
    ///
    /// # Errors
    /// When `length` is 0 or the end is beyond 2^64.
    pub const fn at(start: u64, length: u64) -> Result<Self, EmptyRange> {
        match start.checked_add(length) {
            Some(end) => Self::new(start, end),
            None => Err(EmptyRange { start, end: start }),
        }
    }

    /// The first byte.
    #[must_use]
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// The byte after the last.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// How many bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a range is never empty")]
    pub const fn len(&self) -> u64 {
        self.end - self.start
    }

    /// What both have in common.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        Self::new(self.start.max(other.start), self.end.min(other.end)).ok()
    }

    /// The numbers of the cells of a grid that this range touches, as first and one past the last.
    #[must_use]
    pub const fn cells(&self, cell_bytes: u64) -> (u64, u64) {
        (self.start / cell_bytes, self.end.div_ceil(cell_bytes))
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

impl fmt::Debug for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_names_the_cells_it_touches() {
        let range = ByteRange::new(65_535, 65_537).unwrap();
        assert_eq!(range.cells(65_536), (0, 2));
        assert_eq!(ByteRange::at(65_536, 65_536).unwrap().cells(65_536), (1, 2));
    }

    #[test]
    fn an_empty_range_cannot_be_made() {
        assert!(ByteRange::new(5, 5).is_err());
        assert!(ByteRange::at(u64::MAX, 2).is_err());
    }
}
