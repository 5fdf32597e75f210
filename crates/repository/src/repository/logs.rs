//! Archiving logs of databases, and reading them back.
//!
//! A writer opens a log, puts its bundles one after another, and says now and then in the journal which there are. A bundle is created
//! under a name that only its number makes, and only where nothing is: so two writers of one log cannot both believe that they
//! wrote it, and what a writer put before it crashed is found by looking for the next number.

use bytes::Bytes;
use strongroom_model::{Failure, LogId, Remedy};

use crate::cbor::{self, CborError};
use crate::entry_runs::EntryRuns;
use crate::errors::JournalError;
use crate::fold::{MAX_TEXT, MOST_CHECKS};
use crate::layout::{PackKind, PackObject};
use crate::pack::{self, EntryType, PackError, PackPlace};
use crate::record::{BundleNote, DatabaseTested, Event, HeardNote, LogArchived, LogOpened, LogTrimmed};
use crate::repository::Repository;
use crate::store::StoreError;

/// The most bytes of log that one bundle holds.
pub const MOST_BUNDLE_BYTES: u64 = 64 << 20;

/// The log's bytes of one entry: small enough to be opened while the next is on its way, large enough to shrink well.
const ENTRY_BYTES: usize = 512 << 10;

/// The most bytes that the object of a bundle may have: nothing of the log shrinks, and an index beside it.
const MOST_OBJECT_BYTES: u64 = MOST_BUNDLE_BYTES + (32 << 20);

/// A part of a log, with what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// What is said of it. `bytes` is the size of its object, or 0 before it has one.
    pub note: BundleNote,
    /// The log's bytes from `note.from` to `note.to`. Positions of some engines are no byte counts, so their lengths need not agree.
    pub log: Bytes,
    /// What these bytes say, in the engine's own form, so that finding something in them does not read them.
    pub index: Bytes,
}

/// Why a log cannot be archived, or read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The journal fails.
    #[error("the journal record of {log}")]
    Journal {
        /// The log.
        log: LogId,
        /// Why.
        #[source]
        cause: JournalError,
    },
    /// The store fails.
    #[error("bundle {number} of {log}")]
    Store {
        /// The log.
        log: LogId,
        /// Which bundle.
        number: u32,
        /// Why.
        #[source]
        cause: StoreError,
    },
    /// What was read is not what was written.
    #[error("bundle {number} of {log} cannot be read")]
    Unreadable {
        /// The log.
        log: LogId,
        /// Which bundle.
        number: u32,
        /// Why.
        #[source]
        cause: PackError,
    },
    /// What is said of it is not understood.
    #[error("bundle {number} of {log} says of itself what cannot be understood")]
    Description {
        /// The log.
        log: LogId,
        /// Which bundle.
        number: u32,
        /// Why.
        #[source]
        cause: CborError,
    },
    /// Somebody else writes this log.
    #[error("bundle {number} of {log} is there already, and not ours: somebody else archives the same log")]
    Taken {
        /// The log.
        log: LogId,
        /// Which bundle.
        number: u32,
    },
    /// The journal is read by tenants, and a log's records name the database and its moments.
    #[error("the repository is shared by key domains, and logs of databases are not archived in one")]
    Shared,
    /// It is too large.
    #[error("a bundle of {bytes} bytes is too large: {MOST_BUNDLE_BYTES} is the most")]
    TooLarge {
        /// How large.
        bytes: u64,
    },
}

impl Failure for LogError {
    fn code(&self) -> &'static str {
        match self {
            Self::Journal { cause, .. } => cause.code(),
            Self::Store { cause, .. } => cause.code(),
            Self::Unreadable { .. } => "log.unreadable",
            Self::Description { .. } => "log.description",
            Self::Taken { .. } => "log.taken",
            Self::Shared => "log.shared",
            Self::TooLarge { .. } => "log.too-large",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Journal { cause, .. } => cause.remedy(),
            Self::Store { cause, .. } => cause.remedy(),
            Self::Unreadable { cause, .. } => cause.remedy(),
            Self::Description { .. } => Remedy::FixData,
            Self::Taken { .. } => Remedy::FixSurroundings,
            Self::Shared => Remedy::FixRequest,
            Self::TooLarge { .. } => Remedy::Bug,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Journal { cause, .. } => cause.advice(),
            Self::Store { cause, .. } => cause.advice(),
            Self::Unreadable { cause, .. } => cause.advice(),
            Self::Description { .. } => "It was written by a newer version, or is damaged: run `strongroom repository check`.".into(),
            Self::Taken { .. } => "Let one agent alone archive a database; this one begins a log of its own when it is started again.".into(),
            Self::Shared => "Give the database a repository of its own, which may lie in the same bucket under another prefix: `strongroom repository init` without `--shared`.".into(),
            Self::TooLarge { .. } => "Report it.".into(),
        }
    }
}

