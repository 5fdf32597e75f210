//! Places on this node that come from outside: where volumes are staged, published and mounted.
//!
//! A path from outside is only text. Between looking at it and using it, whoever may write below it can put a symbolic
//! link into it and so move a mount, or a file, to where it does not belong. So a path is resolved **once**, by the
//! kernel, below one of the allowed roots and without any symbolic link ([`openat2(2)`] with `RESOLVE_BENEATH`); what
//! comes out is a [`Place`]: the open folder, and a name in it. From then on everything goes by that descriptor:
//!
//! * folders and files are made and removed in the open folder (`mkdirat`, `openat`, `unlinkat`), never through a link;
//! * mounts go through `/proc/self/fd/N` of what was opened there;
//! * unmounting names the open folder and does not follow the last part. It cannot go through an open descriptor of
//!   the mount itself: that would keep it busy.
//!
//! A person at the control socket is the machine's root and may name any folder; then links in the folders before are
//! followed, once, and the last part never is.
//!
//! [`openat2(2)`]: https://man7.org/linux/man-pages/man2/openat2.2.html

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use crate::core_error::CoreError;

/// How often the kernel may ask to try again, since something was renamed meanwhile.
const ATTEMPTS: usize = 16;

/// Below which folders an orchestrator may have volumes mounted.
#[derive(Debug, Clone)]
pub(crate) struct MountRoots(Vec<PathBuf>);

/// A name in an open folder: there or not there yet.
#[derive(Debug)]
pub(crate) struct Place {
    folder: OwnedFd,
    name: OsString,
    path: PathBuf,
}

fn refused(path: &Path, reason: impl Into<String>) -> CoreError {
    CoreError::Refused { subject: format!("the path {}", path.display()), reason: reason.into() }
}

/// Absolute, one spelling, nothing that could break a line of a log.
fn checked(path: &Path) -> Result<(), CoreError> {
    if !path.is_absolute() {
        return Err(refused(path, "it must be absolute"));
    }
    if path.as_os_str().as_bytes().iter().any(u8::is_ascii_control) {
        let path = PathBuf::from(format!("{:?}", path.as_os_str()));
        return Err(refused(&path, "it has a control character"));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(refused(path, "it goes up with `..`"));
    }
    Ok(())
}

/// The way to what a descriptor has open, for calls that only take paths.
pub(crate) fn through(open: &impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", open.as_fd().as_raw_fd()))
}

/// What the kernel calls an open folder now.
fn real_path(open: &OwnedFd) -> Result<PathBuf, CoreError> {
    let link = through(open);
    fs::read_link(&link).map_err(CoreError::system("reading", link))
}

fn open_folder(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Opens `path` below `folder`, as it is: no link is followed, none is opened.
fn open_beneath(folder: &OwnedFd, path: &Path, more: OFlags) -> Result<OwnedFd, Errno> {
    // Not NOFOLLOW: with it a link as the last part would itself be opened.
    let flags = OFlags::PATH | OFlags::CLOEXEC | more;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let mut attempt = 0;
    loop {
        match rustix::fs::openat2(folder, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) if attempt < ATTEMPTS => attempt += 1,
            opened => return opened,
        }
    }
}

/// Why a path could not be walked, in words.
fn walk_error(path: &Path, errno: Errno) -> CoreError {
    match errno {
        Errno::LOOP => refused(path, "a symbolic link is in it"),
        Errno::XDEV => refused(path, "it leads out of the folder where it has to be"),
        Errno::NOTDIR => refused(path, "something in it is not a folder"),
        Errno::NAMETOOLONG => refused(path, "a part of it is too long"),
        errno => CoreError::System { action: "opening", path: path.to_owned(), cause: errno.into() },
    }
}

impl MountRoots {
    pub(crate) fn new(roots: Vec<PathBuf>) -> Self {
        Self(roots)
    }

