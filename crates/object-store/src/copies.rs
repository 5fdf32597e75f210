//! A store and its second copies: what the first does not give is read from the next that does.
//!
//! What always holds: only packs are read elsewhere, since their names are used once and their bytes prove themselves;
//! the journal, the head and the keys are those of the first store alone, or a reader would mix two states. Everything
//! that is written goes to the first store alone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use jiff::Timestamp;
use strongroom_repository::abilities::Claims;
use strongroom_repository::layout::{ObjectKind, ObjectName};
use strongroom_repository::store::{Deleted, ListPage, ObjectInfo, ObjectStore, StoreError, Upload};

/// After a store did not answer at all it is passed over for this many reads: each one would wait as long again.
const PASSED_OVER: u64 = 64;

/// Objects that are remembered to be read elsewhere; more damage than this is asked for anew each time.
const MOST_DISTRUSTED: usize = 4096;

/// A store, and others that hold copies of its packs.
#[derive(Debug)]
pub struct WithCopies {
    /// The first one, then the copies in the order in which they are asked.
    stores: Vec<Arc<dyn ObjectStore>>,
    /// From which store on an object is read, after earlier ones gave damaged bytes.
    distrusted: Mutex<BTreeMap<String, usize>>,
    /// How many more reads pass over each store that did not answer.
    silent: Vec<AtomicU64>,
    told: Mutex<Vec<bool>>,
}

impl WithCopies {
    /// Reads packs from `first` and, where it cannot, from `copies`.
    #[must_use]
    pub fn new(first: Arc<dyn ObjectStore>, copies: Vec<Arc<dyn ObjectStore>>) -> Self {
        let stores: Vec<_> = std::iter::once(first).chain(copies).collect();
        let silent = stores.iter().map(|_| AtomicU64::new(0)).collect();
        let told = Mutex::new(vec![false; stores.len()]);
        Self { stores, distrusted: Mutex::default(), silent, told }
    }

    fn first(&self) -> &Arc<dyn ObjectStore> {
        &self.stores[0]
    }

    /// Asks one store after the other. The first error is the one that is told: the others only say that no copy has it.
    async fn read<'a, T, F>(&self, name: &ObjectName, ask: F) -> Result<T, StoreError>
    where
        F: Fn(Arc<dyn ObjectStore>) -> BoxFuture<'a, Result<T, StoreError>> + Send + Sync,
    {
        if !is_pack(name) {
            return ask(Arc::clone(self.first())).await;
        }
        let from = lock(&self.distrusted).get(name.as_str()).copied().unwrap_or(0);
        let mut failed = None;
        for place in (from..self.stores.len()).chain(0..from) {
            let is_last = place == self.stores.len() - 1;
            if !is_last && self.is_passed_over(place) {
                continue;
            }
            match ask(Arc::clone(&self.stores[place])).await {
                Ok(answer) => {
                    if let Some(cause) = &failed {
                        self.tell(name, place, cause);
                    }
                    return Ok(answer);
                }
                Err(cause) => {
                    if matches!(cause, StoreError::Unavailable { .. }) {
                        self.silent[place].store(PASSED_OVER, Ordering::Relaxed);
                    }
                    failed.get_or_insert(cause);
                }
            }
        }
        match failed {
            Some(cause) => Err(cause),
            // Each one was passed over but the last, which is always asked.
            None => ask(Arc::clone(self.first())).await,
        }
    }

    fn is_passed_over(&self, place: usize) -> bool {
        self.silent[place]
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok()
    }

    /// Said once for each copy; what follows from there is said quietly.
    fn tell(&self, name: &ObjectName, place: usize, cause: &StoreError) {
        let copy = self.stores[place].location();
        let first = !std::mem::replace(&mut lock(&self.told)[place], true);
        if first {
            tracing::warn!(%name, %cause, copy, "read from a copy");
        } else {
            tracing::debug!(%name, %cause, copy, "read from a copy");
        }
    }
}

