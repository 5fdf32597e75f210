//! A block device: all of the point is written to it, zeros too, since nobody knows what it held.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{OFlags, SeekFrom};
use strongroom_block_io::{BlockSource, Caching, FileSource, FileTarget};
use strongroom_console::Failed;

use super::{Aimed, Wanted};
use crate::error::HydrateError;
use crate::plan::{Base, Target};
use crate::refusal::Refusal;
use crate::work::Scope;

/// Looks at a device.
pub(crate) fn aim(wanted: &Wanted, path: &Path, compare: bool) -> Result<Aimed, Failed> {
    let needed = wanted.point.volume_bytes;
    let path =
        &std::fs::canonicalize(path).map_err(|cause| Refusal::ReadOnly { path: path.into(), cause })?;
    let bytes = check(path)?;
    if bytes < needed {
        return Err(Refusal::TooSmall { target: path.display().to_string(), bytes, needed }.into());
    }
    let target = Target::Device { path: path.clone(), bytes };
    let base =
        if compare { Base::Compared { what: format!("device {}", path.display()) } } else { Base::Unknown };
    let name = blake3::hash(path.as_os_str().as_encoded_bytes()).to_hex();
    let journal = wanted.state_journal(&format!("device-{}", &name[..16]));
    let header = wanted.header(wanted.run, &target, &base, None);
    let earlier = wanted.earlier(journal.as_deref(), &header)?;
    let local = if compare {
        let source = FileSource::open(path, Caching::Direct).map_err(HydrateError::from)?;
        Some((Arc::new(source) as Arc<dyn BlockSource>, true))
    } else {
        None
    };
    let mut notes = vec![format!("everything on {} will be replaced, and there is no undo", path.display())];
    if bytes > needed {
        notes.push(format!(
            "the {} bytes of the device beyond the point's are left as they are",
            bytes - needed
        ));
    }
    Ok(Aimed {
        run: earlier.as_ref().map_or(wanted.run, |found| found.header.run),
        target,
        base,
        target_bytes: needed,
        blank: false,
        scope: Scope::All,
        local,
        journal,
        earlier,
        cloned_from: None,
        undo: false,
        notes,
    })
}

/// That it is a device nobody uses and that can be written; its size.
fn check(path: &Path) -> Result<u64, Refusal> {
    let failed = |cause| Refusal::ReadOnly { path: path.into(), cause };
    let meta = std::fs::metadata(path).map_err(failed)?;
    if !meta.file_type().is_block_device() {
        return Err(Refusal::NotADevice { path: path.into() });
    }
    // Opened exclusively, for reading: the kernel says whether it is mounted or claimed, and nothing happens to it.
    let flags = i32::try_from((OFlags::EXCL | OFlags::NONBLOCK).bits()).unwrap_or(0);
    let device: File = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(cause) if cause.kind() == io::ErrorKind::ResourceBusy => {
            return Err(Refusal::DeviceInUse { path: path.into() });
        }
        opened => opened.map_err(failed)?,
    };
    let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
    let ro = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/ro")).unwrap_or_default();
    if ro.trim() == "1" {
        return Err(failed(io::ErrorKind::ReadOnlyFilesystem.into()));
    }
    rustix::fs::seek(&device, SeekFrom::End(0)).map_err(|errno| failed(errno.into()))
}

/// Opens it for writing; the kernel refuses others until it is closed.
pub(crate) fn open(path: &Path) -> Result<FileTarget, Failed> {
    FileTarget::open(path).map_err(|error| match error.io().map(io::Error::kind) {
        Some(io::ErrorKind::ResourceBusy) => Refusal::DeviceInUse { path: path.into() }.into(),
        _ => HydrateError::from(error).into(),
    })
}
