//! What a replay does: from where to where the server's own program reads the files, and which transactions that are.

use super::event::{Event, kind};
use super::gtid::GtidState;
use super::interpreter::{Interpreter, Step};
use crate::Position;

/// A replay, and what proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Replayed from here: what the base has ends here.
    pub from: Position,
    /// Up to here: a transaction begins here that is not in, or nothing does.
    pub to: Position,
    /// What was written to the log before `from`.
    pub before: GtidState,
    /// What was written to it before `to`: so much the copy has to have when it is done.
    pub after: GtidState,
    /// How many transactions are replayed.
    pub transactions: u64,
}

/// The log of a plan does not say what a replay has to know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreplayable {
    /// It does not begin with a file.
    #[error("the log of the plan does not begin with a file's list of transactions")]
    NoList,
    /// The base ends within a transaction.
    #[error("the base ends at {at}, which is within a transaction")]
    WithinTransaction {
        /// Where it ends.
        at: Position,
    },
    /// The copy has what is not in it, or behind the target.
    #[error(
        "the copy has committed {has:?}, which the log never says up to the target; there it says {log:?}"
    )]
    NotThere {
        /// What the copy has.
        has: String,
        /// What the log says at the target.
        log: String,
    },
    /// A transaction is not whole in it.
    #[error("the transaction that begins at {at} is not whole in the log of the plan")]
    NotWhole {
        /// Where it begins.
        at: Position,
    },
}

/// Goes over the log of a plan, from the beginning of a file on, and finds out.
#[derive(Debug)]
pub struct ReplayScan {
    /// What the copy has; `None`: what lies before `from`.
    has: Option<GtidState>,
    from: Option<Position>,
    cut: Position,
    interpreter: Interpreter,
    state: Option<GtidState>,
    before: Option<GtidState>,
    /// The end of the last transaction that is in.
    end: Option<Position>,
    transactions: u64,
    trouble: Option<Unreplayable>,
}

impl ReplayScan {
    /// On a copy that has these transactions, for a state that has what begins before `cut`.
    #[must_use]
    pub fn behind(has: GtidState, cut: Position) -> Self {
        let mut scan = Self::begin(cut);
        scan.has = Some(has);
        scan
    }

    /// On a copy that has what lies before `from`, for a state that has what begins before `cut`.
    #[must_use]
    pub fn from(from: Position, cut: Position) -> Self {
        let mut scan = Self::begin(cut);
        scan.from = Some(from);
        scan
    }

    /// On a copy that was brought to `from`, where the log had `has`; for one that is read from there on, not from the beginning of
    /// a file.
    #[must_use]
    pub fn onward(from: Position, has: GtidState, cut: Position) -> Self {
        let mut scan = Self::begin(cut);
        (scan.from, scan.state, scan.before) = (Some(from), Some(has.clone()), Some(has));
        scan
    }

    fn begin(cut: Position) -> Self {
        Self {
            has: None,
            from: None,
            cut,
            interpreter: Interpreter::default(),
            state: None,
            before: None,
            end: None,
            transactions: 0,
            trouble: None,
        }
    }

    /// The next event.
    pub fn event(&mut self, event: &Event<'_>) {
        let start = self.interpreter.under_way().unwrap_or(event.start);
        if let Some(from) = self.from {
            let is_within = self.interpreter.under_way().is_some() && start < from && from < event.end;
            if is_within {
                self.trouble.get_or_insert(Unreplayable::WithinTransaction { at: from });
            }
            if event.start >= from && self.before.is_none() {
                self.before.clone_from(&self.state);
            }
        }
        let step = self.interpreter.event(event);
        // Each file begins with what was before it; the first such list is the one to believe.
        if event.header.kind == kind::GTID_LIST && self.state.is_none() {
            self.state = GtidState::of_list(event);
            self.reached(event.end);
        }
        let Step::Transaction(gtid, _) = step else { return };
        if start >= self.cut {
            return;
        }
        if let Some(state) = &mut self.state {
            state.add(gtid);
        }
        if self.from.is_some_and(|from| start >= from) {
            self.end = Some(event.end);
            self.transactions += 1;
        }
        self.reached(event.end);
    }

    /// The copy has all up to here and nothing else.
    fn reached(&mut self, at: Position) {
        if self.from.is_none() && self.has.is_some() && self.has == self.state {
            self.from = Some(at);
            self.before.clone_from(&self.state);
        }
    }

    /// What came of it.
    ///
    /// # Errors
    /// When the log does not say enough, or the copy has what is not in it.
    pub fn finish(self) -> Result<Replay, Unreplayable> {
        if let Some(trouble) = self.trouble {
            return Err(trouble);
        }
        if let Some(at) = self.interpreter.under_way().filter(|at| *at < self.cut) {
            return Err(Unreplayable::NotWhole { at });
        }
        let after = self.state.ok_or(Unreplayable::NoList)?;
        let from = self.from.ok_or_else(|| Unreplayable::NotThere {
            has: self.has.unwrap_or_default().to_string(),
            log: after.to_string(),
        })?;
        let before = self.before.unwrap_or_else(|| after.clone());
        let to = self.end.unwrap_or(from);
        Ok(Replay { from, to, before, after, transactions: self.transactions })
    }
}
