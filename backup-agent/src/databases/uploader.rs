//! From the spool to the repository: a bundle when 8 MiB have come or the first of them is 10 seconds old; now and then a record
//! that names them.
//!
//! While nothing is written to the database nothing is sent, but for one record in a quarter of an hour which says that nothing was.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use strongroom_database::Position;
use strongroom_log_spool::{Progress, Spool, SpoolError};
use strongroom_model::{Failure as _, LogId, Remedy, chain};
use strongroom_repository::LogError;
use strongroom_repository::record::{BundleNote, HeardNote};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Database;
use super::archiver::Trouble;
use super::indexing::Indexing;
use crate::run::Agent;

/// A bundle is closed with so many bytes of log, or when the first of them has waited so long.
const BUNDLE_BYTES: usize = 8 << 20;
const BUNDLE_AGE: Duration = Duration::from_secs(10);

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A record names so many bundles, or the first of them is so old.
const RECORD_BUNDLES: usize = 32;
const RECORD_AGE: Duration = Duration::from_secs(5 * 60);

/// How often an idle database is said to be idle: `status` says *at risk* when it is not.
const IDLE_RECORD: SignedDuration = SignedDuration::from_mins(15);

/// A commit takes its stamp a moment before its record is written; by so much "everything up to" lags behind what was heard.
const STAMP_LAG: SignedDuration = SignedDuration::from_secs(1);

/// How long the last words to the journal may take when the agent stops.
const LAST_WORDS: Duration = Duration::from_secs(10);

pub(super) struct Uploader {
    pub(super) agent: Arc<Agent>,
    pub(super) database: Arc<Database>,
    pub(super) log: LogId,
    pub(super) spool: Arc<Spool>,
    /// The next bundle, and where it begins.
    pub(super) number: u32,
    pub(super) end: Position,
    /// Bundles that no record names yet; the last of them is the one before `number`.
    pub(super) uncovered: Vec<BundleNote>,
    pub(super) uncovered_since: Option<Instant>,
    /// What the last record said of where the log was heard to end.
    pub(super) heard_at: Option<Timestamp>,
    pub(super) progress: watch::Receiver<Progress>,
    /// `None` only while a thread works with it.
    pub(super) indexing: Option<Indexing>,
}

