//! Staging and publishing.

use std::fs;
use std::path::PathBuf;

use strongroom_model::Failure as _;

use crate::loop_device;
use crate::nouns::{Access, Filesystem, MountUse, Outcome, Volume, VolumeKind};
use crate::requests::{PublishRequest, StageRequest};
use crate::testing::Bench;

fn stage(volume: &Volume, path: PathBuf, access: Access) -> StageRequest {
    StageRequest { volume: volume.id, path, access, filesystem: None, options: Vec::new() }
}

fn publish(volume: &Volume, staging_path: PathBuf, target: PathBuf, access: Access) -> PublishRequest {
    let (readonly, only_target) = (false, false);
    PublishRequest {
        volume: volume.id,
        staging_path,
        target,
        access,
        readonly,
        options: Vec::new(),
        only_target,
    }
}

#[test]
fn a_folder_is_staged_published_and_taken_away_again_each_step_twice() {
    let Some(bench) = Bench::new() else { return };
    let driver = bench.driver();
    let volume = bench.create("db", 64, VolumeKind::Ext4);
    let staging = bench.scratch.path("staging");
    let request = stage(&volume, staging.clone(), Access::Mount);
    assert_eq!(driver.stage(&request).unwrap(), Outcome::Created(()));
    assert_eq!(driver.stage(&request).unwrap(), Outcome::Identical(()));
    let otherwise = StageRequest { options: vec!["noatime".to_owned()], ..request.clone() };
    assert!(matches!(driver.stage(&otherwise).unwrap(), Outcome::Conflict { .. }));
    fs::write(staging.join("file"), b"x").unwrap();

    let target = bench.scratch.path("target");
    let request = publish(&volume, staging.clone(), target.clone(), Access::Mount);
    assert_eq!(driver.publish(&request).unwrap(), Outcome::Created(()));
    assert_eq!(driver.publish(&request).unwrap(), Outcome::Identical(()));
    assert_eq!(fs::read(target.join("file")).unwrap(), b"x");
    let readonly = PublishRequest { readonly: true, ..request.clone() };
    assert!(matches!(driver.publish(&readonly).unwrap(), Outcome::Conflict { .. }));

    let second =
        PublishRequest { target: bench.scratch.path("second"), only_target: true, ..request.clone() };
    assert_eq!(driver.publish(&second).unwrap_err().code(), "driver.in-use");
    let second = PublishRequest { readonly: true, only_target: false, ..second };
    driver.publish(&second).unwrap();
    assert_eq!(
        fs::write(second.target.join("file"), b"y").unwrap_err().kind(),
        std::io::ErrorKind::ReadOnlyFilesystem
    );

    assert_eq!(driver.unstage(volume.id, &staging).unwrap_err().code(), "driver.in-use");
    assert_eq!(driver.volume(volume.id).unwrap().mounts.len(), 3);
    for target in [&target, &second.target, &target] {
        driver.unpublish(volume.id, target).unwrap();
        assert!(!target.exists());
    }
    driver.unstage(volume.id, &staging).unwrap();
    driver.unstage(volume.id, &staging).unwrap();
    let left = bench.inventory();
    assert!(left.loops == 0 && left.mounts == 0, "{left:?}");
    assert!(driver.volume(volume.id).unwrap().mounts.is_empty());
}

