//! What the repository asks of an object store.
//!
//! The trait belongs to the repository, the adapters stand in their own crate. Nothing here knows S3. Each method
//! says what it promises; the conformance suite of the adapters holds every one of them to it.

use std::fmt::Debug;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use strongroom_model::{Failure, Remedy};

use crate::abilities::Claims;
use crate::layout::ObjectName;

/// Every part of a multipart upload but the last has exactly this many bytes.
///
/// 8 MiB is above S3's minimum of 5 MiB and within the 8 to 16 MiB at which stores reach their full rate.
pub const PART_BYTES: usize = 8 << 20;

/// A place for named, immutable-once-written blobs.
#[async_trait]
pub trait ObjectStore: Debug + Send + Sync {
    /// Where this store is, for people: a URL without secrets.
    fn location(&self) -> String;

    /// Creates `name`, or changes nothing. Of many racing calls for one name exactly one answers `Ok`.
    ///
    /// An `Err`, even [`StoreError::Exists`], never proves that this call did not create the object (an answer can be
    /// lost, and a client below may have sent the request twice): the caller reads the name back and compares.
    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), StoreError>;

    /// Writes `name`, replacing what was there. Durable when it answers `Ok`.
    async fn put(&self, name: &ObjectName, body: Bytes) -> Result<(), StoreError>;

    /// Begins a multipart upload; the object appears, whole, when it completes.
    async fn upload(&self, name: &ObjectName) -> Result<Box<dyn Upload>, StoreError>;

    /// Whether [`Self::put_file`] is the better way for a file of many megabytes: one request, its body streamed.
    fn takes_files(&self) -> bool {
        false
    }

    /// Writes `name`, replacing what was there, from the first `bytes` bytes of a file, which nobody changes meanwhile. Durable when it
    /// answers `Ok`.
    ///
    /// A store that does not [take files](Self::takes_files) may hold all of it in memory.
    async fn put_file(&self, name: &ObjectName, file: &File, bytes: u64) -> Result<(), StoreError> {
        let mut body = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut body, 0).map_err(|cause| StoreError::Unavailable {
            location: self.location(),
            name: name.as_str().to_owned(),
            reason: format!("the file that is to be sent cannot be read: {cause}"),
        })?;
        self.put(name, body.into()).await
    }

    /// The whole object. `NotFound` when there is none.
    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError>;

    /// Exactly the bytes `start..start + length`. A range beyond the end is an error, never a short answer.
    async fn get_range(&self, name: &ObjectName, start: u64, length: u64) -> Result<Bytes, StoreError>;

    /// Size and age of the object. `NotFound` when there is none.
    async fn head(&self, name: &ObjectName) -> Result<ObjectInfo, StoreError>;

    /// One page of the objects whose names begin with `prefix`, in order of their names, after `after`.
    ///
    /// A LIST may lie by omission or be late: nothing rests on it but finding garbage and hints.
    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, StoreError>;

    /// Removes `name`; it is no error that there is none.
    async fn delete(&self, name: &ObjectName) -> Result<Deleted, StoreError>;

    /// For how long new packs are locked against deleting; `None`: they are not.
    fn lock_span(&self) -> Option<Duration> {
        None
    }

    /// Prolongs the lock of an object to a whole [`Self::lock_span`] from now. Answers until when it holds; `None`: this store
    /// locks nothing.
    async fn prolong(&self, name: &ObjectName) -> Result<Option<Timestamp>, StoreError> {
        let _ = name;
        Ok(None)
    }

    /// The bytes of this object turned out to be damaged. True: there are other sources, and reading it again may bring right
    /// ones. Many may say so at once, so the caller bounds how often it asks again.
    ///
    /// Only what is opened shows whether sealed bytes are right, so the store cannot know by itself.
    fn distrust(&self, name: &ObjectName) -> bool {
        let _ = name;
        false
    }

    /// What the store says, or shows, that the verbs above cannot: asked once, by the probe at `init`. `scratch` is a
    /// name that may be written and is deleted by the caller.
    async fn claims(&self, scratch: &ObjectName) -> Result<Claims, StoreError> {
        let _ = scratch;
        Ok(Claims::default())
    }
}

/// A multipart upload under way. Dropping it leaves garbage at most, never an object.
#[async_trait]
pub trait Upload: Debug + Send + Sync {
    /// Stores part `number`, counted from 0. Parts may come in any order and side by side, and the same part with the
    /// same bytes again. Every part but the last has exactly [`PART_BYTES`].
    async fn part(&self, number: u32, body: Bytes) -> Result<(), StoreError>;

    /// Makes the object of parts `0..parts` appear. Durable when it answers `Ok`; may be called again after an error.
    async fn complete(&self, parts: u32) -> Result<(), StoreError>;

    /// After [`Self::complete`]: whether the store has compared all of the object with a checksum of the whole.
    fn is_proved(&self) -> bool {
        false
    }