impl Uploader {
    /// Until `stop`; what is in the spool then stays there. After `last`, until all of that is stored, and said.
    pub(super) async fn run(
        &mut self,
        stop: &CancellationToken,
        last: &CancellationToken,
    ) -> Result<(), Trouble> {
        let mut waiting_since: Option<Instant> = None;
        while !stop.is_cancelled() {
            let now = self.look();
            let unsent = now.flushed.since(self.end);
            if unsent == 0 {
                if last.is_cancelled() {
                    return self.say(&now).await;
                }
                waiting_since = None;
            } else {
                let since = *waiting_since.get_or_insert_with(Instant::now);
                let is_due = unsent >= BUNDLE_BYTES as u64 || since.elapsed() >= BUNDLE_AGE;
                if is_due || last.is_cancelled() {
                    tokio::select! {
                        sent = self.send_one() => drop(sent?),
                        () = stop.cancelled() => break,
                    }
                    waiting_since = None;
                    continue;
                }
            }
            self.say_when_due(&now).await?;
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = stop.cancelled() => {}
            }
        }
        // A courtesy to whoever looks while the agent is away; what is not said is found by its number.
        let now = self.look();
        let _ = tokio::time::timeout(LAST_WORDS, self.say(&now)).await;
        Ok(())
    }

    fn look(&self) -> Progress {
        let progress = self.progress.borrow().clone();
        let (end, spool_bytes) = (self.end, self.spool.disk_bytes());
        let budget = self.database.spool_bytes;
        let began = self.database.live.update(|now| {
            let began = progress.streaming && !now.streaming;
            if began {
                // What was refused before may be had now.
                now.base_failed_at = None;
            }
            now.streaming = progress.streaming;
            now.flushed = progress.flushed;
            now.server_end = progress.server_end;
            now.current_at = progress.current_at.or(now.current_at);
            now.archived = end;
            now.spool_bytes = spool_bytes;
            now.spool_budget_bytes = budget;
            if progress.streaming {
                now.trouble = None;
            }
            if progress.flushed == end && progress.current_at.is_some() {
                now.archived_until = progress.current_at;
            }
            began
        });
        if began {
            self.database.stream_began.notify_one();
        }
        progress
    }

    /// Waits for what may take long, such as a store that does not answer. What is shown of the database stays true meanwhile.
    async fn while_looking<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(LOOK_EVERY) => drop(self.look()),
            }
        }
    }

    /// One bundle of what comes next; false: nothing does. A store that does not answer is tried for ever: the spool fills
    /// meanwhile, and the slot keeps the rest.
    async fn send_one(&mut self) -> Result<bool, Trouble> {
        let (spool, from) = (Arc::clone(&self.spool), self.end);
        let reading = tokio::task::spawn_blocking(move || spool.read(from, BUNDLE_BYTES));
        let Some(piece) = joined(reading.await)?? else { return Ok(false) };
        let Some(mut indexing) = self.indexing.take() else { return Ok(false) };
        let bundled = tokio::task::spawn_blocking(move || (indexing.bundle(from, piece), indexing)).await;
        let (bundle, indexing) = joined(bundled)?;
        // Only now, and kept: a bundle that is given up half way ends this uploader, and the next begins anew.
        self.indexing = Some(indexing);
        let repository = self.agent.repository.clone();
        let mut pause = Duration::from_millis(500);
        let note = loop {
            let put = repository.put_bundle(self.log, self.number, bundle.clone());
            match self.while_looking(put).await {
                Ok(note) => break note,
                Err(error)
                    if matches!(error.remedy(), Remedy::Retry | Remedy::Wait | Remedy::FixSurroundings)
                        && !matches!(error, LogError::Taken { .. }) =>
                {
                    let text = format!("{} [{}] {}", chain(&error), error.code(), error.advice());
                    let is_new = self
                        .database
                        .live
                        .update(|now| now.upload_trouble.replace(text.clone()) != Some(text.clone()));
                    if is_new {
                        tracing::error!(
                            database = self.database.name,
                            error = text,
                            "the log does not get into the repository; it is kept in the spool"
                        );
                    }
                    self.while_looking(tokio::time::sleep(pause)).await;
                    pause = (pause * 2).min(Duration::from_secs(30));
                }
                Err(error) => return Err(error.into()),
            }
        };
        if self.database.live.update(|now| now.upload_trouble.take()).is_some() {
            tracing::info!(database = self.database.name, "the log gets into the repository again");
        }
        tracing::debug!(database = self.database.name, bundle = self.number, from = %self.end, to = %Position::new(note.to), stored_bytes = note.bytes, "stored a bundle");
        self.end = Position::new(note.to);
        self.number += 1;
        let until = note.complete_until;
        self.database.live.update(|now| now.archived_until = now.archived_until.max(Some(until)));
        self.uncovered.push(note);
        self.uncovered_since.get_or_insert_with(Instant::now);
        let (spool, end) = (Arc::clone(&self.spool), self.end);
        joined(tokio::task::spawn_blocking(move || spool.release(end)).await)??;
        Ok(true)
    }

    async fn say_when_due(&mut self, now: &Progress) -> Result<(), Trouble> {
        let is_old = self.uncovered_since.is_some_and(|since| since.elapsed() >= RECORD_AGE);
        let is_first = self.heard_at.is_none() && now.current_at.is_some() && now.flushed == self.end;
        let is_idle = now.flushed == self.end
            && now
                .current_at
                .zip(self.heard_at)
                .is_some_and(|(now, said)| now.duration_since(said) >= IDLE_RECORD);
        // Without a word that is later than the base nothing of an idle database could be restored from it.
        let is_word_for = |ready: Timestamp| {
            let is_later = |at: Timestamp| before(at) >= ready;
            now.current_at.is_some_and(is_later) && !self.heard_at.is_some_and(is_later)
        };
        let is_for_base =
            now.flushed == self.end && self.database.live.get().base_ready_at.is_some_and(is_word_for);
        if is_old || is_first || is_for_base || is_idle || self.uncovered.len() >= RECORD_BUNDLES {
            self.say(now).await?;
        }
        Ok(())
    }

    async fn say(&mut self, now: &Progress) -> Result<(), Trouble> {
        let heard = now
            .current_at
            .filter(|_| now.flushed == self.end && self.indexing.as_ref().is_some_and(Indexing::understands))
            .map(|at| HeardNote { position: self.end.number(), at: before(at) });
        if self.uncovered.is_empty() && heard.is_none() {
            return Ok(());
        }
        let first = self.number - u32::try_from(self.uncovered.len()).unwrap_or(0);
        self.agent.repository.note_archived(self.log, first, &self.uncovered, heard).await?;
        self.uncovered.clear();
        self.uncovered_since = None;
        self.heard_at = now.current_at.filter(|_| heard.is_some()).or(self.heard_at);
        Ok(())
    }
}

/// Everything that the database stamped up to then was written when it said what its clock is.
pub(super) fn before(at: Timestamp) -> Timestamp {
    at.checked_sub(STAMP_LAG).unwrap_or(at)
}

fn joined<T>(done: Result<T, tokio::task::JoinError>) -> Result<T, SpoolError> {
    done.map_err(SpoolError::ended)
}
