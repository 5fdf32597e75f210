//! Backups of images from end to end; what a driver adds is tested with the real driver, in the system tests.
#![expect(clippy::cast_possible_truncation, reason = "the volumes of these tests fit into memory")]

use std::fs::{File, FileTimes};
use std::os::unix::fs::FileExt as _;
use std::time::SystemTime;

use strongroom_console::Progress;
use strongroom_model::Failure as _;
use strongroom_object_store::faulty::{Failing, Fault, Rule};
use strongroom_object_store::record::Verb;
use strongroom_repository::store::ObjectStore as _;

use super::*;
use crate::testing::{Bench, CHUNK, noise};

fn agent(bench: &Bench) -> Agent {
    Agent {
        repository: bench.repository.clone(),
        counts: Arc::clone(&bench.counts),
        world: bench.world.clone(),
        name: "bench".into(),
        state_dir: Some(bench.dir.path().into()),
        budget: Budget::new(0),
        stall_after: Duration::from_secs(60),
        databases: Databases::default(),
    }
}

fn image(bench: &Bench, content: &[u8]) -> (PathBuf, Target) {
    let path = bench.dir.path().join("image");
    std::fs::write(&path, content).unwrap();
    (path.clone(), Target::Image("v".parse().unwrap(), path))
}

async fn run(bench: &Bench, target: &Target) -> Result<BackupReport, BackupError> {
    back_up(&agent(bench), target, &Progress::silent(), &CancellationToken::new()).await
}

async fn point(bench: &Bench, report: &BackupReport) -> Point {
    bench.repository.fold().await.unwrap().points[&report.point].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_backed_up_and_the_next_time_only_what_differs_is_stored() {
    let bench = Bench::new().await;
    let mut content = noise(1, 30 * CHUNK + 4096);
    let (path, target) = image(&bench, &content);
    let first = run(&bench, &target).await.unwrap();
    assert_eq!((first.mode, first.tally.new_bytes as usize), (Mode::Full, content.len()));
    assert!(first.sent_bytes as usize > content.len() && first.requests > 0 && first.parent.is_none());

    content[7 * CHUNK..7 * CHUNK + 6].copy_from_slice(b"change");
    File::options().write(true).open(&path).unwrap().write_all_at(b"change", 7 * CHUNK as u64).unwrap();
    let second = run(&bench, &target).await.unwrap();
    assert_eq!((second.mode, second.parent), (Mode::Compared, Some(first.point)));
    assert_eq!((second.tally.changed_bytes as usize, second.tally.new_bytes as usize), (CHUNK, CHUNK));
    assert!(bench.restore_point(&point(&bench, &second).await).await == content);

    let third = run(&bench, &target).await.unwrap();
    assert_eq!((third.tally.changed_bytes, third.tally.new_bytes, third.sent_bytes), (0, 0, 0));
    assert_eq!(point(&bench, &third).await.map, point(&bench, &second).await.map);
    let fold = bench.repository.fold().await.unwrap();
    assert!(fold.sessions.is_empty(), "the record that publishes ends the session");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_run_stored_is_not_sent_again() {
    let mut bench = Bench::new().await;
    // Four packs; the line goes dead in the third, as if the process had died.
    let content = noise(2, 200 << 20);
    let (_, target) = image(&bench, &content);
    bench.store.plan(Rule::nth(23, Verb::Part, Fault::Dark));
    let mut impatient = agent(&bench);
    impatient.stall_after = Duration::from_secs(1);
    let killed = back_up(&impatient, &target, &Progress::silent(), &CancellationToken::new()).await;
    assert!(killed.is_err());
    drop(impatient);
    bench.store.heal();

    bench.reopen().await;
    let page = bench.store.list("packs/", None).await.unwrap();
    let stored: u64 = page.objects.iter().map(|object| object.bytes).sum();
    assert!(stored > 60 << 20, "{stored}");
    let report = run(&bench, &target).await.unwrap();
    // The killed run may not have heard that its last pack was stored.
    let (most, pack) = ((content.len() + content.len() / 100) as u64, 65 << 20);
    assert!(report.sent_bytes + stored <= most + pack, "{} {stored}", report.sent_bytes);
    assert_eq!(report.tally.changed_bytes as usize, content.len());
    assert!(bench.restore_point(&point(&bench, &report).await).await == content);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_falls_silent_fails_the_backup_loudly() {
    let bench = Bench::new().await;
    let (_, target) = image(&bench, &noise(3, 100 * CHUNK));
    bench.store.plan(Rule::every(Verb::Put, Fault::Stall).on("packs/"));
    let mut impatient = agent(&bench);
    impatient.stall_after = Duration::from_millis(700);
    let error =
        back_up(&impatient, &target, &Progress::silent(), &CancellationToken::new()).await.unwrap_err();
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        ("backup.stalled", "the backup stalled: nothing moved for 700 ms")
    );
    assert!(bench.repository.fold().await.unwrap().points.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_written_to_meanwhile_is_refused() {
    let bench = Bench::new().await;
    let (path, target) = image(&bench, &noise(4, 10 * CHUNK));
    bench.store.plan(Rule::every(Verb::Put, Fault::Delay(Duration::from_millis(500))).on("packs/"));
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let file = File::options().write(true).open(path).unwrap();
        file.write_all_at(b"x", 5).unwrap();
        file.set_times(FileTimes::new().set_modified(SystemTime::now() + Duration::from_secs(5))).unwrap();
    });
    let error = run(&bench, &target).await.unwrap_err();
    assert_eq!(error.code(), "backup.image-written");
    assert!(bench.repository.fold().await.unwrap().points.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_not_there_leaves_no_session_behind() {
    let bench = Bench::new().await;
    let target = Target::Image("v".parse().unwrap(), bench.dir.path().join("none"));
    let error = run(&bench, &target).await.unwrap_err();
    assert!(matches!(error, BackupError::Open { .. }), "{error:?}");
    assert!(bench.repository.fold().await.unwrap().sessions.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_was_fenced_goes_on_in_a_new_session() {
    let bench = Bench::new().await;
    let content = noise(5, 50 * CHUNK);
    let (_, target) = image(&bench, &content);
    bench.store.plan(Rule::every(Verb::Put, Fault::Delay(Duration::from_millis(800))).on("packs/"));
    let repository = bench.repository.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let session = *repository.fold().await.unwrap().sessions.keys().next().unwrap();
        repository.fence(session, "test").await.unwrap();
    });
    let report = run(&bench, &target).await.unwrap();
    assert!(bench.restore_point(&point(&bench, &report).await).await == content);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_map_of_the_point_before_does_not_stop_backups_and_is_written_anew() {
    let mut bench = Bench::new().await;
    let content = noise(6, 20 * CHUNK);
    let (_, target) = image(&bench, &content);
    let first = run(&bench, &target).await.unwrap();
    // What was stored of the map until now is gone from now on.
    let maps = bench.store.list("maps/", None).await.unwrap().objects;
    for verb in [Verb::Get, Verb::GetRange] {
        for map in &maps {
            bench.store.plan(Rule::every(verb, Fault::FailBefore(Failing::NotFound)).on(&map.name));
        }
    }
    bench.reopen().await;
    let report = run(&bench, &target).await.unwrap();
    assert_eq!((report.mode, report.parent, report.tally.new_bytes), (Mode::Full, None, 0), "{first:?}");
    assert!(bench.restore_point(&point(&bench, &report).await).await == content);
}
