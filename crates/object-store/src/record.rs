//! Counts requests and bytes by verb: the customer pays for both.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use strongroom_repository::abilities::Claims;
use strongroom_repository::layout::ObjectName;
use strongroom_repository::store::{Deleted, ListPage, ObjectInfo, ObjectStore, StoreError, Upload};

/// What can be asked of a store; one verb is one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// A create-only write.
    Create,
    /// A write.
    Put,
    /// The beginning of a multipart upload.
    Upload,
    /// One part of it.
    Part,
    /// Its end.
    Complete,
    /// Giving it up.
    Abort,
    /// Reading a whole object.
    Get,
    /// Reading a range.
    GetRange,
    /// Size and age.
    Head,
    /// One page of names.
    List,
    /// Removing.
    Delete,
    /// What the store says of itself (several requests, counted once).
    Claims,
    /// Prolonging a lock.
    Prolong,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Create,
        Self::Put,
        Self::Upload,
        Self::Part,
        Self::Complete,
        Self::Abort,
        Self::Get,
        Self::GetRange,
        Self::Head,
        Self::List,
        Self::Delete,
        Self::Claims,
        Self::Prolong,
    ];

    const fn index(self) -> usize {
        self as usize
    }
}

/// How often one verb was used.
#[derive(Debug, Default)]
struct Tally {
    requests: AtomicU64,
    failed: AtomicU64,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
}

/// What went over the line so far.
#[derive(Debug, Default)]
pub struct Counts {
    tallies: [Tally; Verb::ALL.len()],
}

impl Counts {
    /// How many requests of this verb were made, failed ones included.
    #[must_use]
    pub fn requests(&self, verb: Verb) -> u64 {
        self.tallies[verb.index()].requests.load(Ordering::Relaxed)
    }

    /// How many of them failed.
    #[must_use]
    pub fn failed(&self, verb: Verb) -> u64 {
        self.tallies[verb.index()].failed.load(Ordering::Relaxed)
    }

    /// All requests.
    #[must_use]
    pub fn all_requests(&self) -> u64 {
        Verb::ALL.into_iter().map(|verb| self.requests(verb)).sum()
    }

    /// Bytes of bodies that were sent, whatever became of them.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.tallies.iter().map(|tally| tally.sent_bytes.load(Ordering::Relaxed)).sum()
    }

    /// Bytes of bodies that were received whole.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.tallies.iter().map(|tally| tally.received_bytes.load(Ordering::Relaxed)).sum()
    }

    fn count<T>(&self, verb: Verb, sent: usize, answer: &Result<T, StoreError>, received: usize) {
        let tally = &self.tallies[verb.index()];
        tally.requests.fetch_add(1, Ordering::Relaxed);
        tally.failed.fetch_add(u64::from(answer.is_err()), Ordering::Relaxed);
        tally.sent_bytes.fetch_add(sent as u64, Ordering::Relaxed);
        tally.received_bytes.fetch_add(received as u64, Ordering::Relaxed);
    }
}

/// A store whose requests are counted.
#[derive(Debug)]
pub struct Record {
    inner: Arc<dyn ObjectStore>,
    counts: Arc<Counts>,
}

impl Record {
    /// Counts what is asked of `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, counts: Arc::default() }
    }

    /// The counters; they go on counting.
    #[must_use]
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }
}

#[async_trait]
impl ObjectStore for Record {
    fn location(&self) -> String {
        self.inner.location()
    }

    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), StoreError> {
        let sent = body.len();
        let answer = self.inner.create(name, body).await;
        self.counts.count(Verb::Create, sent, &answer, 0);
        answer
    }

    async fn put(&self, name: &ObjectName, body: Bytes) -> Result<(), StoreError> {
        let sent = body.len();
        let answer = self.inner.put(name, body).await;
        self.counts.count(Verb::Put, sent, &answer, 0);
        answer
    }

    async fn upload(&self, name: &ObjectName) -> Result<Box<dyn Upload>, StoreError> {
        let answer = self.inner.upload(name).await;
        self.counts.count(Verb::Upload, 0, &answer, 0);
        Ok(Box::new(RecordedUpload { inner: answer?, counts: self.counts() }))
    }

    fn takes_files(&self) -> bool {
        self.inner.takes_files()
    }

    async fn put_file(&self, name: &ObjectName, file: &File, bytes: u64) -> Result<(), StoreError> {
        let answer = self.inner.put_file(name, file, bytes).await;
        self.counts.count(Verb::Put, usize::try_from(bytes).unwrap_or(usize::MAX), &answer, 0);
        answer
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        let answer = self.inner.get(name).await;
        self.counts.count(Verb::Get, 0, &answer, answer.as_ref().map_or(0, Bytes::len));
        answer
    }

    async fn get_range(&self, name: &ObjectName, start: u64, length: u64) -> Result<Bytes, StoreError> {
        let answer = self.inner.get_range(name, start, length).await;
        self.counts.count(Verb::GetRange, 0, &answer, answer.as_ref().map_or(0, Bytes::len));
        answer
    }

    async fn head(&self, name: &ObjectName) -> Result<ObjectInfo, StoreError> {
        let answer = self.inner.head(name).await;
        self.counts.count(Verb::Head, 0, &answer, 0);
        answer
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, StoreError> {
        let answer = self.inner.list(prefix, after).await;
        self.counts.count(Verb::List, 0, &answer, 0);
        answer
    }

    async fn delete(&self, name: &ObjectName) -> Result<Deleted, StoreError> {
        let answer = self.inner.delete(name).await;
        self.counts.count(Verb::Delete, 0, &answer, 0);
        answer
    }

    fn lock_span(&self) -> Option<Duration> {
        self.inner.lock_span()
    }

    async fn prolong(&self, name: &ObjectName) -> Result<Option<Timestamp>, StoreError> {
        let answer = self.inner.prolong(name).await;
        self.counts.count(Verb::Prolong, 0, &answer, 0);
        answer
    }

    async fn claims(&self, scratch: &ObjectName) -> Result<Claims, StoreError> {
        let answer = self.inner.claims(scratch).await;
        self.counts.count(Verb::Claims, 0, &answer, 0);
        answer
    }
}

#[derive(Debug)]
struct RecordedUpload {
    inner: Box<dyn Upload>,
    counts: Arc<Counts>,
}

#[async_trait]
impl Upload for RecordedUpload {
    async fn part(&self, number: u32, body: Bytes) -> Result<(), StoreError> {
        let sent = body.len();
        let answer = self.inner.part(number, body).await;
        self.counts.count(Verb::Part, sent, &answer, 0);
        answer
    }

    async fn complete(&self, parts: u32) -> Result<(), StoreError> {
        let answer = self.inner.complete(parts).await;
        self.counts.count(Verb::Complete, 0, &answer, 0);
        answer
    }

    async fn abort(&self) -> Result<(), StoreError> {
        let answer = self.inner.abort().await;
        self.counts.count(Verb::Abort, 0, &answer, 0);
        answer
    }
}
