//! Second copies through the real program: killed in the middle, read when the repository is damaged or gone, promoted.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::content::{assert_same, change_blocks, write_image};
use crate::ground::{Ground, text};

const MIB: u64 = 1 << 20;

/// A configuration with a second copy, and without a driver.
fn config(ground: &Ground, copy: &str, max_lag: &str) -> PathBuf {
    let path = ground.path("copies.toml");
    let words = format!(
        "[repository]\nurl = \"{}\"\nkey_file = \"{}\"\n[[repository.copies]]\nname = \"offsite\"\nurl = \"{copy}\"\n\
         max_lag = \"{max_lag}\"\n[agent]\nstate_dir = \"{}\"\n",
        ground.repository(),
        ground.key().display(),
        ground.path("agent-state").display(),
    );
    fs::write(&path, words).expect("the configuration can be written");
    path
}

fn packs_of(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for kind in ["packs", "maps"] {
        for shelf in fs::read_dir(folder.join(kind)).into_iter().flatten().flatten() {
            found.extend(fs::read_dir(shelf.path()).into_iter().flatten().flatten().map(|file| file.path()));
        }
    }
    found
}

#[test]
fn a_second_copy_brings_everything_back_when_the_repository_is_damaged_or_gone() {
    let ground = Ground::new();
    ground.init();
    let (folder, second) = (ground.path("repository"), ground.path("second"));
    let copy = format!("file://{}", second.display());
    let config = config(&ground, &copy, "1d");
    let config = text(&config);
    let image = ground.path("disk.img");
    write_image(&image, 256 * MIB, 160 * MIB, 1);
    ground.back_up_image("disk", &image).ok();

    // Killed in the middle, again and again: what was copied is not sent again, and nobody takes a part for the whole.
    let mut kills = 0;
    for wanted in 0..2 {
        let mut copying = ground.call(["repository", "copy", "--config", config]).start();
        let begun = Instant::now();
        while packs_of(&second).len() <= wanted
            && !copying.ended()
            && begun.elapsed() < Duration::from_secs(60)
        {
            thread::sleep(Duration::from_millis(1));
        }
        if copying.kill().code.is_none() {
            kills += 1;
            let early = ground.call(["points", "list", "--repository", &copy]).run();
            early.refused(1, "repository.none");
        }
    }
    let copied = ground.run(["repository", "copy", "--config", config]).ok().json();
    println!("{kills} kills, then {copied}");
    let again = ground.run(["repository", "copy", "--config", config]).ok().json();
    assert_eq!(again["copies"][0]["copied_bytes"], 0, "{again}");
    ground.run(["repository", "check", "--read-data", "--repository", &copy]).ok();

    change_blocks(&image, 40, 2);
    ground.back_up_image("disk", &image).ok();
    let next = ground.run(["repository", "copy", "--config", config]).ok().json();
    let sent = next["copies"][0]["copied_bytes"].as_u64().expect("a number");
    assert!(sent > 0 && sent < 8 * MIB, "only what is new: {next}");

    // Every pack of the repository is damaged, or gone.
    for (number, pack) in packs_of(&folder).into_iter().enumerate() {
        let mut bytes = fs::read(&pack).expect("a pack can be read");
        if number % 2 == 0 {
            for at in (100..bytes.len()).step_by(4096) {
                bytes[at] ^= 0x55;
            }
            let end = bytes.len() - 100;
            bytes[end] ^= 0x55;
            fs::write(&pack, bytes).expect("a pack can be written");
        } else {
            fs::remove_file(&pack).expect("a pack can be removed");
        }
    }
    ground.restore_to_file("disk", &["--latest"], &ground.path("lost.img")).refused(3, "");
    let restored = ground.path("restored.img");
    let line = ground.restore_line("disk", &["--latest"], &restored);
    let answer = ground.call(line).args(["--config", config]).run().ok();
    assert!(answer.stderr.contains("a copy"), "it says where it read: {answer}");
    assert_same(&image, &restored);

    // The repository is gone as a whole.
    fs::remove_dir_all(&folder).expect("the repository can be removed");
    let restored = ground.path("by-config.img");
    let line = ground.restore_line("disk", &["--latest"], &restored);
    ground.call(line).args(["--config", config]).run().ok();
    assert_same(&image, &restored);
    let restored = ground.path("by-url.img");
    let line = ground.restore_line("disk", &["--latest"], &restored);
    ground.call(line).args(["--repository", &copy]).run().ok();
    assert_same(&image, &restored);

    // Nobody writes to a copy; promoted it is a repository like any other.
    let backup = ["backup", "image", "--volume", "disk", text(&image), "--repository", &copy];
    ground.call(backup).run().refused(1, "journal.is-copy");
    ground
        .call(["repository", "copy", "--promote", "--repository", &copy])
        .run()
        .refused(4, "confirm.nobody");
    ground.run(["repository", "copy", "--promote", "--yes", "--repository", &copy]).ok();
    change_blocks(&image, 10, 3);
    ground.call(backup).run().ok();
    let restored = ground.path("promoted.img");
    let line = ground.restore_line("disk", &["--latest"], &restored);
    ground.call(line).args(["--repository", &copy]).run().ok();
    assert_same(&image, &restored);
    ground.run(["repository", "check", "--read-data", "--repository", &copy]).ok();
}

