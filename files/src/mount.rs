//! A point as a directory: FUSE serves the image as one file, a loop device makes a device of it, the kernel mounts that.
//!
//! ```text
//! verify -> private folder (0700) -> FUSE: image -> [check] -> mount -o loop -> the private folder goes away -> serve
//! ```
//! * **Verified first.** The superblock and the root directory are read by our own readers before the kernel sees anything;
//!   what is no filesystem, or larger than the image, is refused. That stops damage, not a clever attacker: docs/files.md.
//! * **Read-only** all the way: FUSE, loop device and filesystem; nosuid, nodev, noexec. No journal is replayed, and a
//!   superblock that asks for a panic on errors is overruled.
//! * **Nothing is left behind.** Once the loop device holds the file, the FUSE mount is taken out of sight and the folder
//!   removed. Unmounting the directory frees the loop device, which closes the file, which ends FUSE, which ends us.
//! * **Nothing hangs.** The mount itself is made by a child, `mount`: were it a thread of ours, kill -9 would wait for a read
//!   that only we could answer. When we die, the kernel answers all reads with errors; `files unmount` takes the rest away.

mod error;
mod table;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use rustix::mount::{UnmountFlags, unmount};
use strongroom_console::Console;

pub use error::MountError;

use crate::disk::Disk;
use crate::error::FilesError;
use crate::filesystem::{self, Partition, Signature};
use crate::fuse::{self, Served};
use crate::tree::{Kind, Tree};

/// A point that is mounted, and served as long as this is there.
#[derive(Debug)]
pub struct Mounted {
    /// Where.
    pub directory: PathBuf,
    /// What it is.
    pub filesystem: Signature,
    served: Served,
}

/// What is to be mounted, and how.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Where.
    pub directory: PathBuf,
    /// Which partition.
    pub partition: Option<u32>,
    /// Ask the filesystem's own checker first.
    pub check: bool,
}

/// Mounts. Blocks until it is done.
///
/// # Errors
/// When the image is refused, this machine cannot do it, or the kernel will not.
pub fn mount(disk: Arc<dyn Disk>, wish: &Wish, console: &Console) -> Result<Mounted, MountError> {
    let directory = fs::canonicalize(&wish.directory)
        .map_err(|cause| MountError::Directory { path: wish.directory.clone(), cause })?;
    if !directory.is_dir() {
        return Err(MountError::Directory { path: directory, cause: io::ErrorKind::NotADirectory.into() });
    }
    if table::at(&directory)?.is_some() {
        return Err(MountError::Taken { path: directory });
    }
    let (found, partition) = verify(&disk, wish.partition, console)?;
    if !rustix::process::geteuid().is_root() || !Path::new("/dev/fuse").exists() {
        return Err(MountError::NotHere);
    }
    let folder = tempfile::Builder::new()
        .prefix("strongroom-files-")
        .tempdir()
        .map_err(|cause| MountError::Folder { cause })?;
    let served = fuse::serve(disk, folder.path(), console).map_err(|cause| MountError::Fuse { cause })?;
    // From here on the private mount goes away whatever happens; what holds the file open keeps it alive.
    let hidden = Hidden(folder);
    let image = hidden.0.path().join(fuse::NAME);
    if wish.check {
        check(found, &image, partition.as_ref(), console)?;
    }
    let options = options(found, partition.as_ref());
    let words: [OsString; 6] = [
        "-t".into(),
        found.word().into(),
        "-o".into(),
        options.into(),
        image.into_os_string(),
        directory.clone().into_os_string(),
    ];
    let answer = run("mount", &words)?;
    drop(hidden);
    if !answer.status.success() {
        return Err(MountError::Refused { path: directory, said: said(&answer) });
    }
    Ok(Mounted { directory, filesystem: found, served })
}

