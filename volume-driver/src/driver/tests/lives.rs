//! Volumes come, grow and go.

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use strongroom_model::Failure as _;

use crate::core_error::CoreError;
use crate::nouns::{ContentSource, Outcome, VolumeKind};
use crate::requests::{CreateVolume, SizeRange};
use crate::testing::{Bench, MIB, volume_request};

#[test]
fn a_volume_is_created_once_and_the_same_request_finds_it_again() {
    let Some(bench) = Bench::new() else { return };
    let volume = bench.create("db", 64, VolumeKind::Ext4);
    assert_eq!(volume.bytes, 64 * MIB);

    let again = bench.driver().create(&volume_request("db", 64, VolumeKind::Ext4)).unwrap();
    assert_eq!(again, Outcome::Identical(volume.clone()));
    let larger = bench.driver().create(&volume_request("db", 65, VolumeKind::Ext4)).unwrap();
    assert!(matches!(larger, Outcome::Conflict { .. }), "{larger:?}");
    let other = bench.driver().create(&volume_request("db", 64, VolumeKind::Block)).unwrap();
    assert!(matches!(other, Outcome::Conflict { .. }), "{other:?}");

    bench.driver().delete(volume.id).unwrap();
    bench.driver().delete(volume.id).unwrap();
    let left = bench.inventory();
    assert!(left.images.is_empty() && left.fresh.is_empty() && left.loops == 0, "{left:?}");
}

#[test]
fn names_that_look_like_paths_stay_names() {
    let Some(bench) = Bench::new() else { return };
    let before = fs::read_dir(bench.scratch.path("")).unwrap().count();
    for name in ["../../escape", "/etc/passwd", "a b\u{fe}", "-rf", "%s'; DROP TABLE volumes; --", "."] {
        let volume = bench.create(name, 8, VolumeKind::Block);
        assert_eq!(bench.driver().volume_named(&name.parse().unwrap()).unwrap().unwrap().id, volume.id);
        bench.snapshot(&volume, name);
    }
    assert_eq!(bench.driver().volumes().unwrap().len(), 6);
    assert_eq!(fs::read_dir(bench.scratch.path("")).unwrap().count(), before);
}

#[test]
fn images_and_folders_belong_to_root_alone() {
    let Some(bench) = Bench::new() else { return };
    let volume = bench.create("db", 8, VolumeKind::Block);
    bench.snapshot(&volume, "one");
    let root = bench.driver().pool_root();
    let mode = |path: &Path| path.metadata().unwrap().mode() & 0o777;
    for folder in ["volumes", "snapshots", "fresh"] {
        assert_eq!(mode(&root.join(folder)), 0o700);
        for image in fs::read_dir(root.join(folder)).unwrap() {
            assert_eq!(mode(&image.unwrap().path()), 0o600);
        }
    }
    assert_eq!(mode(&bench.scratch.path("pool")), 0o700);
    assert_eq!(mode(&bench.scratch.path("state")), 0o700);
}

#[test]
fn a_volume_of_64_mib_refuses_the_byte_after() {
    let Some(bench) = Bench::new() else { return };
    for kind in [VolumeKind::Ext4, VolumeKind::Block] {
        let volume = bench.create(&format!("small {kind}"), 64, kind);
        if kind == VolumeKind::Block {
            let target = bench.scratch.path("dev");
            bench
                .driver()
                .stage(&crate::requests::StageRequest {
                    volume: volume.id,
                    path: target.clone(),
                    access: crate::nouns::Access::Block,
                    filesystem: None,
                    options: Vec::new(),
                })
                .unwrap();
            let device = bench.driver().volume(volume.id).unwrap().device.unwrap();
            let device = fs::OpenOptions::new().write(true).open(device).unwrap();
            device.write_all_at(&[7], 64 * MIB - 1).unwrap();
            let refused = device.write_all_at(&[7], 64 * MIB).unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::StorageFull);
            drop(device);
            bench.driver().unstage(volume.id, &target).unwrap();
        } else {
            let folder = bench.mount(&volume, "mounted");
            let mut written = 0;
            let file = fs::File::create(folder.join("fill")).unwrap();
            let refused = loop {
                match file.write_all_at(&[7; 65_536], written) {
                    Ok(()) => written += 65_536,
                    Err(refused) => break refused,
                }
            };
            assert_eq!(refused.kind(), std::io::ErrorKind::StorageFull);
            assert!(written < 64 * MIB && written > 40 * MIB, "{written}");
            let usage = bench.driver().usage(volume.id, &folder).unwrap();
            assert!(usage.total_bytes < 64 * MIB && usage.available_bytes.unwrap() < MIB, "{usage:?}");
            assert!(usage.inodes.unwrap().0 > 0);
        }
    }
}

