//! What a start makes of a machine that is not as the driver left it: rebooted, or meddled with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::UnmountFlags;

use crate::loop_device;
use crate::nouns::{Access, MountUse, Outcome, Volume, VolumeKind};
use crate::requests::{PublishRequest, StageRequest};
use crate::testing::Bench;

pub(super) fn stage(bench: &Bench, volume: &Volume) -> PathBuf {
    let access = if volume.kind.filesystem().is_some() { Access::Mount } else { Access::Block };
    let path = bench.scratch.folder(&format!("stage-{}", volume.name));
    let request =
        StageRequest { volume: volume.id, path: path.clone(), access, filesystem: None, options: Vec::new() };
    assert_eq!(bench.driver().stage(&request).unwrap(), Outcome::Created(()));
    path
}

pub(super) fn publish(bench: &Bench, volume: &Volume) -> PathBuf {
    let access = if volume.kind.filesystem().is_some() { Access::Mount } else { Access::Block };
    let target = bench.scratch.path(&format!("target-{}", volume.name));
    let request = PublishRequest {
        volume: volume.id,
        staging_path: bench.scratch.path(&format!("stage-{}", volume.name)),
        target: target.clone(),
        access,
        readonly: false,
        options: Vec::new(),
        only_target: true,
    };
    assert_eq!(bench.driver().publish(&request).unwrap(), Outcome::Created(()));
    target
}

pub(super) fn now(bench: &Bench, volume: &Volume) -> Volume {
    bench.driver().volume(volume.id).unwrap()
}

fn lazily_unmount(path: &Path) {
    rustix::mount::unmount(path, UnmountFlags::DETACH).unwrap();
}

#[test]
fn after_a_reboot_every_volume_is_staged_and_published_anew_and_holds_what_it_held() {
    let Some(mut bench) = Bench::new() else { return };
    let (db, raw) = (bench.create("db", 64, VolumeKind::Ext4), bench.create("raw", 16, VolumeKind::Block));
    let by_hand = bench.create("by-hand", 16, VolumeKind::Ext4);
    for volume in [&db, &raw] {
        stage(&bench, volume);
        publish(&bench, volume);
    }
    bench.mount(&by_hand, "hand");
    fs::write(bench.scratch.path("target-db/file"), b"precious").unwrap();
    bench.reboot();

    assert!(bench.report.iter().any(|line| line.contains("started anew")), "{:?}", bench.report);
    let left = bench.inventory();
    assert!(left.loops == 0 && left.mounts == 0, "{left:?}");
    for volume in [&db, &raw, &by_hand] {
        assert!(now(&bench, volume).mounts.is_empty() && now(&bench, volume).condition.is_none());
    }
    // As after a real one: orchestrators find their folders, and ask as if for the first time.
    for volume in [&db, &raw] {
        stage(&bench, volume);
        publish(&bench, volume);
    }
    assert_eq!(fs::read(bench.scratch.path("target-db/file")).unwrap(), b"precious");
    assert_eq!(bench.inventory().loops, 2);
    bench.restart();
    assert_eq!(bench.inventory().loops, 2, "a restart after the reboot is no reboot");
}

#[test]
fn a_restart_touches_nothing_that_containers_use() {
    let Some(mut bench) = Bench::new() else { return };
    let db = bench.create("db", 64, VolumeKind::Ext4);
    stage(&bench, &db);
    let target = publish(&bench, &db);
    let file = fs::File::create(target.join("file")).unwrap();
    let device = now(&bench, &db).device;
    for _ in 0..3 {
        bench.restart();
        std::io::Write::write_all(&mut &file, b"more").unwrap();
        file.sync_all().unwrap();
    }
    assert_eq!(bench.report, Vec::<String>::new());
    assert_eq!(now(&bench, &db).device, device);
}

#[test]
fn a_lost_unpublish_and_a_lost_unstage_leave_nothing_when_they_are_made_up_for() {
    let Some(mut bench) = Bench::new() else { return };
    let db = bench.create("db", 64, VolumeKind::Ext4);
    let staging = stage(&bench, &db);
    let target = publish(&bench, &db);
    // The target was unmounted and its folder removed behind the driver; nobody ever unpublishes.
    lazily_unmount(&target);
    fs::remove_dir(&target).unwrap();
    bench.restart();
    assert!(now(&bench, &db).mounts.iter().all(|mount| mount.purpose == MountUse::Staged));
    bench.driver().unpublish(db.id, &target).unwrap();
    bench.driver().unstage(db.id, &staging).unwrap();
    assert_eq!(bench.inventory().loops, 0);

    // The other way round: the staging went, the container still has its mount.
    stage(&bench, &db);
    let target = publish(&bench, &db);
    lazily_unmount(&staging);
    fs::remove_dir(&staging).unwrap();
    bench.restart();
    fs::write(target.join("still"), b"there").unwrap();
    assert_eq!(now(&bench, &db).mounts.len(), 1);
    bench.driver().unstage(db.id, &staging).unwrap();
    fs::write(target.join("still"), b"there").unwrap();
    bench.driver().unpublish(db.id, &target).unwrap();
    assert_eq!(bench.inventory().loops, 0, "nobody unstages what is not staged");
    bench.driver().delete(db.id).unwrap();
}

