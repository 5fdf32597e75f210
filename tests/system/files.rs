//! Single files out of recovery points, on real ext4 and XFS images with every kind of file.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::call::Running;
use crate::content::Noise;
use crate::ground::{Ground, text};
use crate::kernel::{self, is_root, sh};

const MIB: u64 = 1 << 20;

/// A filesystem in an image file that is mounted for writing.
struct Disk {
    image: PathBuf,
    point: PathBuf,
}

impl Disk {
    fn new(ground: &Ground, fs: &str, size: &str) -> Self {
        let (image, point) = (ground.path("disk.img"), ground.path("disk"));
        fs::create_dir_all(&point).expect("a mount point can be made");
        sh("truncate", &["-s", size, text(&image)]);
        match fs {
            "xfs" => sh("mkfs.xfs", &["-q", text(&image)]),
            fs => sh(&format!("mkfs.{fs}"), &["-q", "-F", text(&image)]),
        };
        sh(
            "mount",
            &[
                "-o",
                "loop,nouuid".trim_end_matches(if fs == "xfs" { "" } else { ",nouuid" }),
                text(&image),
                text(&point),
            ],
        );
        Self { image, point }
    }

    fn unmount(&self) {
        sh("umount", &[text(&self.point)]);
    }
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("a folder can be made");
    fs::write(path, bytes).expect("the file can be written");
}

fn set_attribute(path: &Path, name: &str, value: &[u8]) {
    let name = CString::new(name).expect("a name has no NUL");
    rustix::fs::lsetxattr(path, name.as_c_str(), value, rustix::fs::XattrFlags::empty())
        .unwrap_or_else(|errno| panic!("{}: {errno}", path.display()));
}

/// Every kind of file that a filesystem can hold, and content of every shape.
fn populate(root: &Path) {
    let mut noise = Noise::new(7);
    write(&root.join("empty"), b"");
    write(&root.join("small"), b"a few bytes\n");
    write(&root.join("noise.bin"), &noise.bytes(3 * 1024 * 1024 + 17));
    write(&root.join("größe ✓/ein Ordner/наш файл"), b"unicode");
    write(&root.join("line\nbreak\ttab"), b"a name with a line break");
    write(&root.join(std::ffi::OsString::from_vec(b"not\xff\xfeutf8".to_vec())), b"a name that is no text");
    write(&root.join("n".repeat(255)), b"as long as a name can be");
    // Deep, and many names in one folder: a tree of hashes, or leaves of a directory.
    let deep = (0..60).fold(root.to_owned(), |path, level| path.join(format!("level-{level}")));
    write(&deep.join("bottom"), b"deep");
    for number in 0..3000 {
        write(
            &root.join("many").join(format!("file-with-a-longer-name-{number:05}")),
            number.to_string().as_bytes(),
        );
    }
    // Names that were taken away leave gaps.
    for number in (0..3000).step_by(3) {
        fs::remove_file(root.join("many").join(format!("file-with-a-longer-name-{number:05}")))
            .expect("it is there");
    }
    // Sparse, with many extents: more than an inode has room for.
    let sparse = File::create(root.join("sparse")).expect("the file can be made");
    for piece in 0..200_u64 {
        sparse.write_all_at(&noise.bytes(5000), piece * 1_000_003).expect("the file can be written");
    }
    sparse.set_len(300 * MIB).expect("the file can be sized");
    let reserved = File::create(root.join("reserved")).expect("the file can be made");
    rustix::fs::fallocate(&reserved, rustix::fs::FallocateFlags::empty(), 0, 2 * MIB)
        .expect("space can be reserved");
    reserved.write_all_at(b"written in the middle", MIB).expect("the file can be written");
    // Names, links, rights, owners, attributes, lists.
    write(&root.join("one/name"), &noise.bytes(100_000));
    fs::hard_link(root.join("one/name"), root.join("another-name")).expect("a link can be made");
    fs::hard_link(root.join("one/name"), root.join("one/third")).expect("a link can be made");
    symlink("one/name", root.join("link")).expect("a link can be made");
    symlink("/etc/passwd", root.join("link-outside")).expect("a link can be made");
    symlink("../../../../../../etc", root.join("one/link-up")).expect("a link can be made");
    symlink("x".repeat(900), root.join("long-link")).expect("a link can be made");
    symlink("nowhere", root.join("dangling")).expect("a link can be made");
    fs::set_permissions(root.join("small"), fs::Permissions::from_mode(0o4751)).expect("rights can be set");
    std::os::unix::fs::chown(root.join("one"), Some(70_001), Some(70_002)).expect("an owner can be set");
    std::os::unix::fs::chown(root.join("noise.bin"), Some(1000), Some(33)).expect("an owner can be set");
    set_attribute(&root.join("small"), "user.short", b"value");
    set_attribute(&root.join("noise.bin"), "user.long", &noise.bytes(1500));
    set_attribute(&root.join("noise.bin"), "trusted.mine", b"secret");
    set_attribute(&root.join("one"), "user.of-a-folder", b"yes");
    for number in 0..12 {
        set_attribute(&root.join("one/name"), &format!("user.number-{number}"), &noise.bytes(60));
    }
    // u::rw-, u:1000:r--, g::r--, m::r--, o::---
    let lines: [(u16, u16, u32); 5] =
        [(1, 6, u32::MAX), (2, 4, 1000), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)];
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in lines {
        acl.extend([&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat());
    }
    set_attribute(&root.join("one/name"), "system.posix_acl_access", &acl);
    set_attribute(&root.join("one"), "system.posix_acl_default", &acl);
    sh("mkfifo", &[text(&root.join("pipe"))]);
    sh("mknod", &[text(&root.join("null")), "c", "1", "3"]);
    for (name, seconds) in [("old", -1_000_000_000_i64), ("new", 4_000_000_000)] {
        let file = File::create(root.join(name)).expect("the file can be made");
        let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: 123_456_789 };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        rustix::fs::futimens(&file, &times).expect("times can be set");
    }
}

