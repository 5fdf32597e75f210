//! What the driver does when it is killed: each operation, what has to be there before, and what has to be true after
//! the next start and after the same request was made again.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use strongroom_model::VolumeId;

use crate::driver::Driver;
use crate::driver::tests::groups::grouped;
use crate::driver::tests::in_place::{begin, exchange};
use crate::nouns::{Access, Attachment, ContentSource, Volume, VolumeKind, VolumeState};
use crate::requests::{
    BeginRestore, Changes, CreateVolume, PublishRequest, SizeRange, SnapshotFilter, StageRequest,
};
use crate::testing::{Bench, MIB, snapshot_request, volume_request};

/// One operation.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// Makes what has to be there.
    pub(super) before: fn(&Bench),
    /// The operation, in the process that will be killed and once more after that. The folder holds all paths.
    pub(super) act: fn(&Driver, &Path),
    /// What has to be true after the start behind the death. The text names the case.
    pub(super) after: fn(&Bench, &str),
    /// What has to be true after the operation was asked for once more.
    pub(super) done: fn(&Bench, &str),
}

pub(super) fn scenario(name: &str) -> &'static Scenario {
    SCENARIOS.iter().find(|scenario| scenario.name == name).unwrap()
}

/// In the process that will be killed.
pub(crate) fn act(driver: &Driver, name: &str, folder: &Path) {
    (scenario(name).act)(driver, &fs::canonicalize(folder).unwrap());
}

