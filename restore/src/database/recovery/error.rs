//! Why a recovery fails.

use std::io;
use std::path::PathBuf;

use strongroom_database::Stop;
use strongroom_model::{Failure, NameError, Remedy};

/// The copy could not be brought to its stop.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// There is no database in the folder.
    #[error("{} is no data folder of the database", data.display())]
    NotADatabase {
        /// Which.
        data: PathBuf,
        /// What the machine said.
        #[source]
        cause: io::Error,
    },
    /// Its version is not understood.
    #[error("the data folder is of version {version:?}")]
    UnknownVersion {
        /// What it says.
        version: String,
    },
    /// The programs are missing.
    #[error("the programs of PostgreSQL {version} are not on this machine")]
    NoPrograms {
        /// Which version.
        version: String,
    },
    /// The files are those of root, as whom no server runs.
    #[error("{} belongs to root, as whom PostgreSQL does not run", data.display())]
    OwnedByRoot {
        /// Which folder.
        data: PathBuf,
    },
    /// Its server would write outside of the copy.
    #[error("{} of the copy leads to {}, where the live database may be", path.display(), to.display())]
    LeadsOutside {
        /// Which link.
        path: PathBuf,
        /// Where it leads.
        to: PathBuf,
    },
    /// A folder or file cannot be used.
    #[error("preparing {}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the machine said.
        #[source]
        cause: io::Error,
    },
    /// A program cannot be started.
    #[error("starting {name}")]
    Program {
        /// Which.
        name: &'static str,
        /// What the machine said.
        #[source]
        cause: io::Error,
    },
    /// The server ended before it reached the stop.
    #[error("the server ended before it was where it should stop: {words}")]
    Ended {
        /// What it said.
        words: String,
    },
    /// The server does not go on.
    #[error("the server does not go on: {words}")]
    Stuck {
        /// What it said.
        words: String,
    },
    /// The log of the plan cannot be laid out.
    #[error(transparent)]
    Segments(strongroom_database::postgres::Missing),
    /// A bundle has fewer bytes than positions.
    #[error("the archived log lacks bytes between {from} and {to}")]
    ShortLog {
        /// From here.
        from: strongroom_database::Position,
        /// To here.
        to: strongroom_database::Position,
    },
    /// The usual name of the new volume is none.
    #[error("the new volume has no name")]
    Name {
        /// Why.
        #[source]
        cause: NameError,
    },
    /// The base is a snapshot of the pool.
    #[error("the base is a snapshot of the pool, which is not restored from here")]
    NotAPoint,
    /// A task was ended with the program.
    #[error("the program is ending")]
    Ending,
    /// The server stopped anywhere else.
    #[error("the server should stop {wanted:?} and says: {words}")]
    Elsewhere {
        /// Where it should.
        wanted: Stop,
        /// What it said.
        words: String,
    },
}

impl Failure for RecoveryError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotADatabase { .. } => "database.not-a-database",
            Self::UnknownVersion { .. } => "database.unknown-version",
            Self::NoPrograms { .. } => "database.no-programs",
            Self::OwnedByRoot { .. } => "database.owned-by-root",
            Self::LeadsOutside { .. } => "database.leads-outside",
            Self::Folder { .. } => "database.folder",
            Self::Program { .. } => "database.program",
            Self::Ended { .. } => "database.recovery-ended",
            Self::Stuck { .. } => "database.recovery-stuck",
            Self::Segments(_) => "database.segment-missing",
            Self::ShortLog { .. } => "database.log-short",
            Self::Name { .. } => "database.volume-name",
            Self::NotAPoint => "database.not-a-point",
            Self::Ending => "database.ending",
            Self::Elsewhere { .. } => "database.recovery-elsewhere",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::NotADatabase { .. } | Self::Name { .. } => Remedy::FixRequest,
            Self::Elsewhere { .. } => Remedy::Bug,
            Self::Ended { .. } | Self::Segments(_) | Self::ShortLog { .. } => Remedy::FixData,
            Self::NotAPoint => Remedy::Bug,
            Self::Ending => Remedy::Retry,
            _ => Remedy::FixSurroundings,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::NotADatabase { .. } => "Say with --data-directory where in the volume the database lies.".into(),
            Self::UnknownVersion { .. } => "Versions 13 to 17 are known.".into(),
            Self::NoPrograms { version } => {
                format!("Install PostgreSQL {version} (only the programs are needed), or say with --programs where they are.")
            }
            Self::OwnedByRoot { .. } => "Give the files to the user as whom the server runs.".into(),
            Self::LeadsOutside { .. } => "No server was started. Tablespaces and a log outside of the data folder are not restored by `db` commands: bring the volumes back by `restore run`, and put the links right yourself.".into(),
            Self::Folder { .. } => "Check space and rights there.".into(),
            Self::Program { .. } => "Check that it can be run.".into(),
            Self::Ended { .. } => "The live database was not touched. The words are the server's own: look at them; another target or base may work.".into(),
            Self::Stuck { .. } => "The live database was not touched. Look at what the server says.".into(),
            Self::Segments(_) => "Take a target after the next base.".into(),
            Self::ShortLog { .. } => "Run `strongroom repository check --read-data`; another base may reach the target.".into(),
            Self::Name { .. } => "Say with --to-volume how it is to be called.".into(),
            Self::NotAPoint => "Report it.".into(),
            Self::Ending => "Run it again.".into(),
            Self::Elsewhere { .. } => "The copy is not what was asked for: do not use it. Report it.".into(),
        }
    }
}
