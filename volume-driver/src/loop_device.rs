//! Loop devices: an image file as a block device.
//!
//! * Sectors of 4096 bytes and direct I/O, always: with smaller sectors an image cannot be attached with direct
//!   I/O any more once it was cloned, and without direct I/O its data lies twice in memory and is not durable
//!   after a flush.
//! * Never two devices on one image: the kernel allows it, and it destroys the filesystem. Attaching first looks
//!   through all loop devices for the same file (filesystem and inode, not name), under a lock on the image.
//! * Detaching is proved, not believed: the kernel answers success for a device that is in use, and only marks
//!   it. What /sys says afterwards counts.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, FlockOperation, Mode};
use rustix::io::Errno;

use crate::core_error::CoreError;
use crate::mount_table::MountTable;
use crate::{crash, holders, sys};

const LOOP_MAJOR: u32 = 7;
const SECTOR_BYTES: u32 = 4096;

/// How often another process may snatch the free device before we give up.
const ATTACH_ATTEMPTS: u32 = 64;

/// How long a detached device may take to let go: probes of other programs hold it for moments.
const DETACH_PATIENCE: Duration = Duration::from_secs(3);

/// A loop device by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LoopDevice {
    number: u32,
}

/// An image file by what the kernel knows it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ImageIdentity {
    device: u64,
    inode: u64,
}

impl ImageIdentity {
    pub(crate) fn of(path: &Path) -> Result<Self, CoreError> {
        path.metadata()
            .map(|meta| Self { device: meta.dev(), inode: meta.ino() })
            .map_err(CoreError::system("looking at", path))
    }
}

impl LoopDevice {
    /// Its node.
    pub(crate) fn path(self) -> PathBuf {
        PathBuf::from(format!("/dev/loop{}", self.number))
    }

    /// Its device number, as mountinfo writes it.
    pub(crate) const fn device(self) -> (u32, u32) {
        (LOOP_MAJOR, self.number)
    }

    fn sys(self) -> PathBuf {
        PathBuf::from(format!("/sys/block/loop{}", self.number))
    }

    /// Whether it is bound to anything at all.
    fn is_bound(self) -> bool {
        self.sys().join("loop/backing_file").exists()
    }

    /// What /sys calls its image; a name, not an identity.
    fn backing_file(self) -> Option<PathBuf> {
        let text = fs::read_to_string(self.sys().join("loop/backing_file")).ok()?;
        Some(PathBuf::from(text.trim_end_matches('\n')))
    }

    /// Whether it passes by the page cache.
    pub(crate) fn is_direct(self) -> bool {
        fs::read_to_string(self.sys().join("loop/dio")).is_ok_and(|text| text.trim() == "1")
    }

    fn open(self) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.path())
    }

    /// Opens the device only if it is bound to `image`. While the file is open it stays bound.
    fn open_bound_to(self, image: ImageIdentity) -> Option<File> {
        let device = OpenOptions::new().read(true).open(self.path()).ok()?;
        let info = sys::loop_info(&device).ok()?;
        // `lo_device` is a dev_t in the kernel's own wide encoding, as stat(2) gives it.
        (info.device == image.device && info.inode == image.inode).then_some(device)
    }
}

/// All loop devices that are bound to something.
fn bound() -> Vec<LoopDevice> {
    let names = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let mut devices: Vec<LoopDevice> = names
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("loop")?.parse().ok())
        .map(|number| LoopDevice { number })
        .filter(|device| device.is_bound())
        .collect();
    devices.sort_unstable();
    devices
}

/// The device that `image` is attached to, if any.
///
/// Those whose file /sys calls by the same name are looked at first: opening others disturbs those who detach
/// them now. But a file can be attached by another name, so the others count too.
pub(crate) fn find(image: &Path) -> Result<Option<LoopDevice>, CoreError> {
    let identity = ImageIdentity::of(image)?;
    let same_name = |device: &LoopDevice| {
        device
            .backing_file()
            .is_some_and(|path| path.file_name().is_some() && path.file_name() == image.file_name())
    };
    let (likely, others): (Vec<_>, Vec<_>) = bound().into_iter().partition(same_name);
    Ok(likely.into_iter().chain(others).find(|device| device.open_bound_to(identity).is_some()))
}

/// What the kernel puts behind the name of an image that was deleted.
const DELETED: &str = " (deleted)";

/// The name that an image had, if it was deleted.
pub(crate) fn without_deleted_mark(path: &Path) -> &Path {
    path.to_str().and_then(|text| text.strip_suffix(DELETED)).map_or(path, Path::new)
}

/// The device that still holds the content of an image whose name is gone. Names of images are never used twice, so the
/// name that /sys remembers is enough.
pub(crate) fn of_deleted(image: &Path) -> Option<LoopDevice> {
    let deleted = |path: PathBuf| path != without_deleted_mark(&path) && without_deleted_mark(&path) == image;
    bound().into_iter().find(|device| device.backing_file().is_some_and(deleted))
}

/// Loop devices whose image lies below `folder`, by what /sys calls it: for reports only.
pub(crate) fn below(folder: &Path) -> Vec<(LoopDevice, PathBuf)> {
    bound()
        .into_iter()
        .filter_map(|device| Some((device, device.backing_file()?)))
        .filter(|(_, path)| path.starts_with(folder))
        .collect()
}

