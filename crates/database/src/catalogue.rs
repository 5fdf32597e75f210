//! All that exists of one database, as the planner is told it.

use jiff::Timestamp;

use crate::{Base, Commit, LineageId, LineageTree, LogRange, NamedPoint, Position};

/// What exists of one database. One database is one identity (PostgreSQL: the system identifier): what belongs to
/// another never comes into the same catalogue.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    /// Its histories.
    pub lineages: LineageTree,
    /// The bases, in any order.
    pub bases: Vec<Base>,
    /// The log, in any order, with overlaps and holes.
    pub log: Vec<LogRange>,
    /// What the receiver heard of where the log ended.
    pub heard: Vec<Heard>,
}

/// At this time, by the server's clock, the log of this history ended here: nothing was written in between.
///
/// It is what makes an idle database restorable to a time after its last commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// Which history.
    pub lineage: LineageId,
    /// Where its log ended.
    pub position: Position,
    /// When.
    pub at: Timestamp,
}

/// Gives the commits of a range, from wherever its index is kept.
///
/// The planner asks only for ranges whose summary does not answer; for a time that is one range as a rule.
pub trait CommitIndex {
    /// Why it could not.
    type Error;

    /// The commits that end in the range, in the order of the log.
    ///
    /// # Errors
    /// When the index cannot be read.
    fn commits(&self, range: &LogRange) -> Result<Vec<Commit>, Self::Error>;

    /// The named points that end in the range, in the order of the log.
    ///
    /// # Errors
    /// When the index cannot be read.
    fn named_points(&self, range: &LogRange) -> Result<Vec<NamedPoint>, Self::Error>;
}
