//! Damage on purpose: each kind of object, deleted, cut, flipped, exchanged; then what a person does next.

use bytes::Bytes;
use strongroom_model::{ByteRange, Failure};

use super::store::FaultyStore;
use super::world::{CHUNK, Trial, backup, capture_changes, options, restore};
use crate::check::CheckReport;
use crate::pack::EntryRef;
use crate::session::Published;
use crate::{OpenError, Repository};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    Deleted,
    Cut,
    Emptied,
    Flipped,
    Exchanged,
}

const ALL: [Harm; 5] = [Harm::Deleted, Harm::Cut, Harm::Emptied, Harm::Flipped, Harm::Exchanged];

fn harm(store: &FaultyStore, name: &str, harm: Harm, other: &str) {
    let bytes = store.object(name).unwrap();
    match harm {
        Harm::Deleted => drop(store.remove(name)),
        Harm::Cut => store.replace(name, bytes.slice(..bytes.len() - 1)),
        Harm::Emptied => store.replace(name, Bytes::new()),
        Harm::Flipped => {
            let mut flipped = bytes.to_vec();
            let middle = flipped.len() / 2;
            flipped[middle] ^= 4;
            store.replace(name, flipped);
        }
        Harm::Exchanged => store.replace(name, store.object(other).unwrap()),
    }
}

async fn check(repository: &Repository) -> CheckReport {
    repository.check(true, &|_, _| ()).await.unwrap()
}

/// Two volumes that share nothing, a checkpoint, a second key.
async fn filled() -> (Trial, Repository, [Published; 2]) {
    let (trial, repository) = Trial::begin(40).await;
    let one = backup(&repository, "one", &vec![1, 2, 3], None).await.unwrap();
    let fold = repository.fold().await.unwrap();
    repository.journal().write_checkpoint(&fold).await.unwrap();
    let two = backup(&repository, "two", &vec![4, 5, 6], None).await.unwrap();
    let fold = repository.fold().await.unwrap();
    repository.journal().write_checkpoint(&fold).await.unwrap();
    let key = crate::keys::Unlock::KeyFile(crate::keys::KeyFile::generate(&*trial.world.entropy));
    repository.add_key(&key, "second", crate::keys::PassphraseCost::TEST).await.unwrap();
    (trial, repository, [one, two])
}

#[tokio::test]
async fn a_sound_repository_has_no_damage() {
    let (_, repository, _) = filled().await;
    let report = check(&repository).await;
    assert!(report.is_whole(), "{report:#?}");
    assert_eq!((report.points, report.packs), (2, 4));
    let stats = repository.stats().await.unwrap();
    assert_eq!((stats.points, stats.volumes, stats.volume_bytes), (2, 2, 6 * CHUNK as u64));
    assert_eq!((stats.data_packs, stats.map_packs), (2, 2));
    let audit = repository.audit(&|_, _| ()).await.unwrap();
    assert_eq!(audit.checkpoints, 2);
}

#[tokio::test]
async fn every_damaged_object_is_named_and_nothing_is_read_wrongly() {
    for prefix in ["packs/", "maps/", "keys/", "journal/0", "journal/checkpoints/", "index/"] {
        for how in ALL {
            // Those two are caches: what is deleted is only slower.
            if how == Harm::Deleted && ["journal/checkpoints/", "index/"].contains(&prefix) {
                continue;
            }
            let (trial, repository, points) = filled().await;
            let names = trial.store.names(prefix);
            harm(&trial.store, &names[0], how, &names[1]);
            let report = check(&repository).await;
            let named = report.damages.iter().any(|damage| damage.object == names[0]);
            assert!(named, "{how:?} {}: {report:#?}", names[0]);
            assert_eq!(report.damages.len(), 1, "{how:?} {}: {report:#?}", names[0]);
            for (point, content) in points.iter().zip([[1, 2, 3], [4, 5, 6]]) {
                let fresh = trial.try_open(options("fresh", None)).await;
                let Ok(fresh) = fresh else {
                    assert!(["keys/", "journal/0"].contains(&prefix), "{how:?} {}", names[0]);
                    continue;
                };
                match restore(&fresh, point.point).await {
                    Ok(read) => assert_eq!(read, content, "{how:?} {}", names[0]),
                    Err(_) => assert!(["packs/", "maps/"].contains(&prefix), "{how:?} {}", names[0]),
                }
            }
        }
    }
}

