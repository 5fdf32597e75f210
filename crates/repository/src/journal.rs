//! The journal: reading forward, and the one way to append (section 3 of the protocol).
//!
//! What always holds: the known fold is that of a prefix of the journal whose every record was opened, chained
//! and checked against the rules. A record is sent under one number only, and only by someone who knew all
//! records before it. Any future here may be dropped at any point: that is a crash, and crashes are harmless.

mod epochs;
pub(crate) mod opening;
pub(crate) mod state;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::StreamExt;
use strongroom_model::{RecoveryPointId, RepositoryId, World};

use crate::cbor;
use crate::errors::JournalError;
use crate::fold::{Fold, RuleError};
use crate::head::Head;
use crate::keys::Keyring;
use crate::layout::ObjectName;
use crate::names;
use crate::patience::Patience;
use crate::record::{Event, Record, RecordHash};
use crate::repository::Renewal;
use crate::rules::{Rule, holds};
use crate::seal::{self, BlobKind};
use crate::store::{ObjectStore, StoreError};
use state::StateDir;

/// A checkpoint is written when the newest known one is so many records old: whoever opens reads at most about that many
/// one by one. The larger the fold, the rarer, so that a record costs at most [`CHECKPOINT_BYTES`] of checkpoint.
pub(crate) const CHECKPOINT_EVERY: std::ops::RangeInclusive<u64> = 64..=256;

/// What a record may cost in bytes of checkpoints: as much as a small pack.
const CHECKPOINT_BYTES: u64 = 16 << 10;

/// The most records that are fetched side by side.
const MOST_AHEAD: usize = 16;

/// How many forgotten points are remembered, to tell a reader by which record its point went.
const MOST_FORGOTTEN: usize = 65_536;

/// How often somebody else may be faster before an append gives up.
const MOST_LOST: u32 = 1_000;

/// The journal of one repository, as far as this process knows it.
#[derive(Debug)]
pub(crate) struct Journal {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) world: World,
    /// What seals records and checkpoints.
    pub(crate) keyring: Arc<Keyring>,
    /// What seals everything else. In a repository that is not shared, the same.
    pub(crate) own: Arc<Keyring>,
    pub(crate) repository: RepositoryId,
    pub(crate) agent: String,
    pub(crate) patience: Patience,
    /// In single-writer mode: the one agent that may append.
    pub(crate) single_writer: Option<String>,
    pub(crate) state: Option<StateDir>,
    /// In a copy: how far it goes. Nobody appends to it.
    pub(crate) copy: Option<CopyLimit>,
    /// Where the keys of an epoch come from that this process does not hold yet.
    pub(crate) renewal: Option<Arc<Renewal>>,
    epochs: Mutex<epochs::Epochs>,
    known: Mutex<Known>,
    /// One at a time in this process, so that one reads and the others find it read.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    fold: Arc<Fold>,
    /// The newest checkpoint known.
    checkpoint: u64,
    /// By which record a point went, as far as this process saw it.
    forgotten: BTreeMap<RecoveryPointId, u64>,
}

/// How far the journal of a copy goes: what lies beyond is being copied, and is not there for readers.
#[derive(Debug)]
pub(crate) struct CopyLimit {
    until: AtomicU64,
    /// The head is looked at again before each reading.
    follows: bool,
}

impl CopyLimit {
    /// As far as the head says, also when it says more later.
    pub(crate) const fn new(until: u64) -> Self {
        Self { until: AtomicU64::new(until), follows: true }
    }

    /// Exactly so far.
    pub(crate) const fn fixed(until: u64) -> Self {
        Self { until: AtomicU64::new(until), follows: false }
    }

    pub(crate) fn until(&self) -> u64 {
        self.until.load(Ordering::Relaxed)
    }

    /// Looks whether the copy has gone on. A head that cannot be read now leaves it where it was.
    async fn look(&self, store: &dyn ObjectStore) {
        if !self.follows {
            return;
        }
        let Ok(bytes) = store.get(&ObjectName::head()).await else { return };
        if let Some(mark) = Head::parse(&bytes).ok().and_then(|head| head.copy) {
            self.until.fetch_max(mark.until, Ordering::Relaxed);
        }
    }
}