    /// The place that `path` names, whose folder must exist.
    pub(crate) fn place(&self, path: &Path) -> Result<Place, CoreError> {
        self.find(path)?.ok_or_else(|| refused(path, "the folder that it lies in does not exist"))
    }

    /// The place that `path` names; `None`: its folder does not exist, so nothing can be there.
    pub(crate) fn find(&self, path: &Path) -> Result<Option<Place>, CoreError> {
        checked(path)?;
        let below = |root: &Path| {
            let rest = path.strip_prefix(root).ok()?;
            (rest.components().next().is_some()).then(|| (root.to_owned(), rest.to_owned()))
        };
        // An orchestrator may know a root by its own name or by where that leads; both are the operator's choice.
        let found =
            self.0.iter().filter_map(|root| below(root).or_else(|| below(&fs::canonicalize(root).ok()?)));
        let Some((root, rest)) = found.max_by_key(|(root, _)| root.as_os_str().len()) else {
            let roots: Vec<String> = self.0.iter().map(|root| root.display().to_string()).collect();
            return Err(refused(
                path,
                format!(
                    "it does not lie below a folder where this driver may mount ({}); --mount-root adds one",
                    roots.join(", ")
                ),
            ));
        };
        match open_folder(&root) {
            Ok(root) => Place::beneath(&root, &rest, path),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(walk_error(&root, errno)),
        }
    }
}

