//! Where copies go: folders opened one name at a time, drafts that get their name at the end.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::CopyOptions;
use crate::error::FilesError;
use crate::tree::{Attribute, Moment, Node};

/// What went wrong, and on which side.
#[derive(Debug)]
pub(super) enum Problem {
    /// In the image: the rest can go on.
    Read(FilesError),
    /// At the destination: nothing can go on.
    Write(FilesError),
}

impl From<FilesError> for Problem {
    fn from(cause: FilesError) -> Self {
        Self::Write(cause)
    }
}

/// An open directory of the destination, and its path for messages.
#[derive(Debug)]
pub(super) struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

/// A file that has no name yet that anyone would look for. It goes away unless it is finished.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    folder: &'a Folder,
    name: Vec<u8>,
    hidden: CString,
    file: File,
    at: u64,
    named: bool,
}

pub(super) fn os(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}

impl Folder {
    /// The directory that a person named: links on the way to it are theirs, and followed.
    pub(super) fn open(path: &Path) -> Result<Self, FilesError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOTDIR | Errno::NOENT => FilesError::NoPlace { path: path.to_owned() },
            errno => FilesError::Write { path: path.to_owned(), cause: errno.into() },
        })?;
        Ok(Self { fd, path: path.to_owned() })
    }

    fn failed(&self, name: &[u8], cause: impl Into<io::Error>) -> FilesError {
        FilesError::Write { path: self.path.join(os(name)), cause: cause.into() }
    }

    fn exists(&self, name: &[u8]) -> FilesError {
        FilesError::Exists { path: self.path.join(os(name)) }
    }

    /// Makes a directory, or opens the one that is there. Whether it is new.
    pub(super) fn enter(&self, name: &[u8], force: bool) -> Result<(Self, bool), FilesError> {
        let is_new = match fs::mkdirat(&self.fd, os(name), Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) if force => false,
            Err(Errno::EXIST) => return Err(self.exists(name)),
            Err(errno) => return Err(self.failed(name, errno)),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(&self.fd, os(name), flags, Mode::empty()).map_err(|errno| match errno {
            // A file or a link has the name of a directory.
            Errno::NOTDIR | Errno::LOOP => self.exists(name),
            errno => self.failed(name, errno),
        })?;
        Ok((Self { fd, path: self.path.join(os(name)) }, is_new))
    }

    /// Looks before much is fetched; the rename at the end looks again.
    pub(super) fn refuse_existing(&self, name: &[u8], force: bool) -> Result<(), FilesError> {
        match fs::statat(&self.fd, os(name), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.failed(name, errno)),
            Ok(stat) if force && fs::FileType::from_raw_mode(stat.st_mode) != fs::FileType::Directory => {
                Ok(())
            }
            Ok(_) => Err(self.exists(name)),
        }
    }

    pub(super) fn draft(&self, name: &[u8]) -> Result<Draft<'_>, FilesError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..16 {
            let hidden = hidden_name();
            match fs::openat(&self.fd, &hidden, flags, Mode::RUSR | Mode::WUSR) {
                Ok(fd) => {
                    let file = File::from(fd);
                    return Ok(Draft {
                        folder: self,
                        name: name.to_vec(),
                        hidden,
                        file,
                        at: 0,
                        named: false,
                    });
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(self.failed(name, errno)),
            }
        }
        Err(self.failed(name, Errno::EXIST))
    }

    /// Gives `hidden` its name.
    fn publish(&self, hidden: &CString, name: &[u8], force: bool) -> Result<(), FilesError> {
        let flags = if force { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        match fs::renameat_with(&self.fd, hidden, &self.fd, os(name), flags) {
            // Not every filesystem can refuse by itself; then a second name is made, which never replaces.
            Err(Errno::INVAL) if !force => {
                match fs::linkat(&self.fd, hidden, &self.fd, os(name), AtFlags::empty()) {
                    Err(Errno::EXIST) => Err(self.exists(name)),
                    Err(errno) => Err(self.failed(name, errno)),
                    Ok(()) => fs::unlinkat(&self.fd, hidden, AtFlags::empty())
                        .map_err(|errno| self.failed(name, errno)),
                }
            }
            Err(Errno::EXIST | Errno::ISDIR | Errno::NOTEMPTY) => Err(self.exists(name)),
            Err(errno) => Err(self.failed(name, errno)),
            Ok(()) => Ok(()),
        }
    }

    /// A further name of a copy that is there already. False where that cannot be: then a copy of its own is made.
    pub(super) fn link(
        &self,
        base: &Self,
        first: &Path,
        name: &[u8],
        force: bool,
    ) -> Result<bool, FilesError> {
        self.refuse_existing(name, force)?;
        let hidden = hidden_name();
        if fs::linkat(&base.fd, first, &self.fd, &hidden, AtFlags::empty()).is_err() {
            return Ok(false);
        }
        // Renaming one name of a file over another name of it does nothing, and leaves both.
        let published = self.publish(&hidden, name, force);
        let _ = fs::unlinkat(&self.fd, &hidden, AtFlags::empty());
        published.map(|()| true)
    }

    pub(super) fn symlink(
        &self,
        name: &[u8],
        target: &[u8],
        node: &Node,
        options: CopyOptions,
    ) -> Result<(), FilesError> {
        self.refuse_existing(name, options.force)?;
        let hidden = hidden_name();
        fs::symlinkat(os(target), &self.fd, &hidden).map_err(|errno| self.failed(name, errno))?;
        if options.as_root {
            let (uid, gid) = owner(node);
            let _ = fs::chownat(&self.fd, &hidden, uid, gid, AtFlags::SYMLINK_NOFOLLOW);
        }
        let _ = fs::utimensat(&self.fd, &hidden, &times(node), AtFlags::SYMLINK_NOFOLLOW);
        self.publish(&hidden, name, options.force).inspect_err(|_| {
            let _ = fs::unlinkat(&self.fd, &hidden, AtFlags::empty());
        })
    }

    /// Owner, rights and times of the directory itself. Whether all of it could be set.
    pub(super) fn finish_self(
        &self,
        node: &Node,
        attributes: &[Attribute],
        as_root: bool,
    ) -> Result<bool, FilesError> {
        dress(&self.fd, node, attributes, as_root)
            .map_err(|cause| FilesError::Write { path: self.path.clone(), cause })
    }
}

