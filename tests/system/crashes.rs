//! kill -9 at random moments, of whoever is at work. The next run succeeds, what was published stays whole, nothing leaks.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::answer::Answer;
use crate::call::Running;
use crate::content::{Noise, change_blocks, checksums, write_files};
use crate::ground::{Ground, text};
use crate::kernel::{is_root, sh};

type Sums = BTreeMap<PathBuf, String>;

/// The files of every recovery point, as they were when it was taken.
#[derive(Debug, Default)]
struct Truth(BTreeMap<String, Sums>);

impl Truth {
    /// Points that were published since the last look hold what the volume holds now: nothing else writes to it.
    fn learn(&mut self, ground: &Ground, now: &Sums) {
        for point in ground.points("db") {
            self.0.entry(point).or_insert_with(|| now.clone());
        }
    }
}

/// How long a kind of command has taken lately: a random moment in its life is one within that time.
#[derive(Debug)]
struct Lately(Duration);

impl Lately {
    fn moment(&self, noise: &mut Noise) -> Duration {
        self.0.mul_f64(noise.below(1000) as f64 / 1000.0)
    }

    fn learn(&mut self, answer: &Answer) {
        self.0 = answer.took;
    }
}

fn kill_at(moment: Duration, running: Running) -> bool {
    thread::sleep(moment);
    running.kill().code.is_none()
}

/// The files of an image, by way of a read-only mount. The log of a filesystem that was frozen is clean.
fn files_of(image: &Path, at: &Path) -> Sums {
    fs::create_dir_all(at).expect("a mount point can be made");
    sh("mount", &["-o", "loop,ro", text(image), text(at)]);
    let sums = checksums(at);
    sh("umount", &[text(at)]);
    sums
}

