//! Filesystems in volumes: made once, checked before each mount, grown with their volume.
//!
//! **Nothing is ever formatted that could hold data.** [`make`] takes only a [`FreshImage`]: a file that this
//! very function call created under a name of its own, that holds no data extent, and that becomes a volume's
//! image by being renamed when all is done. An image of a restore, a clone,
//! or a raw volume never comes by here. The only device that is ever formatted is one for a pool, and that takes a
//! [`BlankDevice`]: the proof that its ends were read without an error and hold nothing.

mod btrfs;
pub(crate) mod superblock;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::SeekFrom;
use rustix::io::Errno;
use strongroom_model::VolumeId;

use crate::core_error::CoreError;
use crate::crash;
use crate::nouns::Filesystem;
use crate::{sys, tool};

/// mkfs of a sparse file takes moments.
const MAKE_LIMIT: Duration = Duration::from_secs(120);

/// A check reads at most all metadata; a day is more than any needs.
const CHECK_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// The smallest image in which each filesystem can be made.
pub(crate) const fn minimum_bytes(filesystem: Option<Filesystem>) -> u64 {
    match filesystem {
        None => 4096,
        // Below that the journal leaves no room for files.
        Some(Filesystem::Ext4) => 8 * 1024 * 1024,
        // What mkfs.xfs asks for.
        Some(Filesystem::Xfs) => 300 * 1024 * 1024,
        // mkfs.btrfs makes them from 109 MiB on, but the kernel grows none to less than this.
        Some(Filesystem::Btrfs) => 256 * 1024 * 1024,
    }
}

/// The block of a filesystem that can be a pool.
const POOL_BLOCK_BYTES: u32 = 4096;

/// An image that was made a moment ago, under a name that nothing else knows, and that holds nothing.
#[derive(Debug)]
pub(crate) struct FreshImage {
    file: File,
    path: PathBuf,
}

impl FreshImage {
    /// Makes a sparse file of `bytes` zeros at `path`, where nothing may be.
    pub(crate) fn create(path: &Path, bytes: u64) -> Result<Self, CoreError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(CoreError::system("making", path))?;
        // Clones inherit it. With XFS's usual 128 KiB, what was reserved around each copied block and not used keeps the
        // image from ever lying in one piece again (docs/decisions). Other filesystems know no such hint.
        let _ = sys::copy_single_blocks(&file, POOL_BLOCK_BYTES);
        file.set_len(bytes).map_err(CoreError::system("sizing", path))?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Whether it holds no data at all: the kernel finds no data extent in it.
    fn is_blank(&self) -> bool {
        rustix::fs::seek(&self.file, SeekFrom::Data(0)) == Err(Errno::NXIO)
    }

    /// The file itself, to write a clone into.
    pub(crate) const fn file(&self) -> &File {
        &self.file
    }

    /// Makes the content durable and gives the image its lasting name, where nothing may be.
    pub(crate) fn keep_as(self, name: &Path) -> Result<(), CoreError> {
        self.file.sync_all().map_err(CoreError::system("making durable", &self.path))?;
        crash::point!("image.durable");
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        rustix::fs::renameat_with(rustix::fs::CWD, &self.path, rustix::fs::CWD, name, flags)
            .map_err(CoreError::errno("naming", name))?;
        crash::point!("image.named");
        sync_folder_of(name)
    }
}

/// Makes the entries of the folder that holds `path` durable.
pub(crate) fn sync_folder_of(path: &Path) -> Result<(), CoreError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(CoreError::system("making durable", folder))
}

/// Makes a filesystem with blocks and sectors of 4096 bytes in a fresh image, of `volume` if it is to be one's.
pub(crate) fn make(
    image: &FreshImage,
    filesystem: Filesystem,
    volume: Option<VolumeId>,
    subject: &str,
) -> Result<(), CoreError> {
    if !image.is_blank() {
        return Err(CoreError::Bug {
            what: format!("{} is not blank, and was to be formatted", image.path.display()),
        });
    }
    let path = utf8(&image.path)?;
    match filesystem {
        // No blocks kept back for root: the volume belongs to one application.
        Filesystem::Ext4 => {
            tool::run_well("mkfs.ext4", &["-q", "-F", "-b", "4096", "-m", "0", path], subject, MAKE_LIMIT)
        }
        Filesystem::Xfs => make_xfs(path, &[], subject),
        Filesystem::Btrfs => {
            let mut arguments = vec!["-q", "-K", "-s", "4096"];
            let id = volume.map(btrfs::id_text);
            if let Some(id) = &id {
                arguments.extend(["-U", id]);
            }
            arguments.push(path);
            tool::run_well("mkfs.btrfs", &arguments, subject, MAKE_LIMIT)
        }
    }
}

