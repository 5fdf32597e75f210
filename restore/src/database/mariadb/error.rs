//! Why a replay fails.

use std::io;
use std::path::PathBuf;

use strongroom_archive::ArchiveError;
use strongroom_database::Position;
use strongroom_database::mariadb::{ReadError, Unreplayable};
use strongroom_mariadb::MariadbError;
use strongroom_model::{Failure, Remedy};

/// The copy could not be brought to its stop.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A program is missing.
    #[error("MariaDB's program {name} is not on this machine")]
    NoPrograms {
        /// Which.
        name: &'static str,
    },
    /// Its files are of root.
    #[error("{} belongs to root, as whom MariaDB does not run", data.display())]
    OwnedByRoot {
        /// The data folder.
        data: PathBuf,
    },
    /// Its server would write outside of the copy.
    #[error("{} of the copy leads to {}, where the live database may be", path.display(), to.display())]
    LeadsOutside {
        /// Which link or file.
        path: PathBuf,
        /// Where it leads.
        to: PathBuf,
    },
    /// A file or folder of the restore.
    #[error("{}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A program cannot be run.
    #[error("running {name}")]
    Program {
        /// Which.
        name: &'static str,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The server ended before its time.
    #[error("the copy's server ended: {words}")]
    Ended {
        /// What it said.
        words: String,
    },
    /// The server did not take the log.
    #[error("{name} stopped: {words}")]
    Refused {
        /// Which program.
        name: &'static str,
        /// What it said.
        words: String,
    },
    /// The server answers otherwise than it should.
    #[error("asking the copy's server")]
    Server(#[from] MariadbError),
    /// A stretch of log is not what its record says.
    #[error("the log from {from} to {to} has other bytes than it says")]
    Damaged {
        /// From here.
        from: Position,
        /// To here.
        to: Position,
    },
    /// The archived log cannot be had.
    #[error("the archived log")]
    Archive(#[source] ArchiveError),
    /// The archived log cannot be read.
    #[error("the archived log")]
    Log(#[source] ReadError),
    /// The archived log does not say what is replayed.
    #[error("what is replayed")]
    Scan(#[from] Unreplayable),
    /// The copy has not what it should.
    #[error("the copy has committed {found:?}, the plan says {wanted:?}")]
    Unproved {
        /// What the plan says.
        wanted: String,
        /// What the copy says.
        found: String,
    },
    /// The program ends.
    #[error("this program is ending")]
    Ending,
}

impl Failure for ReplayError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoPrograms { .. } => "replay.no-programs",
            Self::OwnedByRoot { .. } => "replay.owned-by-root",
            Self::LeadsOutside { .. } => "replay.leads-outside",
            Self::Folder { .. } => "replay.folder",
            Self::Program { .. } => "replay.program",
            Self::Ended { .. } => "replay.ended",
            Self::Refused { .. } => "replay.refused",
            Self::Server(_) => "replay.server",
            Self::Damaged { .. } => "replay.damaged",
            Self::Archive(cause) => cause.code(),
            Self::Log(_) => "replay.log",
            Self::Scan(_) => "replay.scan",
            Self::Unproved { .. } => "replay.unproved",
            Self::Ending => "replay.ending",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Damaged { .. } | Self::Log(_) | Self::Scan(_) | Self::Refused { .. } => Remedy::FixData,
            Self::Archive(cause) => cause.remedy(),
            Self::Unproved { .. } => Remedy::Bug,
            Self::Ending => Remedy::Retry,
            _ => Remedy::FixSurroundings,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::NoPrograms { .. } => "Install MariaDB's server and client of the same version, or say with --programs where they are.".into(),
            Self::OwnedByRoot { .. } => "Give the files to the user as whom the server runs.".into(),
            Self::LeadsOutside { .. } => "No server was started. Tables outside of the data folder are not restored by `db` commands: bring the volumes back by `restore run`, and put the links right yourself.".into(),
            Self::Folder { .. } => "Check space and rights there.".into(),
            Self::Program { .. } => "Check that it can be run.".into(),
            Self::Ended { .. } | Self::Server(_) => "The live database was not touched. The words are the server's own: look at them; another target or base may work.".into(),
            Self::Refused { .. } => "The live database was not touched, and the copy is not what was asked for: do not use it. A target before the transaction that is named may work.".into(),
            Self::Damaged { .. } | Self::Log(_) | Self::Scan(_) => "Run `strongroom repository check --read-data`; another base may reach the target.".into(),
            Self::Archive(cause) => cause.advice(),
            Self::Unproved { .. } => "The copy is not what was asked for: do not use it. Report it.".into(),
            Self::Ending => "Run it again.".into(),
        }
    }
}
