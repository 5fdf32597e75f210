//! Who uses a device or a mount: for the message that says so, never for a decision.

use std::fs;
use std::path::Path;

use crate::mount_table::MountTable;

/// No more than this many are named.
const NAMED: usize = 4;

/// Names the processes that use the block device `node` (numbers `device`) or files below `mounts`, or that see
/// it mounted in a mount namespace of their own.
pub(crate) fn describe(node: &Path, device: (u32, u32), mounts: &[&Path]) -> String {
    let mut found = Vec::new();
    let ours = fs::read_link("/proc/self/ns/mnt").ok();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = process.file_name().to_string_lossy().into_owned();
        if found.len() > NAMED || !pid.bytes().all(|digit| digit.is_ascii_digit()) {
            continue;
        }
        let folder = process.path();
        let holds = |link: &Path| {
            fs::read_link(link)
                .is_ok_and(|path| path == node || mounts.iter().any(|mount| path.starts_with(mount)))
        };
        let open =
            fs::read_dir(folder.join("fd")).into_iter().flatten().flatten().any(|fd| holds(&fd.path()));
        let inside = ["cwd", "root", "exe"].into_iter().any(|link| holds(&folder.join(link)));
        let elsewhere = || {
            let space = fs::read_link(folder.join("ns/mnt")).ok();
            space.is_some()
                && space != ours
                && fs::read(folder.join("mountinfo"))
                    .is_ok_and(|text| MountTable::parse(&text).of_device(device).next().is_some())
        };
        let how = if open {
            "has it open"
        } else if inside {
            "runs in it"
        } else if elsewhere() {
            "sees it mounted in a mount namespace of its own"
        } else {
            continue;
        };
        let name = fs::read_to_string(folder.join("comm")).unwrap_or_default();
        found.push(format!("process {pid} ({}) {how}", name.trim()));
    }
    if found.len() > NAMED {
        found.truncate(NAMED);
        found.push("and others".to_owned());
    }
    if found.is_empty() { "a holder that could not be found".to_owned() } else { found.join(", ") }
}
