//! An image file: written beside its name, and given the name when it is complete.
//!
//! ```text
//! PATH.partial           what is being written, sparse
//! PATH.partial.journal   which chunks of it are durable
//! PATH                   appears, whole and synced, by one rename; until then an older file of that name stays
//! ```
//! The journal is made before the partial file, so a partial file without one is not ours to continue.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, RenameFlags};
use strongroom_block_io::{Caching, FileSource, FileTarget};
use strongroom_console::{Failed, Size};

use super::{Aimed, Wanted};
use crate::error::HydrateError;
use crate::journal::{Found, Header, Journal, Stage, sync_folder_of};
use crate::plan::{Base, Target};
use crate::refusal::Refusal;
use crate::work::Scope;

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn partial_of(path: &Path) -> PathBuf {
    beside(path, ".partial")
}

fn journal_of(path: &Path) -> PathBuf {
    beside(path, ".partial.journal")
}

/// Looks at a file to be made.
pub(crate) fn aim(wanted: &Wanted, path: &Path, overwrite: bool) -> Result<Aimed, Failed> {
    let folder = |cause| Refusal::Folder { path: path.into(), cause };
    // An absolute path: the journal must mean the same file whatever folder the next run is started in.
    let path = &std::path::absolute(path).map_err(folder)?;
    let (partial, journal) = (partial_of(path), journal_of(path));
    let exists = match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() => true,
        Ok(_) => return Err(Refusal::NotAFile { path: path.clone() }.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(cause) => return Err(folder(cause).into()),
    };
    let parent = path.parent().unwrap_or(Path::new("/"));
    let parent_is_folder = std::fs::metadata(parent).map_err(folder)?.is_dir();
    if !parent_is_folder {
        return Err(folder(io::ErrorKind::NotADirectory.into()).into());
    }
    let target = Target::File { path: path.clone(), overwrite: exists && overwrite };
    let base = if exists && overwrite {
        Base::Compared { what: format!("file {}", path.display()) }
    } else {
        Base::Zeros
    };
    let header = wanted.header(wanted.run, &target, &base, None);
    let mut earlier = wanted.earlier(Some(&journal), &header)?;
    // Killed between the rename and the end: the file is complete, and only the journal is left to remove.
    let complete =
        exists && !partial.exists() && earlier.as_ref().is_some_and(|found| found.stage >= Stage::Verified);
    if exists && !overwrite && !complete {
        return Err(Refusal::FileExists { path: path.clone() }.into());
    }
    if !complete {
        match std::fs::metadata(&partial) {
            Ok(meta) if meta.len() == wanted.point.volume_bytes && earlier.is_some() => {}
            Ok(_) if earlier.is_none() && !wanted.start_over && !journal.exists() => {
                return Err(Refusal::FileExists { path: partial }.into());
            }
            // Nothing of what was noted is there.
            _ => earlier = None,
        }
    }
    let local = match &base {
        Base::Compared { .. } if !complete => {
            let source = FileSource::open(path, Caching::Cached).map_err(HydrateError::from)?;
            Some((Arc::new(source) as Arc<dyn strongroom_block_io::BlockSource>, false))
        }
        _ => None,
    };
    Ok(Aimed {
        run: earlier.as_ref().map_or(wanted.run, |found| found.header.run),
        target,
        base,
        target_bytes: wanted.point.volume_bytes,
        blank: true,
        scope: if complete { Scope::Ranges(Vec::new()) } else { Scope::All },
        local,
        journal: Some(journal),
        earlier,
        cloned_from: None,
        undo: false,
        notes: Vec::new(),
    })
}

/// Opens the partial file and its journal, or makes both.
pub(crate) fn open(
    path: &Path,
    header: Header,
    resumes: bool,
) -> Result<(FileTarget, Journal), HydrateError> {
    let (partial, at) = (partial_of(path), journal_of(path));
    if resumes && let Found::Journal(journal) = Journal::open(&at)? {
        if partial.exists() {
            return Ok((FileTarget::open(&partial)?, *journal));
        }
        drop(journal);
    }
    let bytes = header.volume_bytes;
    let journal = Journal::create(&at, header)?;
    match std::fs::remove_file(&partial) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
            return Err(crate::journal::JournalError::Io { path: partial, cause }.into());
        }
        _ => {}
    }
    Ok((FileTarget::create(&partial, bytes)?, journal))
}

/// Whether an earlier run has already given the file its name.
pub(crate) fn is_complete(path: &Path) -> bool {
    !partial_of(path).exists()
}

/// The partial file, to be read back past the cache.
pub(crate) fn read_back(path: &Path) -> Result<FileSource, HydrateError> {
    Ok(FileSource::open(&partial_of(path), Caching::Direct)?)
}

/// Gives the finished file its name, durably, and removes the journal.
pub(crate) fn finish(path: &Path, overwrite: bool, journal: Journal) -> Result<(), Failed> {
    let partial = partial_of(path);
    let failed = |cause: io::Error| match cause.kind() {
        io::ErrorKind::AlreadyExists => Refusal::FileExists { path: path.into() },
        _ => Refusal::Rename { path: path.into(), cause },
    };
    if overwrite {
        std::fs::rename(&partial, path).map_err(failed)?;
    } else {
        rename_to_new(&partial, path).map_err(failed)?;
    }
    sync_folder_of(path).map_err(failed)?;
    journal.remove().map_err(HydrateError::from)?;
    Ok(())
}

/// A rename that replaces nothing, also where somebody makes the file at this very moment.
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Filesystems that cannot do it (NFS): look first.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if !to.exists() => std::fs::rename(from, to),
        renamed => renamed.map_err(io::Error::from),
    }
}

/// What a person should know when the file may not fit. A full disk loses nothing: the run goes on when there is room.
pub(crate) fn note_of_room(path: &Path, needed_bytes: u64) -> Option<String> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let stat = rustix::fs::statvfs(folder).ok()?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    (free < needed_bytes).then(|| {
        let (free, needed) = (Size(free), Size(needed_bytes));
        format!("only {free} are free in {}, and {needed} will be written", folder.display())
    })
}
