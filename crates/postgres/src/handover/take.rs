//! The agent's side: what waits in the folder is taken into the spool, in the order of the log.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use strongroom_database::postgres::{FileName, history_name, segment_name};
use strongroom_database::{LineageId, Position};
use strongroom_log_spool::Spool;

use super::note::Note;
use super::segment::{STEP_BYTES, check, each_step, hash, open_plain};
use super::{HandoverError, LOCK, MOST_HISTORY_BYTES};
use crate::{PostgresError, System};

/// A command that was killed leaves what it was writing; after so many seconds nobody writes it any more.
const LEFT_OVER_SECONDS: i64 = 600;

/// Whether an agent lives that takes what is put into this folder.
#[must_use]
pub fn is_taken_from(folder: &Path) -> bool {
    // Whoever has it alone is the agent; the lock goes with its process.
    open_plain(&folder.join(LOCK))
        .is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// The one that takes from a folder, for as long as it lives.
#[derive(Debug)]
pub struct Taker {
    folder: PathBuf,
    note: Mutex<Note>,
    _lock: File,
}

/// What waits in the folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Segments: their timeline and where they begin.
    pub segments: BTreeSet<(LineageId, Position)>,
}

/// A segment that waits.
#[derive(Debug)]
pub struct Found {
    file: File,
    path: PathBuf,
    name: String,
    at: Position,
    written_at: Timestamp,
}

/// What was taken of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The spool ends here now.
    pub end: Position,
    /// When the server wrote the last of it, by its clock.
    pub written_at: Timestamp,
}

