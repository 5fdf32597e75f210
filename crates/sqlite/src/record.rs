//! A frame as it is kept in the log: docs/format.md, section 15, has the same table. Numbers are little-endian.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | the page's number, from 1 |
//! | 4 | 4 | at a commit: pages of the database after it; else 0 |
//! | 8 | 8 | the number of the commit that it belongs to |
//! | 16 | 8 | when it was received, microseconds since 1970, i64 |
//! | 24 | 4 | which frame of SQLite's log file it was, from 1 |
//! | 28 | 4 | bytes of a page |
//! | 32 | 8 | the salts of the log file, as they stood there |
//! | 40 | 8 | the frame's sum: two u32 |
//! | 48 | … | the page |
//!
//! Salts, frame and sum are there so that whoever goes on can prove that the log file is still the one that was read.

use jiff::Timestamp;

use crate::Sum;
use crate::wal::is_page_size;

/// Bytes before the page.
pub const HEADER_BYTES: usize = 48;

/// The bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no frame of a SQLite database")]
pub struct RecordError;

/// One frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// The page's number.
    pub page: u32,
    /// At a commit: pages of the database after it; else 0.
    pub pages_after: u32,
    /// The number of the commit that it belongs to.
    pub commit: u64,
    /// When it was received.
    pub received_at: Timestamp,
    /// Which frame of the log file it was.
    pub frame: u32,
    /// The salts of the log file.
    pub salts: [u8; 8],
    /// The sum up to it.
    pub sum: Sum,
    /// The page.
    pub content: &'a [u8],
}

impl<'a> Record<'a> {
    /// Appends it.
    ///
    /// # Panics
    /// When the page has more than 4 GiB.
    pub fn put(&self, into: &mut Vec<u8>) {
        let page_bytes = u32::try_from(self.content.len()).expect("a page has at most 64 KiB");
        into.extend(self.page.to_le_bytes());
        into.extend(self.pages_after.to_le_bytes());
        into.extend(self.commit.to_le_bytes());
        into.extend(self.received_at.as_microsecond().to_le_bytes());
        into.extend(self.frame.to_le_bytes());
        into.extend(page_bytes.to_le_bytes());
        into.extend(self.salts);
        into.extend(self.sum.0.to_le_bytes());
        into.extend(self.sum.1.to_le_bytes());
        into.extend(self.content);
    }

    /// Takes the first record of `bytes`; `None`: it is not all there yet.
    ///
    /// # Errors
    /// When it is none.
    pub fn take(bytes: &'a [u8]) -> Result<Option<(Self, &'a [u8])>, RecordError> {
        let Some((header, rest)) = bytes.split_at_checked(HEADER_BYTES) else { return Ok(None) };
        let word = |at: usize| header[at..at + 4].try_into().map_or(0, u32::from_le_bytes);
        let long = |at: usize| header[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
        let (page, page_bytes) = (word(0), word(28));
        if page == 0 || !is_page_size(page_bytes) {
            return Err(RecordError);
        }
        let received_at = Timestamp::from_microsecond(long(16).cast_signed()).map_err(|_| RecordError)?;
        let Some((content, rest)) = rest.split_at_checked(page_bytes as usize) else { return Ok(None) };
        let record = Self {
            page,
            pages_after: word(4),
            commit: long(8),
            received_at,
            frame: word(24),
            salts: header[32..40].try_into().unwrap_or_default(),
            sum: Sum(word(40), word(44)),
            content,
        };
        Ok(Some((record, rest)))
    }
}
