//! Which state of a database a person wants.

use jiff::Timestamp;
use serde::Serialize;

use crate::{LineageId, Position, TransactionId};

/// A state of a database, and in which history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wanted {
    /// Which state.
    pub target: Target,
    /// In which history. Without it, the one that was living at that time; refused where several could be meant.
    pub lineage: Option<LineageId>,
}

impl Wanted {
    /// This state, in the history that lived then.
    #[must_use]
    pub const fn new(target: Target) -> Self {
        Self { target, lineage: None }
    }

    /// The same state in this history.
    #[must_use]
    pub const fn in_lineage(mut self, lineage: LineageId) -> Self {
        self.lineage = Some(lineage);
        self
    }
}

/// A state of a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "at")]
pub enum Target {
    /// The longest part of the log without a commit stamped later.
    Time(Timestamp),
    /// Everything whose record begins before this position.
    Position(Position),
    /// Just before or just after this commit.
    Transaction(TransactionId, Side),
    /// Everything before this named point.
    Named(String),
    /// The newest that can be restored.
    Latest,
}

/// On which side of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// Without it.
    Before,
    /// With it.
    After,
}
