//! Which mount options a caller may ask for.
//!
//! Options come from outside (storage classes, people). What is not known to be harmless is refused: an option
//! such as `journal_path=` or `logdev=` would make the kernel open devices of the caller's choice.

use std::path::Path;

use rustix::mount::MountFlags;

use crate::core_error::CoreError;
use crate::nouns::Filesystem;

/// Options in the form that mount(2) takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountOptions {
    pub(crate) flags: MountFlags,
    /// What is meant for the filesystem itself, joined by commas.
    pub(crate) data: String,
}

impl MountOptions {
    /// Whether writing is refused.
    pub(crate) fn is_readonly(&self) -> bool {
        self.flags.contains(MountFlags::RDONLY)
    }
}

/// Options for mounting a filesystem.
pub(crate) fn for_filesystem(
    options: &[String],
    filesystem: Filesystem,
    subject: &str,
) -> Result<MountOptions, CoreError> {
    let mut flags = MountFlags::empty();
    let mut data = Vec::new();
    // Clones have the identity of their source; without this a second one could not be mounted beside it.
    if filesystem == Filesystem::Xfs {
        data.push("nouuid".to_owned());
    }
    for option in single(options) {
        if let Some(change) = flag(option) {
            change.apply(&mut flags);
        } else if let Some(context) = selinux_context(option) {
            // As mount(8) does: where the kernel has no SELinux, a filesystem would refuse it.
            if Path::new("/sys/fs/selinux").exists() {
                data.push(format!("context=\"{context}\""));
            }
        } else if is_allowed_data(option, filesystem) {
            data.push(option.to_owned());
        } else {
            return Err(refused(option, subject));
        }
    }
    data.dedup();
    Ok(MountOptions { flags, data: data.join(",") })
}

/// Options for a bind mount, which can only have those of the mount itself.
pub(crate) fn for_bind(options: &[String], readonly: bool, subject: &str) -> Result<MountOptions, CoreError> {
    let mut flags = if readonly { MountFlags::RDONLY } else { MountFlags::empty() };
    for option in single(options) {
        match flag(option) {
            Some(change) => change.apply(&mut flags),
            // Meant for the filesystem; it was given when that was mounted.
            None if selinux_context(option).is_some() => {}
            None if Filesystem::ALL.into_iter().any(|filesystem| is_allowed_data(option, filesystem)) => {}
            None => return Err(refused(option, subject)),
        }
    }
    Ok(MountOptions { flags, data: String::new() })
}

/// One option after the other: they come as a list whose members may themselves be lists with commas. A comma between
/// quotes belongs to a value.
fn single(options: &[String]) -> impl Iterator<Item = &str> {
    options
        .iter()
        .flat_map(|option| {
            let mut quoted = false;
            option.split(move |letter| {
                quoted ^= letter == '"';
                letter == ',' && !quoted
            })
        })
        .filter(|option| !option.is_empty())
}

/// The label that all files of a volume shall have, `context="user:role:type:level"`: how an orchestrator labels a volume
/// without walking through its files (`seLinuxMount`).
fn selinux_context(option: &str) -> Option<&str> {
    let value = option.strip_prefix("context=")?;
    let value = value.strip_prefix('"').map_or(Some(value), |value| value.strip_suffix('"'))?;
    let fine = value.len() <= 256
        && value.split(':').count() >= 4
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.:,".contains(&byte));
    fine.then_some(value)
}

/// Options for showing a raw device: only whether it is for reading.
pub(crate) fn for_device(options: &[String], subject: &str) -> Result<bool, CoreError> {
    let mut readonly = false;
    for option in single(options) {
        match option {
            "defaults" => {}
            "ro" => readonly = true,
            "rw" => readonly = false,
            other => return Err(refused(other, subject)),
        }
    }
    Ok(readonly)
}

fn refused(option: &str, subject: &str) -> CoreError {
    // CSI holds values of mount options to be secrets, perhaps.
    let option: String = option.split('=').next().unwrap_or_default().chars().take(64).collect();
    CoreError::Refused {
        subject: subject.to_owned(),
        reason: format!("the mount option {option:?} is not among the allowed ones"),
    }
}

enum Change {
    Set(MountFlags),
    Clear(MountFlags),
}

impl Change {
    fn apply(self, flags: &mut MountFlags) {
        match self {
            Self::Set(these) => flags.insert(these),
            Self::Clear(these) => flags.remove(these),
        }
    }
}

