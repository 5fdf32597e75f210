//! What is going on with a database now, for metrics and for the daemon. What is in the repository is told by the repository.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use strongroom_database::Position;

/// What is going on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Now {
    /// Whether the log comes in.
    pub streaming: bool,
    /// Durable on this machine's disk up to here.
    pub flushed: Position,
    /// How far the server's log goes, as it was heard last.
    pub server_end: Position,
    /// At this moment, by the server's clock, nothing was missing on this machine's disk.
    pub current_at: Option<Timestamp>,
    /// Stored in the repository up to here.
    pub archived: Position,
    /// Everything up to this moment is in the repository.
    pub archived_until: Option<Timestamp>,
    /// How much of the disk the spool takes.
    pub spool_bytes: u64,
    /// How much it may take.
    pub spool_budget_bytes: u64,
    /// How much of its log the server keeps for us, on its own disk, when it was asked last.
    pub held_bytes: u64,
    /// How much it may be made to keep.
    pub held_budget_bytes: u64,
    /// Gaps since the agent started.
    pub gaps: u64,
    /// When the newest base was ready that was taken since the agent started.
    pub base_ready_at: Option<Timestamp>,
    /// When a backup became no base, because the database would not say what has to be known; `None` after one that did.
    pub base_failed_at: Option<Timestamp>,
    /// Why the log does not come in; `None`: it does.
    pub trouble: Option<String>,
    /// Why it does not get into the repository; `None`: it does.
    pub upload_trouble: Option<String>,
}

/// Shared by the tasks of a database and those who watch.
#[derive(Debug, Clone, Default)]
pub struct Live(Arc<Mutex<Now>>);

impl Live {
    /// As it is now.
    #[must_use]
    pub fn get(&self) -> Now {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn update<T>(&self, change: impl FnOnce(&mut Now) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
