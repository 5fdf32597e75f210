//! Why MariaDB's binary log cannot be received.

use std::path::PathBuf;

use strongroom_database::Position;
use strongroom_model::{Failure, Remedy};

/// Why something could not be had of a MariaDB server.
#[derive(Debug, thiserror::Error)]
pub enum MariadbError {
    /// Nobody answers.
    #[error("connecting to MariaDB at {place}")]
    Unreachable {
        /// Host and port, or socket.
        place: String,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
    /// The connection broke.
    #[error("the connection to MariaDB at {place} broke")]
    Broken {
        /// Host and port, or socket.
        place: String,
        /// What was seen.
        #[source]
        cause: std::io::Error,
    },
    /// It said nothing for too long.
    #[error("MariaDB at {place} said nothing for {seconds} seconds")]
    Silent {
        /// Host and port, or socket.
        place: String,
        /// How long.
        seconds: u64,
    },
    /// TLS is wanted and cannot be had.
    #[error("no encrypted connection to MariaDB at {place}: {reason}")]
    NotEncrypted {
        /// Host and port, or socket.
        place: String,
        /// What was seen.
        reason: String,
    },
    /// It does not let us in.
    #[error("MariaDB at {place} does not let {user:?} in: {reason}")]
    NotLetIn {
        /// Host and port, or socket.
        place: String,
        /// Whom.
        user: String,
        /// What it said, or what we do not do.
        reason: String,
    },
    /// The file with the password cannot be used.
    #[error("the password file {}: {reason}", path.display())]
    PasswordFile {
        /// The file.
        path: PathBuf,
        /// Why not; never what is in it.
        reason: String,
    },
    /// The server refused a command.
    #[error("MariaDB refused {what}: {message} (error {number})")]
    Refused {
        /// What was asked for.
        what: String,
        /// Its number of the error.
        number: u16,
        /// What it said.
        message: String,
    },
    /// It sent what the protocol does not have at this place.
    #[error("MariaDB at {place} does not speak the protocol: {what}")]
    Protocol {
        /// Host and port, or socket.
        place: String,
        /// What was seen.
        what: String,
    },
    /// It cannot be archived as it is set up.
    #[error("the binary log of MariaDB at {place} cannot be archived: {reason}")]
    Unfit {
        /// Host and port, or socket.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// Another server answers where this one was.
    #[error(
        "another server answers: its history does not go on from {at}, and its server_id is {found}, not {expected}"
    )]
    OtherServer {
        /// Where what is archived ends.
        at: Position,
        /// The `server_id` with which the log was begun.
        expected: u32,
        /// The one that answers.
        found: u32,
    },
    /// The server no longer has what comes next.
    #[error("the server no longer has its binary log from {from}: {message}")]
    Gap {
        /// The next byte that is needed.
        from: Position,
        /// What the server said, or lacks.
        message: String,
    },
    /// The server has another history at the same place.
    #[error("the server has another history at {at}: {what}")]
    OtherHistory {
        /// Where it is another.
        at: Position,
        /// What was seen.
        what: String,
    },
    /// The server says that something is missing in its own binary log.
    #[error("the server noted an incident at {at}: its binary log lacks what was written")]
    Incident {
        /// Where.
        at: Position,
    },
    /// An event that does not follow, or whose sum is another.
    #[error("the server sent at {at} what cannot be: {what}")]
    NotNext {
        /// Where the stream was.
        at: Position,
        /// What came.
        what: String,
    },
}

impl MariadbError {
    /// Whether log is lost to it, so that what comes has to be another log.
    #[must_use]
    pub const fn is_gap(&self) -> bool {
        matches!(self, Self::Gap { .. } | Self::OtherHistory { .. } | Self::Incident { .. })
    }

    /// Whether trying again may help without anybody doing anything.
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(self.remedy(), Remedy::Retry)
    }
}

impl Failure for MariadbError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "mariadb.unreachable",
            Self::Broken { .. } => "mariadb.broken",
            Self::Silent { .. } => "mariadb.silent",
            Self::NotEncrypted { .. } => "mariadb.not-encrypted",
            Self::NotLetIn { .. } => "mariadb.not-let-in",
            Self::PasswordFile { .. } => "mariadb.password-file",
            Self::Refused { .. } => "mariadb.refused",
            Self::Protocol { .. } => "mariadb.protocol",
            Self::Unfit { .. } => "mariadb.unfit",
            Self::OtherServer { .. } => "mariadb.other-server",
            Self::Gap { .. } => "mariadb.gap",
            Self::OtherHistory { .. } => "mariadb.other-history",
            Self::Incident { .. } => "mariadb.incident",
            Self::NotNext { .. } => "mariadb.not-next",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } | Self::Silent { .. } => Remedy::Retry,
            // It shuts down (1053), was told to end us (1317, 1927), or has no room (1040, 1203).
            Self::Refused { number: 1053 | 1317 | 1927 | 1040 | 1203, .. } => Remedy::Retry,
            Self::NotNext { .. } | Self::Protocol { .. } => Remedy::Bug,
            Self::Gap { .. } | Self::OtherHistory { .. } | Self::Incident { .. } => Remedy::FixData,
            _ => Remedy::FixSurroundings,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } | Self::Silent { .. } => "Check that the server runs and can be reached from here; it is tried again by itself. The server keeps its binary log for `binlog_expire_logs_seconds`.".into(),
            Self::NotEncrypted { .. } => "Give the server a certificate (`ssl_cert`, `ssl_key`), name the authority that signed it with `tls_ca`, or choose another `tls` for the database.".into(),
            Self::NotLetIn { user, .. } => format!("Check the password, and that the account exists: CREATE USER {user}@'…' IDENTIFIED BY '…'. It logs in by mysql_native_password or unix_socket."),
            Self::PasswordFile { .. } => "The file holds the password in its first line and is readable by its owner alone (chmod 600).".into(),
            Self::Refused { number: 1227 | 1044 | 1045, .. } => "Give the account its rights: GRANT REPLICATION SLAVE, BINLOG MONITOR, RELOAD ON *.* TO …".into(),
            Self::Refused { .. } => "See the server's own log for the reason.".into(),
            Self::Protocol { .. } | Self::NotNext { .. } => "Check that the address is that of a MariaDB server and not of a proxy; else report it.".into(),
            Self::Unfit { .. } => "Set what the text names in the server's configuration, and start it anew.".into(),
            Self::OtherServer { .. } => "If another database was put here on purpose, give it another `name` in the configuration, so that its log does not mix with that of the old one.".into(),
            Self::Gap { .. } | Self::Incident { .. } => "The restorable window has a gap here. A new snapshot of the volume is taken at once: what comes after it can be restored to any second again.".into(),
            Self::OtherHistory { .. } => "RESET MASTER, or an older state of the database: a new log begins, and a new snapshot of the volume is taken at once.".into(),
        }
    }
}
