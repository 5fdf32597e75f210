//! A whole repository in a real S3, at the end of good lines and of bad ones.

use std::sync::Arc;
use std::time::Duration;

use strongroom_object_store::S3Settings;
use strongroom_object_store::retry::{Retry, RetryPolicy};
use strongroom_repository::keys::{KeyFile, Unlock};
use strongroom_repository::store::ObjectStore;
use strongroom_repository::sweep::SweepOptions;
use strongroom_repository::{Patience, Repository};

use crate::proxy::{Fault, Proxy};
use crate::server::{self, Server};
use crate::world;

/// What happens on bad lines. Not here: flipped bits, which a store without checksums passes on to the seals.
const BAD: &[Fault] = &[Fault::SlowDown, Fault::Reset, Fault::LoseAnswer, Fault::LoseAnswer, Fault::CutBody];

/// Backs up, forgets, sweeps and restores; every point comes back bit for bit.
async fn live(store: Arc<dyn ObjectStore>, seed: u64) {
    let world = server::world();
    let key = Unlock::KeyFile(KeyFile::generate(&*world.entropy));
    let repository = world::init_in(Arc::clone(&store), &world, std::slice::from_ref(&key)).await;
    let mut image = world::image(seed, 3 << 20);
    let first = world::back_up(&repository, &world, "db", &image).await;
    assert!(world::restore(&repository, first).await.unwrap() == image);
    for chunk in image.chunks_mut(world::CHUNK_BYTES as usize).step_by(2) {
        chunk[7] ^= 1;
    }
    let second = world::back_up(&repository, &world, "db", &image).await;
    repository.forget(first, "test").await.unwrap();
    let swept =
        repository.sweep(&SweepOptions { min_hole_ratio: 0.01, ..SweepOptions::default() }).await.unwrap();
    assert!(swept.rewritten_packs > 0, "{swept:?}");

    let options = strongroom_repository::OpenOptions {
        patience: Patience { first: Duration::from_millis(1), ..Patience::default() },
        ..world::options()
    };
    let again = Repository::open(store, world, &key, options).await.unwrap();
    assert_eq!(again.fold().await.unwrap().points.len(), 1, "a lost answer made a second point, or none");
    assert!(world::restore(&again, second).await.unwrap() == image, "other bytes came back");
    let report = again.check(true, &|_, _| {}).await.unwrap();
    assert!(report.is_whole(), "{report:?}");
    let audit = again.audit(&|_, _| {}).await.unwrap();
    assert!(audit.wrong_checkpoints.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_lives_in_radosgw() {
    let Some(endpoint) = Server::Radosgw.endpoint() else { return };
    live(Arc::new(server::store(&server::settings(&endpoint)).await), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_lives_in_localstack() {
    let Some(endpoint) = Server::LocalStack.endpoint() else { return };
    live(Arc::new(server::store(&server::settings(&endpoint)).await), 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_lives_at_the_end_of_a_line_that_fails_one_request_in_six() {
    let Some(endpoint) = Server::Radosgw.endpoint() else { return };
    for seed in 1..=4 {
        let proxy = Proxy::before(&endpoint).await;
        proxy.weather(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed), 6, BAD);
        let settings =
            S3Settings { attempt_timeout: Duration::from_secs(5), ..server::settings(&proxy.endpoint) };
        let policy =
            RetryPolicy { attempts: 10, first_wait: Duration::from_millis(2), ..RetryPolicy::default() };
        let store = Retry::new(Arc::new(server::store(&settings).await), policy, server::world().entropy);
        live(Arc::new(store), seed).await;
        println!("seed {seed}: {} requests", proxy.seen("HTTP"));
    }
}
