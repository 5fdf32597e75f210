//! How the kernel holds back the users of a block device: by the control group that a process is in.
//!
//! * **cgroup v2**, `io.max`. A limit holds for a group and all below it together. The root group has none, so it is
//!   written into every *first-level* group: that is the highest place, hence all pods below `kubepods.slice`, or all
//!   containers below `system.slice`, share one allowance. Written further down, each pod or container would
//!   get an allowance of its own, and a second one for the same volume would double it.
//! * **cgroup v1**, `blkio.throttle.*_device`. Version 1 does not look at the groups above: a limit holds for one group
//!   alone. So it is written into every group, the root too, and each group may use all of it.
//!
//! Groups come (a container is started after its volume was published), so [`IoThrottle::limit`] is called again every
//! few seconds for volumes with limits; what is there already is not written again. A device keeps its limits when its
//! image is detached, and its number is used again: limits are lifted before a device is given away.
//!
//! What it does not know: writes that go through the page cache reach the device later, in version 1 from the root group,
//! in version 2 from the group that wrote them.

use std::fs;
use std::io::{self, Write as _};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::io_limits::{IoLimits, IoQuantity};

/// How deep groups are looked for, and how many of them: far beyond what a node has.
const DEEPEST: usize = 16;
const MOST_GROUPS: usize = 20_000;

/// The kernel keeps requests a second in 32 bits.
const LARGEST_IOPS: u64 = u32::MAX as u64;

/// Limits devices by the control groups below a folder.
#[derive(Debug)]
pub(crate) struct IoThrottle {
    root: PathBuf,
    /// Whether any device may have limits: without that, nothing needs to be looked at.
    used: AtomicBool,
}

/// Why I/O cannot be limited, in words that end a sentence.
pub(crate) type Missing = String;

/// The groups that a limit is written into.
#[derive(Debug)]
enum Groups {
    Unified(Vec<PathBuf>),
    Legacy(Vec<PathBuf>),
}

impl IoThrottle {
    pub(crate) const fn new(root: PathBuf) -> Self {
        Self { root, used: AtomicBool::new(false) }
    }

    /// Whether the kernel can do it.
    pub(crate) fn check(&self) -> Result<(), Missing> {
        self.groups().map(drop)
    }

