//! Groups: several volumes at one moment, all of them or none.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use strongroom_model::{Failure as _, VolumeId};

use crate::core_error::CoreError;
use crate::driver::Driver;
use crate::nouns::{Access, ContentSource, Group, Outcome, Snapshot, Volume, VolumeKind};
use crate::requests::{CreateGroup, CreateVolume, SizeRange, StageRequest};
use crate::testing::{Bench, snapshot_request};

fn wanted(name: &str, volumes: &[&Volume]) -> CreateGroup {
    CreateGroup {
        name: name.to_owned(),
        volumes: volumes.iter().map(|volume| volume.id).collect(),
        owner: "user".to_owned(),
        labels: [].into(),
    }
}

pub(super) fn grouped(driver: &Driver, name: &str, volumes: &[&Volume]) -> Group {
    driver.create_group(&wanted(name, volumes)).unwrap().agreed().unwrap()
}

fn member<'a>(group: &'a Group, volume: &Volume) -> &'a Snapshot {
    group.snapshots.iter().find(|snapshot| snapshot.volume == volume.id).unwrap()
}

/// Writes 1, 2, 3, … alternately to two files, each made durable before the next, until it is told to stop.
fn write_alternately(files: &[File; 2], pause: Duration, stop: &AtomicBool) {
    let mut block = Aligned([0; 4096]);
    for number in 1_u64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        block.0[..8].copy_from_slice(&number.to_le_bytes());
        let file = &files[usize::from(number % 2 == 0)];
        file.write_all_at(&block.0, 0).unwrap();
        file.sync_all().unwrap();
        thread::sleep(pause);
    }
}

#[repr(align(4096))]
struct Aligned([u8; 4096]);

fn number_in(path: &Path) -> u64 {
    let mut bytes = [0; 8];
    File::open(path).unwrap().read_exact_at(&mut bytes, 0).unwrap();
    u64::from_le_bytes(bytes)
}

/// A clone of a snapshot, mounted.
fn number_in_clone(bench: &Bench, snapshot: &Snapshot) -> u64 {
    let request = CreateVolume {
        name: format!("clone of {}", snapshot.id).parse().unwrap(),
        size: SizeRange::of(0),
        kind: None,
        source: Some(ContentSource::Snapshot(snapshot.id)),
        labels: [].into(),
        limits: crate::IoLimits::NONE,
    };
    let clone = bench.driver().create(&request).unwrap().agreed().unwrap();
    let folder = bench.mount(&clone, &format!("clone-{}", snapshot.id));
    let number = number_in(&folder.join("number"));
    bench.driver().unmount(clone.id, None).unwrap();
    bench.driver().delete(clone.id).unwrap();
    number
}

fn nothing_left(bench: &Bench) {
    let left = bench.inventory();
    assert!(left.snapshots.is_empty() && left.fresh.is_empty(), "{left:?}");
    assert!(bench.driver().groups().unwrap().is_empty());
    assert!(bench.driver().snapshots(&Default::default()).unwrap().is_empty());
}

#[test]
fn what_was_written_in_an_order_is_in_a_group_in_that_order() {
    let Some(bench) = Bench::new() else { return };
    let driver = bench.driver();
    let volumes = [bench.create("one", 64, VolumeKind::Ext4), bench.create("two", 320, VolumeKind::Xfs)];
    let files = [("one", &volumes[0]), ("two", &volumes[1])].map(|(name, volume)| {
        let folder = bench.mount(volume, name);
        let file = OpenOptions::new().write(true).create_new(true).open(folder.join("number")).unwrap();
        file.write_all_at(&[0; 4096], 0).unwrap();
        file.sync_all().unwrap();
        file
    });
    let stop = AtomicBool::new(false);
    let groups: Vec<Group> = thread::scope(|scope| {
        scope.spawn(|| write_alternately(&files, Duration::ZERO, &stop));
        let taken = (0..8).map(|round| {
            thread::sleep(Duration::from_millis(20));
            grouped(driver, &format!("round {round}"), &[&volumes[1], &volumes[0]])
        });
        let taken = taken.collect();
        stop.store(true, Ordering::Relaxed);
        taken
    });
    let mut before = 0;
    for group in &groups {
        assert!(group.snapshots.iter().all(|snapshot| snapshot.quiesced && snapshot.group == Some(group.id)));
        assert!(group.snapshots.iter().all(|snapshot| snapshot.created_at == group.created_at));
        let numbers = [0, 1].map(|at| number_in_clone(&bench, member(group, &volumes[at])));
        assert_eq!(numbers[0].abs_diff(numbers[1]), 1, "{numbers:?} in {}", group.name);
        assert!(numbers[0] > before, "groups go forward");
        before = numbers[0];
    }
    for group in groups {
        driver.delete_group(group.id, None).unwrap();
    }
    nothing_left(&bench);
}

