//! Changed blocks against the bytes themselves: random operations in a mounted filesystem, snapshots, and every byte that
//! differs must be in what the driver reports.
//!
//! The whole way is taken: files in ext4 or XFS, the loop device, the driver's snapshot under a freeze,
//! `GetMetadataDelta`. `STRONGROOM_TRIALS` says how many trials a filesystem gets (the nightly run: 500), and
//! `STRONGROOM_TRIALS_SEED` repeats a run.

#![expect(clippy::cast_possible_truncation, reason = "sizes of tests are small")]

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::FallocateFlags;
use strongroom_proto::control::OpenSnapshotRequest;
use strongroom_proto::csi::{DeleteSnapshotRequest, GetMetadataDeltaRequest};

use crate::ground::{Ground, MIB, new_volume};

const BLOCK: u64 = 4096;
const FILES: u64 = 12;
const FILE_BYTES: u64 = 2 * MIB;

/// A small generator, so that a failure is repeated by its printed seed.
struct Random {
    state: u64,
    /// Whether writes may repeat what is there already.
    repeats: bool,
}

impl Random {
    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn bytes(&mut self, length: u64) -> Vec<u8> {
        // A third of all writes, where they may.
        let word = if self.repeats && self.below(3) == 0 { 0x5a } else { self.next() };
        word.to_le_bytes().into_iter().cycle().take(usize::try_from(length).unwrap()).collect()
    }
}

#[repr(C, align(4096))]
struct Aligned([u8; 64 << 10]);

/// One thing that a workload may do. What the filesystem refuses (a hole in a file that is gone) is no matter.
fn operate(folder: &Path, random: &mut Random) {
    let path = folder.join(format!("f{}", random.below(FILES)));
    let offset = random.below(FILE_BYTES);
    let length = 1 + random.below(96 << 10);
    let open = |flags: i32| {
        OpenOptions::new().read(true).write(true).create(true).truncate(false).custom_flags(flags).open(&path)
    };
    let carve = |mode: FallocateFlags, offset: u64, length: u64| {
        if let Ok(file) = open(0) {
            let _ = rustix::fs::fallocate(&file, mode, offset, length);
        }
    };
    match random.below(20) {
        0..=4 => {
            let bytes = random.bytes(length);
            open(0).unwrap().write_all_at(&bytes, offset).unwrap();
        }
        5..=7 => {
            let direct = rustix::fs::OFlags::DIRECT.bits().cast_signed();
            let length = usize::try_from((1 + random.below(16)) * BLOCK).unwrap();
            let mut buffer = Box::new(Aligned([0; 64 << 10]));
            buffer.0[..length].copy_from_slice(&random.bytes(length as u64));
            open(direct).unwrap().write_all_at(&buffer.0[..length], offset / BLOCK * BLOCK).unwrap();
        }
        8 => open(0).unwrap().set_len(offset).unwrap(),
        9 => drop(fs::remove_file(&path)),
        10 => drop(fs::rename(&path, folder.join(format!("f{}", random.below(FILES))))),
        11 => carve(FallocateFlags::empty(), offset, length),
        12 => carve(FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, length),
        13 => carve(FallocateFlags::ZERO_RANGE, offset, length),
        14 => carve(FallocateFlags::COLLAPSE_RANGE, offset / BLOCK * BLOCK, BLOCK),
        15 => {
            if let Ok(from) = File::open(&path) {
                let to = File::create(folder.join(format!("f{}", random.below(FILES)))).unwrap();
                // Only XFS can.
                let _ = rustix::fs::ioctl_ficlone(&to, &from);
            }
        }
        16 => open(0).unwrap().sync_data().unwrap(),
        17 => {
            // Rewriting equal bytes is no change, and is reported as one.
            if random.repeats
                && let Ok(file) = open(0)
            {
                let mut bytes = vec![0; 16 << 10];
                if let Ok(read) = file.read_at(&mut bytes, offset) {
                    file.write_all_at(&bytes[..read], offset).unwrap();
                }
            }
        }
        18 => {
            // Discards of what is free; not every time, since it walks the whole filesystem.
            if random.below(4) == 0 {
                let _ = Command::new("fstrim").arg(folder).output();
            }
        }
        _ => {
            fs::create_dir_all(folder.join(format!("d{}", random.below(8)))).unwrap();
        }
    }
}

/// What is compared, in blocks of 4 KiB.
#[derive(Debug, Default)]
struct Tally {
    trials: u64,
    changed: u64,
    reported: u64,
    /// Reported, and equal.
    beyond: u64,
    ranges: u64,
}

/// The offsets of blocks in which the images differ, found by reading both wherever one holds data.
fn differences(older: &File, newer: &File, bytes: u64) -> Vec<u64> {
    let mut found = Vec::new();
    let (mut left, mut right) = (vec![0; MIB as usize], vec![0; MIB as usize]);
    let next =
        |file: &File, from: u64| rustix::fs::seek(file, rustix::fs::SeekFrom::Data(from)).unwrap_or(bytes);
    let mut at = 0;
    while at < bytes {
        // What is a hole in both is zeros in both.
        at = next(older, at).min(next(newer, at)) / BLOCK * BLOCK;
        if at >= bytes {
            break;
        }
        let length = usize::try_from(MIB.min(bytes - at)).unwrap();
        older.read_exact_at(&mut left[..length], at).unwrap();
        newer.read_exact_at(&mut right[..length], at).unwrap();
        if left[..length] != right[..length] {
            for block in (0..length).step_by(BLOCK as usize) {
                if left[block..block + BLOCK as usize] != right[block..block + BLOCK as usize] {
                    found.push(at + block as u64);
                }
            }
        }
        at += length as u64;
    }
    found
}

