//! Filesystems that are not whole: damaged, stopped, or with their image gone.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use strongroom_model::Failure as _;

use crate::nouns::{Access, Outcome, Snapshot, Volume, VolumeKind};
use crate::requests::{PublishRequest, SnapshotFilter, StageRequest};
use crate::testing::Bench;

fn image(bench: &Bench, volume: &Volume) -> PathBuf {
    let folder = fs::read_dir(bench.driver().pool_root().join("volumes")).unwrap();
    let mut paths = folder.map(|entry| entry.unwrap().path());
    paths.find(|path| path.to_str().unwrap().contains(&volume.id.to_string())).unwrap()
}

fn debugfs(image: &Path, commands: &[&str]) {
    for command in commands {
        let done = Command::new("debugfs").args(["-w", "-R", command]).arg(image).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }
}

/// A volume with a file in it that was mounted and unmounted.
fn with_a_file(bench: &Bench, name: &str, mib: u64, kind: VolumeKind) -> (Volume, PathBuf) {
    let volume = bench.create(name, mib, kind);
    let folder = bench.mount(&volume, name);
    fs::write(folder.join("file"), b"precious").unwrap();
    bench.driver().unmount(volume.id, None).unwrap();
    (volume, folder)
}

fn saved(bench: &Bench, volume: &Volume) -> Vec<Snapshot> {
    let filter =
        SnapshotFilter { volume: Some(volume.id), owner: Some("driver".into()), ..Default::default() };
    bench.driver().snapshots(&filter).unwrap()
}

fn condition(bench: &Bench, volume: &Volume) -> Option<String> {
    bench.driver().volume(volume.id).unwrap().condition
}

#[test]
fn a_damaged_ext4_is_saved_then_repaired_then_mounted() {
    let Some(bench) = Bench::new() else { return };
    let (volume, folder) = with_a_file(&bench, "db", 64, VolumeKind::Ext4);
    // What a filesystem that met an error looks like.
    debugfs(&image(&bench, &volume), &["sif /file links_count 5", "ssv state 2"]);
    let found = fs::read(image(&bench, &volume)).unwrap();
    bench.driver().mount(volume.id, &folder, &[]).unwrap();
    assert_eq!(fs::read(folder.join("file")).unwrap(), b"precious");
    let saved_now = saved(&bench, &volume);
    assert_eq!(saved_now.len(), 1);
    assert!(saved_now[0].label.starts_with("before-repair-"));
    let kept = fs::read(bench.driver().open_snapshot(saved_now[0].id).unwrap()).unwrap();
    assert!(kept == found, "the snapshot is what was found");
    let told = condition(&bench, &volume).unwrap();
    assert!(told.contains("repaired") && told.contains(&saved_now[0].id.to_string()), "{told}");
    // The next mount finds nothing, and there is nothing to tell any more.
    bench.driver().unmount(volume.id, None).unwrap();
    bench.driver().mount(volume.id, &folder, &[]).unwrap();
    assert_eq!((condition(&bench, &volume), saved(&bench, &volume).len()), (None, 1));
}

#[test]
fn what_cannot_be_repaired_is_refused_and_saved_once() {
    let Some(bench) = Bench::new() else { return };
    let (volume, folder) = with_a_file(&bench, "db", 64, VolumeKind::Ext4);
    debugfs(&image(&bench, &volume), &["clri <2>", "ssv state 2"]);
    for _ in 0..3 {
        let refused = bench.driver().mount(volume.id, &folder, &[]).unwrap_err();
        assert!(refused.code() == "driver.filesystem" && refused.to_string().contains("snap-"), "{refused}");
    }
    assert_eq!(saved(&bench, &volume).len(), 1);
    assert!(condition(&bench, &volume).is_some());
    assert_eq!(bench.inventory().loops, 0, "nothing is left attached");
    // A filesystem that is not recognised at all is never made anew.
    let file = OpenOptions::new().write(true).open(image(&bench, &volume)).unwrap();
    file.write_all_at(&[0; 65_536], 0).unwrap();
    assert_eq!(bench.driver().mount(volume.id, &folder, &[]).unwrap_err().code(), "driver.filesystem");
    assert_eq!(
        bench.driver().open_snapshot(saved(&bench, &volume)[0].id).unwrap().metadata().unwrap().len(),
        volume.bytes
    );
}

