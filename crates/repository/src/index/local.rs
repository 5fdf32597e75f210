//! The index of one machine: files in a folder, or runs in memory.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use strongroom_model::RepositoryId;

use super::file::{self, Heading, RunFile};
use super::merge::{choose, merge, name};
use super::run::prefix;
use super::{IndexError, IndexRun, RunKey};
use crate::chunk::ChunkId;
use crate::pack::EntryRef;

/// How many files a lookup may have to look into. One that has not got the chunk costs a read of 64 bytes, nearly always from
/// the page cache; the one that has it, of 6 KiB.
const MOST_FILES: usize = 12;

/// The local index: sorted runs in a folder, bounded memory. Losing it costs time only; what is torn or damaged in it is
/// dropped. Lookups read files: call them from a thread that may block.
#[derive(Debug)]
pub struct DedupIndex {
    repository: RepositoryId,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Folder {
        dir: PathBuf,
        files: RwLock<Vec<Arc<RunFile>>>,
        /// One at a time adds and merges.
        writing: Mutex<()>,
    },
    Memory {
        runs: RwLock<VecDeque<(RunKey, IndexRun)>>,
        max_entries: usize,
    },
}

impl DedupIndex {
    /// Opens or makes the index in `dir`.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn open(dir: &Path, repository: RepositoryId) -> Result<Self, IndexError> {
        let failed = |cause| IndexError::File { path: dir.to_owned(), cause };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let mut files = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("run") => match RunFile::open(&path, repository) {
                    Ok(file) => files.push(Arc::new(file)),
                    Err(_) => drop_file(&path),
                },
                Some("draft") => drop_file(&path),
                _ => {}
            }
        }
        // A kill between the end of a merge and the removal of its sources leaves both.
        let all = files.clone();
        files.retain(|file| {
            let covered = all.iter().any(|other| {
                other.runs().len() > file.runs().len()
                    && file.runs().iter().all(|run| other.runs().contains(run))
            });
            if covered {
                drop_file(file.path());
            }
            !covered
        });
        files.sort_by_key(|file| file.age());
        let place = Place::Folder { dir: dir.to_owned(), files: RwLock::new(files), writing: Mutex::new(()) };
        Ok(Self { repository, place })
    }

    /// An index that lives in memory, and forgets its oldest runs beyond `max_entries` (24 bytes each).
    #[must_use]
    pub fn in_memory(repository: RepositoryId, max_entries: usize) -> Self {
        Self { repository, place: Place::Memory { runs: RwLock::default(), max_entries } }
    }

    /// Where a chunk may lie, by the newest run that knows. To be checked against the pack table.
    #[must_use]
    pub fn lookup(&self, id: &ChunkId) -> Option<EntryRef> {
        self.find(id, true).into_iter().next()
    }

    /// Every place where a chunk may lie, newest run first.
    #[must_use]
    pub fn lookup_all(&self, id: &ChunkId) -> Vec<EntryRef> {
        self.find(id, false)
    }

    fn find(&self, id: &ChunkId, only_one: bool) -> Vec<EntryRef> {
        let mut found = Vec::new();
        match &self.place {
            Place::Memory { runs, .. } => {
                for (_, run) in read(runs).iter().rev() {
                    found.extend(run.lookup(id));
                }
            }
            Place::Folder { files, .. } => {
                let mut damaged = Vec::new();
                for file in read(files).iter().rev() {
                    match file.lookup(&prefix(id)) {
                        Ok(places) => found.extend(places),
                        Err(_) => damaged.push(Arc::clone(file)),
                    }
                    if only_one && !found.is_empty() {
                        break;
                    }
                }
                self.drop_files(&damaged);
            }
        }
        found
    }

    /// Adds a run; nothing happens when it is known.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add_run(&self, key: RunKey, run: &IndexRun) -> Result<(), IndexError> {
        match &self.place {
            Place::Memory { runs, max_entries } => {
                let mut runs = write(runs);
                if !runs.iter().any(|(known, _)| *known == key) {
                    runs.push_back((key, run.clone()));
                }
                while runs.iter().map(|(_, run)| run.len()).sum::<usize>() > *max_entries {
                    runs.pop_front();
                }
                Ok(())
            }
            Place::Folder { dir, files, writing } => {
                let _writing: MutexGuard<'_, ()> = writing.lock().unwrap_or_else(PoisonError::into_inner);
                if self.known_runs().contains(&key) {
                    return Ok(());
                }
                let age = read(files).last().map_or(0, |file| file.age()) + 1;
                let path = dir.join(name(&[key]));
                let heading = Heading {
                    repository: self.repository,
                    age,
                    runs: &[key],
                    packs: &run.packs,
                    most_rows: run.rows.len() as u64,
                };
                let failed = |cause| IndexError::File { path: path.clone(), cause };
                let file =
                    file::write(&path, &heading, &mut run.rows.iter().copied().map(Ok)).map_err(failed)?;
                let file =
                    file.map_err(|_| failed(io::Error::other("it does not read back as it was written")))?;
                write(files).push(Arc::new(file));
                self.merge_some(dir, files)
            }
        }
    }

    /// Keeps the number of files small.
    fn merge_some(&self, dir: &Path, files: &RwLock<Vec<Arc<RunFile>>>) -> Result<(), IndexError> {
        let chosen = choose(read(files).clone(), MOST_FILES);
        if chosen.is_empty() {
            return Ok(());
        }
        let failed = |cause| IndexError::File { path: dir.to_owned(), cause };
        let Ok(merged) = merge(dir, self.repository, &chosen).map_err(failed)? else {
            // One of them is damaged. Which one shows: it does not read any more.
            let bad = |file: &&Arc<RunFile>| (0..file.blocks()).any(|block| file.block(block).is_err());
            let damaged: Vec<_> = chosen.iter().filter(bad).cloned().collect();
            self.drop_files(&damaged);
            return Ok(());
        };
        let mut files = write(files);
        files.retain(|file| !chosen.iter().any(|gone| Arc::ptr_eq(gone, file)));
        files.push(Arc::new(merged));
        files.sort_by_key(|file| file.age());
        drop(files);
        chosen.iter().for_each(|file| drop_file(file.path()));
        Ok(())
    }

    fn drop_files(&self, damaged: &[Arc<RunFile>]) {
        if let (Place::Folder { files, .. }, false) = (&self.place, damaged.is_empty()) {
            write(files).retain(|file| !damaged.iter().any(|gone| Arc::ptr_eq(gone, file)));
            for file in damaged {
                drop_file(file.path());
            }
        }
    }

    /// The runs it knows, merged ones among them.
    #[must_use]
    pub fn known_runs(&self) -> BTreeSet<RunKey> {
        match &self.place {
            Place::Memory { runs, .. } => read(runs).iter().map(|(key, _)| *key).collect(),
            Place::Folder { files, .. } => read(files).iter().flat_map(|file| file.runs().to_vec()).collect(),
        }
    }

    /// Forgets everything.
    ///
    /// # Errors
    /// When files cannot be removed.
    pub fn clear(&self) -> Result<(), IndexError> {
        match &self.place {
            Place::Memory { runs, .. } => write(runs).clear(),
            Place::Folder { files, .. } => {
                for file in std::mem::take(&mut *write(files)) {
                    let path = file.path().to_owned();
                    match std::fs::remove_file(&path) {
                        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                            return Err(IndexError::File { path, cause });
                        }
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }
}

/// A cache file that is of no use. When it cannot be removed now, it will be dropped again when the index is opened.
fn drop_file(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a file of the local index cannot be removed");
    }
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
