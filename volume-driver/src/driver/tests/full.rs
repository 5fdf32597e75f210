//! The pool runs full while somebody writes: nothing that was acknowledged is lost, the condition says what is going on,
//! and deleting a snapshot is enough to go on.

#![expect(clippy::cast_possible_truncation, reason = "sizes of tests are small")]

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use strongroom_model::Failure as _;

use crate::background::Background;
use crate::driver::Driver;
use crate::limits::{Limits, Reserve, WhenFull};
use crate::nouns::{Volume, VolumeKind};
use crate::requests::DriverSettings;
use crate::testing::{MIB, Scratch, can_mount, create, settings, snapshot_request, volume_request, world};

/// What the writer writes at a time.
const RECORD_BYTES: u64 = 64 << 10;

/// Before the snapshot, and in all. All of it fits into the pool once, and not twice.
const FIRST_BYTES: u64 = 120 * MIB;
const ALL_BYTES: u64 = 300 * MIB;
const POOL_BYTES: u64 = 500 * MIB;

/// How many records are written before they are made durable, and so acknowledged.
const AT_ONCE: usize = 16;

/// What the condition of a volume says whose writers wait.
const WAITING: &str = "its writers wait";

/// How long anything may take on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(200);

/// Memory that direct I/O accepts.
#[repr(C, align(4096))]
struct Aligned([u8; RECORD_BYTES as usize]);

/// Writes records to random places, and remembers what was acknowledged.
struct Writer {
    path: PathBuf,
    direct: bool,
    /// Per record: the generation that was acknowledged last, and the one that was tried last.
    records: Mutex<Vec<(u32, u32)>>,
    acknowledged: AtomicU64,
    failed: AtomicU64,
    stop: AtomicBool,
}

impl Writer {
    fn new(path: PathBuf, direct: bool) -> Arc<Self> {
        let records = Mutex::new(vec![(0, 0); (ALL_BYTES / RECORD_BYTES) as usize]);
        Arc::new(Self {
            path,
            direct,
            records,
            acknowledged: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        })
    }

    fn open(&self) -> File {
        let flags = if self.direct { rustix::fs::OFlags::DIRECT.bits().cast_signed() } else { 0 };
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(flags)
            .open(&self.path)
            .unwrap()
    }

    /// A record says which it is, in which generation, and holds bytes that follow from both.
    fn fill(buffer: &mut Aligned, number: usize, generation: u32) {
        let word = ((number as u64) << 32 | u64::from(generation)).to_le_bytes();
        for (at, piece) in buffer.0.chunks_exact_mut(8).enumerate() {
            piece.copy_from_slice(&word);
            piece[7] ^= at.to_le_bytes()[0];
        }
    }