#[test]
fn a_raw_volume_is_published_as_a_device() {
    let Some(bench) = Bench::new() else { return };
    let driver = bench.driver();
    let volume = bench.create("raw", 16, VolumeKind::Block);
    let (staging, target) = (bench.scratch.folder("staging"), bench.scratch.path("target"));
    let refused = driver.stage(&stage(&volume, staging.clone(), Access::Mount)).unwrap_err();
    assert_eq!(refused.code(), "driver.refused");
    let request = publish(&volume, staging.clone(), target.clone(), Access::Block);
    assert_eq!(driver.publish(&request).unwrap_err().code(), "driver.not-ready");

    driver.stage(&stage(&volume, staging.clone(), Access::Block)).unwrap();
    assert_eq!(driver.publish(&request).unwrap(), Outcome::Created(()));
    assert_eq!(driver.publish(&request).unwrap(), Outcome::Identical(()));
    let device = fs::OpenOptions::new().read(true).write(true).open(&target).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&device, b"data", 4096).unwrap();
    drop(device);
    assert_eq!(driver.delete(volume.id).unwrap_err().code(), "driver.in-use");

    // Flushed before the cut, though nobody asked the writer to.
    let snapshot = bench.snapshot(&volume, "raw");
    let image = fs::read(driver.open_snapshot(snapshot.id).unwrap()).unwrap();
    assert!(!snapshot.quiesced && image[4096..4100] == *b"data");

    driver.unpublish(volume.id, &target).unwrap();
    assert!(!target.exists());
    driver.unstage(volume.id, &staging).unwrap();
    assert_eq!(bench.inventory().loops, 0);
}

#[test]
fn what_is_asked_of_the_wrong_kind_or_place_is_refused() {
    let Some(bench) = Bench::new() else { return };
    let driver = bench.driver();
    let volume = bench.create("db", 64, VolumeKind::Ext4);
    let staging = bench.scratch.path("staging");
    let good = stage(&volume, staging, Access::Mount);
    for bad in [
        StageRequest { filesystem: Some(Filesystem::Xfs), ..good.clone() },
        StageRequest { options: vec!["journal_path=/dev/sda".to_owned()], ..good.clone() },
        StageRequest { path: "relative".into(), ..good.clone() },
        StageRequest { path: "/".into(), ..good.clone() },
        StageRequest { path: driver.pool_root().join("volumes"), ..good.clone() },
        StageRequest { path: bench.scratch.path(""), ..good.clone() },
    ] {
        assert_eq!(driver.stage(&bad).unwrap_err().code(), "driver.refused", "{bad:?}");
    }
    assert_eq!(bench.inventory().loops, 0);
}

#[test]
fn a_restarted_driver_knows_what_is_mounted_and_forgets_what_is_not() {
    let Some(mut bench) = Bench::new() else { return };
    let (db, raw) = (bench.create("db", 64, VolumeKind::Ext4), bench.create("raw", 16, VolumeKind::Block));
    let staging = bench.scratch.path("staging");
    bench.driver().stage(&stage(&db, staging.clone(), Access::Mount)).unwrap();
    bench.driver().stage(&stage(&raw, bench.scratch.folder("raw"), Access::Block)).unwrap();
    let hand = bench.mount(&db, "hand");
    let before = bench.driver().volume(db.id).unwrap();
    bench.restart();
    assert_eq!(bench.report, Vec::<String>::new());
    assert_eq!(bench.driver().volume(db.id).unwrap(), before);

    // As after a reboot: mounts and devices are gone.
    bench.driver = None;
    for path in [&hand, &staging] {
        rustix::mount::unmount(path, rustix::mount::UnmountFlags::empty()).unwrap();
    }
    for (device, _) in loop_device::below(&bench.scratch.path("pool/mounted")) {
        assert!(
            std::process::Command::new("losetup").arg("-d").arg(device.path()).status().unwrap().success()
        );
    }
    bench.restart();
    assert!(bench.report.iter().any(|line| line.contains("no longer mounted")), "{:?}", bench.report);
    assert!(bench.driver().volume(db.id).unwrap().mounts.is_empty());
    // Raw: attached again, since that is all that its staging is.
    let mounts = bench.driver().volume(raw.id).unwrap().mounts;
    assert!(mounts.len() == 1 && mounts[0].purpose == MountUse::Staged, "{mounts:?}");
    assert_eq!(bench.inventory().loops, 1);
}

