//! The log that a server keeps for us never fills its disk silently.
//!
//! While the spool is full, or nobody receives, a server keeps its log for us. Half of what it may keep is an alarm. At the limit it
//! lets go: commits go on, and any second between what was received and the next base is lost. That is said loudly, shown as a
//! gap, and healed by a new base as soon as the store answers.
//!
//! It works only while the agent runs: a limit of the server's own is the last resort.

use std::sync::Arc;
use std::time::Duration;

use strongroom_model::chain;
use tokio_util::sync::CancellationToken;

use super::Database;
use super::engine::EngineError;

/// How often the server is asked.
const LOOK_EVERY: Duration = Duration::from_secs(5);

pub(super) struct Guard {
    pub(super) database: Arc<Database>,
    pub(super) cancel: CancellationToken,
}

impl Guard {
    pub(super) async fn run(self) {
        let mut was_alarmed = false;
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = self.cancel.cancelled() => return,
            }
            match self.look(was_alarmed).await {
                Ok(is_alarming) => was_alarmed = is_alarming,
                // The archiver says what is wrong with the server.
                Err(error) => tracing::debug!(
                    database = self.database.name,
                    error = chain(&error),
                    "how much the server keeps is not known"
                ),
            }
        }
    }

    /// Asks the server, and lets go at the limit. Answers whether it keeps more than half of that.
    async fn look(&self, was_alarmed: bool) -> Result<bool, EngineError> {
        let database = &self.database;
        let Some(held) = database.engine.held().await? else { return Ok(false) };
        database.live.update(|now| {
            now.held_bytes = held.bytes;
            now.held_budget_bytes = held.limit_bytes;
        });
        let is_alarming = held.bytes >= held.limit_bytes / 2;
        if is_alarming && !was_alarmed {
            tracing::error!(
                database = database.name,
                held_bytes = held.bytes,
                limit_bytes = held.limit_bytes,
                "the server keeps much of its log for us, on its own disk; at the limit it lets go, and the log gets a gap"
            );
        }
        if held.bytes >= held.limit_bytes {
            tracing::error!(
                database = database.name,
                held_bytes = held.bytes,
                "the server keeps as much of its log for us as it may: it lets go, and the log gets a GAP; a new base is taken as soon as the store answers"
            );
            database.receiving().cancel();
            database.engine.let_go().await?;
        }
        Ok(is_alarming)
    }
}