    /// Writes some records and makes them durable.
    fn write(&self, file: &File, buffer: &mut Aligned, numbers: &[usize]) -> std::io::Result<()> {
        let mut written = Vec::new();
        for number in numbers {
            let generation = {
                let mut records = self.records.lock().unwrap();
                records[*number].1 += 1;
                records[*number].1
            };
            Self::fill(buffer, *number, generation);
            file.write_all_at(&buffer.0, *number as u64 * RECORD_BYTES)?;
            written.push((*number, generation));
        }
        file.sync_data()?;
        for (number, generation) in written {
            self.records.lock().unwrap()[number].0 = generation;
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn fill_first(&self) {
        let file = self.open();
        let mut buffer = Box::new(Aligned([0; RECORD_BYTES as usize]));
        for number in 0..(FIRST_BYTES / RECORD_BYTES) as usize {
            Self::fill(&mut buffer, number, 1);
            self.records.lock().unwrap()[number] = (0, 1);
            file.write_all_at(&buffer.0, number as u64 * RECORD_BYTES).unwrap();
        }
        file.sync_all().unwrap();
        for record in &mut self.records.lock().unwrap()[..(FIRST_BYTES / RECORD_BYTES) as usize] {
            record.0 = 1;
        }
    }

    fn run(self: &Arc<Self>) -> Running {
        let writer = Arc::clone(self);
        let handle = thread::spawn(move || {
            let file = writer.open();
            let mut buffer = Box::new(Aligned([0; RECORD_BYTES as usize]));
            let count = ALL_BYTES / RECORD_BYTES;
            let mut seed = 7_u64;
            while !writer.stop.load(Ordering::Relaxed) {
                let numbers: Vec<usize> = (0..AT_ONCE)
                    .map(|_| {
                        seed = seed.wrapping_mul(6_364_136_223_846_793_005);
                        seed = seed.wrapping_add(1_442_695_040_888_963_407);
                        ((seed >> 33) % count) as usize
                    })
                    .collect();
                if writer.write(&file, &mut buffer, &numbers).is_err() {
                    writer.failed.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(5));
                }
            }
        });
        Running { writer: Arc::clone(self), handle: Some(handle) }
    }

    /// Every record that was acknowledged is there, whole, in that generation or one that was tried after it.
    fn verify(&self) {
        let file = self.open();
        let mut found = Box::new(Aligned([0; RECORD_BYTES as usize]));
        let mut expected = Box::new(Aligned([0; RECORD_BYTES as usize]));
        for (number, (acknowledged, tried)) in self.records.lock().unwrap().iter().enumerate() {
            if *acknowledged == 0 {
                continue;
            }
            file.read_exact_at(&mut found.0, number as u64 * RECORD_BYTES).unwrap();
            Self::fill(&mut expected, number, *acknowledged);
            if found.0 == expected.0 {
                continue;
            }
            // Writes since then may have reached some of its blocks: each holds one of the generations.
            let mut fits = [false; RECORD_BYTES as usize / 4096];
            for generation in *acknowledged..=*tried {
                Self::fill(&mut expected, number, generation);
                for (block, fits) in fits.iter_mut().enumerate() {
                    *fits |= expected.0[block * 4096..][..4096] == found.0[block * 4096..][..4096];
                }
            }
            assert!(
                !fits.contains(&false),
                "record {number}: acknowledged {acknowledged}, tried {tried}: {fits:?}"
            );
        }
    }
}

/// A writer at work. It is told to end whatever becomes of the test.
struct Running {
    writer: Arc<Writer>,
    handle: Option<thread::JoinHandle<()>>,
}

impl Running {
    fn end(mut self) {
        self.writer.stop.store(true, Ordering::Relaxed);
        self.handle.take().unwrap().join().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.writer.stop.store(true, Ordering::Relaxed);
    }
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "{what} did not come");
        thread::sleep(Duration::from_millis(20));
    }
}

fn small(scratch: &Scratch, when_full: WhenFull) -> DriverSettings {
    let limits = Limits { when_full, ..Limits::default() };
    DriverSettings { pool_bytes: Some(POOL_BYTES), limits, ..settings(scratch) }
}

/// Mounts a volume that is larger than the pool, fills a part of it, takes a snapshot and lets a writer run.
fn write_into(
    driver: &Driver,
    scratch: &Scratch,
    kind: VolumeKind,
    direct: bool,
) -> (Volume, Arc<Writer>, Running) {
    let volume = create(driver, "v", 700, kind);
    let folder = scratch.folder("m");
    driver.mount(volume.id, &folder, &[]).unwrap();
    let writer = Writer::new(folder.join("data"), direct);
    writer.fill_first();
    driver.create_snapshot(&snapshot_request(&volume, "s")).unwrap();
    let running = writer.run();
    (volume, writer, running)
}

fn check_filesystem(driver: &Driver, volume: &Volume, kind: VolumeKind) {
    let images = fs::read_dir(driver.pool_root().join("volumes")).unwrap();
    let image = images
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().contains(&volume.id.to_string()));
    let image = image.unwrap();
    let output = match kind {
        VolumeKind::Xfs => Command::new("xfs_repair").args(["-n", "-f"]).arg(&image).output(),
        _ => Command::new("e2fsck").args(["-f", "-n"]).arg(&image).output(),
    };
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn delete_snapshots(driver: &Driver) {
    for snapshot in driver.snapshots(&crate::requests::SnapshotFilter::default()).unwrap() {
        driver.delete_snapshot(snapshot.id).unwrap();
    }
}

