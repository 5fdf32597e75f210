//! A record of the log, and where in it things lie.
//!
//! A record is a header of 24 bytes (length 4, transaction 4, position of the record before 8, info 1, resource manager 1,
//! nothing 2, sum 4), then headers of the blocks it changes, then the blocks' data, then its own data.

use super::bytes::Bytes;
use super::page::Version;
use crate::Position;

pub(crate) const HEADER: usize = 24;

/// No record is longer (PostgreSQL: `XLogRecordMaxSize`).
pub(crate) const LONGEST: u32 = 1020 << 20;

/// The resource manager that a record belongs to.
pub(crate) mod manager {
    pub(crate) const XLOG: u8 = 0;
    pub(crate) const TRANSACTION: u8 = 1;
    pub(crate) const DATABASE: u8 = 4;
    pub(crate) const HEAP2: u8 = 9;
    pub(crate) const HEAP: u8 = 10;
}

/// One record. Of very long ones only the beginning is here.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Where it begins.
    pub start: Position,
    /// Where it ends; the next one begins at the next multiple of 8, or behind the header of a page.
    pub end: Position,
    /// Which server wrote it.
    pub version: Version,
    /// The timeline of the page in which it ends.
    pub timeline: u32,
    /// Which transaction wrote it; 0 for none.
    pub transaction: u32,
    /// The resource manager.
    pub manager: u8,
    /// What it is among those of its manager.
    pub info: u8,
    /// All bytes behind the header, or the first of them.
    pub body: &'a [u8],
    /// How many bytes there are behind the header.
    pub body_bytes: u32,
}

/// What a record changed and says, as far as it is here.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Parts<'a> {
    /// The file of the first block it changes.
    pub(crate) file: Option<u32>,
    /// Its own data; `None` where it is not all here.
    pub(crate) data: Option<&'a [u8]>,
}

impl<'a> Record<'a> {
    /// Takes it apart; `None` where it contradicts itself.
    pub(crate) fn parts(&self) -> Option<Parts<'a>> {
        let mut headers = Bytes(self.body);
        let mut parts = Parts::default();
        let mut file = None;
        // The blocks' data and the record's own, which lie behind all headers.
        let (mut blocks, mut own) = (0_u64, 0_u64);
        loop {
            let read = self.body.len() - headers.0.len();
            // The headers end where what they announce begins.
            if u64::try_from(read).ok()? + blocks + own >= u64::from(self.body_bytes) {
                break;
            }
            match headers.u8()? {
                id @ 0..=32 => {
                    let (bytes, of) = self.block(&mut headers, file)?;
                    file = Some(of);
                    blocks += bytes;
                    if parts.file.is_none() || id == 0 {
                        parts.file = Some(of);
                    }
                }
                252 => drop(headers.u32()?),
                253 => drop(headers.u16()?),
                254 => own = u64::from(headers.u32()?),
                255 => own = u64::from(headers.u8()?),
                _ => return None,
            }
            // The record's own data is announced last.
            if own > 0 {
                break;
            }
        }
        let read = self.body.len() - headers.0.len();
        let from = read.checked_add(usize::try_from(blocks).ok()?)?;
        let to = from.checked_add(usize::try_from(own).ok()?)?;
        if to > usize::try_from(self.body_bytes).ok()? {
            return None;
        }
        parts.data = self.body.get(from..to);
        Some(parts)
    }

    /// How many bytes of data a block has, and whose file it is of.
    fn block(&self, headers: &mut Bytes<'_>, before: Option<u32>) -> Option<(u64, u32)> {
        const HAS_IMAGE: u8 = 0x10;
        const SAME_FILE: u8 = 0x80;
        let flags = headers.u8()?;
        let mut bytes = u64::from(headers.u16()?);
        if flags & HAS_IMAGE != 0 {
            bytes += u64::from(headers.u16()?);
            let _hole_at = headers.u16()?;
            let image = headers.u8()?;
            // Version 15 moved the flags when it learnt more ways to compress.
            let compressed = if self.version.major() >= 15 { 0x1C } else { 0x02 };
            if image & compressed != 0 && image & 0x01 != 0 {
                let _hole = headers.u16()?;
            }
        }
        let file = if flags & SAME_FILE != 0 {
            before?
        } else {
            let _tablespace = headers.u32()?;
            let _database = headers.u32()?;
            headers.u32()?
        };
        let _number = headers.u32()?;
        Some((bytes, file))
    }
}