#[test]
fn twenty_kills_at_random_moments_lose_nothing_and_leak_nothing() {
    if !is_root("twenty_kills_at_random_moments_lose_nothing_and_leak_nothing") {
        return;
    }
    let seed = std::env::var("STRONGROOM_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(7);
    println!("seed {seed} (STRONGROOM_TEST_SEED)");
    let mut noise = Noise::new(seed);
    let mut ground = Ground::new();
    ground.init();
    ground.start_driver("4GiB");
    let mount = ground.mounted_volume("db", "256MiB");
    write_files(&mount, 30, 400_000, seed);
    let mut truth = Truth::default();
    let config = ground.config("");
    let config = text(&config);

    let back_up = ["backup", "run", "--volume", "db", "--config", config];
    let prune = ["repository", "prune"];
    let mut backup_takes = Lately(Duration::ZERO);
    let mut restore_takes = Lately(Duration::from_millis(300));
    let mut prune_takes = Lately(Duration::from_millis(60));
    backup_takes.learn(&ground.run(back_up).ok());
    truth.learn(&ground, &checksums(&mount));
    let mut killed = 0;
    for round in 0..20_u64 {
        match round % 4 {
            // A backup, and the driver below it in every other one.
            0 | 1 => {
                write_files(&mount, 6, 300_000, seed + 100 + round);
                change_blocks(&mount.join("folder-0/file-0"), 10, round);
                let now = checksums(&mount);
                let running = ground.call(back_up).start();
                let moment = backup_takes.moment(&mut noise);
                if round % 4 == 1 {
                    thread::sleep(moment);
                    ground.kill_driver();
                    running.wait();
                    killed += 1;
                    ground.start_driver("4GiB");
                    assert_eq!(
                        checksums(&mount),
                        now,
                        "a volume in use stays in use while the driver is gone"
                    );
                } else {
                    killed += u32::from(kill_at(moment, running));
                }
                truth.learn(&ground, &now);
                backup_takes.learn(&ground.run(back_up).ok());
                truth.learn(&ground, &now);
            }
            // A restore in place.
            2 => {
                let points = ground.points("db");
                let choice = noise.below(points.len() as u64);
                let point = &points[usize::try_from(choice).expect("it is below the length")];
                let line = ["restore", "run", "--volume", "db", "--point", point, "--in-place", "--yes"];
                let moment = restore_takes.moment(&mut noise);
                killed += u32::from(kill_at(moment, ground.call(line).start()));
                restore_takes.learn(&ground.run(line).ok());
                ground.mount_again("db", &mount);
                assert_eq!(
                    checksums(&mount),
                    truth.0[point],
                    "round {round}: the volume is as it was at {point}"
                );
            }
            // A sweep, with something to free.
            _ => {
                let points = ground.points("db");
                if points.len() > 4 {
                    ground.run(["points", "forget", &points[1]]).ok();
                    truth.0.remove(&points[1]);
                }
                let moment = prune_takes.moment(&mut noise);
                killed += u32::from(kill_at(moment, ground.call(prune).start()));
                prune_takes.learn(&ground.run(prune).ok());
            }
        }
    }
    assert!(killed >= 10, "the kills came too late to say anything: {killed} of 20");

    // Every point, bit by bit as far as files can tell.
    let points = ground.points("db");
    assert!(points.len() >= 4, "{points:?}");
    for point in &points {
        let image = ground.path("check.img");
        let _ = fs::remove_file(&image);
        ground.restore_to_file("db", &["--point", point], &image).ok();
        assert_eq!(files_of(&image, &ground.path("check")), truth.0[point], "{point}");
    }
    ground.run(["repository", "check", "--read-data"]).ok();
    ground.run(["volume", "unmount", "db"]).ok();
    ground.run(["volume", "delete", "db"]).ok();
    ground.stop_driver();
    ground.assert_nothing_leaks();
}

#[test]
fn what_is_in_the_bucket_already_is_not_sent_again_after_a_kill() {
    use crate::content::write_image;
    const MIB: u64 = 1 << 20;
    let ground = Ground::new();
    ground.init();
    let image = ground.path("disk.img");
    write_image(&image, 1024 * MIB, 400 * MIB, 11);
    let running = ground.call(["backup", "image", "--volume", "disk", text(&image)]).start();
    // Until some packs are there.
    let packs = ground.path("repository/packs");
    let stored = || sh("du", &["-sb", text(&ground.path("repository"))]);
    for _ in 0..4000 {
        if fs::read_dir(&packs).into_iter().flatten().count() >= 2 {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    let answer = running.kill();
    assert_eq!(answer.code, None, "it was killed before its end: {answer}");
    println!("stored when it was killed: {}", stored());
    let run = ground.back_up_image("disk", &image).ok().json();
    let sent = run["sent_bytes"].as_u64().expect("a number");
    assert!(sent < 370 * MIB, "at least one whole pack was not sent again: {run}");
    ground.restore_to_file("disk", &["--latest"], &ground.path("back.img")).ok();
    crate::content::assert_same(&image, &ground.path("back.img"));
}

#[test]
fn several_writers_and_a_sweep_at_the_same_time_lose_nothing() {
    use crate::content::{assert_same, write_image};
    let ground = Ground::new();
    ground.init();
    let images: Vec<_> =
        (0..3_u64).map(|number| (format!("disk-{number}"), ground.path(&format!("{number}.img")))).collect();
    for round in 0..3_u64 {
        let mut running = Vec::new();
        for (number, (volume, image)) in (0..).zip(&images) {
            write_image(image, 64 << 20, 6 << 20, 100 * round + number);
            running.push(ground.call(["backup", "image", "--volume", volume, text(image)]).start());
        }
        // Something to free, while they are at work.
        for (volume, _) in &images {
            if let [oldest, _, ..] = ground.points(volume).as_slice() {
                ground.run(["points", "forget", oldest]).ok();
            }
        }
        running.push(ground.call(["repository", "prune"]).start());
        for command in running {
            command.wait().ok();
        }
    }
    ground.run(["repository", "prune"]).ok();
    ground.run(["repository", "check", "--read-data"]).ok();
    for (volume, image) in &images {
        let back = ground.path(&format!("{volume}.back"));
        ground.restore_to_file(volume, &["--latest"], &back).ok();
        assert_same(image, &back);
    }
}
