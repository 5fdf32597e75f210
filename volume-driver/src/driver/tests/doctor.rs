//! The doctor finds what is wrong, says what it would do, does exactly that, and finds nothing more.

use std::fs;

use super::restarts::{now, publish, stage};
use crate::driver::Driver;
use crate::findings::{Finding, Repair, Repaired, Severity};
use crate::nouns::VolumeKind;
use crate::testing::{Bench, settings, volume_request, world};

/// What is wrong with the volumes, apart from the machine the tests run on.
fn found(driver: &Driver) -> Vec<Finding> {
    let mut found = driver.examine(false).unwrap();
    found.retain(|finding| !finding.code.starts_with("capability") && !finding.code.starts_with("program"));
    found
}

fn codes(driver: &Driver) -> Vec<String> {
    let mut codes: Vec<String> = found(driver).into_iter().map(|finding| finding.code).collect();
    codes.sort();
    codes
}

fn plan(driver: &Driver) -> Vec<Repair> {
    found(driver).into_iter().filter_map(|finding| finding.repair).collect()
}

#[test]
fn a_healthy_driver_has_no_findings() {
    let Some(bench) = Bench::new() else { return };
    let db = bench.create("db", 64, VolumeKind::Ext4);
    stage(&bench, &db);
    publish(&bench, &db);
    bench.snapshot(&db, "s");
    assert_eq!(found(bench.driver()), []);
}

#[test]
fn what_is_lost_or_left_over_is_found_and_repaired_and_nothing_is_changed_before() {
    let Some(mut bench) = Bench::new() else { return };
    let (db, idle) = (bench.create("db", 64, VolumeKind::Ext4), bench.create("idle", 16, VolumeKind::Ext4));
    let attached = bench.create("attached", 16, VolumeKind::Ext4);
    let path = bench.mount(&db, "m");
    rustix::mount::unmount(&path, rustix::mount::UnmountFlags::empty()).unwrap();
    stage(&bench, &idle);
    let row = bench.driver().registry.volume(attached.id).unwrap().unwrap();
    bench.driver().backend.attach(&row.image).unwrap();
    fs::write(bench.driver().pool_root().join("volumes/stranger"), b"x").unwrap();
    let gone = bench.create("gone", 16, VolumeKind::Ext4);
    bench.snapshot(&gone, "s");
    bench.driver().delete(gone.id).unwrap();

    let expected =
        ["device.unused", "device.unused", "file.unknown", "mount.lost", "snapshot.orphaned", "staged.idle"];
    assert_eq!(codes(bench.driver()), expected);
    assert_eq!(codes(bench.driver()), expected, "looking changes nothing");
    let steps = plan(bench.driver());
    let outcomes = bench.driver().carry_out(&steps, false).unwrap();
    // Forgetting the mount took its device away as well.
    assert!(
        outcomes.iter().all(|outcome| matches!(outcome, Repaired::Done | Repaired::Gone)),
        "{outcomes:?}"
    );
    assert_eq!(codes(bench.driver()), ["file.unknown", "snapshot.orphaned", "staged.idle"]);
    assert_eq!(bench.driver().carry_out(&steps, false).unwrap(), vec![Repaired::Gone; steps.len()]);

    // What its orchestrator forgot goes only when a person says so.
    let unstage: Vec<Repair> =
        bench.driver().examine(true).unwrap().into_iter().filter_map(|finding| finding.repair).collect();
    assert!(matches!(unstage[..], [Repair::Unstage { .. }]), "{unstage:?}");
    assert_eq!(bench.driver().carry_out(&unstage, true).unwrap(), [Repaired::Done]);
    assert!(now(&bench, &idle).mounts.is_empty());
    bench.restart();
    assert_eq!(bench.inventory().loops, 0);
}

