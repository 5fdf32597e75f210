//! A store that fails on purpose, by a plan: for tests of everything that stands above.
//!
//! A rule says which requests it means and what becomes of them; the first rule that fits a request is taken. Rules
//! count what they have matched, so that a plan can say "the third part" or "every read of a journal record".

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use strongroom_repository::abilities::Claims;
use strongroom_repository::layout::ObjectName;
use strongroom_repository::store::{Deleted, ListPage, ObjectInfo, ObjectStore, StoreError, Upload};

use crate::record::Verb;

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It never reaches the store.
    FailBefore(Failing),
    /// The store does it, and the answer is lost.
    FailAfter,
    /// It takes this much longer.
    Delay(Duration),
    /// The body arrives cut to half, and the answer says that all is well.
    Truncate,
    /// One bit of the body arrives flipped, and the answer says that all is well.
    Flip {
        /// Which byte, counted from 0 and around the end of the body.
        at: usize,
    },
    /// No answer, ever.
    Stall,
    /// This request and all after it never reach the store: the line is cut, or the process is dead.
    Dark,
}

/// How a request fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    /// No answer.
    Unavailable,
    /// No rights.
    Refused,
    /// No space.
    Full,
    /// No such object.
    NotFound,
}

/// Which requests, and what becomes of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    verb: Option<Verb>,
    name: Option<String>,
    /// Of the requests that fit: how many to let pass, and how many to hit then.
    pass: u64,
    hit: u64,
    fault: Fault,
    seen: u64,
}

impl Rule {
    /// Every request of this verb.
    #[must_use]
    pub const fn every(verb: Verb, fault: Fault) -> Self {
        Self { verb: Some(verb), name: None, pass: 0, hit: u64::MAX, fault, seen: 0 }
    }

    /// The first `count` requests of this verb.
    #[must_use]
    pub const fn first(count: u64, verb: Verb, fault: Fault) -> Self {
        Self { verb: Some(verb), name: None, pass: 0, hit: count, fault, seen: 0 }
    }

    /// Only request `number` of this verb, counted from 1.
    #[must_use]
    pub const fn nth(number: u64, verb: Verb, fault: Fault) -> Self {
        Self { verb: Some(verb), name: None, pass: number.saturating_sub(1), hit: 1, fault, seen: 0 }
    }

    /// Only request `number` of any verb, counted from 1.
    #[must_use]
    pub const fn request(number: u64, fault: Fault) -> Self {
        Self { verb: None, name: None, pass: number.saturating_sub(1), hit: 1, fault, seen: 0 }
    }

    /// The same, but only for names that begin like this.
    #[must_use]
    pub fn on(mut self, prefix: &str) -> Self {
        self.name = Some(prefix.to_owned());
        self
    }

    fn takes(&mut self, verb: Verb, name: &str) -> Option<Fault> {
        let fits = self.verb.is_none_or(|wanted| wanted == verb)
            && self.name.as_deref().is_none_or(|prefix| name.starts_with(prefix));
        if !fits {
            return None;
        }
        self.seen += 1;
        (self.seen > self.pass && self.seen - self.pass <= self.hit).then(|| self.fault.clone())
    }
}

/// A store with a plan of failures.
#[derive(Debug, Clone)]
pub struct Faulty {
    inner: Arc<dyn ObjectStore>,
    plan: Arc<Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    rules: Mutex<Vec<Rule>>,
    requests: AtomicU64,
    dark: AtomicBool,
}

impl Faulty {
    /// No failures yet.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, plan: Arc::default() }
    }

    /// Adds a rule behind those there are.
    pub fn plan(&self, rule: Rule) {
        self.plan.rules.lock().unwrap_or_else(PoisonError::into_inner).push(rule);
    }

    /// Forgets all rules; a dark line is lit again.
    pub fn heal(&self) {
        self.plan.rules.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.plan.dark.store(false, Ordering::SeqCst);
    }

    /// How many requests there were, those that never reached the store included.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.plan.requests.load(Ordering::SeqCst)
    }
}

impl Plan {
    fn fault(&self, verb: Verb, name: &str) -> Option<Fault> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        if self.dark.load(Ordering::SeqCst) {
            return Some(Fault::Dark);
        }
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        // Every rule counts every request it fits, also when an earlier rule takes it.
        let mut taken = None;
        for rule in rules.iter_mut() {
            let fault = rule.takes(verb, name);
            taken = taken.or(fault);
        }
        if taken == Some(Fault::Dark) {
            self.dark.store(true, Ordering::SeqCst);
        }
        taken
    }

    /// Does `request` as the plan has it. `body` is what is sent.
    async fn run<T: Touch, F: Future<Output = Result<T, StoreError>> + Send>(
        &self,
        verb: Verb,
        name: &str,
        body: Bytes,
        request: impl FnOnce(Bytes) -> F + Send,
    ) -> Result<T, StoreError> {
        let Some(fault) = self.fault(verb, name) else { return request(body).await };
        tracing::debug!(?verb, name, ?fault, "failing on purpose");
        match fault {
            Fault::FailBefore(failing) => Err(failing.error(name)),
            Fault::Dark => Err(Failing::Unavailable.error(name)),
            Fault::FailAfter => request(body).await.and_then(|_| Err(Failing::Unavailable.error(name))),
            Fault::Delay(wait) => {
                tokio::time::sleep(wait).await;
                request(body).await
            }
            Fault::Truncate => request(cut(body)).await.map(|answer| answer.touched(cut)),
            Fault::Flip { at } => {
                request(flipped(body, at)).await.map(|answer| answer.touched(|body| flipped(body, at)))
            }
            Fault::Stall => std::future::pending().await,
        }
    }
}

