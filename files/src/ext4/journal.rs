//! The journal of ext4 (jbd2), read and laid over the disk in memory: what `mount` would write home, without writing.
//!
//! | block | begins with the header (big endian: magic, type, transaction), then |
//! |---|---|
//! | 1 descriptor | tags: which block of the disk each of the following blocks is a new copy of |
//! | 2 commit | nothing that is needed: the transaction is whole |
//! | 3, 4 superblock | where the log begins and which transaction is the first |
//! | 5 revoke | blocks whose older copies must not be used |
//!
//! A transaction counts when its commit block is there. Checksums of the log are not computed: a recovery point is one
//! moment of the device, on which a commit block is written after what it commits. Logs that break that rule
//! (`journal_async_commit`, `fast_commit`) are refused by name.

use std::collections::BTreeMap;

use super::Ext4;
use crate::disk::{Disk, Fields};
use crate::error::FilesError;
use crate::tree::{Node, Piece, nonsense};

pub(super) const MAGIC: u32 = 0xc03b_3998;
const HEADER: usize = 12;

const WIDE: u32 = 0x2;
const CHECKSUMS_2: u32 = 0x8;
const CHECKSUMS_3: u32 = 0x10;
/// Revocations, wide block numbers, checksums.
const KNOWN: u32 = 0x1 | WIDE | CHECKSUMS_2 | CHECKSUMS_3;

const ESCAPED: u32 = 1;
const SAME_UUID: u32 = 2;
const LAST: u32 = 8;

/// Where the newest copy of a block lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Copy {
    /// The block of the disk, inside of the journal.
    pub(super) at: u64,
    /// Its first four bytes were the journal's own magic number, and were set to zero there.
    pub(super) escaped: bool,
}

/// What a transaction writes and revokes.
#[derive(Debug, Default)]
struct Transaction {
    number: u32,
    copies: Vec<(u64, Copy)>,
    revoked: Vec<u64>,
}

/// The log as it lies in the journal's inode.
struct Log<'a, D> {
    filesystem: &'a Ext4<D>,
    node: Node,
    features: u32,
    first: u64,
    length: u64,
}

impl<D: Disk> Ext4<D> {
    pub(super) fn read_journal(&self) -> Result<BTreeMap<u64, Copy>, FilesError> {
        let refused =
            |features: String| FilesError::UnknownFeatures { filesystem: "the ext4 journal", features };
        if self.layout.journal_inode == 0 {
            return Err(refused("a journal on another device".into()));
        }
        let node = self.inode(self.layout.journal_inode.into())?;
        let head = self.content(&node, 0, 1024)?;
        let sb = Fields(&head);
        if sb.be32(0) != MAGIC || u64::from(sb.be32(12)) != self.layout.block_bytes {
            return Err(nonsense("the journal's superblock is damaged"));
        }
        let features = if sb.be32(4) == 4 { sb.be32(40) } else { 0 };
        if features & !KNOWN != 0 {
            return Err(refused(format!("{:#x}", features & !KNOWN)));
        }
        let (length, first) = (u64::from(sb.be32(16)), u64::from(sb.be32(20)));
        let (number, start) = (sb.be32(24), u64::from(sb.be32(28)));
        if start == 0 {
            return Ok(BTreeMap::new());
        }
        let sane = first > 0
            && first < length
            && (first..length).contains(&start)
            && length <= node.bytes / self.layout.block_bytes;
        if !sane {
            return Err(nonsense("the journal's superblock is damaged"));
        }
        let log = Log { filesystem: self, node, features, first, length };
        Ok(newest(log.transactions(start, number)?))
    }
}

/// The copies that count: the newest of each block that was not revoked since.
fn newest(transactions: Vec<Transaction>) -> BTreeMap<u64, Copy> {
    let mut revoked: BTreeMap<u64, usize> = BTreeMap::new();
    for (at, transaction) in transactions.iter().enumerate() {
        revoked.extend(transaction.revoked.iter().map(|block| (*block, at)));
    }
    let mut copies = BTreeMap::new();
    for (at, transaction) in transactions.into_iter().enumerate() {
        for (block, copy) in transaction.copies {
            if revoked.get(&block).is_none_or(|last| *last < at) {
                copies.insert(block, copy);
            }
        }
    }
    copies
}