/// The label of the XFS on a block device that is a pool.
pub(crate) const POOL_LABEL: &str = "strongroom";

/// XFS with reflinks, for volumes and for the pool itself. Without the reverse map: with it a snapshot was four
/// times slower.
fn make_xfs(path: &str, more: &[&str], subject: &str) -> Result<(), CoreError> {
    let common = ["-q", "-K", "-s", "size=4096", "-m", "crc=1,reflink=1,rmapbt=0"];
    let arguments: Vec<&str> = common.iter().chain(more).chain([&path]).copied().collect();
    tool::run_well("mkfs.xfs", &arguments, subject, MAKE_LIMIT)
}

/// A block device that was read and found blank: the proof that [`make_pool`] asks for.
#[derive(Debug)]
pub(crate) struct BlankDevice<'a>(&'a Path);

impl<'a> BlankDevice<'a> {
    /// How much is read at each end: every signature that is known (partition tables, filesystems, RAID, LVM)
    /// lies there.
    const LOOKED_AT_BYTES: u64 = 4 * 1024 * 1024;

    /// Reads both ends of `device` without error and finds nothing but zeros.
    pub(crate) fn prove(device: &'a Path) -> Result<Self, CoreError> {
        use strongroom_block_io::{BlockSource as _, Caching, FileSource};
        let subject = device.display().to_string();
        let failed = |cause| CoreError::Blocks { subject: subject.clone(), cause };
        let source = FileSource::open(device, Caching::Direct).map_err(failed)?;
        let length = Self::LOOKED_AT_BYTES.min(source.bytes());
        let mut content = vec![0; usize::try_from(length).expect("at most 4 MiB")];
        for offset in [0, source.bytes() - length] {
            source.read_at(offset, &mut content).map_err(failed)?;
            if content.iter().any(|byte| *byte != 0) {
                return Err(CoreError::Refused {
                    subject: subject.clone(),
                    reason: "it is not blank, and holds no pool of ours; it will not be formatted".to_owned(),
                });
            }
        }
        Ok(Self(device))
    }
}

/// Makes the filesystem of a pool on a device that is proved to be blank.
pub(crate) fn make_pool_on(device: &BlankDevice<'_>) -> Result<(), CoreError> {
    make_xfs(utf8(device.0)?, &["-L", POOL_LABEL], &device.0.display().to_string())
}

/// Whether a filesystem can be mounted as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fitness {
    /// Yes, as far as it says itself.
    Sound,
    /// No: [`repair`] has to change it.
    Damaged,
}

/// Checks the filesystem on `device`, which must not be mounted, and makes it fit to be mounted beside others. Logs are
/// replayed; nothing else is changed.
pub(crate) fn check(
    device: &Path,
    filesystem: Filesystem,
    volume: VolumeId,
    subject: &str,
) -> Result<Fitness, CoreError> {
    match filesystem {
        Filesystem::Ext4 => {
            let journal = ["-p", "-E", "journal_only", utf8(device)?];
            let ended = tool::run("e2fsck", &journal, subject, CHECK_LIMIT)?;
            let sound = ended.code == Some(0) && is_clean_ext4(device)?;
            Ok(if sound { Fitness::Sound } else { Fitness::Damaged })
        }
        // It replays its log at the mount, and says at the mount when it cannot.
        Filesystem::Xfs => Ok(Fitness::Sound),
        // The same; a check of its own would read all metadata each time.
        Filesystem::Btrfs => btrfs::take_identity(device, volume).map(|()| Fitness::Sound),
    }
}

/// What its superblock says: unmounted cleanly (or replayed), and no error met since its last check.
fn is_clean_ext4(device: &Path) -> Result<bool, CoreError> {
    // In the superblock, which begins at byte 1024: magic number and state, two bytes each.
    let mut bytes = [0; 4];
    File::open(device)
        .and_then(|file| file.read_exact_at(&mut bytes, 1024 + 56))
        .map_err(CoreError::system("reading the superblock of", device))?;
    let [magic_low, magic_high, state, _] = bytes;
    let (clean, error) = (state & 1 != 0, state & 2 != 0);
    Ok([magic_low, magic_high] == [0x53, 0xef] && clean && !error)
}

