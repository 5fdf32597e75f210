use strongroom_model::{RecoveryPointId, SnapshotId, VolumeId};
use strongroom_object_store::Verb;
use strongroom_object_store::faulty::{Fault, Rule};
use strongroom_proto::control::VolumeState;
use strongroom_repository::Source;

use super::*;
use crate::plan::Base;
use crate::request::{Request, TargetRequest};
use crate::testing::fake_driver::FakeDriver;
use crate::testing::{Bench, CHUNK, noise, to_file};
use crate::undo::UndoPlan;

struct World {
    bench: Bench,
    driver: FakeDriver,
    endpoint: String,
    volume: VolumeId,
}

impl World {
    /// A driver with a volume `db` of this content.
    async fn new(content: &[u8]) -> Self {
        let bench = Bench::new().await;
        let (driver, endpoint) = FakeDriver::start(&bench.path("driver"), Arc::clone(&bench.world.entropy));
        let volume = driver.volume("db", content);
        Self { bench, driver, endpoint, volume }
    }

    /// Backs the volume up as the agent does: from a snapshot that it keeps.
    async fn back_up(&self) -> (RecoveryPointId, SnapshotId) {
        let snapshot = self.driver.snapshot(self.volume, "agent");
        let source = Source::Driver { node: "n".into(), volume: self.volume, snapshot };
        (self.bench.publish_from("db", &self.driver.content(self.volume), source).await, snapshot)
    }

    async fn restore(&self) -> Restore {
        let (restore, _) = self.bench.restore().await;
        Restore { endpoint: Some(self.endpoint.clone()), ..restore }
    }

    async fn run(&self, request: &Request) -> Result<(Prepared, Report), Failed> {
        let restore = self.restore().await;
        let mut prepared = restore.plan(request).await?;
        let report = restore.execute(&mut prepared).await?;
        Ok((prepared, report))
    }

    /// The same, with the line cut at request `cut` for data.
    async fn cut_off(&self, request: &Request, cut: u64) -> Prepared {
        let restore = self.restore().await;
        let mut prepared = restore.plan(request).await.unwrap();
        self.bench.faulty.plan(Rule::nth(cut, Verb::GetRange, Fault::Dark).on("packs/"));
        restore.execute(&mut prepared).await.unwrap_err();
        self.bench.faulty.heal();
        prepared
    }

    async fn forget_snapshots(&self, but: Option<SnapshotId>) {
        let driver = Driver::connect(Some(&self.endpoint)).await.unwrap();
        for snapshot in self.driver.snapshots() {
            if Some(snapshot.id.clone()) != but.map(|id| id.to_string()) {
                driver.delete_snapshot(&snapshot.id).await.unwrap();
            }
        }
    }
}

fn in_place(point: RecoveryPointId) -> Request {
    let target = TargetRequest::InPlace { into: None, force_identity: false, remount: true };
    Request { volume: Some("db".parse().unwrap()), target, ..to_file(point, "unused".as_ref()) }
}

fn to_volume(point: RecoveryPointId, name: &str) -> Request {
    let target = TargetRequest::Volume {
        name: name.parse().unwrap(),
        bytes: None,
        fs: None,
        only: None,
        labels: None,
    };
    Request { target, ..to_file(point, "unused".as_ref()) }
}

