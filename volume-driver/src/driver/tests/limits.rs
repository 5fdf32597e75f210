//! A pool that is full, foreign, or taken.

use std::fs;

use strongroom_model::Failure as _;

use crate::driver::Driver;
use crate::limits::Limits;
use crate::nouns::VolumeKind;
use crate::testing::{Bench, MIB, Scratch, can_mount, settings, snapshot_request, volume_request, world};

#[test]
fn a_pool_above_its_mark_takes_nothing_new_and_keeps_what_it_has() {
    let Some(mut bench) = Bench::new() else { return };
    let volume = bench.create("v", 64, VolumeKind::Ext4);
    bench.driver = None;
    let mut full = settings(&bench.scratch);
    full.limits = Limits { high_water_percent: 1, ..Limits::default() };
    let driver = Driver::open(full, world()).unwrap().0;
    for refused in [
        driver.create(&volume_request("w", 64, VolumeKind::Ext4)).unwrap_err(),
        driver.create_snapshot(&snapshot_request(&volume, "s")).unwrap_err(),
        driver.expand(volume.id, 128 * MIB).unwrap_err(),
    ] {
        assert_eq!(refused.code(), "driver.pool-full", "{refused}");
    }
    let capacity = driver.capacity().unwrap();
    assert!(capacity.available_bytes == 0 && capacity.condition.is_some());
    assert_eq!(driver.volume(volume.id).unwrap().bytes, 64 * MIB);
    driver.delete(volume.id).unwrap();
}

#[test]
fn more_than_the_agreed_overcommit_is_not_promised() {
    let Some(bench) = Bench::new() else { return };
    let capacity = bench.driver().capacity().unwrap();
    assert!(capacity.pool_bytes > 1500 * MIB && capacity.provisionable_bytes > 3 * capacity.pool_bytes);
    let whole = capacity.available_bytes / MIB;
    let refused = bench.driver().create(&volume_request("w", whole + 1, VolumeKind::Block)).unwrap_err();
    assert_eq!(refused.code(), "driver.pool-full");
    bench.create("all", whole, VolumeKind::Block);
    let refused = bench.driver().create(&volume_request("w", 8, VolumeKind::Block)).unwrap_err();
    assert_eq!(refused.code(), "driver.pool-full");
    for (mib, kind) in [(1, VolumeKind::Ext4), (100, VolumeKind::Xfs)] {
        let refused = bench.driver().create(&volume_request("w", mib, kind)).unwrap_err();
        assert_eq!(refused.code(), "driver.size", "{refused}");
    }
}

#[test]
fn a_pool_has_one_driver_and_a_registry_one_pool() {
    let Some(mut bench) = Bench::new() else { return };
    let mut second = settings(&bench.scratch);
    second.state_dir = bench.scratch.path("other-state");
    let refused = Driver::open(second.clone(), world()).unwrap_err();
    assert_eq!(refused.code(), "driver.in-use");

    // The registry is lost: what lies in the pool is reported and left alone.
    let volume = bench.create("v", 64, VolumeKind::Ext4);
    bench.driver = None;
    let (driver, report) = Driver::open(second, world()).unwrap();
    assert!(
        report.iter().any(|line| line.contains(&volume.id.to_string()) && line.contains("left alone")),
        "{report:?}"
    );
    drop(driver);

    // The pool is not there: a new one is not made in its place.
    let mut elsewhere = settings(&bench.scratch);
    elsewhere.pool = bench.scratch.path("other-pool");
    let refused = Driver::open(elsewhere, world()).unwrap_err();
    assert_eq!(refused.code(), "driver.refused", "{refused}");
    bench.restart();
    assert_eq!(bench.driver().volumes().unwrap().len(), 1);
}

#[test]
fn strangers_in_the_pool_are_left_alone() {
    let Some(mut bench) = Bench::new() else { return };
    let stranger = bench.driver().pool_root().join("volumes/holiday.jpg");
    fs::write(&stranger, b"x").unwrap();
    let fresh = bench.driver().pool_root().join("fresh/left");
    fs::write(&fresh, b"x").unwrap();
    bench.restart();
    assert!(bench.report.iter().any(|line| line.contains("holiday.jpg")), "{:?}", bench.report);
    assert!(stranger.exists() && !fresh.exists());
}

