//! What is mounted where, as the kernel says it in /proc/self/mountinfo.
//!
//! Decisions about mounts are made from here and never from memory or return codes.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use crate::core_error::CoreError;

/// The devices of our volumes.
const LOOP_MAJOR: u32 = 7;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountEntry {
    /// The kernel's number for it.
    pub(crate) id: u64,
    /// Major and minor number of the filesystem's device.
    pub(crate) device: (u32, u32),
    /// Which part of the filesystem is mounted; for a bind mount of a device node its path in /dev.
    pub(crate) root: PathBuf,
    /// Where.
    pub(crate) path: PathBuf,
    /// Options of this mount alone.
    pub(crate) options: String,
    /// The type of the filesystem.
    pub(crate) filesystem: String,
    /// What was mounted: for a filesystem on a device its node.
    pub(crate) source: PathBuf,
    /// Options of the filesystem, shared by all its mounts.
    pub(crate) super_options: String,
}

impl MountEntry {
    /// Whether writing is refused here.
    pub(crate) fn is_readonly(&self) -> bool {
        self.options.split(',').any(|option| option == "ro")
    }

    /// Whether it shows the filesystem on the block device. btrfs has a device number of its own per mount, and is
    /// known by its source.
    pub(crate) fn is_of(&self, device: (u32, u32)) -> bool {
        self.device == device
            || (self.filesystem == "btrfs"
                && device.0 == LOOP_MAJOR
                && self.source == Path::new(&format!("/dev/loop{}", device.1)))
    }
}

/// All mounts of one namespace, in the order in which they were made.
#[derive(Debug, Clone, Default)]
pub(crate) struct MountTable {
    entries: Vec<MountEntry>,
}

impl MountTable {
    /// The mounts that this process sees.
    pub(crate) fn read() -> Result<Self, CoreError> {
        let path = "/proc/self/mountinfo";
        fs::read(path).map(|text| Self::parse(&text)).map_err(CoreError::system("reading", path))
    }

    /// Lines that make no sense are left out: the kernel writes none.
    pub(crate) fn parse(text: &[u8]) -> Self {
        Self { entries: text.split(|byte| *byte == b'\n').filter_map(parse_line).collect() }
    }

    /// What is mounted at `path`: the last one, which hides those before.
    pub(crate) fn at(&self, path: &Path) -> Option<&MountEntry> {
        self.entries.iter().rev().find(|entry| entry.path == path)
    }

    /// The mount of this number, see [`crate::place::mount_id`].
    pub(crate) fn numbered(&self, id: u64) -> Option<&MountEntry> {
        self.entries.iter().find(|entry| entry.id == id)
    }

    /// All mounts of the filesystem on the device.
    pub(crate) fn of_device(&self, device: (u32, u32)) -> impl Iterator<Item = &MountEntry> {
        self.entries.iter().filter(move |entry| entry.is_of(device))
    }

    /// All bind mounts of a device node, such as `/dev/loop3`.
    pub(crate) fn of_node(&self, node: &Path) -> impl Iterator<Item = &MountEntry> {
        self.entries.iter().filter(move |entry| Self::is_node(entry, node))
    }

    /// Whether a mount is a bind mount of the device node.
    pub(crate) fn is_node(entry: &MountEntry, node: &Path) -> bool {
        let in_dev = node.strip_prefix("/dev").map(|rest| Path::new("/").join(rest));
        in_dev.is_ok_and(|in_dev| entry.root == in_dev)
            && matches!(entry.filesystem.as_str(), "devtmpfs" | "tmpfs")
    }
}

fn parse_line(line: &[u8]) -> Option<MountEntry> {
    // 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let device = std::str::from_utf8(fields.nth(1)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let root = unescape(fields.next()?);
    let path = unescape(fields.next()?);
    let options = String::from_utf8_lossy(fields.next()?).into_owned();
    let mut fields = fields.skip_while(|field| *field != b"-");
    let filesystem = String::from_utf8_lossy(fields.nth(1)?).into_owned();
    let source = unescape(fields.next()?);
    let super_options = String::from_utf8_lossy(fields.next()?).into_owned();
    let device = (major.parse().ok()?, minor.parse().ok()?);
    Some(MountEntry { id, device, root, path, options, filesystem, source, super_options })
}

/// The kernel writes space, tab, newline and backslash as `\` and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, behind)) = rest.split_first() {
        let octal = behind
            .get(..3)
            .filter(|digits| *first == b'\\' && digits.iter().all(|digit| matches!(digit, b'0'..=b'7')))
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[3..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_understood() {
        let table = MountTable::parse(
            b"36 35 7:3 / /mnt/with\\040space rw,noatime master:1 - ext4 /dev/loop3 rw\n\
              37 35 7:3 / /mnt/with\\040space ro shared:2 master:1 - ext4 /dev/loop3 rw\n\
              38 35 0:6 /loop3 /target rw - devtmpfs udev rw\nnonsense\n\
              39 35 0:44 / /line\\012tab\\011back\\134040 rw - btrfs /dev/loop7 rw,subvol=/\n",
        );
        assert_eq!(table.of_device((7, 3)).count(), 2);
        assert!(table.at(Path::new("/mnt/with space")).unwrap().is_readonly());
        assert_eq!(table.of_node(Path::new("/dev/loop3")).count(), 1);
        assert!(table.at(Path::new("/mnt")).is_none());
        // What looks like an escape and is not one is a backslash and digits.
        assert!(table.at(Path::new("/line\ntab\tback\\040")).is_some());
        assert_eq!(table.of_device((7, 7)).count(), 1, "btrfs is known by its source");
        assert_eq!(table.of_device((7, 70)).count(), 0);
        assert_eq!(table.numbered(38).unwrap().path, Path::new("/target"));
    }

    #[test]
    fn the_mounts_of_this_machine_are_read() {
        assert!(MountTable::read().unwrap().at(Path::new("/")).is_some());
    }
}