/// First content and one that differs in three chunks, one of them now zero and one no longer zero.
fn two() -> (Vec<u8>, Vec<u8>) {
    let mut first = noise(1, 700 * CHUNK);
    first[50 * CHUNK..60 * CHUNK].fill(0);
    let mut second = first.clone();
    second[3 * CHUNK..4 * CHUNK].copy_from_slice(&noise(2, CHUNK));
    second[55 * CHUNK..56 * CHUNK].copy_from_slice(&noise(3, CHUNK));
    second[600 * CHUNK..601 * CHUNK].fill(0);
    (first, second)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_volume_is_ready_only_when_it_is_complete_and_an_interrupted_one_goes_on() {
    let (first, _) = two();
    let world = World::new(&first).await;
    let (point, _) = world.back_up().await;
    let request = to_volume(point, "db2");
    let before = world.cut_off(&request, 3).await;
    assert_eq!(world.driver.named("db2").unwrap().state(), VolumeState::Hydrating);
    let (after, report) = world.run(&request).await.unwrap();
    assert_eq!(after.plan.run, before.plan.run);
    assert!(report.hydrated.requests <= before.plan.totals.requests);
    assert_eq!(after.plan.totals.done_bytes + after.plan.totals.write_bytes, before.plan.totals.write_bytes);
    let made = world.driver.named("db2").unwrap();
    assert_eq!(made.state(), VolumeState::Ready);
    assert!(world.driver.content(made.id.parse().unwrap()) == first);
    let refused = world.run(&request).await.unwrap_err();
    assert_eq!(refused.failure().code(), "restore.volume-exists");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_points_own_snapshot_needs_no_fetching() {
    let (first, second) = two();
    let world = World::new(&first).await;
    let (point, _) = world.back_up().await;
    world.driver.write(world.volume, &second);
    let (prepared, report) = world.run(&in_place(point)).await.unwrap();
    assert!(matches!(prepared.plan.base, Base::OwnSnapshot { .. }));
    assert_eq!((report.hydrated.requests, report.hydrated.written_bytes), (0, 0));
    assert!(world.driver.content(world.volume) == first);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_another_points_snapshot_only_the_difference_is_fetched_and_undo_brings_the_old_content_back() {
    let (first, second) = two();
    let world = World::new(&first).await;
    let (one, _) = world.back_up().await;
    world.driver.write(world.volume, &second);
    let (_, kept) = world.back_up().await;
    world.forget_snapshots(Some(kept)).await;
    let mut third = second.clone();
    third[9 * CHUNK..10 * CHUNK].copy_from_slice(&noise(9, CHUNK));
    world.driver.write(world.volume, &third);

    let (prepared, report) = world.run(&in_place(one)).await.unwrap();
    assert_eq!(report.hydrated.written_bytes, 2 * CHUNK as u64);
    assert_eq!(report.hydrated.zeroed_bytes, CHUNK as u64);
    assert_eq!(prepared.plan.totals.present_bytes, (first.len() - 3 * CHUNK) as u64);
    assert!(world.driver.content(world.volume) == first);
    assert_eq!(world.driver.names(), ["db"], "nothing staged is left");

    let driver = Driver::connect(Some(&world.endpoint)).await.unwrap();
    let undo = async |run: RunId| {
        let plan = UndoPlan::make(&driver, &run.to_string(), true, &world.bench.world).await.unwrap();
        plan.execute(&driver).await.unwrap().plan.run
    };
    let undone = undo(report.run).await;
    assert!(world.driver.content(world.volume) == third);
    undo(undone).await;
    assert!(world.driver.content(world.volume) == first, "an undo can be undone");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_snapshot_the_volume_itself_is_compared() {
    let (first, second) = two();
    let world = World::new(&first).await;
    let (point, _) = world.back_up().await;
    world.forget_snapshots(None).await;
    world.driver.write(world.volume, &second);
    let (_, report) = world.run(&Request { verify: Some(true), ..in_place(point) }).await.unwrap();
    assert_eq!(report.hydrated.written_bytes, 2 * CHUNK as u64);
    assert!(world.driver.content(world.volume) == first);
    let left: Vec<String> = world.driver.snapshots().into_iter().map(|snapshot| snapshot.label).collect();
    assert_eq!(left, [format!("before-{}", report.run)], "the base of the clone is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_in_place_cut_off_anywhere_goes_on_and_the_volume_is_untouched_until_the_exchange() {
    let (first, _) = two();
    let other = noise(77, first.len());
    for keep_base in [true, false] {
        let world = World::new(&first).await;
        let (one, _) = world.back_up().await;
        world.driver.write(world.volume, &other);
        let (_, kept) = world.back_up().await;
        world.forget_snapshots(keep_base.then_some(kept)).await;
        let request = in_place(one);
        let before = world.cut_off(&request, 2).await;
        assert!(world.driver.content(world.volume) == other);
        // The agent goes on meanwhile: the base is gone, another is there.
        world.forget_snapshots(None).await;
        world.back_up().await;
        let (after, report) = world.run(&request).await.unwrap();
        assert_eq!(after.plan.run, before.plan.run);
        assert!(report.hydrated.written_bytes < before.plan.totals.write_bytes, "{report:?}");
        assert!(world.driver.content(world.volume) == first);
        assert_eq!(world.driver.names(), ["db"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_the_exchange_is_asked_for_again_and_nothing_is_exchanged_twice() {
    let (first, second) = two();
    let world = World::new(&first).await;
    let (point, _) = world.back_up().await;
    world.driver.write(world.volume, &second);
    world.driver.lose_next_exchange();
    world.run(&in_place(point)).await.unwrap_err();
    let mut later = world.driver.content(world.volume);
    assert!(later == first);
    later[0] ^= 1;
    world.driver.write(world.volume, &later);
    let snapshots = world.driver.snapshots().len();
    let (_, report) = world.run(&in_place(point)).await.unwrap();
    assert!(world.driver.content(world.volume) == later, "what was written since is not lost");
    assert_eq!(world.driver.snapshots().len(), snapshots);
    assert!(report.swapped.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_volumes_content_goes_into_another_only_when_told_so() {
    let (first, second) = two();
    let world = World::new(&first).await;
    let (point, _) = world.back_up().await;
    let other = world.driver.volume("other", &second);
    let into = |force_identity| Request {
        target: TargetRequest::InPlace {
            into: Some("other".parse().unwrap()),
            force_identity,
            remount: true,
        },
        ..in_place(point)
    };
    let refused = world.run(&into(false)).await.unwrap_err();
    assert_eq!(refused.failure().code(), "restore.identity");
    assert!(world.driver.content(other) == second);
    world.run(&into(true)).await.unwrap();
    assert!(world.driver.content(other) == first);
    assert!(world.driver.content(world.volume) == first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_too_small_is_refused_and_a_larger_one_ends_in_zeros() {
    let (first, _) = two();
    let world = World::new(&first).await;
    let (point, _) = world.back_up().await;
    world.driver.volume("small", &first[CHUNK..]);
    let large = world.driver.volume("large", &noise(5, first.len() + 3 * CHUNK + 4096));
    let into = |name: &str| Request {
        target: TargetRequest::InPlace {
            into: Some(name.parse().unwrap()),
            force_identity: true,
            remount: true,
        },
        ..in_place(point)
    };
    let refused = world.run(&into("small")).await.unwrap_err();
    assert_eq!(refused.failure().code(), "restore.target-too-small");
    world.run(&into("large")).await.unwrap();
    let content = world.driver.content(large);
    assert!(content[..first.len()] == first);
    assert!(content[first.len()..].iter().all(|byte| *byte == 0));
}
