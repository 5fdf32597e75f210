//! The index of one stretch of log, while its entries are found.

use crate::{CommitSummary, Entry, IndexWriter, LineageId, Position};

/// The index of a stretch under way: an engine's reader of the log tells it what it finds.
#[derive(Debug)]
pub struct Stretch {
    writer: IndexWriter,
    commits: Option<CommitSummary>,
    named_points: u32,
    last_record: Option<Position>,
}

/// What a stretch of log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Indexed {
    /// The index, as it is stored.
    pub index: Vec<u8>,
    /// As in [`crate::LogRange`].
    pub whole_to: Position,
    /// As in [`crate::LogRange`].
    pub last_record: Option<Position>,
    /// As in [`crate::LogRange`].
    pub commits: Option<CommitSummary>,
    /// As in [`crate::LogRange`].
    pub named_points: u32,
}

impl Stretch {
    /// Begins at `origin`: all records that end in it end behind that.
    #[must_use]
    pub fn new(lineage: LineageId, origin: Position) -> Self {
        let writer = IndexWriter::new(lineage, origin);
        Self { writer, commits: None, named_points: 0, last_record: None }
    }

    /// A record that begins here ends in this stretch.
    pub const fn record(&mut self, start: Position) {
        self.last_record = Some(start);
    }

    /// What a record says; those before it end before it.
    pub fn push(&mut self, entry: &Entry) {
        self.writer.push(entry);
        match entry {
            Entry::Commit(commit) => match &mut self.commits {
                Some(commits) => commits.add(commit),
                None => self.commits = Some(CommitSummary::one(commit)),
            },
            Entry::Named(_) => self.named_points = self.named_points.saturating_add(1),
            _ => {}
        }
    }

    /// Ends it; the first record that is not whole begins at `whole_to`.
    #[must_use]
    pub fn finish(self, whole_to: Position) -> Indexed {
        Indexed {
            index: self.writer.bytes,
            whole_to,
            last_record: self.last_record,
            commits: self.commits,
            named_points: self.named_points,
        }
    }
}
