//! Reads ext2, ext3 and ext4, without a kernel.
//!
//! * Checksums of metadata are not looked at: the bytes are those of the recovery point, which is checked already. What the
//!   filesystem itself got wrong before it was backed up shows as nonsense, and is said.
//! * Features that change what bytes mean and are not known here are refused by name, never guessed.
//! * A journal that was not brought home (the image of a filesystem that was in use) is read and laid over the disk in
//!   memory ([`journal`]); nothing is written.
//! * All offsets come from the image, so each is checked: [`Disk`] refuses what lies outside, trees of extents have at most 5
//!   levels, names are at most 255 bytes, directories at most [`MOST_DIRECTORY_BYTES`].

mod acl;
mod attributes;
mod blocks;
mod directory;
mod inode;
mod journal;
mod superblock;

use std::collections::BTreeMap;
use std::io;

use crate::disk::Disk;
use crate::error::FilesError;
use crate::tree::{Attribute, Entry, Kind, Node, NodeId, Piece, Tree, nonsense, unread};

pub(crate) use acl::to_attribute as acl_to_attribute;
pub(crate) use superblock::Superblock;

/// A directory of more bytes is refused. The largest that ext4 makes without `large_dir` have about 2 GiB.
const MOST_DIRECTORY_BYTES: u64 = 4 << 30;
const ROOT: NodeId = 2;

/// `EXTENTS_FL`: the 60 bytes hold a tree of extents.
const EXTENTS: u32 = 0x8_0000;
/// `INLINE_DATA_FL`: they hold the content.
const INLINE_DATA: u32 = 0x1000_0000;
/// `ENCRYPT_FL`.
const ENCRYPTED: u32 = 0x800;

/// An ext2, ext3 or ext4 filesystem.
#[derive(Debug)]
pub struct Ext4<D> {
    disk: D,
    layout: Superblock,
    /// Blocks whose newest content lies in the journal: where there.
    replayed: BTreeMap<u64, journal::Copy>,
}

impl<D: Disk> Ext4<D> {
    /// Reads the superblock and, where it was not brought home, the journal.
    ///
    /// # Errors
    /// When it is no such filesystem, or one with features that are not known here.
    pub fn open(disk: D) -> Result<Self, FilesError> {
        let layout = Superblock::read(&disk)?;
        let mut opened = Self { disk, layout, replayed: BTreeMap::new() };
        if opened.layout.needs_recovery() {
            opened.replayed = opened.read_journal()?;
            // The superblock is a block like others, and may have a newer copy in the journal.
            let mut bytes = vec![0; superblock::BYTES];
            opened.read(superblock::OFFSET, &mut bytes)?;
            opened.layout = Superblock::parse(&bytes, opened.disk.bytes())?;
        }
        Ok(opened)
    }

    /// How many blocks are read from the journal instead of from their place.
    #[must_use]
    pub fn replayed_blocks(&self) -> usize {
        self.replayed.len()
    }

