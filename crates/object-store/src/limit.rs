//! Bounds how many requests are under way at once.
//!
//! It stands below the wrapper that retries, so that a request which waits for its next try holds no place.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use strongroom_repository::abilities::Claims;
use strongroom_repository::layout::ObjectName;
use strongroom_repository::store::{Deleted, ListPage, ObjectInfo, ObjectStore, StoreError, Upload};
use tokio::sync::{Semaphore, SemaphorePermit};

/// A store that is asked a bounded number of things at once.
#[derive(Debug)]
pub struct Limit {
    inner: Arc<dyn ObjectStore>,
    places: Arc<Semaphore>,
}

impl Limit {
    /// At most `requests` at once, and at least one.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>, requests: usize) -> Self {
        Self { inner, places: Arc::new(Semaphore::new(requests.clamp(1, Semaphore::MAX_PERMITS))) }
    }
}

async fn place(places: &Semaphore) -> SemaphorePermit<'_> {
    places.acquire().await.expect("the semaphore is never closed")
}

#[async_trait]
impl ObjectStore for Limit {
    fn location(&self) -> String {
        self.inner.location()
    }

    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), StoreError> {
        let _place = place(&self.places).await;
        self.inner.create(name, body).await
    }

    async fn put(&self, name: &ObjectName, body: Bytes) -> Result<(), StoreError> {
        let _place = place(&self.places).await;
        self.inner.put(name, body).await
    }

    async fn upload(&self, name: &ObjectName) -> Result<Box<dyn Upload>, StoreError> {
        let _place = place(&self.places).await;
        let inner = self.inner.upload(name).await?;
        Ok(Box::new(LimitedUpload { inner, places: Arc::clone(&self.places) }))
    }

    fn takes_files(&self) -> bool {
        self.inner.takes_files()
    }

    async fn put_file(&self, name: &ObjectName, file: &File, bytes: u64) -> Result<(), StoreError> {
        let _place = place(&self.places).await;
        self.inner.put_file(name, file, bytes).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        let _place = place(&self.places).await;
        self.inner.get(name).await
    }

    async fn get_range(&self, name: &ObjectName, start: u64, length: u64) -> Result<Bytes, StoreError> {
        let _place = place(&self.places).await;
        self.inner.get_range(name, start, length).await
    }

    async fn head(&self, name: &ObjectName) -> Result<ObjectInfo, StoreError> {
        let _place = place(&self.places).await;
        self.inner.head(name).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, StoreError> {
        let _place = place(&self.places).await;
        self.inner.list(prefix, after).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<Deleted, StoreError> {
        let _place = place(&self.places).await;
        self.inner.delete(name).await
    }

    fn lock_span(&self) -> Option<Duration> {
        self.inner.lock_span()
    }

    async fn prolong(&self, name: &ObjectName) -> Result<Option<Timestamp>, StoreError> {
        let _place = place(&self.places).await;
        self.inner.prolong(name).await
    }

    async fn claims(&self, scratch: &ObjectName) -> Result<Claims, StoreError> {
        let _place = place(&self.places).await;
        self.inner.claims(scratch).await
    }
}

#[derive(Debug)]
struct LimitedUpload {
    inner: Box<dyn Upload>,
    places: Arc<Semaphore>,
}

#[async_trait]
impl Upload for LimitedUpload {
    async fn part(&self, number: u32, body: Bytes) -> Result<(), StoreError> {
        let _place = place(&self.places).await;
        self.inner.part(number, body).await
    }

    async fn complete(&self, parts: u32) -> Result<(), StoreError> {
        let _place = place(&self.places).await;
        self.inner.complete(parts).await
    }

    async fn abort(&self) -> Result<(), StoreError> {
        let _place = place(&self.places).await;
        self.inner.abort().await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::faulty::{Fault, Faulty, Rule};
    use crate::memory::MemoryStore;
    use crate::record::Verb;

    #[tokio::test(start_paused = true)]
    async fn no_more_than_the_limit_is_under_way() {
        let slow = Faulty::new(Arc::new(MemoryStore::default()));
        slow.plan(Rule::every(Verb::Put, Fault::Delay(Duration::from_secs(1))));
        let limit = Limit::new(Arc::new(slow), 4);
        let begun = tokio::time::Instant::now();
        let puts = (0..12).map(|n| {
            let limit = &limit;
            async move { limit.put(&ObjectName::journal(n), Bytes::new()).await }
        });
        futures::future::try_join_all(puts).await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 3);
    }
}