fn condition(driver: &Driver, volume: &Volume) -> String {
    driver.brief(volume.id).unwrap().condition.unwrap_or_default()
}

fn writers_wait(kind: VolumeKind, direct: bool) {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::in_memory();
    let driver = Arc::new(Driver::open(small(&scratch, WhenFull::Wait), world()).unwrap().0);
    let watched = Arc::clone(&driver);
    let watch = Background::start("pool-watch", move |_| watched.watch_room()).unwrap();
    let (volume, writer, running) = write_into(&driver, &scratch, kind, direct);

    wait("the pause", || condition(&driver, &volume).contains(WAITING));
    let before = writer.acknowledged.load(Ordering::Relaxed);
    thread::sleep(Duration::from_millis(300));
    // One round of writes may have been under way when the filesystem froze.
    assert!(writer.acknowledged.load(Ordering::Relaxed) <= before + AT_ONCE as u64);
    let refused = driver.create_snapshot(&snapshot_request(&volume, "another")).unwrap_err();
    assert_eq!(refused.code(), "driver.pool-full", "{refused}");
    assert!(driver.capacity().unwrap().condition.unwrap().contains("full"));

    delete_snapshots(&driver);
    let before = writer.acknowledged.load(Ordering::Relaxed);
    wait("the writer", || writer.acknowledged.load(Ordering::Relaxed) > before + 3 * AT_ONCE as u64);
    running.end();
    assert_eq!(writer.failed.load(Ordering::Relaxed), 0, "no write failed");
    wait("the end of the condition", || !condition(&driver, &volume).contains(WAITING));
    writer.verify();
    driver.unmount(volume.id, None).unwrap();
    check_filesystem(&driver, &volume, kind);
    drop(watch);
}

#[test]
fn those_who_write_to_ext4_wait_in_a_full_pool_until_a_snapshot_is_deleted() {
    writers_wait(VolumeKind::Ext4, true);
}

#[test]
fn those_who_write_to_ext4_through_the_page_cache_wait_in_a_full_pool() {
    writers_wait(VolumeKind::Ext4, false);
}

#[test]
fn those_who_write_to_xfs_wait_in_a_full_pool_until_a_snapshot_is_deleted() {
    writers_wait(VolumeKind::Xfs, false);
}

#[test]
fn those_who_write_to_xfs_past_the_page_cache_wait_in_a_full_pool() {
    writers_wait(VolumeKind::Xfs, true);
}

/// With `--when-full fail` the pool really runs to its last block.
fn writes_fail(kind: VolumeKind, direct: bool) {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::in_memory();
    let driver = Driver::open(small(&scratch, WhenFull::Fail), world()).unwrap().0;
    let (volume, writer, running) = write_into(&driver, &scratch, kind, direct);
    wait("failing writes", || writer.failed.load(Ordering::Relaxed) > 20);
    let told = condition(&driver, &volume);
    assert!(
        told.contains("writes fail") || told.contains("has stopped") || told.contains("errors"),
        "{told}"
    );
    running.end();

    delete_snapshots(&driver);
    driver.unmount(volume.id, None).unwrap();
    driver.mount(volume.id, &scratch.path("m"), &[]).unwrap();
    wait("the end of the condition", || condition(&driver, &volume).is_empty());
    writer.verify();
    let file = writer.open();
    let mut buffer = Box::new(Aligned([0; RECORD_BYTES as usize]));
    writer.write(&file, &mut buffer, &(0..100).collect::<Vec<_>>()).unwrap();
    drop(file);
    writer.verify();
    driver.unmount(volume.id, None).unwrap();
    check_filesystem(&driver, &volume, kind);
}

#[test]
fn where_writes_fail_in_a_full_pool_ext4_is_whole_after_the_next_mount() {
    writes_fail(VolumeKind::Ext4, false);
}

#[test]
fn where_writes_fail_in_a_full_pool_xfs_is_whole_after_the_next_mount() {
    writes_fail(VolumeKind::Xfs, true);
}