impl Place {
    fn beneath(root: &OwnedFd, rest: &Path, path: &Path) -> Result<Option<Self>, CoreError> {
        let name = rest.file_name().ok_or_else(|| refused(path, "it must name a folder or file"))?;
        let folder = match rest.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            None => rustix::io::fcntl_dupfd_cloexec(root, 0),
            Some(parent) => open_beneath(root, parent, OFlags::DIRECTORY),
        };
        match folder {
            Ok(folder) => Self::in_folder(folder, name).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(walk_error(path, errno)),
        }
    }

    /// A link as the last part is refused at once, for the message; that none is followed later does not rest on it.
    fn in_folder(folder: OwnedFd, name: &OsStr) -> Result<Self, CoreError> {
        let path = real_path(&folder)?.join(name);
        let place = Self { folder, name: name.to_owned(), path };
        match place.stat() {
            Ok(Some(stat)) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
                Err(walk_error(&place.path, Errno::LOOP))
            }
            // A part that is too long, or a mount that does not answer any more: whoever uses the place will say.
            _ => Ok(place),
        }
    }

    /// A place that this driver wrote down itself: anywhere on the machine, still without symbolic links. `None`: its
    /// folder does not exist any more.
    pub(crate) fn recorded(path: &Path) -> Result<Option<Self>, CoreError> {
        checked(path)?;
        let root = open_folder(Path::new("/")).map_err(|errno| walk_error(path, errno))?;
        let rest = path.strip_prefix("/").unwrap_or(path);
        Self::beneath(&root, rest, path)
    }

    /// A place that the machine's root names: links are followed in the folders before it, not in its last part.
    /// `None`: its folder does not exist.
    pub(crate) fn by_hand(path: &Path) -> Result<Option<Self>, CoreError> {
        checked(path)?;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(refused(path, "it is the root folder"));
        };
        match open_folder(parent) {
            Ok(folder) => Self::in_folder(folder, name).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(walk_error(path, errno)),
        }
    }

    /// Where it is, as mountinfo writes it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The way to it for calls that do not follow the last part.
    fn at(&self) -> PathBuf {
        through(&self.folder).join(&self.name)
    }

    /// What lies there, links as links. When something is mounted there, that.
    fn stat(&self) -> Result<Option<Stat>, CoreError> {
        match rustix::fs::statat(&self.folder, self.name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(CoreError::errno("looking at", &self.path)(errno)),
        }
    }

    /// Opens what lies there, or is mounted there; `None`: nothing. A symbolic link is refused.
    pub(crate) fn open(&self) -> Result<Option<OwnedFd>, CoreError> {
        match open_beneath(&self.folder, Path::new(&self.name), OFlags::empty()) {
            Ok(open) => Ok(Some(open)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(walk_error(&self.path, errno)),
        }
    }

    /// Opens the folder there, making it when there is none.
    pub(crate) fn make_folder(&self) -> Result<OwnedFd, CoreError> {
        match rustix::fs::mkdirat(&self.folder, self.name.as_os_str(), Mode::from_raw_mode(0o750)) {
            Ok(()) | Err(Errno::EXIST) => self.open_as(FileType::Directory, "it is not a folder"),
            Err(errno) => Err(CoreError::errno("making the folder", &self.path)(errno)),
        }
    }

    /// Opens the folder there, which must exist.
    pub(crate) fn folder(&self) -> Result<OwnedFd, CoreError> {
        self.open_as(FileType::Directory, "it is not a folder")
    }

    /// Opens the file there, making an empty one when there is none.
    pub(crate) fn make_file(&self) -> Result<OwnedFd, CoreError> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.folder, self.name.as_os_str(), flags, Mode::from_raw_mode(0o640)) {
            Ok(_) | Err(Errno::EXIST) => {
                self.open_as(FileType::RegularFile, "it is there and is not an ordinary file")
            }
            Err(errno) => Err(CoreError::errno("making the file", &self.path)(errno)),
        }
    }

    fn open_as(&self, kind: FileType, otherwise: &str) -> Result<OwnedFd, CoreError> {
        let open = self.open()?.ok_or_else(|| CoreError::NotFound {
            subject: format!("file or folder {}", self.path.display()),
        })?;
        let stat = rustix::fs::fstat(&open).map_err(CoreError::errno("looking at", &self.path))?;
        if FileType::from_raw_mode(stat.st_mode) != kind {
            return Err(refused(&self.path, otherwise));
        }
        Ok(open)
    }

    /// Takes away what is mounted there; in the way of mount(8), not lazily.
    pub(crate) fn unmount(&self) -> Result<(), Errno> {
        rustix::mount::unmount(self.at(), UnmountFlags::NOFOLLOW)
    }

    /// Removes an empty folder or an empty file, and nothing else. Nothing there: fine.
    pub(crate) fn remove(&self) -> Result<(), CoreError> {
        let Some(stat) = self.stat()? else { return Ok(()) };
        let flags = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => AtFlags::REMOVEDIR,
            FileType::RegularFile if stat.st_size == 0 => AtFlags::empty(),
            _ => {
                return Err(refused(
                    &self.path,
                    "it is neither an empty folder nor an empty file, so it will not be removed",
                ));
            }
        };
        match rustix::fs::unlinkat(&self.folder, self.name.as_os_str(), flags) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::NOTEMPTY) => {
                Err(refused(&self.path, "the folder is not empty, so it will not be removed"))
            }
            Err(errno) => Err(CoreError::errno("removing", &self.path)(errno)),
        }
    }

    /// Removes an empty file and nothing else: a folder is never what was made for a device.
    pub(crate) fn remove_file(&self) -> Result<(), CoreError> {
        match self.stat()? {
            Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => self.remove(),
            _ => Ok(()),
        }
    }
}

/// The kernel's number of the mount that `open` lies on, as in mountinfo. Asked of /proc and not of the filesystem, which
/// may have stopped answering.
pub(crate) fn mount_id(open: &impl AsFd) -> Result<u64, CoreError> {
    let path = PathBuf::from(format!("/proc/self/fdinfo/{}", open.as_fd().as_raw_fd()));
    let text = fs::read_to_string(&path).map_err(CoreError::system("reading", &path))?;
    let id = text.lines().find_map(|line| line.strip_prefix("mnt_id:")).and_then(|id| id.trim().parse().ok());
    id.ok_or_else(|| CoreError::Bug { what: format!("{} names no mount", path.display()) })
}

#[cfg(test)]
mod tests;
