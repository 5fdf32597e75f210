//! Why the repository did not do what was asked.

use strongroom_model::{Failure, PackId, RecoveryPointId, Remedy, VolumeName};

use crate::cbor::CborError;
use crate::fold::RuleError;
use crate::head::HeadError;
use crate::index::IndexError;
use crate::keys::KeyError;
use crate::map::MapError;
use crate::pack::FetchError;
use crate::seal::SealError;
use crate::store::StoreError;

mod domain;

pub use domain::DomainError;

/// Why the journal cannot be read or appended to.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The store failed.
    #[error("journal record {number}")]
    Store {
        /// Which record.
        number: u64,
        /// Why.
        #[source]
        cause: StoreError,
    },
    /// The store failed, with an object beside the journal.
    #[error("object {object}")]
    Object {
        /// Which object.
        object: String,
        /// Why.
        #[source]
        cause: StoreError,
    },
    /// A record cannot be opened.
    #[error("journal record {number} is damaged, or not of this repository")]
    Sealed {
        /// Which record.
        number: u64,
        /// Why.
        #[source]
        cause: SealError,
    },
    /// A record is sealed under keys that were replaced before it.
    #[error(
        "journal record {number} is sealed under epoch {epoch}, but another record says that it cannot be (epoch {other})"
    )]
    OldKey {
        /// Which record.
        number: u64,
        /// Its epoch.
        epoch: u32,
        /// The epoch of a record before it that is newer, or after it that is older.
        other: u32,
    },
    /// A record is not understood.
    #[error("journal record {number} cannot be understood")]
    Unreadable {
        /// Which record.
        number: u64,
        /// Why.
        #[source]
        cause: CborError,
    },
    /// A record breaks the rules.
    #[error("journal record {number} ({kind}) must not be there")]
    Invalid {
        /// Which record.
        number: u64,
        /// Of which kind.
        kind: &'static str,
        /// Which rule.
        #[source]
        cause: RuleError,
    },
    /// What was asked for is against the rules now.
    #[error("\"{kind}\" is refused")]
    Refused {
        /// The kind of record.
        kind: &'static str,
        /// Which rule.
        #[source]
        cause: RuleError,
    },
    /// A record that this machine saw is gone or different.
    #[error("the journal was rolled back: this machine saw record {seen}, the store {found}")]
    RolledBack {
        /// The highest record seen.
        seen: u64,
        /// What is there now.
        found: String,
    },
    /// A record is missing below others.
    #[error("journal record {missing} is missing, but record {later} is there")]
    Hole {
        /// Which one.
        missing: u64,
        /// One after it.
        later: u64,
    },
    /// Many attempts, no clear answer.
    #[error(
        "record {number} was sent {attempts} times without a clear answer; it may or may not be in the journal"
    )]
    Unclear {
        /// Which record.
        number: u64,
        /// How often.
        attempts: u32,
        /// The last answer.
        #[source]
        cause: StoreError,
    },
    /// Others were always faster.
    #[error("{attempts} times another writer was faster at appending \"{kind}\"")]
    Crowded {
        /// The kind of record.
        kind: &'static str,
        /// How often.
        attempts: u32,
    },
    /// This agent may not write here.
    #[error("only the agent {writer:?} may write to this repository, and this is {agent:?}")]
    OnlyReader {
        /// Who may.
        writer: String,
        /// Who this is.
        agent: String,
    },
    /// It is a copy.
    #[error("{location} is a copy: nothing is written to it but what is copied")]
    IsCopy {
        /// Where it lies.
        location: String,
    },
    /// In single-writer mode: somebody else writes.
    #[error("there is a second writer: record {number} is not the one that this machine wrote")]
    SecondWriter {
        /// Which record.
        number: u64,
    },
    /// In single-writer mode: nothing can be remembered.
    #[error("this repository has a single writer, which needs a state folder")]
    NeedsState,
    /// In single-writer mode: requests of a lost machine may still arrive.
    #[error("this machine may write to the repository from {after} on")]
    TooSoon {
        /// From when on.
        after: jiff::Timestamp,
    },
    /// What this machine remembers cannot be read or written.
    #[error("the state folder: {path}")]
    State {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
}