/// What a tree holds, by path: all that a copy must have, too.
fn manifest(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|cause| panic!("{}: {cause}", folder.display())) {
            let path = entry.expect("the folder can be read").path();
            if path.ends_with("lost+found") {
                continue;
            }
            let meta = fs::symlink_metadata(&path).expect("it is there");
            let kind = meta.file_type();
            let content = if kind.is_file() {
                let mut bytes = Vec::new();
                File::open(&path)
                    .and_then(|mut file| file.read_to_end(&mut bytes))
                    .unwrap_or_else(|cause| panic!("{}: {cause}", path.display()));
                format!("{} {} links {}", meta.len(), blake3::hash(&bytes), meta.nlink())
            } else if kind.is_symlink() {
                format!("-> {}", fs::read_link(&path).expect("it is a link").display())
            } else if kind.is_dir() {
                folders.push(path.clone());
                "folder".to_owned()
            } else {
                continue;
            };
            let times = format!("{}.{:09}", meta.mtime(), meta.mtime_nsec());
            let line = format!(
                "{:o} {}:{} {times} {content} {}",
                meta.mode(),
                meta.uid(),
                meta.gid(),
                attributes(&path)
            );
            found.insert(path.strip_prefix(root).expect("it lies below").to_owned(), line);
        }
    }
    found
}

fn attributes(path: &Path) -> String {
    let mut names = vec![0_u8; 65_536];
    let length = rustix::fs::llistxattr(path, &mut names).expect("attributes can be listed");
    let mut found: Vec<String> = names[..length]
        .split(|byte| *byte == 0)
        // XFS shows lists a second time, under the name they have inside.
        .filter(|name| !name.is_empty() && !name.starts_with(b"trusted.SGI_ACL"))
        .map(|name| {
            let mut value = vec![0_u8; 65_536];
            let key = CString::new(name).expect("a name has no NUL");
            let length =
                rustix::fs::lgetxattr(path, key.as_c_str(), &mut value).expect("an attribute can be read");
            format!(
                "{}={}",
                String::from_utf8_lossy(name),
                blake3::hash(&value[..length]).to_hex().split_at(8).0
            )
        })
        .collect();
    found.sort();
    found.join(",")
}

#[track_caller]
fn assert_equal(expected: &BTreeMap<PathBuf, String>, found: &BTreeMap<PathBuf, String>) {
    let wrong: Vec<_> = expected
        .iter()
        .filter(|(path, line)| found.get(*path) != Some(line))
        .map(|(path, line)| format!("{path:?}\n  was {line}\n  is  {:?}", found.get(path)))
        .collect();
    let more: Vec<_> = found.keys().filter(|path| !expected.contains_key(*path)).collect();
    assert!(
        wrong.is_empty() && more.is_empty(),
        "{} wrong: {}\nmore: {more:?}",
        wrong.len(),
        wrong[..wrong.len().min(5)].join("\n")
    );
}

