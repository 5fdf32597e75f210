//! Sends a request again when its failure may pass by itself.
//!
//! The waits grow and are spread by chance, so that many agents which met the same outage do not come back together.
//! Three things bound it: how often one request is sent, how long it may take with all its repetitions, and a budget
//! that all requests share, so that a store which is down is not asked six times by everybody.
//!
//! A create-only write is passed on once, whatever its answer: sent twice, it would meet its own object and answer
//! `Exists`. Its caller reads the name back and compares, and knows better than this file when to try again.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use strongroom_model::Entropy;
use strongroom_repository::abilities::Claims;
use strongroom_repository::layout::ObjectName;
use strongroom_repository::store::{Deleted, ListPage, ObjectInfo, ObjectStore, StoreError, Upload};
use tokio::time::Instant;

/// How patient to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often one request is sent at most.
    pub attempts: u32,
    /// About how long to wait before the second try; doubled for each further one.
    pub first_wait: Duration,
    /// The longest wait.
    pub longest_wait: Duration,
    /// How long a request may take with all its repetitions.
    pub patience: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 6,
            first_wait: Duration::from_millis(200),
            longest_wait: Duration::from_secs(20),
            patience: Duration::from_secs(600),
        }
    }
}

/// A store that is asked again when it did not answer.
#[derive(Debug)]
pub struct Retry {
    inner: Arc<dyn ObjectStore>,
    patience: Arc<Patience>,
}

impl Retry {
    /// Repeats requests to `inner` as `policy` says; `entropy` spreads the waits.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>, policy: RetryPolicy, entropy: Arc<dyn Entropy>) -> Self {
        Self { inner, patience: Arc::new(Patience { policy, entropy, budget: Budget::default() }) }
    }
}

#[derive(Debug)]
struct Patience {
    policy: RetryPolicy,
    entropy: Arc<dyn Entropy>,
    budget: Budget,
}

impl Patience {
    async fn with<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        mut send: impl FnMut() -> F,
    ) -> Result<T, StoreError> {
        let begun = Instant::now();
        let mut attempt = 1;
        loop {
            let error = match send().await {
                Ok(answer) => {
                    self.budget.refill();
                    return Ok(answer);
                }
                Err(error) if error.is_transient() => error,
                Err(error) => return Err(error),
            };
            let wait = self.wait_after(attempt);
            if attempt >= self.policy.attempts
                || begun.elapsed() + wait > self.policy.patience
                || !self.budget.spend()
            {
                return Err(error);
            }
            tracing::debug!(attempt, wait_ms = wait.as_millis(), %error, "asking the store again");
            tokio::time::sleep(wait).await;
            attempt += 1;
        }
    }

    /// Between half and all of the doubled wait.
    fn wait_after(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(16);
        let full = self.policy.first_wait.saturating_mul(1 << doublings).min(self.policy.longest_wait);
        let mut chance = [0; 4];
        self.entropy.fill(&mut chance);
        full / 2 + (full / 2).mul_f64(f64::from(u32::from_le_bytes(chance)) / f64::from(u32::MAX))
    }
}

/// How many repetitions all requests together may still make: 100 from the start, and one more for every five
/// requests that succeed. The figures are those of the AWS SDKs.
#[derive(Debug)]
struct Budget(AtomicU32);

const FULL_BUDGET: u32 = 500;
const REPETITION_COSTS: u32 = 5;

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicU32::new(FULL_BUDGET))
    }
}

impl Budget {
    fn spend(&self) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(REPETITION_COSTS))
            .is_ok()
    }

    fn refill(&self) {
        // A full budget is left as it is.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            (left < FULL_BUDGET).then(|| left + 1)
        });
    }
}

