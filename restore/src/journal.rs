//! The restore journal: what of a run is already durable at its target, so that the same command goes on after a kill.
//!
//! A small file beside the target (or in the state folder). It is a local note and no part of the repository's format:
//! whoever deletes it loses time, never data.
//!
//! ```text
//! frame   length of payload u32 LE | kind u8 | payload | first 8 bytes of BLAKE3(check of the frame before, kind, payload)
//! kind 1  header: JSON of [`Header`]; the first frame and only that
//! kind 2  done: pairs (first chunk u64 LE, chunks u64 LE)
//! kind 3  stage: one byte, [`Stage`]
//! kind 4  not done after all: pairs as in kind 2
//! ```
//!
//! * A frame about data is written only after the data was synced: [`Durable`] can be made in no other way.
//! * Reading stops at the first frame that is cut or does not check, and the file is cut there: less is believed done
//!   than is done, never more. Each check covers the one before, so no leftover of an older file can pass for new.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use strongroom_model::{RecoveryPointId, RepositoryId, RunId};

use crate::chunk_set::ChunkSet;

/// A frame's payload is at most this long, so that a damaged length cannot make us allocate.
const MAX_PAYLOAD: usize = 1 << 20;
const CHECK: usize = 8;
const PAIR: usize = 16;

/// What a journal belongs to. A run goes on only where every field but the run is the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The version of this file's form.
    pub version: u32,
    /// The run that began it.
    pub run: RunId,
    /// Where the data comes from.
    pub repository: RepositoryId,
    /// The point that is restored.
    pub point: RecoveryPointId,
    /// The target, as the plan names it.
    pub target: String,
    /// Bytes of the point's volume.
    pub volume_bytes: u64,
    /// Bytes of a chunk.
    pub chunk_bytes: u32,
    /// What the target held before the first write, as the plan names it: what was not written is only right on it.
    pub base: String,
    /// The volume at the driver that is filled, where there is one. Says nothing about whether a run goes on.
    pub staged: Option<String>,
}

impl Header {
    /// The version that this program writes and reads.
    pub const VERSION: u32 = 1;

    /// Whether work noted under `self` counts for `other`.
    #[must_use]
    pub fn continues(&self, other: &Self) -> bool {
        Self { run: other.run, staged: other.staged.clone(), ..self.clone() } == *other
    }
}

/// What a run has behind it, beyond single chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Chunks are being written.
    Hydrating = 0,
    /// All of them are written and synced.
    Hydrated = 1,
    /// What was written was read back and found right, where that was asked for.
    Verified = 2,
    /// The driver was asked to exchange the content, and may have done it.
    Exchanging = 3,
}

/// Chunks that were written *and* synced: made only by [`Durable::sync`].
#[derive(Debug)]
pub struct Durable(Vec<Range<u64>>);

impl Durable {
    /// Syncs the target with `sync`, and only then vouches for `chunks`.
    ///
    /// # Errors
    /// Whatever `sync` says.
    pub fn sync<E>(mut chunks: Vec<Range<u64>>, sync: impl FnOnce() -> Result<(), E>) -> Result<Self, E> {
        sync()?;
        chunks.sort_unstable_by_key(|range| range.start);
        chunks.dedup_by(|next, last| {
            let joins = next.start <= last.end;
            if joins {
                last.end = last.end.max(next.end);
            }
            joins
        });
        Ok(Self(chunks))
    }
}

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Reading or writing it failed.
    #[error("the restore journal {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the machine said.
        #[source]
        cause: io::Error,
    },
    /// Another process works on the same target.
    #[error("another restore is at work with the journal {path}")]
    Locked {
        /// The file.
        path: PathBuf,
    },
}

/// A journal that is open for writing; the file is locked against other processes while this lives.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    check: [u8; CHECK],
    header: Header,
    done: ChunkSet,
    stage: Stage,
}

/// What lay at a journal's path.
#[derive(Debug)]
pub enum Found {
    /// Nothing, or nothing that could be read: nothing is done.
    Nothing,
    /// A journal.
    Journal(Box<Journal>),
}

