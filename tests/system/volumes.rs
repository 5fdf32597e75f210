//! The main path with the driver: a volume is written to, backed up by its changes, and brought back beside and in place.

use std::fs;
use std::path::Path;

use crate::content::{change_blocks, checksums, write_files};
use crate::ground::{Ground, text};
use crate::kernel::{is_root, sh};

const MIB: u64 = 1 << 20;

fn main_path(mut ground: Ground, fs_kind: &str) {
    ground.init();
    ground.start_driver("4GiB");
    let mount = ground.path("mnt");
    fs::create_dir(&mount).expect("a mount point can be made");
    ground.run(["volume", "create", "db", "--size", "1GiB", "--fs", fs_kind]).ok();
    ground.run(["volume", "mount", "db", text(&mount)]).ok();
    write_files(&mount, 40, 500_000, 1);

    let first = ground.back_up_volume("db");
    assert!(first["new_bytes"].as_u64() >= Some(20_000_000), "{first}");
    let before = checksums(&mount);

    let second = ground.back_up_volume("db");
    // A freeze makes a mounted filesystem write down what it still had in memory: a few blocks of its own.
    assert!(second["scanned_bytes"].as_u64() <= Some(2 * MIB), "nobody wrote between: {second}");

    // One per cent of one file: the second backup follows the change.
    change_blocks(&mount.join("folder-0/file-0"), 20, 2);
    let after = checksums(&mount);
    let third = ground.back_up_volume("db");
    assert!(third["scanned_bytes"].as_u64() < Some(16 * MIB), "an incremental reads what changed: {third}");
    assert_eq!(third["mode"], "incremental", "{third}");

    fs::remove_dir_all(mount.join("folder-1")).expect("files can be deleted");
    fs::write(mount.join("folder-0/file-0"), "ruined").expect("a file can be ruined");
    let ruined = checksums(&mount);

    let points = ground.points("db");
    assert_eq!(points.len(), 3);

    // Beside.
    ground.run(["restore", "run", "--volume", "db", "--latest", "--to-volume", "db-beside", "--yes"]).ok();
    let beside = ground.path("beside");
    fs::create_dir(&beside).expect("a mount point can be made");
    ground.run(["volume", "mount", "db-beside", text(&beside)]).ok();
    assert_eq!(checksums(&beside), after, "the restored volume is the one that was backed up");

    // In place, to an older point, and undone.
    let run = ground
        .run(["restore", "run", "--volume", "db", "--point", &points[0], "--in-place", "--yes"])
        .ok()
        .json();
    assert_eq!(checksums(&mount), before, "the volume is as it was at the first point");
    let run = run["run"].as_str().expect("the run has an id").to_owned();
    ground.run(["restore", "undo", &run, "--yes"]).ok();
    assert_eq!(checksums(&mount), ruined, "the undo brings back exactly what was there");

    // The backups go on, with what the volume holds now.
    ground.back_up_volume("db");
    ground.run(["repository", "check", "--read-data"]).ok();
    ground.run(["volume", "unmount", "db"]).ok();
    ground.run(["volume", "unmount", "db-beside"]).ok();
    ground.stop_driver();
    ground.assert_nothing_leaks();
}

#[test]
fn a_volume_comes_back_beside_and_in_place_and_the_undo_undoes() {
    if is_root("a_volume_comes_back_beside_and_in_place_and_the_undo_undoes") {
        main_path(Ground::new(), "ext4");
    }
}

#[test]
fn a_volume_comes_back_from_a_real_bucket() {
    const NAME: &str = "a_volume_comes_back_from_a_real_bucket";
    if let Some(ground) = is_root(NAME).then(|| Ground::on_s3(NAME)).flatten() {
        main_path(ground, "xfs");
    }
}

/// The objects of a directory repository, by name.
fn objects(repository: &Path) -> Vec<String> {
    let listing = sh("find", &[text(repository), "-type", "f", "-printf", "%P\\n"]);
    let mut names: Vec<_> = listing.lines().map(str::to_owned).collect();
    names.sort();
    names
}

