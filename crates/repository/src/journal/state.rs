//! What this machine remembers of a repository: the highest record that it saw, and in single-writer mode the
//! record that it is about to send.
//!
//! Losing it loses no data; it is what lets an agent notice that somebody put an older bucket in the place of
//! the one it knew.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use strongroom_model::RepositoryId;

use crate::errors::JournalError;
use crate::fold::Fold;
use crate::record::RecordHash;

/// How long a signed request can still be accepted after it was made: S3's own limit.
const STALE_REQUESTS: SignedDuration = SignedDuration::from_mins(15);

/// The folder of one repository below the state folder.
#[derive(Debug, Clone)]
pub(crate) struct StateDir {
    dir: PathBuf,
}

/// The highest record that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) number: u64,
    #[serde(with = "hash_as_hex")]
    pub(crate) hash: RecordHash,
}

mod hash_as_hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(hash: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(hash))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let mut hash = [0; 32];
        hex::decode_to_slice(String::deserialize(deserializer)?, &mut hash).map_err(D::Error::custom)?;
        Ok(hash)
    }
}

/// In single-writer mode: from when on this machine may append.
#[derive(Debug, Serialize, Deserialize)]
struct MayWrite {
    after: Timestamp,
}

impl StateDir {
    /// The folder of `repository` below `base`, made when it is absent; a promoted copy has one of its own, by the name of its
    /// history.
    pub(crate) fn open(
        base: &Path,
        repository: RepositoryId,
        history: Option<&str>,
    ) -> Result<Self, JournalError> {
        let dir = match history {
            None => base.join(repository.to_string()),
            Some(history) => base.join(format!("{repository}-{history}")),
        };
        fs::create_dir_all(&dir).map_err(|cause| failed(&dir, cause))?;
        Ok(Self { dir })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    /// The highest record seen, if any.
    pub(crate) fn mark(&self) -> Result<Option<Mark>, JournalError> {
        read_json(&self.dir.join("seen.json"))
    }

    /// Raises the mark to the end of `fold`, never lowers it.
    pub(crate) fn raise_mark(&self, fold: &Fold) -> Result<(), JournalError> {
        if fold.number == 0 || self.mark()?.is_some_and(|mark| mark.number >= fold.number) {
            return Ok(());
        }
        self.raise_mark_to(fold.number, &fold.hash)
    }

    pub(crate) fn raise_mark_to(&self, number: u64, hash: &RecordHash) -> Result<(), JournalError> {
        write_json(&self.dir.join("seen.json"), &Mark { number, hash: *hash })
    }

    /// In single-writer mode: the last record that this agent wrote.
    pub(crate) fn written(&self) -> Result<Option<Mark>, JournalError> {
        read_json(&self.dir.join("written.json"))
    }

    pub(crate) fn note_written(&self, number: u64, hash: &RecordHash) -> Result<(), JournalError> {
        write_json(&self.dir.join("written.json"), &Mark { number, hash: *hash })
    }

    /// Keeps the processes of one agent from sending side by side in single-writer mode.
    pub(crate) async fn lock_writer(&self) -> Result<File, JournalError> {
        let path = self.dir.join("writer.lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|cause| failed(&path, cause))?;
        // Held for one append; a writer that hangs on its store is given as long as a request may take.
        for _ in 0..600 {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(fs::TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(100)).await,
                Err(fs::TryLockError::Error(cause)) => return Err(failed(&path, cause)),
            }
        }
        Err(failed(&path, io::Error::from(io::ErrorKind::WouldBlock)))
    }

    /// A machine that does not know what was sent before waits until none of it can still arrive.
    pub(crate) fn must_wait_from(&self, now: Timestamp) -> Result<(), JournalError> {
        let path = self.dir.join("writer.json");
        if read_json::<MayWrite>(&path)?.is_some() {
            return Ok(());
        }
        let after = now.checked_add(STALE_REQUESTS).unwrap_or(Timestamp::MAX);
        write_json(&path, &MayWrite { after })
    }

    /// This machine made the repository: nobody sent anything before.
    pub(crate) fn may_write_at_once(&self) -> Result<(), JournalError> {
        write_json(&self.dir.join("writer.json"), &MayWrite { after: Timestamp::UNIX_EPOCH })
    }

    pub(crate) fn may_write(&self, now: Timestamp) -> Result<(), JournalError> {
        let path = self.dir.join("writer.json");
        match read_json::<MayWrite>(&path)? {
            Some(may) if may.after <= now => Ok(()),
            Some(may) => Err(JournalError::TooSoon { after: may.after }),
            None => Err(JournalError::NeedsState),
        }
    }

    /// Keeps a record before it is sent.
    pub(crate) fn keep_pending(&self, number: u64, bytes: &Bytes) -> Result<(), JournalError> {
        let mut note = number.to_le_bytes().to_vec();
        note.extend_from_slice(bytes);
        write(&self.dir.join("pending"), &note)
    }

    /// The record that was about to be sent.
    pub(crate) fn pending(&self) -> Result<Option<(u64, Bytes)>, JournalError> {
        let path = self.dir.join("pending");
        let Some(note) = read(&path)? else { return Ok(None) };
        let Some((number, bytes)) = note.split_first_chunk::<8>() else {
            return Err(failed(&path, io::Error::from(io::ErrorKind::InvalidData)));
        };
        Ok(Some((u64::from_le_bytes(*number), Bytes::copy_from_slice(bytes))))
    }

    pub(crate) fn drop_pending(&self) -> Result<(), JournalError> {
        let path = self.dir.join("pending");
        match fs::remove_file(&path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(failed(&path, cause)),
            _ => Ok(()),
        }
    }
}

pub(crate) fn failed(path: &Path, cause: io::Error) -> JournalError {
    JournalError::State { path: path.display().to_string(), cause }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, JournalError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(failed(path, cause)),
    }
}

static WRITES: AtomicU64 = AtomicU64::new(0);

/// Replaces the file in one step: after a crash it is the old one or the new one.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), JournalError> {
    let try_write = || {
        // A name of its own for each: two tasks of one process write the same file, and one would rename the other's away.
        let number = WRITES.fetch_add(1, Ordering::Relaxed);
        let new = path.with_extension(format!("new{}-{number}", std::process::id()));
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        fs::rename(&new, path)?;
        path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    };
    try_write().map_err(|cause| failed(path, cause))
}

pub(crate) fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>, JournalError> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|cause| failed(path, cause.into()))
}

pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), JournalError> {
    write(path, &serde_json::to_vec(value).expect("it has only string keys"))
}