#[test]
fn a_mount_that_covers_ours_is_not_taken_for_it_nor_taken_away() {
    let Some(mut bench) = Bench::new() else { return };
    let db = bench.create("db", 64, VolumeKind::Ext4);
    let staging = stage(&bench, &db);
    lazily_unmount(&staging);
    rustix::mount::mount("other", &staging, "tmpfs", rustix::mount::MountFlags::empty(), c"size=64k")
        .unwrap();
    bench.restart();
    assert!(
        bench.report.iter().any(|line| line.contains("another filesystem (tmpfs)")),
        "{:?}",
        bench.report
    );
    assert!(now(&bench, &db).mounts.is_empty());
    // The volume can be used elsewhere, and the stranger is still there.
    bench.mount(&db, "elsewhere");
    bench.driver().unstage(db.id, &staging).unwrap();
    rustix::mount::unmount(&staging, UnmountFlags::empty()).unwrap();
}

#[test]
fn a_raw_volume_whose_device_was_taken_away_gets_it_back() {
    let Some(mut bench) = Bench::new() else { return };
    let raw = bench.create("raw", 16, VolumeKind::Block);
    stage(&bench, &raw);
    let device = now(&bench, &raw).device.unwrap();
    assert!(Command::new("losetup").arg("-d").arg(device).status().unwrap().success());
    bench.restart();
    assert!(bench.report.iter().any(|line| line.contains("attached again")), "{:?}", bench.report);
    assert!(now(&bench, &raw).device.is_some());
}

#[test]
fn an_image_that_was_deleted_under_a_mounted_volume_is_not_given_up_while_its_device_lives() {
    let Some(mut bench) = Bench::new() else { return };
    let db = bench.create("db", 64, VolumeKind::Ext4);
    let folder = bench.mount(&db, "m");
    fs::write(folder.join("file"), b"precious").unwrap();
    let image = bench.driver().pool_root().join("volumes").join(&bench.inventory().images[0]);
    fs::remove_file(&image).unwrap();
    bench.restart();
    assert!(bench.report.iter().any(|line| line.contains("still holds its content")), "{:?}", bench.report);
    assert_eq!(fs::read(folder.join("file")).unwrap(), b"precious");
    assert_eq!(now(&bench, &db).mounts.len(), 1);
    assert!(bench.driver().delete(db.id).is_err(), "it is mounted");
    // Only when its owner deletes it is it gone, device and all.
    bench.driver().unmount(db.id, None).unwrap();
    assert_eq!(loop_device::below(bench.driver().pool_root()).len(), 1);
    bench.driver().delete(db.id).unwrap();
    assert_eq!(loop_device::below(bench.driver().pool_root()).len(), 0);
}

#[test]
fn what_is_missing_or_unknown_is_told_and_keeps_nothing_else_from_working() {
    let Some(mut bench) = Bench::new() else { return };
    let (lost, fine) =
        (bench.create("lost", 16, VolumeKind::Ext4), bench.create("fine", 16, VolumeKind::Ext4));
    let snapshot = bench.snapshot(&fine, "s");
    let root = bench.driver().pool_root().to_owned();
    let lost_image = root.join(bench.driver().registry.volume(lost.id).unwrap().unwrap().image.as_str());
    let snapshot_image = root.join(format!("snapshots/{}.img", snapshot.id));
    fs::remove_file(lost_image).unwrap();
    fs::rename(&snapshot_image, root.join("snapshots/snap-00000000000000000000000000000001.img")).unwrap();
    fs::write(root.join("volumes/stranger"), b"x").unwrap();
    // And a device of somebody else on an image of ours.
    let foreign =
        loop_device::attach(&root.join("snapshots/snap-00000000000000000000000000000001.img")).unwrap();
    bench.restart();
    for told in
        ["of volume lost", "of snapshot", "belongs to nothing", "stranger is not ours", "does not know"]
    {
        assert!(bench.report.iter().any(|line| line.contains(told)), "{told}: {:?}", bench.report);
    }
    assert!(foreign.is_direct(), "it was left alone");
    bench.mount(&fine, "fine");
    assert!(now(&bench, &lost).condition.is_some());
    bench.driver().delete(lost.id).unwrap();
    bench.driver().delete_snapshot(snapshot.id).unwrap();
}

#[test]
fn a_filesystem_that_stayed_frozen_is_thawed() {
    let Some(mut bench) = Bench::new() else { return };
    let db = bench.create("db", 64, VolumeKind::Ext4);
    let folder = bench.mount(&db, "m");
    crate::sys::freeze(&fs::File::open(&folder).unwrap()).unwrap();
    bench.restart();
    assert!(bench.report.iter().any(|line| line.contains("was thawed")), "{:?}", bench.report);
    fs::write(folder.join("file"), b"written").unwrap();
}