fn everything_comes_out(fs: &str) {
    let ground = Ground::new();
    ground.init();
    let disk = Disk::new(&ground, fs, "512M");
    populate(&disk.point);
    let expected = manifest(&disk.point);
    disk.unmount();
    ground.back_up_image("disk", &disk.image).ok();

    let copied = ground.run(["files", "cp", "disk@latest:/", text(&ground.path("out"))]).ok().json();
    assert_equal(&expected, &manifest(&ground.path("out")));
    assert_eq!((copied["skipped"].as_u64(), copied["failed"].as_u64()), (Some(2), Some(0)), "{copied}");
    assert_eq!(copied["hard_links"], 2, "{copied}");
    let sparse = fs::metadata(ground.path("out/sparse")).expect("it was copied");
    assert!(sparse.blocks() * 512 < 20 * MIB, "holes stay holes: {}", sparse.blocks() * 512);

    // Names on lines of their own, and again in JSON.
    let lines = ground.call(["files", "find", "disk@latest", "--name", "*break*"]).run().ok();
    assert_eq!(lines.stdout, "/line\\nbreak\\ttab\n");
    let json = ground.run(["files", "ls", "disk@latest:/"]).ok().json();
    let entries = json["entries"].as_array().expect("rows");
    let odd = entries.iter().find(|row| row["path"] == "/not\\xff\\xfeutf8").expect("it is listed");
    for result in [&copied, &json] {
        assert_eq!(crate::json_output::undocumented_fields(result), Vec::<String>::new());
    }
    assert_eq!(odd["path_hex"], "2f6e6f74fffe75746638");
    let many = ground.run(["files", "ls", "disk@latest:/many"]).ok().json();
    assert_eq!(many["entries"].as_array().map(Vec::len), Some(2000));
    let large = ground.run(["files", "find", "disk@latest", "--size", "+2MiB", "--type", "f"]).ok().json();
    assert_eq!(large["entries"].as_array().map(Vec::len), Some(2), "{large}");

    // One file, also through a link inside of the image; a link that leads out of it leads nowhere.
    let one = ground.call(["files", "cp", "disk@latest:/link", "-"]).run().ok();
    assert_eq!(blake3::hash(&fs::read(ground.path("out/one/name")).expect("it was copied")), {
        let answer = ground.path("one");
        ground.run(["files", "cp", "disk@latest:/one/name", text(&answer)]).ok();
        blake3::hash(&fs::read(&answer).expect("it was copied"))
    });
    assert!(!one.stdout.is_empty());
    ground
        .call(["files", "cp", "disk@latest:/one/link-up/passwd", "-"])
        .run()
        .refused(1, "files.no-such-file");
}

#[test]
fn every_kind_of_file_comes_out_of_an_ext4_image_as_it_was() {
    if is_root("every_kind_of_file_comes_out_of_an_ext4_image_as_it_was") {
        everything_comes_out("ext4");
    }
}

#[test]
fn every_kind_of_file_comes_out_of_an_xfs_image_as_it_was() {
    if is_root("every_kind_of_file_comes_out_of_an_xfs_image_as_it_was") {
        everything_comes_out("xfs");
    }
}

#[test]
fn one_small_file_of_a_large_image_costs_little() {
    if !is_root("one_small_file_of_a_large_image_costs_little") {
        return;
    }
    let ground = Ground::new();
    ground.init();
    let disk = Disk::new(&ground, "ext4", "1G");
    let mut noise = Noise::new(3);
    for number in 0..24 {
        write(&disk.point.join(format!("data/{number}")), &noise.bytes(8 << 20));
    }
    write(&disk.point.join("etc/app/settings.conf"), b"wanted = true\n");
    disk.unmount();
    ground.back_up_image("disk", &disk.image).ok();
    let copied =
        ground.run(["files", "cp", "disk@latest:/etc/app/settings.conf", text(ground.root())]).ok().json();
    assert_eq!(fs::read(ground.path("settings.conf")).expect("it was copied"), b"wanted = true\n");
    let fetched = copied["fetched_bytes"].as_u64().expect("a number");
    let requests = copied["requests"].as_u64().expect("a number");
    assert!(fetched < 3 * MIB && requests < 40, "{fetched} bytes in {requests} requests: {copied}");
}

