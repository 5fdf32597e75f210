//! Why PostgreSQL's log cannot be received.

use std::path::PathBuf;

use strongroom_database::{LineageId, Position};
use strongroom_log_spool::SpoolError;
use strongroom_model::{Failure, Remedy};

use crate::handover::HandoverError;

/// Why something could not be had of a PostgreSQL server, or not be kept of what it sent.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// Nobody answers.
    #[error("connecting to PostgreSQL at {place}")]
    Unreachable {
        /// Host or socket, and port.
        place: String,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
    /// The connection broke.
    #[error("the connection to PostgreSQL at {place} broke")]
    Broken {
        /// Host or socket, and port.
        place: String,
        /// What was seen.
        #[source]
        cause: std::io::Error,
    },
    /// It said nothing for too long.
    #[error("PostgreSQL at {place} said nothing for {seconds} seconds")]
    Silent {
        /// Host or socket, and port.
        place: String,
        /// How long.
        seconds: u64,
    },
    /// TLS is wanted and cannot be had.
    #[error("no encrypted connection to PostgreSQL at {place}: {reason}")]
    NotEncrypted {
        /// Host or socket, and port.
        place: String,
        /// What was seen.
        reason: String,
    },
    /// It does not let us in.
    #[error("PostgreSQL at {place} does not let {user:?} in: {reason}")]
    NotLetIn {
        /// Host or socket, and port.
        place: String,
        /// Whom.
        user: String,
        /// What it said, or what we do not do.
        reason: String,
    },
    /// A password is asked for and there is none.
    #[error("PostgreSQL at {place} asks {user:?} for a password")]
    NoPassword {
        /// Host or socket, and port.
        place: String,
        /// Whom.
        user: String,
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
    #[error("PostgreSQL refused {what}: {message} (SQLSTATE {state})")]
    Refused {
        /// What was asked for.
        what: String,
        /// Five letters and digits.
        state: String,
        /// What it said.
        message: String,
    },
    /// It sent what the protocol does not have at this place.
    #[error("PostgreSQL at {place} does not speak the protocol: {what}")]
    Protocol {
        /// Host or socket, and port.
        place: String,
        /// What was seen.
        what: String,
    },
    /// Too old.
    #[error("PostgreSQL {version} is too old: 13 is the oldest that is supported")]
    TooOld {
        /// As it says itself.
        version: String,
    },
    /// Another cluster answers where this one was.
    #[error(
        "another cluster answers: its system identifier is {found}, the log that is archived is of {expected}"
    )]
    OtherCluster {
        /// What the log was begun with.
        expected: u64,
        /// What answers.
        found: u64,
    },
    /// A number was used for two histories.
    #[error("the server's timeline {timeline} is another one than the one that is archived")]
    OtherHistory {
        /// Which.
        timeline: LineageId,
    },
    /// The server no longer has what comes next.
    #[error("the server no longer has its log from {from} on timeline {timeline}: {message}")]
    Gap {
        /// The next byte that is needed.
        from: Position,
        /// Its timeline.
        timeline: LineageId,
        /// What the server said.
        message: String,
    },
    /// The server is behind what was received: it was put back to an older state, or is another history.
    #[error("the server's log ends at {server}, before {ours}, which was received from it already")]
    Behind {
        /// Where the server is.
        server: Position,
        /// What was received.
        ours: Position,
    },
    /// A position that does not follow.
    #[error("the server sent its log from {found}, expected was {expected}")]
    NotNext {
        /// Where the stream was.
        expected: Position,
        /// What came.
        found: Position,
    },
    /// The server hands over no segments.
    #[error("PostgreSQL at {place} hands over no segments: archive_mode is off")]
    NotArchiving {
        /// Host or socket, and port.
        place: String,
    },
    /// The server is in a timeline of which it is not known how it came about.
    #[error("the server is in timeline {timeline}, and {timeline:08X}.history was not handed over yet", timeline = timeline.0)]
    NoHistory {
        /// Which.
        timeline: LineageId,
    },
    /// What came cannot be kept.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// What was handed over cannot be taken.
    #[error(transparent)]
    Handover(#[from] HandoverError),
}

impl PostgresError {
    /// Whether log is lost, so that what comes has to be another log.
    #[must_use]
    pub const fn is_gap(&self) -> bool {
        match self {
            Self::Gap { .. } => true,
            Self::Spool(cause) => cause.is_gap(),
            _ => false,
        }
    }

