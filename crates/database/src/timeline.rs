//! What happened when: the commit index, condensed for a person who looks for the right second.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::{Changes, Commit, Entry, LineageId, Position, TransactionId};

/// As many remarkable things as are told, so that a night of schema changes fits on a screen and in memory.
const MOST_EVENTS: usize = 1000;

/// More minutes than this are not asked for at once: a week.
const MOST_MINUTES: usize = 7 * 24 * 60;

/// A transaction that deletes as many rows is told by itself.
pub const BIG_DELETE: u32 = 100;

/// What happened between two moments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Timeline {
    /// From this moment on.
    pub from: Timestamp,
    /// Up to this moment.
    pub to: Timestamp,
    /// Minutes in which something was committed, oldest first.
    pub minutes: Vec<Minute>,
    /// Schema changes, big deletes, named points, new histories: in the order of the log.
    pub events: Vec<Event>,
    /// How many more there were.
    pub events_left_out: u64,
}

/// One minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Minute {
    /// When it begins.
    pub at: Timestamp,
    /// How many commits.
    pub commits: u64,
    /// Rows that were put in, changed and taken away.
    pub inserted: u64,
    /// Rows that were changed.
    pub updated: u64,
    /// Rows that were taken away.
    pub deleted: u64,
}

/// Something remarkable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// Where its record begins: who restores to here does not have it.
    pub position: Position,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum What {
    /// A commit that changed the schema, or deleted much.
    Commit {
        /// Which.
        transaction: TransactionId,
        /// What it did.
        changes: Changes,
    },
    /// A named point.
    Named {
        /// Its name.
        name: String,
    },
    /// A new history.
    Began {
        /// Which.
        lineage: LineageId,
        /// Which one it left.
        parent: LineageId,
    },
}

impl Changes {
    /// Worth a line of its own.
    #[must_use]
    pub const fn is_remarkable(&self) -> bool {
        !self.statements.is_empty() || self.deleted >= BIG_DELETE
    }
}

/// In a few words, such as `drop (3 files), 12 rows deleted`.
impl std::fmt::Display for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts: Vec<String> = self.statements.words().map(str::to_owned).collect();
        if self.files_dropped > 0 {
            parts.push(format!("{} files gone", self.files_dropped));
        }
        for (rows, verb) in
            [(self.inserted, "inserted"), (self.updated, "updated"), (self.deleted, "deleted")]
        {
            if rows > 0 {
                parts.push(format!("{rows} rows {verb}"));
            }
        }
        if parts.is_empty() {
            parts.push("no rows".into());
        }
        if self.partial {
            parts.push("perhaps more".into());
        }
        f.write_str(&parts.join(", "))
    }
}

/// Gathers a timeline, one entry after the other, in memory that does not grow with them.
#[derive(Debug)]
pub struct TimelineBuilder {
    from: Timestamp,
    to: Timestamp,
    minutes: BTreeMap<i64, Minute>,
    events: Vec<Event>,
    left_out: u64,
}

impl TimelineBuilder {
    /// Begins one of the time between two moments.
    #[must_use]
    pub const fn new(from: Timestamp, to: Timestamp) -> Self {
        Self { from, to, minutes: BTreeMap::new(), events: Vec::new(), left_out: 0 }
    }

    /// Counts an entry, if it is of that time.
    pub fn add(&mut self, entry: &Entry) {
        if entry.at() < self.from || self.to < entry.at() {
            return;
        }
        let what = match entry {
            Entry::Commit(commit) => {
                self.count(commit);
                let (transaction, changes) = (commit.transaction, commit.changes);
                changes.is_remarkable().then_some(What::Commit { transaction, changes })
            }
            Entry::Named(point) => Some(What::Named { name: point.name.clone() }),
            Entry::Began { lineage, parent, .. } => Some(What::Began { lineage: *lineage, parent: *parent }),
            Entry::RolledBack(_) | Entry::Prepared(_) | Entry::Checkpoint { .. } => None,
        };
        let Some(what) = what else { return };
        if self.events.len() < MOST_EVENTS {
            self.events.push(Event { at: entry.at(), position: entry.start(), what });
        } else {
            self.left_out += 1;
        }
    }

    fn count(&mut self, commit: &Commit) {
        let second = commit.at.as_second();
        let begins = second - second.rem_euclid(60);
        if self.minutes.len() >= MOST_MINUTES && !self.minutes.contains_key(&begins) {
            return;
        }
        let at = Timestamp::from_second(begins).unwrap_or(self.from);
        let fresh = Minute { at, commits: 0, inserted: 0, updated: 0, deleted: 0 };
        let minute = self.minutes.entry(begins).or_insert(fresh);
        minute.commits += 1;
        minute.inserted += u64::from(commit.changes.inserted);
        minute.updated += u64::from(commit.changes.updated);
        minute.deleted += u64::from(commit.changes.deleted);
    }

    /// The timeline.
    #[must_use]
    pub fn finish(self) -> Timeline {
        Timeline {
            from: self.from,
            to: self.to,
            minutes: self.minutes.into_values().collect(),
            events: self.events,
            events_left_out: self.left_out,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Statements;

    #[test]
    fn the_minutes_are_counted_and_what_is_remarkable_is_told() {
        let commit = |at: &str, number, changes| {
            let (start, end) = (Position::new(number * 100), Position::new(number * 100 + 50));
            let at = format!("2026-11-20T18:{at}Z").parse().unwrap();
            Entry::Commit(Commit { start, end, at, transaction: TransactionId::Number(number), changes })
        };
        let none = Changes::default();
        let drop = Changes { files_dropped: 3, statements: Statements::DROP, ..none };
        let entries = [
            commit("03:59.9", 1, none),
            commit("04:00", 2, Changes { inserted: 2, ..none }),
            commit("04:58.112", 3, drop),
            commit("05:01", 4, Changes { deleted: 5000, partial: true, ..none }),
            commit("09:00", 5, none),
        ];
        let at = |text: &str| format!("2026-11-20T18:{text}Z").parse::<Timestamp>().unwrap();
        let mut timeline = TimelineBuilder::new(at("03:00"), at("08:00"));
        entries.iter().for_each(|entry| timeline.add(entry));
        let timeline = timeline.finish();
        let minutes: Vec<_> =
            timeline.minutes.iter().map(|minute| (minute.at, minute.commits, minute.inserted)).collect();
        assert_eq!(minutes, [(at("03:00"), 1, 0), (at("04:00"), 2, 2), (at("05:00"), 1, 0)]);
        let told: Vec<_> = timeline
            .events
            .iter()
            .map(|event| match &event.what {
                What::Commit { transaction, changes } => {
                    format!("{} {transaction}: {changes}", event.position)
                }
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(told, ["0/12C 3: drop, 3 files gone", "0/190 4: 5000 rows deleted, perhaps more"]);
    }
}
