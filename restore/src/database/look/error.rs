//! Why a copy cannot be looked at as it was asked for.

use std::io;

use strongroom_database::{LineageId, Position};
use strongroom_model::{Failure, Remedy};

/// What was asked of a copy does not work. The live database was not touched.
#[derive(Debug, thiserror::Error)]
pub(in crate::database) enum LookError {
    /// Replay goes forward only.
    #[error("the copy is at {at}, which is behind {wanted}: replay goes forward only")]
    Backwards {
        /// Where it is.
        at: Position,
        /// Where it should go.
        wanted: Position,
    },
    /// Before the base of the copy.
    #[error("the copy stands on a base of {base}, and that is later")]
    BeforeBase {
        /// When its base was ready.
        base: jiff::Timestamp,
    },
    /// It would have to forget what it replayed.
    #[error("the copy has replayed another history up to {at} than lineage {lineage} has there")]
    OtherHistory {
        /// Where it is.
        at: Position,
        /// Which history was asked for.
        lineage: LineageId,
    },
    /// A step that is none.
    #[error("{text:?} is no step")]
    Step {
        /// What was said.
        text: String,
    },
    /// Nothing to find.
    #[error("it does not hold at the beginning either, where the answer is {answer:?}")]
    NeverHeld {
        /// What was answered there.
        answer: String,
    },
    /// An end before the beginning.
    #[error("--to is not behind --from")]
    NoSpan,
    /// A program cannot be run.
    #[error("running {name}")]
    Program {
        /// Which.
        name: &'static str,
        /// What the machine said.
        #[source]
        cause: io::Error,
    },
    /// A program was not content.
    #[error("{name} ended with a failure: {said}")]
    Failed {
        /// Which.
        name: &'static str,
        /// Its last words.
        said: String,
    },
    /// The copy is gone.
    #[error("the copy is gone")]
    Gone,
}

impl Failure for LookError {
    fn code(&self) -> &'static str {
        match self {
            Self::Backwards { .. } => "database.backwards",
            Self::BeforeBase { .. } => "database.before-copy",
            Self::OtherHistory { .. } => "database.other-history",
            Self::Step { .. } => "database.step",
            Self::NeverHeld { .. } => "database.never-held",
            Self::NoSpan => "database.no-span",
            Self::Program { .. } => "database.client-program",
            Self::Failed { .. } => "database.client-failed",
            Self::Gone => "database.copy-gone",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Program { .. } => Remedy::FixSurroundings,
            Self::Gone => Remedy::Retry,
            _ => Remedy::FixRequest,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Backwards { .. } | Self::BeforeBase { .. } => "Leave, and open a copy at the earlier moment; or give the steps in their order.".into(),
            Self::OtherHistory { .. } => "Leave, and open a copy with --lineage.".into(),
            Self::Step { .. } => {
                "A step is a length of time such as +2s or +500ms, a time such as \"today 18:05\", or a position such as 16/B374D848.".into()
            }
            Self::NeverHeld { .. } => {
                "The query must hold at --from and not at --to: begin earlier, or turn the query round.".into()
            }
            Self::NoSpan => "Give an earlier --from or a later --to.".into(),
            Self::Program { .. } => {
                "Install the client programs of the database, or say with --programs where they are.".into()
            }
            Self::Failed { .. } => "The words are the program's own.".into(),
            Self::Gone => "Run it again.".into(),
        }
    }
}