/// What became of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// The record is in the journal.
    In(Entry),
    /// Another record has the number: read forward and decide again.
    Lost,
}

/// A record that is in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) number: u64,
    pub(crate) hash: RecordHash,
}

/// A record ready to be sent: the same bytes at every attempt.
struct Sealed {
    record: Record,
    bytes: Bytes,
    hash: RecordHash,
}

impl Journal {
    /// The fold as it is known; no request.
    pub(crate) fn known(&self) -> Arc<Fold> {
        Arc::clone(&self.lock().fold)
    }

    /// The newest checkpoint known.
    pub(crate) fn checkpoint(&self) -> u64 {
        self.lock().checkpoint
    }

    /// By which record a point was forgotten, if this process saw it.
    pub(crate) fn forgotten_by(&self, point: &RecoveryPointId) -> Option<u64> {
        self.lock().forgotten.get(point).copied()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Every change below is one assignment of a finished value, so a poisoned lock still guards a sound one.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads forward until a number answers "not found": one request when nothing is new.
    pub(crate) async fn read(&self) -> Result<Arc<Fold>, JournalError> {
        let _reading = self.reading.lock().await;
        if let Some(copy) = &self.copy {
            copy.look(&*self.store).await;
        }
        let mut ahead = 1;
        loop {
            let from = self.known().number + 1;
            let numbers = from..from + ahead as u64;
            let mut records = futures::stream::iter(numbers.map(|number| self.fetch(number))).buffered(ahead);
            while let Some(fetched) = records.next().await {
                let Some((record, hash)) = fetched? else {
                    self.remember()?;
                    return Ok(self.known());
                };
                self.renew_own(&record).await;
                self.take_in(&record, hash)?;
            }
            ahead = (ahead * 2).min(MOST_AHEAD);
        }
    }

    /// Record `number`, opened, or `None` when there is none.
    pub(crate) async fn fetch(&self, number: u64) -> Result<Option<(Record, RecordHash)>, JournalError> {
        if self.copy.as_ref().is_some_and(|copy| number > copy.until()) {
            return Ok(None);
        }
        match self.get(&ObjectName::journal(number)).await {
            Ok(bytes) => match self.open_record(number, &bytes) {
                Err(error) if self.renew_keys(&error).await => self.open_record(number, &bytes).map(Some),
                opened => opened.map(Some),
            },
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(cause) => Err(JournalError::Store { number, cause }),
        }
    }

    pub(crate) fn open_record(
        &self,
        number: u64,
        sealed: &[u8],
    ) -> Result<(Record, RecordHash), JournalError> {
        let plain = seal::open(
            &self.keyring,
            self.repository,
            BlobKind::JournalRecord,
            &number.to_le_bytes(),
            sealed,
        )
        .map_err(|cause| JournalError::Sealed { number, cause })?;
        let record =
            cbor::from_bytes::<Record>(&plain).map_err(|cause| JournalError::Unreadable { number, cause })?;
        self.note_epoch(number, sealed)?;
        Ok((record, *blake3::hash(sealed).as_bytes()))
    }

    /// GET, with patience for what passes by itself.
    pub(crate) async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        let mut failures = 0;
        loop {
            match self.store.get(name).await {
                Err(cause) if cause.is_transient() => {
                    failures += 1;
                    if !self.patience.wait(failures).await {
                        return Err(cause);
                    }
                }
                answer => return answer,
            }
        }
    }

    /// Adds the next record to the known fold; a record that is known already changes nothing.
    fn take_in(&self, record: &Record, hash: RecordHash) -> Result<(), JournalError> {
        let mut known = self.lock();
        let next = known.fold.number + 1;
        if record.number < next || (record.number > next && !holds(Rule::ReadWhatWon)) {
            return Ok(());
        }
        // Copies only when somebody still looks at the older fold.
        Arc::make_mut(&mut known.fold).apply(record, hash).map_err(|cause| JournalError::Invalid {
            number: record.number,
            kind: record.event.kind(),
            cause,
        })?;
        self.reveal(Arc::make_mut(&mut known.fold), record);
        known.checkpoint = known.checkpoint.max(record.checkpoint.min(record.number));
        if let Event::Forgotten(forgotten) = &record.event {
            if known.forgotten.len() >= MOST_FORGOTTEN {
                known.forgotten.pop_first();
            }
            known.forgotten.insert(forgotten.point, record.number);
        }
        Ok(())
    }

