//! A folder of index files, and keeping it small: few fresh files, one settled tier.
//!
//! One process at a time writes, under a lock, and looks anew when another wrote before. Who finds it locked keeps what it
//! adds to itself, and reads what it has open: no file is ever changed. Each run that is added pays for a share of the work that it causes: a part of the tier that is
//! being made, so no backup waits for an index of terabytes to be written.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use strongroom_model::RepositoryId;

use super::file::{self, Damaged, Heading, Packs, Part, RunFile};
use super::merge::{choose, merge};
use super::packs::PackList;
use super::run::{Prefix, Row};
use super::view::{Tier, View};
use super::{IndexError, IndexRun, Listed, RunKey};
use crate::pack::EntryRef;

/// When what is done; tests make it small.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// How many fresh files there may be, those that are settling aside. A chunk that is not there costs a read of 64 bytes
    /// for each, nearly always from the page cache.
    pub(super) fresh_files: usize,
    /// Fresh rows are settled when there are so many: 50 MB.
    pub(super) settle_rows: u64,
    /// And when there is one for so many settled ones. So a row is written about as often, and the fresh files, which are
    /// removed only when the new tier is whole, need a small share of the room.
    pub(super) settle_share: u64,
    /// A part has at most so many rows: 200 MB, the room that the making of a tier needs. With 256 parts, the most there
    /// are, they get larger beyond 128 TiB.
    pub(super) part_rows: u64,
}

impl Sizes {
    pub(super) const REAL: Self =
        Self { fresh_files: 4, settle_rows: 2 << 20, settle_share: 16, part_rows: 8 << 20 };
}

#[derive(Debug)]
pub(super) struct Folder {
    dir: PathBuf,
    repository: RepositoryId,
    sizes: Sizes,
    /// Read when it is first asked: most commands never do.
    view: OnceLock<RwLock<View>>,
    /// One thread at a time adds and merges.
    writing: Mutex<Writing>,
}

#[derive(Debug, Default)]
struct Writing {
    lock: Option<File>,
    /// How many times the folder was written when it was last read. The lock's file has that number.
    stamp: Option<u64>,
    /// So much of the index speaks of packs that are gone that it is worth making it anew. Looked at when it is read.
    is_stale: bool,
}

impl Folder {
    pub(super) fn open(dir: &Path, repository: RepositoryId, sizes: Sizes) -> Result<Self, IndexError> {
        let failed = |cause| IndexError::File { path: dir.to_owned(), cause };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let view = OnceLock::new();
        Ok(Self { dir: dir.to_owned(), repository, sizes, view, writing: Mutex::default() })
    }

