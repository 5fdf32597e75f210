//! What the driver needs of the machine: programs and capabilities.

use std::fs;
use std::time::Duration;

use crate::findings::{Finding, Severity};
use crate::tool;

use super::finding;

/// Programs, and what does not work without them.
const PROGRAMS: [(&str, &str); 7] = [
    ("mkfs.ext4", "ext4 volumes cannot be made"),
    ("e2fsck", "ext4 volumes cannot be mounted: they are checked before"),
    ("resize2fs", "ext4 volumes cannot grow"),
    ("mkfs.xfs", "XFS volumes and pool files cannot be made"),
    ("xfs_growfs", "XFS volumes cannot grow"),
    ("xfs_repair", "damaged XFS volumes cannot be looked at"),
    ("mkfs.btrfs", "btrfs volumes cannot be made"),
];

/// Capabilities by their number, and what does not work without them.
const CAPABILITIES: [(u32, &str, Severity, &str); 4] = [
    (21, "CAP_SYS_ADMIN", Severity::Problem, "nothing can be mounted or attached"),
    (1, "CAP_DAC_OVERRIDE", Severity::Warning, "folders of other users cannot be mounted at"),
    (
        24,
        "CAP_SYS_RESOURCE",
        Severity::Note,
        "ext4 cannot grow while it is mounted; XFS can, and ext4 does before its next mount",
    ),
    (27, "CAP_MKNOD", Severity::Note, "device nodes cannot be made where no device manager makes them"),
];

const LIMIT: Duration = Duration::from_secs(10);

pub(super) fn examine(found: &mut Vec<Finding>) {
    for (program, without) in PROGRAMS {
        // Whatever it says: it is there.
        if tool::run(program, &["-V"], "its version", LIMIT).is_err() {
            let advice = "install it";
            let message = format!("it cannot be started; {without}");
            found.push(finding("program.missing", Severity::Warning, program, message, advice, None));
        }
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|text| u64::from_str_radix(text.trim(), 16).ok())
        .unwrap_or(0);
    for (number, name, severity, without) in CAPABILITIES {
        if effective >> number & 1 == 0 {
            let advice = "give it to the driver (docs/csi.md lists those it needs)";
            let message = format!("the driver does not have it: {without}");
            found.push(finding("capability.missing", severity, name, message, advice, None));
        }
    }
}