impl Journal {
    /// Opens what is at `path`, cutting off a torn tail.
    ///
    /// # Errors
    /// When it cannot be read, or another process has it.
    pub fn open(path: &Path) -> Result<Found, JournalError> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(cause) => return Err(JournalError::Io { path: path.into(), cause }),
        };
        lock(&file, path)?;
        Self::read(path, file).map_err(|cause| JournalError::Io { path: path.into(), cause })
    }

    /// Reads what a journal says without taking it: for a plan, which changes nothing.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn peek(path: &Path) -> Result<Option<(Header, ChunkSet, Stage)>, JournalError> {
        let io = |cause| JournalError::Io { path: path.into(), cause };
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(io(cause)),
        };
        Ok(scan(&mut file).map_err(io)?.map(|scan| (scan.header, scan.done, scan.stage)))
    }

    /// Begins a journal at `path`, in place of whatever lies there. Durable, name and all, when it returns.
    ///
    /// # Errors
    /// When it cannot be written, or another process has it.
    pub fn create(path: &Path, header: Header) -> Result<Self, JournalError> {
        let io = |cause| JournalError::Io { path: path.into(), cause };
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        lock(&file, path)?;
        // Cut only under the lock: the file may be another process's.
        file.set_len(0).map_err(io)?;
        let mut journal = Self {
            path: path.into(),
            file,
            check: [0; CHECK],
            header,
            done: ChunkSet::new(),
            stage: Stage::Hydrating,
        };
        let payload = serde_json::to_vec(&journal.header).map_err(io::Error::other).map_err(io)?;
        journal.append(1, &payload)?;
        sync_folder_of(path).map_err(io)?;
        Ok(journal)
    }

    /// What this journal belongs to.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The chunks that need not be written again.
    #[must_use]
    pub const fn done(&self) -> &ChunkSet {
        &self.done
    }

    /// How far the run has come.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        self.stage
    }

    /// Where the file lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Notes that `chunks` are durable at the target.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn record(&mut self, chunks: Durable) -> Result<(), JournalError> {
        self.append_pairs(2, &chunks.0)?;
        for range in chunks.0 {
            self.done.insert_range(range);
        }
        Ok(())
    }

    /// Takes chunks back that were read back and found wrong: the next run writes them again.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn retract(&mut self, chunks: &[Range<u64>]) -> Result<(), JournalError> {
        self.append_pairs(4, chunks)?;
        chunks.iter().for_each(|range| self.done.remove_range(range.clone()));
        Ok(())
    }

    /// Notes that the run has come to `stage`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn reach(&mut self, stage: Stage) -> Result<(), JournalError> {
        if self.stage < stage {
            self.append(3, &[stage as u8])?;
            self.stage = stage;
        }
        Ok(())
    }

    /// Deletes the file: the run is finished, or was given up.
    ///
    /// # Errors
    /// When it cannot be deleted.
    pub fn remove(self) -> Result<(), JournalError> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(JournalError::Io { path: self.path, cause: error })
            }
            _ => Ok(()),
        }
    }

    fn append_pairs(&mut self, kind: u8, ranges: &[Range<u64>]) -> Result<(), JournalError> {
        for ranges in ranges.chunks(MAX_PAYLOAD / PAIR) {
            let mut payload = Vec::with_capacity(ranges.len() * PAIR);
            for range in ranges {
                payload.extend(range.start.to_le_bytes());
                payload.extend((range.end - range.start).to_le_bytes());
            }
            self.append(kind, &payload)?;
        }
        Ok(())
    }

    fn append(&mut self, kind: u8, payload: &[u8]) -> Result<(), JournalError> {
        let check = check_of(self.check, kind, payload);
        let mut frame = Vec::with_capacity(5 + payload.len() + CHECK);
        frame.extend(u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
        frame.push(kind);
        frame.extend(payload);
        frame.extend(check);
        self.file
            .write_all(&frame)
            .and_then(|()| self.file.sync_data())
            .map_err(|cause| JournalError::Io { path: self.path.clone(), cause })?;
        self.check = check;
        Ok(())
    }

    fn read(path: &Path, mut file: File) -> io::Result<Found> {
        let Some(scan) = scan(&mut file)? else { return Ok(Found::Nothing) };
        file.set_len(scan.good)?;
        file.seek(SeekFrom::Start(scan.good))?;
        Ok(Found::Journal(Box::new(Self {
            path: path.into(),
            file,
            check: scan.check,
            header: scan.header,
            done: scan.done,
            stage: scan.stage,
        })))
    }
}