    /// What a record says of the domain of this key.
    fn reveal(&self, fold: &mut Fold, record: &Record) {
        if !self.own.is_shared() {
            return;
        }
        match &record.event {
            Event::PublishedInDomain(published) => {
                fold.reveal(&self.own, self.repository, published.point);
            }
            Event::Held(hold) | Event::Released(hold) => {
                fold.reveal(&self.own, self.repository, hold.point);
            }
            Event::DomainAdded(_) | Event::DomainRotated(_) => self.settle_own(fold),
            _ => {}
        }
    }

    /// The epoch that seals in this key's domain is what the journal says.
    fn settle_own(&self, fold: &Fold) {
        if let Some(state) = fold.domains.get(&self.own.domain()) {
            self.own.settle(state.epoch);
        }
    }

    /// In a shared repository: the event as others may read it.
    fn veiled(&self, fold: &Fold, event: Event) -> Result<Event, JournalError> {
        if !self.own.is_shared() {
            return Ok(event);
        }
        let held = |point| {
            let sealed = fold.sealed.get(&point);
            sealed.map(|point| point.held.iter().cloned().collect()).unwrap_or_default()
        };
        let entropy = &*self.world.entropy;
        let number = fold.number + 1;
        names::veil_event(&self.own, self.repository, event, held, entropy)
            .map_err(|cause| JournalError::Sealed { number, cause })
    }

    /// A text of the journal, where this key opens it.
    pub(crate) fn unveil(&self, text: &str) -> String {
        names::unveil(&self.own, self.repository, text)
    }

    /// Notes on disk the highest record that was seen.
    fn remember(&self) -> Result<(), JournalError> {
        match &self.state {
            Some(state) => state.raise_mark(&self.known()),
            None => Ok(()),
        }
    }

    /// Appends what `decide` says on each fold that it is tried on, until it is in. `None`: there is nothing to
    /// say (any more).
    pub(crate) async fn append(
        &self,
        mut decide: impl FnMut(&Fold) -> Option<Event> + Send,
    ) -> Result<Option<Entry>, JournalError> {
        for lost in 1..=MOST_LOST {
            let fold = self.read().await?;
            let Some(event) = decide(&fold) else { return Ok(None) };
            match self.attempt(fold, event).await? {
                Attempt::In(entry) => return Ok(Some(entry)),
                Attempt::Lost => self.yield_to_others(lost).await,
            }
        }
        Err(JournalError::Crowded { kind: "record", attempts: MOST_LOST })
    }

    /// Appends `event`, on whatever fold permits it.
    pub(crate) async fn say(&self, event: Event) -> Result<Entry, JournalError> {
        let entry = self.append(|_| Some(event.clone())).await?;
        Ok(entry.expect("the decision above is never None"))
    }

    /// A pause between lost attempts: random, so that writers in step fall out of it.
    pub(crate) async fn yield_to_others(&self, lost: u32) {
        if self.patience.first.is_zero() {
            return tokio::task::yield_now().await;
        }
        let mut random = [0; 1];
        self.world.entropy.fill(&mut random);
        let most = self.patience.first.saturating_mul(lost.min(8)).min(self.patience.longest);
        tokio::time::sleep(most.mul_f64(f64::from(random[0]) / 255.0)).await;
    }

    /// Nobody appends to a copy, nor stores anything in it for a record to come.
    pub(crate) fn may_append(&self) -> Result<(), JournalError> {
        match &self.copy {
            Some(_) => Err(JournalError::IsCopy { location: self.store.location() }),
            None => Ok(()),
        }
    }

    /// Sends one record, decided on `fold`, under the number after it.
    ///
    /// It takes the fold: while somebody else holds one, taking in a record copies all points and packs.
    pub(crate) async fn attempt(&self, fold: Arc<Fold>, event: Event) -> Result<Attempt, JournalError> {
        self.attempt_with(&self.keyring, fold, event).await
    }

