//! Import from restic: with the real restic, into a repository of ours, and back.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::answer::Answer;
use crate::content::{allocated_bytes, assert_same, change_blocks, write_image};
use crate::ground::{Ground, text};
use crate::json_output::undocumented_fields;

const MIB: u64 = 1 << 20;
const PASSWORD: &str = "only a test";

/// Runs restic in its repository at `place`; false, said loudly, where there is no restic.
fn restic_at(place: &str, env: &[(String, String)], args: &[&str]) -> bool {
    let mut command = Command::new("restic");
    command.args(["--no-cache", "-q", "-r", place]).args(args);
    command.env("RESTIC_PASSWORD", PASSWORD).env("TZ", "UTC").envs(env.iter().cloned());
    match command.output() {
        Ok(output) => {
            assert!(output.status.success(), "restic {args:?}: {}", String::from_utf8_lossy(&output.stderr));
            true
        }
        Err(_) => {
            println!("SKIPPED: the tests of imports need restic (tests/setup/debian test)");
            false
        }
    }
}

fn restic(ground: &Ground, args: &[&str]) -> bool {
    restic_at(text(&ground.path("restic")), &[], args)
}

fn back_up(ground: &Ground, time: &str, paths: &[&Path]) {
    let paths = paths.iter().map(|path| text(path));
    let words = ["backup", "--host", "there", "--tag", "nightly", "--time", time];
    restic(ground, &words.into_iter().chain(paths).collect::<Vec<_>>());
}

/// A restic repository with two snapshots of an image, and of a small file beside it.
fn filled(ground: &Ground) -> bool {
    let (image, small) = (ground.path("disk.img"), ground.path("small.txt"));
    write_image(&image, 96 * MIB + 4096, 24 * MIB, 1);
    fs::write(&small, "not an image").expect("a file can be written");
    fs::write(ground.path("password"), PASSWORD).expect("a file can be written");
    if !restic(ground, &["init"]) {
        return false;
    }
    back_up(ground, "2026-01-02 03:04:05", &[&image, &small]);
    fs::copy(&image, ground.path("first.img")).expect("the image can be copied");
    change_blocks(&image, 40, 2);
    back_up(ground, "2026-01-03 03:04:05", &[&image]);
    true
}

fn line(ground: &Ground, from: &str, more: &[&str]) -> Vec<String> {
    let password = ground.path("password");
    let words = ["import", "restic", from, "--restic-password-file", text(&password)];
    words.into_iter().chain(more.iter().copied()).map(str::to_owned).collect()
}

#[track_caller]
fn import(ground: &Ground, more: &[&str]) -> Answer {
    ground.run(line(ground, text(&ground.path("restic")), more))
}

fn imported(answer: &Value) -> usize {
    answer["imported"].as_array().expect("a list").len()
}

/// Every file below a folder, with its bytes.
fn files_of(folder: &Path) -> BTreeMap<PathBuf, blake3::Hash> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            found.extend(files_of(&entry));
        } else {
            found.insert(entry.clone(), blake3::hash(&fs::read(&entry).expect("a file")));
        }
    }
    found
}

fn restores_to(ground: &Ground, volume: &str, at: &str, image: &Path) {
    let back = ground.path("back.img");
    ground.restore_to_file(volume, &["--at", at], &back).ok();
    assert_same(image, &back);
    let (here, there) = (allocated_bytes(image), allocated_bytes(&back));
    assert!(there <= here + 4 * MIB, "it stays sparse: {there} bytes of {here}");
    fs::remove_file(&back).expect("the restored file can be removed");
}

