//! Why something that concerns key domains was not done.

use strongroom_model::{Failure, Remedy, VolumeName};

use super::{JournalError, KeysError};

/// Why something that concerns key domains was not done.
#[derive(Debug, thiserror::Error)]
pub enum DomainError {
    /// The repository was not made to be shared.
    #[error("this repository is not shared by key domains")]
    NotShared,
    /// Only the operator can do this.
    #[error("only the operator of the repository can do this, with a key that grants everything; this is {}", whose(*domain))]
    NotOperator {
        /// Whose key is in use.
        domain: u32,
    },
    /// There is no such domain.
    #[error("no domain {asked:?} shares this repository")]
    Unknown {
        /// What was asked for.
        asked: String,
    },
    /// The name is in use.
    #[error("there is a domain {name:?} already")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The name is too long.
    #[error("the name of the domain is too long")]
    NameTooLong,
    /// All numbers are used.
    #[error("a repository is shared by at most 4095 domains")]
    TooMany,
    /// What a domain needs cannot be known.
    #[error("the structure of domain {domain} cannot be opened, so nobody knows what its points need")]
    NoStructure {
        /// Which domain.
        domain: u32,
    },
    /// The volume was backed up in another domain before.
    #[error("this machine has backed up {volume} in domain {from}, and this is a key of domain {to}")]
    Moved {
        /// Which volume.
        volume: VolumeName,
        /// Where it was.
        from: u32,
        /// Where it would go.
        to: u32,
        /// The file that says so.
        note: String,
    },
    /// The point is another domain's.
    #[error("{point} belongs to domain {domain}, and this key does not open it")]
    OthersPoint {
        /// Which point.
        point: strongroom_model::RecoveryPointId,
        /// Whose it is.
        domain: u32,
    },
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

fn whose(domain: u32) -> String {
    if domain == 0 { "a write-only key of theirs".to_owned() } else { format!("a key of domain {domain}") }
}

impl Failure for DomainError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotShared => "domain.not-shared",
            Self::NotOperator { .. } => "domain.not-operator",
            Self::Unknown { .. } => "domain.unknown",
            Self::NameTaken { .. } => "domain.name-taken",
            Self::NameTooLong => "domain.name-too-long",
            Self::TooMany => "domain.too-many",
            Self::NoStructure { .. } => "domain.no-structure",
            Self::Moved { .. } => "domain.moved",
            Self::OthersPoint { .. } => "domain.others-point",
            Self::Keys(cause) => cause.code(),
            Self::Journal(cause) => cause.code(),
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::NotShared
            | Self::NotOperator { .. }
            | Self::Unknown { .. }
            | Self::NameTaken { .. }
            | Self::NameTooLong
            | Self::TooMany
            | Self::Moved { .. }
            | Self::OthersPoint { .. } => Remedy::FixRequest,
            Self::NoStructure { .. } => Remedy::FixSurroundings,
            Self::Keys(cause) => cause.remedy(),
            Self::Journal(cause) => cause.remedy(),
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::NotShared => {
                "Make a repository with `strongroom init --shared`: that is decided once, since the journal must never have held \
                 names that others can read."
            }
            Self::NotOperator { .. } => {
                "Nothing is wrong with this key: the operator adds domains and sweeps for all of them."
            }
            Self::Unknown { .. } => "See `strongroom repository domain list`.",
            Self::NameTaken { .. } => "Choose another name.",
            Self::NameTooLong => "Choose a shorter name.",
            Self::TooMany => "Make another repository.",
            Self::NoStructure { .. } => {
                "Look whether its slot under keys/ is there and whole; an owner of the domain makes a new one with `strongroom \
                 repository key rotate`. Until then nothing is swept."
            }
            Self::Moved { note, .. } => {
                return format!(
                    "Use the key of the domain that it was in. If it shall move: its older points stay with that domain and are \
                     forgotten there; take the volume out of {note} and run it again, and the first backup stores all of it."
                );
            }
            Self::OthersPoint { .. } => "Use a key of that domain.",
            Self::Keys(cause) => return cause.advice(),
            Self::Journal(cause) => return cause.advice(),
        }
        .to_owned()
    }
}
