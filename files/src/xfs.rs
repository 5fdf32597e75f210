//! Reads XFS of version 5, without a kernel.
//!
//! * Only what reading files needs is looked at: the superblock, inodes, their forks. Trees of free space, of inodes and of
//!   reverse mappings are not, so most features make no difference; those that change what is read and are not known here are
//!   refused by name.
//! * The log is not replayed: what a filesystem had only in its log is missing. Freezing and unmounting empty it, and
//!   snapshots of the driver are taken frozen; the image of a mounted XFS may lack its last seconds (docs/files.md).
//! * Checksums are not looked at, as in [`crate::ext4`]; every offset is checked.

mod attributes;
mod directory;
mod extents;
mod inode;
mod superblock;

use std::io;

use crate::disk::Disk;
use crate::error::FilesError;
use crate::tree::{Attribute, Entry, Kind, Node, NodeId, Piece, Tree, nonsense, unread};

pub(crate) use superblock::Superblock;

/// An XFS filesystem.
#[derive(Debug)]
pub struct Xfs<D> {
    disk: D,
    layout: Superblock,
}

impl<D: Disk> Xfs<D> {
    /// Reads the superblock.
    ///
    /// # Errors
    /// When it is no XFS of version 5, or one with features that are not known here.
    pub fn open(disk: D) -> Result<Self, FilesError> {
        let layout = Superblock::read(&disk)?;
        Ok(Self { disk, layout })
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), FilesError> {
        self.disk.read_at(offset, buffer).map_err(unread)
    }

    /// Part of a fork, by offset in it, so many bytes; holes are zero.
    fn content(
        &self,
        node: &Node,
        fork: extents::Fork,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, FilesError> {
        let mut bytes = vec![0; length];
        let mut done = 0;
        while done < length {
            let (found, within) = self.stretch(node, fork, offset + done as u64)?;
            let run = found.blocks.saturating_mul(self.layout.block_bytes).saturating_sub(within);
            let step = usize::try_from(run).unwrap_or(usize::MAX).clamp(1, length - done);
            if let Some(at) = found.at {
                self.read(at.saturating_add(within), &mut bytes[done..done + step])?;
            }
            done += step;
        }
        Ok(bytes)
    }
}

impl<D: Disk> Disk for Xfs<D> {
    fn bytes(&self) -> u64 {
        self.disk.bytes()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.disk.read_at(offset, buffer)
    }
}

impl<D: Disk> Tree for Xfs<D> {
    fn root(&self) -> NodeId {
        self.layout.root
    }

    fn node(&self, id: NodeId) -> Result<Node, FilesError> {
        self.inode(id)
    }

    fn entries(&self, directory: &Node, each: &mut dyn FnMut(Entry) -> bool) -> Result<(), FilesError> {
        if directory.kind != Kind::Directory {
            return Err(nonsense(format!("inode {} is no directory", directory.id)));
        }
        self.names(directory, each)
    }

    fn target(&self, link: &Node) -> Result<Vec<u8>, FilesError> {
        self.link(link)
    }

    fn piece(&self, file: &Node, offset: u64) -> Result<Piece, FilesError> {
        let (found, within) = self.stretch(file, extents::Fork::Data, offset)?;
        let bytes = found.blocks.saturating_mul(self.layout.block_bytes).saturating_sub(within).max(1);
        Ok(match found.at {
            Some(at) => Piece::Data { at: at.saturating_add(within), bytes },
            None => Piece::Hole { bytes },
        })
    }

    fn attributes(&self, node: &Node) -> Result<Vec<Attribute>, FilesError> {
        self.extended_attributes(node)
    }
}
