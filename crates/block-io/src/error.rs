//! What can go wrong with the bytes of a volume.

use std::io;

use rustix::io::Errno;
use strongroom_model::{ByteRange, Failure, Remedy};

/// A source or a target refused. `name` is its path, or what it is called in memory.
#[derive(Debug, thiserror::Error)]
pub enum BlockIoError {
    /// It could not be opened or made.
    #[error("opening {name}")]
    Open {
        /// Which.
        name: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// It is neither a regular file nor a block device.
    #[error("{name} is neither a file nor a block device")]
    NotBlocks {
        /// Which.
        name: String,
    },
    /// The range asked for is not inside it.
    #[error("{length} bytes from byte {offset} are not inside {name}, which has {bytes} bytes")]
    Outside {
        /// Which.
        name: String,
        /// Where the range begins.
        offset: u64,
        /// How long it is.
        length: u64,
        /// How many bytes there are.
        bytes: u64,
    },
    /// Reading was refused, or ended early.
    #[error("reading {name}, bytes {range}")]
    Read {
        /// Which.
        name: String,
        /// What was read.
        range: ByteRange,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Writing was refused.
    #[error("writing {name}, bytes {range}")]
    Write {
        /// Which.
        name: String,
        /// What was written.
        range: ByteRange,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Making what was written durable was refused.
    #[error("making {name} durable")]
    Sync {
        /// Which.
        name: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The list of its extents could not be read.
    #[error("reading the extents of {name} from byte {offset}")]
    Extents {
        /// Which.
        name: String,
        /// From where on.
        offset: u64,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The list of extents makes no sense, so nothing may be concluded from it.
    #[error("the extents of {name} do not ascend at byte {offset}")]
    ExtentsDisordered {
        /// Which.
        name: String,
        /// Where.
        offset: u64,
    },
    /// Two files on different filesystems cannot be compared by where their blocks lie.
    #[error("{base} and {target} are not on the same filesystem")]
    OtherFilesystem {
        /// The older.
        base: String,
        /// The newer.
        target: String,
    },
}

impl BlockIoError {
    /// The operating system's own reason, where there is one.
    #[must_use]
    pub fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Open { cause, .. }
            | Self::Read { cause, .. }
            | Self::Write { cause, .. }
            | Self::Sync { cause, .. }
            | Self::Extents { cause, .. } => Some(cause),
            Self::NotBlocks { .. }
            | Self::Outside { .. }
            | Self::ExtentsDisordered { .. }
            | Self::OtherFilesystem { .. } => None,
        }
    }

    /// Whether the place ran out of space.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.io()
            .and_then(Errno::from_io_error)
            .is_some_and(|errno| errno == Errno::NOSPC || errno == Errno::DQUOT)
    }
}

impl Failure for BlockIoError {
    fn code(&self) -> &'static str {
        match self {
            _ if self.is_full() => "block-io.full",
            Self::Open { .. } => "block-io.open",
            Self::NotBlocks { .. } => "block-io.not-blocks",
            Self::Outside { .. } => "block-io.outside",
            Self::Read { .. } => "block-io.read",
            Self::Write { .. } => "block-io.write",
            Self::Sync { .. } => "block-io.sync",
            Self::Extents { .. } => "block-io.extents",
            Self::ExtentsDisordered { .. } => "block-io.extents-disordered",
            Self::OtherFilesystem { .. } => "block-io.other-filesystem",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Open { .. } | Self::NotBlocks { .. } | Self::OtherFilesystem { .. } => Remedy::FixRequest,
            Self::Outside { .. } => Remedy::Bug,
            Self::Read { .. }
            | Self::Write { .. }
            | Self::Sync { .. }
            | Self::Extents { .. }
            | Self::ExtentsDisordered { .. } => Remedy::FixSurroundings,
        }
    }

    fn advice(&self) -> String {
        match self {
            _ if self.is_full() => "free space where it lies, or give it a larger place, and run this again".to_owned(),
            Self::Open { .. } => "check that the path is right, that it may be opened, and that no other program holds the device".to_owned(),
            Self::NotBlocks { .. } => "name an image file or a block device".to_owned(),
            Self::Outside { .. } => "report this: the program asked for bytes that cannot exist".to_owned(),
            Self::Read { .. } => "look for disk errors in the kernel's log; the data there could not be read".to_owned(),
            Self::Write { .. } | Self::Sync { .. } => {
                "look for disk errors in the kernel's log and for read-only mounts; what was written may be incomplete".to_owned()
            }
            Self::Extents { .. } | Self::ExtentsDisordered { .. } => {
                "the filesystem below cannot tell what changed; a full scan by content still can".to_owned()
            }
            Self::OtherFilesystem { .. } => "compare two snapshots of the same pool".to_owned(),
        }
    }
}
