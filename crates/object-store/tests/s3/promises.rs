//! Real servers keep the promises of the trait, and the probe sees what each of them can do.

use std::sync::Arc;

use bytes::Bytes;
use strongroom_object_store::conformance::{self, Scope};
use strongroom_object_store::probe::probe;
use strongroom_object_store::s3::S3Store;
use strongroom_object_store::spool::Spool;
use strongroom_object_store::{ChecksumMode, S3Settings, open_counted};
use strongroom_repository::abilities::{Abilities, Answer};
use strongroom_repository::layout::ObjectName;
use strongroom_repository::store::{ObjectStore, StoreError};

use crate::server::{Server, bucket, hex, keys, scope, settings, store, world};

async fn suite(server: Server, checksums: ChecksumMode) {
    let Some(endpoint) = server.endpoint() else { return };
    let settings = S3Settings { checksums, ..settings(&endpoint) };
    let store = store(&settings).await;
    conformance::all(&store, Scope(scope())).await;
    // And as programs use it: what is uploaded is gathered in a file first.
    let folder = tempfile::tempdir().unwrap();
    conformance::all(&Spool::new(Arc::new(store), folder.path().to_owned()), Scope(scope())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn radosgw_keeps_every_promise() {
    suite(Server::Radosgw, ChecksumMode::WhenSupported).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn radosgw_keeps_every_promise_without_checksums() {
    suite(Server::Radosgw, ChecksumMode::WhenRequired).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn localstack_keeps_every_promise() {
    suite(Server::LocalStack, ChecksumMode::WhenSupported).await;
}

async fn probed(server: Server) -> Option<Abilities> {
    let store = store(&settings(&server.endpoint()?)).await;
    let abilities = probe(&store, &world()).await.unwrap();
    println!("{server:?}: {abilities:?}");
    assert!(store.list("probe/", None).await.unwrap().objects.is_empty(), "the probe left something");
    assert!(abilities.several_writers() && abilities.read_after_write && abilities.list_after_write);
    assert!(abilities.delete_is_seen);
    assert!(abilities.clock_ahead_ms.unwrap().abs() < 5_000);
    assert_eq!((abilities.claims.versioning, abilities.claims.object_lock), (Answer::No, Answer::No));
    Some(abilities)
}

#[tokio::test]
async fn the_probe_sees_that_radosgw_drops_checksums() {
    let Some(abilities) = probed(Server::Radosgw).await else { return };
    assert_eq!(abilities.claims.wrong_checksum_refused, Answer::No);
    assert_eq!(abilities.claims.trailer_checksums, Answer::No);
}

#[tokio::test]
async fn the_probe_sees_that_localstack_checks_them() {
    let Some(abilities) = probed(Server::LocalStack).await else { return };
    assert_eq!(abilities.claims.wrong_checksum_refused, Answer::Yes);
    assert_eq!(abilities.claims.trailer_checksums, Answer::Yes);
}

#[tokio::test]
async fn wrong_keys_a_missing_bucket_and_a_dead_server_are_told_apart() {
    let Some(endpoint) = Server::Radosgw.endpoint() else { return };
    let (name, settings) = (ObjectName::head(), settings(&endpoint));
    let stranger = S3Store::connect_as(&bucket(), "x", &settings, keys("wrong")).await;
    assert!(matches!(stranger.get(&name).await, Err(StoreError::Refused { .. })));
    assert!(matches!(stranger.put(&name, Bytes::new()).await, Err(StoreError::Refused { .. })));
    assert!(matches!(stranger.delete(&name).await, Err(StoreError::Refused { .. })));
    let nowhere = S3Store::connect_as("strongroom-no-such-bucket", "x", &settings, keys("testing123")).await;
    assert!(matches!(nowhere.get(&name).await, Err(StoreError::NoSuchPlace { .. })));
    assert!(matches!(nowhere.put(&name, Bytes::new()).await, Err(StoreError::NoSuchPlace { .. })));
    assert!(matches!(nowhere.list("", None).await, Err(StoreError::NoSuchPlace { .. })));
    assert!(matches!(nowhere.upload(&name).await, Err(StoreError::NoSuchPlace { .. })));
    let dead = S3Settings { endpoint: Some("http://127.0.0.1:9".to_owned()), ..settings };
    let dead = S3Store::connect_as(&bucket(), "x", &dead, keys("testing123")).await;
    assert!(matches!(dead.get(&name).await, Err(StoreError::Unavailable { .. })));
}

#[tokio::test]
async fn a_store_opened_by_its_url_counts_what_goes_over_the_line() {
    let Some(endpoint) = Server::Radosgw.endpoint() else { return };
    let url = format!("s3://{}/tests/{}", bucket(), hex(&scope()));
    let opened = open_counted(&url, Some(&settings(&endpoint)), &world()).await.unwrap();
    assert_eq!(opened.store.location(), url);
    opened.store.put(&ObjectName::head(), Bytes::from_static(b"{}")).await.unwrap();
    assert_eq!(opened.store.get(&ObjectName::head()).await.unwrap(), "{}");
    opened.store.delete(&ObjectName::head()).await.unwrap();
    assert_eq!((opened.counts.all_requests(), opened.counts.sent_bytes()), (3, 2));
}