impl Failure for JournalError {
    fn code(&self) -> &'static str {
        match self {
            Self::Store { .. } | Self::Object { .. } => "journal.store",
            Self::Sealed { cause: cause @ SealError::UnknownEpoch { .. }, .. } => cause.code(),
            Self::OldKey { .. } => "journal.old-key",
            Self::Sealed { .. } | Self::Unreadable { .. } => "journal.unreadable",
            Self::Invalid { .. } => "journal.invalid",
            Self::Refused { .. } => "journal.refused",
            Self::RolledBack { .. } => "journal.rolled-back",
            Self::Hole { .. } => "journal.hole",
            Self::Unclear { .. } => "journal.unclear",
            Self::Crowded { .. } => "journal.crowded",
            Self::OnlyReader { .. } => "journal.only-reader",
            Self::IsCopy { .. } => "journal.is-copy",
            Self::SecondWriter { .. } => "journal.second-writer",
            Self::NeedsState => "journal.needs-state",
            Self::TooSoon { .. } => "journal.too-soon",
            Self::State { .. } => "journal.state",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Store { cause, .. } | Self::Object { cause, .. } => cause.remedy(),
            Self::Sealed { cause: cause @ SealError::UnknownEpoch { .. }, .. } => cause.remedy(),
            Self::Sealed { .. }
            | Self::Unreadable { .. }
            | Self::OldKey { .. }
            | Self::Invalid { .. }
            | Self::RolledBack { .. } => Remedy::FixData,
            Self::Hole { .. } => Remedy::FixData,
            Self::Refused { .. } | Self::IsCopy { .. } => Remedy::FixRequest,
            Self::Unclear { .. } => Remedy::Retry,
            Self::Crowded { .. } | Self::TooSoon { .. } => Remedy::Wait,
            Self::NeedsState => Remedy::FixRequest,
            Self::OnlyReader { .. } | Self::SecondWriter { .. } | Self::State { .. } => {
                Remedy::FixSurroundings
            }
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Store { cause, .. } | Self::Object { cause, .. } => return cause.advice(),
            Self::Sealed { cause: cause @ SealError::UnknownEpoch { .. }, .. } => return cause.advice(),
            Self::Sealed { .. } => {
                "Nothing was changed. Compare the object with a copy or an older version of the bucket; someone or something changed it."
            }
            Self::OldKey { .. } => {
                "Nothing was changed. Somebody who holds keys from before the last rotation wrote to the bucket: take their access to \
                 it away, then restore the journal from the bucket's own versions."
            }
            Self::Unreadable { .. } => "Nothing was changed. If a newer Strongroom writes to this repository, update this one.",
            Self::Invalid { .. } => "Nothing was changed. A program that does not follow the protocol wrote to this repository: report it.",
            Self::Refused { .. } => "Look at `strongroom points list` again: somebody else may have changed what this was about.",
            Self::RolledBack { .. } | Self::Hole { .. } => {
                "Nothing was changed. Find out what removed objects from the bucket (a restored copy, a lifecycle rule, a person). Restore them, or accept the loss with `strongroom repository accept-rollback`."
            }
            Self::Unclear { .. } => "Run the command again: it finds out by itself whether the record is there.",
            Self::Crowded { .. } => "Very many writers are at work; run the command again.",
            Self::OnlyReader { .. } => "The store cannot create objects only when they are absent, so one agent alone may write. Run this there, or move the repository to another store.",
            Self::IsCopy { .. } => "Name the repository that it is a copy of. If that one is lost for good, `strongroom repository copy --promote` makes this one a repository of its own.",
            Self::SecondWriter { .. } => "Stop the other writer. Nothing was deleted. Then run `strongroom repository check`.",
            Self::NeedsState => "Name a state folder, on a disk that stays.",
            Self::TooSoon { .. } => "Wait: what another machine of this name sent may arrive until then.",
            Self::State { .. } => "Make the state folder readable and writable for this program, with space left on its disk.",
        }
        .to_owned()
    }
}

