//! What the kernel holds for us: mounts and loop devices, to be found when they leak and taken down at the end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// We are root, so that loop devices and mounts can be had. Otherwise the test says that it is skipped.
pub(crate) fn is_root(test: &str) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let root = status
        .lines()
        .any(|line| line.strip_prefix("Uid:").is_some_and(|ids| ids.split_whitespace().nth(1) == Some("0")));
    if !root {
        println!("SKIPPED: {test} needs root for loop devices and mounts");
    }
    root
}

/// The mount points at and below a directory, in the order they were mounted.
pub(crate) fn mounts_below(directory: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(unescape(point)))
        .filter(|point| point.starts_with(directory))
        .collect()
}

/// The loop devices whose backing file lies, or lay, below a directory, and those backing files. A file in a pool that is
/// mounted below the directory counts too.
pub(crate) fn loops_below(directory: &Path) -> Vec<(String, String)> {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    devices
        .filter_map(|device| {
            let file = fs::read_to_string(device.path().join("loop/backing_file")).ok()?;
            let file = file.trim().to_owned();
            file.starts_with(directory.to_str()?)
                .then(|| (device.file_name().to_string_lossy().into_owned(), file))
        })
        .collect()
}

/// Takes down every mount and loop device below a directory, whatever state a test left them in.
pub(crate) fn take_down(directory: &Path) {
    // A loop device on a mounted pool holds the pool, and a mount on a loop device holds the device: a few rounds.
    for _ in 0..20 {
        let mounts = mounts_below(directory);
        let loops = loops_below(directory);
        if mounts.is_empty() && loops.is_empty() {
            return;
        }
        for point in mounts.iter().rev() {
            quietly(Command::new("umount").arg(point));
        }
        for (device, _) in loops {
            if let Some(held) = Held::take(&device, directory) {
                held.let_go();
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    // Afterwards images have no path that begins with the directory, so their devices are held before.
    let loops = loops_below(directory);
    let held: Vec<Held> = loops.iter().filter_map(|(device, _)| Held::take(device, directory)).collect();
    for point in mounts_below(directory).iter().rev() {
        quietly(Command::new("umount").arg("-l").arg(point));
    }
    held.into_iter().for_each(Held::let_go);
}

/// Takes down the loop devices on a file that is deleted, by the name that is left of it: `/pool/pool.img (deleted)`.
pub(crate) fn take_down_deleted(name: &str) {
    assert!(name.ends_with(" (deleted)"), "{name:?} may be somebody's");
    for (device, _) in loops_below(Path::new(name)) {
        if let Some(held) = Held::take(&device, Path::new(name)) {
            held.let_go();
        }
    }
}

/// A loop device that was found below a directory and held at once. Tests run side by side: a name that was only read may
/// belong to the device of another test by now, but as long as this one is open it keeps its image.
struct Held {
    device: PathBuf,
    _open: File,
}

impl Held {
    fn take(device: &str, directory: &Path) -> Option<Self> {
        let path = Path::new("/dev").join(device);
        let open = File::open(&path).ok()?;
        loops_below(directory)
            .iter()
            .any(|(found, _)| found == device)
            .then_some(Self { device: path, _open: open })
    }

    /// The kernel frees the device when the last one closes it, and that may be this one.
    fn let_go(self) {
        quietly(Command::new("losetup").arg("-d").arg(&self.device));
    }
}

/// A small ext4 of its own, mounted at `point`; its disk is the file `point.disk` beside it. Small disks fill up.
#[track_caller]
pub(crate) fn small_disk(point: &Path, size: &str) -> PathBuf {
    let disk = point.with_extension("disk");
    let disk = disk.to_str().expect("the paths of tests are plain text");
    let at = point.to_str().expect("the paths of tests are plain text");
    fs::create_dir_all(point).expect("a mount point can be made");
    sh("truncate", &["-s", size, disk]);
    sh("mkfs.ext4", &["-q", "-m", "0", disk]);
    sh("mount", &["-o", "loop", disk, at]);
    point.to_owned()
}

/// Runs a program of the machine and ends the test unless it succeeds. Answers its standard output.
#[track_caller]
pub(crate) fn sh(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|cause| panic!("{program}: {cause}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn quietly(command: &mut Command) {
    let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// mountinfo writes space, tab, line feed and backslash as three octal digits.
fn unescape(field: &str) -> String {
    field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}