async fn image(ground: &mut Ground, snapshot: &str) -> (File, u64) {
    let request = OpenSnapshotRequest { snapshot_id: snapshot.to_owned() };
    let opened = ground.clients.driver.open_snapshot(request).await.unwrap().into_inner();
    (File::open(opened.path).unwrap(), opened.bytes)
}

async fn compare(ground: &mut Ground, older: &str, newer: &str, tally: &mut Tally, told: &str) {
    let request = GetMetadataDeltaRequest {
        base_snapshot_id: older.to_owned(),
        target_snapshot_id: newer.to_owned(),
        ..Default::default()
    };
    let mut reported: Vec<(u64, u64)> = Vec::new();
    let mut stream = ground.clients.snapshot_metadata.get_metadata_delta(request).await.unwrap().into_inner();
    while let Some(piece) = stream.message().await.unwrap() {
        reported.extend(piece.block_metadata.iter().map(|block| {
            let from = u64::try_from(block.byte_offset).unwrap();
            (from, from + u64::try_from(block.size_bytes).unwrap())
        }));
    }
    let ((left, bytes), (right, _)) = (image(ground, older).await, image(ground, newer).await);
    let changed = differences(&left, &right, bytes);
    for block in &changed {
        let at = reported.partition_point(|(_, end)| *end <= *block);
        let covered = reported.get(at).is_some_and(|(from, end)| *from <= *block && block + BLOCK <= *end);
        assert!(covered, "{told}: the block at {block} differs and was not reported");
    }
    let blocks: u64 = reported.iter().map(|(from, end)| (end - from).div_ceil(BLOCK)).sum();
    tally.trials += 1;
    tally.changed += changed.len() as u64;
    tally.reported += blocks;
    tally.beyond += blocks - changed.len() as u64;
    tally.ranges += reported.len() as u64;
}

async fn trials(fs: &str, mib: u64) {
    let Some(mut ground) = Ground::new("trials of changed blocks").await else { return };
    let number = |name: &str, usual: u64| std::env::var(name).map_or(usual, |text| text.parse().unwrap());
    let count = number("STRONGROOM_TRIALS", 40);
    let seed = number("STRONGROOM_TRIALS_SEED", u64::from(std::process::id()) << 20 | 1);
    println!("seed {seed}, {count} trials on {fs}");
    let mut random = Random { state: seed, repeats: false };
    let mut request = new_volume("trial", mib);
    request.volume_capabilities = vec![crate::ground::mount(fs)];
    let volume = ground.clients.controller.create_volume(request).await.unwrap().into_inner().volume.unwrap();
    let id = volume.volume_id;
    fs::create_dir_all(ground.path("stage/v")).unwrap();
    fs::create_dir_all(ground.path("pods")).unwrap();
    let mut stage = ground.stage_request(&id, "v");
    stage.volume_capability = Some(crate::ground::mount(fs));
    ground.clients.node.node_stage_volume(stage).await.unwrap();
    let folder: PathBuf = ground.path("stage/v");

    // Every other trial writes again what is there, as programs do: what those report beyond the truth says how the
    // workload was chosen, so it is counted apart.
    let mut tallies = [Tally::default(), Tally::default()];
    let mut older = ground.snapshot(&id, "trial-0").await.snapshot_id;
    for trial in 1..=count {
        random.repeats = trial % 2 == 0;
        for _ in 0..=random.below(40) {
            operate(&folder, &mut random);
        }
        let newer = ground.snapshot(&id, &format!("trial-{trial}")).await.snapshot_id;
        // The live volume goes on changing; that must not be seen.
        for _ in 0..random.below(8) {
            operate(&folder, &mut random);
        }
        let told = format!("seed {seed}, trial {trial} on {fs}");
        compare(&mut ground, &older, &newer, &mut tallies[usize::from(random.repeats)], &told).await;
        let request = DeleteSnapshotRequest { snapshot_id: older, ..Default::default() };
        ground.clients.controller.delete_snapshot(request).await.unwrap();
        older = newer;
    }
    let [beyond, with_repeats] = tallies.each_ref().map(|tally| {
        assert!(tally.changed > 0);
        tally.beyond as f64 * 100.0 / tally.reported.max(1) as f64
    });
    println!(
        "{fs}: none missed; {beyond:.2} % beyond the truth, {with_repeats:.2} % where equal bytes are written again"
    );
    println!("{fs}: {tallies:?}");
    assert_eq!(tallies.iter().map(|tally| tally.trials).sum::<u64>(), count);
    // Of few trials chance has its share.
    assert!(beyond < if count >= 200 { 5.0 } else { 10.0 }, "{beyond} % more was reported than had changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_change_in_an_ext4_is_ever_missed() {
    trials("ext4", 64).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_change_in_an_xfs_is_ever_missed() {
    trials("xfs", 320).await;
}
