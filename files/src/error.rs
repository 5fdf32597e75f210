//! Why files cannot be had out of a recovery point.

use std::io;
use std::path::PathBuf;

use strongroom_model::{Failure, Remedy};

use crate::image::ImageError;

/// Why a file, a directory or a filesystem in a point cannot be read, or not be written where it was wanted.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A part of the image cannot be read from the repository.
    #[error("reading the image of the point")]
    Image(#[source] ImageError),
    /// What is read failed without saying more.
    #[error("reading the image")]
    Disk(#[source] io::Error),
    /// What is no point in any form.
    #[error("{text:?} is no recovery point: {why}")]
    NotAPoint {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// The image holds nothing that can be read here.
    #[error("the image holds {found}")]
    NoFilesystem {
        /// What was found.
        found: String,
    },
    /// The image has partitions, and none was chosen.
    #[error("the image is divided into partitions: {partitions}")]
    Partitioned {
        /// The numbers and sizes.
        partitions: String,
    },
    /// There is no such partition.
    #[error("the image has no partition {number}")]
    NoSuchPartition {
        /// Which.
        number: u32,
        /// The numbers and sizes of those there are.
        partitions: String,
    },
    /// The filesystem uses what this version does not know.
    #[error("{filesystem} in the image uses features that are not known here: {features}")]
    UnknownFeatures {
        /// Which filesystem.
        filesystem: &'static str,
        /// Their numbers or names.
        features: String,
    },
    /// The filesystem says that it is larger than what was backed up.
    #[error("the {filesystem} filesystem is larger than the image of {image_bytes} bytes")]
    LargerThanImage {
        /// Which filesystem.
        filesystem: &'static str,
        /// How large the image is.
        image_bytes: u64,
    },
    /// The filesystem in the image contradicts itself.
    #[error("the filesystem in the image is damaged: {what}")]
    Nonsense {
        /// What was seen.
        what: String,
    },
    /// The file is encrypted by the filesystem.
    #[error("it is encrypted by the filesystem, whose key is not in the image")]
    Encrypted,
    /// There is nothing of that name.
    #[error("{path} is not in the point")]
    NoSuchFile {
        /// The path, escaped.
        path: String,
    },
    /// Part of the path is no directory.
    #[error("{path} is not a directory")]
    NotADirectory {
        /// The path, escaped.
        path: String,
    },
    /// Symbolic links that lead to each other.
    #[error("{path} leads through more than 40 symbolic links")]
    TooManyLinks {
        /// The path, escaped.
        path: String,
    },
    /// Directories within directories without an end.
    #[error("{path} is nested too deeply")]
    TooDeep {
        /// The path, escaped and cut.
        path: String,
    },
    /// A path that does not begin at the root.
    #[error("{text:?} names no file in a point: after the point come a colon and a path that begins with /")]
    NotAPath {
        /// What was given.
        text: String,
    },
    /// Something is in the way.
    #[error("{} exists already", path.display())]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// The place for the copies cannot be used.
    #[error("{} is not a directory", path.display())]
    NoPlace {
        /// Where.
        path: PathBuf,
    },
    /// Only one regular file goes to standard output.
    #[error("only a single regular file can be written to standard output")]
    NotOneFile,
    /// Writing a copy failed.
    #[error("writing {}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// What the machine said.
        #[source]
        cause: io::Error,
    },
    /// Some of many could not be copied or listed.
    #[error("{count} of what was asked for could not be read; each was named above")]
    Some {
        /// How many.
        count: u64,
        /// Whether stored data is damaged, as opposed to what the filesystem held.
        damaged: bool,
    },
    /// A pattern that is too long.
    #[error("the pattern {text:?} has more than 1024 bytes")]
    Pattern {
        /// What was given.
        text: String,
    },
    /// Interrupted by a signal.
    #[error("interrupted")]
    Interrupted,
}

impl FilesError {
    /// What reading a [`Disk`](crate::disk::Disk) failed with, as it was before it became an I/O error.
    pub(crate) fn from_disk(cause: io::Error) -> Self {
        match cause.downcast::<ImageError>() {
            Ok(error) => Self::Image(error),
            Err(cause) => match cause.downcast::<Self>() {
                Ok(error) => error,
                Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => {
                    Self::Nonsense { what: "it points outside of the image".to_owned() }
                }
                Err(cause) => Self::Disk(cause),
            },
        }
    }
}

impl Failure for FilesError {
    fn code(&self) -> &'static str {
        match self {
            Self::Image(cause) => cause.code(),
            Self::Disk(_) => "files.disk",
            Self::NotAPoint { .. } => "files.not-a-point",
            Self::NoFilesystem { .. } => "files.no-filesystem",
            Self::Partitioned { .. } => "files.partitioned",
            Self::NoSuchPartition { .. } => "files.no-such-partition",
            Self::UnknownFeatures { .. } => "files.unknown-features",
            Self::LargerThanImage { .. } => "files.larger-than-image",
            Self::Nonsense { .. } => "files.filesystem-damaged",
            Self::Encrypted => "files.encrypted",
            Self::NoSuchFile { .. } => "files.no-such-file",
            Self::NotADirectory { .. } => "files.not-a-directory",
            Self::TooManyLinks { .. } => "files.too-many-links",
            Self::TooDeep { .. } => "files.too-deep",
            Self::NotAPath { .. } => "files.not-a-path",
            Self::Exists { .. } => "files.exists",
            Self::NoPlace { .. } => "files.no-place",
            Self::NotOneFile => "files.not-one-file",
            Self::Write { .. } => "files.write",
            Self::Some { .. } => "files.some-failed",
            Self::Pattern { .. } => "files.pattern",
            Self::Interrupted => "files.interrupted",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Image(cause) => cause.remedy(),
            Self::Disk(_) | Self::Write { .. } | Self::NoPlace { .. } => Remedy::FixSurroundings,
            Self::LargerThanImage { .. } | Self::Nonsense { .. } | Self::Some { damaged: true, .. } => {
                Remedy::FixData
            }
            Self::Interrupted => Remedy::Retry,
            _ => Remedy::FixRequest,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Image(cause) => cause.advice(),
            Self::Disk(_) => "Run it again.".into(),
            Self::NotAPoint { .. } => {
                "Write an id from `strongroom points list` or its beginning, NAME@latest, or NAME@TIME.".into()
            }
            Self::NoFilesystem { .. } => {
                "ext2, ext3, ext4 and XFS are read here. `strongroom files mount` also takes what the kernel knows; or bring the \
                 image back with `strongroom restore run --to-file` and open it with its own tools."
                    .into()
            }
            Self::Partitioned { .. } => "Choose one with --partition N.".into(),
            Self::NoSuchPartition { partitions, .. } => format!("It has: {partitions}."),
            Self::UnknownFeatures { .. } => {
                "Use `strongroom files mount` with a kernel that knows them, or bring the image back with `strongroom restore \
                 run --to-file`."
                    .into()
            }
            Self::LargerThanImage { .. } | Self::Nonsense { .. } => {
                "It was backed up like that. Try another point; or bring the image back with `strongroom restore run --to-file` and \
                 repair the copy with the filesystem's own tools."
                    .into()
            }
            Self::Encrypted => "Restore the volume and open the file there, with its key.".into(),
            Self::NoSuchFile { .. } => {
                "`strongroom files find POINT --name NAME` looks for it everywhere; `strongroom files versions` in other points.".into()
            }
            Self::NotADirectory { .. } | Self::TooManyLinks { .. } | Self::TooDeep { .. } => {
                "Look with `strongroom files ls`.".into()
            }
            Self::NotAPath { .. } => "Write it like rp-1a2b:/etc/passwd or db@latest:/var/lib/data.".into(),
            Self::Exists { .. } => "Choose another place, or add --force to replace it.".into(),
            Self::NoPlace { .. } => "Name a directory that exists; several things, or a directory, need one.".into(),
            Self::NotOneFile => "Name a directory to copy to instead of `-`.".into(),
            Self::Write { .. } => "Check space and rights there, then run it again.".into(),
            Self::Some { damaged: true, .. } => {
                "`strongroom repository check --read-data` says what is damaged; another point may hold these files whole.".into()
            }
            Self::Some { .. } => "What could be copied is there. The reasons above say what to do for the rest.".into(),
            Self::Pattern { .. } => "Use a shorter pattern.".into(),
            Self::Interrupted => "What was copied until then is whole. Run it again.".into(),
        }
    }
}