impl Draft<'_> {
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), FilesError> {
        self.file.write_all(bytes).map_err(|cause| self.folder.failed(&self.name, cause))?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Leaves a hole.
    pub(super) fn skip(&mut self, bytes: u64) -> Result<(), FilesError> {
        self.at = self.at.saturating_add(bytes);
        self.file
            .seek(SeekFrom::Start(self.at))
            .map(drop)
            .map_err(|cause| self.folder.failed(&self.name, cause))
    }

    /// Gives the file its size, owner, rights, times and, last, its name. Whether all attributes could be set.
    pub(super) fn finish(
        mut self,
        node: &Node,
        attributes: &[Attribute],
        options: CopyOptions,
    ) -> Result<bool, FilesError> {
        let failed = |cause| self.folder.failed(&self.name, cause);
        self.file.set_len(self.at).map_err(failed)?;
        let complete = dress(&self.file, node, attributes, options.as_root).map_err(failed)?;
        self.folder.publish(&self.hidden, &self.name, options.force)?;
        self.named = true;
        Ok(complete)
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if !self.named {
            let _ = fs::unlinkat(&self.folder.fd, &self.hidden, AtFlags::empty());
        }
    }
}

/// A name that nobody else uses: random, by the same hand that makes temporary files.
fn hidden_name() -> CString {
    use std::hash::{BuildHasher as _, RandomState};
    let word = RandomState::new().hash_one(std::process::id());
    CString::new(format!(".strongroom-{word:016x}.part")).expect("it holds no NUL")
}

/// Owner before rights: changing an owner takes set-uid away. Times last: everything else changes them.
fn dress(
    fd: impl std::os::fd::AsFd,
    node: &Node,
    attributes: &[Attribute],
    as_root: bool,
) -> io::Result<bool> {
    let fd = fd.as_fd();
    let mut complete = true;
    let mut mode = node.mode;
    if as_root {
        let (uid, gid) = owner(node);
        complete &= fs::fchown(fd, uid, gid).is_ok();
    }
    if !as_root || !complete {
        // A program that ran as its owner must not run as whoever copied it.
        mode &= 0o1777;
    }
    for (name, value) in attributes {
        if !as_root && !name.starts_with(b"user.") {
            complete = false;
            continue;
        }
        let set = CString::new(name.clone())
            .map_err(|_| Errno::INVAL)
            .and_then(|name| fs::fsetxattr(fd, &*name, value, XattrFlags::empty()));
        complete &= set.is_ok();
    }
    fs::fchmod(fd, Mode::from_raw_mode(mode.into()))?;
    fs::futimens(fd, &times(node))?;
    Ok(complete)
}

fn owner(node: &Node) -> (Option<Uid>, Option<Gid>) {
    // The highest number means "leave it" to the kernel.
    let uid = (node.uid != u32::MAX).then(|| Uid::from_raw(node.uid));
    (uid, (node.gid != u32::MAX).then(|| Gid::from_raw(node.gid)))
}

fn times(node: &Node) -> Timestamps {
    let time = |moment: Moment| Timespec { tv_sec: moment.seconds, tv_nsec: moment.nanos.into() };
    Timestamps { last_access: time(node.accessed), last_modification: time(node.modified) }
}