impl Taker {
    /// From here on commands are answered, as soon as [`Self::say`] told them whose log is taken.
    ///
    /// # Errors
    /// When the folder cannot be used, or another agent has it.
    pub fn open(folder: &Path) -> Result<Self, HandoverError> {
        let path = folder.join(LOCK);
        let flags = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).expect("the flags of open(2) fit");
        let lock = OpenOptions::new().create(true).append(true).mode(0o644).custom_flags(flags).open(&path);
        let lock = lock.map_err(HandoverError::file(&path))?;
        let mut tries = 0;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                // A command that looks whether anybody is here holds it for an instant.
                Err(TryLockError::WouldBlock) if tries < 10 => {
                    tries += 1;
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(HandoverError::OtherAgent { folder: folder.to_owned() });
                }
                Err(TryLockError::Error(cause)) => return Err(HandoverError::File { path, cause }),
            }
        }
        let note = Mutex::new(Note::read(folder).unwrap_or_default());
        Ok(Self { folder: folder.to_owned(), note, _lock: lock })
    }

    fn note(&self) -> MutexGuard<'_, Note> {
        self.note.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Note)) -> Result<(), HandoverError> {
        let mut note = self.note();
        let mut next = note.clone();
        change(&mut next);
        if next != *note {
            next.write(&self.folder)?;
            *note = next;
        }
        Ok(())
    }

    /// Says whose log is taken, and how much of it may wait.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn say(&self, system: &System, limit_bytes: u64) -> Result<(), HandoverError> {
        self.change(|note| {
            if note.system != system.identifier {
                note.taken.clear();
                note.let_go = Position::START;
            }
            note.system = system.identifier;
            note.segment_bytes = system.segment_bytes;
            note.limit_bytes = limit_bytes.max(4 * system.segment_bytes);
        })
    }

    /// Says which segment is taken next.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn want(&self, timeline: LineageId, at: Position) -> Result<(), HandoverError> {
        self.change(|note| note.wanted = segment_name(timeline, at, note.segment_bytes))
    }

    /// Says that nobody waits for what lies before.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn let_go(&self, before: Position) -> Result<(), HandoverError> {
        self.change(|note| note.let_go = note.let_go.max(before))
    }

    /// What lies before this was let go of.
    #[must_use]
    pub fn let_go_before(&self) -> Position {
        self.note().let_go
    }

    /// What waits in the folder.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn waiting(&self) -> Result<Waiting, HandoverError> {
        let segment_bytes = self.note().segment_bytes;
        let mut waiting = Waiting::default();
        for entry in std::fs::read_dir(&self.folder).map_err(HandoverError::file(&self.folder))? {
            let entry = entry.map_err(HandoverError::file(&self.folder))?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            let parsed = FileName::parse(&name);
            if let Some(FileName::Segment { timeline, .. }) = parsed
                && let Some(at) = parsed.and_then(|name| name.position(segment_bytes))
            {
                waiting.segments.insert((timeline, at));
            }
        }
        Ok(waiting)
    }

    /// Clears away what killed commands left half written.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn clear(&self, now: Timestamp) -> Result<(), HandoverError> {
        for entry in std::fs::read_dir(&self.folder).map_err(HandoverError::file(&self.folder))?.flatten() {
            if is_left_over(&entry, now) {
                // Another time, then.
                let _ = std::fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    /// How a timeline came about, when that was handed over.
    #[must_use]
    pub fn history(&self, timeline: LineageId) -> Option<String> {
        let mut text = String::new();
        let file = open_plain(&self.folder.join(history_name(timeline))).ok()?;
        file.take(MOST_HISTORY_BYTES).read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// A segment that waits; `None`: it does not.
    ///
    /// # Errors
    /// When it is not what its name says.
    pub fn find(&self, timeline: LineageId, at: Position) -> Result<Option<Found>, HandoverError> {
        let (system, segment_bytes) = {
            let note = self.note();
            (note.system, note.segment_bytes)
        };
        let name = segment_name(timeline, at, segment_bytes);
        let path = self.folder.join(&name);
        let mut file = match open_plain(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(HandoverError::File { path, cause }),
        };
        check(&mut file, &path, &name, (system, segment_bytes))?;
        let written_at = file.metadata().and_then(|of| of.modified()).map_err(HandoverError::file(&path))?;
        let written_at = Timestamp::try_from(written_at).unwrap_or(Timestamp::UNIX_EPOCH);
        Ok(Some(Found { file, path, name, at, written_at }))
    }

    /// Takes what lies from `from` on in a segment into the spool, and the file away.
    ///
    /// Only the last of its bytes go with the time at which they were written: what lies before them says nothing of when what is
    /// behind was stamped. `whole_at` is the time of what was taken before.
    ///
    /// # Errors
    /// When the spool or the folder fails. What is in the spool then stays there.
    pub fn take(
        &self,
        found: Found,
        from: Position,
        whole_at: Timestamp,
        spool: &Spool,
    ) -> Result<Taken, PostgresError> {
        let Found { mut file, path, name, at, written_at } = found;
        let end = at.plus(self.note().segment_bytes);
        let mut hasher = blake3::Hasher::new();
        let mut reached = at;
        let (mut next, mut failed) = (from, None);
        each_step(
            &mut file,
            |bytes| {
                hasher.update(bytes);
                let start = reached;
                reached = start.plus(bytes.len() as u64);
                if failed.is_none() && reached > next {
                    let known = usize::try_from(next.since(start)).unwrap_or(bytes.len());
                    let stamp = if reached >= end { written_at.max(whole_at) } else { whole_at };
                    failed = spool.append(next, stamp, &bytes[known..]).err();
                    next = reached;
                }
                Ok(())
            },
            &path,
        )?;
        if let Some(cause) = failed {
            return Err(cause.into());
        }
        self.change(|note| note.remember(&name, hasher.finalize().to_hex().to_string()))?;
        self.remove(&path)?;
        Ok(Taken { end: next, written_at })
    }

    /// Takes the end of a timeline, up to where it was left, from the segment with which the next one begins; that stays.
    ///
    /// # Errors
    /// When the spool or the folder fails.
    pub fn take_end(
        &self,
        mut found: Found,
        from: Position,
        fork: Position,
        whole_at: Timestamp,
        spool: &Spool,
    ) -> Result<(), PostgresError> {
        let mut bytes = vec![0; usize::try_from(fork.since(found.at)).unwrap_or(0)];
        found.file.read_exact(&mut bytes).map_err(HandoverError::file(&found.path))?;
        let known = usize::try_from(from.since(found.at)).unwrap_or(bytes.len());
        for step in bytes[known.min(bytes.len())..].chunks(STEP_BYTES) {
            let at = spool.range().map_or(from, |(_, end)| end);
            spool.append(at, whole_at, step)?;
        }
        Ok(())
    }

    /// Takes away a segment that was taken before, or is of a part of the log that nobody wants.
    ///
    /// # Errors
    /// When it was taken before and had other bytes: then it stays, under another name.
    pub fn put_away(&self, timeline: LineageId, at: Position) -> Result<(), HandoverError> {
        let name = segment_name(timeline, at, self.note().segment_bytes);
        let path = self.folder.join(&name);
        let known = self.note().hash_of(&name).map(str::to_owned);
        if let Some(known) = known {
            let mut file = open_plain(&path).map_err(HandoverError::file(&path))?;
            if hash(&mut file, &path)? != known {
                let aside = self.folder.join(format!("differs-{name}"));
                std::fs::rename(&path, &aside).map_err(HandoverError::file(&path))?;
                return Err(HandoverError::Differs { name });
            }
        }
        self.remove(&path)
    }

    fn remove(&self, path: &Path) -> Result<(), HandoverError> {
        match std::fs::remove_file(path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                Err(HandoverError::File { path: path.to_owned(), cause })
            }
            _ => Ok(()),
        }
    }
}

fn is_left_over(entry: &std::fs::DirEntry, now: Timestamp) -> bool {
    let name = entry.file_name();
    let is_ours = name
        .to_str()
        .and_then(|name| name.strip_prefix('.'))
        .and_then(|name| name.rsplit_once('.'))
        .is_some_and(|(name, _)| FileName::parse(name).is_some());
    is_ours && entry.metadata().is_ok_and(|of| now.as_second() - of.ctime() > LEFT_OVER_SECONDS)
}
