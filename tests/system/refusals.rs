//! What goes wrong in the surroundings: a clear error with code and next step, and nothing lost.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::content::{assert_same, write_image};
use crate::ground::{Ground, text};
use crate::kernel::{is_root, sh, small_disk};

const MIB: u64 = 1 << 20;

/// A repository with one point of a volume `disk`.
fn with_a_point() -> Ground {
    let ground = Ground::new();
    ground.init();
    write_image(&ground.path("disk.img"), 64 * MIB, 8 * MIB, 1);
    ground.back_up_image("disk", &ground.path("disk.img")).ok();
    ground
}

#[test]
fn a_wrong_key_is_said_to_be_wrong() {
    let ground = with_a_point();
    let stranger = Ground::new();
    stranger.init();
    let answer = ground.call(["points", "list", "--key-file", text(&stranger.key())]).run();
    answer.refused(1, "key.wrong");
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let ground = with_a_point();
    fs::set_permissions(ground.key(), fs::Permissions::from_mode(0o644)).expect("the mode can be set");
    ground.call(["points", "list"]).run().refused(1, "key.exposed");
}

#[test]
fn a_key_is_made_for_its_owner_alone_and_never_overwritten() {
    let ground = with_a_point();
    let mode = fs::metadata(ground.key()).expect("the key is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let key = fs::read(ground.key()).expect("the key can be read");
    let elsewhere = format!("file://{}", ground.path("second").display());
    ground.call(["init", "--repository", &elsewhere, "--key-file", text(&ground.key())]).run().ok();
    assert_eq!(fs::read(ground.key()).expect("the key can be read"), key);
}

#[test]
fn where_no_repository_is_none_is_found_and_none_is_made() {
    let ground = with_a_point();
    let nowhere = format!("file://{}", ground.path("nowhere").display());
    for line in [
        vec!["points", "list"],
        vec!["repository", "check"],
        vec!["backup", "image", "--volume", "x", "/dev/null"],
    ] {
        let answer = ground.call(line).args(["--repository", &nowhere]).run();
        assert!(answer.code.is_some_and(|code| code != 0), "{answer}");
        assert!(answer.stderr.contains("next: "), "{answer}");
    }
    assert!(!ground.path("nowhere").exists(), "looking must not make it");
}

#[test]
fn a_second_init_harms_nothing() {
    let ground = with_a_point();
    ground
        .call(["init", "--repository", ground.repository(), "--key-file", text(&ground.key())])
        .run()
        .refused(1, "init.exists");
    assert_eq!(ground.points("disk").len(), 1);
}

#[test]
fn a_missing_bucket_and_refused_credentials_are_told_apart() {
    let Some(ground) = Ground::on_s3("a_missing_bucket_and_refused_credentials_are_told_apart") else {
        return;
    };
    ground.init();
    let missing = ground.call(["points", "list", "--repository", "s3://no-such-bucket-at-all/x"]).run();
    missing.refused(1, "store.no-such-place");
    let refused = ground
        .call(["points", "list"])
        .env("AWS_SECRET_ACCESS_KEY", "wrong")
        .run()
        .refused(1, "store.refused");
    assert!(!refused.stderr.contains("wrong\n"), "{refused}");
    let nobody = ground.call(["points", "list"]).env("AWS_ENDPOINT_URL", "http://127.0.0.1:9").run();
    assert_eq!(nobody.code, Some(5), "a server that is down may come back: {nobody}");
}

#[test]
fn a_full_target_loses_nothing_and_the_restore_goes_on_when_there_is_room() {
    if !is_root("a_full_target_loses_nothing_and_the_restore_goes_on_when_there_is_room") {
        return;
    }
    let ground = Ground::new();
    ground.init();
    let image = ground.path("disk.img");
    write_image(&image, 128 * MIB, 60 * MIB, 2);
    ground.back_up_image("disk", &image).ok();
    let disk = small_disk(&ground.path("small"), "48M");
    let target = disk.join("back.img");
    let answer = ground.restore_to_file("disk", &["--latest"], &target);
    assert_eq!(answer.code, Some(1), "{answer}");
    assert!(answer.stderr.to_lowercase().contains("space") || answer.stderr.contains("full"), "{answer}");
    assert!(!target.exists() || fs::read(&target).ok() != fs::read(&image).ok());
    // Room is made: the disk grows.
    sh("umount", &[text(&disk)]);
    sh("truncate", &["-s", "160M", text(&ground.path("small.disk"))]);
    sh("e2fsck", &["-fp", text(&ground.path("small.disk"))]);
    sh("resize2fs", &[text(&ground.path("small.disk"))]);
    sh("mount", &["-o", "loop", text(&ground.path("small.disk")), text(&disk)]);
    ground.restore_to_file("disk", &["--latest"], &target).ok();
    assert_same(&image, &target);
    sh("umount", &[text(&disk)]);
}

#[test]
fn a_target_that_cannot_be_written_is_named() {
    if !is_root("a_target_that_cannot_be_written_is_named") {
        return;
    }
    let ground = with_a_point();
    let disk = small_disk(&ground.path("small"), "160M");
    sh("mount", &["-o", "remount,ro", text(&disk)]);
    let answer = ground.restore_to_file("disk", &["--latest"], &disk.join("back.img"));
    assert_eq!(answer.code, Some(1), "{answer}");
    assert!(answer.stderr.contains("back.img"), "it names the target: {answer}");
    let existing = ground.path("existing.img");
    fs::write(&existing, "precious").expect("a file can be written");
    let answer = ground.restore_to_file("disk", &["--latest"], &existing);
    assert_eq!(answer.code, Some(1), "{answer}");
    assert_eq!(
        fs::read(&existing).expect("it can be read"),
        b"precious",
        "an existing file is not overwritten"
    );
    sh("umount", &[text(&disk)]);
}

#[test]
fn a_full_repository_loses_no_point() {
    if !is_root("a_full_repository_loses_no_point") {
        return;
    }
    let ground = Ground::new();
    let disk = small_disk(&ground.path("small"), "48M");
    let url = format!("file://{}", disk.join("repository").display());
    let at = |line: &[&str]| {
        ground.call(line.iter().copied()).args(["--repository", &url, "--output", "json"]).run()
    };
    at(&["init", "--key-file", text(&ground.key())]).ok();
    let image = ground.path("disk.img");
    write_image(&image, 64 * MIB, 8 * MIB, 3);
    at(&["backup", "image", "--volume", "disk", text(&image)]).ok();
    let large = ground.path("large.img");
    write_image(&large, 256 * MIB, 100 * MIB, 4);
    let answer = at(&["backup", "image", "--volume", "large", text(&large)]);
    assert_ne!(answer.code, Some(0), "{answer}");
    assert_eq!(answer.json()["code"], "store.full", "{answer}");
    // What was there is whole, and what the failed run left can be swept away.
    at(&["repository", "check", "--read-data"]).ok();
    at(&[
        "restore",
        "run",
        "--volume",
        "disk",
        "--latest",
        "--yes",
        "--to-file",
        text(&ground.path("back.img")),
    ])
    .ok();
    assert_same(&image, &ground.path("back.img"));
    sh("umount", &[text(&disk)]);
}

#[test]
fn a_full_state_directory_loses_nothing() {
    if !is_root("a_full_state_directory_loses_nothing") {
        return;
    }
    let ground = with_a_point();
    let disk = small_disk(&ground.path("small"), "4M");
    fs::write(disk.join("ballast"), vec![0_u8; 8_000_000]).expect_err("the disk holds less");
    let answer = ground
        .call(["backup", "image", "--volume", "disk", text(&ground.path("disk.img"))])
        .env("XDG_CACHE_HOME", &disk)
        .env("XDG_STATE_HOME", &disk)
        .run();
    // The state is a cache: the run may do without it, or say that there is no room.
    assert!(answer.code == Some(0) || answer.stderr.contains("next: "), "{answer}");
    ground.restore_to_file("disk", &["--latest"], &ground.path("back.img")).ok();
    assert_same(&ground.path("disk.img"), &ground.path("back.img"));
    sh("umount", &[text(&disk)]);
}

#[test]
fn a_pool_that_is_full_refuses_and_says_so() {
    if !is_root("a_pool_that_is_full_refuses_and_says_so") {
        return;
    }
    let mut ground = Ground::new();
    ground.start_driver("512MiB");
    let answer = ground.run(["volume", "create", "huge", "--size", "1TiB"]);
    assert_ne!(answer.code, Some(0), "{answer}");
    assert!(answer.stderr.contains("next: "), "{answer}");
    ground.run(["volume", "create", "fine", "--size", "64MiB"]).ok();
    ground.stop_driver();
    ground.assert_nothing_leaks();
}

#[test]
fn nothing_is_overwritten_without_a_yes() {
    let ground = with_a_point();
    let target = ground.path("back.img");
    let line = ["restore", "run", "--volume", "disk", "--latest", "--to-file", text(&target)];
    let answer = ground.call(line).run().refused(4, "confirm.nobody");
    assert!(!target.exists(), "{answer}");
    // A plan needs no confirmation and does nothing.
    let plan = ["restore", "plan", "--volume", "disk", "--latest", "--to-file", text(&target)];
    ground.call(plan).run().ok();
    assert!(!target.exists());
}
