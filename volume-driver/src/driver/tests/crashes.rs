//! The driver is killed between any two steps; its next start makes things whole.

use std::fs;
use std::path::Path;

use strongroom_model::VolumeId;

use crate::driver::Driver;
use crate::driver::tests::in_place::{begin, exchange};
use crate::nouns::{Access, Outcome, Volume, VolumeKind};
use crate::requests::{BeginRestore, CreateVolume, PublishRequest, SizeRange, StageRequest};
use crate::testing::{Bench, MIB, snapshot_request, volume_request};

fn named(driver: &Driver, name: &str) -> Volume {
    driver.volume_named(&name.parse().unwrap()).unwrap().unwrap()
}

fn stage(volume: VolumeId, folder: &Path) -> StageRequest {
    StageRequest {
        volume,
        path: folder.join("staging"),
        access: Access::Mount,
        filesystem: None,
        options: Vec::new(),
    }
}

fn publish(volume: VolumeId, folder: &Path) -> PublishRequest {
    PublishRequest {
        volume,
        staging_path: folder.join("staging"),
        target: folder.join("target"),
        access: Access::Mount,
        readonly: false,
        options: Vec::new(),
        only_target: true,
    }
}

/// What the process does that will be killed. The volume `db` exists.
pub(crate) fn run_scenario(driver: &Driver, scenario: &str, folder: &Path) {
    let db = named(driver, "db");
    match scenario {
        "create" => drop(driver.create(&volume_request("new", 64, VolumeKind::Ext4)).unwrap()),
        "clone" => {
            let source = Some(crate::nouns::ContentSource::Volume(db.id));
            let size = SizeRange::of(0);
            let request = CreateVolume {
                name: "new".parse().unwrap(),
                size,
                kind: None,
                source,
                labels: [].into(),
                limits: crate::IoLimits::NONE,
            };
            driver.create(&request).unwrap();
        }
        "delete" => driver.delete(named(driver, "other").id).unwrap(),
        "expand" => drop(driver.expand(db.id, 128 * MIB).unwrap()),
        "stage" => drop(driver.stage(&stage(db.id, folder)).unwrap()),
        "publish" => {
            driver.stage(&stage(db.id, folder)).unwrap();
            driver.publish(&publish(db.id, folder)).unwrap();
            driver.unpublish(db.id, &folder.join("target")).unwrap();
            driver.unstage(db.id, &folder.join("staging")).unwrap();
        }
        "mount" => {
            driver.mount(db.id, &folder.join("m"), &[]).unwrap();
            driver.unmount(db.id, None).unwrap();
        }
        "snapshot" => {
            driver.mount(db.id, &folder.join("m"), &[]).unwrap();
            let taken = driver.create_snapshot(&snapshot_request(&db, "s")).unwrap().agreed().unwrap();
            driver.delete_snapshot(taken.id).unwrap();
        }
        "restore" => {
            let target = driver.begin_restore(&begin("new", &db)).unwrap().agreed().unwrap();
            driver.finish_restore(target.volume.id).unwrap();
        }
        "discard" => {
            let target = driver.begin_restore(&begin("new", &db)).unwrap().agreed().unwrap();
            driver.discard_restore(target.volume.id).unwrap();
        }
        "exchange" => {
            let staged = named(driver, "staged");
            driver.exchange_content(&exchange(&db, &staged, "run")).unwrap();
        }
        other => panic!("{other}"),
    }
}

/// After a crash the same request succeeds, and then everything can be removed without a trace.
fn finish(bench: &Bench) {
    let driver = bench.driver();
    for volume in driver.volumes().unwrap() {
        for mount in volume.mounts.iter().filter(|mount| mount.purpose == crate::nouns::MountUse::Published) {
            driver.unpublish(volume.id, &mount.path).unwrap();
        }
        for mount in volume.mounts.iter().filter(|mount| mount.purpose == crate::nouns::MountUse::Staged) {
            driver.unstage(volume.id, &mount.path).unwrap();
        }
        driver.unmount(volume.id, None).unwrap();
        driver.delete(volume.id).unwrap();
    }
    for snapshot in driver.snapshots(&crate::requests::SnapshotFilter::default()).unwrap() {
        driver.delete_snapshot(snapshot.id).unwrap();
    }
    let left = bench.inventory();
    assert!(
        left.images.is_empty()
            && left.snapshots.is_empty()
            && left.fresh.is_empty()
            && left.loops == 0
            && left.mounts == 0,
        "{left:?}"
    );
    assert!(driver.registry_is_quiet());
}

/// A driver with the volume `db`, mounted once so that it holds a file.
fn prepared() -> Option<Bench> {
    let bench = Bench::new()?;
    let db = bench.create("db", 64, VolumeKind::Ext4);
    let folder = bench.mount(&db, "m");
    fs::write(folder.join("file"), b"precious").unwrap();
    bench.driver().unmount(db.id, None).unwrap();
    Some(bench)
}

fn content(bench: &Bench) -> Vec<u8> {
    let db = named(bench.driver(), "db");
    let folder = bench.mount(&db, "m");
    fs::read(folder.join("file")).unwrap()
}

