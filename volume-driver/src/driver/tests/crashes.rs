//! The driver is killed at every step of every operation, and again while it recovers; its next start makes things
//! whole.
//!
//! Nothing is listed by hand: each operation is done once to see by which crash points it comes, then once more for
//! each of them. That no point of the source is missed is a test of its own.

mod scenarios;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::crash;
use crate::driver::Driver;
use crate::nouns::{Access, MountUse};
use crate::registry::VolumeStep;
use crate::requests::SnapshotFilter;
use crate::testing::{Bench, Scratch, can_mount, settings, world};

pub(crate) use scenarios::act;
use scenarios::{SCENARIOS, Scenario, scenario};

/// Paths as the kernel writes them.
fn folder(bench: &Bench) -> PathBuf {
    fs::canonicalize(bench.scratch.path("")).unwrap()
}

/// Everything is removed, and without a trace.
fn wipe(bench: &Bench) {
    let driver = bench.driver();
    for volume in driver.volumes().unwrap() {
        for mount in volume.mounts.iter().filter(|mount| mount.purpose == MountUse::Published) {
            driver.unpublish(volume.id, &mount.path).unwrap();
        }
        for mount in volume.mounts.iter().filter(|mount| mount.purpose == MountUse::Staged) {
            driver.unstage(volume.id, &mount.path).unwrap();
        }
        for mount in volume.mounts.iter().filter(|mount| mount.purpose == MountUse::Docker) {
            driver.unmount(volume.id, Some(&mount.path)).unwrap();
        }
        driver.unmount(volume.id, None).unwrap();
        driver.detach_from_node(volume.id, None).unwrap();
        driver.delete(volume.id).unwrap();
    }
    for delivery in driver.deliveries().unwrap() {
        driver.forget_delivery(delivery.point).unwrap();
    }
    for group in driver.groups().unwrap() {
        driver.delete_group(group.id, None).unwrap();
    }
    for snapshot in driver.snapshots(&SnapshotFilter::default()).unwrap() {
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

/// Registry, pool, loop devices and mounts agree, and nothing is half done.
fn assert_sound(bench: &Bench, case: &str) {
    let driver = bench.driver();
    let rows = driver.registry.volumes().unwrap();
    let mounts = driver.registry.all_mounts().unwrap();
    assert!(rows.iter().all(|row| row.step != VolumeStep::Creating), "{case}: {rows:?}");
    assert!(driver.registry.snapshots().unwrap().iter().all(|row| row.ready), "{case}");
    assert!(driver.registry.discarded().unwrap().is_empty(), "{case}");
    assert!(mounts.iter().all(|row| row.done), "{case}: {mounts:?}");

    let found = bench.inventory();
    let named = |folder: &str, names: Vec<String>| {
        let mut names: Vec<String> =
            names.iter().filter_map(|name| name.strip_prefix(folder)).map(str::to_owned).collect();
        names.sort();
        names
    };
    let images = rows.iter().map(|row| row.image.to_string()).collect();
    let snapshots = driver.registry.snapshots().unwrap();
    let snapshots = snapshots.iter().map(|row| row.image().to_string()).collect();
    assert_eq!(found.images, named("volumes/", images), "{case}");
    assert_eq!(found.snapshots, named("snapshots/", snapshots), "{case}");
    assert_eq!(found.fresh, Vec::<String>::new(), "{case}");
    let volumes = driver.volumes().unwrap();
    for (volume, row) in volumes.iter().zip(&rows) {
        let needs_device = row.step == VolumeStep::Hydrating || !volume.mounts.is_empty();
        assert_eq!(volume.device.is_some(), needs_device, "{case}: {volume:?}");
        assert_eq!(volume.condition, None, "{case}");
    }
    assert_eq!(found.loops, volumes.iter().filter(|volume| volume.device.is_some()).count(), "{case}");
    let shown = mounts.iter().filter(|row| row.mount.access == Access::Mount).count();
    assert_eq!(found.mounts, shown, "{case}: {mounts:?}");
    // None is frozen: a frozen one would not let this return, and nextest ends the test.
    for row in mounts.iter().filter(|row| row.mount.access == Access::Mount && !row.mount.readonly) {
        fs::write(row.mount.path.join("written"), case).unwrap();
    }
}

/// Where the scenario comes by.
fn points_of(bench: &Bench, scenario: &Scenario) -> Vec<&'static str> {
    (scenario.before)(bench);
    let ((), points) = crash::recorded(|| (scenario.act)(bench.driver(), &folder(bench)));
    wipe(bench);
    assert!(!points.is_empty(), "{}", scenario.name);
    points
}

/// What has to be true after the start behind a death.
fn assert_mended(bench: &Bench, scenario: &Scenario, case: &str) {
    assert_sound(bench, case);
    (scenario.after)(bench, case);
    // The caller asks again.
    (scenario.act)(bench.driver(), &folder(bench));
    assert_sound(bench, case);
    (scenario.done)(bench, case);
    wipe(bench);
}

/// Kills the driver at each point of the scenario, and at each point of the start behind each of these deaths.
fn die_everywhere(name: &str) {
    let Some(mut bench) = Bench::new() else { return };
    let scenario = scenario(name);
    let thorough = std::env::var_os("STRONGROOM_EVERY_DEATH").is_some();
    let mut cases = 0;
    for point in points_of(&bench, scenario) {
        let case = format!("{name} killed at {point}");
        (scenario.before)(&bench);
        bench.crash_only(name, point);
        let ((), on_recovery) = crash::recorded(|| bench.restart());
        assert_mended(&bench, scenario, &case);
        cases += 1;
        // Those that each start comes by, also one with nothing to do, change nothing: once in a night is enough.
        for second in on_recovery.into_iter().filter(|second| thorough || !second.starts_with("start.")) {
            let case = format!("{case}, and starting at {second}");
            (scenario.before)(&bench);
            bench.crash_only(name, point);
            bench.crash_only("start", second);
            bench.restart();
            assert_mended(&bench, scenario, &case);
            cases += 1;
        }
    }
    println!("{name}: {cases} deaths");
}

macro_rules! deaths {
    ($($test:ident: $scenario:literal,)*) => {
        $(#[test]
        fn $test() {
            die_everywhere($scenario);
        })*

        #[test]
        fn every_scenario_has_its_test() {
            let tested = BTreeSet::from([$($scenario),*]);
            assert_eq!(tested, SCENARIOS.iter().map(|scenario| scenario.name).collect());
        }
    };
}

deaths! {
    creating_an_empty_volume: "create",
    creating_a_raw_volume: "create-raw",
    creating_a_volume_from_a_snapshot: "from-snapshot",
    creating_a_larger_volume_from_a_mounted_one: "clone",
    deleting_a_volume: "delete",
    expanding_a_volume: "expand",
    expanding_a_mounted_volume: "expand-mounted",
    staging_and_publishing_a_folder: "publish",
    staging_and_publishing_a_device: "publish-raw",
    mounting_by_hand: "mount",
    mounting_for_docker: "docker",
    publishing_an_inline_volume: "inline",
    growing_before_a_mount: "grow",
    taking_and_deleting_a_snapshot: "snapshot",
    taking_a_snapshot_of_a_device: "snapshot-raw",
    delivering_a_snapshot_to_the_agent: "delivery",
    grouping: "group",
    grouping_devices: "group-raw",
    attaching_and_modifying: "attach",
    bringing_a_snapshot_to_the_agent: "delivery",
    restoring: "restore",
    giving_a_restore_up: "discard",
    exchanging_content: "exchange",
}

/// Making a pool is killed too, on a folder of its own each time.
#[test]
fn making_a_pool() {
    if !can_mount() {
        return;
    }
    for point in points_of_a_first_start() {
        let mut bench = Bench::before_its_first_start();
        bench.crash("start", point);
        assert_sound(&bench, point);
        assert_eq!(bench.report, Vec::<String>::new(), "{point}");
        bench.create("db", 16, crate::nouns::VolumeKind::Ext4);
        wipe(&bench);
    }
}

fn points_of_a_first_start() -> Vec<&'static str> {
    let scratch = Scratch::new();
    crash::recorded(|| Driver::open(settings(&scratch), world()).unwrap()).1
}