#[test]
fn a_volume_whose_writers_wait_can_be_unmounted() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::in_memory();
    let driver = Driver::open(small(&scratch, WhenFull::Wait), world()).unwrap().0;
    let volume = create(&driver, "v", 64, VolumeKind::Ext4);
    let folder = scratch.folder("m");
    driver.mount(volume.id, &folder, &[]).unwrap();
    let hog = fill_up(driver.pool_root());
    driver.watch_room().unwrap();
    assert!(condition(&driver, &volume).contains(WAITING));
    driver.unmount(volume.id, None).unwrap();
    assert!(!condition(&driver, &volume).contains(WAITING));
    fs::remove_file(hog).unwrap();
}

#[test]
fn a_snapshot_made_as_soon_as_the_pool_has_room_again_does_not_meet_its_own_pause() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::in_memory();
    let driver = Driver::open(small(&scratch, WhenFull::Wait), world()).unwrap().0;
    let volume = create(&driver, "v", 64, VolumeKind::Ext4);
    driver.mount(volume.id, &scratch.folder("m"), &[]).unwrap();
    let hog = fill_up(driver.pool_root());
    driver.watch_room().unwrap();
    assert!(condition(&driver, &volume).contains(WAITING));
    let refused = driver.create_snapshot(&snapshot_request(&volume, "s")).unwrap_err();
    assert_eq!(refused.code(), "driver.pool-full", "{refused}");
    assert!(condition(&driver, &volume).contains(WAITING));
    fs::remove_file(hog).unwrap();
    // Nobody has looked since.
    driver.create_snapshot(&snapshot_request(&volume, "s")).unwrap();
    assert!(!condition(&driver, &volume).contains(WAITING));
    driver.unmount(volume.id, None).unwrap();
}

/// Takes all that a pool has.
fn fill_up(root: &Path) -> PathBuf {
    let path = root.join("hog");
    let file = File::create(&path).unwrap();
    let mut at = 0;
    for piece in [64 * MIB, MIB, 64 << 10, 4096] {
        while rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), at, piece).is_ok() {
            at += piece;
        }
    }
    path
}

#[test]
fn in_a_pool_without_a_single_free_block_deleting_works_even_where_the_registry_lies_on_it() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::in_memory();
    // A filesystem with reflinks that holds both, the pool and the state of the driver.
    let image = scratch.path("disk");
    File::create(&image).unwrap().set_len(POOL_BYTES).unwrap();
    assert!(
        Command::new("mkfs.xfs")
            .args(["-q", "-s", "size=4096", "-m", "reflink=1"])
            .arg(&image)
            .status()
            .unwrap()
            .success()
    );
    let device = crate::loop_device::attach(&image).unwrap().path();
    let disk = scratch.folder("mounted");
    rustix::mount::mount(&device, &disk, "xfs", rustix::mount::MountFlags::empty(), c"").unwrap();
    let settings = DriverSettings {
        pool: disk.join("pool"),
        state_dir: disk.join("state"),
        limits: Limits { reserve: Reserve::Bytes(16 * MIB), ..Limits::default() },
        ..settings(&scratch)
    };
    let driver = Driver::open(settings.clone(), world()).unwrap().0;
    let volumes = ["a", "b", "c"].map(|name| create(&driver, name, 16, VolumeKind::Ext4));
    let taken = volumes
        .each_ref()
        .map(|volume| driver.create_snapshot(&snapshot_request(volume, "s")).unwrap().agreed().unwrap().id);
    fill_up(&disk);
    let refused = driver.create(&volume_request("d", 16, VolumeKind::Ext4)).unwrap_err();
    assert_eq!(refused.code(), "driver.pool-full");
    for snapshot in taken {
        driver.delete_snapshot(snapshot).unwrap();
    }
    drop(driver);
    // Also a driver that starts only now.
    fill_up(&disk);
    let driver = Driver::open(settings, world()).unwrap().0;
    for volume in &volumes {
        driver.delete(volume.id).unwrap();
    }
    fs::remove_file(disk.join("hog")).unwrap();
    // XFS gives blocks back a moment after a file is deleted.
    wait("the reserve", || driver.watch_room().is_ok() && driver.pool_reserve_missing() == 0);
    driver.create(&volume_request("d", 16, VolumeKind::Ext4)).unwrap();
}
