//! Why something could not be imported.

use std::path::PathBuf;

use strongroom_model::{Failure, NameError, Remedy};
use strongroom_repository::store::StoreError;

/// An import failed. Points that were published before stay.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// No password for the restic repository.
    #[error("no password was given for the restic repository")]
    NoPassword,
    /// The password file.
    #[error("reading the password file {}", path.display())]
    Password {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// Neither a folder nor a bucket.
    #[error("{place:?} is no place for a restic repository: {reason}")]
    Place {
        /// What was given.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// None of its keys opens with the password.
    #[error("the password does not open the restic repository {place}")]
    WrongPassword {
        /// Where it is.
        place: String,
    },
    /// There is no restic repository, or what opens it is damaged.
    #[error("opening the restic repository {place}: {what}")]
    Open {
        /// Where it is.
        place: String,
        /// What was seen.
        what: String,
    },
    /// The store that holds it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Snapshots or folders in it cannot be read.
    #[error("reading {what} of the restic repository: {why}")]
    Read {
        /// Which part.
        what: String,
        /// What was seen.
        why: String,
    },
    /// The reading of the restic repository panicked.
    #[error("the restic repository cannot be read: its reader broke off with {what:?}")]
    Broken {
        /// What the panic said.
        what: String,
    },
    /// No snapshot has such a file.
    #[error("no snapshot has {what}")]
    Nothing {
        /// What was looked for.
        what: String,
    },
    /// More than a plan can hold.
    #[error("there are more than {most} images")]
    TooMany {
        /// How many it can hold.
        most: usize,
    },
    /// Two files would become points of one volume.
    #[error("{one} and {other} would both become points of the volume {volume}")]
    SameName {
        /// One path.
        one: String,
        /// The other.
        other: String,
        /// The name.
        volume: String,
    },
    /// `--volume` with several files.
    #[error("--volume names one volume, and {count} files are to be imported (counted by host and path)")]
    OneName {
        /// How many.
        count: usize,
    },
    /// A path cannot be the name of a volume.
    #[error("{path} cannot give a volume its name")]
    Name {
        /// Which.
        path: String,
        /// Why.
        #[source]
        cause: NameError,
    },
}

impl Failure for ImportError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoPassword => "import.no-password",
            Self::Password { .. } => "import.password-file",
            Self::Place { .. } => "import.place",
            Self::WrongPassword { .. } => "import.wrong-password",
            Self::Open { .. } => "import.open",
            Self::Store(cause) => cause.code(),
            Self::Read { .. } => "import.read",
            Self::Broken { .. } => "import.broken",
            Self::Nothing { .. } => "import.nothing",
            Self::TooMany { .. } => "import.too-many",
            Self::SameName { .. } => "import.same-name",
            Self::OneName { .. } => "import.one-name",
            Self::Name { .. } => "import.name",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Store(cause) => cause.remedy(),
            Self::Read { .. } | Self::Broken { .. } => Remedy::FixData,
            Self::Password { .. } => Remedy::FixSurroundings,
            _ => Remedy::FixRequest,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::NoPassword => "Give --restic-password-file, or set RESTIC_PASSWORD_FILE or RESTIC_PASSWORD.",
            Self::Password { .. } => "Check the path and its rights.",
            Self::Place { .. } => "Give a folder, s3://bucket/prefix, or s3:https://host/bucket/prefix as restic writes it. What lies elsewhere is copied into a folder first: `restic copy`, or any tool that copies all of its files.",
            Self::WrongPassword { .. } => "Give the password with which `restic -r <place> snapshots` works.",
            Self::Open { .. } => "Check the place: `restic -r <place> snapshots` must work.",
            Self::Store(cause) => return cause.advice(),
            Self::Read { .. } | Self::Broken { .. } => "Run `restic check --read-data`; what it finds damaged cannot be imported. Leave that file out with --path, or that snapshot by `restic forget`.",
            Self::Nothing { .. } => "`restic snapshots` and `restic ls <snapshot>` show what there is; --path takes a file's whole path as it is there, --min-size a smaller limit. Folders of files are no images: restore them with restic onto a volume, and back that up.",
            Self::TooMany { .. } => "Import some of them with --path or --host, then others.",
            Self::SameName { .. } => "Import them one after the other with --path, --host and --volume.",
            Self::OneName { .. } => "Choose one file with --path and --host.",
            Self::Name { .. } => "Choose a name with --volume.",
        }
        .to_owned()
    }
}
