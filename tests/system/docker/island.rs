//! A test on an island: namespaces of its own for mounts, network and processes, with a private `/run`.
//!
//! Docker looks for plugins in one fixed folder, keeps its things in others, and leaves processes behind that outlive it.
//! So the test starts its own program again inside fresh namespaces and goes on there. Whatever happens to it, the kernel ends
//! every process of the island with its first one, and every mount with the last of them. What the kernel does not end (loop
//! devices, control groups) is taken away from outside.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::kernel;

/// Says to the program on the island that it is there.
const INSIDE: &str = "STRONGROOM_TEST_ISLAND";

/// Runs `story`, the test called `test` of this file, on an island. Without root or without `programs` it says that it is
/// skipped.
pub(crate) fn on_an_island(test: &str, programs: &[&str], story: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        let_go_of_the_mainland();
        return story();
    }
    if !kernel::is_root(test) {
        return;
    }
    if let Some(missing) = programs.iter().find(|program| !is_there(program)) {
        println!("SKIPPED: {test} needs the program {missing}; tests/setup/debian installs it");
        return;
    }
    let folder =
        tempfile::Builder::new().prefix("strongroom-island-").tempdir().expect("a temporary directory");
    let cleaner = Shore { folder: folder.path().to_owned() };
    // The first process of the island collects orphans, as an init must. It dies with `unshare`, and that with this thread.
    let ended = Command::new("setpriv")
        .args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--mount",
            "--net",
            "--pid",
            "--ipc",
            "--fork",
            "--kill-child",
        ])
        .args(["--mount-proc", "--propagation", "private", "docker-init", "-s", "--"])
        .arg(std::env::current_exe().expect("this program has a path"))
        .args(["--exact", "--nocapture", &format!("docker::{test}")])
        .env(INSIDE, "1")
        .env("TMPDIR", folder.path())
        .stdin(Stdio::null())
        .status()
        .expect("util-linux has unshare and setpriv");
    let left = kernel::loops_below(folder.path());
    drop(cleaner);
    assert!(ended.success(), "{test} failed on its island: {ended}");
    assert!(left.is_empty(), "left behind by {test}: {left:?}");
}

/// A new mount namespace begins with a copy of every mount, those of tests that run at the same time among them, and what it
/// keeps their drivers cannot detach.
fn let_go_of_the_mainland() {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("mounts can be read");
    let on_loops = table.lines().filter_map(|line| {
        let (place, source) = (line.split(' ').nth(4)?, line.split(" - ").nth(1)?.split(' ').nth(1)?);
        (source.starts_with("/dev/loop") && place != "/").then_some(place)
    });
    for place in on_loops.collect::<Vec<_>>().iter().rev() {
        // One that covers others takes them along.
        let _ = Command::new("umount").args(["-l", place]).stderr(Stdio::null()).status();
    }
}

/// A `/run` and an `/etc/docker` that hold nothing, for this island only.
pub(crate) fn own_folders() {
    assert!(std::env::var_os(INSIDE).is_some(), "only on an island");
    kernel::sh("mount", &["-t", "tmpfs", "-o", "mode=755", "island", "/run"]);
    fs::create_dir_all("/run/docker/plugins").expect("a fresh /run can be written to");
    if Path::new("/etc/docker").is_dir() {
        kernel::sh("mount", &["-t", "tmpfs", "-o", "mode=755", "island", "/etc/docker"]);
    }
}

/// The control group below which everything of this island's containers runs; its name is free on the whole machine.
pub(crate) fn control_group() -> String {
    let folder = std::env::temp_dir();
    folder
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .expect("a temporary directory has a name")
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.any(|folder| folder.join(program).is_file())
}

/// Takes away what outlives an island.
struct Shore {
    folder: PathBuf,
}

impl Drop for Shore {
    fn drop(&mut self) {
        kernel::take_down(&self.folder);
        // The pool of a driver stays attached when it stops. That of the managed plugin lay in the plugin's own folder, and went
        // with that; this is how the kernel calls it now.
        kernel::take_down_deleted("/pool/pool.img (deleted)");
        let Some(name) = self.folder.file_name() else { return };
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        for root in hierarchies.map(|entry| entry.path()).chain(["/sys/fs/cgroup".into()]) {
            remove_groups(&root.join(name));
        }
    }
}

/// Control groups are removed from the leaves up; their files go by themselves.
fn remove_groups(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}
