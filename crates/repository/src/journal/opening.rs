//! Opening the journal: a few requests, however old it is.
//!
//! The newest checkpoint is found through LIST, which is only a hint, or without it by doubling and bisection
//! over HEAD: record names are never freed, so "record n exists" is monotone. A checkpoint is believed only
//! when the record it ends with has the hash that it says. Then the journal is read forward to the first number
//! that is free, one LIST looks for records beyond (a hole), and the highest record this machine ever saw is
//! compared (race 16).

use std::sync::Arc;

use strongroom_model::{RepositoryId, World};

use super::state::{Mark, StateDir};
use super::{CHECKPOINT_EVERY, CopyLimit, Journal, Known};
use crate::cbor;
use crate::errors::JournalError;
use crate::fold::Fold;
use crate::keys::Keyring;
use crate::layout::{ObjectKind, ObjectName};
use crate::patience::Patience;
use crate::record::{Event, RollbackAccepted};
use crate::repository::Renewal;
use crate::seal::{self, BlobKind};
use crate::store::{ListPage, ObjectStore, StoreError};

/// How many checkpoints are tried before the journal is folded from its beginning; a sweep removes those before them.
pub(crate) const CHECKPOINTS_KEPT: usize = 4;

/// What a journal is opened with.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) world: World,
    /// What seals the journal.
    pub(crate) keyring: Arc<Keyring>,
    /// What seals everything else.
    pub(crate) own: Arc<Keyring>,
    pub(crate) repository: RepositoryId,
    pub(crate) agent: String,
    pub(crate) patience: Patience,
    pub(crate) single_writer: Option<String>,
    pub(crate) state: Option<StateDir>,
    pub(crate) renewal: Option<Arc<Renewal>>,
    /// Why a person accepts that the journal lost its end, if it did.
    pub(crate) accept_rollback: Option<String>,
    /// In a copy: how far it goes.
    pub(crate) copy: Option<CopyLimit>,
}

impl Journal {
    /// Finds the newest checkpoint, reads forward, and compares with what this machine remembers.
    pub(crate) async fn open(opening: Opening) -> Result<Self, JournalError> {
        let accept_rollback = opening.accept_rollback.clone();
        let journal = Self::new(opening);
        journal.settle_pending().await?;
        let mut fold = journal.find_checkpoint().await?;
        journal.settle_own(&fold);
        fold.reveal_all(&journal.own, journal.repository);
        // Not the newest epoch seen: a checkpoint that was refused has been looked at, too.
        let checkpoint_epoch = journal.epoch_at(fold.number);
        {
            let mut known = journal.lock();
            known.checkpoint = fold.number;
            known.fold = Arc::new(fold);
        }
        // The mark is looked at before reading forward raises it.
        let mark = journal.state.as_ref().map_or(Ok(None), StateDir::mark)?;
        journal.read_and_compare(mark, accept_rollback).await?;
        journal.distrust_checkpoint_under(checkpoint_epoch).await?;
        journal.confirm_end().await?;
        Ok(journal)
    }

    /// A checkpoint under an older epoch than the journal's end may be the work of somebody whose key was removed: then the
    /// journal is folded from its first record, which nobody can forge.
    async fn distrust_checkpoint_under(&self, epoch: Option<u32>) -> Result<(), JournalError> {
        if epoch.is_none() || epoch == self.newest_epoch() {
            return Ok(());
        }
        tracing::warn!("no checkpoint was written since the keys were rotated; the whole journal is read");
        {
            let mut known = self.lock();
            known.checkpoint = 0;
            known.fold = Arc::default();
        }
        self.read().await.map(drop)
    }

    /// A journal of which nothing is known yet.
    pub(crate) fn new(opening: Opening) -> Self {
        Self {
            store: opening.store,
            world: opening.world,
            keyring: opening.keyring,
            own: opening.own,
            repository: opening.repository,
            agent: opening.agent,
            patience: opening.patience,
            single_writer: opening.single_writer,
            state: opening.state,
            copy: opening.copy,
            renewal: opening.renewal,
            epochs: std::sync::Mutex::default(),
            known: std::sync::Mutex::new(Known::default()),
            reading: tokio::sync::Mutex::new(()),
        }
    }