#[test]
fn a_copy_in_a_real_bucket_is_enough_by_itself() {
    let Some(ground) = Ground::on_s3("a_copy_in_a_real_bucket_is_enough_by_itself") else { return };
    ground.init();
    let image = ground.path("disk.img");
    write_image(&image, 64 * MIB, 24 * MIB, 1);
    ground.back_up_image("disk", &image).ok();
    let copy = format!("{}-second", ground.repository());
    ground.run(["repository", "copy", "--to", &copy]).ok();
    change_blocks(&image, 20, 2);
    ground.back_up_image("disk", &image).ok();
    ground.run(["repository", "copy", "--to", &copy]).ok();
    let restored = ground.path("restored.img");
    let line = ground.restore_line("disk", &["--latest"], &restored);
    ground.call(line).args(["--repository", &copy]).run().ok();
    assert_same(&image, &restored);
    ground.run(["repository", "check", "--read-data", "--repository", &copy]).ok();
}

#[test]
fn the_agent_copies_what_is_new_and_status_is_red_while_a_copy_lags() {
    let ground = Ground::new();
    ground.init();
    let second = ground.path("second");
    let copy = format!("file://{}", second.display());
    fs::create_dir(&second).expect("a folder can be made");
    let config = config(&ground, &copy, "1s");
    let config = text(&config);
    let image = ground.path("disk.img");
    write_image(&image, 16 * MIB, 4 * MIB, 1);
    ground.back_up_image("disk", &image).ok();
    thread::sleep(Duration::from_millis(2100));
    let red = ground.call(["status", "--config", config, "--output", "json"]).run();
    assert_eq!(red.code, Some(1), "never copied to: {red}");
    assert_eq!(red.json()["copies"][0]["points_behind"], 1);

    let agent = ground.call(["agent", "--config", config]).start();
    let begun = Instant::now();
    loop {
        let status = ground.call(["status", "--config", config, "--output", "json"]).run();
        if status.code == Some(0) {
            assert_eq!(status.json()["copies"][0]["points_behind"], 0);
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(90), "{status}\n{}", agent.stderr());
        thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(agent.terminate().code, Some(0));
    ground.run(["points", "list", "--repository", &copy]).ok();
}

#[test]
fn a_repair_takes_from_a_copy_what_is_damaged_and_a_check_looks_at_every_place() {
    let ground = Ground::new();
    ground.init();
    let (folder, second) = (ground.path("repository"), ground.path("second"));
    let copy = format!("file://{}", second.display());
    let config = config(&ground, &copy, "1d");
    let config = text(&config);
    let image = ground.path("disk.img");
    for round in 1..=3 {
        // 24 MiB each time: a pack of data of its own, which goes in several parts.
        write_image(&image, 64 * MIB, 24 * MIB, round);
        ground.back_up_image("disk", &image).ok();
    }
    ground.run(["repository", "copy", "--config", config]).ok();
    let check = |more: &[&str]| {
        let words = ["repository", "check", "--read-data", "--config", config];
        ground.run(words.iter().chain(more).copied())
    };
    let fine = check(&["--all-places"]).ok().json();
    let names: Vec<_> = fine["places"].as_array().expect("a list").iter().map(|one| &one["place"]).collect();
    assert_eq!(names, ["repository", "offsite"], "{fine}");
    assert_eq!(crate::json_output::undocumented_fields(&fine), Vec::<String>::new());

    // Half of the packs are damaged, half of the others gone; of one the copy is damaged as well.
    let packs = packs_of(&folder);
    let spoil = |pack: &Path| {
        let mut bytes = fs::read(pack).expect("a pack can be read");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x55;
        fs::write(pack, bytes).expect("a pack can be written");
    };
    for (number, pack) in packs.iter().enumerate() {
        if number % 2 == 0 {
            spoil(pack);
        } else {
            fs::remove_file(pack).expect("a pack can be removed");
        }
    }
    let hopeless =
        packs.iter().find(|pack| pack.to_string_lossy().contains("/packs/")).expect("a pack of data");
    let there = second.join(hopeless.strip_prefix(&folder).expect("it is below"));
    let good = fs::read(&there).expect("the copy has it");
    spoil(&there);
    check(&[]).ended(3);
    assert_eq!(check(&["--place", "offsite"]).ended(3).json()["damages"].as_array().map(Vec::len), Some(1));

    // Only what can be proved to be right is taken.
    let repaired = ground.run(["repository", "repair", "--yes", "--config", config]).ended(3).json();
    assert_eq!(repaired["done"]["put_back"], packs.len() - 1, "{repaired}");
    assert_eq!(repaired["plan"]["damages"].as_array().map(Vec::len), Some(1), "{repaired}");
    assert_eq!(crate::json_output::undocumented_fields(&repaired), Vec::<String>::new());
    fs::write(&there, good).expect("a pack can be written");
    let from = ["repository", "repair", "--yes", "--from", &copy];
    assert_eq!(ground.run(from).ok().json()["done"]["put_back"], 1);
    check(&["--all-places"]).ok();
    let restored = ground.path("restored.img");
    ground.restore_to_file("disk", &["--latest"], &restored).ok();
    assert_same(&image, &restored);

    // A place that is not there does not hide what the others say.
    fs::rename(&second, ground.path("away")).expect("the copy can be moved");
    let answer = check(&["--all-places"]);
    assert_eq!(answer.code, Some(1), "{answer}");
    assert_eq!(answer.json()["places"][0]["damages"], serde_json::json!([]), "{answer}");
    assert!(answer.json()["places"][1]["code"].is_string(), "{answer}");
}

#[test]
fn status_is_at_risk_while_nobody_extends_the_locks() {
    let Some(mut ground) = Ground::on_s3("status_is_at_risk_while_nobody_extends_the_locks") else { return };
    // A bucket of its own: locks are switched on when a bucket is made. It goes with the server that the tests run beside.
    let server = crate::s3::server("locks").expect("it was there above");
    let bucket = format!("locks-{}", std::process::id());
    let made = std::process::Command::new("curl")
        .args(["-sf", "-X", "PUT", "--aws-sigv4", "aws:amz:us-east-1:s3", "--user", "testing:testing123"])
        // Without blanks: curl 7.88 signs other headers than it sends where there are.
        .args(["-H", "X-Amz-Content-Sha256: UNSIGNED-PAYLOAD", "-H", "x-amz-bucket-object-lock-enabled:true"])
        .arg(format!("{}/{bucket}", server.endpoint()))
        .status();
    assert!(made.expect("curl runs").success(), "the bucket can be made");
    ground.set_repository(&format!("s3://{bucket}/r"));
    let config = |lock_for: &str| {
        let path = ground.path(&format!("locks-{lock_for}.toml"));
        let words = format!(
            "[repository]\nurl = \"{}\"\nkey_file = \"{}\"\n[repository.s3]\nlock_for = \"{lock_for}\"\n\
             lock_mode = \"governance\"\n[agent]\nstate_dir = \"{}\"\n",
            ground.repository(),
            ground.key().display(),
            ground.path("agent-state").display(),
        );
        fs::write(&path, words).expect("the configuration can be written");
        path
    };
    let (short, long) = (config("1h"), config("12h"));
    // By the configuration, whose folder remembers the session: this server may let only one at a time write.
    ground.run(["init", "--config", text(&short)]).ok();
    let image = ground.path("disk.img");
    write_image(&image, 16 * MIB, 4 * MIB, 1);
    ground.run(["backup", "image", "--volume", "disk", text(&image), "--config", text(&short)]).ok();
    let status = |config: &Path| ground.run(["status", "--config", text(config)]);
    let fresh = status(&short);
    assert!(!fresh.json()["problems"].to_string().contains("locks"), "{fresh}");
    // As if half of a span had gone by and more, and every extension had failed.
    let late = status(&long);
    assert_eq!((late.code, &late.json()["health"]), (Some(1), &"at-risk".into()), "{late}");
    assert!(late.json()["problems"].to_string().contains("locks"), "{late}");
    ground.run(["repository", "extend-locks", "--config", text(&long)]).ok();
    let mended = status(&long);
    assert!(!mended.json()["problems"].to_string().contains("locks"), "{mended}");
}

#[test]
fn a_policy_says_to_which_copies_the_points_of_its_volumes_go() {
    let ground = Ground::new();
    ground.init();
    let path = ground.path("policies.toml");
    let write = |copies: &str| {
        let copy = |name: &str| {
            let url = ground.path(name);
            format!("[[repository.copies]]\nname = \"{name}\"\nurl = \"file://{}\"\n", url.display())
        };
        let words = format!(
            "[repository]\nurl = \"{}\"\nkey_file = \"{}\"\n{}{}[agent]\nstate_dir = \"{}\"\n\
             [[policy]]\nname = \"scratch\"\nvolumes = [\"scratch\"]\nschedule = \"@daily\"\ncopies = {copies}\n\
             [[policy]]\nname = \"rest\"\nvolumes = [\"*\"]\nschedule = \"@daily\"\n",
            ground.repository(),
            ground.key().display(),
            copy("near"),
            copy("far"),
            ground.path("agent-state").display(),
        );
        fs::write(&path, words).expect("the configuration can be written");
    };
    let config = text(&path);
    for (volume, seed) in [("db", 1), ("scratch", 2)] {
        let image = ground.path(&format!("{volume}.img"));
        write_image(&image, 32 * MIB, 12 * MIB, seed);
        ground.back_up_image(volume, &image).ok();
    }
    let bytes_of = |place: &str| -> u64 {
        packs_of(&ground.path(place)).iter().map(|pack| fs::metadata(pack).expect("a pack").len()).sum()
    };
    let comes_back = |place: &str, volume: &str| {
        let (target, from) = (ground.path("back.img"), format!("file://{}", ground.path(place).display()));
        let line = ground.restore_line(volume, &["--latest"], &target);
        let done = ground.call(line).args(["--repository", &from]).run();
        if done.code == Some(0) {
            assert_same(&ground.path(&format!("{volume}.img")), &target);
        }
        let _ = fs::remove_file(&target);
        done.code == Some(0)
    };
    write("[\"no-such-copy\"]");
    ground.run(["repository", "copy", "--config", config]).refused(1, "config.invalid");
    write("[\"near\"]");
    ground.run(["repository", "copy", "--config", config]).ok();
    assert!(
        bytes_of("near") > 24 * MIB && bytes_of("far") < 14 * MIB,
        "{} {}",
        bytes_of("near"),
        bytes_of("far")
    );
    assert!(comes_back("near", "scratch") && comes_back("far", "db") && !comes_back("far", "scratch"));
    ground.run(["repository", "check", "--read-data", "--all-places", "--config", config]).ok();
    let status = ground.run(["status", "--config", config]);
    assert_eq!(status.json()["copies"][1]["health"], "healthy", "{status}");

    write("[\"near\", \"far\"]");
    ground.run(["repository", "copy", "--config", config]).ok();
    assert!(comes_back("far", "scratch"));
    ground.run(["repository", "check", "--read-data", "--all-places", "--config", config]).ok();
}
