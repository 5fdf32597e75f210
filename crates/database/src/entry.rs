//! What the commit index knows of the log: one entry for each thing that matters when a moment is looked for.

use jiff::Timestamp;
use serde::Serialize;

use crate::{Commit, LineageId, NamedPoint, Position, TransactionId};

/// One thing in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Entry {
    /// A transaction became visible.
    Commit(Commit),
    /// A transaction was given up: nothing of it is visible.
    RolledBack(Ended),
    /// A transaction can be committed by another one, later.
    Prepared(Ended),
    /// Somebody gave this place a name.
    Named(NamedPoint),
    /// The engine wrote everything down; replay can begin at `redo`.
    Checkpoint {
        /// Where its record begins.
        start: Position,
        /// Where its record ends.
        end: Position,
        /// When, to a second.
        at: Timestamp,
        /// From where on log is needed.
        redo: Position,
    },
    /// A history begins; what is behind is its own.
    Began {
        /// Where its first record begins: the fork.
        start: Position,
        /// Where that record ends.
        end: Position,
        /// When.
        at: Timestamp,
        /// Which.
        lineage: LineageId,
        /// Which one it left.
        parent: LineageId,
    },
}

/// The end of a transaction that is no commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// Where its record begins.
    pub start: Position,
    /// Where its record ends.
    pub end: Position,
    /// When.
    pub at: Timestamp,
    /// Which.
    pub transaction: TransactionId,
}

impl Entry {
    /// Where its record begins.
    #[must_use]
    pub const fn start(&self) -> Position {
        match self {
            Self::Commit(Commit { start, .. })
            | Self::RolledBack(Ended { start, .. })
            | Self::Prepared(Ended { start, .. })
            | Self::Named(NamedPoint { start, .. })
            | Self::Checkpoint { start, .. }
            | Self::Began { start, .. } => *start,
        }
    }

    /// Where its record ends.
    #[must_use]
    pub const fn end(&self) -> Position {
        match self {
            Self::Commit(Commit { end, .. })
            | Self::RolledBack(Ended { end, .. })
            | Self::Prepared(Ended { end, .. })
            | Self::Named(NamedPoint { end, .. })
            | Self::Checkpoint { end, .. }
            | Self::Began { end, .. } => *end,
        }
    }

    /// When, by the database's clock.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        match self {
            Self::Commit(Commit { at, .. })
            | Self::RolledBack(Ended { at, .. })
            | Self::Prepared(Ended { at, .. })
            | Self::Named(NamedPoint { at, .. })
            | Self::Checkpoint { at, .. }
            | Self::Began { at, .. } => *at,
        }
    }
}