#[test]
fn an_unchanged_volume_costs_two_small_records_and_no_read() {
    if !is_root("an_unchanged_volume_costs_two_small_records_and_no_read") {
        return;
    }
    let mut ground = Ground::new();
    ground.init();
    ground.start_driver("4GiB");
    let mount = ground.mounted_volume("db", "1GiB");
    write_files(&mount, 10, 500_000, 1);
    ground.back_up_volume("db");
    ground.run(["volume", "unmount", "db"]).ok();
    ground.back_up_volume("db");
    let before = objects(&ground.path("repository"));

    let run = ground.back_up_volume("db");
    assert_eq!(run["scanned_bytes"], 0, "{run}");
    assert_eq!(run["changed_bytes"], 0, "{run}");
    assert!(run["requests"].as_u64() <= Some(12), "an unchanged volume costs few requests: {run}");
    let added: Vec<_> =
        objects(&ground.path("repository")).into_iter().filter(|name| !before.contains(name)).collect();
    assert_eq!(added.len(), 2, "two records and nothing else: {added:?}");
    for name in added {
        assert!(name.starts_with("journal/"), "{name}");
        let bytes = fs::metadata(ground.path("repository").join(&name)).expect("it was listed").len();
        assert!(bytes < 4096, "{name} has {bytes} bytes");
    }
    ground.stop_driver();
    ground.assert_nothing_leaks();
}

#[test]
fn a_volume_holds_what_it_says_and_not_a_byte_more() {
    if !is_root("a_volume_holds_what_it_says_and_not_a_byte_more") {
        return;
    }
    let mut ground = Ground::new();
    ground.start_driver("2GiB");
    ground.run(["volume", "create", "raw", "--size", "64MiB", "--fs", "block"]).ok();
    let mount = ground.mounted_volume("small", "64MiB");
    let full =
        fs::write(mount.join("too-large"), vec![1_u8; 80_000_000]).expect_err("64 MiB cannot hold 80 MB");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    fs::remove_file(mount.join("too-large")).expect("the file can be deleted");
    ground.run(["volume", "expand", "small", "--size", "128MiB"]).ok();
    // Growing a mounted ext4 needs a right that a container may lack; the next mount grows it in any case.
    ground.run(["volume", "unmount", "small"]).ok();
    ground.run(["volume", "mount", "small", text(&mount)]).ok();
    fs::write(mount.join("fits-now"), vec![1_u8; 80_000_000]).expect("128 MiB can hold 80 MB");
    ground.run(["volume", "unmount", "small"]).ok();
    ground.run(["volume", "delete", "small"]).ok();
    ground.run(["volume", "delete", "raw"]).ok();
    ground.stop_driver();
    ground.assert_nothing_leaks();
}

#[test]
fn volumes_begin_from_snapshots_from_volumes_and_from_points() {
    if !is_root("volumes_begin_from_snapshots_from_volumes_and_from_points") {
        return;
    }
    let mut ground = Ground::new();
    ground.init();
    ground.start_driver("2GiB");
    let mount = ground.mounted_volume("db", "256MiB");
    write_files(&mount, 10, 300_000, 1);
    let then = checksums(&mount);
    let snapshot = ground.run(["snapshot", "create", "db", "--name", "nightly"]).ok().json();
    let snapshot = snapshot["snapshot"]["id"].as_str().expect("an id").to_owned();
    ground.back_up_volume("db");
    let point = ground.points("db").remove(0);
    write_files(&mount, 3, 300_000, 9);
    let now = checksums(&mount);

    ground.run(["volume", "create", "from-snapshot", "--size", "256MiB", "--from-snapshot", &snapshot]).ok();
    ground.run(["volume", "create", "from-volume", "--size", "256MiB", "--from-volume", "db"]).ok();
    ground
        .run([
            "volume",
            "create",
            "from-point",
            "--size",
            "256MiB",
            "--from-point",
            &point,
            "--repository",
            ground.repository(),
        ])
        .ok();
    for (name, expected) in [("from-snapshot", &then), ("from-volume", &now), ("from-point", &then)] {
        let at = ground.path(name);
        fs::create_dir(&at).expect("a mount point can be made");
        ground.run(["volume", "mount", name, text(&at)]).ok();
        assert_eq!(&checksums(&at), expected, "{name}");
        ground.run(["volume", "unmount", name]).ok();
    }
    let listed = ground.run(["volume", "list"]).ok().json();
    assert_eq!(listed["volumes"].as_array().map(Vec::len), Some(4), "{listed}");
    ground.run(["volume", "unmount", "db"]).ok();
    ground.stop_driver();
    ground.assert_nothing_leaks();
}
