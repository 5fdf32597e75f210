//! A filesystem as it is read here: nodes by number, names in directories, content in pieces.
//!
//! [`crate::ext4`] and [`crate::xfs`] implement it over a [`Disk`](crate::disk::Disk), without a kernel, without rights, and
//! without writing. Images may be hostile: whatever they say, a reader ends, and fails instead of panicking. What it
//! answers may be nonsense then, but it is nonsense in files, not in this program.

use std::io;

use jiff::Timestamp;

use crate::disk::Disk;
use crate::error::FilesError;

/// The number of an inode.
pub type NodeId = u64;

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A pipe.
    Pipe,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

impl Kind {
    /// From the upper four bits of a mode.
    #[must_use]
    pub const fn of_mode(mode: u16) -> Option<Self> {
        match mode & 0xf000 {
            0x1000 => Some(Self::Pipe),
            0x2000 => Some(Self::CharDevice),
            0x4000 => Some(Self::Directory),
            0x6000 => Some(Self::BlockDevice),
            0x8000 => Some(Self::File),
            0xa000 => Some(Self::Link),
            0xc000 => Some(Self::Socket),
            _ => None,
        }
    }

    /// The letter that `ls -l` and `find -type` use.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::File => '-',
            Self::Directory => 'd',
            Self::Link => 'l',
            Self::Pipe => 'p',
            Self::Socket => 's',
            Self::CharDevice => 'c',
            Self::BlockDevice => 'b',
        }
    }
}

/// Seconds and nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment {
    /// Seconds, negative before 1970.
    pub seconds: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nanos: u32,
}

impl Moment {
    /// As a timestamp; the nearest there is for what lies outside of what can be shown.
    #[must_use]
    pub fn timestamp(self) -> Timestamp {
        let nanos = i32::try_from(self.nanos.min(999_999_999)).unwrap_or_default();
        Timestamp::new(self.seconds, nanos).unwrap_or(if self.seconds < 0 {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        })
    }
}

/// What is known about a file, directory or link.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// What it is.
    pub kind: Kind,
    /// Permissions, with set-uid, set-gid and sticky: 12 bits.
    pub mode: u16,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// How many bytes it has.
    pub bytes: u64,
    /// How many names it has.
    pub links: u32,
    /// When it was last read.
    pub accessed: Moment,
    /// When its content last changed.
    pub modified: Moment,
    /// The record as it lies on the disk, for the reader that made it.
    pub(crate) raw: Vec<u8>,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name: 1 to 255 bytes without `/` and NUL, neither `.` nor `..`.
    pub name: Vec<u8>,
    /// What it names.
    pub id: NodeId,
}

/// A stretch of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// So many bytes that lie at this offset of the disk.
    Data {
        /// Where they begin on the disk.
        at: u64,
        /// How many.
        bytes: u64,
    },
    /// So many bytes of zero that take no space.
    Hole {
        /// How many.
        bytes: u64,
    },
    /// These bytes, which lie in the inode.
    Inline(Vec<u8>),
}

/// An extended attribute: its full name and its value, as `getxattr` has them.
pub type Attribute = (Vec<u8>, Vec<u8>);

/// A filesystem that is read. It is a disk, too: pieces of files are read through it, since some of them may lie elsewhere than
/// they seem to (in a journal).
pub trait Tree: Disk {
    /// The root directory.
    fn root(&self) -> NodeId;

    /// What is known about a node.
    ///
    /// # Errors
    /// When it cannot be read or makes no sense.
    fn node(&self, id: NodeId) -> Result<Node, FilesError>;

    /// Calls `each` for every name in a directory, `.` and `..` left out, until it answers false.
    ///
    /// # Errors
    /// When it cannot be read or makes no sense.
    fn entries(&self, directory: &Node, each: &mut dyn FnMut(Entry) -> bool) -> Result<(), FilesError>;

    /// Where a symbolic link leads: at most 4096 bytes.
    ///
    /// # Errors
    /// When it cannot be read or makes no sense.
    fn target(&self, link: &Node) -> Result<Vec<u8>, FilesError>;

    /// What lies from `offset` on in a file, at least one byte of it; `offset` is below the file's size. The answer may reach
    /// beyond the end of the file.
    ///
    /// # Errors
    /// When it cannot be read or makes no sense.
    fn piece(&self, file: &Node, offset: u64) -> Result<Piece, FilesError>;

    /// The extended attributes, access control lists among them.
    ///
    /// # Errors
    /// When they cannot be read or make no sense.
    fn attributes(&self, node: &Node) -> Result<Vec<Attribute>, FilesError>;
}

/// Whether a name from a directory may be given to anyone: it must not be able to lead anywhere else.
pub(crate) fn is_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name != b"."
        && name != b".."
        && !name.iter().any(|byte| matches!(byte, 0 | b'/'))
}

/// A filesystem error as an I/O error has it.
pub(crate) fn nonsense(what: impl Into<String>) -> FilesError {
    FilesError::Nonsense { what: what.into() }
}

/// What reading the disk failed with.
pub(crate) fn unread(cause: io::Error) -> FilesError {
    FilesError::from_disk(cause)
}
