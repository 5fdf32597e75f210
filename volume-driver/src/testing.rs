//! A driver on a scratch pool, for tests. Everything it mounted or attached is gone when the value is dropped.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::mount::UnmountFlags;
use strongroom_model::{Clock, Entropy, World};

use crate::driver::Driver;
use crate::io_limits::IoLimits;
use crate::limits::Limits;
use crate::mount_table::MountTable;
use crate::nouns::{Outcome, Snapshot, Volume, VolumeKind};
use crate::requests::{CreateSnapshot, CreateVolume, DriverSettings, LabelScope, SizeRange, WatchdogCommand};
use crate::{crash, loop_device};

pub(crate) const MIB: u64 = 1 << 20;

#[derive(Debug)]
struct Machine;

impl Clock for Machine {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }
}

impl Entropy for Machine {
    fn fill(&self, bytes: &mut [u8]) {
        fs::File::open("/dev/urandom").unwrap().read_exact(bytes).unwrap();
    }
}

pub(crate) fn world() -> World {
    World { clock: Arc::new(Machine), entropy: Arc::new(Machine) }
}

/// Whether tests with loop devices and mounts can run; says loudly when not.
pub(crate) fn can_mount() -> bool {
    let can = rustix::process::geteuid().is_root() && Path::new("/dev/loop-control").exists();
    if !can {
        println!("SKIPPED: needs root and loop devices");
    }
    can
}

/// A scratch folder; mounts and loop devices below it end with it.
#[derive(Debug)]
pub(crate) struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::Builder::new().prefix("strongroom-test-").tempdir().unwrap() }
    }

    /// In memory where this machine has room there: for tests that write much and wait for each write.
    pub(crate) fn in_memory() -> Self {
        let memory = Path::new("/dev/shm");
        let room = rustix::fs::statvfs(memory).is_ok_and(|stat| stat.f_bavail * stat.f_frsize > 2048 * MIB);
        if room {
            Self { folder: tempfile::Builder::new().prefix("strongroom-test-").tempdir_in(memory).unwrap() }
        } else {
            Self::new()
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        clean(self.folder.path());
    }
}

/// Ends all mounts below `folder` and all loop devices on files below it.
fn clean(folder: &Path) {
    // The pool can only go when no device has its image in it, so this takes several rounds.
    // Ten seconds: on a busy machine the kernel lets go of an image later than the last user did.
    for _ in 0..200 {
        let mounts: Vec<PathBuf> = fs::read_to_string("/proc/self/mountinfo")
            .unwrap_or_default()
            .lines()
            .filter_map(|line| line.split(' ').nth(4).map(PathBuf::from))
            .filter(|path| path.starts_with(folder))
            .collect();
        for path in mounts.iter().rev() {
            let _ = fs::File::open(path).and_then(|open| crate::sys::thaw(&open));
            let _ = rustix::mount::unmount(path, UnmountFlags::empty());
        }
        for (device, _) in loop_device::below(folder) {
            // Tests run side by side: only as long as it is open does the name keep its image.
            let _held = fs::File::open(device.path());
            if loop_device::below(folder).iter().any(|(found, _)| *found == device) {
                let _ = Command::new("losetup").arg("-d").arg(device.path()).stderr(Stdio::null()).status();
            }
        }
        if mounts.is_empty() && loop_device::below(folder).is_empty() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let left = format!("left behind below {}: {:?}", folder.display(), loop_device::below(folder));
    assert!(std::thread::panicking(), "{left}");
    eprintln!("{left}");
}

/// A running driver on a scratch pool of 2 GiB.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) driver: Option<Driver>,
    pub(crate) report: Vec<String>,
    pub(crate) scratch: Scratch,
}

pub(crate) fn settings(scratch: &Scratch) -> DriverSettings {
    settings_in(scratch.folder.path())
}

fn settings_in(folder: &Path) -> DriverSettings {
    DriverSettings {
        pool: folder.join("pool"),
        pool_bytes: Some(2048 * MIB),
        state_dir: folder.join("state"),
        node: "test".to_owned(),
        mount_roots: vec![folder.to_owned()],
        limits: Limits::default(),
        watchdog: this_program("testing::the_thaw_watchdog", "as-watchdog"),
        cgroup_root: folder.join("cgroups"),
        boot_id: None,
    }
}

/// This very test program, running one test that does what a marker among its arguments says.
fn this_program(test: &str, marker: &str) -> WatchdogCommand {
    let arguments = ["--exact", "--nocapture", test, marker];
    WatchdogCommand {
        program: std::env::current_exe().unwrap(),
        arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
    }
}

fn behind(marker: &str) -> Option<Vec<String>> {
    let arguments: Vec<String> = std::env::args().collect();
    let at = arguments.iter().position(|argument| argument == marker)?;
    Some(arguments[at + 1..].to_vec())
}

impl Bench {
    /// `None`: this machine cannot.
    pub(crate) fn new() -> Option<Self> {
        can_mount().then(|| Self::on(Scratch::new()))
    }

    pub(crate) fn on(scratch: Scratch) -> Self {
        let (driver, report) = Driver::open(settings(&scratch), world()).unwrap();
        Self { driver: Some(driver), report, scratch }
    }

    /// A folder on which no driver was started yet.
    pub(crate) fn before_its_first_start() -> Self {
        Self { driver: None, report: Vec::new(), scratch: Scratch::new() }
    }

