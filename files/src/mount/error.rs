//! Why a point cannot be mounted, or unmounted.

use std::io;
use std::path::PathBuf;

use strongroom_model::{Failure, Remedy};

use crate::error::FilesError;

/// Why a point cannot be mounted, or unmounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The image is refused.
    #[error(transparent)]
    Image(#[from] FilesError),
    /// The directory cannot be mounted on.
    #[error("{} cannot be mounted on", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the machine said.
        #[source]
        cause: io::Error,
    },
    /// Something is mounted there.
    #[error("something is mounted on {} already", path.display())]
    Taken {
        /// Where.
        path: PathBuf,
    },
    /// Not root, or no FUSE.
    #[error("mounting needs root and /dev/fuse")]
    NotHere,
    /// No private folder.
    #[error("making a private folder for the image")]
    Folder {
        /// What the machine said.
        #[source]
        cause: io::Error,
    },
    /// The kernel will not have FUSE.
    #[error("serving the image over FUSE")]
    Fuse {
        /// What the machine said.
        #[source]
        cause: io::Error,
    },
    /// A program is missing.
    #[error("starting `{program}`")]
    Program {
        /// Which.
        program: &'static str,
        /// What the machine said.
        #[source]
        cause: io::Error,
    },
    /// The kernel will not mount it.
    #[error("mounting on {} failed: {said}", path.display())]
    Refused {
        /// Where.
        path: PathBuf,
        /// What `mount` said.
        said: String,
    },
    /// The checker found something.
    #[error("{program} finds the filesystem damaged: {said}")]
    CheckFailed {
        /// Which checker.
        program: &'static str,
        /// The end of what it said.
        said: String,
    },
    /// No mount of ours is there.
    #[error("no recovery point is mounted on {}", path.display())]
    NotOurs {
        /// Where.
        path: PathBuf,
    },
    /// Somebody uses it.
    #[error("{} cannot be unmounted: {said}", path.display())]
    InUse {
        /// Where.
        path: PathBuf,
        /// What `umount` said.
        said: String,
    },
    /// The kernel's table cannot be read.
    #[error("reading what is mounted")]
    Table {
        /// What the machine said.
        #[source]
        cause: io::Error,
    },
}

impl Failure for MountError {
    fn code(&self) -> &'static str {
        match self {
            Self::Image(cause) => cause.code(),
            Self::Directory { .. } => "files.mount-directory",
            Self::Taken { .. } => "files.mount-taken",
            Self::NotHere => "files.mount-not-here",
            Self::Folder { .. } => "files.mount-folder",
            Self::Fuse { .. } => "files.mount-fuse",
            Self::Program { .. } => "files.mount-program",
            Self::Refused { .. } => "files.mount-refused",
            Self::CheckFailed { .. } => "files.check-failed",
            Self::NotOurs { .. } => "files.not-mounted",
            Self::InUse { .. } => "files.mount-in-use",
            Self::Table { .. } => "files.mount-table",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Image(cause) => cause.remedy(),
            Self::CheckFailed { .. } => Remedy::FixData,
            Self::InUse { .. } => Remedy::Wait,
            Self::Taken { .. } | Self::NotOurs { .. } => Remedy::FixRequest,
            _ => Remedy::FixSurroundings,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Image(cause) => cause.advice(),
            Self::Directory { .. } => "Name a directory that exists.".into(),
            Self::Taken { .. } => "Choose another directory.".into(),
            Self::NotHere => {
                "`strongroom files ls`, `find` and `cp` need neither. Otherwise run it as root, and load the kernel's module \
                 `fuse`; a container needs --device /dev/fuse and CAP_SYS_ADMIN."
                    .into()
            }
            Self::Folder { .. } => "Check space and rights of the folder for temporary files (TMPDIR).".into(),
            Self::Fuse { .. } => {
                "Check that this kernel has FUSE and that the container may mount; `strongroom files cp` needs neither.".into()
            }
            Self::Program { .. } => "Install it: util-linux and mount, e2fsprogs, xfsprogs or btrfs-progs.".into(),
            Self::Refused { .. } => {
                "The kernel's log (`dmesg`) says more. `strongroom files ls` and `cp` read ext4 and XFS without it.".into()
            }
            Self::CheckFailed { .. } => {
                "It was backed up like that. Without --check it is mounted all the same, read-only; another point may be whole.".into()
            }
            Self::NotOurs { .. } => "`findmnt` shows what is mounted where.".into(),
            Self::InUse { .. } => {
                "End what uses it (`fuser -vm DIR` shows what), or add --detach: then it goes out of sight now.".into()
            }
            Self::Table { .. } => "Check that /proc is mounted.".into(),
        }
    }
}