#[test]
fn what_a_journal_holds_is_read_without_writing_it_home() {
    if !is_root("what_a_journal_holds_is_read_without_writing_it_home") {
        return;
    }
    let ground = Ground::new();
    ground.init();
    let disk = Disk::new(&ground, "ext4", "128M");
    for number in 0..300 {
        write(
            &disk.point.join(format!("folder-{}/file-{number}", number % 7)),
            number.to_string().as_bytes(),
        );
    }
    fs::remove_dir_all(disk.point.join("folder-3")).expect("it is there");
    write(&disk.point.join("last"), b"in the journal only");
    sh("sync", &["-f", text(&disk.point)]);
    let expected = manifest(&disk.point);
    // As after a power cut: what is in the journal has not been written home.
    let crashed = ground.path("crashed.img");
    sh("cp", &["--sparse=always", text(&disk.image), text(&crashed)]);
    let state = sh("dumpe2fs", &["-h", text(&crashed)]);
    assert!(state.contains("needs_recovery"), "{state}");
    disk.unmount();
    ground.back_up_image("disk", &crashed).ok();
    ground.run(["files", "cp", "disk@latest:/", text(&ground.path("out"))]).ok();
    assert_equal(&expected, &manifest(&ground.path("out")));
}

#[test]
fn nothing_is_replaced_unasked_and_no_link_leads_out() {
    if !is_root("nothing_is_replaced_unasked_and_no_link_leads_out") {
        return;
    }
    let ground = Ground::new();
    ground.init();
    let disk = Disk::new(&ground, "ext4", "64M");
    write(&disk.point.join("etc/passwd"), b"from the backup");
    write(&disk.point.join("file"), b"from the backup");
    disk.unmount();
    ground.back_up_image("disk", &disk.image).ok();
    let out = ground.path("out");
    fs::create_dir(&out).expect("a folder can be made");
    let victim = ground.path("victim");
    fs::create_dir(&victim).expect("a folder can be made");
    write(&victim.join("passwd"), b"mine");

    // In place of the directory lies a link to a directory of somebody.
    symlink(&victim, out.join("etc")).expect("a link can be made");
    for force in [&[][..], &["--force"]] {
        let line = [&["files", "cp", "disk@latest:/etc", text(&out)][..], force].concat();
        ground.run(line).refused(1, "files.exists");
    }
    assert_eq!(fs::read(victim.join("passwd")).expect("it is there"), b"mine");

    symlink(victim.join("passwd"), out.join("file")).expect("a link can be made");
    ground.run(["files", "cp", "disk@latest:/file", text(&out)]).refused(1, "files.exists");
    ground.run(["files", "cp", "disk@latest:/file", text(&out), "--force"]).ok();
    assert_eq!(
        fs::read(victim.join("passwd")).expect("it is there"),
        b"mine",
        "the link was replaced, not followed"
    );
    assert!(fs::symlink_metadata(out.join("file")).expect("it is there").is_file());
    let left: Vec<_> =
        fs::read_dir(&out).expect("it is there").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left.len(), 2, "no drafts are left: {left:?}");
}

#[test]
fn a_damaged_pack_costs_the_files_in_it_and_no_file_is_wrong() {
    if !is_root("a_damaged_pack_costs_the_files_in_it_and_no_file_is_wrong") {
        return;
    }
    let ground = Ground::new();
    ground.init();
    let disk = Disk::new(&ground, "ext4", "512M");
    let mut noise = Noise::new(5);
    for number in 0..40 {
        write(&disk.point.join(format!("data/{number}")), &noise.bytes(5 << 20));
    }
    let expected = manifest(&disk.point);
    disk.unmount();
    ground.back_up_image("disk", &disk.image).ok();
    // A byte in every 2 MiB of one data pack that is not the first: metadata at the image's beginning stays readable.
    let packs = packs(&ground.path("repository"));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&packs[packs.len() / 2])
        .expect("a pack can be opened");
    let bytes = file.metadata().expect("it is there").len();
    for at in (MIB..bytes - MIB).step_by(2 << 20) {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("it can be read");
        file.write_all_at(&[byte[0] ^ 0x40], at).expect("it can be written");
    }
    let answer = ground.run(["files", "cp", "disk@latest:/data", text(&ground.path("out"))]);
    assert_eq!(answer.code, Some(3), "{answer}");
    let copied = answer.json();
    let (files, failed) =
        (copied["files"].as_u64().expect("a number"), copied["failed"].as_u64().expect("a number"));
    assert!(failed > 0 && files > 0 && files + failed == 40, "{copied}");
    let found = manifest(&ground.path("out"));
    assert_eq!(found.len() as u64, files, "what cannot be read is not there");
    for (path, line) in found {
        assert_eq!(expected.get(&Path::new("data").join(&path)), Some(&line), "{path:?}");
    }
    assert!(answer.stderr.contains("entry"), "each is named: {}", answer.stderr);
}

