//! The rule of the map against the bytes themselves: no change may be missed, on a real filesystem with
//! reflinks.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::process::Command;

use rustix::fs::FallocateFlags;

use super::*;

/// An XFS with reflinks in a file, mounted; gone when it is dropped.
struct ScratchPool {
    folder: tempfile::TempDir,
    device: Option<String>,
}

impl ScratchPool {
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: needs root to mount a filesystem with reflinks");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("strongroom-test-").tempdir().unwrap();
        let image = folder.path().join("image");
        File::create(&image).unwrap().set_len(400 << 20).unwrap();
        let mut pool = Self { folder, device: None };
        run(Command::new("mkfs.xfs").args(["-q", "-m", "reflink=1"]).arg(&image));
        let output = Command::new("losetup").args(["-f", "--show"]).arg(&image).output().unwrap();
        assert!(output.status.success());
        let device = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        pool.device = Some(device.clone());
        std::fs::create_dir(pool.path("")).unwrap();
        run(Command::new("mount").args(["-t", "xfs", &device]).arg(pool.path("")));
        Some(pool)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("mounted").join(name)
    }
}

impl Drop for ScratchPool {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path("")).status();
        if let Some(device) = &self.device {
            let _ = Command::new("losetup").args(["-d", device]).status();
        }
    }
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

/// A small generator, so that a failure is repeated by its printed seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

const BYTES: u64 = 4 << 20;

fn write_something(file: &File, random: &mut Random) {
    let start = random.below(BYTES - 1);
    let length = (1 + random.below(200_000)).min(BYTES - start);
    let blocks = (start / 4096 * 4096, length.next_multiple_of(4096).min(BYTES - start / 4096 * 4096));
    let content = vec![u8::try_from(random.below(256)).unwrap(); usize::try_from(length).unwrap()];
    match random.below(7) {
        0..=2 => file.write_all_at(&content, start).unwrap(),
        3 => file.write_all_at(&content[..content.len().min(700)], start).unwrap(),
        4 => {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            rustix::fs::fallocate(file, flags, blocks.0, blocks.1).unwrap();
        }
        5 => rustix::fs::fallocate(file, FallocateFlags::ZERO_RANGE, blocks.0, blocks.1).unwrap(),
        _ => rustix::fs::fallocate(file, FallocateFlags::empty(), blocks.0, blocks.1).unwrap(),
    }
    if random.below(4) == 0 {
        file.sync_data().unwrap();
    }
}

fn snapshot(live: &File, path: &Path) {
    let _ = std::fs::remove_file(path);
    rustix::fs::ioctl_ficlone(File::create(path).unwrap(), live).unwrap();
}

/// Every byte that differs lies in `ranges`, which ascend and do not touch.
fn assert_covers(before: &[u8], after: &[u8], ranges: &[ByteRange], context: &str) {
    assert!(ranges.windows(2).all(|pair| pair[0].end() < pair[1].start()), "{context}: {ranges:?}");
    for (at, pair) in before.chunks(512).zip(after.chunks(512)).enumerate() {
        let at = at as u64 * 512;
        let named = ranges.iter().any(|range| range.start() <= at && at < range.end());
        assert!(pair.0 == pair.1 || named, "{context}: a change at byte {at} was missed: {ranges:?}");
    }
}

#[test]
fn no_change_between_two_snapshots_is_missed() {
    let Some(pool) = ScratchPool::new() else { return };
    let (live_path, base, target) = (pool.path("live"), pool.path("base"), pool.path("target"));
    let (mut differing, mut named) = (0, 0);
    for seed in 1..=150_u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let _ = std::fs::remove_file(&live_path);
        let live = OpenOptions::new().read(true).write(true).create_new(true).open(&live_path).unwrap();
        live.set_len(BYTES).unwrap();
        for _ in 0..random.below(40) {
            write_something(&live, &mut random);
        }
        snapshot(&live, &base);
        for _ in 0..random.below(30) {
            write_something(&live, &mut random);
        }
        snapshot(&live, &target);
        // The live file goes on; the snapshots must not see it.
        for _ in 0..10 {
            write_something(&live, &mut random);
        }
        let ranges: Vec<_> = changed(&base, &target, 0).unwrap().map(Result::unwrap).collect();
        let (before, after) = (std::fs::read(&base).unwrap(), std::fs::read(&target).unwrap());
        let context = format!("seed {seed}");
        assert_covers(&before, &after, &ranges, &context);
        differing += before.iter().zip(&after).filter(|pair| pair.0 != pair.1).count() as u64;
        named += ranges.iter().map(ByteRange::len).sum::<u64>();

        let allocated: Vec<_> = allocated_extents(&target, 0).unwrap().map(Result::unwrap).collect();
        assert_covers(&vec![0; after.len()], &after, &allocated, &context);
        // Walking from the middle gives the rest of the same walk.
        let middle = BYTES / 3;
        let rest: Vec<_> = changed(&base, &target, middle).unwrap().map(Result::unwrap).collect();
        let cut: Vec<_> = ranges
            .iter()
            .filter_map(|range| ByteRange::new(range.start().max(middle), range.end()).ok())
            .collect();
        assert_eq!(rest, cut, "{context}");
    }
    println!("{differing} bytes differ, {named} were named");
    assert!(differing > 10 << 20, "the test wrote too little to mean anything");
}