    /// Whether trying again may help without anybody doing anything.
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(self.remedy(), Remedy::Retry)
    }
}

impl Failure for PostgresError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "postgres.unreachable",
            Self::Broken { .. } => "postgres.broken",
            Self::Silent { .. } => "postgres.silent",
            Self::NotEncrypted { .. } => "postgres.not-encrypted",
            Self::NotLetIn { .. } => "postgres.not-let-in",
            Self::NoPassword { .. } => "postgres.no-password",
            Self::PasswordFile { .. } => "postgres.password-file",
            Self::Refused { .. } => "postgres.refused",
            Self::Protocol { .. } => "postgres.protocol",
            Self::TooOld { .. } => "postgres.too-old",
            Self::OtherCluster { .. } => "postgres.other-cluster",
            Self::OtherHistory { .. } => "postgres.other-history",
            Self::Gap { .. } => "postgres.gap",
            Self::Behind { .. } => "postgres.behind",
            Self::NotNext { .. } => "postgres.not-next",
            Self::NotArchiving { .. } => "postgres.not-archiving",
            Self::NoHistory { .. } => "postgres.no-history",
            Self::Spool(cause) => cause.code(),
            Self::Handover(cause) => cause.code(),
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } | Self::Silent { .. } => Remedy::Retry,
            // A server that starts, stops or has no free place says so with a class of its own.
            Self::Refused { state, .. } if state.starts_with("57P0") || state.starts_with("53") => {
                Remedy::Retry
            }
            Self::NotNext { .. } | Self::Protocol { .. } => Remedy::Bug,
            Self::Gap { .. } => Remedy::FixData,
            Self::NoHistory { .. } => Remedy::Wait,
            Self::Spool(cause) => cause.remedy(),
            Self::Handover(cause) => cause.remedy(),
            _ => Remedy::FixSurroundings,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } | Self::Silent { .. } => "Check that the server runs and can be reached from here; it is tried again by itself, and the slot keeps the log meanwhile.".into(),
            Self::NotEncrypted { .. } => "Set `ssl = on` at the server, name the authority that signed its certificate with `tls_ca`, or choose another `tls` for the database.".into(),
            Self::NotLetIn { user, .. } => format!("Check the password, and that pg_hba.conf has a line such as `hostssl replication {user} ADDRESS scram-sha-256`."),
            Self::NoPassword { .. } => "Name the file with the password as `password_file` of the database, or put a line into ~/.pgpass.".into(),
            Self::PasswordFile { .. } => "The file holds the password in its first line and is readable by its owner alone (chmod 600).".into(),
            Self::Refused { state, .. } if state == "42501" => "Give the role the right: ALTER ROLE … REPLICATION.".into(),
            Self::Refused { state, .. } if state == "53400" => "Raise max_replication_slots and max_wal_senders at the server.".into(),
            Self::Refused { .. } => "See the server's own log for the reason.".into(),
            Self::Protocol { .. } | Self::NotNext { .. } => "Check that the address is that of a PostgreSQL server and not of a pooler; else report it.".into(),
            Self::TooOld { .. } => "Upgrade the server; older ones can be snapshotted, not restored to any second.".into(),
            Self::OtherCluster { .. } => "If the database was made anew on purpose, give it another `name` in the configuration, so that its log does not mix with that of the old one.".into(),
            Self::OtherHistory { .. } => "Two copies of the database were promoted from the same state. Restore the one that is to live from the archive again: it then gets a number of its own; or give it another `name` in the configuration.".into(),
            Self::Gap { .. } => "The restorable window has a gap here. Take a new snapshot of the volume at once: what comes after it can be restored to any second again.".into(),
            Self::Behind { .. } => "The database was put back to an older state. Give it another `name` in the configuration, so that both histories stay restorable.".into(),
            Self::NotArchiving { .. } => "Set archive_mode = on and archive_command = 'strongroom db archive-wal %p --to FOLDER' at the server, which has to be started again for that. A restored copy hands over nothing until it is promoted.".into(),
            Self::NoHistory { .. } => "It comes with the first segment of that timeline; SELECT pg_switch_wal() ends one at once.".into(),
            Self::Spool(cause) => cause.advice(),
            Self::Handover(cause) => cause.advice(),
        }
    }
}
