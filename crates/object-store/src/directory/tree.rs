//! The folder tree below the root: opening by steps, writing by rename, and what the system's errors mean.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use strongroom_repository::layout::ObjectName;
use strongroom_repository::store::{Deleted, ObjectInfo, StoreError};

/// Where files are written before they have their name.
const INCOMING: &str = ".incoming";
/// A file in there that nobody holds and nobody wrote to for so long was left by a process that died.
const STALE_SECONDS: i64 = 3600;

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::RDONLY);

/// What to do with a file that has the name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replace {
    Always,
    Never,
}

#[derive(Debug)]
pub(super) struct Tree {
    root: PathBuf,
    /// Kept open once it was found; opened again when somebody removed the folder.
    opened: Mutex<Option<Arc<OwnedFd>>>,
    /// Folders whose own entry is known to be durable.
    durable: Mutex<HashSet<String>>,
    swept: AtomicBool,
    next_temporary: AtomicU64,
}

/// A file without a name yet. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Temporary {
    pub(super) file: File,
    folder: OwnedFd,
    name: String,
    renamed: bool,
    broken: bool,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // What stays is swept by a later process.
            let _ = rustix::fs::unlinkat(&self.folder, &self.name, AtFlags::empty());
        }
    }
}

impl Tree {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            opened: Mutex::default(),
            durable: Mutex::default(),
            swept: AtomicBool::new(false),
            next_temporary: AtomicU64::new(0),
        }
    }

    pub(super) fn location(&self) -> String {
        location(&self.root)
    }

    pub(super) fn root(&self) -> Result<Arc<OwnedFd>, StoreError> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(root) = opened.as_ref()
            && rustix::fs::fstat(root).is_ok_and(|stat| stat.st_nlink > 0)
        {
            return Ok(Arc::clone(root));
        }
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let root = rustix::fs::open(&self.root, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOENT | Errno::NOTDIR => {
                StoreError::NoSuchPlace { location: self.location(), reason: errno.to_string() }
            }
            errno => self.errno("the folder", errno),
        })?;
        let root = Arc::new(root);
        *opened = Some(Arc::clone(&root));
        self.durable.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(root)
    }

    /// The folder that holds `name`, and the last step of the name.
    fn folder<'n>(&self, name: &'n ObjectName) -> Result<(OwnedFd, &'n str), StoreError> {
        let mut folder = self.root()?.try_clone().map_err(|error| self.failed(name, &error))?;
        let (folders, file) = name.as_str().rsplit_once('/').unwrap_or(("", name.as_str()));
        for step in folders.split('/').filter(|step| !step.is_empty()) {
            folder = match rustix::fs::openat(&folder, step, FOLDER, Mode::empty()) {
                Ok(inner) => inner,
                Err(Errno::NOENT) => return Err(StoreError::NotFound { name: name.as_str().to_owned() }),
                Err(errno) => return Err(self.errno(name.as_str(), errno)),
            };
        }
        Ok((folder, file))
    }

    /// The same, making what is missing durably.
    fn made_folder<'n>(&self, name: &'n ObjectName) -> Result<(OwnedFd, &'n str), StoreError> {
        let mut folder = self.root()?.try_clone().map_err(|error| self.failed(name, &error))?;
        let (folders, file) = name.as_str().rsplit_once('/').unwrap_or(("", name.as_str()));
        let mut path = String::new();
        for step in folders.split('/').filter(|step| !step.is_empty()) {
            path.push_str(step);
            path.push('/');
            folder = self.make_step(folder, step, &path).map_err(|errno| self.errno(name.as_str(), errno))?;
        }
        Ok((folder, file))
    }

    fn make_step(&self, folder: OwnedFd, step: &str, path: &str) -> Result<OwnedFd, Errno> {
        let mut made = false;
        let inner = loop {
            match rustix::fs::openat(&folder, step, FOLDER, Mode::empty()) {
                Ok(inner) => break inner,
                Err(Errno::NOENT) => match rustix::fs::mkdirat(&folder, step, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => made = true,
                    Err(errno) => return Err(errno),
                },
                Err(errno) => return Err(errno),
            }
        };
        // Somebody else may have made it a moment ago and died: once per folder and process we make sure.
        let known = self.durable.lock().unwrap_or_else(PoisonError::into_inner).contains(path);
        if made || !known {
            rustix::fs::fsync(&folder)?;
            self.durable.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
        }
        Ok(inner)
    }

    /// A new file that no one sees.
    pub(super) fn temporary(&self, name: &ObjectName) -> Result<Temporary, StoreError> {
        let make = || -> Result<Temporary, Errno> {
            let root = self.root().map_err(|_| Errno::NOENT)?;
            let root = rustix::io::fcntl_dupfd_cloexec(&*root, 0)?;
            let folder = self.make_step(root, INCOMING, INCOMING)?;
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            loop {
                let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
                let temporary = format!("{}-{number}", std::process::id());
                match rustix::fs::openat(&folder, &temporary, flags, Mode::RUSR | Mode::WUSR) {
                    Ok(file) => {
                        // Held as long as it is open, so that nobody takes it for a dead one's. Where locks are not
                        // to be had, its age alone protects it.
                        let _ = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
                        return Ok(Temporary {
                            file: file.into(),
                            folder,
                            name: temporary,
                            renamed: false,
                            broken: false,
                        });
                    }
                    Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno),
                }
            }
        };
        self.root()?;
        let temporary = make().map_err(|errno| self.errno(name.as_str(), errno))?;
        if !self.swept.swap(true, Ordering::Relaxed) {
            self.sweep(&temporary);
        }
        Ok(temporary)
    }

    /// Removes what dead processes left. `fresh` tells what time the filesystem thinks it is.
    fn sweep(&self, fresh: &Temporary) {
        let Ok(now) = rustix::fs::fstat(&fresh.file).map(|stat| stat.st_mtime) else { return };
        let Ok(entries) = rustix::fs::Dir::read_from(&fresh.folder) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let Ok(file) = rustix::fs::openat(&fresh.folder, name, flags, Mode::empty()) else { continue };
            let stale = rustix::fs::fstat(&file).is_ok_and(|stat| {
                rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file()
                    && stat.st_mtime < now - STALE_SECONDS
            });
            if stale && rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                tracing::info!(location = self.location(), ?name, "removing what a dead process left");
                let _ = rustix::fs::unlinkat(&fresh.folder, name, AtFlags::empty());
            }
        }
    }

    pub(super) fn write(&self, name: &ObjectName, body: &[u8], replace: Replace) -> Result<(), StoreError> {
        let mut temporary = self.temporary(name)?;
        temporary.file.write_all(body).map_err(|error| self.failed(name, &error))?;
        self.publish(&mut temporary, name, replace)
    }

    /// Makes the bytes durable, gives them their name, and makes that durable. May be called again after an error.
    pub(super) fn publish(
        &self,
        temporary: &mut Temporary,
        name: &ObjectName,
        replace: Replace,
    ) -> Result<(), StoreError> {
        let fail = |errno| self.errno(name.as_str(), errno);
        // A failed fsync is never tried again on the same file: the kernel may call the lost pages clean by then.
        if temporary.broken {
            return Err(self.damaged(name, "its bytes could not be made durable before".to_owned()));
        }
        rustix::fs::fsync(&temporary.file).map_err(|errno| {
            temporary.broken = true;
            fail(errno)
        })?;
        let (folder, file) = self.made_folder(name)?;
        if !temporary.renamed {
            match rename(temporary, &folder, file, replace) {
                Ok(()) => temporary.renamed = true,
                Err(Errno::EXIST) => {
                    // Who is told that a name is taken builds on it: so it must not vanish in a power cut.
                    rustix::fs::fsync(&folder).map_err(fail)?;
                    return Err(StoreError::Exists { name: name.as_str().to_owned() });
                }
                Err(errno) => return Err(fail(errno)),
            }
        }
        rustix::fs::fsync(&folder).map_err(fail)
    }

    /// The file and its size.
    pub(super) fn open(&self, name: &ObjectName) -> Result<(File, u64), StoreError> {
        let (folder, file) = self.folder(name)?;
        // NONBLOCK: a pipe that somebody put there must not hold us.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&folder, file, flags, Mode::empty())
            .map_err(|e| self.errno(name.as_str(), e))?;
        let stat = rustix::fs::fstat(&file).map_err(|errno| self.errno(name.as_str(), errno))?;
        if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() {
            return Err(self.rejected(name, "it is not a plain file".to_owned()));
        }
        Ok((file.into(), size(&stat)))
    }

    pub(super) fn info(&self, name: &ObjectName) -> Result<ObjectInfo, StoreError> {
        let (file, bytes) = self.open(name)?;
        let stat = rustix::fs::fstat(file.as_fd()).map_err(|errno| self.errno(name.as_str(), errno))?;
        Ok(ObjectInfo { bytes, last_modified: modified(&stat), store_time: None, locked_until: None })
    }

    pub(super) fn remove(&self, name: &ObjectName) -> Result<Deleted, StoreError> {
        let (folder, file) = match self.folder(name) {
            Ok(found) => found,
            Err(StoreError::NotFound { .. }) => return Ok(Deleted::Gone),
            Err(error) => return Err(error),
        };
        match rustix::fs::unlinkat(&folder, file, AtFlags::empty()) {
            Ok(()) => rustix::fs::fsync(&folder).map_err(|errno| self.errno(name.as_str(), errno))?,
            Err(Errno::NOENT) => {}
            // An immutable file (chattr +i) says so with EPERM, where a missing right says EACCES.
            Err(Errno::PERM) => return Ok(Deleted::Retained),
            Err(errno) => return Err(self.errno(name.as_str(), errno)),
        }
        Ok(Deleted::Gone)
    }

    pub(super) fn errno(&self, name: &str, errno: Errno) -> StoreError {
        let (location, name) = (self.location(), name.to_owned());
        let reason = io::Error::from(errno).to_string();
        match errno {
            Errno::NOENT => StoreError::NotFound { name },
            Errno::EXIST => StoreError::Exists { name },
            Errno::NOSPC | Errno::DQUOT | Errno::FBIG => StoreError::Full { location, reason },
            Errno::ACCESS | Errno::PERM | Errno::ROFS => StoreError::Refused { location, name, reason },
            Errno::LOOP | Errno::NOTDIR | Errno::MLINK => StoreError::Refused {
                location,
                name,
                reason: format!("a link or file stands in the way: {reason}"),
            },
            _ => StoreError::Unavailable { location, name, reason },
        }
    }

    pub(super) fn failed(&self, name: &ObjectName, error: &io::Error) -> StoreError {
        match error.raw_os_error() {
            Some(raw) => self.errno(name.as_str(), Errno::from_raw_os_error(raw)),
            None => StoreError::Unavailable {
                location: self.location(),
                name: name.as_str().to_owned(),
                reason: error.to_string(),
            },
        }
    }

    pub(super) fn rejected(&self, name: &ObjectName, reason: String) -> StoreError {
        StoreError::Rejected { location: self.location(), name: name.as_str().to_owned(), reason }
    }

    pub(super) fn damaged(&self, name: &ObjectName, reason: String) -> StoreError {
        StoreError::Damaged { location: self.location(), name: name.as_str().to_owned(), reason }
    }
}