/// The data packs of a repository, the largest ones, in order of name.
fn packs(repository: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![repository.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if entry.metadata().is_ok_and(|meta| meta.len() > 16 * MIB) {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(found.len() > 1, "a few packs: {found:?}");
    found
}

/// FUSE is there, or the test says that it is skipped.
fn has_fuse(test: &str) -> bool {
    let fuse = is_root(test) && OpenOptions::new().read(true).write(true).open("/dev/fuse").is_ok();
    if !fuse {
        println!("SKIPPED: {test} needs root and /dev/fuse");
    }
    fuse
}

struct Mounted {
    worker: Option<Running>,
    point: PathBuf,
}

impl Mounted {
    #[track_caller]
    fn new(ground: &Ground, words: &[&str]) -> Self {
        let point = ground.path("mounted");
        fs::create_dir_all(&point).expect("a mount point can be made");
        let line = [&["files", "mount", "disk@latest", text(&point)], words].concat();
        let mut worker = ground.call(line).args(["--output", "json"]).start();
        let begun = Instant::now();
        while kernel::mounts_below(&point).is_empty() {
            assert!(!worker.ended(), "{}", worker.stderr());
            assert!(begun.elapsed() < Duration::from_secs(60), "{}", worker.stderr());
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { worker: Some(worker), point }
    }

    fn worker(&mut self) -> Running {
        self.worker.take().expect("it was not asked for twice")
    }
}

/// Whatever a test left of it.
impl Drop for Mounted {
    fn drop(&mut self) {
        drop(self.worker.take());
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.point)
            .stderr(std::process::Stdio::null())
            .status();
    }
}

/// No private mount is left, and no loop device holds an image of ours.
#[track_caller]
fn assert_nothing_is_left(ground: &Ground) {
    assert_eq!(kernel::mounts_below(&ground.path("mounted")), Vec::<PathBuf>::new());
    let begun = Instant::now();
    let ours = || {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        table.lines().filter(|line| line.contains("fuse.strongroom")).count()
    };
    while ours() > 0 && begun.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(ours(), 0, "a private mount is left");
}

fn a_point_is_mounted(fs: &str) {
    let ground = Ground::new();
    ground.init();
    let disk = Disk::new(&ground, fs, "512M");
    populate(&disk.point);
    let expected = manifest(&disk.point);
    disk.unmount();
    ground.back_up_image("disk", &disk.image).ok();
    let mut mounted = Mounted::new(&ground, &["--check"]);
    assert_equal(&expected, &manifest(&mounted.point));
    let refused = File::create(mounted.point.join("new")).expect_err("it is read-only");
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    let flags = sh("findmnt", &["-no", "OPTIONS", text(&mounted.point)]);
    for flag in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(flags.split(',').any(|found| found.trim() == flag), "{flag} in {flags}");
    }
    let ended = mounted.worker().terminate().ok().json();
    assert_eq!(ended["failed_reads"], 0, "{ended}");
    assert_nothing_is_left(&ground);
}

#[test]
fn a_point_with_ext4_is_mounted_for_reading_and_goes_without_a_trace() {
    if has_fuse("a_point_with_ext4_is_mounted_for_reading_and_goes_without_a_trace") {
        a_point_is_mounted("ext4");
    }
}

#[test]
fn a_point_with_xfs_is_mounted_for_reading_and_goes_without_a_trace() {
    if has_fuse("a_point_with_xfs_is_mounted_for_reading_and_goes_without_a_trace") {
        a_point_is_mounted("xfs");
    }
}

/// An image of noise, mounted.
fn noisy(ground: &Ground) -> Mounted {
    ground.init();
    let disk = Disk::new(ground, "ext4", "512M");
    let mut noise = Noise::new(9);
    for number in 0..20 {
        write(&disk.point.join(format!("data/{number}")), &noise.bytes(4 << 20));
    }
    disk.unmount();
    ground.back_up_image("disk", &disk.image).ok();
    Mounted::new(ground, &[])
}

#[test]
fn a_killed_worker_leaves_errors_and_nothing_that_hangs() {
    if !has_fuse("a_killed_worker_leaves_errors_and_nothing_that_hangs") {
        return;
    }
    let ground = Ground::new();
    let mut mounted = noisy(&ground);
    fs::read(mounted.point.join("data/1")).expect("it can be read");
    mounted.worker().kill();
    let begun = Instant::now();
    assert!(fs::read(mounted.point.join("data/17")).is_err(), "what was not fetched cannot be read");
    assert!(begun.elapsed() < Duration::from_secs(20), "it answers at once");
    ground.run(["files", "unmount", text(&mounted.point)]).ok();
    assert_nothing_is_left(&ground);
    ground.run(["files", "unmount", text(&mounted.point)]).refused(1, "files.not-mounted");
}

#[test]
fn a_dead_store_is_an_error_for_the_reader_and_named() {
    if !has_fuse("a_dead_store_is_an_error_for_the_reader_and_named") {
        return;
    }
    let ground = Ground::new();
    let mut mounted = noisy(&ground);
    let packs = packs(&ground.path("repository"));
    let away: Vec<PathBuf> = (0..packs.len()).map(|number| ground.path(&format!("away-{number}"))).collect();
    let moved = |from: &[PathBuf], to: &[PathBuf]| {
        from.iter().zip(to).for_each(|(from, to)| fs::rename(from, to).expect("it can be moved"));
    };
    moved(&packs, &away);
    let error = fs::read(mounted.point.join("data/17")).expect_err("the store is gone");
    assert_eq!(error.raw_os_error(), Some(5), "{error}");
    moved(&away, &packs);
    let again = fs::read(mounted.point.join("data/18")).expect("the store is back");
    assert_eq!(again.len(), 4 << 20);
    let worker = mounted.worker();
    assert!(worker.stderr().contains("of the image cannot be read"), "{}", worker.stderr());
    assert_eq!(worker.terminate().code, Some(3), "reads failed");
    assert_nothing_is_left(&ground);
}

#[test]
fn versions_of_a_file_tell_where_it_changed() {
    if !is_root("versions_of_a_file_tell_where_it_changed") {
        return;
    }
    let ground = Ground::new();
    ground.init();
    let disk = Disk::new(&ground, "xfs", "512M");
    let back_up = |disk: &Disk| {
        disk.unmount();
        ground.back_up_image("disk", &disk.image).ok();
        sh("mount", &["-o", "loop", text(&disk.image), text(&disk.point)]);
    };
    back_up(&disk);
    write(&disk.point.join("file"), b"one");
    back_up(&disk);
    write(&disk.point.join("other"), b"other");
    back_up(&disk);
    File::options()
        .append(true)
        .open(disk.point.join("file"))
        .and_then(|mut file| file.write_all(b" two"))
        .expect("it can be written");
    back_up(&disk);
    disk.unmount();
    let found = ground.run(["files", "versions", "disk", "/file"]).ok().json();
    let versions = found["versions"].as_array().expect("versions");
    let told: Vec<_> = versions
        .iter()
        .map(|version| (version["size_bytes"].as_u64(), version["unchanged"] == true))
        .collect();
    assert_eq!(told, [(Some(7), false), (Some(3), true), (Some(3), false), (None, false)], "{found}");
}

#[test]
fn what_cannot_be_read_is_refused_with_what_to_do_instead() {
    let ground = Ground::new();
    ground.init();
    let image = ground.path("disk.img");
    crate::content::write_image(&image, 4 * MIB, MIB, 1);
    ground.back_up_image("disk", &image).ok();
    ground.run(["files", "ls", "disk@latest"]).refused(1, "files.no-filesystem");
    ground.run(["files", "ls", "disk@latest", "--partition", "1"]).refused(1, "files.no-such-partition");
    ground.run(["files", "ls", "disk@yesterday-ish"]).refused(1, "files.not-a-point");
    ground.run(["files", "ls", "rp-00000000"]).refused(1, "restore.no-such-point");
    ground.run(["files", "cp", "disk@latest", text(ground.root())]).refused(1, "files.not-a-path");
}