    /// Whether any device may have limits.
    pub(crate) fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// From now on devices are looked at also when their volume has no limits.
    pub(crate) fn use_from_now_on(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    /// Lets a device have these limits and no others. What it has already is not written again.
    pub(crate) fn limit(&self, device: (u32, u32), limits: IoLimits) -> Result<(), Missing> {
        match self.groups()? {
            Groups::Unified(groups) => {
                for group in groups {
                    unified(&group.join("io.max"), device, limits)?;
                }
            }
            Groups::Legacy(groups) => {
                for group in groups {
                    for quantity in IoQuantity::ALL {
                        legacy(&group.join(legacy_file(quantity)), device, value(limits, quantity))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn groups(&self) -> Result<Groups, Missing> {
        let root = &self.root;
        for place in [root.clone(), root.join("unified")] {
            let offered = fs::read_to_string(place.join("cgroup.controllers")).unwrap_or_default();
            if !offered.split_whitespace().any(|controller| controller == "io") {
                continue;
            }
            let groups: Vec<PathBuf> =
                children(&place).into_iter().filter(|group| group.join("io.max").exists()).collect();
            if groups.is_empty() {
                return Err(format!(
                    "the io controller is not given to the groups in {} (write +io to its cgroup.subtree_control)",
                    place.display()
                ));
            }
            return Ok(Groups::Unified(groups));
        }
        for place in [root.join("blkio"), root.clone()] {
            if place.join(legacy_file(IoQuantity::IopsWrite)).exists() {
                let mut groups = vec![place.clone()];
                collect(&place, DEEPEST, &mut groups);
                return Ok(Groups::Legacy(groups));
            }
        }
        Err(format!(
            "below {} there is neither the io controller of cgroup v2 nor the blkio controller of cgroup v1 with throttling",
            root.display()
        ))
    }
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

fn collect(folder: &Path, depth: usize, groups: &mut Vec<PathBuf>) {
    for child in children(folder) {
        if depth == 0 || groups.len() >= MOST_GROUPS {
            return;
        }
        groups.push(child.clone());
        collect(&child, depth - 1, groups);
    }
}

const fn legacy_file(quantity: IoQuantity) -> &'static str {
    match quantity {
        IoQuantity::IopsRead => "blkio.throttle.read_iops_device",
        IoQuantity::IopsWrite => "blkio.throttle.write_iops_device",
        IoQuantity::BytesRead => "blkio.throttle.read_bps_device",
        IoQuantity::BytesWrite => "blkio.throttle.write_bps_device",
    }
}

const fn unified_key(quantity: IoQuantity) -> &'static str {
    match quantity {
        IoQuantity::IopsRead => "riops",
        IoQuantity::IopsWrite => "wiops",
        IoQuantity::BytesRead => "rbps",
        IoQuantity::BytesWrite => "wbps",
    }
}

fn value(limits: IoLimits, quantity: IoQuantity) -> Option<u64> {
    let most = match quantity {
        IoQuantity::IopsRead | IoQuantity::IopsWrite => LARGEST_IOPS,
        IoQuantity::BytesRead | IoQuantity::BytesWrite => u64::MAX,
    };
    limits.of(quantity).map(|limit: NonZeroU64| limit.get().min(most))
}

/// The rest of the line of `device`, if it has one.
fn line_of(text: &str, (major, minor): (u32, u32)) -> Option<&str> {
    let name = format!("{major}:{minor}");
    text.lines().find_map(|line| line.trim().strip_prefix(name.as_str())?.strip_prefix(' '))
}

fn unified(file: &Path, device: (u32, u32), limits: IoLimits) -> Result<(), Missing> {
    let word = |quantity| value(limits, quantity).map_or_else(|| "max".to_owned(), |limit| limit.to_string());
    let wanted = IoQuantity::ALL.map(|quantity| format!("{}={}", unified_key(quantity), word(quantity)));
    let Some(text) = read(file)? else { return Ok(()) };
    let has = line_of(&text, device).unwrap_or("rbps=max wbps=max riops=max wiops=max");
    if wanted.iter().all(|pair| has.split_whitespace().any(|other| other == pair)) {
        return Ok(());
    }
    write(file, &format!("{}:{} {}", device.0, device.1, wanted.join(" ")))
}

fn legacy(file: &Path, device: (u32, u32), limit: Option<u64>) -> Result<(), Missing> {
    // 0 lifts a limit, and the kernel then shows no line.
    let wanted = limit.unwrap_or(0);
    let Some(text) = read(file)? else { return Ok(()) };
    let has = line_of(&text, device).and_then(|number| number.trim().parse().ok()).unwrap_or(0);
    if has == wanted { Ok(()) } else { write(file, &format!("{}:{} {wanted}", device.0, device.1)) }
}

/// `None`: the group has gone meanwhile.
fn read(file: &Path) -> Result<Option<String>, Missing> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(cause) if is_gone(&cause) => Ok(None),
        Err(cause) => Err(format!("{} cannot be read: {cause}", file.display())),
    }
}

fn write(file: &Path, line: &str) -> Result<(), Missing> {
    // One write is one change; the kernel does not want it in pieces.
    let written =
        fs::OpenOptions::new().write(true).open(file).and_then(|mut file| file.write_all(line.as_bytes()));
    match written {
        Err(cause) if !is_gone(&cause) => Err(format!("{} cannot be written: {cause}", file.display())),
        _ => Ok(()),
    }
}

fn is_gone(cause: &io::Error) -> bool {
    cause.kind() == io::ErrorKind::NotFound
        || cause.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}

#[cfg(test)]
mod tests;