    /// Gives up and frees what was stored.
    async fn abort(&self) -> Result<(), StoreError>;
}

/// What is known of an object without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was last written, by the store's own clock.
    pub last_modified: Timestamp,
    /// What time the store's clock says it is now, where it says so.
    pub store_time: Option<Timestamp>,
    /// Until when a retention lock keeps it from being deleted; `None`: there is none.
    pub locked_until: Option<Timestamp>,
}

/// One object of a listing. The name is a plain string: a bucket may hold what is not ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The name below the repository's prefix.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was last written.
    pub last_modified: Timestamp,
}

/// One page of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListPage {
    /// The objects, in order of their names.
    pub objects: Vec<Listed>,
    /// Whether more may follow after the last one.
    pub more: bool,
}

/// What became of a delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// The name is gone (or was never there).
    Gone,
    /// The store keeps the object for now: a retention lock is on it.
    Retained,
}

/// Why a store did not do what was asked. The object and the verb are named by the caller's error.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No object of that name.
    #[error("there is no object {name}")]
    NotFound {
        /// The object.
        name: String,
    },
    /// The name was taken, so nothing was created (412), or the store could not decide (409).
    #[error("the object {name} exists already")]
    Exists {
        /// The object.
        name: String,
    },
    /// The store answered, and refused our credentials or rights.
    #[error("{location} refused access to {name}: {reason}")]
    Refused {
        /// Which store.
        location: String,
        /// The object.
        name: String,
        /// What the store said.
        reason: String,
    },
    /// There is no such bucket or folder.
    #[error("{location} does not exist: {reason}")]
    NoSuchPlace {
        /// Which store.
        location: String,
        /// What the store said.
        reason: String,
    },
    /// No answer, a broken answer, or "try later". The request may have been applied.
    #[error("{location} did not answer for {name}: {reason}")]
    Unavailable {
        /// Which store.
        location: String,
        /// The object.
        name: String,
        /// What was seen.
        reason: String,
    },
    /// The object is in an archive of the store, and cannot be read before it is brought back.
    #[error("{location} keeps {name} in its archive: it cannot be read now")]
    Archived {
        /// Which store.
        location: String,
        /// The object.
        name: String,
    },
    /// No space, or over quota.
    #[error("{location} is full: {reason}")]
    Full {
        /// Which store.
        location: String,
        /// What was seen.
        reason: String,
    },
    /// The store sent other bytes than it promised, or took other bytes than were sent.
    #[error("{location} damaged {name} on the way: {reason}")]
    Damaged {
        /// Which store.
        location: String,
        /// The object.
        name: String,
        /// What was seen.
        reason: String,
    },
    /// A request that the store does not understand, or another answer that trying again cannot mend.
    #[error("{location} rejected the request for {name}: {reason}")]
    Rejected {
        /// Which store.
        location: String,
        /// The object.
        name: String,
        /// What the store said.
        reason: String,
    },
}

impl StoreError {
    /// Whether the same request may succeed when it is sent again.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Damaged { .. })
    }
}

impl Failure for StoreError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "store.not-found",
            Self::Exists { .. } => "store.exists",
            Self::Refused { .. } => "store.refused",
            Self::NoSuchPlace { .. } => "store.no-such-place",
            Self::Unavailable { .. } => "store.unavailable",
            Self::Archived { .. } => "store.archived",
            Self::Full { .. } => "store.full",
            Self::Damaged { .. } => "store.damaged",
            Self::Rejected { .. } => "store.rejected",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::NotFound { .. } => Remedy::FixData,
            Self::Exists { .. } | Self::Rejected { .. } => Remedy::Bug,
            Self::Refused { .. } | Self::NoSuchPlace { .. } | Self::Archived { .. } | Self::Full { .. } => {
                Remedy::FixSurroundings
            }
            Self::Unavailable { .. } | Self::Damaged { .. } => Remedy::Retry,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::NotFound { .. } => "Run `strongroom repository check` to see what is missing and which recovery points it touches.",
            Self::Exists { .. } => "Run the command again; if it says so again, report it.",
            Self::Refused { .. } => "Check the credentials and their rights: the repository needs to read, write and list below its prefix.",
            Self::NoSuchPlace { .. } => "Check the URL for a typing error, or create the bucket or folder first.",
            Self::Unavailable { .. } => "Check that the store can be reached from here, then run the command again: what was stored is kept.",
            Self::Archived { .. } => "Tell the store to bring back the objects below packs/ (`aws s3api restore-object` or a batch job), wait until it has, and run the command again; or read a copy of the repository that is not archived.",
            Self::Full { .. } => "Free space or raise the quota, then run the command again: what was stored is kept.",
            Self::Damaged { .. } => "Run the command again; if it says so again, something between here and the store changes data.",
            Self::Rejected { .. } => "Compare the store's answer with its documentation; `strongroom init` probes what a store can do.",
        }
        .to_owned()
    }
}
