//! What is mounted here, as the kernel tells it: `/proc/self/mountinfo`, and in `/sys` what loop devices hold.

use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, unmount};

use super::MountError;
use crate::fuse::NAME;

/// A line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    point: PathBuf,
    kind: String,
    source: String,
}

/// What is mounted at a directory, the uppermost of several.
pub(super) fn at(directory: &Path) -> Result<Option<Line>, MountError> {
    Ok(all()?.into_iter().rfind(|line| line.point == directory))
}

fn all() -> Result<Vec<Line>, MountError> {
    let text = fs::read_to_string("/proc/self/mountinfo").map_err(|cause| MountError::Table { cause })?;
    Ok(text.lines().filter_map(parse).collect())
}

/// `36 35 98:0 / /mnt rw,noatime master:1 - ext4 /dev/loop0 ro`
fn parse(line: &str) -> Option<Line> {
    let (before, after) = line.split_once(" - ")?;
    let mut after = after.split(' ');
    Some(Line {
        point: unescaped(before.split(' ').nth(4)?),
        kind: after.next()?.to_owned(),
        source: after.next()?.to_owned(),
    })
}

/// Blanks and the like stand as `\040`.
fn unescaped(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut found = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\');
        match octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()) {
            Some(byte) => {
                found.push(byte);
                at += 4;
            }
            None => {
                found.push(bytes[at]);
                at += 1;
            }
        }
    }
    std::ffi::OsString::from_vec(found).into()
}

impl Line {
    /// A loop device over a file that has the name of ours.
    pub(super) fn is_ours(&self) -> bool {
        let Some(name) = self.source.strip_prefix("/dev/") else { return false };
        let holds = fs::read_to_string(Path::new("/sys/block").join(name).join("loop/backing_file"));
        // The file's own mount is out of sight, so the kernel shows the path from there.
        holds.is_ok_and(|path| {
            let path = path.trim_end().trim_end_matches(" (deleted)");
            path == format!("/{NAME}") || (path.contains("/strongroom-files-") && path.ends_with(NAME))
        })
    }
}

/// Takes away private mounts whose worker died before it could.
pub(super) fn sweep_dead() {
    for line in all().unwrap_or_default() {
        let is_private = line.kind == "fuse.strongroom" && line.source == "strongroom";
        let dead = is_private
            && rustix::fs::stat(&line.point).is_err_and(|errno| errno == rustix::io::Errno::NOTCONN);
        if dead && unmount(&line.point, UnmountFlags::DETACH).is_ok() {
            let _ = fs::remove_dir(&line.point);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_table_is_taken_apart() {
        let line = parse("36 35 7:3 / /mnt/a\\040b ro,nosuid shared:1 master:2 - ext4 /dev/loop3 ro,noload")
            .unwrap();
        assert_eq!(line, Line { point: "/mnt/a b".into(), kind: "ext4".into(), source: "/dev/loop3".into() });
        assert_eq!(parse("nonsense"), None);
    }
}
