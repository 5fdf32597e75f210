//! Retention locks and storage classes on servers that have them.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::config::{BehaviorVersion, Region};
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use bytes::Bytes;
use strongroom_model::PackId;
use strongroom_object_store::probe::probe;
use strongroom_object_store::s3::S3Store;
use strongroom_object_store::{LockMode, S3Settings};
use strongroom_repository::abilities::Answer;
use strongroom_repository::layout::{ObjectName, PackKind, PackObject};
use strongroom_repository::store::{Deleted, ObjectStore, PART_BYTES, StoreError};

use crate::server::{Server, hex, keys, scope, settings, store, world};

/// Long enough for a slow machine to look before it ends, short enough to wait for.
const SPAN: Duration = Duration::from_secs(6);

fn name(kind: PackKind, number: u8) -> ObjectName {
    ObjectName::pack(kind, PackObject { pack: PackId::from_bytes([number; 16]), suffix: [1; 8] })
}

/// A bucket with locks, of its own: removed again when all locks have ended.
struct Locked {
    client: aws_sdk_s3::Client,
    bucket: String,
    settings: S3Settings,
}

impl Locked {
    async fn make(server: Server) -> Option<Self> {
        let endpoint = server.endpoint()?;
        let config = aws_sdk_s3::config::Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(&endpoint)
            .region(Region::from_static("us-east-1"))
            .credentials_provider(keys("testing123"))
            .force_path_style(true);
        let client = aws_sdk_s3::Client::from_conf(config.build());
        let bucket = format!("locked-{}", &hex(&scope())[..16]);
        client
            .create_bucket()
            .bucket(&bucket)
            .object_lock_enabled_for_bucket(true)
            .send()
            .await
            .expect("a bucket with locks can be made");
        let lock =
            S3Settings { lock_for: Some(SPAN), lock_mode: LockMode::Compliance, ..settings(&endpoint) };
        Some(Self { client, bucket, settings: lock })
    }

    async fn store(&self, settings: &S3Settings) -> S3Store {
        let store = S3Store::connect_as(&self.bucket, "r", settings, keys("testing123")).await;
        store.with_clock(Arc::clone(&world().clock))
    }

    /// How many versions and delete markers there are.
    async fn versions(&self) -> Vec<ObjectIdentifier> {
        let listed = self.client.list_object_versions().bucket(&self.bucket).send().await.unwrap();
        let named = |key: Option<&str>, version: Option<&str>| {
            ObjectIdentifier::builder()
                .key(key.unwrap())
                .set_version_id(version.map(str::to_owned))
                .build()
                .unwrap()
        };
        let versions = listed.versions().iter().map(|one| named(one.key(), one.version_id()));
        versions.chain(listed.delete_markers().iter().map(|one| named(one.key(), one.version_id()))).collect()
    }

    async fn remove(self) {
        let left = self.versions().await;
        if !left.is_empty() {
            let delete = Delete::builder().set_objects(Some(left)).build().unwrap();
            self.client.delete_objects().bucket(&self.bucket).delete(delete).send().await.unwrap();
        }
        self.client.delete_bucket().bucket(&self.bucket).send().await.unwrap();
    }
}

async fn packs_are_locked(server: Server) {
    let Some(locked) = Locked::make(server).await else { return };
    let store = locked.store(&locked.settings).await;
    let abilities = probe(&store, &world()).await.unwrap();
    assert_eq!(abilities.claims.object_lock, Answer::Yes, "{abilities:?}");
    assert_eq!(store.lock_span(), Some(SPAN));

    let (small, large) = (name(PackKind::Map, 1), name(PackKind::Data, 2));
    store.put(&small, Bytes::from_static(b"sealed")).await.unwrap();
    let upload = store.upload(&large).await.unwrap();
    upload.part(0, vec![7; PART_BYTES].into()).await.unwrap();
    upload.part(1, Bytes::from_static(b"end")).await.unwrap();
    upload.complete(2).await.unwrap();
    for pack in [&small, &large] {
        assert_eq!(store.delete(pack).await.unwrap(), Deleted::Retained, "{pack} is locked");
        store.head(pack).await.expect("what is locked is still there, and seen");
    }
    // Whoever does not know of locks does not get rid of a version either.
    let careless = locked.store(&S3Settings { lock_for: None, ..locked.settings.clone() }).await;
    let _ = careless.delete(&small).await;
    let kept = locked.versions().await;
    assert!(kept.iter().filter(|version| version.key().ends_with(small.as_str())).count() >= 1);

    // Everything else is not locked, and goes with all its versions.
    let sign = ObjectName::session(7);
    for _ in 0..3 {
        store.put(&sign, Bytes::from_static(b"alive\n")).await.unwrap();
    }
    assert_eq!(store.delete(&sign).await.unwrap(), Deleted::Gone);
    let left = locked.versions().await;
    assert!(!left.iter().any(|version| version.key().ends_with(sign.as_str())), "{left:?}");

    // Prolonged, a lock outlives its first end; then it ends, and the pack goes for good.
    tokio::time::sleep(SPAN / 2).await;
    let until = store.prolong(&large).await.unwrap().expect("this store locks");
    assert!(until.duration_since(world().clock.now()).as_secs() >= 4, "{until}");
    tokio::time::sleep(SPAN / 2 + Duration::from_secs(1)).await;
    assert_eq!(store.delete(&large).await.unwrap(), Deleted::Retained, "it was prolonged");
    tokio::time::sleep(SPAN / 2).await;
    assert_eq!(store.delete(&large).await.unwrap(), Deleted::Gone);
    let left = locked.versions().await;
    assert!(!left.iter().any(|version| version.key().ends_with(large.as_str())), "{left:?}");
    locked.remove().await;
}

#[tokio::test]
async fn radosgw_keeps_locked_packs_until_their_locks_end() {
    packs_are_locked(Server::Radosgw).await;
}

#[tokio::test]
async fn localstack_keeps_locked_packs_until_their_locks_end() {
    packs_are_locked(Server::LocalStack).await;
}

#[tokio::test]
async fn data_packs_have_the_storage_class_that_was_asked_for_and_what_is_archived_is_named() {
    let Some(endpoint) = Server::LocalStack.endpoint() else { return };
    let cold = S3Settings { storage_class: Some("GLACIER".to_owned()), ..settings(&endpoint) };
    let store = store(&cold).await;
    let (data, map) = (name(PackKind::Data, 3), name(PackKind::Map, 4));
    for pack in [&data, &map] {
        store.put(pack, Bytes::from_static(b"sealed")).await.unwrap();
    }
    store.put(&ObjectName::head(), Bytes::from_static(b"{}")).await.unwrap();
    assert_eq!(store.get(&map).await.unwrap(), "sealed", "what describes volumes stays quick");
    assert_eq!(store.get(&ObjectName::head()).await.unwrap(), "{}");
    for answer in [store.get(&data).await, store.get_range(&data, 0, 3).await] {
        let error = answer.unwrap_err();
        assert!(matches!(error, StoreError::Archived { .. }), "{error}");
    }
    for name in [data, map, ObjectName::head()] {
        store.delete(&name).await.unwrap();
    }
}