#[test]
fn what_a_death_left_half_done_is_found_and_repaired_without_a_driver() {
    let Some(mut bench) = Bench::new() else { return };
    bench.create("db", 64, VolumeKind::Ext4);
    for (scenario, point, code) in [
        ("create", "create.made", "volume.half-made"),
        ("snapshot", "snapshot.cut", "snapshot.half-made"),
        ("publish", "publish.bound", "mount.half-made"),
    ] {
        bench.crash_only(scenario, point);
        let looking = Driver::look(settings(&bench.scratch), world()).unwrap();
        assert!(codes(&looking).iter().any(|found| found == code), "{code}: {:?}", codes(&looking));
        let steps = plan(&looking);
        assert!(looking.carry_out(&steps, false).unwrap().iter().all(|outcome| *outcome != Repaired::Gone));
        assert!(codes(&looking).iter().all(|found| found == "staged.idle"), "{:?}", codes(&looking));
        drop(looking);
    }
    bench.restart();
}

#[test]
fn the_doctor_looks_at_nothing_while_a_driver_runs_and_makes_no_pool() {
    let Some(bench) = Bench::new() else { return };
    let refused = Driver::look(settings(&bench.scratch), world()).unwrap_err();
    assert_eq!(strongroom_model::Failure::code(&refused), "driver.in-use");
    let elsewhere = crate::testing::Scratch::new();
    let refused = Driver::look(settings(&elsewhere), world()).unwrap_err();
    assert_eq!(strongroom_model::Failure::code(&refused), "driver.not-found");
    assert!(!elsewhere.path("pool").exists() && !elsewhere.path("state").exists());
}

#[test]
fn a_registry_that_was_lost_is_made_again_from_the_images() {
    let Some(mut bench) = Bench::new() else { return };
    let db = bench.create("db", 64, VolumeKind::Ext4);
    fs::write(bench.mount(&db, "m").join("file"), b"precious").unwrap();
    let snapshot = bench.snapshot(&db, "before");
    bench.driver().unmount(db.id, None).unwrap();
    let raw = bench.create("raw", 16, VolumeKind::Block);
    let request = super::in_place::begin("unfinished", &raw);
    bench.driver().begin_restore(&request).unwrap();
    // One that says nothing of itself, as of a driver before notes.
    let old = bench.create("old", 32, VolumeKind::Ext4);
    let row = bench.driver().registry.volume(old.id).unwrap().unwrap();
    let path = bench.driver().pool_root().join(row.image.as_str());
    rustix::fs::removexattr(&path, "user.strongroom").unwrap();
    let before = bench.driver().volumes().unwrap();
    bench.driver = None;
    for entry in fs::read_dir(bench.scratch.path("state")).unwrap() {
        let _ = fs::remove_file(entry.unwrap().path());
    }
    bench.restart();
    assert!(bench.driver().volumes().unwrap().is_empty());

    let steps = plan(bench.driver());
    assert_eq!(steps.len(), 5, "{steps:?}");
    assert!(found(bench.driver()).iter().any(|finding| finding.severity == Severity::Problem));
    assert_eq!(bench.driver().carry_out(&steps, false).unwrap(), vec![Repaired::Done; 5]);
    bench.restart();
    for volume in before.iter().filter(|volume| volume.name.as_str() != "old") {
        let again = now(&bench, volume);
        assert_eq!((&again.name, again.kind, again.bytes), (&volume.name, volume.kind, volume.bytes));
        assert_eq!((&again.labels, again.state), (&volume.labels, volume.state));
        assert_eq!(again.created_at, volume.created_at);
    }
    let found_again =
        bench.driver().volumes().unwrap().into_iter().find(|volume| volume.id == old.id).unwrap();
    assert_eq!((found_again.kind, found_again.bytes), (VolumeKind::Ext4, old.bytes));
    assert_eq!(found_again.name.as_str(), format!("found-{}", old.id));
    let again = bench.driver().snapshot(snapshot.id).unwrap();
    assert_eq!((again.volume, again.label.as_str()), (db.id, "before"));
    assert_eq!(fs::read(bench.mount(&db, "m").join("file")).unwrap(), b"precious");
    bench.driver().create(&volume_request("raw", 16, VolumeKind::Block)).unwrap().agreed().unwrap();
}
