//! The header of a page of the log.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 2 | magic: which version wrote it |
//! | 2 | 2 | flags |
//! | 4 | 4 | timeline |
//! | 8 | 8 | position of the page |
//! | 16 | 4 | how much is left of a record that began on an earlier page |
//! | 20 | 4 | nothing |
//!
//! On the first page of a segment 16 more: system identifier 8, bytes of a segment 4, bytes of a page 4.

use super::bytes::Bytes;

/// The bytes of a page. A server can be compiled with others; such a log is refused.
pub const PAGE_BYTES: u64 = 8192;

pub(crate) const SHORT_HEADER: usize = 24;
pub(crate) const LONG_HEADER: usize = 40;

const CONTINUES: u16 = 1;
const LONG: u16 = 2;
const OVERWRITES: u16 = 8;

/// Which server writes such a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub(crate) u16);

impl Version {
    /// The version with this number, such as 15; `None` where its log is not known here.
    #[must_use]
    pub fn of_major(major: u16) -> Option<Self> {
        (13..=17).contains(&major).then_some(Self(major))
    }

    /// Its number, such as 15.
    #[must_use]
    pub const fn major(self) -> u16 {
        self.0
    }

    fn of_magic(magic: u16) -> Option<Self> {
        match magic {
            0xD106 => Some(Self(13)),
            0xD10D => Some(Self(14)),
            0xD110 => Some(Self(15)),
            0xD113 => Some(Self(16)),
            0xD116 => Some(Self(17)),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageHeader {
    pub(crate) version: Version,
    pub(crate) timeline: u32,
    pub(crate) position: u64,
    /// What is left of a record that began before; `None` when a record begins here.
    pub(crate) continues: Option<u32>,
    /// A record that began before was given up when the server crashed; a record begins here.
    pub(crate) overwrites: bool,
    pub(crate) first: Option<FirstPage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FirstPage {
    pub(crate) system: u64,
    pub(crate) segment_bytes: u32,
    pub(crate) page_bytes: u32,
}

/// Why a page is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// Zeros where a page should be: the log was not written so far.
    #[error("there is no page")]
    Blank,
    /// Not a page, or of a version that is not known here.
    #[error("its magic number is {0:#06x}")]
    Magic(u16),
    /// Another page than this one should be.
    #[error("it says that it is the page at {0}")]
    Position(crate::Position),
    /// The flags contradict each other or the place.
    #[error("its flags are {0:#06x}")]
    Flags(u16),
}

impl PageHeader {
    /// Reads a header of `SHORT_HEADER` or `LONG_HEADER` bytes.
    pub(crate) fn read(header: &[u8]) -> Result<Self, PageError> {
        if header.iter().all(|byte| *byte == 0) {
            return Err(PageError::Blank);
        }
        let mut bytes = Bytes(header);
        let magic = bytes.u16().unwrap_or_default();
        let version = Version::of_magic(magic).ok_or(PageError::Magic(magic))?;
        let flags = bytes.u16().unwrap_or_default();
        let timeline = bytes.u32().unwrap_or_default();
        let position = bytes.u64().unwrap_or_default();
        let left = bytes.u32().unwrap_or_default();
        let _nothing = bytes.u32();
        let long = header.len() == LONG_HEADER;
        let continues = flags & CONTINUES != 0;
        if (flags & LONG != 0) != long || flags & 0xFFF0 != 0 || continues != (left != 0) {
            return Err(PageError::Flags(flags));
        }
        let first = long.then(|| FirstPage {
            system: bytes.u64().unwrap_or_default(),
            segment_bytes: bytes.u32().unwrap_or_default(),
            page_bytes: bytes.u32().unwrap_or_default(),
        });
        Ok(Self {
            version,
            timeline,
            position,
            continues: continues.then_some(left),
            overwrites: flags & OVERWRITES != 0,
            first,
        })
    }
}

/// What the first page of a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHead {
    /// The system identifier of the cluster.
    pub system: u64,
    /// The timeline in which the page was written: for the segment of a fork that of the parent.
    pub timeline: crate::LineageId,
    /// The position of its first byte.
    pub at: crate::Position,
    /// The bytes of a segment.
    pub segment_bytes: u64,
}

impl SegmentHead {
    /// How many bytes of a segment are needed for that.
    pub const BYTES: usize = LONG_HEADER;

    /// Reads it from the beginning of a segment.
    ///
    /// # Errors
    /// When a segment does not begin like that, or a version wrote it that is not known here.
    pub fn read(header: &[u8; Self::BYTES]) -> Result<Self, PageError> {
        let page = PageHeader::read(header)?;
        let first = page.first.ok_or(PageError::Blank)?;
        Ok(Self {
            system: first.system,
            timeline: crate::LineageId(page.timeline),
            at: crate::Position::new(page.position),
            segment_bytes: first.segment_bytes.into(),
        })
    }
}