#[test]
fn a_damaged_xfs_is_repaired_only_after_the_kernel_refused_it_and_after_a_snapshot() {
    let Some(bench) = Bench::new() else { return };
    let (volume, folder) = with_a_file(&bench, "db", 300, VolumeKind::Xfs);
    // The header of free space of the first group.
    let file = OpenOptions::new().write(true).open(image(&bench, &volume)).unwrap();
    file.write_all_at(&[0; 4096], 4096).unwrap();
    file.sync_all().unwrap();
    bench.driver().mount(volume.id, &folder, &[]).unwrap();
    assert_eq!(fs::read(folder.join("file")).unwrap(), b"precious");
    assert_eq!(saved(&bench, &volume).len(), 1);
    assert!(condition(&bench, &volume).unwrap().contains("repaired"));
}

#[test]
fn a_staged_filesystem_that_stopped_is_noticed_and_comes_back() {
    let Some(bench) = Bench::new() else { return };
    for (name, mib, kind) in [("ext4", 64, VolumeKind::Ext4), ("xfs", 300, VolumeKind::Xfs)] {
        let volume = bench.create(name, mib, kind);
        let staging = bench.scratch.path(name);
        let request = StageRequest {
            volume: volume.id,
            path: staging.clone(),
            access: Access::Mount,
            filesystem: None,
            options: Vec::new(),
        };
        bench.driver().stage(&request).unwrap();
        fs::write(staging.join("file"), b"precious").unwrap();
        rustix::fs::sync();
        let stopped = Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(&staging).output().unwrap();
        assert!(stopped.status.success(), "{stopped:?}");
        match bench.driver().usage(volume.id, &staging) {
            Ok(usage) => assert!(usage.condition.is_some(), "{name}"),
            Err(error) => panic!("{name}: {error}"),
        }
        let publish = PublishRequest {
            volume: volume.id,
            staging_path: staging.clone(),
            target: bench.scratch.path("target"),
            access: Access::Mount,
            readonly: false,
            options: Vec::new(),
            only_target: false,
        };
        assert_eq!(bench.driver().publish(&publish).unwrap_err().code(), "driver.filesystem");
        assert_eq!(bench.driver().stage(&request).unwrap(), Outcome::Created(()), "{name}: not the old one");
        assert_eq!(fs::read(staging.join("file")).unwrap(), b"precious");
        assert_eq!(bench.driver().usage(volume.id, &staging).unwrap().condition, None);
        bench.driver().unstage(volume.id, &staging).unwrap();
    }
}

#[test]
fn a_volume_whose_image_was_removed_is_not_deleted_under_its_user() {
    let Some(bench) = Bench::new() else { return };
    let volume = bench.create("db", 64, VolumeKind::Ext4);
    let folder = bench.mount(&volume, "mounted");
    fs::remove_file(image(&bench, &volume)).unwrap();
    fs::write(folder.join("file"), b"still works").unwrap();
    assert_eq!(bench.driver().delete(volume.id).unwrap_err().code(), "driver.in-use");
    assert!(condition(&bench, &volume).is_some());
    bench.driver().unmount(volume.id, None).unwrap();
    bench.driver().delete(volume.id).unwrap();
    assert_eq!(bench.inventory().loops, 0);
}

#[test]
fn errors_that_a_mounted_ext4_meets_are_told_and_mended_at_the_next_mount() {
    let Some(bench) = Bench::new() else { return };
    let volume = bench.create("db", 64, VolumeKind::Ext4);
    let folder = bench.mount(&volume, "db");
    let device = bench.driver().volume(volume.id).unwrap().device.unwrap();
    let name = device.file_name().unwrap().to_str().unwrap();
    let Ok(()) = fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "a test") else {
        println!("SKIPPED: this kernel does not make errors on demand");
        return;
    };
    // The kernel counts an error when its worker comes to it.
    let begun = std::time::Instant::now();
    let told = loop {
        match condition(&bench, &volume) {
            Some(told) => break told,
            None if begun.elapsed().as_secs() < 10 => {
                std::thread::sleep(std::time::Duration::from_millis(20))
            }
            None => panic!("nothing is told of the error"),
        }
    };
    assert!(told.contains("errors (1)"), "{told}");
    bench.driver().unmount(volume.id, None).unwrap();
    bench.driver().mount(volume.id, &folder, &[]).unwrap();
    let told = condition(&bench, &volume).unwrap();
    assert!(told.contains("snap-") && saved(&bench, &volume).len() == 1, "{told}");
    bench.driver().unmount(volume.id, None).unwrap();
    bench.driver().mount(volume.id, &folder, &[]).unwrap();
    assert_eq!(condition(&bench, &volume), None);
}