    /// [`Self::attempt`], sealed with the epoch of another ring: the record that rotates the keys.
    pub(crate) async fn attempt_with(
        &self,
        ring: &Keyring,
        fold: Arc<Fold>,
        event: Event,
    ) -> Result<Attempt, JournalError> {
        let event = self.veiled(&fold, event)?;
        fold.permits(&event)
            .map_err(|cause: RuleError| JournalError::Refused { kind: event.kind(), cause })?;
        self.may_append()?;
        let sealed = self.seal_record(ring, &fold, event)?;
        #[cfg(test)]
        let blind = (!holds(Rule::ReadWhatWon)).then(|| Fold { number: fold.number + 1, ..(*fold).clone() });
        drop(fold);
        let attempt = match &self.single_writer {
            None => self.create(&sealed).await?,
            Some(writer) if *writer == self.agent => self.create_alone(&sealed).await?,
            Some(writer) => {
                return Err(JournalError::OnlyReader { writer: writer.clone(), agent: self.agent.clone() });
            }
        };
        #[cfg(test)]
        if let (Attempt::Lost, Some(blind)) = (attempt, blind) {
            return Box::pin(self.attempt(Arc::new(blind), sealed.record.event)).await;
        }
        if let Attempt::In(_) = attempt {
            self.note_epoch(sealed.record.number, &sealed.bytes)?;
            self.take_in(&sealed.record, sealed.hash)?;
            self.remember()?;
            self.checkpoint_when_due().await;
        }
        Ok(attempt)
    }

    fn seal_record(&self, ring: &Keyring, fold: &Fold, event: Event) -> Result<Sealed, JournalError> {
        let record = Record {
            number: fold.number + 1,
            previous: fold.hash,
            checkpoint: self.checkpoint().min(fold.number),
            author: match self.own.is_shared() {
                true => format!("domain {}", self.own.domain()),
                false => self.agent.clone(),
            },
            time: self.world.clock.now(),
            single_writer: self.single_writer.is_some(),
            event,
        };
        let binding = record.number.to_le_bytes();
        let plain = cbor::to_bytes(&record);
        let entropy = &*self.world.entropy;
        let bytes = seal::seal(ring, self.repository, BlobKind::JournalRecord, &binding, &plain, entropy)
            .map_err(|cause| JournalError::Sealed { number: record.number, cause })?;
        let hash = *blake3::hash(&bytes).as_bytes();
        Ok(Sealed { record, bytes, hash })
    }

    /// Any answer but "created" says nothing: the number is read, and the same bytes are sent again while it is
    /// free.
    async fn create(&self, sealed: &Sealed) -> Result<Attempt, JournalError> {
        let number = sealed.record.number;
        let name = ObjectName::journal(number);
        let entry = Entry { number, hash: sealed.hash };
        let mut failures = 0;
        loop {
            let Err(cause) = self.store.create(&name, sealed.bytes.clone()).await else {
                return Ok(Attempt::In(entry));
            };
            if !holds(Rule::LookForOwn) {
                return Ok(Attempt::Lost);
            }
            if !holds(Rule::WriterNeverDeletes) && cause.is_transient() {
                return Err(JournalError::Unclear { number, attempts: failures + 1, cause });
            }
            match self.get(&name).await {
                Ok(found) if *blake3::hash(&found).as_bytes() == sealed.hash => {
                    return Ok(Attempt::In(entry));
                }
                Ok(_) => return Ok(Attempt::Lost),
                Err(StoreError::NotFound { .. }) => {}
                Err(unread) => {
                    return Err(JournalError::Unclear { number, attempts: failures + 1, cause: unread });
                }
            }
            // The name is free as far as anyone can tell. What trying again cannot mend is said at once.
            if !cause.is_transient() && !matches!(cause, StoreError::Exists { .. }) {
                return Err(JournalError::Store { number, cause });
            }
            failures += 1;
            if !self.patience.wait(failures).await {
                return Err(JournalError::Unclear { number, attempts: failures, cause });
            }
        }
    }