/// Renames; of many who may not replace, one succeeds.
fn rename(temporary: &Temporary, folder: &OwnedFd, file: &str, replace: Replace) -> Result<(), Errno> {
    let from = (&temporary.folder, temporary.name.as_str());
    if replace == Replace::Always {
        return rustix::fs::renameat(from.0, from.1, folder, file);
    }
    match rustix::fs::renameat_with(from.0, from.1, folder, file, RenameFlags::NOREPLACE) {
        // Network filesystems do not know the flag. A hard link is as exclusive.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            rustix::fs::linkat(from.0, from.1, folder, file, AtFlags::empty())?;
            let _ = rustix::fs::unlinkat(from.0, from.1, AtFlags::empty());
            Ok(())
        }
        answer => answer,
    }
}

pub(super) fn make(root: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(|error| {
        let (location, reason) = (location(root), error.to_string());
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                StoreError::Full { location, reason }
            }
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound => {
                StoreError::NoSuchPlace { location, reason }
            }
            _ => StoreError::Refused { location, name: "the folder".to_owned(), reason },
        }
    })
}

fn location(root: &Path) -> String {
    if root.is_absolute() { format!("file://{}", root.display()) } else { root.display().to_string() }
}

pub(super) fn size(stat: &rustix::fs::Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

pub(super) fn modified(stat: &rustix::fs::Stat) -> Timestamp {
    let nanoseconds = i32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    // A time outside of jiff's ten thousand years is no time.
    Timestamp::new(stat.st_mtime, nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}