#[test]
fn snapshots_of_restic_become_points_that_restore_to_the_same_bytes() {
    let ground = Ground::new();
    ground.init();
    if !filled(&ground) {
        return;
    }
    let empty = ground.path("nearly-empty.raw");
    write_image(&empty, 1 << 30, MIB, 7);
    back_up(&ground, "2026-01-04 03:04:05", &[&empty]);
    back_up(&ground, "2026-01-05 03:04:05", &[&ground.path("small.txt")]);
    let before = files_of(&ground.path("restic"));

    // Without a word more it is the plan, and nothing is done.
    let plan = import(&ground, &[]).ok().json();
    assert_eq!(undocumented_fields(&plan), Vec::<String>::new());
    let rows = plan["plan"].as_array().expect("a list").clone();
    let names: Vec<_> = rows.iter().map(|row| row["volume"].as_str().expect("a name")).collect();
    assert_eq!(names, ["disk", "disk", "nearly-empty"], "{plan}");
    assert!(rows.iter().all(|row| row["already"].is_null()) && plan["dry_run"] == true, "{plan}");
    assert_eq!(
        plan["without"].as_array().map(Vec::len),
        Some(1),
        "a snapshot without an image is named: {plan}"
    );
    assert!(ground.points("disk").is_empty());

    let done = import(&ground, &["--yes"]).ok().json();
    assert_eq!(undocumented_fields(&done), Vec::<String>::new());
    assert_eq!(imported(&done), 3, "{done}");
    assert_eq!(done["imported"][0]["new_bytes"], 24 * MIB, "{done}");
    let new = done["imported"][1]["new_bytes"].as_u64().expect("a number");
    assert!(new > 0 && new <= 40 * 65_536, "only what changed is stored: {done}");

    restores_to(&ground, "disk", "2026-01-02T12:00:00Z", &ground.path("first.img"));
    restores_to(&ground, "disk", "2026-01-03T12:00:00Z", &ground.path("disk.img"));
    restores_to(&ground, "nearly-empty", "2026-01-04T12:00:00Z", &empty);
    let points = ground.run(["points", "list", "--volume", "disk"]).ok().json();
    let point = &points["points"][0];
    let labels = &point["info"]["labels"];
    assert_eq!(
        (&labels["restic.host"], &labels["restic.tags"]),
        (&"there".into(), &"nightly".into()),
        "{points}"
    );
    assert!(point["taken_at"].as_str().is_some_and(|taken| taken.contains("03:04:05")), "{points}");
    assert!(
        points["points"].as_array().expect("a list").iter().any(|point| !point["parent"].is_null()),
        "{points}"
    );

    // Again: nothing is left to do; and what is new since is all that is done.
    assert_eq!(imported(&import(&ground, &["--yes"]).ok().json()), 0);
    assert_eq!(
        files_of(&ground.path("restic")),
        before,
        "restic's own files are as they were, and no lock is left"
    );
    let image = ground.path("disk.img");
    change_blocks(&image, 4, 3);
    back_up(&ground, "2026-01-06 03:04:05", &[&image]);
    let more = import(&ground, &["--yes", "--path", text(&image)]).ok().json();
    assert_eq!(imported(&more), 1, "{more}");
    restores_to(&ground, "disk", "2026-01-07T00:00:00Z", &image);
    ground.run(["repository", "check", "--read-data"]).ok();
}

