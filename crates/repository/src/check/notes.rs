//! What a check that reads data notes in the journal, in batches: a check that is killed keeps what it had noted.

use std::time::Duration;

use strongroom_model::chain;
use tokio::time::Instant;

use super::CheckOptions;
use super::packs::Seen;
use crate::entry_runs::EntryRuns;
use crate::errors::JournalError;
use crate::layout::PackObject;
use crate::pack::PackPlace;
use crate::record::{Event, Verified};
use crate::repository::Repository;
use crate::store::StoreError;

/// How long what was seen waits at most: what a killed check loses.
const PATIENCE: Duration = Duration::from_secs(30);

/// Notes of one check.
#[derive(Debug)]
pub(super) struct Notes<'a> {
    options: &'a CheckOptions,
    seen: Verified,
    since: Instant,
    /// Why nothing is noted any more.
    pub(super) trouble: Option<String>,
}

impl<'a> Notes<'a> {
    pub(super) fn new(options: &'a CheckOptions) -> Self {
        Self { options, seen: Verified::default(), since: Instant::now(), trouble: None }
    }

    /// Adds what was seen of a pack that was read whole.
    pub(super) async fn add(&mut self, repository: &Repository, place: Option<PackPlace>, seen: &Seen) {
        let Some(place) = place.filter(|_| self.options.record && !seen.is_unclear) else { return };
        if seen.what.is_none() {
            self.seen.whole.0.insert(place.object);
        } else {
            self.seen.damaged.insert(place.object, seen.lost.clone());
        }
        self.flush_when_due(repository).await;
    }

    /// Adds what was seen of a bundle that was read, or is missing.
    pub(super) async fn add_bundle(&mut self, repository: &Repository, object: PackObject, is_whole: bool) {
        if !self.options.record {
            return;
        }
        if is_whole {
            self.seen.whole.0.insert(object);
        } else {
            self.seen.damaged.insert(object, EntryRuns::default());
        }
        self.flush_when_due(repository).await;
    }

    async fn flush_when_due(&mut self, repository: &Repository) {
        if self.seen.len() >= self.options.batch || self.since.elapsed() >= PATIENCE {
            self.flush(repository).await;
        }
    }

    /// Appends what was gathered.
    pub(super) async fn flush(&mut self, repository: &Repository) {
        self.since = Instant::now();
        let seen = std::mem::take(&mut self.seen);
        if seen.is_empty() || self.trouble.is_some() {
            return;
        }
        match repository.journal().say(Event::Verified(seen)).await {
            Ok(_) => {}
            // Who may only read may check all the same.
            Err(error) => {
                let expected = matches!(
                    &error,
                    JournalError::OnlyReader { .. }
                        | JournalError::Store { cause: StoreError::Refused { .. }, .. }
                );
                if !expected {
                    tracing::warn!(error = chain(&error), "what the check saw is not noted in the journal");
                }
                self.trouble = Some(chain(&error));
            }
        }
    }
}
