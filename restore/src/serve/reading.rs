//! What restores on the agent's socket read from: the repository as the agent opened it; where it has copies, one that reads
//! each pack from whichever place answers, or a copy in its place.
//!
//! It is opened beside the agent's own, which backups write through and which therefore never looks elsewhere.

use std::sync::Arc;
use std::time::{Duration, Instant};

use strongroom_console::Failed;
use strongroom_settings::{OpenedRepository, open_repository_to_read};
use tokio::sync::Mutex;

use super::{Refused, Surroundings};

/// What was opened is used so long: then the repository may answer again that did not, and a copy was read in its place.
const FRESH: Duration = Duration::from_secs(300);

/// What was opened last. Clones share it, and whoever comes while it is being opened waits for that.
#[derive(Debug, Clone, Default)]
pub(super) struct Reading(Arc<Mutex<Option<(Instant, OpenedRepository)>>>);

impl Reading {
    /// What to read from now.
    pub(super) async fn of(&self, surroundings: &Arc<Surroundings>) -> Result<OpenedRepository, Failed> {
        if surroundings.settings.copies.is_empty() {
            let opened = surroundings.opened.borrow().clone();
            return opened.ok_or_else(|| Refused::NotOpen.into());
        }
        let (last, surroundings) = (Arc::clone(&self.0), Arc::clone(surroundings));
        // A task of its own: whoever asks may give up and ask again, and shall find it opened then.
        let opening = tokio::spawn(async move {
            let mut last = last.lock().await;
            if let Some((at, opened)) = &*last
                && at.elapsed() < FRESH
                && opened.repository.fold().await.is_ok()
            {
                return Ok(opened.clone());
            }
            *last = None;
            let opened = open_repository_to_read(&surroundings.settings, &surroundings.world).await?;
            *last = Some((Instant::now(), opened.clone()));
            Ok(opened)
        });
        // A task ends early only when the program does.
        opening.await.unwrap_or_else(|_| Err(Refused::NotOpen.into()))
    }
}