    /// Bytes at an offset, with what the journal has over them.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), FilesError> {
        if self.replayed.is_empty() {
            return self.disk.read_at(offset, buffer).map_err(unread);
        }
        let size = self.layout.block_bytes;
        let mut done = 0;
        while done < buffer.len() {
            let at = offset.checked_add(done as u64).ok_or_else(|| nonsense("an offset beyond all disks"))?;
            let within = at % size;
            let length = usize::try_from(size - within).unwrap_or(usize::MAX).min(buffer.len() - done);
            let copy = self.replayed.get(&(at / size));
            let block = copy.map_or(at / size, |copy| copy.at);
            let part = &mut buffer[done..done + length];
            self.disk.read_at(block * size + within, part).map_err(unread)?;
            if copy.is_some_and(|copy| copy.escaped) {
                // The journal may not hold its own magic number at the beginning of a block; here it was.
                for (byte, magic) in part
                    .iter_mut()
                    .zip(journal::MAGIC.to_be_bytes().iter().skip(usize::try_from(within).unwrap_or(4)))
                {
                    *byte = *magic;
                }
            }
            done += length;
        }
        Ok(())
    }

    /// A whole block.
    fn block(&self, block: u64) -> Result<Vec<u8>, FilesError> {
        if block == 0 || block >= self.layout.blocks {
            return Err(nonsense(format!("block {block} is not in the filesystem")));
        }
        let mut bytes = vec![0; usize::try_from(self.layout.block_bytes).unwrap_or_default()];
        self.read(block * self.layout.block_bytes, &mut bytes)?;
        Ok(bytes)
    }

    /// Part of a file, at most to its end.
    fn content(&self, node: &Node, offset: u64, limit: u64) -> Result<Vec<u8>, FilesError> {
        let end = node.bytes.min(offset.saturating_add(limit));
        let mut bytes = Vec::new();
        let mut at = offset;
        while at < end {
            let wanted = end - at;
            let step = match self.piece_of(node, at)? {
                Piece::Data { at: disk, bytes: length } => {
                    let length = length.min(wanted);
                    let from = bytes.len();
                    bytes.resize(from + usize::try_from(length).unwrap_or_default(), 0);
                    self.read(disk, &mut bytes[from..])?;
                    length
                }
                Piece::Hole { bytes: length } => {
                    let length = length.min(wanted);
                    bytes.resize(bytes.len() + usize::try_from(length).unwrap_or_default(), 0);
                    length
                }
                Piece::Inline(found) => {
                    let length = (found.len() as u64).min(wanted);
                    bytes.extend_from_slice(&found[..usize::try_from(length).unwrap_or_default()]);
                    length
                }
            };
            at += step.max(1);
        }
        Ok(bytes)
    }
}

/// Content in the place where the journal would have it written.
impl<D: Disk> Disk for Ext4<D> {
    fn bytes(&self) -> u64 {
        self.disk.bytes()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read(offset, buffer).map_err(io::Error::other)
    }
}

impl<D: Disk> Tree for Ext4<D> {
    fn root(&self) -> NodeId {
        ROOT
    }

    fn node(&self, id: NodeId) -> Result<Node, FilesError> {
        self.inode(id)
    }

    fn entries(&self, directory: &Node, each: &mut dyn FnMut(Entry) -> bool) -> Result<(), FilesError> {
        self.names(directory, each)
    }

    fn target(&self, link: &Node) -> Result<Vec<u8>, FilesError> {
        if link.kind != Kind::Link || link.bytes > 4096 {
            return Err(nonsense(format!("inode {} is no symbolic link", link.id)));
        }
        let flags = inode::flags(link);
        if flags & ENCRYPTED != 0 {
            return Err(FilesError::Encrypted);
        }
        if link.bytes < 60 && flags & (EXTENTS | INLINE_DATA) == 0 {
            return Ok(inode::body(link)[..usize::try_from(link.bytes).unwrap_or_default()].to_vec());
        }
        self.content(link, 0, 4096)
    }

    fn piece(&self, file: &Node, offset: u64) -> Result<Piece, FilesError> {
        self.piece_of(file, offset)
    }

    fn attributes(&self, node: &Node) -> Result<Vec<Attribute>, FilesError> {
        self.extended_attributes(node)
    }
}

impl<D: Disk> Ext4<D> {
    fn piece_of(&self, file: &Node, offset: u64) -> Result<Piece, FilesError> {
        let flags = inode::flags(file);
        if flags & ENCRYPTED != 0 && file.kind == Kind::File {
            return Err(FilesError::Encrypted);
        }
        if flags & INLINE_DATA != 0 {
            let all = self.inline_data(file)?;
            let rest = usize::try_from(offset).ok().and_then(|offset| all.get(offset..)).unwrap_or_default();
            if rest.is_empty() {
                return Ok(Piece::Hole { bytes: file.bytes.saturating_sub(offset).max(1) });
            }
            return Ok(Piece::Inline(rest.to_vec()));
        }
        let size = self.layout.block_bytes;
        let (block, within) = (offset / size, offset % size);
        let found = if flags & EXTENTS == 0 { self.mapped(file, block)? } else { self.extent(file, block)? };
        let bytes = found.blocks.saturating_mul(size).saturating_sub(within);
        Ok(match found.at {
            Some(at) => Piece::Data { at: at.saturating_mul(size).saturating_add(within), bytes },
            None => Piece::Hole { bytes },
        })
    }
}

/// So many blocks in a row, at a place or nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    at: Option<u64>,
    blocks: u64,
}
