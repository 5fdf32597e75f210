//! Stores that lie, and what the probe says of them.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::SignedDuration;
use strongroom_model::{Clock, Entropy};
use strongroom_repository::abilities::Answer;
use strongroom_repository::store::{Deleted, ListPage, ObjectInfo, Upload};

use super::*;
use crate::directory::DirectoryStore;
use crate::faulty::{Failing, Fault, Faulty, Rule};
use crate::memory::MemoryStore;
use crate::record::Verb;

#[derive(Debug, Clone, Copy)]
struct Noon(i64);
impl Clock for Noon {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_800_000_000 + self.0)
    }
}

#[derive(Debug)]
struct Nines;
impl Entropy for Nines {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(9);
    }
}

fn world() -> World {
    World { clock: Arc::new(Noon(0)), entropy: Arc::new(Nines) }
}

/// How a store treats create-only.
#[derive(Debug, Clone, Copy)]
enum Lie {
    /// The header is ignored.
    Overwrites,
    /// It says 412, and overwrites all the same.
    OverwritesAndDenies,
    /// It looks first and writes then.
    LooksThenWrites,
    /// 501.
    Rejects,
}

#[derive(Debug)]
struct Liar(MemoryStore, Lie);

#[async_trait]
impl ObjectStore for Liar {
    fn location(&self) -> String {
        "liar".to_owned()
    }
    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), StoreError> {
        let exists = self.0.head(name).await.is_ok();
        let taken = StoreError::Exists { name: name.as_str().to_owned() };
        match self.1 {
            Lie::Overwrites => self.0.put(name, body).await,
            Lie::OverwritesAndDenies => {
                self.0.put(name, body).await?;
                if exists { Err(taken) } else { Ok(()) }
            }
            Lie::LooksThenWrites => {
                tokio::task::yield_now().await;
                if exists { Err(taken) } else { self.0.put(name, body).await }
            }
            Lie::Rejects => Err(StoreError::Rejected {
                location: self.location(),
                name: name.as_str().to_owned(),
                reason: "501 NotImplemented".to_owned(),
            }),
        }
    }
    async fn put(&self, name: &ObjectName, body: Bytes) -> Result<(), StoreError> {
        self.0.put(name, body).await
    }
    async fn upload(&self, name: &ObjectName) -> Result<Box<dyn Upload>, StoreError> {
        self.0.upload(name).await
    }
    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.0.get(name).await
    }
    async fn get_range(&self, name: &ObjectName, start: u64, length: u64) -> Result<Bytes, StoreError> {
        self.0.get_range(name, start, length).await
    }
    async fn head(&self, name: &ObjectName) -> Result<ObjectInfo, StoreError> {
        self.0.head(name).await
    }
    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, StoreError> {
        self.0.list(prefix, after).await
    }
    async fn delete(&self, name: &ObjectName) -> Result<Deleted, StoreError> {
        self.0.delete(name).await
    }
}

#[tokio::test]
async fn an_honest_store_takes_several_writers_and_keeps_nothing_of_the_probe() {
    let store = MemoryStore::new(Arc::new(Noon(0)));
    let abilities = probe(&store, &world()).await.unwrap();
    assert_eq!((abilities.create_only, abilities.most_winners), (CreateOnly::Atomic, 1));
    assert!(abilities.several_writers() && abilities.warnings().is_empty(), "{abilities:?}");
    assert!(store.contents().is_empty());
}

#[tokio::test]
async fn a_folder_takes_several_writers() {
    let folder = tempfile::tempdir().unwrap();
    let abilities = probe(&DirectoryStore::new(folder.path()), &world()).await.unwrap();
    assert!(abilities.several_writers() && abilities.read_after_write && abilities.list_after_write);
    assert_eq!(abilities.claims.object_lock, Answer::No);
}

#[tokio::test]
async fn a_store_that_lies_about_create_only_is_recognised() {
    for (lie, verdict) in [
        (Lie::Overwrites, CreateOnly::Ignored),
        (Lie::OverwritesAndDenies, CreateOnly::Ignored),
        (Lie::LooksThenWrites, CreateOnly::Racy),
        (Lie::Rejects, CreateOnly::Unsupported),
    ] {
        let abilities = probe(&Liar(MemoryStore::default(), lie), &world()).await.unwrap();
        assert_eq!(abilities.create_only, verdict, "{lie:?}");
        assert!(!abilities.several_writers());
        assert!(abilities.warnings()[0].contains("ONE agent"), "{:?}", abilities.warnings());
    }
}

#[tokio::test]
async fn a_clock_that_is_off_is_measured() {
    let store = MemoryStore::new(Arc::new(Noon(-3_600)));
    let abilities = probe(&store, &world()).await.unwrap();
    assert_eq!(abilities.clock_ahead_ms, Some(-3_600_000));
    assert_eq!(abilities.warnings().len(), 1);
}

#[tokio::test]
async fn late_listings_and_late_reads_are_noticed() {
    let store = Faulty::new(Arc::new(MemoryStore::default()));
    store.plan(Rule::nth(2, Verb::Head, Fault::FailBefore(Failing::NotFound)));
    let abilities = probe(&store, &world()).await.unwrap();
    assert!(!abilities.read_after_write && abilities.delete_is_seen);
}

#[tokio::test]
async fn a_lost_answer_is_no_verdict_and_a_refusal_is_an_error() {
    let store = Faulty::new(Arc::new(MemoryStore::default()));
    store.plan(Rule::nth(1, Verb::Create, Fault::FailAfter));
    store.plan(Rule::nth(9, Verb::Create, Fault::FailAfter));
    assert!(probe(&store, &world()).await.unwrap().several_writers());
    store.plan(Rule::every(Verb::Put, Fault::FailBefore(Failing::Refused)));
    assert!(matches!(probe(&store, &world()).await, Err(StoreError::Refused { .. })));
}