fn is_pack(name: &ObjectName) -> bool {
    matches!(ObjectName::parse(name.as_str()), Some((_, ObjectKind::Pack(..))))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is one assignment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl ObjectStore for WithCopies {
    fn location(&self) -> String {
        self.first().location()
    }

    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), StoreError> {
        self.first().create(name, body).await
    }

    async fn put(&self, name: &ObjectName, body: Bytes) -> Result<(), StoreError> {
        self.first().put(name, body).await
    }

    async fn upload(&self, name: &ObjectName) -> Result<Box<dyn Upload>, StoreError> {
        self.first().upload(name).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.read(name, |store| Box::pin(async move { store.get(name).await })).await
    }

    async fn get_range(&self, name: &ObjectName, start: u64, length: u64) -> Result<Bytes, StoreError> {
        self.read(name, |store| Box::pin(async move { store.get_range(name, start, length).await })).await
    }

    async fn head(&self, name: &ObjectName) -> Result<ObjectInfo, StoreError> {
        self.read(name, |store| Box::pin(async move { store.head(name).await })).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, StoreError> {
        self.first().list(prefix, after).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<Deleted, StoreError> {
        self.first().delete(name).await
    }

    fn distrust(&self, name: &ObjectName) -> bool {
        if !is_pack(name) {
            return false;
        }
        let mut distrusted = lock(&self.distrusted);
        let next = distrusted.get(name.as_str()).copied().unwrap_or(0) + 1;
        if next < self.stores.len() && (distrusted.len() < MOST_DISTRUSTED || next > 1) {
            distrusted.insert(name.to_string(), next);
            let copy = self.stores[next].location();
            tracing::warn!(%name, copy, "the bytes are damaged; reading them from a copy");
        }
        // Others may have said so in the same moment: what they wait for is the last source already.
        self.stores.len() > 1
    }

    fn lock_span(&self) -> Option<Duration> {
        self.first().lock_span()
    }

    async fn prolong(&self, name: &ObjectName) -> Result<Option<Timestamp>, StoreError> {
        self.first().prolong(name).await
    }

    async fn claims(&self, scratch: &ObjectName) -> Result<Claims, StoreError> {
        self.first().claims(scratch).await
    }
}

#[cfg(test)]
mod tests {
    use strongroom_model::PackId;
    use strongroom_repository::layout::{PackKind, PackObject};

    use super::*;
    use crate::faulty::{Failing, Fault, Faulty, Rule};
    use crate::memory::MemoryStore;
    use crate::record::{Record, Verb};

    fn pack() -> ObjectName {
        let object = PackObject { pack: PackId::from_bytes([7; 16]), suffix: [1; 8] };
        ObjectName::pack(PackKind::Data, object)
    }

    #[tokio::test]
    async fn a_pack_is_read_from_whichever_copy_has_it_and_the_journal_from_the_first_store_alone() {
        let (first, copy) = (Arc::new(MemoryStore::default()), Arc::new(MemoryStore::default()));
        copy.put(&pack(), Bytes::from_static(b"sealed")).await.unwrap();
        copy.put(&ObjectName::journal(1), Bytes::from_static(b"old")).await.unwrap();
        let both = WithCopies::new(first.clone(), vec![copy.clone()]);
        assert_eq!(both.get_range(&pack(), 1, 3).await.unwrap(), "eal");
        assert_eq!(both.head(&pack()).await.unwrap().bytes, 6);
        let missing = both.get(&ObjectName::journal(1)).await.unwrap_err();
        assert!(matches!(missing, StoreError::NotFound { .. }));
        both.put(&ObjectName::journal(2), Bytes::from_static(b"new")).await.unwrap();
        assert!(copy.get(&ObjectName::journal(2)).await.is_err(), "nothing is written to a copy");
    }

    #[tokio::test]
    async fn damaged_bytes_are_read_elsewhere_once_they_are_distrusted_and_not_in_a_circle() {
        let (first, copy) = (Arc::new(MemoryStore::default()), Arc::new(MemoryStore::default()));
        first.put(&pack(), Bytes::from_static(b"broken")).await.unwrap();
        copy.put(&pack(), Bytes::from_static(b"sealed")).await.unwrap();
        let both = WithCopies::new(first, vec![copy]);
        assert_eq!(both.get(&pack()).await.unwrap(), "broken");
        assert!(both.distrust(&pack()));
        assert_eq!(both.get(&pack()).await.unwrap(), "sealed");
        both.distrust(&pack());
        assert_eq!(both.get(&pack()).await.unwrap(), "sealed", "there is no third, and no way back");
        assert!(!both.distrust(&ObjectName::journal(1)));
    }

    #[tokio::test]
    async fn a_store_that_does_not_answer_is_not_waited_for_again_and_again() {
        let dead = Faulty::new(Arc::new(MemoryStore::default()));
        dead.plan(Rule::every(Verb::Get, Fault::FailBefore(Failing::Unavailable)));
        let dead = Record::new(Arc::new(dead));
        let counts = dead.counts();
        let copy = Arc::new(MemoryStore::default());
        copy.put(&pack(), Bytes::from_static(b"sealed")).await.unwrap();
        let both = WithCopies::new(Arc::new(dead), vec![copy]);
        for _ in 0..20 {
            assert_eq!(both.get(&pack()).await.unwrap(), "sealed");
        }
        assert_eq!(counts.requests(Verb::Get), 1);
    }
}
