//! Snapshots and what changed between them.

use std::fs;
use std::time::Duration;

use strongroom_model::{ByteRange, Failure as _};

use crate::core_error::CoreError;
use crate::freeze::{Frozen, thaw_if_frozen};
use crate::nouns::{ContentSource, Outcome, Snapshot, Volume, VolumeKind};
use crate::requests::{CreateSnapshot, CreateVolume, LabelScope, SizeRange};
use crate::testing::{Bench, settings, snapshot_request};

#[test]
fn volumes_snapshots_and_clones_can_be_deleted_in_any_order() {
    let Some(bench) = Bench::new() else { return };
    let driver = bench.driver();
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] {
        let volume = bench.create("v", 64, VolumeKind::Ext4);
        let folder = bench.mount(&volume, "m");
        fs::write(folder.join("file"), b"one").unwrap();
        let first = bench.snapshot(&volume, "first");
        fs::write(folder.join("file"), b"two").unwrap();
        let second = bench.snapshot(&volume, "second");
        driver.unmount(volume.id, None).unwrap();
        let request = CreateVolume {
            name: "clone".parse().unwrap(),
            size: SizeRange::of(0),
            kind: None,
            source: Some(ContentSource::Snapshot(first.id)),
            labels: [].into(),
            limits: crate::IoLimits::NONE,
        };
        let Outcome::Created(clone) = driver.create(&request).unwrap() else { panic!() };
        for (done, which) in order.iter().enumerate() {
            match which {
                0 => driver.delete(volume.id).unwrap(),
                1 => driver.delete_snapshot(first.id).unwrap(),
                2 => driver.delete_snapshot(second.id).unwrap(),
                _ => driver.delete(clone.id).unwrap(),
            }
            if !order[..=done].contains(&3) {
                let folder = bench.mount(&clone, "m");
                assert_eq!(fs::read(folder.join("file")).unwrap(), b"one", "{order:?}");
                driver.unmount(clone.id, None).unwrap();
            }
        }
        driver.delete_snapshot(first.id).unwrap();
        let left = bench.inventory();
        assert!(
            left.images.is_empty() && left.snapshots.is_empty() && left.fresh.is_empty() && left.loops == 0
        );
    }
}

#[test]
fn a_snapshot_is_taken_once_per_label() {
    let Some(bench) = Bench::new() else { return };
    let (one, two) = (bench.create("one", 8, VolumeKind::Block), bench.create("two", 8, VolumeKind::Block));
    let driver = bench.driver();
    let taken = bench.snapshot(&one, "label");
    assert_eq!(
        driver.create_snapshot(&snapshot_request(&one, "label")).unwrap(),
        Outcome::Identical(taken.clone())
    );
    let agents = CreateSnapshot { owner: "agent".to_owned(), ..snapshot_request(&one, "label") };
    assert!(matches!(driver.create_snapshot(&agents).unwrap(), Outcome::Conflict { .. }));
    let everywhere = CreateSnapshot { scope: LabelScope::Driver, ..snapshot_request(&two, "label") };
    assert!(matches!(driver.create_snapshot(&everywhere).unwrap(), Outcome::Conflict { .. }));
    assert!(matches!(driver.create_snapshot(&snapshot_request(&two, "label")).unwrap(), Outcome::Created(_)));
    for label in ["", "a\0b", &"x".repeat(129)] {
        assert_eq!(
            driver.create_snapshot(&snapshot_request(&one, label)).unwrap_err().code(),
            "driver.refused"
        );
    }
    // It outlives its volume, and asking again still finds it.
    driver.delete(one.id).unwrap();
    assert_eq!(driver.create_snapshot(&snapshot_request(&one, "label")).unwrap(), Outcome::Identical(taken));
}

#[test]
fn changed_blocks_are_what_was_written_between() {
    let Some(bench) = Bench::new() else { return };
    let driver = bench.driver();
    let volume = bench.create("v", 64, VolumeKind::Ext4);
    let folder = bench.mount(&volume, "m");
    fs::write(folder.join("big"), vec![1; 20 << 20]).unwrap();
    let base = bench.snapshot(&volume, "base");
    let same = bench.snapshot(&volume, "same");
    fs::write(folder.join("small"), vec![2; 1 << 20]).unwrap();
    let next = bench.snapshot(&volume, "next");
    assert!(next.quiesced);

    let total = |ranges: &[ByteRange]| ranges.iter().map(ByteRange::len).sum::<u64>();
    let collect = |base, target, from| {
        driver.changed(base, target, from).unwrap().map(Result::unwrap).collect::<Vec<_>>()
    };
    // A freeze writes a little metadata; not the 20 MiB.
    assert!(total(&collect(Some(base.id), same.id, 0)) < 1 << 20);
    let changed = collect(Some(base.id), next.id, 0);
    assert!((1 << 20..4 << 20).contains(&total(&changed)), "{changed:?}");
    let allocated = collect(None, next.id, 0);
    assert!(total(&allocated) >= 21 << 20);

    // Byte for byte: outside of what is named, nothing differs; outside of what is allocated, all is zero.
    let read = |id| fs::read(driver.open_snapshot(id).unwrap()).unwrap();
    let (old, new) = (read(base.id), read(next.id));
    let named =
        |ranges: &[ByteRange], at: u64| ranges.iter().any(|range| (range.start()..range.end()).contains(&at));
    for (number, (before, after)) in old.chunks(4096).zip(new.chunks(4096)).enumerate() {
        let at = number as u64 * 4096;
        assert!(before == after || named(&changed, at), "byte {at}");
        assert!(after.iter().all(|byte| *byte == 0) || named(&allocated, at), "byte {at}");
    }
    let half = collect(Some(base.id), next.id, 32 << 20);
    assert!(half.iter().all(|range| range.start() >= 32 << 20));
    assert_eq!(driver.changed(None, next.id, u64::MAX).unwrap_err().code(), "driver.size");
    driver.delete_snapshot(base.id).unwrap();
    assert_eq!(driver.changed(Some(base.id), next.id, 0).unwrap_err().code(), "driver.not-found");
}

