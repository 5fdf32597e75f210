//! Keys through the program: recipients, rotation, keys that cannot read, and the way back from a sheet of paper.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::content::write_image;
use crate::ground::{Ground, text};

const SIZE: u64 = 8 << 20;

/// Restores the newest point with this key, and compares.
#[track_caller]
fn brings_back(ground: &Ground, key: &str, image: &std::path::Path) {
    let back = ground.path("back.img");
    let _ = fs::remove_file(&back);
    let line = ["restore", "run", "--volume", "disk", "--latest", "--yes", "--to-file", text(&back)];
    ground.run(line.into_iter().chain(["--key-file", key])).ok();
    assert!(
        fs::read(&back).expect("it was restored") == fs::read(image).expect("it is there"),
        "it came back changed"
    );
}

#[track_caller]
fn slot(ground: &Ground, label: &str) -> String {
    let list = ground.run(["repository", "key", "list"]).ok().json();
    let mut slots = list["slots"].as_array().expect("a list of slots").iter();
    let slot = slots.find(|slot| slot["label"] == label).expect("the slot is listed");
    slot["slot"].as_str().expect("its name").to_owned()
}

#[test]
fn a_lost_key_is_rotated_away_and_a_recipient_restores_what_came_after() {
    let ground = Ground::new();
    ground.init();
    let image = ground.path("disk.img");
    write_image(&image, SIZE, 2 << 20, 1);
    let (private, lost) = (ground.path("private"), ground.path("lost"));
    let generated = ground.run(["repository", "key", "generate", text(&private)]).ok().json();
    assert_eq!(fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o600);
    let recipient = generated["recipient"].as_str().unwrap().to_owned();
    ground.run(["repository", "key", "add", "--recipient", &recipient, "--label", "restore"]).ok();
    ground.run(["repository", "key", "add", "--new-key-file", text(&lost), "--label", "lost"]).ok();
    ground.back_up_image("disk", &image).ok();
    brings_back(&ground, text(&lost), &image);

    let slot = slot(&ground, "lost");
    let rotated = ground.run(["repository", "key", "rotate", "--remove", &slot]).ok().json();
    assert_eq!(rotated["slots"].as_array().unwrap().len(), 2);
    write_image(&image, SIZE, 2 << 20, 2);
    ground.back_up_image("disk", &image).ok();
    ground.call(["points", "list", "--key-file", text(&lost)]).run().refused(1, "key.wrong");
    brings_back(&ground, text(&private), &image);
    brings_back(&ground, text(&ground.key()), &image);
    ground.run(["repository", "check", "--read-data"]).ok();
}

#[test]
fn a_write_only_agent_backs_up_and_reads_nothing() {
    let ground = Ground::new();
    ground.run(["init", "--write-only-agents"]).ok();
    let (image, agent) = (ground.path("disk.img"), ground.path("agent-key"));
    ground
        .run([
            "repository",
            "key",
            "add",
            "--write-only",
            "--new-key-file",
            text(&agent),
            "--label",
            "host 7",
        ])
        .ok();
    let back_up = || {
        ground
            .run(["backup", "image", "--volume", "disk", text(&image), "--key-file", text(&agent)])
            .ok()
            .json()
    };
    write_image(&image, SIZE, 2 << 20, 1);
    back_up();
    write_image(&image, SIZE, 2 << 20, 1);
    let again = back_up();
    assert_eq!(again["new_bytes"], 0, "it knows what it stored by its ids: {again}");

    let agent = text(&agent);
    let back = ground.path("stolen.img");
    let line = ["restore", "run", "--volume", "disk", "--latest", "--yes", "--to-file", text(&back)];
    let answer = ground.run(line.into_iter().chain(["--key-file", agent]));
    assert_eq!(answer.json()["code"], "seal.no-data-key", "{answer}");
    ground.run(["repository", "check", "--key-file", agent]).ok();
    ground
        .call(["repository", "check", "--read-data", "--key-file", agent])
        .run()
        .refused(1, "key.not-owner");
    ground.call(["repository", "key", "rotate", "--key-file", agent]).run().refused(1, "key.not-owner");
    brings_back(&ground, text(&ground.key()), &image);
}

#[test]
fn from_a_bare_machine_and_a_sheet_of_paper_everything_comes_back() {
    let ground = Ground::new();
    ground.init();
    let (image, kit) = (ground.path("disk.img"), ground.path("kit.txt"));
    write_image(&image, SIZE, 2 << 20, 1);
    ground.back_up_image("disk", &image).ok();
    let answer = ground.run(["repository", "key", "recovery-kit", "--to", text(&kit)]).ok();
    assert_eq!(fs::metadata(&kit).unwrap().permissions().mode() & 0o777, 0o600);
    let sheet = fs::read_to_string(&kit).unwrap();
    assert!(sheet.lines().count() < 60 && sheet.lines().all(|line| line.len() <= 110), "it fits on a page");
    let of_key = |line: &&str| ["K1 ", "K2 ", "K3 ", "K4 "].iter().any(|mark| line.trim().starts_with(mark));
    let lines: Vec<&str> = sheet.lines().filter(of_key).collect();
    assert_eq!(lines.len(), 4, "{sheet}");
    for line in &lines {
        assert!(
            !format!("{}{}", answer.stdout, answer.stderr).contains(&line.trim()[4..23]),
            "the key was printed"
        );
    }

    // A machine that never saw the repository: no key, no cache, only what a person types.
    let typed = |name: &str, text: String| {
        let path = ground.path(name);
        fs::write(&path, text).unwrap();
        path
    };
    let right =
        typed("typed", lines.iter().map(|line| line.to_uppercase().replace(' ', "  ") + "\n").collect());
    let wrong = typed("mistyped", lines.iter().map(|line| line.replace(['3', '4'], "5") + "\n").collect());
    let bare = |line: &[&str], input: &std::path::Path| {
        ground
            .call(line.iter().copied())
            .args(["--repository", ground.repository(), "--key-file", "-"])
            .without("STRONGROOM_KEY_FILE")
            .without("STRONGROOM_REPOSITORY")
            .env("HOME", ground.path("bare"))
            .env("XDG_CACHE_HOME", ground.path("bare"))
            .stdin(input)
            .run()
    };
    bare(&["points", "list"], &wrong).refused(1, "key.not-a-key");
    let points = bare(&["points", "list", "--output", "json"], &right).ok().json();
    assert_eq!(points["points"].as_array().unwrap().len(), 1);
    let back = ground.path("back.img");
    bare(&["restore", "run", "--volume", "disk", "--latest", "--to-file", text(&back), "--yes"], &right).ok();
    assert!(fs::read(&back).unwrap() == fs::read(&image).unwrap());
    // The file itself is taken as well, and a lost sheet is made worthless.
    brings_back(&ground, text(&kit), &image);
    let slot = answer.json()["slot"].as_str().unwrap().to_owned();
    ground.run(["repository", "key", "rotate", "--remove", &slot]).ok();
    bare(&["points", "list"], &right).refused(1, "key.wrong");
}