    /// The driver ends and starts again, as after a crash: nothing is unmounted.
    pub(crate) fn restart(&mut self) {
        self.driver = None;
        let (driver, report) = Driver::open(settings(&self.scratch), world()).unwrap();
        self.driver = Some(driver);
        self.report = report;
    }

    /// As [`Bench::restart`], with other settings.
    pub(crate) fn restart_with(&mut self, change: impl FnOnce(&mut DriverSettings)) {
        self.driver = None;
        let mut settings = settings(&self.scratch);
        change(&mut settings);
        let (driver, report) = Driver::open(settings, world()).unwrap();
        self.driver = Some(driver);
        self.report = report;
    }

    /// The machine is started anew: what was mounted or attached is gone, and the kernel is another.
    pub(crate) fn reboot(&mut self) {
        self.driver = None;
        clean(self.scratch.folder.path());
        let settings = DriverSettings { boot_id: Some("another".to_owned()), ..settings(&self.scratch) };
        let (driver, report) = Driver::open(settings, world()).unwrap();
        self.driver = Some(driver);
        self.report = report;
    }

    /// Another process opens the pool, does `scenario` and is killed at `point`. Then the driver starts again.
    pub(crate) fn crash(&mut self, scenario: &str, point: &str) {
        self.crash_only(scenario, point);
        self.restart();
    }

    /// As [`Bench::crash`], without the start after it.
    pub(crate) fn crash_only(&mut self, scenario: &str, point: &str) {
        self.driver = None;
        let program = this_program("testing::the_crashing_driver", "as-driver");
        let output = Command::new(&program.program)
            .args(&program.arguments)
            .args([point, scenario])
            .arg(self.scratch.folder.path())
            .output()
            .unwrap();
        use std::os::unix::process::ExitStatusExt as _;
        assert_eq!(
            output.status.signal(),
            Some(9),
            "{scenario} did not come to {point}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    pub(crate) fn driver(&self) -> &Driver {
        self.driver.as_ref().unwrap()
    }

    pub(crate) fn create(&self, name: &str, mib: u64, kind: VolumeKind) -> Volume {
        create(self.driver(), name, mib, kind)
    }

    pub(crate) fn snapshot(&self, volume: &Volume, label: &str) -> Snapshot {
        match self.driver().create_snapshot(&snapshot_request(volume, label)).unwrap() {
            Outcome::Created(snapshot) => snapshot,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn mount(&self, volume: &Volume, name: &str) -> PathBuf {
        let folder = self.scratch.folder(name);
        self.driver().mount(volume.id, &folder, &[]).unwrap();
        folder
    }

    /// The images, mounts and loop devices that are there now.
    pub(crate) fn inventory(&self) -> Inventory {
        let root = self.driver().pool_root().to_owned();
        let names = |folder: &str| {
            let entries = fs::read_dir(root.join(folder)).unwrap();
            let mut names: Vec<String> =
                entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            names
        };
        let table = MountTable::read().unwrap();
        Inventory {
            images: names("volumes"),
            snapshots: names("snapshots"),
            fresh: names("fresh"),
            loops: loop_device::below(&root).len(),
            mounts: loop_device::below(&root)
                .iter()
                .map(|(device, _)| table.of_device(device.device()).count())
                .sum(),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Inventory {
    pub(crate) images: Vec<String>,
    pub(crate) snapshots: Vec<String>,
    pub(crate) fresh: Vec<String>,
    pub(crate) loops: usize,
    pub(crate) mounts: usize,
}

pub(crate) fn create(driver: &Driver, name: &str, mib: u64, kind: VolumeKind) -> Volume {
    match driver.create(&volume_request(name, mib, kind)).unwrap() {
        Outcome::Created(volume) => volume,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn volume_request(name: &str, mib: u64, kind: VolumeKind) -> CreateVolume {
    CreateVolume {
        name: name.parse().unwrap(),
        size: SizeRange::of(mib * MIB),
        kind: Some(kind),
        source: None,
        labels: [("app".to_owned(), "test".to_owned())].into(),
        limits: IoLimits::NONE,
    }
}

pub(crate) fn snapshot_request(volume: &Volume, label: &str) -> CreateSnapshot {
    CreateSnapshot {
        volume: volume.id,
        label: label.to_owned(),
        scope: LabelScope::Volume,
        owner: "user".to_owned(),
        labels: [].into(),
    }
}

/// Not a test of its own: what a test's driver starts as its watchdog.
#[test]
fn the_thaw_watchdog() {
    if let Some(arguments) = behind("as-watchdog") {
        let _ = crate::thaw_watchdog(arguments.into_iter());
    }
}

/// Not a test of its own: a driver that dies at a chosen point.
#[test]
fn the_crashing_driver() {
    let Some(arguments) = behind("as-driver") else { return };
    let [point, scenario, folder] = arguments.as_slice() else { panic!("{arguments:?}") };
    let folder = Path::new(folder);
    if scenario == "start" {
        // It dies while it recovers from the death before.
        crash::arm(point);
    }
    let (driver, _) = Driver::open(settings_in(folder), world()).unwrap();
    if scenario != "start" {
        crash::arm(point);
    }
    crate::driver::tests::act(&driver, scenario, folder);
    // Not killed: the caller sees it by the exit code.
    std::process::exit(0);
}