#[test]
fn what_was_found_to_hold_still_is_remembered_until_anything_is_written() {
    use std::os::unix::fs::FileExt as _;

    let Some(bench) = Bench::new() else { return };
    let driver = bench.driver();
    let still = |volume: &Volume, base: &Snapshot| driver.holds_still(volume.id, base.id).unwrap().0;
    let settle = || std::thread::sleep(Duration::from_millis(2300));
    let raw = bench.create("raw", 16, VolumeKind::Block);
    let mounted = bench.create("v", 64, VolumeKind::Ext4);
    let folder = bench.mount(&mounted, "m");
    let image = driver.backend.path(&driver.existing(raw.id).unwrap().image);
    for round in 0..3_u8 {
        fs::write(folder.join("file"), vec![round; 1 << 20]).unwrap();
        let bases = [&raw, &mounted]
            .map(|volume| (volume, bench.snapshot(volume, &format!("{}-{round}", volume.id))));
        assert!(bases.iter().all(|(volume, base)| still(volume, base)));
        settle();
        for (volume, base) in &bases {
            assert!(still(volume, base) && driver.found_equal.knows(volume.id) && still(volume, base));
        }
        // A byte, at once behind the look, where the length stays.
        let file = fs::OpenOptions::new().write(true).open(&image).unwrap();
        file.write_all_at(&[round + 1], 4 << 20).unwrap();
        fs::write(folder.join("file"), vec![round + 1; 1]).unwrap();
        for (volume, base) in &bases {
            assert!(!still(volume, base) && !driver.found_equal.knows(volume.id));
        }
        settle();
        assert!(bases.iter().all(|(volume, base)| !still(volume, base)));
    }
}

#[test]
fn a_volume_holds_still_until_something_is_written_and_a_snapshot_of_it_is_no_such_thing() {
    let Some(bench) = Bench::new() else { return };
    let driver = bench.driver();
    let still = |volume: &Volume, base: &Snapshot| driver.holds_still(volume.id, base.id).unwrap().0;
    let volume = bench.create("v", 64, VolumeKind::Ext4);
    let folder = bench.mount(&volume, "m");
    fs::write(folder.join("file"), vec![1; 5 << 20]).unwrap();
    let base = bench.snapshot(&volume, "base");
    assert!(still(&volume, &base), "the thaw's mark is no change");
    assert!(still(&volume, &base), "being looked at is none either");
    // Not even flushed by whoever wrote it.
    fs::write(folder.join("file"), vec![2; 1]).unwrap();
    assert!(!still(&volume, &base));
    let base = bench.snapshot(&volume, "next");
    assert!(still(&volume, &base));
    fs::OpenOptions::new().write(true).open(folder.join("file")).unwrap().set_len(1 << 20).unwrap();
    assert!(!still(&volume, &base), "metadata counts");
    driver.unmount(volume.id, None).unwrap();
    let base = bench.snapshot(&volume, "unmounted");
    assert!(still(&volume, &base));

    let raw = bench.create("raw", 16, VolumeKind::Block);
    let empty = bench.snapshot(&raw, "empty");
    assert!(still(&raw, &empty));
    assert_eq!(driver.holds_still(raw.id, base.id).unwrap_err().code(), "driver.refused");
    driver.delete_snapshot(base.id).unwrap();
    assert_eq!(driver.holds_still(volume.id, base.id).unwrap_err().code(), "driver.not-found");
}

#[test]
fn a_freeze_ends_with_its_deadline_its_holder_and_its_driver() {
    let Some(mut bench) = Bench::new() else { return };
    let volume = bench.create("v", 64, VolumeKind::Ext4);
    let folder = bench.mount(&volume, "m");
    let command = settings(&bench.scratch).watchdog;
    let freeze = |deadline| Frozen::freeze(&folder, "v", &command, deadline).unwrap();

    freeze(Duration::from_secs(60)).thaw().unwrap();
    drop(freeze(Duration::from_secs(60)));
    assert!(!thaw_if_frozen(&folder).unwrap());

    // The watchdog's deadline: the cut is then refused.
    let frozen = freeze(Duration::from_millis(100));
    fs::write(folder.join("file"), b"waits until it is thawed").unwrap();
    let refused = frozen.thaw().unwrap_err();
    assert!(matches!(refused, CoreError::Freeze { .. }), "{refused}");

    // Somebody else's freeze is theirs.
    let theirs = freeze(Duration::from_secs(60));
    assert_eq!(
        bench.driver().create_snapshot(&snapshot_request(&volume, "no")).unwrap_err().code(),
        "driver.freeze"
    );
    theirs.thaw().unwrap();
    assert!(bench.inventory().snapshots.is_empty());

    // And one that was left is ended by the next start.
    crate::sys::freeze(&fs::File::open(&folder).unwrap()).unwrap();
    bench.restart();
    assert!(bench.report.iter().any(|line| line.contains("was thawed")), "{:?}", bench.report);
    fs::write(folder.join("file"), b"writable").unwrap();
}