#[async_trait]
impl ObjectStore for Retry {
    fn location(&self) -> String {
        self.inner.location()
    }

    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), StoreError> {
        self.inner.create(name, body).await
    }

    async fn put(&self, name: &ObjectName, body: Bytes) -> Result<(), StoreError> {
        self.patience.with(|| self.inner.put(name, body.clone())).await
    }

    async fn upload(&self, name: &ObjectName) -> Result<Box<dyn Upload>, StoreError> {
        let inner = self.patience.with(|| self.inner.upload(name)).await?;
        Ok(Box::new(RetriedUpload { inner, patience: Arc::clone(&self.patience) }))
    }

    fn takes_files(&self) -> bool {
        self.inner.takes_files()
    }

    /// Once: who has a file at hand sends it in parts when the whole does not arrive.
    async fn put_file(&self, name: &ObjectName, file: &File, bytes: u64) -> Result<(), StoreError> {
        self.inner.put_file(name, file, bytes).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.patience.with(|| self.inner.get(name)).await
    }

    async fn get_range(&self, name: &ObjectName, start: u64, length: u64) -> Result<Bytes, StoreError> {
        self.patience.with(|| self.inner.get_range(name, start, length)).await
    }

    async fn head(&self, name: &ObjectName) -> Result<ObjectInfo, StoreError> {
        self.patience.with(|| self.inner.head(name)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, StoreError> {
        self.patience.with(|| self.inner.list(prefix, after)).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<Deleted, StoreError> {
        self.patience.with(|| self.inner.delete(name)).await
    }

    fn lock_span(&self) -> Option<Duration> {
        self.inner.lock_span()
    }

    async fn prolong(&self, name: &ObjectName) -> Result<Option<Timestamp>, StoreError> {
        self.patience.with(|| self.inner.prolong(name)).await
    }

    async fn claims(&self, scratch: &ObjectName) -> Result<Claims, StoreError> {
        self.patience.with(|| self.inner.claims(scratch)).await
    }
}

#[derive(Debug)]
struct RetriedUpload {
    inner: Box<dyn Upload>,
    patience: Arc<Patience>,
}

#[async_trait]
impl Upload for RetriedUpload {
    async fn part(&self, number: u32, body: Bytes) -> Result<(), StoreError> {
        self.patience.with(|| self.inner.part(number, body.clone())).await
    }

    async fn complete(&self, parts: u32) -> Result<(), StoreError> {
        self.patience.with(|| self.inner.complete(parts)).await
    }

    async fn abort(&self) -> Result<(), StoreError> {
        self.inner.abort().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faulty::{Failing, Fault, Faulty, Rule};
    use crate::memory::MemoryStore;
    use crate::record::{Record, Verb};

    #[derive(Debug)]
    struct Even;
    impl Entropy for Even {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0x80);
        }
    }

    fn over(rules: Vec<Rule>) -> (Retry, Arc<crate::record::Counts>) {
        let faulty = Faulty::new(Arc::new(MemoryStore::default()));
        rules.into_iter().for_each(|rule| faulty.plan(rule));
        let record = Record::new(Arc::new(faulty));
        let counts = record.counts();
        (Retry::new(Arc::new(record), RetryPolicy::default(), Arc::new(Even)), counts)
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_comes_back_is_not_noticed() {
        let (store, counts) = over(vec![Rule::first(3, Verb::Put, Fault::FailBefore(Failing::Unavailable))]);
        store.put(&ObjectName::head(), Bytes::from_static(b"x")).await.unwrap();
        assert_eq!((counts.requests(Verb::Put), counts.failed(Verb::Put)), (4, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_pass_by_itself_is_asked_once() {
        let (store, counts) = over(vec![Rule::every(Verb::Put, Fault::FailBefore(Failing::Refused))]);
        store.put(&ObjectName::head(), Bytes::new()).await.unwrap_err();
        store.get(&ObjectName::head()).await.unwrap_err();
        assert_eq!((counts.requests(Verb::Put), counts.requests(Verb::Get)), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_create_only_write_is_never_repeated() {
        let (store, counts) = over(vec![Rule::first(1, Verb::Create, Fault::FailAfter)]);
        assert!(matches!(
            store.create(&ObjectName::head(), Bytes::new()).await,
            Err(StoreError::Unavailable { .. })
        ));
        assert_eq!(counts.requests(Verb::Create), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_stays_away_is_asked_a_bounded_number_of_times() {
        let (store, counts) = over(vec![Rule::every(Verb::Get, Fault::FailBefore(Failing::Unavailable))]);
        let begun = Instant::now();
        store.get(&ObjectName::head()).await.unwrap_err();
        assert_eq!(counts.requests(Verb::Get), 6);
        assert!(begun.elapsed() < Duration::from_secs(10));
        for _ in 0..50 {
            store.get(&ObjectName::head()).await.unwrap_err();
        }
        // 51 requests and the hundred repetitions of the budget, then each is sent once.
        assert_eq!(counts.requests(Verb::Get), 151);
    }
}