impl Failing {
    fn error(self, name: &str) -> StoreError {
        let (location, name, reason) = ("faulty".to_owned(), name.to_owned(), "as planned".to_owned());
        match self {
            Self::Unavailable => StoreError::Unavailable { location, name, reason },
            Self::Refused => StoreError::Refused { location, name, reason },
            Self::Full => StoreError::Full { location, reason },
            Self::NotFound => StoreError::NotFound { name },
        }
    }
}

fn cut(body: Bytes) -> Bytes {
    body.slice(..body.len() / 2)
}

fn flipped(body: Bytes, at: usize) -> Bytes {
    let mut bytes = BytesMut::from(&body[..]);
    if !bytes.is_empty() {
        let at = at % bytes.len();
        bytes[at] ^= 1;
    }
    bytes.freeze()
}

/// An answer whose body, if it has one, can be damaged.
trait Touch: Send {
    fn touched(self, damage: impl FnOnce(Bytes) -> Bytes) -> Self;
}

impl Touch for Bytes {
    fn touched(self, damage: impl FnOnce(Bytes) -> Bytes) -> Self {
        damage(self)
    }
}

macro_rules! without_body {
    ($($answer:ty),*) => { $(
        impl Touch for $answer {
            fn touched(self, _: impl FnOnce(Bytes) -> Bytes) -> Self {
                self
            }
        }
    )* };
}
without_body!((), Option<Timestamp>, Box<dyn Upload>, ObjectInfo, ListPage, Deleted, Claims);

#[async_trait]
impl ObjectStore for Faulty {
    fn location(&self) -> String {
        self.inner.location()
    }

    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), StoreError> {
        self.plan.run(Verb::Create, name.as_str(), body, |body| self.inner.create(name, body)).await
    }

    async fn put(&self, name: &ObjectName, body: Bytes) -> Result<(), StoreError> {
        self.plan.run(Verb::Put, name.as_str(), body, |body| self.inner.put(name, body)).await
    }

    async fn upload(&self, name: &ObjectName) -> Result<Box<dyn Upload>, StoreError> {
        let inner =
            self.plan.run(Verb::Upload, name.as_str(), Bytes::new(), |_| self.inner.upload(name)).await?;
        Ok(Box::new(FaultyUpload { inner, plan: Arc::clone(&self.plan), name: name.clone() }))
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.plan.run(Verb::Get, name.as_str(), Bytes::new(), |_| self.inner.get(name)).await
    }

    async fn get_range(&self, name: &ObjectName, start: u64, length: u64) -> Result<Bytes, StoreError> {
        self.plan
            .run(Verb::GetRange, name.as_str(), Bytes::new(), |_| self.inner.get_range(name, start, length))
            .await
    }

    async fn head(&self, name: &ObjectName) -> Result<ObjectInfo, StoreError> {
        self.plan.run(Verb::Head, name.as_str(), Bytes::new(), |_| self.inner.head(name)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, StoreError> {
        self.plan.run(Verb::List, prefix, Bytes::new(), |_| self.inner.list(prefix, after)).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<Deleted, StoreError> {
        self.plan.run(Verb::Delete, name.as_str(), Bytes::new(), |_| self.inner.delete(name)).await
    }

    fn lock_span(&self) -> Option<Duration> {
        self.inner.lock_span()
    }

    async fn prolong(&self, name: &ObjectName) -> Result<Option<Timestamp>, StoreError> {
        self.plan.run(Verb::Prolong, name.as_str(), Bytes::new(), |_| self.inner.prolong(name)).await
    }

    async fn claims(&self, scratch: &ObjectName) -> Result<Claims, StoreError> {
        self.plan.run(Verb::Claims, scratch.as_str(), Bytes::new(), |_| self.inner.claims(scratch)).await
    }
}

#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn Upload>,
    plan: Arc<Plan>,
    name: ObjectName,
}

#[async_trait]
impl Upload for FaultyUpload {
    async fn part(&self, number: u32, body: Bytes) -> Result<(), StoreError> {
        self.plan.run(Verb::Part, self.name.as_str(), body, |body| self.inner.part(number, body)).await
    }

    async fn complete(&self, parts: u32) -> Result<(), StoreError> {
        self.plan.run(Verb::Complete, self.name.as_str(), Bytes::new(), |_| self.inner.complete(parts)).await
    }

    async fn abort(&self) -> Result<(), StoreError> {
        self.plan.run(Verb::Abort, self.name.as_str(), Bytes::new(), |_| self.inner.abort()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryStore;

    #[tokio::test]
    async fn the_plan_is_followed_to_the_request() {
        let memory = MemoryStore::default();
        let store = Faulty::new(Arc::new(memory.clone()));
        let (one, two) = (ObjectName::journal(1), ObjectName::journal(2));
        store.plan(Rule::nth(1, Verb::Create, Fault::FailAfter).on(two.as_str()));
        store.plan(Rule::nth(2, Verb::Get, Fault::Flip { at: 1 }));
        store.create(&one, Bytes::from_static(b"one")).await.unwrap();
        store.create(&two, Bytes::from_static(b"two")).await.unwrap_err();
        assert_eq!(store.get(&one).await.unwrap(), "one");
        assert_eq!(store.get(&two).await.unwrap(), "tvo");
        assert_eq!(store.get(&two).await.unwrap(), "two");
        store.plan(Rule::request(6, Fault::Dark));
        assert_eq!(store.requests(), 5);
        // A rule counts from when it was added, so the sixth request from now is the first in the dark.
        for _ in 0..5 {
            store.get(&one).await.unwrap();
        }
        for _ in 0..3 {
            store.put(&one, Bytes::new()).await.unwrap_err();
        }
        assert_eq!(memory.contents().len(), 2);
        store.heal();
        store.put(&one, Bytes::new()).await.unwrap();
    }
}