#[test]
fn one_image_never_has_two_loop_devices() {
    let Some(bench) = Bench::new() else { return };
    let volume = bench.create("db", 64, VolumeKind::Ext4);
    let image =
        fs::read_dir(bench.driver().pool_root().join("volumes")).unwrap().next().unwrap().unwrap().path();
    // Even under another name.
    let alias = bench.driver().pool_root().join("alias.img");
    fs::hard_link(&image, &alias).unwrap();
    let devices: Vec<_> = std::thread::scope(|scope| {
        let attaching: Vec<_> = (0..8)
            .map(|number| {
                let path = if number % 2 == 0 { &image } else { &alias };
                scope.spawn(move || loop_device::attach(path).unwrap())
            })
            .collect();
        attaching.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(devices.windows(2).all(|pair| pair[0] == pair[1]), "{devices:?}");
    assert!(devices[0].is_direct());
    // Attached by a name that is not ours now, perhaps: the device still is found by what it holds.
    fs::remove_file(&alias).unwrap();
    let _ = volume;
    let mount = bench.scratch.folder("m");
    bench.driver().mount(volume.id, &mount, &[]).unwrap();
    bench.driver().unmount(volume.id, None).unwrap();
}

#[test]
fn a_mount_namespace_that_keeps_a_device_is_noticed_and_named() {
    let Some(bench) = Bench::new() else { return };
    let volume = bench.create("db", 64, VolumeKind::Ext4);
    let folder = bench.mount(&volume, "mounted");
    // It keeps nothing but this one mount: other tests run at the same time.
    let script = r#"
        while read -r _ _ _ _ at _; do
            case "$at" in "$0") ;; /tmp/* | /dev/shm/*) umount -l "$at" ;; esac
        done < /proc/self/mountinfo
        echo ready; exec sleep 60"#;
    let mut other = std::process::Command::new("unshare")
        .args(["-m", "--propagation", "private", "sh", "-c", script])
        .arg(fs::canonicalize(&folder).unwrap())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut ready = [0; 5];
    std::io::Read::read_exact(other.stdout.as_mut().unwrap(), &mut ready).unwrap();
    let refused = bench.driver().unmount(volume.id, Some(&folder)).unwrap_err();
    assert!(refused.code() == "driver.in-use" && refused.to_string().contains("namespace"), "{refused}");
    assert_eq!(bench.driver().delete(volume.id).unwrap_err().code(), "driver.in-use");
    other.kill().unwrap();
    other.wait().unwrap();
    bench.driver().delete(volume.id).unwrap();
    assert_eq!(bench.inventory().loops, 0);
}

#[test]
fn nothing_is_mounted_or_made_outside_of_the_roots_whatever_the_path_says() {
    let Some(bench) = Bench::new() else { return };
    let driver = bench.driver();
    let volume = bench.create("db", 64, VolumeKind::Ext4);
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), bench.scratch.path("link")).unwrap();
    let staging = bench.scratch.path("staging");
    for path in [outside.path().join("a"), bench.scratch.path("link/a"), bench.scratch.path("link")] {
        let refused = driver.stage(&stage(&volume, path.clone(), Access::Mount)).unwrap_err();
        assert_eq!(refused.code(), "driver.refused", "{}", path.display());
    }
    driver.stage(&stage(&volume, staging.clone(), Access::Mount)).unwrap();
    for path in [outside.path().join("a"), bench.scratch.path("link/a"), bench.scratch.path("link")] {
        let request = publish(&volume, staging.clone(), path.clone(), Access::Mount);
        assert_eq!(driver.publish(&request).unwrap_err().code(), "driver.refused", "{}", path.display());
        assert!(driver.usage(volume.id, &path).is_err());
        // A folder of somebody else is not removed either.
        let _ = driver.unpublish(volume.id, &path);
    }
    assert!(fs::read_dir(outside.path()).unwrap().next().is_none());
    assert!(bench.scratch.path("link").is_symlink());

    // Staged, and then a link stands where it was published.
    let target = bench.scratch.folder("pods").join("a");
    driver.publish(&publish(&volume, staging.clone(), target.clone(), Access::Mount)).unwrap();
    let moved = bench.scratch.path("moved");
    fs::rename(bench.scratch.path("pods"), &moved).unwrap();
    std::os::unix::fs::symlink(outside.path(), bench.scratch.path("pods")).unwrap();
    fs::create_dir(outside.path().join("a")).unwrap();
    assert!(driver.unpublish(volume.id, &target).is_err());
    assert!(outside.path().join("a").is_dir(), "what the link leads to was not touched");
    fs::remove_file(bench.scratch.path("pods")).unwrap();
    fs::rename(&moved, bench.scratch.path("pods")).unwrap();
    driver.unpublish(volume.id, &target).unwrap();
    driver.unstage(volume.id, &staging).unwrap();
    assert_eq!(bench.inventory().loops, 0);
}

#[test]
fn what_was_published_before_the_roots_changed_can_be_taken_away() {
    let Some(mut bench) = Bench::new() else { return };
    let volume = bench.create("db", 64, VolumeKind::Ext4);
    let (staging, target) = (bench.scratch.path("staging"), bench.scratch.path("target"));
    bench.driver().stage(&stage(&volume, staging.clone(), Access::Mount)).unwrap();
    bench.driver().publish(&publish(&volume, staging.clone(), target.clone(), Access::Mount)).unwrap();
    bench.driver = None;
    let mut settings = crate::testing::settings(&bench.scratch);
    settings.mount_roots = vec!["/var/lib/kubelet".into()];
    let (driver, _) = crate::driver::Driver::open(settings, crate::testing::world()).unwrap();
    driver.unpublish(volume.id, &target).unwrap();
    driver.unstage(volume.id, &staging).unwrap();
    let refused = driver.stage(&stage(&volume, staging, Access::Mount)).unwrap_err();
    assert!(refused.to_string().contains("--mount-root"), "{refused}");
    assert!(!target.exists() && driver.volume(volume.id).unwrap().mounts.is_empty());
    bench.driver = Some(driver);
}

/// Many images of databases want a folder that is theirs alone.
#[test]
fn a_volume_whose_root_folder_is_closed_to_others_is_used_like_any() {
    let Some(bench) = Bench::new() else { return };
    let driver = bench.driver();
    let volume = bench.create("db", 64, VolumeKind::Ext4);
    let (staging, target) = (bench.scratch.path("staging"), bench.scratch.path("target"));
    driver.stage(&stage(&volume, staging.clone(), Access::Mount)).unwrap();
    std::os::unix::fs::chown(&staging, Some(999), Some(999)).unwrap();
    fs::set_permissions(&staging, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    assert_eq!(
        driver.stage(&stage(&volume, staging.clone(), Access::Mount)).unwrap(),
        Outcome::Identical(())
    );
    driver.publish(&publish(&volume, staging.clone(), target.clone(), Access::Mount)).unwrap();
    assert!(driver.usage(volume.id, &target).unwrap().condition.is_none());
    assert!(bench.snapshot(&volume, "s").quiesced);
    driver.share_with_group(volume.id, &target, 999).unwrap();
    driver.unpublish(volume.id, &target).unwrap();
    driver.unstage(volume.id, &staging).unwrap();
}

#[test]
fn a_link_that_appears_between_the_look_and_the_mount_moves_no_mount() {
    let Some(bench) = Bench::new() else { return };
    let driver = bench.driver();
    let volume = bench.create("db", 64, VolumeKind::Ext4);
    let row = driver.registry.volume(volume.id).unwrap().unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir(outside.path().join("a")).unwrap();
    let place = driver.roots.place(&bench.scratch.folder("pods").join("a")).unwrap();
    let folder = place.make_folder().unwrap();
    // Now somebody is quick.
    fs::rename(bench.scratch.path("pods"), bench.scratch.path("moved")).unwrap();
    std::os::unix::fs::symlink(outside.path(), bench.scratch.path("pods")).unwrap();
    let refused = driver.attach_and_mount(&row, Filesystem::Ext4, (&place, &folder), &[]).unwrap_err();
    assert!(refused.code() == "driver.refused" && refused.to_string().contains("moved"), "{refused}");
    assert!(fs::read_dir(outside.path().join("a")).unwrap().next().is_none());
    assert_eq!(bench.inventory().mounts, 0, "neither there nor where the folder went");
    driver.delete(volume.id).unwrap();
}