#[test]
fn clones_hold_the_same_data_and_may_be_larger() {
    let Some(bench) = Bench::new() else { return };
    for (kind, mib) in [(VolumeKind::Ext4, 64), (VolumeKind::Xfs, 300)] {
        let volume = bench.create(&format!("source {kind}"), mib, kind);
        let folder = bench.mount(&volume, &format!("source-{kind}"));
        fs::write(folder.join("file"), b"before the clone").unwrap();

        let request = CreateVolume {
            name: format!("clone {kind}").parse().unwrap(),
            size: SizeRange::of((mib + 200) * MIB),
            kind: None,
            source: Some(ContentSource::Volume(volume.id)),
            labels: [].into(),
            limits: crate::IoLimits::NONE,
        };
        let Outcome::Created(clone) = bench.driver().create(&request).unwrap() else { panic!() };
        fs::write(folder.join("file"), b"after the clone").unwrap();

        // Both at the same time: XFS needs to be told that the identity is not unique.
        let cloned = bench.mount(&clone, &format!("clone-{kind}"));
        assert_eq!(fs::read(cloned.join("file")).unwrap(), b"before the clone");
        let usage = bench.driver().usage(clone.id, &cloned).unwrap();
        assert!(usage.total_bytes > (mib + 100) * MIB, "{kind}: {}", usage.total_bytes);

        let smaller = CreateVolume {
            size: SizeRange { required_bytes: 1, limit_bytes: 8 * MIB },
            name: "no".parse().unwrap(),
            ..request.clone()
        };
        assert_eq!(bench.driver().create(&smaller).unwrap_err().code(), "driver.size");
        let other = CreateVolume { kind: Some(VolumeKind::Block), name: "no".parse().unwrap(), ..request };
        assert_eq!(bench.driver().create(&other).unwrap_err().code(), "driver.refused");
    }
}

#[test]
fn a_mounted_xfs_grows_at_once_and_an_ext4_at_the_latest_at_its_next_mount() {
    let Some(bench) = Bench::new() else { return };
    for (kind, mib) in [(VolumeKind::Ext4, 64), (VolumeKind::Xfs, 300)] {
        let volume = bench.create(&format!("grows {kind}"), mib, kind);
        let folder = bench.mount(&volume, &format!("grows-{kind}"));
        fs::write(folder.join("file"), b"stays").unwrap();
        let expanded = bench.driver().expand(volume.id, 2 * mib * MIB).unwrap();
        assert!(expanded.bytes == 2 * mib * MIB && expanded.filesystem_pending);
        // Smaller, and the same, are fine and change nothing.
        assert_eq!(bench.driver().expand(volume.id, MIB).unwrap().bytes, 2 * mib * MIB);

        match bench.driver().grow_filesystem(volume.id) {
            Ok(expanded) => assert!(!expanded.filesystem_pending),
            Err(error) => {
                assert!(kind == VolumeKind::Ext4, "{error}");
                assert!(matches!(error, CoreError::OnlineGrow { .. }), "{error}");
                println!("ext4 cannot grow online here: {error}");
                bench.driver().unmount(volume.id, None).unwrap();
                bench.mount(&volume, &format!("grows-{kind}"));
            }
        }
        let usage = bench.driver().usage(volume.id, &folder).unwrap();
        assert!(usage.total_bytes > (2 * mib - 80) * MIB, "{kind}: {}", usage.total_bytes);
        assert_eq!(fs::read(folder.join("file")).unwrap(), b"stays");
        assert!(!bench.driver().grow_filesystem(volume.id).unwrap().filesystem_pending);
    }
}

#[test]
fn a_volume_in_use_is_not_deleted_and_the_holder_is_named() {
    let Some(bench) = Bench::new() else { return };
    let volume = bench.create("db", 64, VolumeKind::Ext4);
    let folder = bench.mount(&volume, "mounted");
    fs::write(folder.join("file"), b"here").unwrap();
    let refused = bench.driver().delete(volume.id).unwrap_err();
    assert_eq!(refused.code(), "driver.in-use");
    assert!(refused.to_string().contains(&folder.display().to_string()), "{refused}");

    let open = fs::File::open(folder.join("file")).unwrap();
    let refused = bench.driver().unmount(volume.id, None).unwrap_err();
    assert!(refused.to_string().contains(&format!("process {}", std::process::id())), "{refused}");
    assert_eq!(fs::read(folder.join("file")).unwrap(), b"here");
    drop(open);
    assert_eq!(bench.driver().unmount(volume.id, None).unwrap(), [folder]);
    bench.driver().delete(volume.id).unwrap();
}

