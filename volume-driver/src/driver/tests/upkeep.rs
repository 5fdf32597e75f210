//! Putting images in order, and giving back what is free.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::background::Stop;
use crate::nouns::{Volume, VolumeKind};
use crate::registry::VolumeRow;
use crate::requests::StageRequest;
use crate::testing::{Bench, MIB};

fn row(bench: &Bench, volume: &Volume) -> VolumeRow {
    bench.driver().volume_row(volume.id)
}

/// A raw volume of 64 MiB and its device.
fn raw(bench: &Bench) -> (Volume, File) {
    let volume = bench.create("raw", 64, VolumeKind::Block);
    let request = StageRequest {
        volume: volume.id,
        path: bench.scratch.path("staging"),
        access: crate::nouns::Access::Block,
        filesystem: None,
        options: Vec::new(),
    };
    bench.driver().stage(&request).unwrap();
    let device = bench.driver().brief(volume.id).unwrap().device.unwrap();
    (volume, OpenOptions::new().read(true).write(true).open(device).unwrap())
}

fn scatter(device: &File, seed: &mut u64, count: u64, byte: u8) {
    for _ in 0..count {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let block = (*seed >> 33) % (64 * MIB / 4096);
        device.write_all_at(&[byte; 4096], block * 4096).unwrap();
    }
    device.sync_all().unwrap();
}

fn content(path: &std::path::Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[test]
fn an_image_in_many_pieces_lies_in_few_after_its_snapshot_and_stays_the_same() {
    let Some(bench) = Bench::new() else { return };
    let driver = bench.driver();
    let (volume, device) = raw(&bench);
    device.write_all_at(&vec![1; 64 << 20], 0).unwrap();
    device.sync_all().unwrap();
    bench.snapshot(&volume, "first");
    let mut seed = 3;
    scatter(&device, &mut seed, 2000, 2);
    let second = bench.snapshot(&volume, "second");
    let cost = driver.brief(volume.id).unwrap().last_snapshot.unwrap();
    assert!(cost.extents > 1000, "{cost:?}");

    // Somebody goes on writing to one part of it.
    let ended = AtomicBool::new(false);
    let tidied = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut round = 0_u8;
            while !ended.load(Ordering::Relaxed) {
                round = round.wrapping_add(1).max(1);
                for block in 0..64 {
                    device.write_all_at(&[round; 4096], block * 4096).unwrap();
                }
                device.sync_all().unwrap();
            }
            round
        });
        let tidied = driver.tidy(&row(&bench, &volume), &Stop::default()).unwrap();
        ended.store(true, Ordering::Relaxed);
        let round = writer.join().unwrap();
        let mut found = vec![0; 64 * 4096];
        device.read_exact_at(&mut found, 0).unwrap();
        assert!(found.iter().all(|byte| *byte == round), "what was written meanwhile is there");
        tidied
    });
    assert!(tidied.after * 5 < tidied.before, "{tidied:?}");
    let third = bench.snapshot(&volume, "third");
    let cost = driver.brief(volume.id).unwrap().last_snapshot.unwrap();
    assert!(cost.extents < 400, "{cost:?}");
    // All that nobody wrote to is what it was, and what changed is reported.
    let second_bytes = content(&driver.open_snapshot(second.id).unwrap());
    let third_bytes = content(&driver.open_snapshot(third.id).unwrap());
    assert!(second_bytes[64 * 4096..] == third_bytes[64 * 4096..]);
    let mut reported = driver.changed(Some(second.id), third.id, 0).unwrap();
    assert!(reported.any(|range| range.unwrap().start() == 0));
}

#[test]
fn what_was_deleted_in_a_volume_comes_back_to_the_pool() {
    let Some(bench) = Bench::new() else { return };
    let driver = bench.driver();
    for (name, kind) in [("ext4", VolumeKind::Ext4), ("xfs", VolumeKind::Xfs)] {
        let volume = bench.create(name, 400, kind);
        let folder = bench.mount(&volume, name);
        std::fs::write(folder.join("large"), vec![7; 100 << 20]).unwrap();
        rustix::fs::sync();
        let full = driver.brief(volume.id).unwrap().allocated_bytes;
        std::fs::remove_file(folder.join("large")).unwrap();
        rustix::fs::sync();
        // XFS frees the blocks of a deleted file in the background.
        let back = (0..100).any(|_| {
            let trimmed = driver.trim(&row(&bench, &volume), &Stop::default()).unwrap().unwrap();
            assert!(trimmed > 90 * MIB, "{trimmed}");
            let now = driver.brief(volume.id).unwrap().allocated_bytes;
            std::thread::sleep(std::time::Duration::from_millis(100));
            now + 90 * MIB < full
        });
        assert!(back, "{name}: not in ten seconds");
    }
}
