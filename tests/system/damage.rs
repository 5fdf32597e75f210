//! Each kind of object, damaged in each way: it is noticed and named, and wrong bytes are never given out.

use std::fs;
use std::path::{Path, PathBuf};

use crate::content::{assert_same, write_image};
use crate::ground::{Ground, text};
use crate::kernel::sh;

const MIB: u64 = 1 << 20;

#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip,
    Cut,
    Empty,
    Delete,
    Swap,
}

/// The first file below a folder of the repository, in order of names, whose path the test accepts.
fn object(repository: &Path, folder: &str, number: usize) -> Option<PathBuf> {
    let listing = sh("find", &[text(&repository.join(folder)), "-type", "f"]);
    let mut names: Vec<_> = listing.lines().map(PathBuf::from).collect();
    names.sort();
    names.into_iter().nth(number)
}

fn apply(damage: Damage, victim: &Path, other: Option<&Path>) -> bool {
    let bytes = fs::read(victim).expect("the object can be read");
    match damage {
        Damage::Flip => {
            let mut flipped = bytes.clone();
            let middle = flipped.len() / 2;
            flipped[middle] ^= 0x10;
            fs::write(victim, flipped).expect("the object can be written");
        }
        Damage::Cut => {
            fs::write(victim, &bytes[..bytes.len() - bytes.len() / 3 - 1]).expect("the object can be written")
        }
        Damage::Empty => fs::write(victim, b"").expect("the object can be written"),
        Damage::Delete => fs::remove_file(victim).expect("the object can be deleted"),
        Damage::Swap => {
            let Some(other) = other else { return false };
            let others = fs::read(other).expect("the object can be read");
            if others == bytes {
                return false;
            }
            fs::write(victim, others).expect("the object can be written");
        }
    }
    true
}

#[test]
fn each_kind_of_object_damaged_in_each_way_is_noticed_and_never_gives_wrong_bytes() {
    let ground = Ground::new();
    ground.init();
    let image = ground.path("disk.img");
    // Two backups, so that there are two of nearly everything to be swapped.
    write_image(&image, 64 * MIB, 6 * MIB, 1);
    ground.back_up_image("disk", &image).ok();
    write_image(&image, 64 * MIB, 7 * MIB, 2);
    ground.back_up_image("disk", &image).ok();
    let repository = ground.path("repository");
    let sound = ground.path("sound");
    sh("cp", &["-a", text(&repository), text(&sound)]);

    // Which of the sorted objects of a folder is damaged, and which is put in its place by a swap.
    let kinds = [
        ("strongroom.json", 0, None),
        ("keys", 0, None),
        ("journal", 0, Some(1)),
        ("journal", 2, Some(1)),
        ("packs", 0, Some(1)),
        ("maps", 0, Some(1)),
        ("index", 0, Some(1)),
    ];
    let mut seen = 0;
    for (folder, number, other) in kinds {
        for damage in [Damage::Flip, Damage::Cut, Damage::Empty, Damage::Delete, Damage::Swap] {
            sh("rm", &["-rf", text(&repository)]);
            sh("cp", &["-a", text(&sound), text(&repository)]);
            let Some(victim) = object(&repository, folder, number) else { continue };
            let other = other.and_then(|number| object(&repository, folder, number));
            if !apply(damage, &victim, other.as_deref()) {
                continue;
            }
            seen += 1;
            let what = format!(
                "{damage:?} of {}",
                victim.strip_prefix(&repository).expect("it lies there").display()
            );

            // A fresh machine: no cache may hide the damage.
            let check = ground
                .call(["repository", "check", "--read-data"])
                .env("XDG_CACHE_HOME", ground.path("none-1"))
                .run();
            assert!(matches!(check.code, Some(0 | 1 | 3 | 5)), "{what}: {check}");
            // The index is a cache: losing some of it loses nothing.
            if !(folder == "index" && matches!(damage, Damage::Delete)) {
                assert_ne!(check.code, Some(0), "{what} is noticed: {check}");
            }

            let target = ground.path("back.img");
            let _ = fs::remove_file(&target);
            let restore = ground
                .call(ground.restore_line("disk", &["--latest"], &target))
                .env("XDG_CACHE_HOME", ground.path("none-2"))
                .run();
            assert!(matches!(restore.code, Some(0 | 1 | 3 | 5)), "{what}: {restore}");
            if restore.code == Some(0) {
                assert_same(&image, &target);
            }
            for leftover in ["none-1", "none-2"] {
                let _ = fs::remove_dir_all(ground.path(leftover));
            }
            // An unfinished target carries a journal beside it; it belongs to this damage only.
            sh(
                "sh",
                &[
                    "-c",
                    &format!("rm -rf '{0}' '{0}'.* '{1}'/.back.img*", text(&target), text(ground.root())),
                ],
            );
        }
    }
    assert!(seen >= 20, "the kinds of objects were not found: {seen}");
}

#[test]
fn a_rolled_back_bucket_is_noticed_by_whoever_saw_more_of_it() {
    let ground = Ground::new();
    ground.init();
    let image = ground.path("disk.img");
    write_image(&image, 16 * MIB, MIB, 1);
    ground.back_up_image("disk", &image).ok();
    let old = ground.path("old");
    sh("cp", &["-a", text(&ground.path("repository")), text(&old)]);
    write_image(&image, 16 * MIB, MIB, 2);
    ground.back_up_image("disk", &image).ok();
    sh("rm", &["-rf", text(&ground.path("repository"))]);
    sh("mv", &[text(&old), text(&ground.path("repository"))]);
    ground
        .call(["backup", "image", "--volume", "disk", text(&image)])
        .run()
        .refused(3, "journal.rolled-back");
    // Without that memory what is there can still be read.
    ground.call(["points", "list"]).env("XDG_CACHE_HOME", ground.path("fresh")).run().ok();
}