#[test]
fn no_crash_point_of_the_source_is_passed_over() {
    let Some(mut bench) = Bench::new() else { return };
    let mut met: BTreeSet<String> = points_of_a_first_start().into_iter().map(str::to_owned).collect();
    for scenario in &SCENARIOS {
        met.extend(points_of(&bench, scenario).into_iter().map(str::to_owned));
    }
    // Recovery has points of its own; a death in the middle of an exchange and one of a create come by them all.
    for (name, point) in
        [("create", "create.made"), ("exchange", "exchange.saved"), ("publish", "stage.intended")]
    {
        (scenario(name).before)(&bench);
        bench.crash_only(name, point);
        met.extend(crash::recorded(|| bench.restart()).1.into_iter().map(str::to_owned));
        wipe(&bench);
    }
    // And one that finds a mount gone.
    (scenario("snapshot").before)(&bench);
    rustix::mount::unmount(bench.scratch.path("m"), rustix::mount::UnmountFlags::empty()).unwrap();
    met.extend(crash::recorded(|| bench.restart()).1.into_iter().map(str::to_owned));
    let all = crash::points_of_the_source();
    println!("{} crash points: {all:?}", all.len());
    let missed: Vec<_> = all.difference(&met).collect();
    assert!(missed.is_empty(), "no scenario comes by {missed:?}");
}

#[test]
fn a_freeze_ends_without_the_driver_that_asked_for_it() {
    let Some(mut bench) = Bench::new() else { return };
    (scenario("snapshot").before)(&bench);
    bench.crash_only("snapshot", "snapshot.frozen");
    // No driver runs now: only the watchdog can have thawed it. `timeout` because a frozen write never returns.
    let file = bench.scratch.path("m/written");
    let written =
        std::process::Command::new("timeout").args(["-s", "KILL", "10", "touch"]).arg(&file).status();
    assert!(written.unwrap().success());
    bench.restart();
    wipe(&bench);
}