/// Only its age counts, so whatever happens to it, nothing is lost and nobody is fenced for it within a day.
#[tokio::test]
async fn a_damaged_sign_of_life_of_a_session_harms_nobody() {
    for how in ALL {
        let (trial, repository, points) = filled().await;
        let session = repository.open_session("at work").await.unwrap();
        let name = crate::layout::ObjectName::session(session.id());
        trial.store.replace(name.as_str(), Bytes::from_static(b"alive\n"));
        trial.store.replace("sessions/00000000000000000999", Bytes::from_static(b"other\n"));
        harm(&trial.store, name.as_str(), how, "sessions/00000000000000000999");
        assert!(check(&repository).await.is_whole(), "{how:?}");
        assert_eq!(repository.fence_stale().await.unwrap(), [0_u64; 0], "{how:?}");
        assert_eq!(restore(&trial.open("fresh").await, points[0].point).await.unwrap(), [1, 2, 3], "{how:?}");
        session.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_damaged_head_is_refused() {
    let (trial, ..) = filled().await;
    let whole = trial.store.object("strongroom.json").unwrap();
    for at in 0..whole.len() {
        let mut flipped = whole.to_vec();
        flipped[at] ^= 1;
        trial.store.replace("strongroom.json", flipped);
        let opened = trial.try_open(options("agent", None)).await;
        // White space alone may change: the values are the same then.
        match opened {
            Err(error) => {
                assert!(["repository.head", "repository.newer"].contains(&error.code()), "{error:?}")
            }
            Ok(_) => assert!(whole[at].is_ascii_whitespace(), "byte {at} of the head was flipped unnoticed"),
        }
    }
    trial.store.remove("strongroom.json");
    assert!(matches!(trial.try_open(options("agent", None)).await, Err(OpenError::NoRepository { .. })));
}

#[tokio::test]
async fn a_loss_names_point_volume_and_bytes() {
    let (trial, repository, points) = filled().await;
    let fold = repository.fold().await.unwrap();
    let map = repository.map(&fold.points[&points[0].point]).await.unwrap();
    let EntryRef { pack, .. } = map.get(0).await.unwrap().unwrap();
    let name = fold.packs[&pack].place.name().to_string();
    // The middle byte of three incompressible entries lies in the second.
    harm(&trial.store, &name, Harm::Flipped, "");
    let report = check(&repository).await;
    let loss = &report.damages[0].loses[0];
    assert_eq!((loss.point, loss.volume.as_str()), (points[0].point, "one"));
    let chunk = CHUNK as u64;
    assert_eq!(loss.ranges, [ByteRange::new(chunk, 2 * chunk).unwrap()]);
    // Without reading data a flipped bit within an entry is not seen; a missing object is.
    assert!(repository.check(false, &|_, _| ()).await.unwrap().is_whole());
    harm(&trial.store, &name, Harm::Deleted, "");
    let report = repository.check(false, &|_, _| ()).await.unwrap();
    assert_eq!(report.damages[0].loses[0].ranges, [ByteRange::new(0, 3 * chunk).unwrap()]);

    let (trial, repository, points) = filled().await;
    let fold = repository.fold().await.unwrap();
    let root = fold.points[&points[1].point].map.at;
    let name = fold.packs[&root.pack].place.name().to_string();
    harm(&trial.store, &name, Harm::Deleted, "");
    let report = trial.open("fresh").await.check(false, &|_, _| ()).await.unwrap();
    assert_eq!(report.damages[0].object, name);
    assert_eq!(report.damages[0].loses[0].point, points[1].point);
    assert_eq!(report.damages[0].loses[0].ranges, [ByteRange::new(0, 3 * chunk).unwrap()]);
}

/// Objects of packs, by name.
fn packs(trial: &Trial) -> Vec<String> {
    [trial.store.names("packs/"), trial.store.names("maps/")].concat()
}

#[tokio::test]
async fn a_point_without_a_root_keeps_every_pack_that_was_there_before_it_and_the_sweep_goes_on() {
    let (trial, repository, points) = filled().await;
    let later = backup(&repository, "later", &vec![7, 8, 9], None).await.unwrap();
    let fold = repository.fold().await.unwrap();
    let root = fold.points[&points[1].point].map.at;
    let name = fold.packs[&root.pack].place.name().to_string();
    harm(&trial.store, &name, Harm::Deleted, "");
    // The first may be what the broken one needs; the last is newer than it; and an orphan is nobody's.
    repository.forget(points[0].point, "test").await.unwrap();
    repository.forget(later.point, "test").await.unwrap();
    let orphan = "packs/00/00000000000000000000000000000000.0000000000000000";
    trial.store.replace(orphan, "an orphan");
    let before = packs(&trial).len();
    let fresh = trial.open("fresh").await;
    let options = crate::sweep::SweepOptions::default();
    let plan = fresh.plan_sweep(&options).await.unwrap();
    assert_eq!(plan.unreadable.keys().collect::<Vec<_>>(), [&points[1].point.to_string()]);
    let report = fresh.sweep(&options).await.unwrap();
    assert_eq!(report.unreadable.len(), 1);
    assert_eq!(report.deleted_objects, 3, "the two packs of the last point, and the orphan");
    assert_eq!(packs(&trial).len(), before - 3);
    // Once it is forgotten, the rest goes.
    fresh.forget(points[1].point, "it is lost").await.unwrap();
    let report = fresh.sweep(&options).await.unwrap();
    assert!(report.unreadable.is_empty());
    assert_eq!(packs(&trial), [] as [String; 0]);
}

#[tokio::test]
async fn a_point_whose_root_can_be_read_keeps_the_packs_that_it_names_and_no_others() {
    let (trial, repository, points) = filled().await;
    // Two leaves; the second version shares the first of them, which lies in the pack of the first version.
    let mut content = vec![0; 2048];
    (content[0], content[1500]) = (11, 12);
    let first = backup(&repository, "wide", &content, None).await.unwrap();
    let first = repository.fold().await.unwrap().points[&first.point].clone();
    let session = repository.open_session("wide").await.unwrap();
    let before = content.clone();
    content[1500] = 13;
    let draft = capture_changes(&session, "wide", &before, &content, &first).await.unwrap();
    session.publish(draft, true).await.unwrap();
    for point in [points[0].point, points[1].point, first.id] {
        repository.forget(point, "test").await.unwrap();
    }
    let fold = repository.fold().await.unwrap();
    let name = fold.packs[&first.map.at.pack].place.name().to_string();
    harm(&trial.store, &name, Harm::Deleted, "");
    let fresh = trial.open("fresh").await;
    let report = fresh.sweep(&crate::sweep::SweepOptions::default()).await.unwrap();
    assert_eq!(report.unreadable.len(), 1);
    assert_eq!(report.deleted_objects, 4, "data and maps of the other volumes");
    let left = packs(&trial);
    assert_eq!(left.len(), 3, "the data of both versions, and the root of the second: {left:?}");
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_no_damage_and_nothing_is_planned() {
    let (trial, _, points) = filled().await;
    let fresh = trial.open("fresh").await;
    fresh.forget(points[0].point, "test").await.unwrap();
    for _ in 0..200 {
        trial.store.plan("GET", "maps/", super::store::Fault::Failed);
    }
    let refused = fresh.sweep(&crate::sweep::SweepOptions::default()).await.unwrap_err();
    assert!(refused.to_string().contains("rp-"), "{refused}");
    assert_eq!(fresh.fold().await.unwrap().plan, None);
}

#[tokio::test]
async fn what_was_forgotten_today_stays_readable_until_tomorrow() {
    let (trial, repository, points) = filled().await;
    let fold = repository.fold().await.unwrap();
    let point = fold.points[&points[0].point].clone();
    repository.forget(points[0].point, "test").await.unwrap();
    let options = crate::sweep::SweepOptions::default();
    let day = crate::sweep::USUAL_GRACE;
    for opened in [repository.clone(), trial.open("fresh").await] {
        let report = opened.sweep_with_grace(&options, day).await.unwrap();
        assert_eq!(report.deleted_objects, 0, "a restore that began before may go on");
        let map = opened.map_at(point.map).await.unwrap();
        assert_eq!(map.runs(0..3).await.unwrap().len(), 1);
    }
    assert!(repository.audit(&|_, _| ()).await.unwrap().wrong_checkpoints.is_empty());
    trial.store.pass(jiff::SignedDuration::from_hours(25));
    let report = repository.sweep_with_grace(&options, day).await.unwrap();
    assert_eq!(report.deleted_objects, 2);
    repository.forget(points[1].point, "test").await.unwrap();
    assert_eq!(repository.fold().await.unwrap().forgotten.len(), 1, "yesterday's are not remembered");
    assert_eq!(repository.sweep(&options).await.unwrap().deleted_objects, 2, "without grace at once");
}

#[tokio::test]
async fn small_index_runs_are_joined_and_a_fresh_machine_fetches_few() {
    let (trial, repository) = Trial::begin(47).await;
    for n in 0..40 {
        backup(&repository, &format!("v{n}"), &vec![n * 3 + 1, n * 3 + 2, n * 3 + 3], None).await.unwrap();
    }
    assert_eq!(trial.store.names("index/").len(), 40);
    repository.sweep(&crate::sweep::SweepOptions::default()).await.unwrap();
    assert_eq!(trial.store.names("index/").len(), 1, "one for all");
    let fresh = trial.open("fresh").await;
    trial.store.take_log();
    let all: Vec<u8> = (1..=120).collect();
    let copy = backup(&fresh, "copy", &all, None).await.unwrap();
    let log = trial.store.take_log();
    assert!(!log.iter().any(|request| request.starts_with("PUT packs/")), "{log:#?}");
    assert_eq!(log.iter().filter(|request| request.starts_with("GET index/")).count(), 1);
    assert_eq!(restore(&fresh, copy.point).await.unwrap(), all);
}

#[tokio::test]
async fn a_lost_index_is_made_again_from_footers() {
    let (trial, repository, _) = filled().await;
    for name in trial.store.names("index/") {
        trial.store.remove(&name);
    }
    let report = trial.open("fresh").await.rebuild_index(&|_, _| ()).await.unwrap();
    assert_eq!((report.packs, report.entries, report.unreadable), (2, 6, 0));
    drop(repository);
    let other = trial.open("other").await;
    trial.store.take_log();
    let again = backup(&other, "copy", &vec![6, 5, 4, 3, 2, 1], None).await.unwrap();
    let log = trial.store.take_log();
    assert!(!log.iter().any(|request| request.starts_with("PUT packs/")), "{log:#?}");
    assert_eq!(restore(&other, again.point).await.unwrap(), [6, 5, 4, 3, 2, 1]);
}

#[tokio::test]
async fn a_damaged_record_stops_everything_and_is_named() {
    let (trial, repository, points) = filled().await;
    let next = repository.high_water().0 + 1;
    let name = crate::layout::ObjectName::journal(next);
    trial.store.replace(name.as_str(), Bytes::from_static(b"not a record"));
    let error = repository.forget(points[0].point, "test").await.unwrap_err();
    assert_eq!(error.code(), "journal.unreadable");
    assert!(error.to_string().contains(&next.to_string()), "{error}");
}
