//! Checks that read a part and note what they saw; what follows from damage; scrub and repair.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use jiff::SignedDuration;

use super::store::{Faults, FaultyStore};
use super::world::{CHUNK, Trial, backup, restore};
use crate::Repository;
use crate::check::{CheckOptions, CheckReport, Proof, ReadData};
use crate::layout::ObjectName;
use crate::scrub::{POSITIONS, ScrubRange, scrub};
use crate::session::Published;
use crate::store::ObjectStore;

fn reading(read: ReadData) -> CheckOptions {
    CheckOptions { read, record: true, batch: 1, ..CheckOptions::default() }
}

async fn check(repository: &Repository, options: &CheckOptions) -> CheckReport {
    repository.check_with(options, &|_, _| ()).await.unwrap()
}

/// Three volumes that share nothing: six packs.
async fn filled(seed: u64) -> (Trial, Repository, Vec<Published>) {
    let (trial, repository) = Trial::begin(seed).await;
    let mut points = Vec::new();
    for (volume, fill) in [("one", 1), ("two", 11), ("three", 21)] {
        points.push(backup(&repository, volume, &vec![fill, fill + 1, fill + 2], None).await.unwrap());
    }
    (trial, repository, points)
}

/// Flips a bit of the second of three entries of a point's data pack; answers the object's name.
async fn flip(store: &FaultyStore, repository: &Repository, point: &Published) -> String {
    let fold = repository.fold().await.unwrap();
    let map = repository.map(&fold.points[&point.point]).await.unwrap();
    let at = map.get(0).await.unwrap().unwrap();
    let name = fold.packs[&at.pack].place.name().to_string();
    let mut bytes = store.object(&name).unwrap().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    store.replace(&name, bytes);
    name
}

#[tokio::test]
async fn a_part_begins_with_what_was_verified_longest_ago_and_all_comes_round() {
    let (trial, repository, _) = filled(70).await;
    assert_eq!(Proof::of(&repository.known_fold()).never_packs, 6);
    let mut read = 0;
    for (part, never) in [
        (ReadData::Packs(2), 4),
        (ReadData::Bytes(1), 3),
        (ReadData::Share(1e-9), 2),
        (ReadData::Packs(0), 2),
        (ReadData::All, 0),
    ] {
        trial.store.pass(SignedDuration::from_hours(1));
        let report = check(&repository, &reading(part)).await;
        assert!(report.is_whole(), "{report:#?}");
        assert_eq!((report.packs, report.proof.never_packs), (6, never), "{part:?}");
        read += report.read_packs;
    }
    assert_eq!(read, 2 + 1 + 1 + 6);
    let oldest = repository.known_fold();
    let oldest = Proof::of(&oldest).oldest_at.unwrap();
    // What is read now is read in the order in which it was read before.
    let mut seen = BTreeSet::new();
    for _ in 0..6 {
        trial.store.pass(SignedDuration::from_hours(1));
        let before = repository.known_fold();
        check(&repository, &reading(ReadData::Packs(1))).await;
        let after = repository.known_fold();
        seen.extend(
            after.packs.keys().filter(|pack| before.verified.at(pack) != after.verified.at(pack)).copied(),
        );
    }
    assert_eq!(seen.len(), 6);
    assert!(Proof::of(&repository.known_fold()).oldest_at.unwrap() > oldest);
    // Another machine knows it from the journal.
    let other = trial.open("other").await;
    assert_eq!(Proof::of(&other.known_fold()), Proof::of(&repository.known_fold()));
}

#[tokio::test]
async fn a_check_that_is_killed_keeps_what_it_had_noted() {
    let (trial, repository, _) = filled(71).await;
    let seen = Arc::new(AtomicU64::new(0));
    let notify = tokio::sync::Notify::new();
    let progress = |_, _| {
        if seen.fetch_add(1, Ordering::Relaxed) == 3 {
            notify.notify_one();
        }
    };
    trial.store.set_faults(Faults { pauses: 500, ..Faults::default() });
    let options = reading(ReadData::All);
    tokio::select! {
        biased;
        () = notify.notified() => {}
        _ = repository.check_with(&options, &progress) => {}
    }
    drop(repository);
    trial.store.set_faults(Faults::default());
    let after = trial.open("after").await;
    let never = Proof::of(&after.known_fold()).never_packs;
    assert!(never <= 4, "{never}");
    let report = check(&after, &reading(ReadData::Packs(never))).await;
    assert_eq!(report.proof.never_packs, 0);
}

