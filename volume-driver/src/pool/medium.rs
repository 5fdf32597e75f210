//! What a pool lies on: a folder that shares blocks, a pool file in a folder that does not, or a block device.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, MountPropagationFlags};

use crate::core_error::CoreError;
use crate::crash;
use crate::filesystem::{self, BlankDevice, FreshImage};
use crate::loop_device;
use crate::mount_table::MountTable;
use crate::requests::DriverSettings;

use super::make_folder;

pub(super) const POOL_FILE: &str = "pool.img";
const MOUNTED: &str = "mounted";

/// Where the images shall lie.
#[derive(Debug)]
pub(super) struct Medium {
    pub(super) root: PathBuf,
    /// The folder of the pool file, where there is one.
    pub(super) host: Option<PathBuf>,
}

/// Opens what `settings.pool` names. `was_made`: the registry knows a pool, so a new one must not be made.
pub(super) fn open(settings: &DriverSettings, was_made: bool) -> Result<Medium, CoreError> {
    let pool = &settings.pool;
    if pool.metadata().is_ok_and(|meta| meta.file_type().is_block_device()) {
        let root = on_device(pool, &settings.state_dir.join("pool"), was_made)?;
        return Ok(Medium { root, host: None });
    }
    make_folder(pool)?;
    let pool = &fs::canonicalize(pool).map_err(CoreError::system("resolving", pool))?;
    let file = pool.join(POOL_FILE);
    if !file.exists() {
        if can_share_blocks(pool)? {
            return Ok(Medium { root: pool.clone(), host: None });
        }
        if was_made {
            return Err(CoreError::Refused {
                subject: format!("the pool {}", pool.display()),
                reason: "its pool file is not there, and the registry knows one; is the right disk mounted?"
                    .to_owned(),
            });
        }
        make_pool_file(&file, settings.pool_bytes)?;
    }
    let root = pool.join(MOUNTED);
    make_folder(&root)?;
    mount_pool_file(&file, &root)?;
    Ok(Medium { root, host: Some(pool.clone()) })
}

/// Clones a block for real: what a filesystem says about itself is not asked.
fn can_share_blocks(folder: &Path) -> Result<bool, CoreError> {
    let (from, to) = (folder.join(".probe-from"), folder.join(".probe-to"));
    let probe = || -> std::io::Result<bool> {
        let create = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(true).mode(0o600);
            options
        };
        let content = [0x5a; 4096];
        let mut source = create().open(&from)?;
        source.write_all(&content)?;
        source.sync_all()?;
        let target = create().open(&to)?;
        if rustix::fs::ioctl_ficlone(&target, &source).is_err() {
            return Ok(false);
        }
        let mut got = Vec::new();
        File::open(&to)?.read_to_end(&mut got)?;
        Ok(got == content)
    };
    let can = probe().map_err(CoreError::system("writing to", folder));
    let _ = fs::remove_file(&from);
    let _ = fs::remove_file(&to);
    can
}

/// Under another name until it is complete, so that a crash leaves no half-made pool.
fn make_pool_file(path: &Path, bytes: Option<u64>) -> Result<(), CoreError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let stat = rustix::fs::statvfs(folder).map_err(CoreError::errno("measuring", folder))?;
    let free = stat.f_bavail * stat.f_frsize;
    let bytes = bytes.unwrap_or(free / 5 * 4) / 4096 * 4096;
    let least = filesystem::minimum_bytes(Some(crate::nouns::Filesystem::Xfs));
    if bytes < least {
        return Err(CoreError::Size {
            subject: format!("the pool file {}", path.display()),
            reason: format!("{bytes} bytes are too few, it needs at least {least}"),
        });
    }
    let part = path.with_extension("part");
    match fs::remove_file(&part) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
            return Err(CoreError::System { action: "removing", path: part, cause });
        }
        _ => {}
    }
    let image = FreshImage::create(&part, bytes)?;
    filesystem::make(&image, crate::nouns::Filesystem::Xfs, None, &path.display().to_string())?;
    image.keep_as(path)
}

fn mount_pool_file(file: &Path, root: &Path) -> Result<(), CoreError> {
    let mounts = MountTable::read()?;
    if let Some(mount) = mounts.at(root) {
        // From before a restart of the driver. It must be this very file.
        let ours = loop_device::find(file)?;
        return if ours.is_some_and(|device| device.device() == mount.device) {
            Ok(())
        } else {
            Err(CoreError::InUse {
                subject: root.display().to_string(),
                holder: "something else is mounted there".to_owned(),
            })
        };
    }
    let device = loop_device::attach(file)?;
    crash::point!("pool.attached");
    mount_pool(&device.path(), root)
}

fn mount_pool(device: &Path, root: &Path) -> Result<(), CoreError> {
    let flags = MountFlags::NOATIME | MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
    rustix::mount::mount(device, root, "xfs", flags, c"")
        .map_err(CoreError::errno("mounting the pool at", root))?;
    // Not passed on to other namespaces: copies there would keep the pool busy.
    rustix::mount::mount_change(root, MountPropagationFlags::PRIVATE)
        .map_err(CoreError::errno("making private", root))
}

fn on_device(device: &Path, root: &Path, was_made: bool) -> Result<PathBuf, CoreError> {
    make_folder(root)?;
    let root = fs::canonicalize(root).map_err(CoreError::system("resolving", root))?;
    let number = device.metadata().map_err(CoreError::system("looking at", device))?.rdev();
    let number = (rustix::fs::major(number), rustix::fs::minor(number));
    if let Some(mount) = MountTable::read()?.of_device(number).next() {
        return if mount.path == root {
            Ok(root)
        } else {
            Err(CoreError::InUse {
                subject: device.display().to_string(),
                holder: format!("it is mounted at {}", mount.path.display()),
            })
        };
    }
    if !is_pool(device)? {
        // Refuses what is not blank.
        let blank = BlankDevice::prove(device)?;
        if was_made {
            return Err(CoreError::Refused {
                subject: format!("the pool {}", device.display()),
                reason: "it is blank, and the registry knows a pool; is this the right device?".to_owned(),
            });
        }
        filesystem::make_pool_on(&blank)?;
    }
    mount_pool(device, &root)?;
    Ok(root)
}

/// Whether the device holds an XFS with our label.
fn is_pool(device: &Path) -> Result<bool, CoreError> {
    let mut superblock = [0; 512];
    File::open(device)
        .and_then(|mut file| file.read_exact(&mut superblock))
        .map_err(CoreError::system("reading", device))?;
    // Offset 108 of an XFS superblock is its label, 12 bytes.
    Ok(superblock.starts_with(b"XFSB") && superblock[108..120].starts_with(filesystem::POOL_LABEL.as_bytes()))
}