fn flag(option: &str) -> Option<Change> {
    use Change::{Clear, Set};
    Some(match option {
        "defaults" => Set(MountFlags::empty()),
        "ro" => Set(MountFlags::RDONLY),
        "rw" => Clear(MountFlags::RDONLY),
        "noatime" => Set(MountFlags::NOATIME),
        "atime" => Clear(MountFlags::NOATIME),
        "nodiratime" => Set(MountFlags::NODIRATIME),
        "relatime" => Set(MountFlags::RELATIME),
        "strictatime" => Set(MountFlags::STRICTATIME),
        "lazytime" => Set(MountFlags::LAZYTIME),
        "nodev" => Set(MountFlags::NODEV),
        "nosuid" => Set(MountFlags::NOSUID),
        "noexec" => Set(MountFlags::NOEXEC),
        "dev" => Clear(MountFlags::NODEV),
        "suid" => Clear(MountFlags::NOSUID),
        "exec" => Clear(MountFlags::NOEXEC),
        "sync" => Set(MountFlags::SYNCHRONOUS),
        "async" => Clear(MountFlags::SYNCHRONOUS),
        "dirsync" => Set(MountFlags::DIRSYNC),
        _ => return None,
    })
}

fn is_allowed_data(option: &str, filesystem: Filesystem) -> bool {
    let common = ["discard", "nodiscard"];
    let (words, numbers): (&[&str], &[&str]) = match filesystem {
        Filesystem::Ext4 => (
            &[
                "data=ordered",
                "data=journal",
                "errors=remount-ro",
                "errors=continue",
                "barrier",
                "delalloc",
                "nodelalloc",
                "acl",
                "user_xattr",
            ],
            &["commit", "stripe", "max_batch_time", "min_batch_time"],
        ),
        Filesystem::Xfs => (
            &[
                "nouuid",
                "inode64",
                "largeio",
                "nolargeio",
                "swalloc",
                "filestreams",
                "noquota",
                "prjquota",
                "usrquota",
                "grpquota",
            ],
            &["logbsize", "logbufs", "allocsize", "sunit", "swidth"],
        ),
        Filesystem::Btrfs => (
            &[
                "acl",
                "noacl",
                "autodefrag",
                "barrier",
                "compress",
                "compress=lzo",
                "compress=no",
                "compress=zlib",
                "compress=zstd",
                "compress-force=lzo",
                "compress-force=zlib",
                "compress-force=zstd",
                "discard=async",
                "discard=sync",
                "nodatacow",
                "nodatasum",
                "noautodefrag",
                "nossd",
                "space_cache=v2",
                "ssd",
            ],
            &["commit", "max_inline", "thread_pool"],
        ),
    };
    if common.contains(&option) || words.contains(&option) {
        return true;
    }
    option.split_once('=').is_some_and(|(name, value)| {
        numbers.contains(&name)
            && value.len() <= 16
            && value.bytes().next().is_some_and(|first| first.is_ascii_digit())
            && value.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(options: &[&str]) -> Vec<String> {
        options.iter().map(|option| (*option).to_owned()).collect()
    }

    #[test]
    fn harmless_options_are_taken_and_others_refused() {
        let options = for_filesystem(&owned(&["ro,noatime", "commit=30"]), Filesystem::Ext4, "v").unwrap();
        assert_eq!(options.flags, MountFlags::RDONLY | MountFlags::NOATIME);
        assert_eq!(options.data, "commit=30");
        for bad in
            ["journal_path=/dev/sda", "logdev=/dev/sda", "commit=1;x", "context=x", "commit=", "suid=1"]
        {
            assert!(for_filesystem(&owned(&[bad]), Filesystem::Ext4, "v").is_err(), "{bad}");
            assert!(for_bind(&owned(&[bad]), true, "v").is_err(), "{bad}");
        }
    }

    #[test]
    fn a_label_for_all_files_is_understood_with_its_commas() {
        let label = r#"context="system_u:object_r:container_file_t:s0:c1,c2",noatime"#;
        assert_eq!(single(&owned(&[label])).count(), 2);
        assert_eq!(selinux_context("context=system_u:object_r:t:s0"), Some("system_u:object_r:t:s0"));
        for fs in Filesystem::ALL {
            assert_eq!(for_filesystem(&owned(&[label]), fs, "v").unwrap().flags, MountFlags::NOATIME);
        }
        assert!(for_bind(&owned(&[label]), false, "v").is_ok());
        for bad in [r#"context="a:b:c:d"#, "context=a:b:c:d e", "fscontext=a:b:c:d", r#"context="a:b:c:d",x"#]
        {
            assert!(for_filesystem(&owned(&[bad]), Filesystem::Ext4, "v").is_err(), "{bad}");
        }
    }

    #[test]
    fn clones_of_xfs_can_be_mounted_beside_each_other() {
        assert_eq!(for_filesystem(&[], Filesystem::Xfs, "v").unwrap().data, "nouuid");
    }
}
