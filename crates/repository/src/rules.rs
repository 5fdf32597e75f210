//! The rules of the protocol, by name, so that a test can take one away and see the protocol break.
//!
//! Each rule is listed in section 6 of the protocol (docs/simulation.md names them again). The code asks
//! [`holds`] where it obeys one. Outside of this crate's own tests that is a constant: no program can turn a rule
//! off, and nothing of the question is left in it.

/// One rule that the safety of the protocol rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(test), expect(dead_code, reason = "some rules are asked for by tests alone"))]
pub(crate) enum Rule {
    /// Dead objects are named by a plan in the journal before any is deleted.
    PlanFirst,
    /// A plan is executed only when every session open at its number has ended.
    WaitForWriters,
    /// Waiting is for sessions, never for time: not even with another look at the journal before each delete.
    NoClock,
    /// After a lost number the winner is read, and all is decided again.
    ReadWhatWon,
    /// After a lost number or silence the record is looked for, under its number and in the fold.
    LookForOwn,
    /// A writer deletes nothing, whatever it takes for a failure.
    WriterNeverDeletes,
    /// A publish revives what it needs and a pending plan names.
    Revive,
    /// Only a session that the plan waits for may use, and revive, what it names.
    LateSessionsAvoid,
    /// A plan waits for the sessions open at its own number, not at that where its computing began.
    WaitSetIsExact,
    /// A plan that lost its number is compared with what was published meanwhile.
    PlanAgain,
    /// Single entries are dropped like whole packs: planned, and waited for.
    HolesArePlanned,
    /// Ids of packs are random: never a hash of what is in them, never used twice.
    FreshPackNames,
    /// A rewritten object has a name of its own, not that of a generation.
    FreshObjectNames,
    /// `pack rewritten` counts only while the plan that it was made for is pending.
    RewriteUnderPlan,
    /// The old object goes only after `pack rewritten` is in.
    RecordBeforeDelete,
    /// Records of the journal are never deleted. (No code does; a test lets somebody do it.)
    KeepJournal,
    /// A fenced writer goes on only with uploads that no plan has named.
    AdoptUnplannedOnly,
    /// Nothing is uploaded before `opened` is in.
    OpenBeforeUpload,
    /// A reader that meets a hole or nothing reads the journal once more.
    ReaderRereads,
}

/// Whether this rule is obeyed: always, but for the tests of this crate.
#[cfg(not(test))]
#[inline]
pub(crate) const fn holds(_rule: Rule) -> bool {
    true
}

/// Whether all rules are.
#[cfg(not(test))]
#[inline]
pub(crate) const fn all_hold() -> bool {
    true
}

#[cfg(test)]
pub(crate) use taken::{Taken, all_hold, holds};

#[cfg(test)]
mod taken {
    use std::cell::Cell;

    use super::Rule;

    thread_local! {
        static TAKEN: Cell<Option<Rule>> = const { Cell::new(None) };
    }

    pub(crate) fn holds(rule: Rule) -> bool {
        TAKEN.get() != Some(rule)
    }

    pub(crate) fn all_hold() -> bool {
        TAKEN.get().is_none()
    }

    /// While this is alive, a rule does not hold on this thread.
    #[derive(Debug)]
    pub(crate) struct Taken(());

    impl Taken {
        pub(crate) fn away(rule: Option<Rule>) -> Self {
            TAKEN.set(rule);
            Self(())
        }
    }

    impl Drop for Taken {
        fn drop(&mut self) {
            TAKEN.set(None);
        }
    }
}
