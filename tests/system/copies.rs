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