    /// Section 7: the store cannot create only what is absent, so one agent alone writes. The record is on its
    /// disk before it is sent, and nothing else is sent until exactly those bytes are seen in the store.
    async fn create_alone(&self, sealed: &Sealed) -> Result<Attempt, JournalError> {
        let number = sealed.record.number;
        let Some(state) = &self.state else {
            return Err(JournalError::NeedsState);
        };
        let _lock = state.lock_writer().await?;
        state.may_write(self.world.clock.now())?;
        match state.written()? {
            // Another process of this agent wrote in between.
            Some(last) if last.number >= number => return Ok(Attempt::Lost),
            Some(last) if last.number + 1 < number => {
                return Err(JournalError::SecondWriter { number: last.number + 1 });
            }
            Some(last) if last.hash != sealed.record.previous => {
                return Err(JournalError::SecondWriter { number: last.number });
            }
            _ => {}
        }
        match self.get(&ObjectName::journal(number)).await {
            Err(StoreError::NotFound { .. }) => {}
            Ok(_) => return Err(JournalError::SecondWriter { number }),
            Err(cause) => return Err(JournalError::Store { number, cause }),
        }
        state.keep_pending(number, &sealed.bytes)?;
        self.send_pending(number, &sealed.bytes).await?;
        state.note_written(number, &sealed.hash)?;
        state.drop_pending()?;
        Ok(Attempt::In(Entry { number, hash: sealed.hash }))
    }

    /// Sends the bytes that were kept, until they are seen in the store.
    async fn send_pending(&self, number: u64, bytes: &Bytes) -> Result<(), JournalError> {
        let name = ObjectName::journal(number);
        let mut failures = 0;
        loop {
            let sent = self.store.put(&name, bytes.clone()).await;
            match self.get(&name).await {
                Ok(found) if found == *bytes => return Ok(()),
                Ok(_) => return Err(JournalError::SecondWriter { number }),
                Err(StoreError::NotFound { .. }) => {}
                Err(cause) => return Err(JournalError::Store { number, cause }),
            }
            failures += 1;
            if !self.patience.wait(failures).await {
                let name = name.to_string();
                let cause = sent.err().unwrap_or(StoreError::NotFound { name });
                return Err(JournalError::Unclear { number, attempts: failures, cause });
            }
        }
    }

    /// Writes a checkpoint when the newest one is old. It follows from the journal, so a failure costs nothing
    /// but time later.
    async fn checkpoint_when_due(&self) {
        let fold = self.known();
        if fold.number >= self.checkpoint() + checkpoint_interval(&fold) {
            self.checkpoint_now().await;
        }
    }

    /// Writes a checkpoint of what is known.
    pub(crate) async fn checkpoint_now(&self) {
        let fold = self.known();
        match self.write_checkpoint(&fold).await {
            Ok(()) => {
                let mut known = self.lock();
                known.checkpoint = known.checkpoint.max(fold.number);
            }
            Err(error) => {
                let cause = strongroom_model::chain(&error);
                tracing::warn!(
                    number = fold.number,
                    cause,
                    "the journal's checkpoint was not written; opening takes longer until the next one"
                );
            }
        }
    }

    pub(crate) async fn write_checkpoint(&self, fold: &Fold) -> Result<(), JournalError> {
        let number = fold.number;
        let plain = cbor::to_bytes(fold);
        let binding = number.to_le_bytes();
        let entropy = &*self.world.entropy;
        let sealed =
            seal::seal(&self.keyring, self.repository, BlobKind::Checkpoint, &binding, &plain, entropy)
                .map_err(|cause| JournalError::Sealed { number, cause })?;
        let name = ObjectName::checkpoint(number);
        let object = name.to_string();
        self.store.put(&name, sealed).await.map_err(|cause| JournalError::Object { object, cause })
    }
}

/// After how many records a checkpoint of this fold is worth its bytes.
fn checkpoint_interval(fold: &Fold) -> u64 {
    // A point has about 256 bytes in it, a pack 37.
    let bytes = fold.points.len() as u64 * 256 + fold.packs.len() as u64 * 37;
    (bytes / CHECKPOINT_BYTES).clamp(*CHECKPOINT_EVERY.start(), *CHECKPOINT_EVERY.end())
}
