//! Histories that part.
//!
//! A restored database writes a history of its own. PostgreSQL counts them (timelines) and says where each left the
//! other; for a binary log a new epoch of the server is a lineage. Up to the fork the positions of both mean the same
//! bytes, behind it other ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use crate::Position;

/// The number of a history within one database. PostgreSQL: the timeline.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct LineageId(pub u32);

impl fmt::Display for LineageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for LineageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lineage {}", self.0)
    }
}

/// One history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Lineage {
    /// Its number.
    pub id: LineageId,
    /// Where it left another one; `None` for the first.
    pub fork: Option<Fork>,
    /// When it began to be written: nothing of its own is stamped earlier. PostgreSQL says it in the first record of a
    /// timeline. For the first history any early time does. It decides which history was the living one at a time.
    pub began_at: Timestamp,
}

/// Where a history left another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Fork {
    /// Which it left.
    pub parent: LineageId,
    /// It shares everything before this position, and nothing from here on.
    pub at: Position,
}

/// One part of the way from the first history to another: `lineage` counts from `from` to `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PathStep {
    /// Which history.
    pub lineage: LineageId,
    /// From where on.
    pub from: Position,
    /// Up to where: the fork to the next step, or the end.
    pub to: Position,
}

/// All histories of one database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LineageTree {
    known: BTreeMap<LineageId, Lineage>,
    /// Each time that a history was gone on with: one that was left can come to life again, when a restore is undone.
    lives: BTreeSet<(Timestamp, LineageId)>,
}

/// The histories contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineageError {
    /// A number was used for two histories: two servers were promoted to the same one. Their logs must not be mixed.
    #[error("lineage {id} is told in two ways: two histories have the same number")]
    Twice {
        /// Which.
        id: LineageId,
    },
    /// A history that left one which is younger or itself: no tree.
    #[error("lineage {id} cannot have left lineage {parent}")]
    Order {
        /// Which.
        id: LineageId,
        /// What it is said to have left.
        parent: LineageId,
    },
}

impl LineageTree {
    /// Adds a history. A parent may come later, but its number is smaller: engines count up.
    ///
    /// Telling a history again is welcome. It began with the earlier of two beginnings, and from the later one on it is the
    /// living one again.
    ///
    /// # Errors
    /// When it contradicts what is known.
    pub fn add(&mut self, lineage: Lineage) -> Result<(), LineageError> {
        if let Some(fork) = lineage.fork
            && fork.parent >= lineage.id
        {
            return Err(LineageError::Order { id: lineage.id, parent: fork.parent });
        }
        match self.known.get_mut(&lineage.id) {
            Some(known) if known.fork != lineage.fork => {
                return Err(LineageError::Twice { id: lineage.id });
            }
            Some(known) => known.began_at = known.began_at.min(lineage.began_at),
            None => drop(self.known.insert(lineage.id, lineage)),
        }
        self.lives.insert((lineage.began_at, lineage.id));
        Ok(())
    }

    /// The history with this number.
    #[must_use]
    pub fn get(&self, id: LineageId) -> Option<&Lineage> {
        self.known.get(&id)
    }

    /// All histories by number.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Lineage> {
        self.known.values()
    }

    /// The history that was begun or gone on with last: the one that lives now.
    #[must_use]
    pub fn newest(&self) -> Option<&Lineage> {
        self.living(Timestamp::MAX)
    }

    /// The history that lived at a time: before everything that is known, the first.
    #[must_use]
    pub fn living(&self, at: Timestamp) -> Option<&Lineage> {
        let last = self.lives.iter().rev().find(|(began_at, _)| *began_at <= at);
        let first = || self.known.values().find(|lineage| lineage.fork.is_none());
        last.map_or_else(first, |(_, id)| self.known.get(id))
    }

    /// The way to a history from the first that is known, oldest first. Where a parent is unknown it begins behind the
    /// fork from it. Empty for an unknown history.
    #[must_use]
    pub fn path(&self, id: LineageId) -> Vec<PathStep> {
        let mut steps = Vec::new();
        let (mut next, mut to) = (self.known.get(&id), Position::END);
        // Parents have smaller numbers, so this ends.
        while let Some(lineage) = next {
            let from = lineage.fork.map_or(Position::START, |fork| fork.at);
            // A history that was left before it began itself adds nothing.
            let from = from.min(to);
            steps.push(PathStep { lineage: lineage.id, from, to });
            to = from;
            next = lineage.fork.and_then(|fork| self.known.get(&fork.parent));
        }
        steps.reverse();
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lineage(id: u32, fork: Option<(u32, u64)>) -> Lineage {
        let fork = fork.map(|(parent, at)| Fork { parent: LineageId(parent), at: Position::new(at) });
        Lineage { id: LineageId(id), fork, began_at: Timestamp::UNIX_EPOCH }
    }

    #[test]
    fn the_way_to_a_history_goes_through_those_that_it_left() {
        let mut tree = LineageTree::default();
        for one in [
            lineage(1, None),
            lineage(3, Some((2, 500))),
            lineage(2, Some((1, 300))),
            lineage(4, Some((1, 100))),
        ] {
            tree.add(one).unwrap();
        }
        let path = |id| {
            tree.path(LineageId(id))
                .iter()
                .map(|s| (s.lineage.0, s.from.number(), s.to.number()))
                .collect::<Vec<_>>()
        };
        assert_eq!(path(3), [(1, 0, 300), (2, 300, 500), (3, 500, u64::MAX)]);
        assert_eq!(path(4), [(1, 0, 100), (4, 100, u64::MAX)]);
        assert_eq!(path(9), []);
    }

    #[test]
    fn a_history_that_was_left_lives_again_when_it_is_gone_on_with() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let began = |id, fork, second| Lineage { began_at: at(second), ..lineage(id, fork) };
        let mut tree = LineageTree::default();
        for one in [began(1, None, 10), began(2, Some((1, 300)), 20), began(1, None, 30)] {
            tree.add(one).unwrap();
        }
        let living = |second| tree.living(at(second)).unwrap().id.0;
        assert_eq!([5, 10, 19, 20, 29, 30].map(living), [1, 1, 1, 2, 2, 1]);
        assert_eq!(tree.newest().unwrap().id, LineageId(1));
        assert_eq!(tree.get(LineageId(1)).unwrap().began_at, at(10));
    }

    #[test]
    fn two_servers_that_took_the_same_number_are_noticed() {
        let mut tree = LineageTree::default();
        tree.add(lineage(2, Some((1, 300)))).unwrap();
        assert_eq!(tree.add(lineage(2, Some((1, 300)))), Ok(()));
        assert_eq!(tree.add(lineage(2, Some((1, 301)))), Err(LineageError::Twice { id: LineageId(2) }));
        assert!(matches!(tree.add(lineage(2, Some((2, 1)))), Err(LineageError::Order { .. })));
    }
}
