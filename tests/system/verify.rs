//! Whether stored data is still right: read in parts, killed and gone on with, red where it is not, and what can be done then.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::content::{assert_same, write_image};
use crate::ground::{Ground, text};

const MIB: u64 = 1 << 20;

/// Two images in a repository: some packs of data. No driver.
fn filled() -> (Ground, PathBuf) {
    let ground = Ground::new();
    ground.init();
    let image = ground.path("disk.img");
    write_image(&image, 64 * MIB, 12 * MIB, 1);
    ground.back_up_image("disk", &image).ok();
    let other = ground.path("other.img");
    write_image(&other, 64 * MIB, 9 * MIB, 2);
    ground.back_up_image("other", &other).ok();
    (ground, image)
}

/// The configuration without a driver, and with what is added.
fn config(ground: &Ground, more: &str) -> PathBuf {
    let path = ground.config(more);
    let all = fs::read_to_string(&path).expect("it was written");
    let without: Vec<&str> =
        all.lines().filter(|line| !line.starts_with("[driver]") && !line.starts_with("endpoint")).collect();
    fs::write(&path, without.join("\n")).expect("it can be written");
    path
}

/// Flips a bit in the middle of the largest data pack.
fn flip(ground: &Ground) -> PathBuf {
    let mut packs = Vec::new();
    let mut folders = vec![ground.path("repository/packs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of the repository").flatten() {
            let kind = entry.file_type().expect("a file or a folder");
            if kind.is_dir() { folders.push(entry.path()) } else { packs.push(entry.path()) }
        }
    }
    packs.sort_by_key(|pack| fs::metadata(pack).map_or(0, |found| found.len()));
    let pack = packs.pop().expect("there are packs");
    change(&pack);
    pack
}

/// Flips one bit in the middle; the same again puts it right.
fn change(pack: &Path) {
    let mut bytes = fs::read(pack).expect("it can be read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(pack, bytes).expect("it can be written");
}

fn never(answer: &Value) -> u64 {
    answer["proof"]["never_packs"].as_u64().expect("a number")
}

#[test]
fn what_a_check_found_turns_the_status_red_until_it_is_gone() {
    let (ground, image) = filled();
    let config = config(&ground, "");
    let status = || ground.run(["status", "--config", text(&config)]);
    assert!(never(&status().ok().json()) > 0);

    let pack = flip(&ground);
    let check = ground.run(["repository", "check", "--read-data"]);
    assert_eq!(check.code, Some(3), "{check}");
    assert_eq!(
        (never(&check.json()), check.json()["damages"][0]["loses"].as_array().map(Vec::len)),
        (0, Some(1))
    );
    let red = status();
    assert_eq!((red.code, red.json()["proof"]["damaged_packs"].as_u64()), (Some(1), Some(1)), "{red}");
    assert!(red.json()["problems"].to_string().contains("repository repair"), "{red}");

    // Who loses what, exactly; and nothing is changed by asking.
    let repair = ground.run(["repository", "repair"]);
    assert_eq!(repair.code, Some(3), "{repair}");
    let loss = repair.json()["plan"]["losses"][0].clone();
    assert_eq!(
        (loss["volume"].as_str(), loss["lost_bytes"].as_u64()),
        (Some("disk"), Some(65_536)),
        "{repair}"
    );

    // The next backup stores anew what the image still holds: its point is whole, the old one is not.
    ground.back_up_image("disk", &image).ok();
    let back = ground.path("back.img");
    ground.restore_to_file("disk", &["--latest"], &back).ok();
    assert_same(&image, &back);
    let points = ground.points("disk");
    let old = ground.restore_to_file("disk", &["--point", &points[0]], &ground.path("old.img"));
    assert_eq!(old.code, Some(3), "{old}");
    let check = ground.run(["repository", "check"]);
    assert_eq!(check.code, Some(3), "{check}");
    assert_eq!(check.json()["damages"][0]["loses"][0]["point"], points[0].as_str(), "{check}");

    // Put right from a copy, and read again: green.
    change(&pack);
    ground.run(["repository", "check", "--read-data"]).ok();
    status().ok();
}

#[test]
fn a_check_that_is_killed_goes_on_where_it_was_and_a_part_begins_with_the_oldest() {
    let (ground, _) = filled();
    let first = ground.run(["repository", "check", "--read-data", "--packs", "1"]).ok().json();
    let left = never(&first);
    assert_eq!(first["read_packs"], 1);
    // However soon it is killed, nothing that was noted is lost, and the journal is whole.
    for pause_ms in [20, 60, 120] {
        let running = ground.call(["repository", "check", "--read-data"]).start();
        std::thread::sleep(std::time::Duration::from_millis(pause_ms));
        running.kill();
    }
    let after = ground.run(["repository", "check"]).ok().json();
    assert!(never(&after) <= left, "{after}");
    let rest = ground.run(["repository", "check", "--read-data", "--share", "100%"]).ok().json();
    assert_eq!(never(&rest), 0, "{rest}");
    let quiet = ground.run(["repository", "check", "--read-data", "--for", "1s", "--no-note"]).ok().json();
    assert_eq!(quiet["proof"], rest["proof"]);
    for wrong in [["--share", "0%"], ["--share", "10"], ["--packs", "x"], ["--for", "soon"]] {
        let refused = ground.call(["repository", "check", "--read-data"]).args(wrong).run();
        assert_eq!(refused.code, Some(64), "{refused}");
    }
    assert_eq!(ground.call(["repository", "check", "--share", "10%"]).run().code, Some(64));
    ground.run(["repository", "audit"]).ok();
}

#[test]
fn whoever_keeps_the_store_can_scrub_it_without_a_key() {
    let (ground, _) = filled();
    let scrub = |more: &[&str]| {
        ground
            .call(["repository", "scrub", "--output", "json"])
            .args(more)
            .env("STRONGROOM_KEY_FILE", "/nowhere/at/all")
            .run()
    };
    let whole = scrub(&[]).ok().json();
    assert_eq!(whole["damages"].as_array().map(Vec::len), Some(0));
    assert!(whole["does_not_prove"].to_string().contains("missing"), "{whole}");
    let pack = flip(&ground);
    let found = scrub(&[]);
    assert_eq!(found.code, Some(3), "{found}");
    let name = pack.strip_prefix(ground.path("repository")).expect("it lies there");
    assert_eq!(found.json()["damages"][0]["object"], text(name), "{found}");
    // In parts, each of which says where the next begins.
    let (mut from, mut read, mut damaged) = ("ff00".to_owned(), 0, 0);
    for _ in 0..4 {
        let part = scrub(&["--share", "25%", "--from", &from]).json();
        read += part["packs"].as_u64().expect("a number");
        damaged += part["damages"].as_array().map_or(0, Vec::len);
        from = part["next"].as_str().expect("a position").to_owned();
    }
    assert_eq!((from.as_str(), Some(read), damaged), ("ff00", whole["packs"].as_u64(), 1));
}

#[test]
fn the_agent_reads_a_part_by_itself_and_says_how_far_the_data_is_proved() {
    let (ground, _) = filled();
    let config = config(&ground, "[check]\nevery = \"1s\"\nshare = \"50%\"");
    let agent = ground.call(["agent", "--config", text(&config)]).start();
    let begun = std::time::Instant::now();
    loop {
        let status = ground.run(["status", "--config", text(&config)]).json();
        if never(&status) == 0 {
            break;
        }
        assert!(begun.elapsed().as_secs() < 120, "it does not read: {status} {}", agent.stderr());
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    agent.terminate().ok();
}