#[test]
fn a_map_of_many_extents_is_walked_in_batches() {
    let Some(pool) = ScratchPool::new() else { return };
    let (live_path, base, target) = (pool.path("live"), pool.path("base"), pool.path("target"));
    let live = OpenOptions::new().read(true).write(true).create_new(true).open(&live_path).unwrap();
    let blocks = 5 * sys::BATCH as u64;
    live.set_len(2 * blocks * 4096).unwrap();
    for number in 0..blocks {
        live.write_all_at(&[7; 4096], 2 * number * 4096).unwrap();
    }
    snapshot(&live, &base);
    assert_eq!(count_extents(&base).unwrap(), blocks);
    let wanted: Vec<u64> =
        (0..blocks).filter(|number| number % 3 == 0).map(|number| 2 * number * 4096).collect();
    for at in &wanted {
        live.write_all_at(&[8; 4096], *at).unwrap();
    }
    snapshot(&live, &target);
    let found: Vec<u64> = changed(&base, &target, 0).unwrap().map(|range| range.unwrap().start()).collect();
    assert_eq!(found, wanted);
    assert_eq!(allocated_extents(&target, 0).unwrap().count() as u64, blocks);
}

#[test]
fn a_snapshot_that_grew_or_shrank_is_compared_up_to_its_own_end() {
    let Some(pool) = ScratchPool::new() else { return };
    let (live_path, base, target) = (pool.path("live"), pool.path("base"), pool.path("target"));
    let live = OpenOptions::new().read(true).write(true).create_new(true).open(&live_path).unwrap();
    live.set_len(8192).unwrap();
    live.write_all_at(&[1; 8192], 0).unwrap();
    snapshot(&live, &base);
    live.set_len(20_480).unwrap();
    live.write_all_at(&[1; 4096], 16_384).unwrap();
    snapshot(&live, &target);
    let found: Vec<_> = changed(&base, &target, 0).unwrap().map(|range| range.unwrap().to_string()).collect();
    assert_eq!(found, ["16384..20480"]);
    assert_eq!(changed(&target, &base, 0).unwrap().count(), 0);
}

#[test]
fn files_on_different_filesystems_are_not_compared() {
    let Some(pool) = ScratchPool::new() else { return };
    std::fs::write(pool.path("one"), b"x").unwrap();
    std::fs::write(pool.folder.path().join("two"), b"x").unwrap();
    let refused = changed(&pool.path("one"), &pool.folder.path().join("two"), 0).unwrap_err();
    assert!(matches!(refused, BlockIoError::OtherFilesystem { .. }), "{refused:?}");
}

#[test]
fn what_cannot_be_placed_has_changed() {
    let extent = |flags| {
        let mut extent = RawExtent::default();
        (extent.physical, extent.length, extent.flags) = (8192, 4096, flags);
        extent
    };
    let (placed, zero) = (Content::of(&extent(0)), Content::of(&extent(UNWRITTEN)));
    assert!(!placed.differs(placed) && !zero.differs(Content::Zero) && placed.differs(zero));
    for flag in [UNKNOWN, DELALLOC, ENCODED, DATA_INLINE, DELALLOC | UNWRITTEN] {
        let unplaced = Content::of(&extent(flag));
        assert!(unplaced.differs(unplaced) && unplaced.differs(Content::Zero), "{flag:#x}");
    }
}

/// What is asked of the filesystem is counted, since time cannot be trusted.
#[test]
fn comparing_costs_what_there_are_of_extents_and_not_what_there_is_of_volume() {
    let Some(pool) = ScratchPool::new() else { return };
    let questions = |gib: u64, extents: u64| {
        let (old, new) = (pool.path("old"), pool.path("new"));
        for path in [&old, &new] {
            let _ = std::fs::remove_file(path);
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&old).unwrap();
        file.set_len(gib << 30).unwrap();
        // As far from each other as the file allows.
        for number in 0..extents {
            file.write_all_at(b"x", (gib << 30) / extents * number).unwrap();
        }
        file.sync_all().unwrap();
        rustix::fs::ioctl_ficlone(File::create(&new).unwrap(), &file).unwrap();
        let mut ranges = changed(&old, &new, 0).unwrap();
        assert!(ranges.next().is_none());
        ranges.questions()
    };
    let few = questions(1, 100);
    assert_eq!(questions(1024, 100), few, "a thousand times the size");
    let many = questions(1, 5000);
    assert_eq!(questions(1024, 5000), many);
    assert!(many > few && many <= 2 * (5000 / sys::BATCH as u64 + 2), "{few} {many}");
}
