//! Restores: hydrating volumes and exchanges of content.

use std::fs;
use std::os::unix::fs::FileExt as _;

use strongroom_model::Failure as _;

use crate::nouns::{Outcome, Volume, VolumeKind, VolumeState};
use crate::requests::{BeginRestore, Exchange, RestoreTarget, SizeRange};
use crate::testing::{Bench, MIB, snapshot_request};

pub(super) fn begin(name: &str, like: &Volume) -> BeginRestore {
    BeginRestore {
        name: name.parse().unwrap(),
        kind: like.kind,
        size: SizeRange::of(like.bytes),
        labels: [].into(),
        from_snapshot: None,
        point: None,
        only: None,
    }
}

pub(super) fn exchange(volume: &Volume, staged: &Volume, run: &str) -> Exchange {
    Exchange {
        volume: volume.id,
        staged: staged.id,
        run: run.to_owned(),
        safety_label: format!("before {run}"),
        safety_labels: [("run".to_owned(), run.to_owned())].into(),
        remount: true,
    }
}

fn target(outcome: Outcome<RestoreTarget>) -> RestoreTarget {
    outcome.agreed().unwrap()
}

#[test]
fn a_hydrating_volume_is_used_by_nobody_until_it_is_finished() {
    let Some(mut bench) = Bench::new() else { return };
    let source = bench.create("source", 64, VolumeKind::Ext4);
    let folder = bench.mount(&source, "m");
    fs::write(folder.join("file"), b"content").unwrap();
    let snapshot = bench.snapshot(&source, "s");
    let content = fs::read(bench.driver().open_snapshot(snapshot.id).unwrap()).unwrap();

    let request = begin("restored", &source);
    let hydrating = target(bench.driver().begin_restore(&request).unwrap());
    assert_eq!(hydrating.volume.state, VolumeState::Hydrating);
    let device = fs::OpenOptions::new().write(true).open(&hydrating.device).unwrap();
    device.write_all_at(&content[..1 << 20], 0).unwrap();
    drop(device);
    bench.restart();
    let Outcome::Identical(again) = bench.driver().begin_restore(&request).unwrap() else { panic!() };
    let other = BeginRestore { size: SizeRange::of(2 * source.bytes), ..request.clone() };
    assert!(matches!(bench.driver().begin_restore(&other).unwrap(), Outcome::Conflict { .. }));
    let device = fs::OpenOptions::new().write(true).open(&again.device).unwrap();
    device.write_all_at(&content[1 << 20..], MIB).unwrap();
    drop(device);

    let driver = bench.driver();
    let id = hydrating.volume.id;
    let folder = bench.scratch.folder("restored");
    assert_eq!(driver.mount(id, &folder, &[]).unwrap_err().code(), "driver.not-ready");
    assert_eq!(
        driver.create_snapshot(&snapshot_request(&hydrating.volume, "s")).unwrap_err().code(),
        "driver.not-ready"
    );
    assert_eq!(driver.expand(id, 128 * MIB).unwrap_err().code(), "driver.not-ready");
    assert_eq!(driver.finish_restore(id).unwrap().state, VolumeState::Ready);
    assert_eq!(driver.finish_restore(id).unwrap().device, None);
    assert_eq!(driver.discard_restore(id).unwrap_err().code(), "driver.not-ready");
    driver.mount(id, &folder, &[]).unwrap();
    assert_eq!(fs::read(folder.join("file")).unwrap(), b"content");
}

#[test]
fn a_restore_that_begins_with_a_snapshot_has_its_content_and_the_asked_size() {
    let Some(bench) = Bench::new() else { return };
    let source = bench.create("source", 16, VolumeKind::Block);
    let snapshot = bench.snapshot(&source, "s");
    for mib in [8, 16, 32] {
        let request = BeginRestore {
            size: SizeRange::of(mib * MIB),
            from_snapshot: Some(snapshot.id),
            ..begin(&format!("r{mib}"), &source)
        };
        let hydrating = target(bench.driver().begin_restore(&request).unwrap());
        assert_eq!(hydrating.volume.bytes, mib * MIB);
        bench.driver().discard_restore(hydrating.volume.id).unwrap();
        bench.driver().discard_restore(hydrating.volume.id).unwrap();
    }
    let left = bench.inventory();
    assert!(left.images.len() == 1 && left.loops == 0, "{left:?}");
}

#[test]
fn an_exchange_gives_the_new_content_keeps_the_old_and_can_be_undone() {
    let Some(bench) = Bench::new() else { return };
    let driver = bench.driver();
    let volume = bench.create("db", 64, VolumeKind::Ext4);
    let folder = bench.mount(&volume, "m");
    fs::write(folder.join("file"), b"good").unwrap();
    let good = bench.snapshot(&volume, "good");
    fs::write(folder.join("file"), b"bad").unwrap();

    let restored = BeginRestore { from_snapshot: Some(good.id), ..begin("restored", &volume) };
    let staged = target(driver.begin_restore(&restored).unwrap()).volume;
    let request = exchange(&volume, &staged, "run-1");
    let held = Exchange { remount: false, ..request.clone() };
    assert_eq!(driver.exchange_content(&held).unwrap_err().code(), "driver.in-use");
    // Somebody works in it: nothing changes, and it is still mounted.
    let open = fs::File::open(folder.join("file")).unwrap();
    assert_eq!(driver.exchange_content(&request).unwrap_err().code(), "driver.in-use");
    assert_eq!(fs::read(folder.join("file")).unwrap(), b"bad");
    drop(open);

    let Outcome::Created(done) = driver.exchange_content(&request).unwrap() else { panic!() };
    assert_eq!(done.remounted, std::slice::from_ref(&folder));
    assert_eq!(done.volume.id, volume.id);
    assert_eq!(fs::read(folder.join("file")).unwrap(), b"good");
    assert!(
        matches!(driver.exchange_content(&request).unwrap(), Outcome::Identical(same) if same.safety == done.safety)
    );
    assert!(driver.volume_named(&"restored".parse().unwrap()).unwrap().is_none());

    // Undo is the same the other way round.
    let back = BeginRestore { from_snapshot: Some(done.safety.id), ..begin("undo", &volume) };
    let staged = target(driver.begin_restore(&back).unwrap()).volume;
    driver.exchange_content(&exchange(&volume, &staged, "run-2")).unwrap();
    assert_eq!(fs::read(folder.join("file")).unwrap(), b"bad");
    let left = bench.inventory();
    assert!(left.images.len() == 1 && left.snapshots.len() == 3 && left.loops == 1, "{left:?}");
}

#[test]
fn an_exchange_never_makes_a_volume_smaller() {
    let Some(bench) = Bench::new() else { return };
    let driver = bench.driver();
    let volume = bench.create("db", 64, VolumeKind::Ext4);
    let small = bench.snapshot(&volume, "small");
    driver.expand(volume.id, 128 * MIB).unwrap();
    let restored = BeginRestore { from_snapshot: Some(small.id), ..begin("restored", &volume) };
    let staged = target(driver.begin_restore(&restored).unwrap()).volume;
    driver.exchange_content(&exchange(&volume, &staged, "run")).unwrap();
    let folder = bench.mount(&volume, "m");
    assert!(driver.usage(volume.id, &folder).unwrap().total_bytes > 100 * MIB);
    let other = bench.create("raw", 64, VolumeKind::Block);
    assert_eq!(
        driver.exchange_content(&exchange(&volume, &other, "x")).unwrap_err().code(),
        "driver.refused"
    );
}