#[tokio::test]
async fn after_a_check_found_damage_a_backup_stores_anew_what_is_damaged() {
    let (trial, repository, points) = filled(72).await;
    let name = flip(&trial.store, &repository, &points[0]).await;
    let content = vec![1, 2, 3];
    let point = |repository: &Repository, of: &Published| repository.known_fold().points[&of.point].clone();

    let report = check(&repository, &reading(ReadData::All)).await;
    assert_eq!(report.damages.len(), 1, "{report:#?}");
    assert_eq!((report.damages[0].object.as_str(), report.proof.damaged_packs), (name.as_str(), 1));
    let map = repository.map(&point(&repository, &points[0])).await.unwrap();
    assert!(repository.refers_to_damage(&map).await.unwrap());
    let sound = repository.map(&point(&repository, &points[1])).await.unwrap();
    assert!(!repository.refers_to_damage(&sound).await.unwrap());

    trial.store.take_log();
    let again = backup(&repository, "one", &content, None).await.unwrap();
    let log = trial.store.take_log();
    assert_eq!(log.iter().filter(|request| request.starts_with("PUT packs/")).count(), 1, "{log:#?}");
    assert_eq!(restore(&repository, again.point).await.unwrap(), content);
    let map = repository.map(&point(&repository, &again)).await.unwrap();
    assert!(!repository.refers_to_damage(&map).await.unwrap());

    // What the old point lost is known without reading data again, and the new one has lost nothing.
    let known = check(&trial.open("other").await, &CheckOptions::default()).await;
    let loses: Vec<_> = known.damages.iter().flat_map(|damage| &damage.loses).collect();
    assert_eq!(loses.len(), 1, "{known:#?}");
    assert_eq!(loses[0].point, points[0].point);
    assert_eq!((loses[0].ranges[0].start(), loses[0].ranges[0].end()), (CHUNK as u64, 2 * CHUNK as u64));

    // Nobody needs it any more: the sweep rewrites or removes it, and all is well again.
    repository.forget(points[0].point, "test").await.unwrap();
    let swept = repository.sweep(&crate::sweep::SweepOptions::default()).await.unwrap();
    assert!(swept.not_rewritten.is_empty(), "{swept:#?}");
    let report = check(&repository, &reading(ReadData::All)).await;
    assert!(report.is_whole() && report.proof.damaged_packs == 0, "{report:#?}");
    assert_eq!(restore(&repository, again.point).await.unwrap(), content);
}