#[test]
fn a_device_is_taken_only_when_blank_or_ours() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let image = scratch.path("disk");
    fs::File::create(&image).unwrap().set_len(2048 * MIB).unwrap();
    let device = crate::loop_device::attach(&image).unwrap().path();
    let mut settings = settings(&scratch);
    settings.pool = device.clone();

    use std::os::unix::fs::FileExt as _;
    let raw = fs::OpenOptions::new().write(true).open(&device).unwrap();
    raw.write_all_at(b"precious", 2048 * MIB - 4096).unwrap();
    raw.sync_all().unwrap();
    let refused = Driver::open(settings.clone(), world()).unwrap_err();
    assert!(refused.code() == "driver.refused" && refused.to_string().contains("not blank"), "{refused}");
    raw.write_all_at(&[0; 8], 2048 * MIB - 4096).unwrap();
    raw.sync_all().unwrap();
    drop(raw);

    let driver = Driver::open(settings.clone(), world()).unwrap().0;
    let volume = crate::testing::create(&driver, "v", 64, VolumeKind::Ext4);
    drop(driver);
    rustix::mount::unmount(scratch.path("state/pool"), rustix::mount::UnmountFlags::empty()).unwrap();
    let driver = Driver::open(settings.clone(), world()).unwrap().0;
    assert_eq!(driver.volume(volume.id).unwrap().name, volume.name);
    drop(driver);

    // The disk was swapped for an empty one: our registry says that there must be a pool.
    rustix::mount::unmount(scratch.path("state/pool"), rustix::mount::UnmountFlags::empty()).unwrap();
    let raw = fs::OpenOptions::new().write(true).open(&device).unwrap();
    raw.write_all_at(&vec![0; 4 << 20], 0).unwrap();
    raw.sync_all().unwrap();
    drop(raw);
    let refused = Driver::open(settings, world()).unwrap_err();
    assert!(refused.to_string().contains("right device"), "{refused}");
}

/// A filesystem in a file, mounted at `<scratch>/<name>`.
fn filesystem(scratch: &Scratch, name: &str, mkfs: &[&str]) -> Option<std::path::PathBuf> {
    let image = scratch.path(&format!("{name}.disk"));
    fs::File::create(&image).unwrap().set_len(1024 * MIB).unwrap();
    let made = std::process::Command::new(mkfs[0]).args(&mkfs[1..]).arg(&image).output();
    if !made.is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: {} does not run here", mkfs[0]);
        return None;
    }
    let device = crate::loop_device::attach(&image).unwrap().path();
    let folder = scratch.folder(name);
    let mounted = rustix::mount::mount(&device, &folder, name, rustix::mount::MountFlags::empty(), c"");
    if let Err(errno) = mounted {
        println!("SKIPPED: {name} cannot be mounted here: {errno}");
        return None;
    }
    Some(folder)
}

#[test]
fn a_folder_that_shares_blocks_is_used_as_it_is() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    for (name, mkfs) in [("xfs", vec!["mkfs.xfs", "-q"]), ("btrfs", vec!["mkfs.btrfs", "-q"])] {
        let Some(folder) = filesystem(&scratch, name, &mkfs) else { continue };
        let mut settings = settings(&scratch);
        settings.pool = folder.join("pool");
        settings.state_dir = scratch.path(&format!("state-{name}"));
        let (driver, report) = Driver::open(settings.clone(), world()).unwrap();
        assert!(report.is_empty() && !folder.join("pool/pool.img").exists());
        let volume = crate::testing::create(&driver, "v", 64, VolumeKind::Ext4);
        let mounted = scratch.folder(&format!("mounted-{name}"));
        driver.mount(volume.id, &mounted, &[]).unwrap();
        fs::write(mounted.join("file"), vec![1; 1 << 20]).unwrap();
        let request = snapshot_request(&volume, "one");
        let one = driver.create_snapshot(&request).unwrap().agreed().unwrap();
        fs::write(mounted.join("file"), vec![2; 1 << 20]).unwrap();
        let two = driver.create_snapshot(&snapshot_request(&volume, "two")).unwrap().agreed().unwrap();
        let changed: u64 =
            driver.changed(Some(one.id), two.id, 0).unwrap().map(|range| range.unwrap().len()).sum();
        assert!((1 << 20..8 << 20).contains(&changed), "{name}: {changed}");
        driver.unmount(volume.id, None).unwrap();
        driver.delete(volume.id).unwrap();
    }
}

#[test]
fn a_pool_file_that_was_half_made_is_made_anew() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    fs::write(scratch.folder("pool").join("pool.part"), b"half").unwrap();
    let bench = Bench::on(scratch);
    bench.create("v", 64, VolumeKind::Ext4);
    assert!(!bench.scratch.path("pool/pool.part").exists());
}

#[test]
fn a_pool_file_needs_room_for_xfs() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let mut small = settings(&scratch);
    small.pool_bytes = Some(100 * MIB);
    assert_eq!(Driver::open(small, world()).unwrap_err().code(), "driver.size");
    assert!(!scratch.path("pool/pool.img").exists());
}