    /// Single-writer mode: what was about to be sent when this agent was killed is sent again before anything
    /// else.
    async fn settle_pending(&self) -> Result<(), JournalError> {
        let (Some(writer), Some(state)) = (&self.single_writer, &self.state) else { return Ok(()) };
        if *writer != self.agent {
            return Ok(());
        }
        let _lock = state.lock_writer().await?;
        state.must_wait_from(self.world.clock.now())?;
        let Some((number, bytes)) = state.pending()? else { return Ok(()) };
        match self.get(&ObjectName::journal(number)).await {
            Ok(found) if found == bytes => {}
            Ok(_) => return Err(JournalError::SecondWriter { number }),
            Err(StoreError::NotFound { .. }) => self.send_pending(number, &bytes).await?,
            Err(cause) => return Err(JournalError::Store { number, cause }),
        }
        state.note_written(number, blake3::hash(&bytes).as_bytes())?;
        state.drop_pending()
    }

    /// The newest fold that can be believed; the empty one when there is no checkpoint.
    async fn find_checkpoint(&self) -> Result<Fold, JournalError> {
        let (mut numbers, more) = self.list_checkpoints(None).await.unwrap_or_default();
        if let Some(copy) = &self.copy {
            numbers.retain(|number| *number <= copy.until());
        }
        // A sweep leaves few. Where none ever came, more pages would cost more than the way without LIST.
        if numbers.is_empty() || more {
            // A journal that is too short for one has none; a longer one was hidden by its LIST.
            if !self.exists(*CHECKPOINT_EVERY.start()).await? {
                return Ok(Fold::default());
            }
            numbers.extend(self.checkpoint_of_head().await?);
        }
        for number in numbers.into_iter().rev().take(CHECKPOINTS_KEPT) {
            match self.load_checkpoint(number).await? {
                Some(fold) => return Ok(fold),
                None => tracing::warn!(
                    number,
                    "a checkpoint of the journal cannot be used; an older one is taken"
                ),
            }
        }
        Ok(Fold::default())
    }

    /// The checkpoints as LIST shows them, ascending; nothing when LIST fails.
    pub(crate) async fn listed_checkpoints(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> = Vec::new();
        loop {
            let Some((page, more)) = self.list_checkpoints(numbers.last().copied()).await else {
                return numbers;
            };
            let is_last = !more || page.is_empty();
            numbers.extend(page);
            if is_last {
                return numbers;
            }
        }
    }

    /// One page of the checkpoints after a number, ascending, and whether there are more; `None` when LIST fails.
    async fn list_checkpoints(&self, after: Option<u64>) -> Option<(Vec<u64>, bool)> {
        let after = after.map(ObjectName::checkpoint);
        let page = self.store.list("journal/checkpoints/", after.as_ref().map(ObjectName::as_str)).await;
        let ListPage { objects, more } = page.ok()?;
        let number = |name: &str| match ObjectName::parse(name)?.1 {
            ObjectKind::Checkpoint(number) => Some(number),
            _ => None,
        };
        Some((objects.iter().filter_map(|object| number(&object.name)).collect(), more))
    }

    async fn exists(&self, number: u64) -> Result<bool, JournalError> {
        if self.copy.as_ref().is_some_and(|copy| number > copy.until()) {
            return Ok(false);
        }
        let mut failures = 0;
        loop {
            match self.store.head(&ObjectName::journal(number)).await {
                Ok(_) => return Ok(true),
                Err(StoreError::NotFound { .. }) => return Ok(false),
                Err(cause) => {
                    failures += 1;
                    if !cause.is_transient() || !self.patience.wait(failures).await {
                        return Err(JournalError::Store { number, cause });
                    }
                }
            }
        }
    }

    /// The checkpoint that the newest record knew, found by doubling and bisection.
    async fn checkpoint_of_head(&self) -> Result<Option<u64>, JournalError> {
        let first = *CHECKPOINT_EVERY.start();
        let (mut there, mut free) = (first, first * 2);
        while self.exists(free).await? {
            (there, free) = (free, free.saturating_mul(2));
        }
        while free - there > 1 {
            let middle = there + (free - there) / 2;
            if self.exists(middle).await? { there = middle } else { free = middle }
        }
        let head = self.fetch(there).await?;
        Ok(head.map(|(record, _)| record.checkpoint).filter(|checkpoint| *checkpoint > 0))
    }