/// Why a repository was not made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is one.
    #[error("{location} holds a repository already")]
    Exists {
        /// Where.
        location: String,
    },
    /// The size of a chunk.
    #[error("{bytes} bytes is no size of a chunk")]
    ChunkBytes {
        /// What was asked for.
        bytes: u32,
    },
    /// No key.
    #[error("a repository needs at least one key")]
    NoKey,
    /// The store failed.
    #[error("making the repository at {location}")]
    Store {
        /// Where.
        location: String,
        /// Why.
        #[source]
        cause: StoreError,
    },
    /// A key slot cannot be made.
    #[error("making a key slot")]
    Key(#[source] KeyError),
    /// What was made cannot be opened.
    #[error(transparent)]
    Open(Box<OpenError>),
    /// The first records.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl Failure for InitError {
    fn code(&self) -> &'static str {
        match self {
            Self::Exists { .. } => "init.exists",
            Self::ChunkBytes { .. } => "init.chunk-bytes",
            Self::NoKey => "init.no-key",
            Self::Store { cause, .. } => cause.code(),
            Self::Key(cause) => cause.code(),
            Self::Open(cause) => cause.code(),
            Self::Journal(cause) => cause.code(),
        }
    }
    fn remedy(&self) -> Remedy {
        match self {
            Self::Exists { .. } | Self::ChunkBytes { .. } | Self::NoKey => Remedy::FixRequest,
            Self::Store { cause, .. } => cause.remedy(),
            Self::Key(cause) => cause.remedy(),
            Self::Open(cause) => cause.remedy(),
            Self::Journal(cause) => cause.remedy(),
        }
    }
    fn advice(&self) -> String {
        match self {
            Self::Exists { .. } => "Use it with its key, or choose another prefix.".to_owned(),
            Self::ChunkBytes { .. } => {
                "Choose a power of two from 16 KiB to 1 MiB; 64 KiB is right for nearly everything."
                    .to_owned()
            }
            Self::NoKey => "Name a key file or a passphrase file.".to_owned(),
            Self::Store { cause, .. } => cause.advice(),
            Self::Key(cause) => cause.advice(),
            Self::Open(cause) => cause.advice(),
            Self::Journal(cause) => cause.advice(),
        }
    }
}

/// Why a repository cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is none.
    #[error("{location} holds no repository")]
    NoRepository {
        /// Where.
        location: String,
    },
    /// The store failed.
    #[error("opening the repository at {location}")]
    Store {
        /// Where.
        location: String,
        /// Why.
        #[source]
        cause: StoreError,
    },
    /// The head object.
    #[error("the repository at {location}")]
    Head {
        /// Where.
        location: String,
        /// Why.
        #[source]
        cause: HeadError,
    },
    /// The key opens no slot.
    #[error("unlocking the repository at {location}")]
    Key {
        /// Where.
        location: String,
        /// Why.
        #[source]
        cause: KeyError,
    },
    /// What this machine remembers.
    #[error("the dedup index")]
    Index(#[source] IndexError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl Failure for OpenError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoRepository { .. } => "repository.none",
            Self::Store { cause, .. } => cause.code(),
            Self::Head { cause: HeadError::Newer { .. }, .. } => "repository.newer",
            Self::Head { .. } => "repository.head",
            Self::Key { cause, .. } => cause.code(),
            Self::Index(cause) => cause.code(),
            Self::Journal(cause) => cause.code(),
        }
    }
    fn remedy(&self) -> Remedy {
        match self {
            Self::NoRepository { .. } => Remedy::FixRequest,
            Self::Store { cause, .. } => cause.remedy(),
            Self::Head { cause: HeadError::Newer { .. }, .. } => Remedy::FixSurroundings,
            Self::Head { .. } => Remedy::FixData,
            Self::Key { cause, .. } => cause.remedy(),
            Self::Index(cause) => cause.remedy(),
            Self::Journal(cause) => cause.remedy(),
        }
    }
    fn advice(&self) -> String {
        match self {
            Self::NoRepository { .. } => {
                "Check the URL and its prefix, or make a repository with `strongroom init`.".to_owned()
            }
            Self::Head { cause: HeadError::Newer { .. }, .. } => {
                "Update Strongroom on this machine.".to_owned()
            }
            Self::Head { .. } => {
                "Restore the object strongroom.json from a copy or an older version of the bucket.".to_owned()
            }
            Self::Store { cause, .. } => cause.advice(),
            Self::Key { cause, .. } => cause.advice(),
            Self::Index(cause) => cause.advice(),
            Self::Journal(cause) => cause.advice(),
        }
    }
}