/// Repairs a damaged filesystem on `device`, which must not be mounted, as far as that loses nothing by itself; what the
/// program said. The caller has a snapshot.
pub(crate) fn repair(device: &Path, filesystem: Filesystem, subject: &str) -> Result<String, CoreError> {
    let failed = |said: String| Err(CoreError::Filesystem { subject: subject.to_owned(), report: said });
    match filesystem {
        Filesystem::Ext4 => {
            let ended = tool::run("e2fsck", &["-f", "-p", utf8(device)?], subject, CHECK_LIMIT)?;
            // 1: errors were corrected. 2: the same, and it was mounted somewhere (it is not).
            if matches!(ended.code, Some(0..=2)) { Ok(ended.said) } else { failed(ended.said) }
        }
        // Without -L, which would throw away a log that cannot be replayed: that is for a person to decide.
        Filesystem::Xfs => {
            let ended = tool::run("xfs_repair", &[utf8(device)?], subject, CHECK_LIMIT)?;
            if ended.code == Some(0) { Ok("xfs_repair succeeded".to_owned()) } else { failed(ended.said) }
        }
        // `btrfs check --repair` can make things worse, as its own manual says.
        Filesystem::Btrfs => failed(
            diagnosis(device, filesystem, subject).unwrap_or_else(|| "it cannot be mounted".to_owned()),
        ),
    }
}

/// What is wrong with a filesystem that could not be mounted, as far as its own program says it without changing it.
pub(crate) fn diagnosis(device: &Path, filesystem: Filesystem, subject: &str) -> Option<String> {
    let device = device.to_str()?;
    let ended = match filesystem {
        Filesystem::Ext4 => return None,
        Filesystem::Xfs => tool::run("xfs_repair", &["-n", device], subject, CHECK_LIMIT),
        Filesystem::Btrfs => tool::run("btrfs", &["check", "--readonly", device], subject, CHECK_LIMIT),
    };
    ended.ok().filter(|ended| ended.code != Some(0)).map(|ended| ended.said)
}

/// Whether a complete check of an ext4 that is not mounted finds nothing to change.
pub(crate) fn is_whole(device: &Path, subject: &str) -> Result<bool, CoreError> {
    Ok(tool::run("e2fsck", &["-f", "-n", utf8(device)?], subject, CHECK_LIMIT)?.code == Some(0))
}

/// Lets an ext4 that is not mounted take all of its device. The others grow only while they are mounted.
pub(crate) fn grow_unmounted(device: &Path, filesystem: Filesystem, subject: &str) -> Result<(), CoreError> {
    if filesystem != Filesystem::Ext4 {
        return Ok(());
    }
    let path = utf8(device)?;
    // resize2fs refuses a filesystem that was not checked in full since its last mount, and -n does not count.
    let ended = tool::run("e2fsck", &["-f", "-p", path], subject, CHECK_LIMIT)?;
    if !matches!(ended.code, Some(0..=2)) {
        return Err(CoreError::Filesystem { subject: subject.to_owned(), report: ended.said });
    }
    tool::run_well("resize2fs", &[path], subject, CHECK_LIMIT)
}

/// Lets a mounted filesystem take all of its device.
pub(crate) fn grow_mounted(
    device: &Path,
    mounted_at: &Path,
    filesystem: Filesystem,
    subject: &str,
) -> Result<(), CoreError> {
    match filesystem {
        Filesystem::Xfs => tool::run_well("xfs_growfs", &["-d", utf8(mounted_at)?], subject, CHECK_LIMIT),
        Filesystem::Btrfs => {
            tool::run_well("btrfs", &["filesystem", "resize", "max", utf8(mounted_at)?], subject, CHECK_LIMIT)
        }
        Filesystem::Ext4 => {
            let ended = tool::run("resize2fs", &[utf8(device)?], subject, CHECK_LIMIT)?;
            if ended.code == Some(0) {
                return Ok(());
            }
            let may = rustix::thread::capabilities(None)
                .is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::SYS_RESOURCE));
            if may {
                let (program, subject) = ("resize2fs".to_owned(), subject.to_owned());
                return Err(CoreError::Program { program, subject, report: ended.said });
            }
            let report = format!(
                "the kernel wants CAP_SYS_RESOURCE for that, which the driver does not have ({})",
                ended.said
            );
            Err(CoreError::OnlineGrow { subject: subject.to_owned(), report })
        }
    }
}

fn utf8(path: &Path) -> Result<&str, CoreError> {
    path.to_str().ok_or_else(|| CoreError::Refused {
        subject: path.display().to_string(),
        reason: "a path that is given to a program must be UTF-8".to_owned(),
    })
}

#[cfg(test)]
mod tests;