    fn view(&self) -> &RwLock<View> {
        self.view.get_or_init(|| {
            let loaded = View::load(&self.dir, self.repository);
            // A folder that cannot be read says so when something is to be added to it.
            RwLock::new(loaded.map(|(view, _)| view).unwrap_or_default())
        })
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, View> {
        self.view().read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, View> {
        self.view().write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn find(&self, prefix: &Prefix, accept: &mut dyn FnMut(EntryRef) -> bool) -> Option<EntryRef> {
        loop {
            let (found, damaged) = self.read().find(prefix, accept);
            match damaged {
                None => return found,
                Some(file) => self.lose(&file),
            }
        }
    }

    /// Adds a run. False: another process is writing here.
    pub(super) fn add(&self, key: RunKey, run: &IndexRun, listed: Listed<'_>) -> Result<bool, IndexError> {
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut add = || {
            if !self.begin(&mut writing, listed)? {
                return Ok(false);
            }
            let added = self.add_locked(key, run, &mut writing.is_stale, listed);
            self.end(&mut writing)?;
            added.map(|()| true)
        };
        add().map_err(|cause| IndexError::File { path: self.dir.clone(), cause })
    }

    fn add_locked(
        &self,
        key: RunKey,
        run: &IndexRun,
        is_stale: &mut bool,
        listed: Listed<'_>,
    ) -> io::Result<()> {
        if self.read().knows_run(&key) {
            return Ok(());
        }
        self.add_file(key, run)?;
        self.merge_fresh(listed)?;
        self.settle_some(run.rows.len() as u64, is_stale, listed)
    }

    /// Takes the lock, and looks anew when another process wrote since; what is of no use then is removed. False: another
    /// process has the lock.
    fn begin(&self, writing: &mut Writing, listed: Listed<'_>) -> io::Result<bool> {
        let lock = match writing.lock.take() {
            Some(lock) => lock,
            None => {
                let mut options = File::options();
                options.create(true).truncate(false).read(true).write(true).mode(0o600);
                options.open(self.dir.join("lock"))?
            }
        };
        let lock = writing.lock.insert(lock);
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Ok(false),
            Err(std::fs::TryLockError::Error(cause)) => return Err(cause),
        }
        let mut stamp = [0; 8];
        // A new file has none.
        let stamp = lock.read_exact_at(&mut stamp, 0).map_or(0, |()| u64::from_le_bytes(stamp));
        if writing.stamp != Some(stamp) {
            let (view, junk) = View::load(&self.dir, self.repository)?;
            let (dead, all) = view
                .lists()
                .fold((0, 0), |(dead, all), list| (dead + list.dead(listed), all + list.packs.len()));
            (writing.stamp, writing.is_stale) = (Some(stamp), dead * 4 > all);
            *self.view().write().unwrap_or_else(PoisonError::into_inner) = view;
            junk.iter().for_each(|path| drop_file(path));
        }
        Ok(true)
    }

    /// Lets other processes know that they must look anew, and lets go of the lock.
    fn end(&self, writing: &mut Writing) -> io::Result<()> {
        let Some(lock) = &writing.lock else { return Ok(()) };
        let stamp = writing.stamp.map_or(0, |stamp| stamp + 1);
        writing.stamp = None;
        let written = lock.write_all_at(&stamp.to_le_bytes(), 0);
        lock.unlock()?;
        written?;
        writing.stamp = Some(stamp);
        Ok(())
    }

    fn add_file(&self, key: RunKey, run: &IndexRun) -> io::Result<()> {
        let (list, places) = PackList::of_run(key, &run.packs);
        let heading = Heading {
            repository: self.repository,
            age: self.read().next_age(),
            part: Part::ALL,
            packs: Packs::Own(Arc::new(list)),
            most_rows: run.rows.len() as u64,
            durable: false,
        };
        let rows = run.rows.iter().map(|row| Row { pack: places[row.pack as usize], ..*row });
        let path = self.dir.join(format!("{}.run", hex::encode(key)));
        let file = file::write(&path, &heading, &mut rows.map(Ok))?.map_err(unreadable)?;
        self.write().fresh.push(Arc::new(file));
        Ok(())
    }

    /// Keeps the number of fresh files small.
    fn merge_fresh(&self, listed: Listed<'_>) -> io::Result<()> {
        let view = self.read();
        let candidates = view.fresh.iter().filter(|file| !view.is_settling(file)).cloned().collect();
        drop(view);
        let chosen = choose(candidates, self.sizes.fresh_files);
        if chosen.is_empty() {
            return Ok(());
        }
        let lists: Vec<&PackList> = chosen.iter().map(|file| &**file.packs()).collect();
        let list = PackList::merged(&lists, listed);
        let path = self.dir.join(format!("{}.run", &blake3::hash(&list.runs.concat()).to_hex()[..32]));
        let heading = Heading {
            repository: self.repository,
            age: chosen.iter().map(|file| file.age()).max().unwrap_or(0),
            part: Part::ALL,
            packs: Packs::Own(Arc::new(list)),
            most_rows: chosen.iter().map(|file| file.rows()).sum(),
            durable: false,
        };
        let Ok(merged) = merge(&path, &heading, &chosen)? else {
            self.lose_damaged(&chosen);
            return Ok(());
        };
        let mut view = self.write();
        view.fresh.retain(|file| !chosen.iter().any(|gone| Arc::ptr_eq(gone, file)));
        view.fresh.push(Arc::new(merged));
        view.fresh.sort_by_key(|file| file.age());
        drop(view);
        chosen.iter().filter(|file| file.path() != path).for_each(|file| drop_file(file.path()));
        Ok(())
    }

    /// Begins a new tier when it is due, and makes as many parts of it as `added` rows are to pay for.
    fn settle_some(&self, added: u64, is_stale: &mut bool, listed: Listed<'_>) -> io::Result<()> {
        let view = self.read();
        let settled = view.settled.as_ref().map_or(0, Tier::rows);
        let fresh: u64 = view.fresh.iter().map(|file| file.rows()).sum();
        let due = self.sizes.settle_rows.max(settled / self.sizes.settle_share);
        let is_settling = view.settling.is_some();
        drop(view);
        if !is_settling {
            if fresh < due && !*is_stale {
                return Ok(());
            }
            *is_stale = false;
            self.begin_tier(settled + fresh, listed)?;
        }
        let parts = self.read().settling.as_ref().map_or(1, |tier| tier.parts.len() as u64);
        // So that the tier is whole when half of what makes the next one due has come.
        let steps = 1 + (added * parts * 2) / due;
        for _ in 0..steps {
            if !self.make_part()? {
                break;
            }
        }
        Ok(())
    }

    fn begin_tier(&self, rows: u64, listed: Listed<'_>) -> io::Result<()> {
        let view = self.read();
        let lists: Vec<&PackList> = view.lists().map(|list| &**list).collect();
        let list = PackList::merged(&lists, listed);
        let parts = rows.div_ceil(self.sizes.part_rows).max(1).next_power_of_two();
        let bits = u8::try_from(parts.trailing_zeros().min(8)).expect("at most 8");
        let bits = bits.max(view.settled.as_ref().map_or(0, |tier| tier.bits));
        let tier = Tier::new(view.next_age(), bits, Arc::new(list));
        drop(view);
        tier.packs.write(&tier.table_path(&self.dir), self.repository)?;
        self.write().settling = Some(tier);
        Ok(())
    }

    /// Makes one part of the settling tier. False: there is none to be made.
    fn make_part(&self) -> io::Result<bool> {
        let view = self.read();
        let Some(tier) = &view.settling else { return Ok(false) };
        let number = tier.parts.iter().position(Option::is_none).expect("a whole tier is not settling");
        let part = Part { bits: tier.bits, number: u8::try_from(number).expect("at most 256 parts") };
        let older = view.settled.as_ref().and_then(|older| older.part(part.within(older.bits)));
        let sources: Vec<Arc<RunFile>> =
            view.fresh.iter().filter(|file| view.is_settling(file)).chain(older).cloned().collect();
        let heading = Heading {
            repository: self.repository,
            age: tier.age,
            part,
            packs: Packs::Table(tier.age, Arc::clone(&tier.packs)),
            most_rows: sources.iter().map(|file| file.rows_in(part)).sum(),
            durable: true,
        };
        let path = tier.part_path(&self.dir, part);
        drop(view);
        let Ok(made) = merge(&path, &heading, &sources)? else {
            self.lose_damaged(&sources);
            return Ok(false);
        };
        let junk = self.write().take_part(made, &self.dir);
        junk.iter().for_each(|path| drop_file(path));
        Ok(true)
    }

    /// One of these is damaged. Which one shows: it does not read any more.
    fn lose_damaged(&self, files: &[Arc<RunFile>]) {
        let is_bad = |file: &&Arc<RunFile>| (0..file.blocks()).any(|block| file.block(block).is_err());
        files.iter().filter(is_bad).for_each(|file| self.lose(file));
    }

    fn lose(&self, damaged: &RunFile) {
        tracing::warn!(path = %damaged.path().display(), "a file of the local dedup index is damaged; it is dropped, and made again from the repository");
        let junk = self.write().lose(damaged, &self.dir);
        junk.iter().for_each(|path| drop_file(path));
    }

    /// Forgets everything. Where another process is writing, only for this one.
    pub(super) fn clear(&self) -> Result<(), IndexError> {
        let failed = |cause| IndexError::File { path: self.dir.clone(), cause };
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let has_lock = self.begin(&mut writing, &|_| true).map_err(failed)?;
        *self.write() = View::default();
        if has_lock {
            let removed = remove_all(&self.dir);
            self.end(&mut writing).map_err(failed)?;
            removed.map_err(failed)?;
        }
        Ok(())
    }
}

fn remove_all(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        // The lock has none, and stays.
        if path.extension().is_some() {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn unreadable(_: Damaged) -> io::Error {
    io::Error::other("it does not read back as it was written")
}

/// A cache file that is of no use. When it cannot be removed now, it will be dropped again when the index is opened.
fn drop_file(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a file of the local index cannot be removed");
    }
}