    /// A checkpoint, if it is sound and the journal agrees with it. `None`: take another.
    pub(crate) async fn load_checkpoint(&self, number: u64) -> Result<Option<Fold>, JournalError> {
        let Ok(sealed) = self.get(&ObjectName::checkpoint(number)).await else { return Ok(None) };
        let binding = number.to_le_bytes();
        let Ok(plain) = seal::open(&self.keyring, self.repository, BlobKind::Checkpoint, &binding, &sealed)
        else {
            return Ok(None);
        };
        let Ok(fold) = cbor::from_bytes::<Fold>(&plain) else { return Ok(None) };
        if fold.number != number || number == 0 {
            return Ok(None);
        }
        let agrees = match self.get(&ObjectName::journal(number)).await {
            Ok(record) if *blake3::hash(&record).as_bytes() == fold.hash => {
                // Nobody who lacks the record's epoch could have made a checkpoint of it.
                self.note_epoch(number, &record)? <= seal::epoch_of(&sealed).unwrap_or(0)
            }
            Ok(_) => false,
            Err(StoreError::NotFound { .. }) => false,
            Err(cause) => return Err(JournalError::Store { number, cause }),
        };
        Ok(agrees.then_some(fold))
    }

    /// Reads forward; what this machine saw before must be in it.
    async fn read_and_compare(&self, mark: Option<Mark>, accept: Option<String>) -> Result<(), JournalError> {
        // That a copy does not go as far as the repository that this machine saw is no loss of anything.
        let beyond = |mark: &Mark| self.copy.as_ref().is_some_and(|copy| mark.number > copy.until());
        let Some(mark) = mark.filter(|mark| !beyond(mark)) else {
            self.read().await?;
            return Ok(());
        };
        let found = match self.get(&ObjectName::journal(mark.number)).await {
            Ok(bytes) if *blake3::hash(&bytes).as_bytes() == mark.hash => {
                self.read().await?;
                return Ok(());
            }
            Ok(_) => "has another one under that number".to_owned(),
            Err(StoreError::NotFound { .. }) => "has no record of that number".to_owned(),
            Err(cause) => return Err(JournalError::Store { number: mark.number, cause }),
        };
        let fold = self.read_without_remembering().await?;
        if self.was_accepted(&fold, mark.number).await? {
            return self.reset_mark(&fold);
        }
        let Some(reason) = accept else {
            return Err(JournalError::RolledBack { seen: mark.number, found });
        };
        let accepted = RollbackAccepted { number: mark.number, hash: mark.hash, reason };
        self.reset_mark(&fold)?;
        self.say(Event::RollbackAccepted(accepted)).await.map(drop)
    }

    async fn read_without_remembering(&self) -> Result<Arc<Fold>, JournalError> {
        while let Some((record, hash)) = self.fetch(self.known().number + 1).await? {
            self.take_in(&record, hash)?;
        }
        Ok(self.known())
    }

    fn reset_mark(&self, fold: &Fold) -> Result<(), JournalError> {
        self.state.as_ref().map_or(Ok(()), |state| state.raise_mark_to(fold.number, &fold.hash))
    }

    /// Whether a person accepted the loss of records up to at least `seen`, in a record that took a lost number.
    async fn was_accepted(&self, fold: &Fold, seen: u64) -> Result<bool, JournalError> {
        for number in (1..=fold.number.min(seen)).rev() {
            let Some((record, _)) = self.fetch(number).await? else { return Ok(false) };
            if matches!(&record.event, Event::RollbackAccepted(accepted) if accepted.number >= seen) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// One LIST beyond the last record: a later one proves that a record is missing in between.
    pub(crate) async fn confirm_end(&self) -> Result<(), JournalError> {
        if self.copy.is_some() {
            // What is beyond its end is being copied.
            return Ok(());
        }
        let last = self.known().number;
        let after = ObjectName::journal(last);
        // "journal/0" leaves the checkpoints out: record numbers begin with a digit and stay below 10^19.
        let Ok(page) = self.store.list("journal/0", Some(after.as_str())).await else { return Ok(()) };
        let later = page.objects.iter().find_map(|object| match ObjectName::parse(&object.name)?.1 {
            ObjectKind::Journal(number) if number > last => Some(number),
            _ => None,
        });
        let Some(later) = later else { return Ok(()) };
        let missing = self.read().await?.number + 1;
        if missing > later { Ok(()) } else { Err(JournalError::Hole { missing, later }) }
    }
}
