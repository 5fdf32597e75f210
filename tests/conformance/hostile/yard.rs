//! The guarded folder around the mounts, and the places where a driver that was led astray would have left something.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::corpus::MARK;
use crate::kernel;
use crate::machine::Machine;

/// How everything was that is not the driver's.
#[derive(Debug)]
pub(crate) struct Yard {
    before: BTreeMap<String, String>,
}

impl Yard {
    /// Lays out canaries and links, and remembers all.
    pub(crate) fn look(machine: &Machine) -> Self {
        let canary = machine.path("yard/outside/canary");
        fs::create_dir_all(machine.path("yard/outside/folder")).unwrap();
        fs::write(&canary, "sings").unwrap();
        fs::write(machine.path("yard/mounts/file"), "no folder").unwrap();
        for link in ["yard/mounts/link", "yard/mounts/pods/link", "yard/mounts/stage/link"] {
            let _ = fs::remove_file(machine.path(link));
            std::os::unix::fs::symlink(machine.path("yard/outside"), machine.path(link)).unwrap();
        }
        Self { before: state(machine) }
    }

    /// The first thing that is not as it was.
    pub(crate) fn differs(&self, machine: &Machine) -> Option<String> {
        let now = state(machine);
        let changed = now.iter().find(|(path, how)| self.before.get(*path) != Some(how));
        let gone = self.before.keys().find(|path| !now.contains_key(*path));
        match (changed, gone) {
            (Some((path, how)), _) => Some(format!("{path} is {how}, was {:?}", self.before.get(path))),
            (None, Some(path)) => Some(format!("{path} is gone")),
            (None, None) => None,
        }
    }
}

fn state(machine: &Machine) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    // The folders in which volumes are staged and published change by right; what is in them is compared by name.
    describe(&machine.path("yard/outside"), &mut all);
    for name in ["yard/mounts/file", "yard/mounts/link", "yard/mounts/pods/link", "yard/mounts/stage/link"] {
        describe(&machine.path(name), &mut all);
    }
    for folder in ["", "yard", "yard/mounts", "yard/mounts/pods", "yard/mounts/stage", "state"] {
        list(&machine.path(folder), "", &mut all);
    }
    for folder in ["/", "/etc", "/etc/cron.d", "/tmp", "/root", "/var/lib", "/dev", "/run", "/home", "."] {
        list(Path::new(folder), MARK, &mut all);
    }
    // Names in the pool are ours: nothing of a caller's string is in them.
    for folder in ["pool", "pool/volumes", "pool/snapshots", "pool/fresh"] {
        for entry in fs::read_dir(machine.path(folder)).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let ours = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | '_');
            assert!(name.chars().all(ours) && !name.contains("hostile"), "{name} in {folder}");
        }
    }
    let outside = machine.path("yard/outside");
    for mount in kernel::mounts_below(&machine.path("yard")) {
        assert!(!mount.starts_with(&outside), "mounted outside: {}", mount.display());
    }
    all
}

/// Path, type, size, time, inode and rights.
fn describe(path: &Path, all: &mut BTreeMap<String, String>) {
    let Ok(meta) = fs::symlink_metadata(path) else { return };
    let what = format!(
        "{:o} {} bytes, inode {}, changed {}.{}, owner {}",
        meta.mode(),
        meta.len(),
        meta.ino(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.uid()
    );
    all.insert(path.display().to_string(), what);
    if meta.is_dir() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            describe(&entry.path(), all);
        }
    }
}

fn list(folder: &Path, with: &str, all: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        // The registry's own journals come and go.
        if name.contains(with) && !name.starts_with("driver.sqlite") {
            all.insert(format!("{}/{name}", folder.display()), "there".to_owned());
        }
    }
}
