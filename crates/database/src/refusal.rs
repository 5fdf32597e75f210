//! Why a state cannot be restored, and which ones near it can.

use jiff::Timestamp;
use serde::Serialize;
use strongroom_model::{Failure, Remedy};

use crate::{Commit, Gap, LineageId, Position, TransactionId};

/// A state that can be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RestorablePoint {
    /// In which history.
    pub lineage: LineageId,
    /// Where in the log.
    pub position: Position,
    /// When.
    pub at: Timestamp,
}

impl std::fmt::Display for RestorablePoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (position {} of lineage {})", self.at, self.position, self.lineage)
    }
}

/// The restorable states around one that is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Nearest {
    /// The last one before.
    pub before: Option<RestorablePoint>,
    /// The first one after.
    pub after: Option<RestorablePoint>,
}

impl Nearest {
    fn advice(&self) -> String {
        match (self.before, self.after) {
            (Some(before), Some(after)) => {
                format!("The nearest that can be restored are {before} and {after}.")
            }
            (Some(before), None) => format!("The newest that can be restored is {before}."),
            (None, Some(after)) => format!("The oldest that can be restored is {after}."),
            (None, None) => {
                "Nothing of it can be restored yet: a base and the log behind it are needed.".into()
            }
        }
    }
}

/// One of several places that could be meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// In which history.
    pub lineage: LineageId,
    /// What begins before this position is in.
    pub position: Position,
    /// The last commit that is in.
    pub last_kept: Option<Commit>,
    /// The first that is not.
    pub first_dropped: Option<Commit>,
    /// Base and log for it are there.
    pub restorable: bool,
}

impl std::fmt::Display for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "position {} of lineage {}", self.position, self.lineage)?;
        match (self.last_kept, self.first_dropped) {
            (Some(kept), Some(dropped)) => write!(f, " (between commits of {} and {})", kept.at, dropped.at)?,
            (Some(kept), None) => write!(f, " (after the commit of {})", kept.at)?,
            (None, Some(dropped)) => write!(f, " (before the commit of {})", dropped.at)?,
            (None, None) => {}
        }
        if self.restorable { Ok(()) } else { f.write_str(", which cannot be restored") }
    }
}

/// What was asked cannot be restored exactly, or not told from something else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", tag = "refusal")]
pub enum Refusal {
    /// It lies before the first base.
    #[error("it lies before the oldest state that can be restored")]
    BeforeWindow {
        /// What can be restored instead.
        nearest: Nearest,
    },
    /// The log that would prove it is missing.
    #[error("the log between {} and {} is missing, and it lies there", gap.from, gap.to)]
    InGap {
        /// What is missing.
        gap: Box<Gap>,
        /// What can be restored instead.
        nearest: Nearest,
    },
    /// Log is there, but no base from which it could be replayed.
    #[error("the log is there, but no base that lies before it")]
    NoBase {
        /// What can be restored instead.
        nearest: Nearest,
    },
    /// It lies after what is archived, so nobody knows what was committed until then.
    #[error("the archived log says nothing of that time yet")]
    NotArchived {
        /// What can be restored instead.
        nearest: Nearest,
    },
    /// The clock passed this time more than once.
    #[error("the database's clock passed that time {} times: it was set back", candidates.len())]
    TimeIsAmbiguous {
        /// The places.
        candidates: Vec<Candidate>,
    },
    /// Several histories were being written at that time, or have that position.
    #[error("several histories of the database have it: {}", list(lineages))]
    SeveralLineages {
        /// Which.
        lineages: Vec<LineageId>,
    },
    /// There is no such history.
    #[error("lineage {lineage} is not known")]
    UnknownLineage {
        /// What was asked for.
        lineage: LineageId,
        /// Those that are known.
        known: Vec<LineageId>,
    },
    /// No commit of this transaction is in the archived log.
    #[error("no commit of transaction {transaction} is in the archived log")]
    UnknownTransaction {
        /// What was asked for.
        transaction: TransactionId,
    },
    /// There are several commits under this number.
    #[error("transaction {transaction} committed {} times in the archived log: numbers come again", candidates.len())]
    TransactionIsAmbiguous {
        /// What was asked for.
        transaction: TransactionId,
        /// The places.
        candidates: Vec<Candidate>,
    },
    /// No such named point is in the archived log.
    #[error("no restore point named {name:?} is in the archived log")]
    UnknownName {
        /// What was asked for.
        name: String,
        /// Some of those that are there, the newest last.
        known: Vec<String>,
    },
    /// The name was given several times.
    #[error("{} restore points are named {name:?}", candidates.len())]
    NameIsAmbiguous {
        /// What was asked for.
        name: String,
        /// The places.
        candidates: Vec<Candidate>,
    },
}

fn list<T: std::fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Failure for Refusal {
    fn code(&self) -> &'static str {
        match self {
            Self::BeforeWindow { .. } => "database.before-window",
            Self::InGap { .. } => "database.in-gap",
            Self::NoBase { .. } => "database.no-base",
            Self::NotArchived { .. } => "database.not-archived",
            Self::TimeIsAmbiguous { .. } => "database.time-ambiguous",
            Self::SeveralLineages { .. } => "database.several-lineages",
            Self::UnknownLineage { .. } => "database.unknown-lineage",
            Self::UnknownTransaction { .. } => "database.unknown-transaction",
            Self::TransactionIsAmbiguous { .. } => "database.transaction-ambiguous",
            Self::UnknownName { .. } => "database.unknown-name",
            Self::NameIsAmbiguous { .. } => "database.name-ambiguous",
        }
    }

    fn remedy(&self) -> Remedy {
        Remedy::FixRequest
    }

    fn advice(&self) -> String {
        match self {
            Self::BeforeWindow { nearest }
            | Self::InGap { nearest, .. }
            | Self::NoBase { nearest }
            | Self::NotArchived { nearest } => nearest.advice(),
            Self::TimeIsAmbiguous { candidates }
            | Self::TransactionIsAmbiguous { candidates, .. }
            | Self::NameIsAmbiguous { candidates, .. } => {
                format!("Ask for one of these by its position: {}.", list(candidates))
            }
            Self::SeveralLineages { .. } => "Say which lineage is meant.".into(),
            Self::UnknownLineage { known, .. } => format!("Known are: {}.", list(known)),
            Self::UnknownTransaction { .. } => {
                "Look for it around its time; a transaction that was rolled back has no commit.".into()
            }
            Self::UnknownName { known, .. } if known.is_empty() => {
                "There are no restore points; ask for a time.".into()
            }
            Self::UnknownName { known, .. } => format!("There are: {}.", list(known)),
        }
    }
}
