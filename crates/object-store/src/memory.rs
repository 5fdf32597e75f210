//! A store in memory: for tests and trials. What it promises it keeps exactly, and it forgets everything.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use strongroom_model::Clock;
use strongroom_repository::layout::ObjectName;
use strongroom_repository::store::{
    Deleted, ListPage, Listed, ObjectInfo, ObjectStore, PART_BYTES, StoreError, Upload,
};

use crate::parts::bytes_of_parts;
use crate::range;

const LOCATION: &str = "memory";
/// As many names as S3 gives at once, so that paging is met in tests.
const PAGE: usize = 1000;

type Objects = BTreeMap<String, (Bytes, Timestamp)>;

/// Objects in memory; clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    objects: Arc<Mutex<Objects>>,
    clock: Option<Arc<dyn Clock>>,
}

impl MemoryStore {
    /// An empty store that dates its objects by `clock`. Without one (`default()`) everything is from 1970.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { objects: Arc::default(), clock: Some(clock) }
    }

    /// Every object there is: name and bytes, in order.
    #[must_use]
    pub fn contents(&self) -> Vec<(String, Bytes)> {
        self.lock().iter().map(|(name, (body, _))| (name.clone(), body.clone())).collect()
    }

    /// Changes the bytes of an object behind everyone's back, or removes it; for tests that do damage.
    pub fn damage(&self, name: &str, body: Option<Bytes>) {
        let now = self.now();
        let mut objects = self.lock();
        match body {
            Some(body) => objects.insert(name.to_owned(), (body, now)),
            None => objects.remove(name),
        };
    }

    fn now(&self) -> Timestamp {
        self.clock.as_ref().map_or(Timestamp::UNIX_EPOCH, |clock| clock.now())
    }

    fn lock(&self) -> MutexGuard<'_, Objects> {
        // Every change under the lock is a single insert or remove: a panic elsewhere leaves nothing half done.
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn found(&self, name: &ObjectName) -> Result<(Bytes, Timestamp), StoreError> {
        self.lock()
            .get(name.as_str())
            .cloned()
            .ok_or_else(|| StoreError::NotFound { name: name.as_str().to_owned() })
    }
}

#[async_trait]
impl ObjectStore for MemoryStore {
    fn location(&self) -> String {
        LOCATION.to_owned()
    }

    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), StoreError> {
        let now = self.now();
        let mut objects = self.lock();
        if objects.contains_key(name.as_str()) {
            return Err(StoreError::Exists { name: name.as_str().to_owned() });
        }
        objects.insert(name.as_str().to_owned(), (body, now));
        Ok(())
    }

    async fn put(&self, name: &ObjectName, body: Bytes) -> Result<(), StoreError> {
        let now = self.now();
        self.lock().insert(name.as_str().to_owned(), (body, now));
        Ok(())
    }

    async fn upload(&self, name: &ObjectName) -> Result<Box<dyn Upload>, StoreError> {
        Ok(Box::new(MemoryUpload { store: self.clone(), name: name.clone(), parts: Mutex::default() }))
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        Ok(self.found(name)?.0)
    }

    async fn get_range(&self, name: &ObjectName, start: u64, length: u64) -> Result<Bytes, StoreError> {
        let body = self.found(name)?.0;
        let end = range::end_of(LOCATION, name.as_str(), start, length, body.len() as u64)?;
        #[expect(clippy::cast_possible_truncation, reason = "both are within a body in memory")]
        Ok(body.slice(start as usize..end as usize))
    }

    async fn head(&self, name: &ObjectName) -> Result<ObjectInfo, StoreError> {
        let (body, last_modified) = self.found(name)?;
        Ok(ObjectInfo {
            bytes: body.len() as u64,
            last_modified,
            store_time: self.clock.as_ref().map(|c| c.now()),
            locked_until: None,
        })
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, StoreError> {
        let objects = self.lock();
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut rest = objects
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(name, _)| name.starts_with(prefix));
        let listed = |(name, (body, last_modified)): (&String, &(Bytes, Timestamp))| Listed {
            name: name.clone(),
            bytes: body.len() as u64,
            last_modified: *last_modified,
        };
        let objects = rest.by_ref().take(PAGE).map(listed).collect();
        Ok(ListPage { objects, more: rest.next().is_some() })
    }

    async fn delete(&self, name: &ObjectName) -> Result<Deleted, StoreError> {
        self.lock().remove(name.as_str());
        Ok(Deleted::Gone)
    }
}

#[derive(Debug)]
struct MemoryUpload {
    store: MemoryStore,
    name: ObjectName,
    parts: Mutex<BTreeMap<u32, Bytes>>,
}

impl MemoryUpload {
    fn rejected(&self, reason: String) -> StoreError {
        StoreError::Rejected { location: LOCATION.to_owned(), name: self.name.as_str().to_owned(), reason }
    }
}

#[async_trait]
impl Upload for MemoryUpload {
    async fn part(&self, number: u32, body: Bytes) -> Result<(), StoreError> {
        if body.is_empty() || body.len() > PART_BYTES {
            return Err(self.rejected(format!("part {number} has {} bytes", body.len())));
        }
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).insert(number, body);
        Ok(())
    }

    async fn complete(&self, parts: u32) -> Result<(), StoreError> {
        let whole = {
            let stored = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
            bytes_of_parts(parts, |number| stored.get(&number).map(|part| part.len() as u64))
                .map_err(|reason| self.rejected(reason))?;
            let mut whole = BytesMut::new();
            (0..parts).for_each(|number| whole.extend_from_slice(&stored[&number]));
            whole.freeze()
        };
        self.store.put(&self.name, whole).await
    }

    async fn abort(&self) -> Result<(), StoreError> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }
}