pub(super) static SCENARIOS: [Scenario; 23] = [
    Scenario {
        name: "inline",
        before: db,
        act: |driver, folder| {
            let request = crate::driver::tests::inline::request("csi-1", folder.join("pod"));
            driver.publish_ephemeral(&request).unwrap();
            assert!(driver.unpublish_ephemeral("csi-1", &folder.join("pod")).unwrap());
        },
        after: db_is_precious,
        done: |bench, case| assert!(!bench.scratch.path("pod").exists(), "{case}"),
    },
    Scenario {
        name: "create",
        before: db,
        act: |driver, _| drop(driver.create(&volume_request("new", 32, VolumeKind::Ext4)).unwrap()),
        after: db_is_precious,
        done: new_can_be_mounted,
    },
    Scenario {
        name: "create-raw",
        before: db,
        act: |driver, _| drop(driver.create(&volume_request("new", 32, VolumeKind::Block)).unwrap()),
        after: db_is_precious,
        done: |bench, case| assert_eq!(named(bench.driver(), "new").bytes, 32 * MIB, "{case}"),
    },
    Scenario {
        name: "from-snapshot",
        before: |bench| {
            db(bench);
            bench.snapshot(&named(bench.driver(), "db"), "s");
        },
        act: |driver, _| {
            let snapshot = driver.snapshots(&SnapshotFilter::default()).unwrap().remove(0);
            clone(driver, ContentSource::Snapshot(snapshot.id), 0);
        },
        after: db_is_precious,
        done: new_is_precious,
    },
    Scenario {
        name: "clone",
        before: |bench| {
            db(bench);
            bench.mount(&named(bench.driver(), "db"), "db");
        },
        act: |driver, _| clone(driver, ContentSource::Volume(named(driver, "db").id), 96 * MIB),
        after: db_is_precious,
        done: |bench, case| {
            new_is_precious(bench, case);
            let usage = bench.driver().usage(named(bench.driver(), "new").id, &bench.scratch.path("new"));
            assert!(usage.unwrap().total_bytes > 70 * MIB, "{case}");
        },
    },
    Scenario {
        name: "delete",
        before: |bench| {
            db(bench);
            // Attached, so that deleting also has to take the device away.
            let other = begin("other", &named(bench.driver(), "db"));
            bench.driver().begin_restore(&other).unwrap();
            let other = named(bench.driver(), "other").id;
            bench.driver().finish_restore(other).unwrap();
        },
        act: |driver, _| {
            if let Some(other) = driver.volume_named(&"other".parse().unwrap()).unwrap() {
                driver.delete(other.id).unwrap();
            }
        },
        after: db_is_precious,
        done: |bench, case| assert_eq!(bench.inventory().images.len(), 1, "{case}"),
    },
    Scenario {
        name: "expand",
        before: db,
        act: |driver, _| {
            driver.expand(named(driver, "db").id, 128 * MIB).unwrap();
        },
        after: |bench, case| {
            assert_eq!(named(bench.driver(), "db").bytes, 128 * MIB, "{case}: promised and forgotten");
            db_is_precious(bench, case);
        },
        done: db_has_grown,
    },
    Scenario {
        name: "expand-mounted",
        before: |bench| {
            let volume = bench.create("db", 320, VolumeKind::Xfs);
            fs::write(bench.mount(&volume, "db").join("file"), b"precious").unwrap();
        },
        act: |driver, _| {
            let id = named(driver, "db").id;
            driver.expand(id, 400 * MIB).unwrap();
            driver.grow_filesystem(id).unwrap();
        },
        after: db_is_precious,
        done: |bench, case| {
            db_has_grown(bench, case);
            let usage = bench.driver().usage(named(bench.driver(), "db").id, &bench.scratch.path("db"));
            assert!(usage.unwrap().total_bytes > 320 * MIB, "{case}");
        },
    },
    Scenario {
        name: "publish",
        before: db,
        act: |driver, folder| publish_and_back(driver, folder, Access::Mount),
        after: nothing_was_lost,
        done: db_is_precious,
    },
    Scenario {
        name: "publish-raw",
        before: |bench| {
            bench.create("db", 16, VolumeKind::Block);
        },
        act: |driver, folder| publish_and_back(driver, folder, Access::Block),
        after: |_, _| {},
        done: |bench, case| assert_eq!(bench.inventory().loops, 0, "{case}"),
    },
    Scenario {
        name: "mount",
        before: db,
        act: |driver, folder| {
            fs::create_dir_all(folder.join("m")).unwrap();
            let db = named(driver, "db").id;
            driver.mount(db, &folder.join("m"), &[]).unwrap();
            driver.unmount(db, None).unwrap();
        },
        after: nothing_was_lost,
        done: db_is_precious,
    },
    Scenario {
        name: "docker",
        before: db,
        act: |driver, folder| {
            let db = named(driver, "db").id;
            driver.docker_mount(db, "container", &folder.join("docker/db")).unwrap();
            driver.docker_unmount(db, "container").unwrap();
        },
        after: nothing_was_lost,
        done: db_is_precious,
    },
    Scenario {
        name: "grow",
        before: |bench| {
            db(bench);
            bench.driver().expand(named(bench.driver(), "db").id, 128 * MIB).unwrap();
        },
        act: |driver, folder| {
            fs::create_dir_all(folder.join("db")).unwrap();
            driver.mount(named(driver, "db").id, &folder.join("db"), &[]).unwrap();
        },
        after: nothing_was_lost,
        done: db_has_grown,
    },
    Scenario {
        name: "snapshot",
        before: |bench| {
            db(bench);
            bench.mount(&named(bench.driver(), "db"), "m");
        },
        act: |driver, _| {
            let db = named(driver, "db");
            let taken = driver.create_snapshot(&snapshot_request(&db, "s")).unwrap().agreed().unwrap();
            driver.delete_snapshot(taken.id).unwrap();
        },
        after: nothing_was_lost,
        done: |bench, case| assert!(bench.inventory().snapshots.is_empty(), "{case}"),
    },
    Scenario {
        name: "delivery",
        before: |bench| {
            db(bench);
            bench.mount(&named(bench.driver(), "db"), "m");
        },
        act: |driver, _| {
            let db = named(driver, "db");
            let labels = [("why".to_owned(), "upgrade".to_owned())].into();
            let taken = driver.begin_delivery(db.id, "nightly", &labels).unwrap();
            driver.finish_delivery(taken.point, None).unwrap();
            driver.forget_delivery(taken.point).unwrap();
        },
        after: nothing_was_lost,
        done: |bench, case| {
            assert!(bench.inventory().snapshots.is_empty(), "{case}");
            assert!(bench.driver().deliveries().unwrap().is_empty(), "{case}");
        },
    },
    Scenario {
        name: "snapshot-raw",
        before: |bench| {
            let volume = bench.create("db", 16, VolumeKind::Block);
            let staging = bench.scratch.folder("staging");
            bench.driver().stage(&stage(volume.id, &staging, Access::Block)).unwrap();
            let device = named(bench.driver(), "db").device.unwrap();
            let device = fs::OpenOptions::new().write(true).open(device).unwrap();
            device.write_all_at(b"precious", 0).unwrap();
        },
        act: |driver, _| {
            let db = named(driver, "db");
            driver.create_snapshot(&snapshot_request(&db, "s")).unwrap().agreed().unwrap();
        },
        after: |_, _| {},
        done: |bench, case| {
            let snapshot = bench.driver().snapshots(&SnapshotFilter::default()).unwrap().remove(0);
            let image = fs::read(bench.driver().open_snapshot(snapshot.id).unwrap()).unwrap();
            assert_eq!(image[..8], *b"precious", "{case}");
        },
    },
    Scenario {
        name: "group",
        before: |bench| {
            db(bench);
            bench.mount(&named(bench.driver(), "db"), "m");
            bench.create("other", 8, VolumeKind::Block);
        },
        act: |driver, _| {
            let volumes = [named(driver, "db"), named(driver, "other")];
            let taken = grouped(driver, "g", &[&volumes[0], &volumes[1]]);
            driver.delete_group(taken.id, None).unwrap();
        },
        after: |bench, case| {
            nothing_was_lost(bench, case);
            let (groups, members) = (bench.driver().groups().unwrap(), bench.inventory().snapshots.len());
            assert!(groups.is_empty() && members == 0, "{case}: half of a group");
        },
        done: nothing_was_lost,
    },
    Scenario {
        name: "group-raw",
        before: |bench| {
            for name in ["db", "other"] {
                let volume = bench.create(name, 8, VolumeKind::Block);
                let staging = bench.scratch.folder(name);
                bench.driver().stage(&stage(volume.id, &staging, Access::Block)).unwrap();
            }
        },
        act: |driver, _| {
            let volumes = [named(driver, "db"), named(driver, "other")];
            grouped(driver, "g", &[&volumes[0], &volumes[1]]);
        },
        after: |bench, case| {
            let groups = bench.driver().groups().unwrap();
            assert_eq!(bench.inventory().snapshots.len(), 2 * groups.len(), "{case}: half of a group");
        },
        done: |bench, case| assert_eq!(bench.inventory().snapshots.len(), 2, "{case}"),
    },
    Scenario {
        name: "attach",
        before: db,
        act: |driver, _| {
            let db = named(driver, "db").id;
            let here = Attachment { node: "test".to_owned(), readonly: false, only_target: true };
            driver.attach_to_node(db, &here).unwrap().agreed().unwrap();
            let labels = [("tier".to_owned(), Some("gold".to_owned()))].into();
            driver.modify(db, &Changes { labels, ..Changes::default() }).unwrap();
            driver.detach_from_node(db, None).unwrap();
        },
        after: db_is_precious,
        done: |bench, case| {
            assert_eq!(named(bench.driver(), "db").labels["tier"], "gold", "{case}");
            db_is_precious(bench, case);
        },
    },
    Scenario {
        name: "delivery",
        before: |bench| {
            db(bench);
            bench.mount(&named(bench.driver(), "db"), "m");
        },
        act: |driver, _| {
            let delivery = driver.begin_delivery(named(driver, "db").id, "nightly", &[].into()).unwrap();
            driver.finish_delivery(delivery.point, None).unwrap();
            driver.forget_delivery(delivery.point).unwrap();
        },
        after: |bench, case| {
            nothing_was_lost(bench, case);
            let waiting = bench.driver().deliveries().unwrap().len();
            assert!(bench.inventory().snapshots.len() <= waiting, "{case}");
        },
        done: |bench, case| {
            assert!(bench.inventory().snapshots.is_empty(), "{case}");
            assert!(bench.driver().deliveries().unwrap().is_empty(), "{case}");
        },
    },
    Scenario {
        name: "restore",
        before: |bench| {
            db(bench);
            bench.snapshot(&named(bench.driver(), "db"), "s");
        },
        act: |driver, _| {
            // Whoever restores asks again only for what is not finished.
            let known = driver.volume_named(&"new".parse().unwrap()).unwrap();
            let finished = known.as_ref().is_some_and(|volume| volume.state == VolumeState::Ready);
            if !finished {
                let request = restore_of_the_snapshot(driver, "new");
                let target = driver.begin_restore(&request).unwrap().agreed().unwrap();
                driver.finish_restore(target.volume.id).unwrap();
            }
        },
        after: db_is_precious,
        done: new_is_precious,
    },
    Scenario {
        name: "discard",
        before: db,
        act: |driver, _| {
            let request = begin("new", &named(driver, "db"));
            let target = driver.begin_restore(&request).unwrap().agreed().unwrap();
            driver.discard_restore(target.volume.id).unwrap();
        },
        after: db_is_precious,
        done: |bench, case| assert_eq!(bench.inventory().images.len(), 1, "{case}"),
    },
    Scenario {
        name: "exchange",
        before: |bench| {
            db(bench);
            let volume = named(bench.driver(), "db");
            let folder = bench.mount(&volume, "db");
            bench.snapshot(&volume, "old");
            fs::write(folder.join("file"), b"spoilt").unwrap();
            bench.driver().begin_restore(&restore_of_the_snapshot(bench.driver(), "staged")).unwrap();
        },
        act: |driver, folder| {
            let db = named(driver, "db");
            // The caller knows the id of the staged volume also when that is gone.
            let known = folder.join("staged-id");
            if let Some(staged) = driver.volume_named(&"staged".parse().unwrap()).unwrap() {
                fs::write(&known, staged.id.to_string()).unwrap();
            }
            let staged: VolumeId = fs::read_to_string(&known).unwrap().parse().unwrap();
            let staged = Volume { id: staged, ..db.clone() };
            driver.exchange_content(&exchange(&db, &staged, "run")).unwrap().agreed().unwrap();
        },
        // Mounted again, with all of the old or all of the new.
        after: |bench, case| {
            let switched = bench.driver().volume_named(&"staged".parse().unwrap()).unwrap().is_none();
            let expected: &[u8] = if switched { b"precious" } else { b"spoilt" };
            assert_eq!(fs::read(bench.scratch.path("db/file")).unwrap(), expected, "{case}");
            assert_eq!(bench.inventory().snapshots.len(), if switched { 2 } else { 1 }, "{case}");
        },
        done: |bench, case| {
            assert_eq!(fs::read(bench.scratch.path("db/file")).unwrap(), b"precious", "{case}");
            assert_eq!(bench.inventory().images.len(), 1, "{case}");
        },
    },
];

