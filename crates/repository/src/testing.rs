//! A small world for the tests of this crate: a store in memory, randomness from a seed.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use strongroom_model::{Entropy, PackId};

use crate::layout::{ObjectName, PackKind, PackObject};
use crate::rules::{Rule, holds};
use crate::store::{Deleted, ListPage, Listed, ObjectInfo, ObjectStore, PART_BYTES, StoreError, Upload};

/// The same bytes for the same seed: BLAKE3's output over seed and call.
#[derive(Debug)]
pub(crate) struct SeededEntropy {
    seed: u64,
    calls: AtomicU64,
}

impl SeededEntropy {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { seed, calls: AtomicU64::new(0) }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.seed.to_le_bytes());
        hasher.update(&self.calls.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        hasher.finalize_xof().fill(bytes);
    }
}

/// Objects in memory. Counts requests; can be told to fail.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryStore(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    objects: Mutex<BTreeMap<String, Bytes>>,
    requests: AtomicU64,
    /// Requests until every write fails; 0 = never.
    writes_left: AtomicU64,
}

impl MemoryStore {
    pub(crate) fn requests(&self) -> u64 {
        self.0.requests.load(Ordering::Relaxed)
    }

    /// Lets `writes` more writes succeed, and none after that.
    pub(crate) fn fail_after(&self, writes: u64) {
        self.0.writes_left.store(writes + 1, Ordering::Relaxed);
    }

    pub(crate) fn objects(&self) -> BTreeMap<String, Bytes> {
        self.0.objects.lock().unwrap().clone()
    }

    /// Puts any bytes under a name, past every rule.
    pub(crate) fn damage(&self, name: &ObjectName, bytes: impl Into<Bytes>) {
        self.0.objects.lock().unwrap().insert(name.as_str().to_owned(), bytes.into());
    }

    /// Removes a name, past every rule.
    pub(crate) fn remove(&self, name: &ObjectName) {
        self.0.objects.lock().unwrap().remove(name.as_str());
    }

    fn count(&self) {
        self.0.requests.fetch_add(1, Ordering::Relaxed);
    }

    fn write(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.count();
        match self.0.writes_left.load(Ordering::Relaxed) {
            0 => Ok(()),
            1 => Err(StoreError::Unavailable {
                location: self.location(),
                name: name.as_str().to_owned(),
                reason: "told to fail".to_owned(),
            }),
            left => {
                self.0.writes_left.store(left - 1, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    fn found(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.count();
        let objects = self.0.objects.lock().unwrap();
        objects
            .get(name.as_str())
            .cloned()
            .ok_or_else(|| StoreError::NotFound { name: name.as_str().to_owned() })
    }
}

#[async_trait]
impl ObjectStore for MemoryStore {
    fn location(&self) -> String {
        "memory".to_owned()
    }

    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), StoreError> {
        self.write(name)?;
        let mut objects = self.0.objects.lock().unwrap();
        if objects.contains_key(name.as_str()) {
            return Err(StoreError::Exists { name: name.as_str().to_owned() });
        }
        objects.insert(name.as_str().to_owned(), body);
        Ok(())
    }

    async fn put(&self, name: &ObjectName, body: Bytes) -> Result<(), StoreError> {
        self.write(name)?;
        self.0.objects.lock().unwrap().insert(name.as_str().to_owned(), body);
        Ok(())
    }

    async fn upload(&self, name: &ObjectName) -> Result<Box<dyn Upload>, StoreError> {
        self.write(name)?;
        Ok(Box::new(MemoryUpload { store: self.clone(), name: name.clone(), parts: Mutex::default() }))
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.found(name)
    }

    async fn get_range(&self, name: &ObjectName, start: u64, length: u64) -> Result<Bytes, StoreError> {
        let object = self.found(name)?;
        let (start, length) = (usize::try_from(start).unwrap(), usize::try_from(length).unwrap());
        if start.checked_add(length).is_none_or(|end| end > object.len()) {
            return Err(StoreError::Rejected {
                location: self.location(),
                name: name.as_str().to_owned(),
                reason: "416".to_owned(),
            });
        }
        Ok(object.slice(start..start + length))
    }

    async fn head(&self, name: &ObjectName) -> Result<ObjectInfo, StoreError> {
        let bytes = self.found(name)?.len() as u64;
        Ok(ObjectInfo { bytes, last_modified: Timestamp::UNIX_EPOCH, store_time: None, locked_until: None })
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, StoreError> {
        self.count();
        let objects = self.0.objects.lock().unwrap();
        let listed = objects
            .iter()
            .filter(|(name, _)| name.starts_with(prefix) && after.is_none_or(|after| name.as_str() > after))
            .map(|(name, body)| Listed {
                name: name.clone(),
                bytes: body.len() as u64,
                last_modified: Timestamp::UNIX_EPOCH,
            });
        Ok(ListPage { objects: listed.collect(), more: false })
    }

    async fn delete(&self, name: &ObjectName) -> Result<Deleted, StoreError> {
        self.write(name)?;
        self.0.objects.lock().unwrap().remove(name.as_str());
        Ok(Deleted::Gone)
    }
}

#[derive(Debug)]
struct MemoryUpload {
    store: MemoryStore,
    name: ObjectName,
    parts: Mutex<BTreeMap<u32, Bytes>>,
}

#[async_trait]
impl Upload for MemoryUpload {
    async fn part(&self, number: u32, body: Bytes) -> Result<(), StoreError> {
        self.store.write(&self.name)?;
        self.parts.lock().unwrap().insert(number, body);
        Ok(())
    }

    async fn complete(&self, parts: u32) -> Result<(), StoreError> {
        self.store.write(&self.name)?;
        let stored = self.parts.lock().unwrap();
        assert!(stored.keys().copied().eq(0..parts), "parts are missing");
        let mut body = BytesMut::new();
        for (number, part) in stored.iter() {
            assert!(part.len() == PART_BYTES || number + 1 == parts, "a part in the middle is short");
            body.extend_from_slice(part);
        }
        self.store.0.objects.lock().unwrap().insert(self.name.as_str().to_owned(), body.freeze());
        Ok(())
    }

    async fn abort(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// The name that a rewritten object would have if generations were counted. Only where a test takes the rule of
/// fresh names away.
pub(crate) fn next_generation(object: PackObject) -> PackObject {
    PackObject { suffix: (u64::from_le_bytes(object.suffix).wrapping_add(1)).to_le_bytes(), ..object }
}

thread_local! {
    static CONTENT: Cell<Option<[u8; 24]>> = const { Cell::new(None) };
}

/// What the next pack of data is made of, where a test takes the rule of fresh names of packs away.
pub(crate) fn next_content(content: &[u8]) {
    let mut name = [0; 24];
    blake3::Hasher::new().update(content).finalize_xof().fill(&mut name);
    CONTENT.set(Some(name));
}

/// The name of the next pack of data, if it were made of its content.
pub(crate) fn content_named(kind: PackKind) -> Option<PackObject> {
    if kind == PackKind::Map || holds(Rule::FreshPackNames) {
        return None;
    }
    let name = CONTENT.take()?;
    let (pack, suffix) = name.split_at(16);
    Some(PackObject {
        pack: PackId::from_bytes(pack.try_into().unwrap()),
        suffix: suffix.try_into().unwrap(),
    })
}