impl<D: Disk> Log<'_, D> {
    /// The whole transactions from a block of the log on.
    fn transactions(&self, start: u64, number: u32) -> Result<Vec<Transaction>, FilesError> {
        let mut whole = Vec::new();
        let mut current = Transaction { number, ..Transaction::default() };
        let mut at = start;
        // The log cannot be longer than itself.
        let mut left = self.length;
        while left > 0 {
            let block = self.filesystem.block(self.place(at)?)?;
            let header = Fields(&block);
            if header.be32(0) != MAGIC || header.be32(8) != current.number {
                break;
            }
            at = self.after(at);
            left -= 1;
            match header.be32(4) {
                1 => {
                    for (home, escaped) in self.tags(&block)? {
                        current.copies.push((home, Copy { at: self.place(at)?, escaped }));
                        at = self.after(at);
                        left = left.saturating_sub(1);
                    }
                }
                2 => {
                    let next = current.number.wrapping_add(1);
                    whole.push(std::mem::take(&mut current));
                    current.number = next;
                }
                5 => current.revoked.extend(self.revoked(&block)),
                _ => break,
            }
        }
        Ok(whole)
    }

    const fn after(&self, at: u64) -> u64 {
        if at + 1 < self.length { at + 1 } else { self.first }
    }

    /// Where a block of the log lies on the disk.
    fn place(&self, at: u64) -> Result<u64, FilesError> {
        let size = self.filesystem.layout.block_bytes;
        match self.filesystem.piece_of(&self.node, at * size)? {
            Piece::Data { at, .. } => Ok(at / size),
            _ => Err(nonsense("the journal has holes")),
        }
    }

    fn tags(&self, block: &[u8]) -> Result<Vec<(u64, bool)>, FilesError> {
        let checksums = self.features & (CHECKSUMS_2 | CHECKSUMS_3) != 0;
        let (v3, wide) = (self.features & CHECKSUMS_3 != 0, self.features & WIDE != 0);
        let mut length = 8 + if wide { 4 } else { 0 };
        if self.features & CHECKSUMS_2 != 0 {
            length += 2;
        }
        if v3 {
            length = 16;
        }
        let end = block.len() - if checksums { 4 } else { 0 };
        let fields = Fields(block);
        let mut found = Vec::new();
        let mut at = HEADER;
        while at + length <= end {
            let flags = if v3 { fields.be32(at + 4) } else { fields.be16(at + 6).into() };
            let high = if wide { u64::from(fields.be32(at + 8)) << 32 } else { 0 };
            let home = u64::from(fields.be32(at)) | high;
            if home >= self.filesystem.layout.blocks {
                return Err(nonsense(format!(
                    "the journal holds block {home}, which is not in the filesystem"
                )));
            }
            found.push((home, flags & ESCAPED != 0));
            at += length + if flags & SAME_UUID == 0 { 16 } else { 0 };
            if flags & LAST != 0 {
                break;
            }
        }
        Ok(found)
    }

    fn revoked(&self, block: &[u8]) -> Vec<u64> {
        let fields = Fields(block);
        let length = if self.features & WIDE != 0 { 8 } else { 4 };
        let end = usize::try_from(fields.be32(HEADER)).unwrap_or_default().min(block.len());
        let rows = (HEADER + 4..).step_by(length).take_while(|at| at + length <= end);
        rows.map(|at| if length == 8 { fields.be64(at) } else { fields.be32(at).into() }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(at: u64) -> Copy {
        Copy { at, escaped: false }
    }

    #[test]
    fn a_revoked_block_counts_only_where_it_was_written_again_later() {
        let transactions = vec![
            Transaction { number: 1, copies: vec![(10, copy(100)), (11, copy(101))], revoked: vec![] },
            Transaction { number: 2, copies: vec![(12, copy(102))], revoked: vec![10, 11] },
            Transaction { number: 3, copies: vec![(11, copy(103))], revoked: vec![] },
        ];
        assert_eq!(newest(transactions), BTreeMap::from([(11, copy(103)), (12, copy(102))]));
    }
}
