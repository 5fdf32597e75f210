//! Image files without a driver: needs no root, so these run everywhere.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::content::{allocated_bytes, assert_same, change_blocks, write_image};
use crate::ground::Ground;

const MIB: u64 = 1 << 20;

fn main_path(ground: &Ground) {
    ground.init();
    let image = ground.path("disk.img");
    write_image(&image, 256 * MIB, 24 * MIB, 1);
    let first = ground.back_up_image("disk", &image).ok().json();
    assert_eq!(first["new_bytes"], 24 * MIB, "{first}");

    // Nothing changed: everything is compared by hash, and nothing of it is sent again.
    let second = ground.back_up_image("disk", &image).ok().json();
    assert_eq!(second["new_bytes"], 0, "{second}");
    fs::copy(&image, ground.path("before.img")).expect("the image can be copied");

    change_blocks(&image, 40, 2);
    let third = ground.back_up_image("disk", &image).ok().json();
    let new = third["new_bytes"].as_u64().expect("a number");
    assert!(new > 0 && new <= 40 * 65_536, "{third}");

    let restored = ground.path("restored.img");
    ground.restore_to_file("disk", &["--latest"], &restored).ok();
    assert_same(&image, &restored);
    assert!(
        allocated_bytes(&restored) <= 40 * MIB,
        "a sparse image stays sparse: {}",
        allocated_bytes(&restored)
    );

    let older = second["point"].as_str().expect("an id").to_owned();
    ground.restore_to_file("disk", &["--point", &older], &ground.path("older.img")).ok();
    assert_same(&ground.path("before.img"), &ground.path("older.img"));

    assert_eq!(ground.run(["points", "list"]).ok().json()["points"].as_array().map(Vec::len), Some(3));
    ground.run(["repository", "check", "--read-data"]).ok();
}

#[test]
fn an_image_goes_into_a_directory_and_comes_back() {
    main_path(&Ground::new());
}

#[test]
fn an_image_goes_into_a_real_bucket_and_comes_back() {
    if let Some(ground) = Ground::on_s3("an_image_goes_into_a_real_bucket_and_comes_back") {
        main_path(&ground);
    }
}

#[test]
fn the_repository_and_the_key_are_enough() {
    let ground = Ground::new();
    ground.init();
    let image = ground.path("disk.img");
    write_image(&image, 64 * MIB, 8 * MIB, 3);
    ground.back_up_image("disk", &image).ok();

    // Another machine: nothing is left but these two, at another place.
    let other = Ground::new();
    fs::rename(ground.path("repository"), other.path("repository")).expect("both lie in one filesystem");
    fs::copy(ground.key(), other.key()).expect("the key can be copied");
    other.restore_to_file("disk", &["--latest"], &other.path("back.img")).ok();
    assert_same(&image, &other.path("back.img"));
}

#[test]
fn a_restore_that_was_killed_goes_on_where_it_was() {
    let ground = Ground::new();
    ground.init();
    let image = ground.path("disk.img");
    write_image(&image, 256 * MIB, 200 * MIB, 4);
    ground.back_up_image("disk", &image).ok();

    let target = ground.path("back.img");
    let line = ground.restore_line("disk", &["--latest"], &target);
    let mut killed = 0;
    for round in 0..40_u64 {
        let running = ground.call(&line).args(["--output", "json"]).start();
        thread::sleep(Duration::from_millis(40 + 30 * round));
        if running.kill().code.is_some() {
            break;
        }
        killed += 1;
    }
    assert!((1..40).contains(&killed), "it was killed {killed} times, and the same words ended it");
    assert_same(&image, &target);
}

#[test]
fn names_of_volumes_are_labels_whatever_they_look_like() {
    let ground = Ground::new();
    ground.init();
    let image = ground.path("disk.img");
    write_image(&image, MIB, MIB, 5);
    for name in [
        "../../../etc/passwd",
        "a b",
        "größe ✓",
        "%2e%2e/",
        "$(reboot)",
        "--help",
        "'; drop table points; --",
        "CON",
        ".",
        // CSI allows it.
        "line\nbreak",
    ] {
        let volume = format!("--volume={name}");
        ground.run(["backup", "image", &volume, image.to_str().expect("a plain path")]).ok();
        let target = ground.path("back.img");
        let _ = fs::remove_file(&target);
        ground
            .run([
                "restore",
                "run",
                &volume,
                "--latest",
                "--yes",
                "--to-file",
                target.to_str().expect("a plain path"),
            ])
            .ok();
        assert_same(&image, &target);
        // Whatever the name, nothing is written outside: the repository holds only what layout knows.
        let listed = ground.run(["points", "list", &volume]).ok().json();
        assert_eq!(listed["points"][0]["volume"], name, "{listed}");
    }
    for (name, exit) in [("", 64), ("a\u{1b}[2Jb", 64), ("a\u{7f}b", 64)] {
        let answer = ground.run([
            "backup",
            "image",
            &format!("--volume={name}"),
            image.to_str().expect("a plain path"),
        ]);
        assert_eq!(answer.code, Some(exit), "{answer}");
        assert!(!answer.stderr.contains('\u{1b}'), "nothing of a name reaches the terminal raw: {answer}");
    }
}
