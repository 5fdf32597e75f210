//! Many lives at once, many deaths of the driver, and then nothing is left.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use strongroom_proto::control::{ListSnapshotsRequest, ListVolumesRequest, MountKind};

use crate::ground::Ground;
use crate::lives::{Caller, Counts};
use crate::random::Random;

/// How large a storm is: lives, callers, deaths, and its seed. `STRONGROOM_STORM=200,64,50` and
/// `STRONGROOM_STORM_SEED` choose; without them it is a part of the full one.
fn size() -> (u64, u64, u64, u64) {
    let given = std::env::var("STRONGROOM_STORM").unwrap_or_else(|_| "60,64,15".to_owned());
    let numbers: Vec<u64> = given
        .split(',')
        .map(|number| number.trim().parse().expect("STRONGROOM_STORM=LIVES,CALLERS,DEATHS"))
        .collect();
    let [lives, callers, deaths] = numbers[..] else { panic!("STRONGROOM_STORM=LIVES,CALLERS,DEATHS") };
    let seed = std::env::var("STRONGROOM_STORM_SEED").ok().map_or_else(
        || {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(1, |since| since.as_secs())
        },
        |seed| seed.parse().expect("STRONGROOM_STORM_SEED is a number"),
    );
    (lives, callers, deaths, seed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_a_storm_of_lives_cancellations_and_deaths_nothing_is_left_and_all_content_was_right() {
    let Some(mut ground) = Ground::new("the storm") else { return };
    let (lives, callers, deaths, seed) = size();
    println!("storm of {lives} lives, {callers} callers, {deaths} deaths; STRONGROOM_STORM_SEED={seed}");
    let begun = Instant::now();
    ground.start();
    let clients = ground.connect().await;
    let (counts, next, living) = (Counts::default(), AtomicU64::new(0), AtomicU64::new(callers));
    let folder = ground.path("node");
    let mut died = 0;
    {
        let (counts, next, living, clients, folder) = (&counts, &next, &living, &clients, &folder);
        let calling = (0..callers).map(|number| async move {
            let random = Random::new(seed, number);
            let mut caller = Caller { clients: clients.clone(), random, folder: folder.clone(), counts };
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= lives {
                    break;
                }
                caller.live(number).await;
            }
            living.fetch_sub(1, Ordering::Relaxed);
        });
        let killing = async {
            let mut random = Random::new(seed, u64::MAX);
            // One death after each share of the work, at a moment of chance; those that are late catch up.
            let share = lives * 13 / (deaths + 1);
            while died < deaths && living.load(Ordering::Relaxed) > 0 {
                if counts.answered.load(Ordering::Relaxed) < (died + 1) * share {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                }
                tokio::time::sleep(Duration::from_millis(random.below(100))).await;
                ground.kill();
                died += 1;
                tokio::time::sleep(Duration::from_millis(random.below(50))).await;
                ground.start();
                ground.connect().await;
            }
        };
        // A caller that fails must not leave the others calling a driver that nobody starts again.
        tokio::join!(all(calling.collect()), killing);
    }
    // One more, so that what is looked at is what a start makes of it.
    ground.kill();
    ground.start();
    let mut clients = ground.connect().await;
    println!(
        "{} answered, {} given up, {} asked again, {died} deaths, {:.1} s",
        counts.answered.load(Ordering::Relaxed),
        counts.given_up.load(Ordering::Relaxed),
        counts.asked_again.load(Ordering::Relaxed),
        begun.elapsed().as_secs_f64(),
    );
    assert_eq!(ground.doctor(), Vec::<String>::new());

    // What was left on purpose goes by its ids, as the driver lists them.
    let mut caller =
        Caller { clients: clients.clone(), random: Random::new(seed, 0), folder, counts: &counts };
    let volumes =
        clients.driver.list_volumes(ListVolumesRequest::default()).await.expect("volumes are listed");
    let volumes = volumes.into_inner().volumes;
    println!("{} volumes were left on purpose", volumes.len());
    for volume in volumes {
        let of = |kind: MountKind| volume.mounts.iter().filter(move |mount| mount.kind() == kind).count();
        if of(MountKind::Published) > 0 {
            caller.unpublish(&volume.id, &volume.name).await;
        }
        if of(MountKind::Staged) > 0 {
            caller.unstage(&volume.id, &volume.name).await;
        }
        caller.delete(&volume.id).await;
    }
    let snapshots = clients.driver.list_snapshots(ListSnapshotsRequest::default()).await;
    for snapshot in snapshots.expect("snapshots are listed").into_inner().snapshots {
        caller.delete_snapshot(&snapshot.id).await;
    }
    assert_eq!(ground.doctor(), Vec::<String>::new());
    ground.stop();
    assert_eq!(ground.mounts(), Vec::<std::path::PathBuf>::new());
    assert_eq!(ground.loops(), Vec::new());
    assert_eq!(ground.images(), Vec::<std::path::PathBuf>::new());
    // And the registry names nothing that is not there.
    assert_eq!(ground.doctor(), Vec::<String>::new());
}

/// Runs all of them at once.
async fn all<F: Future<Output = ()>>(futures: Vec<F>) {
    let mut running: Vec<_> = futures.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|context| {
        running.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if running.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}
