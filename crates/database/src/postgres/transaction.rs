//! The records by which transactions end: commit, rollback, and the first half of a commit in two phases.

use jiff::Timestamp;

use super::bytes::Bytes;

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Committed,
    RolledBack,
    Prepared,
}

/// The end of a transaction.
#[derive(Debug, Clone)]
pub(crate) struct Ending<'a> {
    pub(crate) outcome: Outcome,
    pub(crate) at: Timestamp,
    /// The transaction, where that is not the one that wrote the record.
    pub(crate) of: Option<u32>,
    /// Its subtransactions, 4 bytes each.
    pub(crate) subtransactions: &'a [u8],
    pub(crate) files_dropped: u32,
    /// Others have to forget what they know of the catalogue: the schema changed.
    pub(crate) invalidates: bool,
}

impl Ending<'_> {
    pub(crate) fn subtransactions(&self) -> impl Iterator<Item = u32> {
        self.subtransactions.as_chunks::<4>().0.iter().map(|four| u32::from_le_bytes(*four))
    }
}

mod flag {
    pub(super) const DATABASE: u32 = 1;
    pub(super) const SUBTRANSACTIONS: u32 = 1 << 1;
    pub(super) const FILES: u32 = 1 << 2;
    pub(super) const INVALIDATIONS: u32 = 1 << 3;
    pub(super) const TWO_PHASE: u32 = 1 << 4;
    pub(super) const DROPPED_STATISTICS: u32 = 1 << 8;
}

/// Reads the data of a record of the transaction manager; `None` for other kinds and where it is too short.
pub(crate) fn ending(info: u8, data: &[u8]) -> Option<Ending<'_>> {
    let has_flags = info & 0x80 != 0;
    let (outcome, prepared) = match info & 0x70 {
        0x00 => (Outcome::Committed, false),
        0x10 => return preparing(data),
        0x20 => (Outcome::RolledBack, false),
        0x30 => (Outcome::Committed, true),
        0x40 => (Outcome::RolledBack, true),
        _ => return None,
    };
    let mut bytes = Bytes(data);
    let at = bytes.time()?;
    let flags = if has_flags { bytes.u32()? } else { 0 };
    let mut ending =
        Ending { outcome, at, of: None, subtransactions: &[], files_dropped: 0, invalidates: false };
    if flags & flag::DATABASE != 0 {
        bytes.take(8)?;
    }
    if flags & flag::SUBTRANSACTIONS != 0 {
        ending.subtransactions = list(&mut bytes, 4)?.1;
    }
    if flags & flag::FILES != 0 {
        ending.files_dropped = list(&mut bytes, 12)?.0;
    }
    if flags & flag::DROPPED_STATISTICS != 0 {
        list(&mut bytes, 12)?;
    }
    if flags & flag::INVALIDATIONS != 0 {
        ending.invalidates = list(&mut bytes, 16)?.0 > 0;
    }
    if flags & flag::TWO_PHASE != 0 {
        ending.of = Some(bytes.u32()?);
    }
    // Who finishes a prepared transaction is another one, so without this there is no name.
    if prepared && ending.of.is_none() { None } else { Some(ending) }
}

/// A list: how many, then as many of `each` bytes.
fn list<'a>(bytes: &mut Bytes<'a>, each: usize) -> Option<(u32, &'a [u8])> {
    let count = bytes.u32()?;
    Some((count, bytes.take(usize::try_from(count).ok()?.checked_mul(each)?)?))
}

fn preparing(data: &[u8]) -> Option<Ending<'_>> {
    let mut bytes = Bytes(data);
    let (_magic, _bytes) = (bytes.u32()?, bytes.u32()?);
    let of = Some(bytes.u32()?);
    let _database = bytes.u32()?;
    let at = bytes.time()?;
    Some(Ending {
        outcome: Outcome::Prepared,
        at,
        of,
        subtransactions: &[],
        files_dropped: 0,
        invalidates: false,
    })
}