#[test]
fn a_damaged_filesystem_is_never_formatted_and_its_condition_says_so() {
    let Some(bench) = Bench::new() else { return };
    let driver = bench.driver();
    let volume = bench.create("db", 64, VolumeKind::Ext4);
    let folder = bench.mount(&volume, "m");
    fs::write(folder.join("file"), b"precious").unwrap();
    driver.unmount(volume.id, None).unwrap();
    let image = fs::read_dir(driver.pool_root().join("volumes")).unwrap().next().unwrap().unwrap().path();
    let file = fs::OpenOptions::new().read(true).write(true).open(&image).unwrap();
    let mut superblock = vec![0; 4096];
    file.read_exact_at(&mut superblock, 0).unwrap();
    file.write_all_at(&[0; 4096], 0).unwrap();

    let refused = driver.mount(volume.id, &folder, &[]).unwrap_err();
    assert_eq!(refused.code(), "driver.filesystem", "{refused}");
    assert!(driver.volume(volume.id).unwrap().condition.is_some());
    assert_eq!(bench.inventory().loops, 0);

    // Nothing was written there, so giving the superblock back gives all back.
    file.write_all_at(&superblock, 0).unwrap();
    drop(file);
    driver.mount(volume.id, &folder, &[]).unwrap();
    assert_eq!(fs::read(folder.join("file")).unwrap(), b"precious");
    assert!(driver.volume(volume.id).unwrap().condition.is_none());
}

#[test]
fn a_volume_whose_image_is_missing_says_so_and_can_be_deleted() {
    let Some(mut bench) = Bench::new() else { return };
    let volume = bench.create("db", 64, VolumeKind::Ext4);
    let images = bench.driver().pool_root().join("volumes");
    fs::remove_file(fs::read_dir(images).unwrap().next().unwrap().unwrap().path()).unwrap();
    bench.restart();
    assert!(bench.report.iter().any(|line| line.contains("missing")), "{:?}", bench.report);
    assert!(bench.driver().volumes().unwrap()[0].condition.is_some());
    assert!(bench.driver().mount(volume.id, &bench.scratch.folder("m"), &[]).is_err());
    bench.driver().delete(volume.id).unwrap();
    assert!(bench.driver().volumes().unwrap().is_empty());
}

#[test]
fn a_storm_of_requests_leaves_nothing_behind() {
    let Some(bench) = Bench::new() else { return };
    let driver = bench.driver();
    let shared = bench.create("shared", 64, VolumeKind::Ext4);
    bench.mount(&shared, "m");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let shared = &shared;
            scope.spawn(move || {
                for round in 0..6 {
                    // The same names from all threads: one makes it, the others find it or are told to wait.
                    match driver.create(&volume_request(&format!("v{round}"), 16, VolumeKind::Block)) {
                        Ok(Outcome::Created(_) | Outcome::Identical(_)) | Err(CoreError::Busy { .. }) => {}
                        other => panic!("{other:?}"),
                    }
                    match driver.create_snapshot(&crate::testing::snapshot_request(
                        shared,
                        &format!("s{thread}.{round}"),
                    )) {
                        Ok(outcome) => {
                            let id = outcome.agreed().unwrap().id;
                            driver.delete_snapshot(id).unwrap();
                        }
                        Err(CoreError::Busy { .. }) => {}
                        Err(other) => panic!("{other:?}"),
                    }
                }
            });
        }
    });
    driver.unmount(shared.id, None).unwrap();
    for volume in driver.volumes().unwrap() {
        driver.delete(volume.id).unwrap();
    }
    let left = bench.inventory();
    assert!(
        left.images.is_empty() && left.snapshots.is_empty() && left.fresh.is_empty() && left.loops == 0,
        "{left:?}"
    );
    assert!(driver.registry_is_quiet());
}