impl Repository {
    /// Opens a log; to say the same again changes nothing.
    ///
    /// # Errors
    /// When the repository is shared by key domains, or the journal fails.
    pub async fn open_log(&self, opened: LogOpened) -> Result<(), LogError> {
        if self.is_shared() {
            return Err(LogError::Shared);
        }
        let log = opened.log;
        let event = Event::LogOpened(Box::new(opened));
        let is_new = |fold: &crate::Fold| !fold.logs.contains_key(&log);
        let said = self.journal().append(|fold| is_new(fold).then(|| event.clone())).await;
        said.map(drop).map_err(|cause| LogError::Journal { log, cause })
    }

    /// Stores bundle `number` of a log. Answers what is to be said of it in the journal.
    ///
    /// # Errors
    /// When the store fails, or there is another bundle of this number.
    pub async fn put_bundle(&self, log: LogId, number: u32, bundle: Bundle) -> Result<BundleNote, LogError> {
        let bytes = (bundle.log.len() + bundle.index.len()) as u64;
        if bytes > MOST_BUNDLE_BYTES + (16 << 20) {
            return Err(LogError::TooLarge { bytes });
        }
        self.journal().may_append().map_err(|cause| LogError::Journal { log, cause })?;
        let object = PackObject::bundle(log, number);
        let context = self.inner.context.clone();
        let mut note = BundleNote { bytes: 0, ..bundle.note };
        let description = cbor::to_bytes(&note);
        let (plain, index) = (bundle.log, bundle.index);
        let sealing = tokio::task::spawn_blocking(move || {
            let parts = (0..plain.len()).step_by(ENTRY_BYTES);
            let mut entries: Vec<_> = parts
                .map(|from| (EntryType::LogBytes, plain.slice(from..plain.len().min(from + ENTRY_BYTES))))
                .collect();
            entries.extend((!index.is_empty()).then_some((EntryType::LogIndex, index)));
            pack::seal_bundle(&context, object, &entries, &description)
        });
        // The task cannot fail but by a panic, which is told where it happens.
        let sealed = sealing.await.unwrap_or_default();
        note.bytes = sealed.len() as u64;
        let place = PackPlace { kind: PackKind::Log, object, bytes: note.bytes };
        self.create_bundle(log, number, place, sealed).await?;
        Ok(note)
    }

    /// Any answer but "created" says nothing: what is there is read back and compared.
    async fn create_bundle(
        &self,
        log: LogId,
        number: u32,
        place: PackPlace,
        sealed: Bytes,
    ) -> Result<(), LogError> {
        let name = place.name();
        let failed = |cause| LogError::Store { log, number, cause };
        let mut failures = 0;
        loop {
            let is_alone = self.journal().single_writer.is_some();
            let answer = if is_alone {
                // The store cannot create only what is absent; nobody else writes there.
                match self.store().head(&name).await {
                    Err(StoreError::NotFound { .. }) => self.store().put(&name, sealed.clone()).await,
                    Ok(_) => Err(StoreError::Exists { name: name.to_string() }),
                    Err(cause) => Err(cause),
                }
            } else {
                self.store().create(&name, sealed.clone()).await
            };
            let Err(cause) = answer else { return Ok(()) };
            match self.store().get(&name).await {
                Ok(there) if there == sealed => return Ok(()),
                Ok(_) => return Err(LogError::Taken { log, number }),
                Err(StoreError::NotFound { .. }) => {}
                Err(unread) if unread.is_transient() => {}
                Err(unread) => return Err(failed(unread)),
            }
            failures += 1;
            let may_pass = cause.is_transient() || matches!(cause, StoreError::Exists { .. });
            if !may_pass || !self.journal().patience.wait(failures).await {
                return Err(failed(cause));
            }
        }
    }

    /// What bundle `number` says of itself, if it is there: two small requests. It may be one that no record names yet.
    ///
    /// # Errors
    /// When the store fails, or it is damaged.
    pub async fn describe_bundle(&self, log: LogId, number: u32) -> Result<Option<BundleNote>, LogError> {
        let object = PackObject::bundle(log, number);
        let nowhere = PackPlace { kind: PackKind::Log, object, bytes: 0 };
        let bytes = match self.store().head(&nowhere.name()).await {
            Ok(info) => info.bytes,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(cause) => return Err(LogError::Store { log, number, cause }),
        };
        let place = PackPlace { bytes, ..nowhere };
        let description = pack::read_description(&self.inner.context, place).await;
        let description = description.map_err(|cause| LogError::Unreadable { log, number, cause })?;
        note(log, number, &description, bytes).map(Some)
    }