struct Scan {
    header: Header,
    done: ChunkSet,
    stage: Stage,
    check: [u8; CHECK],
    /// Where the last good frame ends.
    good: u64,
}

/// Reads frame by frame, so that memory does not grow with the file.
fn scan(file: &mut File) -> io::Result<Option<Scan>> {
    let mut reader = io::BufReader::new(file);
    let Some((1, payload, check)) = frame(&mut reader, [0; CHECK])? else { return Ok(None) };
    let Ok(header) = serde_json::from_slice::<Header>(&payload) else { return Ok(None) };
    if header.version != Header::VERSION || header.chunk_bytes == 0 {
        return Ok(None);
    }
    let chunks = header.volume_bytes.div_ceil(u64::from(header.chunk_bytes));
    let good = (5 + payload.len() + CHECK) as u64;
    let mut scan = Scan { header, done: ChunkSet::new(), stage: Stage::Hydrating, check, good };
    while let Some((kind, payload, check)) = frame(&mut reader, scan.check)? {
        match (kind, payload.as_slice()) {
            (2, pairs) if pairs.len() % PAIR == 0 => {
                pairs.chunks_exact(PAIR).for_each(|pair| scan.done.insert_range(range_of(pair, chunks)));
            }
            (3, [1]) => scan.stage = Stage::Hydrated,
            (3, [2]) => scan.stage = Stage::Verified,
            (3, [3]) => scan.stage = Stage::Exchanging,
            (4, pairs) if pairs.len() % PAIR == 0 => {
                pairs.chunks_exact(PAIR).for_each(|pair| scan.done.remove_range(range_of(pair, chunks)));
            }
            // Written by a program that knows more: what follows may hang on it.
            _ => break,
        }
        scan.check = check;
        scan.good += (5 + payload.len() + CHECK) as u64;
    }
    Ok(Some(scan))
}

/// Kind, payload and check.
type Frame = (u8, Vec<u8>, [u8; CHECK]);

/// The next frame, or `None` where the good ones end.
fn frame(reader: &mut impl io::Read, before: [u8; CHECK]) -> io::Result<Option<Frame>> {
    let mut head = [0; 5];
    if !filled(reader, &mut head)? {
        return Ok(None);
    }
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    if length > MAX_PAYLOAD {
        return Ok(None);
    }
    let (mut payload, mut check) = (vec![0; length], [0; CHECK]);
    if !filled(reader, &mut payload)? || !filled(reader, &mut check)? {
        return Ok(None);
    }
    Ok((check == check_of(before, head[4], &payload)).then_some((head[4], payload, check)))
}

fn filled(reader: &mut impl io::Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn range_of(pair: &[u8], chunks: u64) -> Range<u64> {
    let start = u64_at(pair, 0);
    start..start.saturating_add(u64_at(pair, 8)).min(chunks)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

fn check_of(before: [u8; CHECK], kind: u8, payload: &[u8]) -> [u8; CHECK] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&before).update(&[kind]).update(payload);
    let mut check = [0; CHECK];
    check.copy_from_slice(&hasher.finalize().as_bytes()[..CHECK]);
    check
}

fn lock(file: &File, path: &Path) -> Result<(), JournalError> {
    match rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(JournalError::Locked { path: path.into() }),
        Err(cause) => Err(JournalError::Io { path: path.into(), cause: cause.into() }),
    }
}

/// Makes a name in a folder durable.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
