//! The log file (`…-wal`), as SQLite writes it. All numbers are big-endian.
//!
//! | offset | bytes | header of the file |
//! |---|---|---|
//! | 0 | 4 | `0x377f0682`, or `…83`: sums are over big-endian words |
//! | 4 | 4 | version, 3007000 |
//! | 8 | 4 | bytes of a page |
//! | 12 | 4 | how often it was begun anew |
//! | 16 | 8 | two salts: others each time that it is begun anew |
//! | 24 | 8 | the sum of the 24 bytes before |
//!
//! | offset | bytes | frame |
//! |---|---|---|
//! | 0 | 4 | the page's number, from 1 |
//! | 4 | 4 | at a commit: pages of the database after it; else 0 |
//! | 8 | 8 | the salts of the file |
//! | 16 | 8 | the sum of everything so far: the header, and of each frame the first 8 bytes and the page |
//! | 24 | … | the page |
//!
//! The file is not cut when it is begun anew: behind the frames of now there may be older ones, which have other salts. Source:
//! <https://www.sqlite.org/walformat.html>.

/// Bytes of the header of the file.
pub(crate) const FILE_HEADER: usize = 32;
/// Bytes of the header of a frame.
pub(crate) const FRAME_HEADER: usize = 24;

const MAGIC: u32 = 0x377f_0682;
const VERSION: u32 = 3_007_000;

/// The bytes are no log file of SQLite's, or not what it wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WalError {
    /// Not the header of one.
    #[error("the header of the write-ahead log is none")]
    Header,
    /// A frame of another life of the file.
    #[error("frame {frame} of the write-ahead log has other salts")]
    Salts {
        /// Which, from 1.
        frame: u32,
    },
    /// The sum is wrong: it was torn, or is damaged.
    #[error("the sum of frame {frame} of the write-ahead log is wrong")]
    Sum {
        /// Which, from 1.
        frame: u32,
    },
    /// Too few bytes.
    #[error("frame {frame} of the write-ahead log is cut short")]
    Short {
        /// Which, from 1.
        frame: u32,
    },
}

/// The running sum: each frame's is over all before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum(pub u32, pub u32);

impl Sum {
    /// The sum with these bytes behind; a rest of fewer than 8 is left out, which no caller has.
    #[must_use]
    pub fn over(self, bytes: &[u8], big_endian: bool) -> Self {
        let word = |four: &[u8]| {
            let four = four.try_into().expect("chunks of 8 have two of 4");
            if big_endian { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) }
        };
        bytes.chunks_exact(8).fold(self, |Self(first, second), eight| {
            let first = first.wrapping_add(word(&eight[..4])).wrapping_add(second);
            Self(first, second.wrapping_add(word(&eight[4..])).wrapping_add(first))
        })
    }
}

pub(crate) fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// A power of two from 512 to 65536.
pub(crate) const fn is_page_size(bytes: u32) -> bool {
    bytes.is_power_of_two() && bytes >= 512 && bytes <= 65536
}

/// The header of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalHeader {
    /// Bytes of a page.
    pub page_bytes: u32,
    /// The salts, as they stand there.
    pub salts: [u8; 8],
    /// Sums are over big-endian words.
    pub big_endian: bool,
    /// What the sum of the first frame goes on from.
    pub sum: Sum,
}

impl WalHeader {
    /// Reads it.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, WalError> {
        let bytes: &[u8; FILE_HEADER] = bytes.first_chunk().ok_or(WalError::Header)?;
        let magic = number(bytes, 0);
        let big_endian = magic == MAGIC | 1;
        let page_bytes = number(bytes, 8);
        let sum = Sum::default().over(&bytes[..24], big_endian);
        let is_one = magic | 1 == MAGIC | 1
            && number(bytes, 4) == VERSION
            && is_page_size(page_bytes)
            && sum == Sum(number(bytes, 24), number(bytes, 28));
        let salts = *bytes[16..24].first_chunk().expect("8 bytes");
        if is_one { Ok(Self { page_bytes, salts, big_endian, sum }) } else { Err(WalError::Header) }
    }

    /// Where a frame begins in the file; frames count from 1.
    #[must_use]
    pub fn offset(&self, frame: u32) -> u64 {
        let each = FRAME_HEADER as u64 + u64::from(self.page_bytes);
        FILE_HEADER as u64 + u64::from(frame.saturating_sub(1)) * each
    }

    /// Bytes of a frame with its header.
    #[must_use]
    pub const fn frame_bytes(&self) -> usize {
        FRAME_HEADER + self.page_bytes as usize
    }
}

/// One frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The page's number.
    pub page: u32,
    /// At a commit: pages of the database after it; else 0.
    pub pages_after: u32,
    /// The sum up to here.
    pub sum: Sum,
    /// The page.
    pub content: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Reads frame `number`, which follows on `before`.
    ///
    /// # Errors
    /// When it is of another life of the file, torn or damaged.
    pub fn parse(bytes: &'a [u8], header: &WalHeader, frame: u32, before: Sum) -> Result<Self, WalError> {
        let bytes = bytes.get(..header.frame_bytes()).ok_or(WalError::Short { frame })?;
        if bytes[8..16] != header.salts {
            return Err(WalError::Salts { frame });
        }
        let content = &bytes[FRAME_HEADER..];
        let sum = before.over(&bytes[..8], header.big_endian).over(content, header.big_endian);
        let page = number(bytes, 0);
        if sum != Sum(number(bytes, 16), number(bytes, 20)) || page == 0 {
            return Err(WalError::Sum { frame });
        }
        Ok(Self { page, pages_after: number(bytes, 4), sum, content })
    }
}

#[cfg(test)]
mod tests;