/// Why a session cannot begin, go on or end.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl Failure for SessionError {
    fn code(&self) -> &'static str {
        match self {
            Self::Journal(cause) => cause.code(),
        }
    }
    fn remedy(&self) -> Remedy {
        match self {
            Self::Journal(cause) => cause.remedy(),
        }
    }
    fn advice(&self) -> String {
        match self {
            Self::Journal(cause) => cause.advice(),
        }
    }
}

/// Why a draft did not become a recovery point.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Somebody shut this writer out. Its session has ended; [`crate::session::Session::reopen`] goes on.
    #[error("session {session} is no longer open: it was fenced")]
    Fenced {
        /// Which session.
        session: u64,
    },
    /// What the map refers to is gone, or going without waiting for this session.
    #[error("the map refers to {pack}, which was swept meanwhile")]
    Gone {
        /// Which pack.
        pack: PackId,
    },
    /// The draft contradicts itself.
    #[error("the draft of a point of {volume} cannot be right: {what}")]
    Draft {
        /// Of which volume.
        volume: VolumeName,
        /// What is wrong with it.
        what: String,
    },
    /// The map cannot be walked.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl Failure for PublishError {
    fn code(&self) -> &'static str {
        match self {
            Self::Fenced { .. } => "session.fenced",
            Self::Gone { .. } => "session.gone",
            Self::Draft { .. } => "session.draft",
            Self::Map(cause) => cause.code(),
            Self::Journal(cause) => cause.code(),
        }
    }
    fn remedy(&self) -> Remedy {
        match self {
            Self::Fenced { .. } => Remedy::Fenced,
            Self::Gone { .. } => Remedy::Retry,
            Self::Draft { .. } => Remedy::Bug,
            Self::Map(cause) => cause.remedy(),
            Self::Journal(cause) => cause.remedy(),
        }
    }
    fn advice(&self) -> String {
        match self {
            Self::Fenced { .. } => {
                "Run the backup again: what was stored is kept where that is safe.".to_owned()
            }
            Self::Gone { .. } => "Run the backup again: it stores what was swept.".to_owned(),
            Self::Draft { .. } => "Report this.".to_owned(),
            Self::Map(cause) => cause.advice(),
            Self::Journal(cause) => cause.advice(),
        }
    }
}

/// Why a sweep, or what looks at all of the store, stopped.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// What a point needs cannot be known, so nothing may be planned.
    #[error("the map of {point} cannot be read, so nobody knows what it needs")]
    Map {
        /// Which point.
        point: RecoveryPointId,
        /// Why.
        #[source]
        cause: MapError,
    },
    /// A footer.
    #[error("the footer of {pack}")]
    Footer {
        /// Of which pack.
        pack: PackId,
        /// Why.
        #[source]
        cause: FetchError,
    },
    /// The store failed.
    #[error("object {object}")]
    Store {
        /// Which object, or which folder.
        object: String,
        /// Why.
        #[source]
        cause: StoreError,
    },
    /// In single-writer mode nothing is swept while a session is open.
    #[error("session {session} is open, and this repository has a single writer")]
    SessionOpen {
        /// Which session.
        session: u64,
    },
    /// What other domains need.
    #[error(transparent)]
    Domain(#[from] DomainError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl Failure for SweepError {
    fn code(&self) -> &'static str {
        match self {
            Self::Map { cause, .. } => cause.code(),
            Self::Footer { cause, .. } => cause.code(),
            Self::Store { cause, .. } => cause.code(),
            Self::SessionOpen { .. } => "sweep.session-open",
            Self::Domain(cause) => cause.code(),
            Self::Journal(cause) => cause.code(),
        }
    }
    fn remedy(&self) -> Remedy {
        match self {
            Self::Map { cause, .. } => cause.remedy(),
            Self::Footer { cause, .. } => cause.remedy(),
            Self::Store { cause, .. } => cause.remedy(),
            Self::SessionOpen { .. } => Remedy::Wait,
            Self::Domain(cause) => cause.remedy(),
            Self::Journal(cause) => cause.remedy(),
        }
    }
    fn advice(&self) -> String {
        match self {
            Self::Map { cause, .. } => cause.advice(),
            Self::Footer { cause, .. } => cause.advice(),
            Self::Store { cause, .. } => cause.advice(),
            Self::SessionOpen { .. } => {
                "Sweep when the backup is done, or fence the session if its writer is gone.".to_owned()
            }
            Self::Domain(cause) => cause.advice(),
            Self::Journal(cause) => cause.advice(),
        }
    }
}