/// Reads the superblock and the root directory, as far as our own readers know this filesystem.
fn verify(
    disk: &Arc<dyn Disk>,
    partition: Option<u32>,
    console: &Console,
) -> Result<(Signature, Option<Partition>), MountError> {
    let (part, partition) = filesystem::part(Arc::clone(disk), partition)?;
    let found = filesystem::recognise(&*part)?;
    let opened: Result<Arc<dyn Tree>, FilesError> = match found {
        Signature::Btrfs => {
            console.warn("btrfs is not verified before the kernel mounts it");
            return Ok((found, partition));
        }
        _ => filesystem::open(part),
    };
    match opened {
        Ok(tree) => {
            let root = tree.node(tree.root())?;
            if root.kind != Kind::Directory {
                return Err(FilesError::Nonsense { what: "the root is no directory".into() }.into());
            }
            tree.entries(&root, &mut |_| true)?;
        }
        Err(error @ FilesError::UnknownFeatures { .. }) => {
            console.warn(format_args!("not verified before the kernel mounts it: {error}"));
        }
        Err(error) => return Err(error.into()),
    }
    Ok((found, partition))
}

/// The journal is not replayed: nothing can be written. Errors of the filesystem must not do what its superblock says, which
/// may be to stop this machine. `nouuid`: the volume itself may be mounted here as well.
fn options(found: Signature, partition: Option<&Partition>) -> String {
    let own = match found {
        Signature::Ext4 => "noload,errors=continue",
        Signature::Xfs => "norecovery,nouuid",
        Signature::Btrfs => "rescue=nologreplay",
    };
    let part = partition.map_or_else(String::new, |partition| {
        format!(",offset={},sizelimit={}", partition.start_bytes, partition.bytes)
    });
    format!("loop,ro,nosuid,nodev,noexec,{own}{part}")
}

/// The filesystem's own checker over the lazy image: reads all metadata.
fn check(
    found: Signature,
    image: &Path,
    partition: Option<&Partition>,
    console: &Console,
) -> Result<(), MountError> {
    let image = image.as_os_str().to_owned();
    if partition.is_some() {
        console.warn("--check is left out: the checkers do not look into partitions of an image");
        return Ok(());
    }
    let (program, words): (_, Vec<OsString>) = match found {
        Signature::Ext4 => ("e2fsck", vec!["-n".into(), "-f".into(), image]),
        Signature::Xfs => ("xfs_repair", vec!["-n".into(), "-f".into(), image]),
        Signature::Btrfs => ("btrfs", vec!["check".into(), "--readonly".into(), image]),
    };
    let answer = run(program, &words)?;
    if answer.status.success() {
        console.talk(format_args!("{program} finds nothing wrong"));
        return Ok(());
    }
    Err(MountError::CheckFailed { program, said: said(&answer) })
}

/// Unmounts, and lets go of what a worker left that died.
///
/// # Errors
/// When nothing of ours is mounted there, or it is in use and `detach` was not asked for.
pub fn unmount_directory(directory: &Path, detach: bool) -> Result<(), MountError> {
    let directory = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
    let found = table::at(&directory)?;
    if !found.is_some_and(|found| found.is_ours()) {
        return Err(MountError::NotOurs { path: directory });
    }
    let mut words: Vec<OsString> = vec![directory.clone().into_os_string()];
    if detach {
        words.insert(0, "--lazy".into());
    }
    let answer = run("umount", &words)?;
    if !answer.status.success() {
        return Err(MountError::InUse { path: directory, said: said(&answer) });
    }
    table::sweep_dead();
    Ok(())
}

impl Mounted {
    /// It is unmounted, and nothing uses the image any more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.served.has_ended()
    }

    /// How many reads failed so far.
    #[must_use]
    pub fn failed_reads(&self) -> u64 {
        self.served.failed()
    }
}

/// The private folder with the FUSE mount on it.
struct Hidden(tempfile::TempDir);

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

fn run(program: &'static str, words: &[OsString]) -> Result<Output, MountError> {
    // A shell of cron has no /sbin in its path.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from));
    let path = std::env::join_paths(folders).unwrap_or(path);
    Command::new(program)
        .args(words)
        .env("PATH", path)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|cause| MountError::Program { program, cause })
}

fn said(answer: &Output) -> String {
    let text = [&answer.stdout[..], &answer.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    // The end says what came of it.
    lines[lines.len().saturating_sub(6)..].join("; ")
}