fn named(driver: &Driver, name: &str) -> Volume {
    driver.volume_named(&name.parse().unwrap()).unwrap().unwrap()
}

/// The volume `db`, holding a file, mounted nowhere.
fn db(bench: &Bench) {
    let db = bench.create("db", 64, VolumeKind::Ext4);
    let folder = bench.mount(&db, "db");
    fs::write(folder.join("file"), b"precious").unwrap();
    bench.driver().unmount(db.id, None).unwrap();
}

fn clone(driver: &Driver, source: ContentSource, bytes: u64) {
    let request = CreateVolume {
        name: "new".parse().unwrap(),
        size: SizeRange::of(bytes),
        kind: None,
        source: Some(source),
        labels: [].into(),
        limits: crate::IoLimits::NONE,
    };
    driver.create(&request).unwrap().agreed().unwrap();
}

fn restore_of_the_snapshot(driver: &Driver, name: &str) -> BeginRestore {
    let snapshot = driver.snapshots(&SnapshotFilter::default()).unwrap().remove(0);
    BeginRestore { from_snapshot: Some(snapshot.id), ..begin(name, &named(driver, "db")) }
}

fn stage(volume: VolumeId, path: &Path, access: Access) -> StageRequest {
    StageRequest { volume, path: path.to_owned(), access, filesystem: None, options: Vec::new() }
}