    /// The bundles of a log behind those that the journal names, in their order. One that does not follow, or is not what was
    /// written, ends them: nothing behind it can be counted on.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn bundles_beyond(&self, log: LogId, next: u32, end: u64) -> Result<Vec<BundleNote>, LogError> {
        let (mut found, mut end) = (Vec::new(), end);
        let mut number = next;
        loop {
            let note = match self.describe_bundle(log, number).await {
                Ok(Some(note)) if note.from == end && note.to > end => note,
                Ok(None) => break,
                Ok(Some(note)) => {
                    tracing::warn!(%log, number, from = note.from, end, "a bundle does not follow the one before it: the log ends there");
                    break;
                }
                Err(error) if error.remedy() == Remedy::FixData => {
                    tracing::warn!(%log, number, error = strongroom_model::chain(&error), "a bundle is damaged: the log ends before it");
                    break;
                }
                Err(error) => return Err(error),
            };
            end = note.to;
            found.push(note);
            number = number.saturating_add(1);
        }
        Ok(found)
    }

    /// Reads a bundle of `bytes` bytes, as the journal or [`Self::bundles_beyond`] tells them: one request.
    ///
    /// # Errors
    /// When it cannot be had, or is not what was written.
    pub async fn read_bundle(&self, log: LogId, number: u32, bytes: u64) -> Result<Bundle, LogError> {
        if bytes > MOST_OBJECT_BYTES {
            return Err(LogError::TooLarge { bytes });
        }
        let place = PackPlace { kind: PackKind::Log, object: PackObject::bundle(log, number), bytes };
        let opened = pack::open_bundle(&self.inner.context, place).await;
        let opened = opened.map_err(|cause| LogError::Unreadable { log, number, cause })?;
        let note = note(log, number, &opened.description, bytes)?;
        let (mut plain, mut index) = (Vec::new(), Bytes::new());
        for (entry_type, entry) in opened.entries {
            match entry_type {
                EntryType::LogBytes => plain.extend_from_slice(&entry),
                _ => index = entry,
            }
        }
        Ok(Bundle { note, log: plain.into(), index })
    }

    /// Says in the journal which bundles are stored, and where the log was heard to end. What others said meanwhile is left out.
    ///
    /// # Errors
    /// When the journal fails, or the bundles do not follow those it names.
    pub async fn note_archived(
        &self,
        log: LogId,
        first: u32,
        bundles: &[BundleNote],
        heard: Option<HeardNote>,
    ) -> Result<(), LogError> {
        let event = |fold: &crate::Fold| {
            let state = fold.logs.get(&log);
            let known = state.map_or(0, |state| state.next.saturating_sub(first) as usize).min(bundles.len());
            let end = bundles.last().map(|last| last.to).or(state.map(|state| state.end));
            let heard = heard.filter(|heard| Some(heard.position) == end);
            let is_new =
                known < bundles.len() || (heard.is_some() && state.is_some_and(|state| state.heard < heard));
            let first = first.saturating_add(u32::try_from(known).unwrap_or(u32::MAX));
            is_new.then(|| LogArchived { log, first, bundles: bundles[known..].to_vec(), heard })
        };
        let said = self.journal().append(|fold| event(fold).map(Event::LogArchived)).await;
        said.map(drop).map_err(|cause| LogError::Journal { log, cause })
    }

    /// Says that bundles of a log are not needed any more; the next sweep takes them. Those that a point needs are refused.
    ///
    /// # Errors
    /// When the journal fails or the rules do not permit it.
    pub async fn trim_log(&self, log: LogId, bundles: EntryRuns, reason: &str) -> Result<(), LogError> {
        let event = Event::LogTrimmed(LogTrimmed { log, bundles, reason: reason.to_owned() });
        self.journal().say(event).await.map(drop).map_err(|cause| LogError::Journal { log, cause })
    }

    /// Notes in the journal that a database was brought back for the sake of proving that it can be. What is too much to be noted is cut.
    ///
    /// # Errors
    /// When the journal fails, or knows no such log.
    pub async fn note_database_tested(&self, mut tested: DatabaseTested) -> Result<(), LogError> {
        let log = tested.log;
        tested.checks.truncate(MOST_CHECKS);
        let failure = tested.failure.iter_mut().map(|failure| &mut failure.message);
        for text in tested.checks.iter_mut().chain(failure) {
            text.truncate(text.floor_char_boundary(MAX_TEXT));
        }
        let event = Event::DatabaseTested(Box::new(tested));
        self.journal().say(event).await.map(drop).map_err(|cause| LogError::Journal { log, cause })
    }
}

fn note(log: LogId, number: u32, description: &[u8], bytes: u64) -> Result<BundleNote, LogError> {
    let note = cbor::from_bytes::<BundleNote>(description);
    let note = note.map_err(|cause| LogError::Description { log, number, cause })?;
    Ok(BundleNote { bytes, ..note })
}