#[test]
fn creating_and_deleting() {
    for (scenario, point) in [
        ("create", "create.promised"),
        ("create", "create.made"),
        ("clone", "create.promised"),
        ("clone", "create.made"),
        ("restore", "restore.promised"),
        ("restore", "restore.made"),
        ("restore", "restore.sealed"),
        ("discard", "restore.dropped"),
        ("discard", "collect.removed"),
    ] {
        let Some(mut bench) = prepared() else { return };
        bench.crash(scenario, point);
        let new = bench.driver().volume_named(&"new".parse().unwrap()).unwrap();
        assert_eq!(new.is_some(), point == "restore.sealed", "{scenario} {point}");
        if scenario != "discard" {
            run_scenario(bench.driver(), scenario, Path::new("/"));
        }
        assert_eq!(content(&bench), b"precious", "{scenario} {point}");
        finish(&bench);
    }
    for point in ["delete.dropped", "collect.removed"] {
        let Some(mut bench) = prepared() else { return };
        bench.create("other", 64, VolumeKind::Ext4);
        bench.crash("delete", point);
        assert_eq!(bench.inventory().images.len(), 1, "{point}");
        finish(&bench);
    }
}

#[test]
fn expanding() {
    for point in ["expand.promised", "expand.grown"] {
        let Some(mut bench) = prepared() else { return };
        bench.crash("expand", point);
        let db = named(bench.driver(), "db");
        assert_eq!(db.bytes, 128 * MIB);
        assert_eq!(content(&bench), b"precious", "{point}");
        let usage = bench.driver().usage(db.id, &bench.scratch.path("m")).unwrap();
        assert!(usage.total_bytes > 100 * MIB, "{point}: {usage:?}");
        finish(&bench);
    }
}

#[test]
fn mounting() {
    for (scenario, point) in [
        ("stage", "stage.intended"),
        ("stage", "stage.mounted"),
        ("publish", "publish.intended"),
        ("publish", "publish.mounted"),
        ("publish", "unpublish.unmounted"),
        ("publish", "unstage.unmounted"),
        ("mount", "mount.intended"),
        ("mount", "mount.mounted"),
        ("mount", "unmount.unmounted"),
    ] {
        let Some(mut bench) = prepared() else { return };
        bench.crash(scenario, point);
        let folder = bench.scratch.path("");
        let folder = fs::canonicalize(&folder).unwrap();
        run_scenario(bench.driver(), scenario, &folder);
        assert_eq!(content(&bench), b"precious", "{scenario} {point}");
        finish(&bench);
    }
}

#[test]
fn snapshotting() {
    for point in
        ["snapshot.intended", "snapshot.frozen", "snapshot.cut", "snapshot.dropped", "collect.removed"]
    {
        let Some(mut bench) = prepared() else { return };
        bench.crash("snapshot", point);
        // Not frozen any more, even where it died in the middle of the freeze.
        fs::write(bench.scratch.path("m/file"), b"written").unwrap();
        assert!(bench.inventory().snapshots.is_empty(), "{point}");
        run_scenario(bench.driver(), "snapshot", &bench.scratch.path(""));
        finish(&bench);
    }
}

#[test]
fn exchanging() {
    for (point, switched) in [
        ("exchange.begun", false),
        ("exchange.unmounted", false),
        ("snapshot.intended", false),
        ("snapshot.cut", false),
        ("exchange.saved", false),
        ("exchange.switched", true),
        ("exchange.remounted", true),
        ("collect.removed", true),
    ] {
        let Some(mut bench) = prepared() else { return };
        let db = named(bench.driver(), "db");
        let folder = bench.mount(&db, "m");
        let old = bench.snapshot(&db, "old");
        fs::write(folder.join("file"), b"spoilt").unwrap();
        let restored = BeginRestore { from_snapshot: Some(old.id), ..begin("staged", &db) };
        let staged = bench.driver().begin_restore(&restored).unwrap().agreed().unwrap().volume;
        bench.crash("exchange", point);

        // Mounted again, with all of the old or all of the new.
        let expected: &[u8] = if switched { b"precious" } else { b"spoilt" };
        assert_eq!(fs::read(folder.join("file")).unwrap(), expected, "{point}");
        assert_eq!(bench.inventory().snapshots.len(), if switched { 2 } else { 1 }, "{point}");
        let outcome = bench.driver().exchange_content(&exchange(&db, &staged, "run")).unwrap();
        assert_eq!(matches!(outcome, Outcome::Identical(_)), switched, "{point}: {outcome:?}");
        assert_eq!(fs::read(folder.join("file")).unwrap(), b"precious", "{point}");
        assert_eq!(bench.inventory().images.len(), 1, "{point}");
        finish(&bench);
    }
}

#[test]
fn a_freeze_ends_without_the_driver_that_asked_for_it() {
    let Some(mut bench) = prepared() else { return };
    bench.crash_only("snapshot", "snapshot.frozen");
    // No driver runs now: only the watchdog can have thawed it. `timeout` because a frozen write never returns.
    let file = bench.scratch.path("m/written");
    let written =
        std::process::Command::new("timeout").args(["-s", "KILL", "10", "touch"]).arg(&file).status();
    assert!(written.unwrap().success());
    bench.restart();
    finish(&bench);
}
