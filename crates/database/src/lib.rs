//! Databases, restored to any moment.
//!
//! A *base* is a copy of all of a database at some position of its log; the *log* says what came after. Base and log
//! together give every position from the base's end to the end of the log. This crate knows what that means and does
//! no I/O: it is told what exists (a [`Catalogue`]) and answers with values: what can be restored ([`windows`]), how
//! ([`plan`]), and what is not needed any more ([`expendable`]).
//!
//! What always holds:
//! * **A time is never given to an engine.** It is resolved to a position with the commit index, here, since engines
//!   answer wrongly or not at all where a time lies before the base or after the last commit.
//! * **A base serves a position only when its end is at or before it.**
//! * A position belongs to a *lineage*: two histories that parted have the same positions with other content.
//! * What is not proved by what was archived is refused, with the nearest points that are.

mod base;
mod catalogue;
mod commit;
mod entry;
mod index;
mod lineage;
mod log;
pub mod mariadb;
mod plan;
mod position;
pub mod postgres;
mod refusal;
mod resolve;
mod retention;
mod runs;
mod target;
mod timeline;
mod transaction;
mod window;

pub use base::{Base, StandsOn};
pub use catalogue::{Catalogue, CommitIndex, Heard};
pub use commit::{Changes, Commit, NamedPoint, Statements};
pub use entry::{Ended, Entry};
pub use index::{Index, IndexError, IndexWriter, Indexed, Indexer, Stretch};
pub use lineage::{Fork, Lineage, LineageError, LineageId, LineageTree, PathStep};
pub use log::{CommitSummary, Gap, LogPiece, LogRange};
pub use plan::{Plan, PlanError, Rates, Stop, plan};
pub use position::Position;
pub use refusal::{Candidate, Nearest, Refusal, RestorablePoint};
pub use retention::{Expendable, Policy, expendable};
pub use target::{Side, Target, Wanted};
pub use timeline::{BIG_DELETE, Event, Minute, Timeline, TimelineBuilder, What};
pub use transaction::TransactionId;
pub use window::{Window, newest, rpo, windows};