#[test]
fn an_import_says_what_is_wrong_with_the_restic_repository() {
    let ground = Ground::new();
    ground.init();
    if !filled(&ground) {
        return;
    }
    import(&ground, &["--yes", "--path", "/no/such.img"]).refused(1, "import.nothing");
    import(&ground, &["--yes", "--volume", "x", "--min-size", "12B", "--host", "elsewhere"])
        .refused(1, "import.nothing");
    fs::write(ground.path("password"), "another").expect("a file can be written");
    import(&ground, &["--yes"]).refused(1, "import.wrong-password");
    fs::write(ground.path("password"), PASSWORD).expect("a file can be written");
    ground.run(["import", "restic", text(&ground.path("restic"))]).refused(1, "import.no-password");
    let folder = ground.path("restic");
    ground.call(["import", "restic", text(&folder)]).env("RESTIC_PASSWORD", PASSWORD).run().ok();
    ground.run(line(&ground, text(&ground.path("repository")), &[])).refused(1, "import.open");
    ground.run(line(&ground, "rest:https://somewhere/else", &[])).refused(1, "import.place");
    ground.run(line(&ground, text(&ground.path("nowhere")), &[])).refused(1, "");

    // The same name on another host is another volume.
    let image = text(&ground.path("disk.img")).to_owned();
    restic(&ground, &["backup", "--host", "elsewhere", "--time", "2026-01-04 03:04:05", &image]);
    import(&ground, &["--yes"]).refused(1, "import.same-name");
    let one = import(&ground, &["--yes", "--host", "elsewhere", "--volume", "other"]).ok().json();
    assert_eq!(imported(&one), 1, "{one}");

    // Every pack is damaged, or gone: an error that says so, and no point.
    for (number, pack) in files_of(&ground.path("restic/data")).into_keys().enumerate() {
        if number % 2 == 0 {
            fs::remove_file(&pack).expect("the pack can be removed");
            continue;
        }
        let mut bytes = fs::read(&pack).expect("a pack");
        let middle = bytes.len() / 3;
        bytes[middle] ^= 1;
        fs::remove_file(&pack).expect("the pack can be removed");
        fs::write(&pack, bytes).expect("the pack can be written");
    }
    let answer = import(&ground, &["--yes", "--host", "there"]);
    answer.refused(3, "import.read");
    assert!(ground.points("disk").is_empty());
}

#[test]
fn an_import_that_was_killed_goes_on_where_it_stopped() {
    let ground = Ground::new();
    ground.init();
    let image = ground.path("disk.img");
    fs::write(ground.path("password"), PASSWORD).expect("a file can be written");
    if !restic(&ground, &["init"]) {
        return;
    }
    for day in 1..=3_u64 {
        // Mostly new each time, so that each of them takes a while.
        write_image(&image, 64 * MIB, 40 * MIB, day);
        back_up(&ground, &format!("2026-01-0{day} 00:00:00"), &[&image]);
    }
    let running = ground.call(line(&ground, text(&ground.path("restic")), &["--yes"])).start();
    let begun = Instant::now();
    while ground.points("disk").is_empty() && begun.elapsed() < Duration::from_secs(60) {
        thread::sleep(Duration::from_millis(20));
    }
    let was_killed = running.kill().code.is_none();
    let there = ground.points("disk").len();
    assert!(there >= 1);
    println!("killed: {was_killed}, after {there} of 3 points");
    let plan = import(&ground, &[]).ok().json();
    let already =
        plan["plan"].as_array().expect("a list").iter().filter(|row| !row["already"].is_null()).count();
    assert_eq!(already, there, "{plan}");
    assert_eq!(imported(&import(&ground, &["--yes"]).ok().json()), 3 - there);
    assert_eq!(ground.points("disk").len(), 3);
    restores_to(&ground, "disk", "2026-01-04T12:00:00Z", &image);
    ground.run(["repository", "check", "--read-data"]).ok();
}

#[test]
fn a_restic_repository_in_a_bucket_is_read_there() {
    let Some(server) = crate::s3::server("a_restic_repository_in_a_bucket_is_read_there") else { return };
    let mut ground = Ground::new();
    ground.init();
    for (name, value) in server.env() {
        ground.set_env(&name, &value);
    }
    let place = format!("s3:{}/{}", server.endpoint(), server.fresh_prefix().trim_start_matches("s3://"));
    if !restic_at(&place, &server.env(), &["init"]) {
        return;
    }
    let image = ground.path("disk.img");
    write_image(&image, 32 * MIB, 8 * MIB, 1);
    restic_at(&place, &server.env(), &["backup", "--time", "2026-01-02 03:04:05", text(&image)]);
    fs::write(ground.path("password"), PASSWORD).expect("a file can be written");
    let done = ground.run(line(&ground, &place, &["--yes", "--min-size", "1MiB"])).ok().json();
    assert_eq!(imported(&done), 1, "{done}");
    restores_to(&ground, "disk", "2026-01-03T00:00:00Z", &image);
}