/// Attaches `image`, or finds where it is attached already.
pub(crate) fn attach(image: &Path) -> Result<LoopDevice, CoreError> {
    // Its own open file, so that the lock ends with this function and not with the loop device.
    let lock = File::open(image).map_err(CoreError::system("opening", image))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(CoreError::errno("locking", image))?;
    let identity = ImageIdentity::of(image)?;
    let file =
        OpenOptions::new().read(true).write(true).open(image).map_err(CoreError::system("opening", image))?;

    for device in bound() {
        if let Some(open) = device.open_bound_to(identity) {
            return keep(device, &open).map(|()| device);
        }
    }
    let control = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/loop-control")
        .map_err(CoreError::system("opening", "/dev/loop-control"))?;
    for attempt in 0..ATTACH_ATTEMPTS {
        let number = sys::free_loop(&control)
            .map_err(CoreError::system("asking for a free loop device of", "/dev/loop-control"))?;
        let device = LoopDevice { number };
        let node = open_or_make(device)?;
        match sys::configure_loop(&node, &file, SECTOR_BYTES, sys::LO_FLAGS_DIRECT_IO) {
            Ok(()) => {
                // The kernel keeps this mark of an earlier use of the number.
                sys::set_readonly(&node, false)
                    .map_err(CoreError::system("opening for writing", device.path()))?;
                crash::point!("attach.bound");
                if !device.is_direct() {
                    tracing::warn!(device = %device.path().display(), "direct I/O was not granted");
                }
                return Ok(device);
            }
            // Another process was quicker with this number.
            Err(cause) if cause.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
                thread::sleep(Duration::from_millis(u64::from(attempt)));
            }
            Err(cause) => {
                return Err(CoreError::System {
                    action: "attaching a loop device to",
                    path: image.to_owned(),
                    cause,
                });
            }
        }
    }
    Err(CoreError::Busy { subject: "all loop devices of this machine".to_owned() })
}

/// Takes back the mark that lets a device free itself, which a detach under use leaves.
fn keep(device: LoopDevice, open: &File) -> Result<(), CoreError> {
    let mut info = sys::loop_info(open).map_err(CoreError::system("asking", device.path()))?;
    if info.flags & sys::LO_FLAGS_AUTOCLEAR != 0 {
        info.flags &= !sys::LO_FLAGS_AUTOCLEAR;
        let node = device.open().map_err(CoreError::system("opening", device.path()))?;
        sys::set_loop_info(&node, info).map_err(CoreError::system("keeping", device.path()))?;
    }
    Ok(())
}

/// Where no device manager runs, the node of a new number has to be made by us.
fn open_or_make(device: LoopDevice) -> Result<File, CoreError> {
    let path = device.path();
    match device.open() {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            let number = rustix::fs::makedev(LOOP_MAJOR, device.number);
            match rustix::fs::mknodat(
                rustix::fs::CWD,
                &path,
                FileType::BlockDevice,
                Mode::from_raw_mode(0o600),
                number,
            ) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(CoreError::System { action: "making", path, cause: errno.into() }),
            }
            device.open().map_err(CoreError::system("opening", path))
        }
        opened => opened.map_err(CoreError::system("opening", path)),
    }
}

/// Lets the device that `image` is attached to go, and proves it. Not attached: fine.
///
/// InUse: something still holds it. It then stays attached, and the kernel frees it when that ends.
pub(crate) fn detach(image: &Path, subject: &str) -> Result<(), CoreError> {
    let identity = ImageIdentity::of(image)?;
    let Some(device) = find(image)? else { return Ok(()) };
    let_go(device, subject, || device.open_bound_to(identity))
}

/// As [`detach`], for the device that holds a deleted image: after it nothing of the content is left.
pub(crate) fn detach_deleted(image: &Path, subject: &str) -> Result<(), CoreError> {
    let Some(device) = of_deleted(image) else { return Ok(()) };
    let_go(device, subject, || {
        let open = File::open(device.path()).ok()?;
        (of_deleted(image) == Some(device)).then_some(open)
    })
}

/// `still_bound` opens the device if it still holds the image that shall be let go.
fn let_go(
    device: LoopDevice,
    subject: &str,
    still_bound: impl Fn() -> Option<File>,
) -> Result<(), CoreError> {
    let started = Instant::now();
    loop {
        if let Some(mount) = MountTable::read()?.of_device(device.device()).next() {
            let holder = format!("it is mounted at {}", mount.path.display());
            return Err(CoreError::InUse { subject: subject.to_owned(), holder });
        }
        // Opened for this check and call only: a descriptor of ours would itself keep it from being freed.
        if let Some(node) = still_bound()
            && let Err(cause) = sys::clear_loop(&node)
            && cause.raw_os_error() != Some(Errno::NXIO.raw_os_error())
            && cause.raw_os_error() != Some(Errno::BUSY.raw_os_error())
        {
            return Err(CoreError::System { action: "detaching", path: device.path(), cause });
        }
        if !device.is_bound() || still_bound().is_none() {
            crash::point!("detach.freed");
            return Ok(());
        }
        if started.elapsed() > DETACH_PATIENCE {
            let holder = holders::describe(&device.path(), device.device(), &[]);
            return Err(CoreError::InUse { subject: subject.to_owned(), holder });
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Lets the device see that its image has grown.
pub(crate) fn refresh_size(device: LoopDevice) -> Result<(), CoreError> {
    let node = device.open().map_err(CoreError::system("opening", device.path()))?;
    sys::refresh_loop_size(&node).map_err(CoreError::system("growing", device.path()))
}
