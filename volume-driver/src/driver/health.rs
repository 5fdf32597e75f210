//! Whether what is mounted still works.
//!
//! A filesystem that met an error it cannot live with stops: it stays mounted and answers nothing but errors. Whoever is
//! told "already mounted" then has a workload that cannot start and nobody who knows why. So a mount counts only as long
//! as it lives, and a dead one that nothing uses is taken away, checked and made anew.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::backend::Device;
use crate::driver::mounting::open_ours;
use crate::mount_table::{MountEntry, MountTable};
use crate::place::{self, Place};
use crate::registry::VolumeRow;

/// What is wrong with the mounted filesystem of a device, by what the kernel tells without being asked for data.
pub(super) fn trouble(device: &Device, table: &MountTable) -> Option<String> {
    let mount = table.of_device(device.number).next()?;
    if let Some(how) = stopped(mount) {
        return Some(format!(
            "its filesystem has stopped after an error ({how}): end what uses it; it is checked before its next mount"
        ));
    }
    let name = device.path.file_name()?.to_str()?;
    let errors = std::fs::read_to_string(format!("/sys/fs/ext4/{name}/errors_count")).ok()?;
    match errors.trim().parse() {
        Ok(0_u64) | Err(_) => None,
        Ok(count) => Some(format!(
            "its filesystem has met errors ({count}); it is checked and repaired before its next mount"
        )),
    }
}

fn stopped(mount: &MountEntry) -> Option<&'static str> {
    ["shutdown", "emergency_ro"]
        .into_iter()
        .find(|word| mount.super_options.split(',').any(|option| option == *word))
}

/// Why the filesystem that is mounted at `place` does not answer; `None`: it does.
pub(super) fn dead(place: &Place, row: &VolumeRow, device: &Device) -> Option<String> {
    if let Some(how) = MountTable::read().ok()?.at(place.path()).and_then(stopped) {
        return Some(format!("its filesystem has stopped after an error ({how})"));
    }
    let looked = || -> Result<(), Errno> {
        let Ok(open) = open_ours(place, row, device) else { return Err(Errno::IO) };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(place::through(&open), flags, Mode::empty())?;
        let mut buffer = [std::mem::MaybeUninit::uninit(); 1024];
        match rustix::fs::RawDir::new(&folder, &mut buffer).next() {
            Some(Err(errno)) => Err(errno),
            _ => Ok(()),
        }
    };
    // That a folder is closed to this driver says nothing about the filesystem.
    let told = looked().err().filter(|errno| !matches!(*errno, Errno::ACCESS | Errno::PERM));
    told.map(|errno| format!("its filesystem does not answer any more: {errno}"))
}