/// Why a key was not added, listed or removed.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The slot cannot be made or read.
    #[error("key slot {slot}")]
    Key {
        /// Which slot.
        slot: String,
        /// Why.
        #[source]
        cause: KeyError,
    },
    /// There is no such slot.
    #[error("there is no key slot {slot}")]
    NoSuchSlot {
        /// Which slot.
        slot: String,
    },
    /// It is the last that opens everything.
    #[error(
        "key slot {slot} is the last one that grants everything; without it nobody could read the repository"
    )]
    Last {
        /// Which slot.
        slot: String,
    },
    /// Slots whose holders would be left behind with the old keys.
    #[error("{} cannot be given new keys: {}", slots.len(), names(slots))]
    LeftBehind {
        /// Which, and why.
        slots: Vec<LeftBehind>,
    },
    /// Somebody else changed the keys at the same time.
    #[error("somebody else changed the keys at the same time; nothing was changed here")]
    Raced,
    /// The store failed.
    #[error("key slot {slot}")]
    Store {
        /// Which slot, or all.
        slot: String,
        /// Why.
        #[source]
        cause: StoreError,
    },
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// A slot that a rotation cannot give the new keys.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LeftBehind {
    /// The slot.
    pub slot: String,
    /// Its label.
    pub label: String,
    /// Why.
    pub why: &'static str,
}

fn names(slots: &[LeftBehind]) -> String {
    let name = |left: &LeftBehind| format!("slot {} {:?} ({})", left.slot, left.label, left.why);
    slots.iter().map(name).collect::<Vec<_>>().join("; ")
}

impl Failure for KeysError {
    fn code(&self) -> &'static str {
        match self {
            Self::Key { cause, .. } => cause.code(),
            Self::NoSuchSlot { .. } => "key.no-such-slot",
            Self::Last { .. } => "key.last",
            Self::LeftBehind { .. } => "key.left-behind",
            Self::Raced => "key.raced",
            Self::Store { cause, .. } => cause.code(),
            Self::Journal(cause) => cause.code(),
        }
    }
    fn remedy(&self) -> Remedy {
        match self {
            Self::Key { cause, .. } => cause.remedy(),
            Self::NoSuchSlot { .. } | Self::Last { .. } | Self::LeftBehind { .. } => Remedy::FixRequest,
            Self::Raced => Remedy::Retry,
            Self::Store { cause, .. } => cause.remedy(),
            Self::Journal(cause) => cause.remedy(),
        }
    }
    fn advice(&self) -> String {
        match self {
            Self::Key { cause, .. } => cause.advice(),
            Self::NoSuchSlot { .. } => "See `strongroom repository key list`.".to_owned(),
            Self::Last { .. } => "Add another key first.".to_owned(),
            Self::LeftBehind { .. } => {
                "Name the keys of these slots with --with-key-file or --with-passphrase-file, remove slots that nobody needs with \
                 --remove, or say --leave-behind: then their holders cannot open the repository until they are added again."
                    .to_owned()
            }
            Self::Raced => "Look at `strongroom repository key list`, then run it again.".to_owned(),
            Self::Store { cause, .. } => cause.advice(),
            Self::Journal(cause) => cause.advice(),
        }
    }
}