#[test]
fn clones_of_btrfs_are_mounted_side_by_side_and_a_log_that_was_not_replayed_is_kept() {
    let Some(bench) = Bench::new() else { return };
    let volume = bench.create("source", 256, VolumeKind::Btrfs);
    let folder = bench.mount(&volume, "source");
    fs::write(folder.join("file"), b"before").unwrap();
    let quiet = bench.snapshot(&volume, "quiet");

    // As a crash leaves it: what was synced lies only in the log. Nothing freezes the image when it is copied so.
    let file = fs::File::create(folder.join("synced")).unwrap();
    file.write_all_at(b"in the log", 0).unwrap();
    file.sync_all().unwrap();
    let images = bench.driver().pool_root().join("volumes");
    let image = fs::read_dir(&images).unwrap().next().unwrap().unwrap().path();
    let crashed = bench.create("crashed", 256, VolumeKind::Btrfs);
    let other = fs::read_dir(&images).unwrap().map(|entry| entry.unwrap().path());
    let other = other.into_iter().find(|path| *path != image).unwrap();
    let (from, to) =
        (fs::File::open(&image).unwrap(), fs::OpenOptions::new().write(true).open(&other).unwrap());
    rustix::fs::ioctl_ficlone(&to, &from).unwrap();
    drop((from, to, file));

    let request = CreateVolume {
        name: "clone".parse().unwrap(),
        size: SizeRange::of(300 * MIB),
        kind: None,
        source: Some(ContentSource::Snapshot(quiet.id)),
        labels: [].into(),
        limits: crate::IoLimits::NONE,
    };
    let Outcome::Created(clone) = bench.driver().create(&request).unwrap() else { panic!() };
    fs::write(folder.join("file"), b"after").unwrap();
    let (cloned, crashed_at) = (bench.mount(&clone, "clone"), bench.mount(&crashed, "crashed"));
    assert_eq!(fs::read(cloned.join("file")).unwrap(), b"before");
    assert_eq!(fs::read(crashed_at.join("synced")).unwrap(), b"in the log");
    fs::write(cloned.join("file"), b"the clone's own").unwrap();
    rustix::fs::sync();
    assert_eq!(fs::read(folder.join("file")).unwrap(), b"after");
    // It filled its larger volume at the mount, and grows while it is mounted.
    let usage = |at: &Path| bench.driver().usage(clone.id, at).unwrap();
    assert_eq!((usage(&cloned).total_bytes, usage(&cloned).inodes), (300 * MIB, None));
    bench.driver().expand(clone.id, 400 * MIB).unwrap();
    bench.driver().grow_filesystem(clone.id).unwrap();
    assert_eq!(usage(&cloned).total_bytes, 400 * MIB);

    // A snapshot of it is quiesced, and each can be mounted again.
    assert!(bench.snapshot(&clone, "own").quiesced);
    for (volume, name) in [(&clone, "clone"), (&crashed, "crashed"), (&volume, "source")] {
        bench.driver().unmount(volume.id, None).unwrap();
        bench.mount(volume, name);
        bench.driver().unmount(volume.id, None).unwrap();
        bench.driver().delete(volume.id).unwrap();
    }
    assert_eq!(bench.inventory().loops, 0);
}

#[test]
fn a_clone_of_xfs_with_a_log_that_was_not_replayed_is_mounted_beside_its_source() {
    let Some(bench) = Bench::new() else { return };
    let volume = bench.create("source", 300, VolumeKind::Xfs);
    let folder = bench.mount(&volume, "source");
    let images = bench.driver().pool_root().join("volumes");
    let image = fs::read_dir(&images).unwrap().next().unwrap().unwrap().path();
    let crashed = bench.create("crashed", 300, VolumeKind::Xfs);
    let file = fs::File::create(folder.join("synced")).unwrap();
    file.write_all_at(b"in the log", 0).unwrap();
    file.sync_all().unwrap();
    drop(file);
    // As a crash leaves it: nothing is frozen when it is copied so.
    let other = fs::read_dir(&images).unwrap().map(|entry| entry.unwrap().path());
    let other = other.into_iter().find(|path| *path != image).unwrap();
    let (from, to) =
        (fs::File::open(&image).unwrap(), fs::OpenOptions::new().write(true).open(&other).unwrap());
    rustix::fs::ioctl_ficlone(&to, &from).unwrap();
    drop((from, to));
    let crashed_at = bench.mount(&crashed, "crashed");
    assert_eq!(fs::read(crashed_at.join("synced")).unwrap(), b"in the log");
    assert_eq!(bench.driver().volume(crashed.id).unwrap().condition, None);
}