#[tokio::test]
async fn what_is_right_again_is_noted_as_right() {
    let (trial, repository, points) = filled(73).await;
    let sound = trial.store.image();
    flip(&trial.store, &repository, &points[0]).await;
    assert_eq!(check(&repository, &reading(ReadData::All)).await.proof.damaged_packs, 1);
    // A person put the copy of another bucket back.
    for (name, (bytes, _)) in sound.into_iter().filter(|(name, _)| name.starts_with("packs/")) {
        trial.store.replace(&name, bytes);
    }
    let report = check(&repository, &reading(ReadData::All)).await;
    assert!(report.is_whole() && report.proof.damaged_packs == 0, "{report:#?}");
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_no_damage_to_be_remembered() {
    let (trial, repository, _) = filled(74).await;
    trial.store.set_faults(Faults { failed: 1000, ..Faults::default() });
    let fold = repository.known_fold();
    trial.store.set_faults(Faults::default());
    for _ in 0..3 {
        trial.store.plan("GET", "packs/", super::store::Fault::Failed);
    }
    let report = check(&repository, &reading(ReadData::All)).await;
    assert!(!report.is_whole());
    assert_eq!(report.proof.damaged_packs, 0, "{report:#?}");
    assert!(repository.known_fold().number > fold.number, "what was read is noted");
    assert!(check(&repository, &reading(ReadData::All)).await.is_whole());
}

#[tokio::test]
async fn where_footers_are_not_read_a_missing_object_is_found_and_one_that_list_hides_is_not_called_missing()
{
    let (trial, repository, points) = filled(75).await;
    let quick = CheckOptions { structure: false, ..CheckOptions::default() };
    trial.store.set_faults(Faults { hidden: 500, ..Faults::default() });
    for _ in 0..5 {
        let report = check(&repository, &quick).await;
        assert!(report.is_whole(), "{report:#?}");
    }
    trial.store.set_faults(Faults::default());
    let gone = trial.store.names("packs/")[0].clone();
    trial.store.remove(&gone);
    trial
        .store
        .replace(&format!("packs/00/{}.{}", "0".repeat(32), "1".repeat(16)), Bytes::from_static(b"nobody's"));
    trial.store.take_log();
    let report = check(&repository, &quick).await;
    assert_eq!(report.damages.len(), 1, "{report:#?}");
    assert_eq!((report.damages[0].object.as_str(), report.damages[0].loses.len()), (gone.as_str(), 1));
    assert!(points.iter().any(|point| point.point == report.damages[0].loses[0].point));
    assert_eq!((report.orphans.objects, report.orphans.total_bytes), (1, 8));
}

#[tokio::test]
async fn maps_that_points_share_are_read_once() {
    let (trial, repository) = Trial::begin(76).await;
    let content = vec![1; 40];
    let mut parent = None;
    for _ in 0..20 {
        let published = backup(&repository, "one", &content, parent.as_ref()).await.unwrap();
        parent = Some(repository.known_fold().points[&published.point].clone());
    }
    let fresh = trial.open("fresh").await;
    trial.store.take_log();
    let report = check(&fresh, &CheckOptions::default()).await;
    assert!(report.is_whole() && report.points == 20);
    let packs = fresh.known_fold().packs.len();
    let log = trial.store.take_log();
    let reads =
        log.iter().filter(|request| request.contains(" packs/") || request.contains(" maps/")).count();
    // A footer for the check of each pack, and one to read each map; small packs come whole with it.
    assert!(reads <= 2 * packs + 2, "{reads} reads for {packs} packs: {log:#?}");
}

#[tokio::test]
async fn holds_of_killed_restores_are_named_with_their_age() {
    let (trial, repository, points) = filled(77).await;
    repository.hold(points[1].point, "audit").await.unwrap();
    repository.hold(points[1].point, "restore run-1").await.unwrap();
    let held_at = trial.store.now();
    trial.store.pass(SignedDuration::from_hours(30));
    repository.hold(points[0].point, "by hand").await.unwrap();
    let report = check(&repository, &CheckOptions::default()).await;
    assert!(report.is_whole());
    let [hold] = &report.holds[..] else { panic!("{:#?}", report.holds) };
    assert_eq!((hold.point, hold.hold.as_str()), (points[1].point, "restore run-1"));
    assert!(hold.held_at.is_some_and(|at| held_at.duration_since(at).as_secs().abs() < 60), "{hold:?}");
    assert!(hold.release.contains(&points[1].point.to_string()) && hold.release.contains("restore run-1"));
}

#[tokio::test]
async fn a_scrub_without_a_key_finds_every_changed_byte_and_parts_come_round() {
    let (trial, repository, points) = filled(78).await;
    let store: Arc<dyn ObjectStore> = Arc::new(trial.store.clone());
    let whole = scrub(&store, ScrubRange::ALL, &|_, _| ()).await.unwrap();
    assert_eq!((whole.packs, whole.damages.len()), (6, 0));
    let name = flip(&trial.store, &repository, &points[2]).await;
    let mut range = ScrubRange { from: 60_000, count: POSITIONS / 3 + 1 };
    let (mut packs, mut damaged) = (BTreeSet::new(), Vec::new());
    let mut read = 0;
    for _ in 0..3 {
        let part = scrub(&store, range, &|_, _| ()).await.unwrap();
        read += part.packs;
        packs.extend(part.damages.iter().map(|damage| damage.object.clone()));
        damaged.extend(part.damages);
        range = ScrubRange { from: range.next(), ..range };
    }
    assert!((6..=7).contains(&read), "{read}");
    assert_eq!(packs, BTreeSet::from([name.clone()]));
    // The last byte of all, which only the hash itself is.
    let mut bytes = trial.store.image()[&name].0.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    trial.store.replace(&name, bytes);
    assert_eq!(scrub(&store, ScrubRange::ALL, &|_, _| ()).await.unwrap().damages.len(), 1);
}

#[tokio::test]
async fn wrong_checkpoints_and_index_runs_are_made_again_and_what_is_lost_is_listed() {
    let (trial, repository, points) = filled(79).await;
    let fold = repository.fold().await.unwrap();
    repository.journal().write_checkpoint(&fold).await.unwrap();
    assert!(repository.plan_repair(&[], &|_, _| ()).await.unwrap().does_nothing());
    let checkpoint = ObjectName::checkpoint(fold.number);
    trial.store.replace(checkpoint.as_str(), Bytes::from_static(b"not a checkpoint"));
    let run = trial.store.names("index/")[0].clone();
    trial.store.replace(&run, Bytes::from_static(b"not a run"));
    let lost = flip(&trial.store, &repository, &points[1]).await;
    check(&repository, &reading(ReadData::Share(1.0))).await;

    let fresh = trial.open("fresh").await;
    let before = trial.store.image();
    let plan = fresh.plan_repair(&[], &|_, _| ()).await.unwrap();
    assert_eq!(trial.store.image(), before, "a plan changes nothing");
    assert_eq!((plan.wrong_checkpoints.as_slice(), plan.write_checkpoint), (&[fold.number][..], true));
    assert_eq!(plan.index.keys().collect::<Vec<_>>(), [&run]);
    assert_eq!(plan.damages.iter().map(|damage| damage.object.clone()).collect::<Vec<_>>(), [lost]);
    assert_eq!((plan.losses.len(), plan.losses[0].point), (1, points[1].point));
    assert_eq!((plan.losses[0].lost_bytes, plan.losses[0].volume.as_str()), (CHUNK as u64, "two"));

    let done = fresh.repair(&plan, &[], &|_, _| ()).await.unwrap();
    assert_eq!(done.removed_checkpoints, 1);
    assert_eq!(done.index.map(|index| index.packs), Some(3));
    let again = trial.open("again").await.plan_repair(&[], &|_, _| ()).await.unwrap();
    assert!(again.does_nothing() && again.leaves_damage(), "{again:#?}");
}
