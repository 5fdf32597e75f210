//! The last 64 bytes of a pack. Plain, so that anyone who can read the bucket can verify the pack.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `SRGMTAIL` |
//! | 8 | 2 | format version, u16 = 1 |
//! | 10 | 2 | zero |
//! | 12 | 4 | how many entries, u32 |
//! | 16 | 8 | where the footer begins, u64 |
//! | 24 | 4 | length of the footer, u32 |
//! | 28 | 4 | zero |
//! | 32 | 32 | BLAKE3-256 of every byte of the object before this field |
//!
//! The hash covers the trailer's own first half too: a damaged count or offset is noticed without the key.

use super::EntryRow;
use super::header::PACK_HEADER_BYTES;

const MAGIC: &[u8; 8] = b"SRGMTAIL";
pub(super) const VERSION: u16 = 1;
pub(super) const TRAILER_BYTES: usize = 64;
/// What the hash covers of the trailer.
pub(super) const HASHED_BYTES: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trailer {
    pub(super) entries: u32,
    pub(super) footer_offset: u64,
    pub(super) footer_bytes: u32,
}

impl Trailer {
    /// The trailer of an object whose entries end at `footer_offset`.
    pub(super) fn of(rows: &[EntryRow], footer_offset: u64, footer: &[u8]) -> Self {
        Self {
            entries: u32::try_from(rows.len()).expect("at most MAX_ENTRIES"),
            footer_offset,
            footer_bytes: u32::try_from(footer.len()).expect("a footer has a limit of 16 MiB"),
        }
    }

    /// The first half: what goes before the hash.
    pub(super) fn encode(&self) -> [u8; HASHED_BYTES] {
        let mut bytes = [0; HASHED_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.entries.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.footer_offset.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.footer_bytes.to_le_bytes());
        bytes
    }

    /// Reads the trailer of an object of `object_bytes`, and the hash; says in words what is wrong.
    pub(super) fn parse(bytes: &[u8; TRAILER_BYTES], object_bytes: u64) -> Result<(Self, [u8; 32]), String> {
        if &bytes[..8] != MAGIC {
            return Err("it does not end like a pack".to_owned());
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != VERSION {
            return Err(format!("its trailer has version {version}"));
        }
        let trailer = Self {
            entries: u32::from_le_bytes(bytes[12..16].try_into().expect("4 bytes")),
            footer_offset: u64::from_le_bytes(bytes[16..24].try_into().expect("8 bytes")),
            footer_bytes: u32::from_le_bytes(bytes[24..28].try_into().expect("4 bytes")),
        };
        if trailer.encode() != bytes[..HASHED_BYTES] {
            return Err("its trailer has bytes that should be zero".to_owned());
        }
        let end = trailer.footer_offset.checked_add(u64::from(trailer.footer_bytes));
        if trailer.footer_offset < PACK_HEADER_BYTES as u64
            || end.and_then(|end| end.checked_add(TRAILER_BYTES as u64)) != Some(object_bytes)
        {
            return Err(format!("its trailer does not fit its size of {object_bytes} bytes"));
        }
        Ok((trailer, bytes[HASHED_BYTES..].try_into().expect("the last 32 of 64")))
    }
}