#[test]
fn raw_volumes_are_grouped_in_order_or_not_at_all() {
    let Some(bench) = Bench::new() else { return };
    let driver = bench.driver();
    let volumes = [bench.create("one", 8, VolumeKind::Block), bench.create("two", 8, VolumeKind::Block)];
    let files = [0, 1].map(|at| {
        let path = bench.scratch.path(&format!("staging-{at}"));
        let (filesystem, options) = (None, Vec::new());
        let request =
            StageRequest { volume: volumes[at].id, path, access: Access::Block, filesystem, options };
        driver.stage(&request).unwrap();
        let device = driver.brief(volumes[at].id).unwrap().device.unwrap();
        let direct = rustix::fs::OFlags::DIRECT.bits().cast_signed();
        OpenOptions::new().write(true).custom_flags(direct).open(device).unwrap()
    });
    let image = |snapshot: &Snapshot| driver.open_snapshot(snapshot.id).unwrap();
    for (pause, must_succeed) in [(Duration::from_millis(250), true), (Duration::ZERO, false)] {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| write_alternately(&files, pause, &stop));
            // Both have a number after two rounds.
            thread::sleep(pause * 3 + Duration::from_millis(100));
            let outcome = driver.create_group(&wanted("raw", &[&volumes[0], &volumes[1]]));
            stop.store(true, Ordering::Relaxed);
            match outcome {
                Ok(outcome) => {
                    let group = outcome.agreed().unwrap();
                    let numbers = [0, 1].map(|at| number_in(&image(member(&group, &volumes[at]))));
                    assert_eq!(numbers[0].abs_diff(numbers[1]), 1, "{numbers:?}");
                    driver.delete_group(group.id, None).unwrap();
                }
                Err(CoreError::NotReady { reason, .. }) if !must_succeed => {
                    assert!(reason.contains("raw"), "{reason}");
                }
                Err(other) => panic!("{other}"),
            }
        });
        nothing_left(&bench);
    }
}

#[test]
fn a_group_is_taken_once_by_name_and_its_members_come_and_go_with_it() {
    let Some(bench) = Bench::new() else { return };
    let driver = bench.driver();
    let volumes = [bench.create("one", 8, VolumeKind::Block), bench.create("two", 64, VolumeKind::Ext4)];
    let [one, two] = &volumes;
    let group = grouped(driver, "a\tgroup", &[one, two]);
    assert_eq!(
        driver.create_group(&wanted("a\tgroup", &[two, one])).unwrap(),
        Outcome::Identical(group.clone())
    );
    for other in [
        wanted("a\tgroup", &[one]),
        CreateGroup { labels: [("a".into(), "b".into())].into(), ..wanted("a\tgroup", &[one, two]) },
        CreateGroup { owner: "csi".into(), ..wanted("a\tgroup", &[one, two]) },
    ] {
        assert!(matches!(driver.create_group(&other).unwrap(), Outcome::Conflict { .. }), "{other:?}");
    }
    for (wrong, code) in [
        (wanted("twice", &[one, two, one]), "driver.refused"),
        (wanted("none", &[]), "driver.refused"),
        (wanted("a\0b", &[one]), "driver.refused"),
        (
            CreateGroup { volumes: vec![one.id, VolumeId::from_bytes([0; 16])], ..wanted("gone", &[]) },
            "driver.not-found",
        ),
    ] {
        assert_eq!(driver.create_group(&wrong).unwrap_err().code(), code, "{wrong:?}");
    }
    let ids: Vec<_> = group.snapshots.iter().map(|snapshot| snapshot.id).collect();
    assert_eq!(driver.delete_snapshot(ids[0]).unwrap_err().code(), "driver.refused");
    assert_eq!(driver.group_of(group.id, &ids).unwrap(), group);
    assert_eq!(driver.group_of(group.id, &ids[1..]).unwrap_err().code(), "driver.refused");
    assert_eq!(driver.delete_group(group.id, Some(&ids[..1])).unwrap_err().code(), "driver.refused");
    // Its volumes may go, and it stays.
    driver.delete(one.id).unwrap();
    driver.delete(two.id).unwrap();
    assert_eq!(driver.groups().unwrap(), std::slice::from_ref(&group));
    driver.delete_group(group.id, Some(&[ids[1], ids[0]])).unwrap();
    driver.delete_group(group.id, Some(&[])).unwrap();
    assert_eq!(driver.group(group.id).unwrap_err().code(), "driver.not-found");
    nothing_left(&bench);
}

#[test]
fn a_group_that_one_member_prevents_leaves_nothing_of_the_others() {
    let Some(bench) = Bench::new() else { return };
    let driver = bench.driver();
    let (one, two) = (bench.create("one", 64, VolumeKind::Ext4), bench.create("two", 64, VolumeKind::Ext4));
    let folders = [bench.mount(&one, "one"), bench.mount(&two, "two")];
    let refused = |volumes: &[&Volume]| driver.create_group(&wanted("g", volumes)).unwrap_err().code();

    let request = super::in_place::begin("restoring", &one);
    let hydrating = driver.begin_restore(&request).unwrap().agreed().unwrap().volume;
    assert_eq!(refused(&[&one, &hydrating]), "driver.not-ready");
    driver.discard_restore(hydrating.id).unwrap();

    let busy = driver.guards.take(two.id).unwrap();
    assert_eq!(refused(&[&one, &two]), "driver.busy");
    drop(busy);

    // Frozen by somebody else: the others are thawed again at once.
    let theirs = File::open(&folders[1]).unwrap();
    crate::sys::freeze(&theirs).unwrap();
    assert_eq!(refused(&[&one, &two]), "driver.freeze");
    fs::write(folders[0].join("file"), b"writable").unwrap();
    crate::sys::thaw(&theirs).unwrap();

    nothing_left(&bench);
    let group = grouped(driver, "g", &[&one, &two]);
    assert!(group.snapshots.iter().all(|snapshot| snapshot.quiesced));
    // The guards are free again.
    driver.create_snapshot(&snapshot_request(&one, "alone")).unwrap();
}
