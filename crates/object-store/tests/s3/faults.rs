//! What a bad line does to requests, and that nothing wrong comes of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use strongroom_object_store::S3Settings;
use strongroom_object_store::retry::{Retry, RetryPolicy};
use strongroom_object_store::s3::S3Store;
use strongroom_repository::layout::ObjectName;
use strongroom_repository::store::{ObjectStore, StoreError};

use crate::proxy::{Fault, Proxy};
use crate::server::{Server, settings, store, world};

const BODY: &[u8] = b"a body that is long enough to be cut somewhere in the middle";

async fn through_proxy(server: Server) -> Option<(Proxy, S3Store)> {
    let proxy = Proxy::before(&server.endpoint()?).await;
    let settings = S3Settings { attempt_timeout: Duration::from_secs(3), ..settings(&proxy.endpoint) };
    let store = store(&settings).await;
    Some((proxy, store))
}

fn retrying(store: &S3Store) -> Retry {
    let policy = RetryPolicy { first_wait: Duration::from_millis(10), ..RetryPolicy::default() };
    Retry::new(Arc::new(store.clone()), policy, world().entropy)
}

/// What every create-only write does: whatever the answer, what stands there decides who won.
async fn create_and_compare(store: &dyn ObjectStore, name: &ObjectName, body: &'static [u8]) -> bool {
    match store.create(name, Bytes::from_static(body)).await {
        Ok(()) => true,
        Err(StoreError::Exists { .. } | StoreError::Unavailable { .. }) => {
            store.get(name).await.unwrap() == body
        }
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_create_whose_answer_was_lost_is_recognised_as_ones_own() {
    let Some((proxy, store)) = through_proxy(Server::Radosgw).await else { return };
    let (name, store) = (ObjectName::journal(1), retrying(&store));
    proxy.plan(1, "PUT", Fault::LoseAnswer);
    assert!(matches!(
        store.create(&name, Bytes::from_static(b"token of A")).await,
        Err(StoreError::Unavailable { .. })
    ));
    assert_eq!(proxy.seen("PUT"), 1, "a create-only write was sent twice behind our back");
    // Sent again, it meets its own object: still the winner. Anybody else has lost.
    assert!(create_and_compare(&store, &name, b"token of A").await);
    assert!(!create_and_compare(&store, &name, b"token of B").await);
    assert_eq!(store.get(&name).await.unwrap(), "token of A");
}

#[tokio::test]
async fn a_create_that_never_arrived_is_not_taken_for_done() {
    let Some((proxy, store)) = through_proxy(Server::Radosgw).await else { return };
    for (number, fault) in [(1, Fault::Reset), (2, Fault::SlowDown), (3, Fault::Stall)] {
        let name = ObjectName::journal(number);
        proxy.plan(1, "PUT", fault);
        let lost = store.create(&name, Bytes::from_static(BODY)).await;
        assert!(matches!(lost, Err(StoreError::Unavailable { .. })), "{fault:?}: {lost:?}");
        assert!(matches!(store.get(&name).await, Err(StoreError::NotFound { .. })));
        assert!(create_and_compare(&store, &name, BODY).await);
    }
}

#[tokio::test]
async fn failures_that_pass_are_not_noticed_and_cost_one_request_each() {
    let Some((proxy, store)) = through_proxy(Server::Radosgw).await else { return };
    let (name, store) = (ObjectName::head(), retrying(&store));
    for fault in [Fault::SlowDown, Fault::Reset, Fault::LoseAnswer] {
        proxy.plan(1, "PUT", fault);
        let before = proxy.seen("PUT");
        store.put(&name, Bytes::from_static(BODY)).await.unwrap();
        assert_eq!(proxy.seen("PUT") - before, 2, "{fault:?}");
    }
    for fault in [Fault::SlowDown, Fault::Reset, Fault::LoseAnswer, Fault::CutBody, Fault::StallBody] {
        proxy.plan(1, "GET", fault);
        let before = proxy.seen("GET");
        assert_eq!(store.get(&name).await.unwrap(), BODY, "{fault:?}");
        assert_eq!(proxy.seen("GET") - before, 2, "{fault:?}");
        proxy.plan(1, "GET", fault);
        assert_eq!(store.get_range(&name, 7, 20).await.unwrap(), BODY[7..27], "{fault:?}");
    }
    for fault in [Fault::SlowDown, Fault::LoseAnswer] {
        proxy.plan(1, "DELETE", fault);
        store.delete(&name).await.unwrap();
    }
}

#[tokio::test]
async fn a_store_that_falls_silent_is_left_within_the_timeouts() {
    let Some((proxy, store)) = through_proxy(Server::Radosgw).await else { return };
    store.put(&ObjectName::head(), Bytes::from_static(BODY)).await.unwrap();
    // 3 s for an answer to begin, 2 s for a pause in its body.
    for (fault, limit) in [(Fault::Stall, 3), (Fault::StallBody, 2)] {
        proxy.plan(1, "GET", fault);
        let begun = Instant::now();
        assert!(matches!(store.get(&ObjectName::head()).await, Err(StoreError::Unavailable { .. })));
        let waited = begun.elapsed();
        assert!(
            waited >= Duration::from_secs(limit) && waited < Duration::from_secs(limit + 2),
            "{waited:?}"
        );
    }
}

#[tokio::test]
async fn a_cut_answer_is_never_taken_for_a_short_object() {
    let Some((proxy, store)) = through_proxy(Server::Radosgw).await else { return };
    store.put(&ObjectName::head(), Bytes::from_static(BODY)).await.unwrap();
    proxy.plan(2, "GET", Fault::CutBody);
    assert!(matches!(store.get(&ObjectName::head()).await, Err(StoreError::Unavailable { .. })));
    let range = store.get_range(&ObjectName::head(), 0, 30).await;
    assert!(matches!(range, Err(StoreError::Unavailable { .. })));
}

#[tokio::test]
async fn a_flipped_bit_is_caught_where_the_store_keeps_checksums() {
    let Some((proxy, store)) = through_proxy(Server::LocalStack).await else { return };
    store.put(&ObjectName::head(), Bytes::from_static(BODY)).await.unwrap();
    proxy.plan(1, "GET", Fault::FlipBody);
    assert!(matches!(store.get(&ObjectName::head()).await, Err(StoreError::Damaged { .. })));
    assert_eq!(store.get(&ObjectName::head()).await.unwrap(), BODY);
}

/// A note to ourselves more than a promise: with a store like this only the seal of the repository sees the damage.
#[tokio::test]
async fn a_flipped_bit_passes_where_the_store_keeps_none() {
    let Some((proxy, store)) = through_proxy(Server::Radosgw).await else { return };
    store.put(&ObjectName::head(), Bytes::from_static(BODY)).await.unwrap();
    proxy.plan(1, "GET", Fault::FlipBody);
    assert_ne!(store.get(&ObjectName::head()).await.unwrap(), BODY);
}

#[tokio::test]
async fn an_error_inside_a_good_answer_is_no_completed_upload() {
    let Some((proxy, store)) = through_proxy(Server::Radosgw).await else { return };
    let name = ObjectName::probe([1; 16], "error-in-200");
    let upload = store.upload(&name).await.unwrap();
    upload.part(0, Bytes::from_static(BODY)).await.unwrap();
    proxy.plan(1, "POST", Fault::ErrorIn200);
    let completed = upload.complete(1).await;
    assert!(matches!(completed, Err(StoreError::Unavailable { .. })), "{completed:?}");
    assert!(matches!(store.head(&name).await, Err(StoreError::NotFound { .. })));
    upload.complete(1).await.unwrap();
    assert_eq!(store.get(&name).await.unwrap(), BODY);
}

#[tokio::test]
async fn an_upload_gets_through_a_line_that_loses_every_first_answer() {
    for server in [Server::Radosgw, Server::LocalStack] {
        let Some((proxy, store)) = through_proxy(server).await else { continue };
        let (name, store) = (ObjectName::probe([2; 16], "lost-answers"), retrying(&store));
        proxy.plan(1, "?uploads", Fault::LoseAnswer);
        let upload = store.upload(&name).await.unwrap();
        proxy.plan(1, "partNumber", Fault::LoseAnswer);
        upload.part(0, Bytes::from_static(BODY)).await.unwrap();
        proxy.plan(1, "POST", Fault::LoseAnswer);
        upload.complete(1).await.unwrap();
        assert_eq!(store.get(&name).await.unwrap(), BODY, "{server:?}");
    }
}
