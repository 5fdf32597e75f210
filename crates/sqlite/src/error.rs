//! Why a SQLite database cannot be followed, or put together again.

use std::io;
use std::path::PathBuf;

use strongroom_log_spool::SpoolError;
use strongroom_model::{Failure, Remedy};

use crate::{RecordError, WalError};

/// Why a SQLite database cannot be followed, or put together again.
#[derive(Debug, thiserror::Error)]
pub enum SqliteError {
    /// There is no such file.
    #[error("there is no SQLite database {}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Its volume is mounted nowhere.
    #[error("the volume of the SQLite database is not mounted here")]
    NotMounted,
    /// It is in another journal mode.
    #[error("the SQLite database {} is in journal mode {mode:?}", path.display())]
    NotWal {
        /// The database.
        path: PathBuf,
        /// Which.
        mode: String,
    },
    /// SQLite refused.
    #[error("{doing} the SQLite database {}", path.display())]
    Refused {
        /// What was done.
        doing: &'static str,
        /// The database.
        path: PathBuf,
        /// What it said.
        #[source]
        cause: rusqlite::Error,
    },
    /// A file could not be read or written.
    #[error("{}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// What is needed next is gone.
    #[error("the write-ahead log of {} was begun anew before all of it was read: {what}", path.display())]
    Gap {
        /// The database.
        path: PathBuf,
        /// What was seen.
        what: &'static str,
    },
    /// It could not be read although it is held.
    #[error("the write-ahead log of {}", path.display())]
    Log {
        /// The database.
        path: PathBuf,
        /// What was seen.
        #[source]
        cause: WalError,
    },
    /// The log is of another file.
    #[error("the archived log is of {expected:?}, the configuration names {found:?}")]
    OtherDatabase {
        /// What the log was begun with.
        expected: String,
        /// What the configuration says.
        found: String,
    },
    /// What is archived is no log of SQLite.
    #[error("the archived log")]
    Record(#[from] RecordError),
    /// What was put together is not what was planned.
    #[error("the restored database {} is not what was planned: {what}", path.display())]
    Differs {
        /// The database.
        path: PathBuf,
        /// What was seen.
        what: String,
    },
    /// A table that cannot be written as SQL.
    #[error("the SQLite database {} is not dumped: {what}", path.display())]
    NotDumped {
        /// The database.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// What came cannot be kept.
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

impl SqliteError {
    /// Whether log is lost, so that what comes has to be another log.
    #[must_use]
    pub const fn is_gap(&self) -> bool {
        match self {
            Self::Gap { .. } => true,
            Self::Spool(cause) => cause.is_gap(),
            _ => false,
        }
    }
}

impl Failure for SqliteError {
    fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "sqlite.missing",
            Self::NotMounted => "sqlite.not-mounted",
            Self::NotWal { .. } => "sqlite.not-wal",
            Self::Refused { .. } => "sqlite.refused",
            Self::File { .. } => "sqlite.file",
            Self::Gap { .. } => "sqlite.gap",
            Self::Log { .. } => "sqlite.log",
            Self::OtherDatabase { .. } => "sqlite.other-database",
            Self::Record(_) => "sqlite.record",
            Self::Differs { .. } => "sqlite.differs",
            Self::NotDumped { .. } => "sqlite.not-dumped",
            Self::Spool(cause) => cause.code(),
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Missing { .. } | Self::NotMounted => Remedy::Wait,
            Self::Refused { .. } | Self::Log { .. } => Remedy::Retry,
            Self::Gap { .. } | Self::Record(_) | Self::Differs { .. } => Remedy::FixData,
            Self::NotDumped { .. } => Remedy::FixRequest,
            Self::NotWal { .. } | Self::File { .. } | Self::OtherDatabase { .. } => Remedy::FixSurroundings,
            Self::Spool(cause) => cause.remedy(),
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Missing { .. } => "Check `path` of the database: it is counted from the root of the volume. It is tried again by itself.".into(),
            Self::NotMounted => "It is followed as soon as the volume is mounted. The agent has to see the mounts of the volume driver: in a container, share the host's mount namespace.".into(),
            Self::NotWal { .. } => "Run `PRAGMA journal_mode=WAL;` on it once: without a write-ahead log it can be snapshotted, and not restored to any second.".into(),
            Self::Refused { .. } => "See what SQLite says. A database in `locking_mode=EXCLUSIVE` cannot be followed. It is tried again by itself.".into(),
            Self::File { .. } => "Check the disk, and that the agent may read and write there.".into(),
            Self::Gap { .. } => "A new log begins by itself, and a new base is taken: the restorable window has a gap here. It is the agent's absence as a rule.".into(),
            Self::Log { .. } => "It is tried again by itself. If it stays, run `PRAGMA integrity_check` on the database.".into(),
            Self::OtherDatabase { .. } => "Give the database another `name` in the configuration, so that its log does not mix with that of the old one.".into(),
            Self::Record(_) => "It was written by a newer version, or is damaged: run `strongroom repository check --read-data`.".into(),
            Self::Differs { .. } => "Do not use it. Restore to another moment or from another base, and report it: base and log are checked by their sums.".into(),
            Self::NotDumped { .. } => "Look with `strongroom db restore --sql \"SELECT name FROM sqlite_schema\"` what there is. Virtual tables are taken along by `strongroom db clone`.".into(),
            Self::Spool(cause) => cause.advice(),
        }
    }
}
