//! Memory is bounded by settings, whatever the size of the volume.

use std::fs;

use crate::answer::Answer;
use crate::content::{assert_same, write_compressible_image};
use crate::ground::Ground;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// What the issue promises for backup and restore of any volume.
const PROMISED_BYTES: u64 = 256 * MIB;

fn measure(volume_bytes: u64, data_bytes: u64) {
    let ground = Ground::new();
    ground.init();
    let image = ground.path("disk.img");
    write_compressible_image(&image, volume_bytes, data_bytes, 1);
    let back = ground.path("back.img");
    let tell = |what: &str, answer: &Answer| {
        println!(
            "{what} of {} MiB in a volume of {} GiB: {:.1} s, {:.1} s CPU, at most {} MiB of memory",
            data_bytes / MIB,
            volume_bytes / GIB,
            answer.took.as_secs_f64(),
            answer.cpu_s,
            answer.peak_bytes / MIB
        );
        assert!(answer.peak_bytes > MIB, "the measurement works");
        assert!(answer.peak_bytes <= PROMISED_BYTES, "{what} took {} MiB", answer.peak_bytes / MIB);
    };
    tell("first backup", &ground.back_up_image("disk", &image).ok());
    tell("second backup", &ground.back_up_image("disk", &image).ok());
    if data_bytes < GIB {
        tell("restore", &ground.restore_to_file("disk", &["--latest"], &back).ok());
        assert_same(&image, &back);
    } else {
        // There may be no room for both; the restore reads everything back and compares it with its ids.
        fs::remove_file(&image).expect("it was written");
        tell("restore", &ground.restore_to_file("disk", &["--latest"], &back).ok());
    }
}

#[test]
fn a_sparse_volume_of_256_gib_needs_no_more_memory_than_a_small_one() {
    measure(256 * GIB, 256 * MIB);
}

/// 1 TiB with 20 GiB of data: minutes, so only `make bench` runs it.
#[test]
fn a_sparse_volume_of_1_tib_needs_no_more_memory_than_a_small_one() {
    if std::env::var_os("STRONGROOM_BENCH").is_none() {
        println!("SKIPPED: 1 TiB is measured by make bench");
        return;
    }
    measure(1024 * GIB, 20 * GIB);
}