fn publish_and_back(driver: &Driver, folder: &Path, access: Access) {
    let volume = named(driver, "db").id;
    let (staging_path, target) = (folder.join("staging"), folder.join("target"));
    fs::create_dir_all(&staging_path).unwrap();
    driver.stage(&stage(volume, &staging_path, access)).unwrap().agreed().unwrap();
    let publish = PublishRequest {
        volume,
        staging_path: staging_path.clone(),
        target: target.clone(),
        access,
        readonly: access == Access::Mount,
        options: Vec::new(),
        only_target: true,
    };
    driver.publish(&publish).unwrap().agreed().unwrap();
    if access == Access::Mount {
        assert_eq!(fs::read(target.join("file")).unwrap(), b"precious");
        let written = fs::write(target.join("file"), b"changed");
        assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    }
    driver.unpublish(volume, &target).unwrap();
    driver.unstage(volume, &staging_path).unwrap();
}

/// What a volume holds: where it is mounted, or mounted for this moment.
fn content(bench: &Bench, name: &str) -> Vec<u8> {
    let volume = named(bench.driver(), name);
    if let Some(mount) = volume.mounts.first() {
        return fs::read(mount.path.join("file")).unwrap();
    }
    let folder = bench.mount(&volume, name);
    let content = fs::read(folder.join("file")).unwrap();
    bench.driver().unmount(volume.id, None).unwrap();
    content
}

fn db_is_precious(bench: &Bench, case: &str) {
    assert_eq!(content(bench, "db"), b"precious", "{case}");
}

fn nothing_was_lost(bench: &Bench, case: &str) {
    let db = named(bench.driver(), "db");
    for mount in db.mounts {
        assert_eq!(fs::read(mount.path.join("file")).unwrap(), b"precious", "{case}");
    }
}

fn new_is_precious(bench: &Bench, case: &str) {
    db_is_precious(bench, case);
    new_can_be_mounted(bench, case);
    assert_eq!(fs::read(bench.scratch.path("new/file")).unwrap(), b"precious", "{case}");
}

fn new_can_be_mounted(bench: &Bench, case: &str) {
    let folder = bench.mount(&named(bench.driver(), "new"), "new");
    fs::write(folder.join("written"), case).unwrap();
}

fn db_has_grown(bench: &Bench, case: &str) {
    db_is_precious(bench, case);
    let db = named(bench.driver(), "db");
    let folder = match db.mounts.first() {
        Some(mount) => mount.path.clone(),
        None => bench.mount(&db, "db"),
    };
    let usage = bench.driver().usage(db.id, &folder).unwrap();
    assert!(usage.total_bytes > 100 * MIB, "{case}: {usage:?}");
}
