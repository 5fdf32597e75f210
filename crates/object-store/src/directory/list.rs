//! Names in order, page by page, without reading folders that cannot hold any.

use std::ffi::CStr;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use strongroom_repository::store::{ListPage, Listed, StoreError};

use super::tree::{Tree, modified, size};

pub(super) fn page(
    tree: &Tree,
    prefix: &str,
    after: Option<&str>,
    names: usize,
) -> Result<ListPage, StoreError> {
    let root = tree.root()?;
    let mut walk = Walk { prefix, after: after.unwrap_or(""), most: names + 1, found: Vec::new() };
    walk.folder(root.as_fd(), "").map_err(|errno| tree.errno(prefix, errno))?;
    let more = walk.found.len() > names;
    walk.found.truncate(names);
    Ok(ListPage { objects: walk.found, more })
}

struct Walk<'a> {
    prefix: &'a str,
    after: &'a str,
    most: usize,
    found: Vec<Listed>,
}

impl Walk<'_> {
    /// Takes the objects of one folder and those below it, in order of their whole names.
    fn folder(&mut self, folder: std::os::fd::BorrowedFd<'_>, path: &str) -> Result<(), Errno> {
        // A folder stands in the order with its slash: `a-b` comes before `a/b`.
        let mut steps = Vec::new();
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            if let Some(step) = step(folder, entry.file_name(), entry.file_type())
                && self.wants(&format!("{path}{step}"))
            {
                steps.push(step);
            }
        }
        steps.sort_unstable();
        for step in steps {
            if self.found.len() >= self.most {
                return Ok(());
            }
            let name = format!("{path}{step}");
            if let Some(below) = step.strip_suffix('/') {
                let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
                match rustix::fs::openat(folder, below, flags, Mode::empty()) {
                    Ok(inner) => self.folder(inner.as_fd(), &name)?,
                    // Removed, or swapped for something else, since the folder was read.
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                    Err(errno) => return Err(errno),
                }
            } else {
                match rustix::fs::statat(folder, &step, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => {
                        self.found.push(Listed { name, bytes: size(&stat), last_modified: modified(&stat) });
                    }
                    Err(Errno::NOENT) => {}
                    Err(errno) => return Err(errno),
                }
            }
        }
        Ok(())
    }

    /// Whether the name, or something below it if it ends with a slash, belongs to the page.
    fn wants(&self, name: &str) -> bool {
        if name.ends_with('/') {
            let in_prefix = name.starts_with(self.prefix) || self.prefix.starts_with(name);
            in_prefix && (name > self.after || self.after.starts_with(name))
        } else {
            name.starts_with(self.prefix) && name > self.after
        }
    }
}

/// The last step of a name, with a slash if it is a folder; nothing for what cannot be ours.
fn step(folder: std::os::fd::BorrowedFd<'_>, name: &CStr, kind: FileType) -> Option<String> {
    let text = name.to_str().ok().filter(|text| !text.starts_with('.'))?;
    let kind = match kind {
        // Some filesystems do not say it in the folder.
        FileType::Unknown => {
            FileType::from_raw_mode(rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()?.st_mode)
        }
        kind => kind,
    };
    match kind {
        FileType::RegularFile => Some(text.to_owned()),
        FileType::Directory => Some(format!("{text}/")),
        _ => None,
    }
}
