//! The spool: what was received and is not archived yet, on this machine's disk.
//!
//! One folder for one log; files of about 16 MiB, named by the position of their first byte; in them frames:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | `SRWF` |
//! | 4 | 4 | length of the log's bytes, u32 little-endian |
//! | 8 | 8 | position of the first, u64 |
//! | 16 | 8 | a moment, by the server's clock, up to which nothing it had stamped lies behind them: when the last of them was sent, or when it had been caught up with before; microseconds since 1970, i64 |
//! | 24 | 8 | the first bytes of BLAKE3 of the 24 before and the log's bytes |
//! | 32 | … | the log's bytes |
//!
//! What always holds: when [`Spool::append`] answers, the frame is durable; frames follow one another without a gap; where the
//! next file of a log of files begins, so does a file of ours ([`Position::is_followed_by`]). A frame
//! that a crash cut short is taken off when the spool is opened: nobody was told of it. Frames carry a hash because a file may
//! be longer than what was written to it when the power failed.

use std::collections::VecDeque;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use strongroom_database::Position;

use crate::SpoolError;

const MAGIC: &[u8; 4] = b"SRWF";
const HEADER_BYTES: usize = 32;

/// A file that has this many bytes gets no more frames: what is archived is freed in steps of it.
const FILE_BYTES: u64 = 16 << 20;

/// The most log bytes of one frame: the receiver gathers no more than this before it writes.
pub const MOST_FRAME_BYTES: usize = 2 << 20;

/// what was received of one log and is not archived yet.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    files: VecDeque<Part>,
    /// The last of them, open for appending.
    open: Option<File>,
}

#[derive(Debug, Clone)]
struct Part {
    path: PathBuf,
    start: Position,
    end: Position,
    /// Its size on disk.
    bytes: u64,
}

/// Consecutive bytes of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The position of the first.
    pub start: Position,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// When the server sent the last of them, by its clock.
    pub sent_at: Timestamp,
}

struct Frame {
    start: Position,
    length: usize,
    sent_at: Timestamp,
    sum: [u8; 8],
}

impl Frame {
    fn head(start: Position, length: u32, sent_at: Timestamp) -> [u8; 24] {
        let mut head = [0; 24];
        head[..4].copy_from_slice(MAGIC);
        head[4..8].copy_from_slice(&length.to_le_bytes());
        head[8..16].copy_from_slice(&start.number().to_le_bytes());
        head[16..].copy_from_slice(&sent_at.as_microsecond().to_le_bytes());
        head
    }

    fn parse(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let length = u32::from_le_bytes(bytes[4..8].try_into().expect("4 bytes"));
        let length = usize::try_from(length).ok().filter(|length| (1..=MOST_FRAME_BYTES).contains(length))?;
        let sent_at = Timestamp::from_microsecond(number(16).cast_signed()).ok()?;
        let sum = bytes[24..].try_into().expect("8 bytes");
        (bytes[..4] == *MAGIC).then_some(Self { start: Position::new(number(8)), length, sent_at, sum })
    }
}

fn sum(head: &[u8], bytes: &[u8]) -> [u8; 8] {
    let hash = blake3::Hasher::new().update(head).update(bytes).finalize();
    *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
}

impl Spool {
    /// Opens the folder, makes it where there is none, and takes off what a crash left half written at its end.
    ///
    /// # Errors
    /// When it cannot be read, or lacks something in its middle.
    pub fn open(folder: &Path) -> Result<Self, SpoolError> {
        let failed = |cause| SpoolError::Disk { path: folder.to_owned(), cause };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let start = path.file_stem().and_then(|stem| stem.to_str()).filter(|stem| stem.len() == 16);
            let start = start.and_then(|stem| u64::from_str_radix(stem, 16).ok());
            if let Some(start) = start.filter(|_| path.extension().is_some_and(|ending| ending == "frames")) {
                found.push((Position::new(start), path));
            }
        }
        found.sort();
        let mut files = VecDeque::new();
        let mut expected = None;
        let count = found.len();
        for (number, (start, path)) in found.into_iter().enumerate() {
            let damaged = |what: String| SpoolError::Damaged { path: path.clone(), what };
            if expected.is_some_and(|expected: Position| !expected.is_followed_by(start)) {
                return Err(damaged("what should stand before it is missing".into()));
            }
            let io = |cause| SpoolError::Disk { path: path.clone(), cause };
            let (end, bytes, is_whole) = survey(&path, start).map_err(io)?;
            if !is_whole {
                if number + 1 < count {
                    return Err(damaged(format!("it is damaged behind byte {bytes}")));
                }
                tracing::warn!(file = %path.display(), bytes, "a frame that was never reported is taken off the spool");
                let file = OpenOptions::new().write(true).open(&path).map_err(io)?;
                file.set_len(bytes).and_then(|()| file.sync_all()).map_err(io)?;
            }
            if bytes == 0 {
                std::fs::remove_file(&path).map_err(io)?;
                continue;
            }
            expected = Some(end);
            files.push_back(Part { path, start, end, bytes });
        }
        Ok(Self { folder: folder.to_owned(), state: Mutex::new(State { files, open: None }) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is made after the disk agreed; whoever panicked changed nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which bytes of the log are in it.
    #[must_use]
    pub fn range(&self) -> Option<(Position, Position)> {
        let state = self.state();
        state.files.front().zip(state.files.back()).map(|(first, last)| (first.start, last.end))
    }

    /// How much of the disk it takes.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.state().files.iter().map(|part| part.bytes).sum()
    }

    /// Adds what follows; durable when it answers. Writes to disk: call it from a thread that may block.
    ///
    /// # Errors
    /// When the disk fails, or these bytes do not follow. Then nothing was added.
    pub fn append(&self, start: Position, sent_at: Timestamp, bytes: &[u8]) -> Result<(), SpoolError> {
        let mut state = self.state();
        if let Some(last) = state.files.back()
            && !last.end.is_followed_by(start)
        {
            return Err(SpoolError::NotNext { expected: last.end, found: start });
        }
        for bytes in bytes.chunks(MOST_FRAME_BYTES).scan(start, |at, chunk| {
            let start = *at;
            *at = at.plus(chunk.len() as u64);
            Some((start, chunk))
        }) {
            self.append_frame(&mut state, bytes.0, sent_at, bytes.1)?;
        }
        Ok(())
    }

    fn append_frame(
        &self,
        state: &mut State,
        start: Position,
        sent_at: Timestamp,
        bytes: &[u8],
    ) -> Result<(), SpoolError> {
        let length = u32::try_from(bytes.len()).expect("a frame has at most 2 MiB");
        let head = Frame::head(start, length, sent_at);
        let frame = [&head[..], &sum(&head, bytes), bytes].concat();
        if state.files.back().is_none_or(|last| last.bytes >= FILE_BYTES || last.end != start) {
            self.begin_file(state, start)?;
        }
        let last = state.files.back_mut().expect("a file was begun above");
        let failed = |path: &Path, cause| SpoolError::Disk { path: path.to_owned(), cause };
        let mut file = match state.open.take() {
            Some(file) => file,
            None => {
                OpenOptions::new().append(true).open(&last.path).map_err(|cause| failed(&last.path, cause))?
            }
        };
        if let Err(cause) = file.write_all(&frame).and_then(|()| file.sync_data()) {
            // What a failed write or sync left is unknown: it goes, and is received again.
            let _ = file.set_len(last.bytes).and_then(|()| file.sync_all());
            return Err(failed(&last.path, cause));
        }
        last.bytes += frame.len() as u64;
        last.end = start.plus(bytes.len() as u64);
        state.open = Some(file);
        Ok(())
    }

    fn begin_file(&self, state: &mut State, start: Position) -> Result<(), SpoolError> {
        let path = self.folder.join(format!("{:016x}.frames", start.number()));
        let failed = |cause| SpoolError::Disk { path: path.clone(), cause };
        // One of this name holds nothing that counts: it was empty, or a failed write emptied it.
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        drop(file);
        let file = OpenOptions::new().append(true).open(&path).map_err(failed)?;
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        state.open = Some(file);
        state.files.push_back(Part { path, start, end: start, bytes: 0 });
        Ok(())
    }

    /// The bytes from `from` on, at least one and at most `most`, up to the end of a frame where that fits; `None`: there are
    /// none. Where the next file of a log of files comes next, the piece begins there; none has bytes of two. Reads from disk: call it from a thread that may block.
    ///
    /// # Errors
    /// When the disk fails or the spool is damaged.
    pub fn read(&self, from: Position, most: usize) -> Result<Option<Piece>, SpoolError> {
        let parts: Vec<Part> = self.state().files.iter().filter(|part| part.end > from).cloned().collect();
        let mut piece: Option<Piece> = None;
        for part in parts {
            if piece.as_ref().is_some_and(|piece| piece.start.plus(piece.bytes.len() as u64) != part.start) {
                break;
            }
            if part.start > from && piece.is_none() && !from.is_followed_by(part.start) {
                let what = format!("it does not hold the log from {from}");
                return Err(SpoolError::Damaged { path: self.folder.clone(), what });
            }
            if !read_part(&part, from, most, &mut piece)? {
                break;
            }
        }
        Ok(piece)
    }

    /// Everything before `until` is archived: files that hold nothing else go.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn release(&self, until: Position) -> Result<(), SpoolError> {
        let mut state = self.state();
        while let Some(first) = state.files.front().filter(|first| first.end <= until) {
            let path = first.path.clone();
            match std::fs::remove_file(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(cause) => return Err(SpoolError::Disk { path, cause }),
            }
            state.files.pop_front();
            if state.files.is_empty() {
                state.open = None;
            }
        }
        Ok(())
    }
}

/// Adds frames of a file to the piece. True: the next file may follow.
fn read_part(
    part: &Part,
    from: Position,
    most: usize,
    piece: &mut Option<Piece>,
) -> Result<bool, SpoolError> {
    let io = |cause| SpoolError::Disk { path: part.path.clone(), cause };
    let damaged = || SpoolError::Damaged { path: part.path.clone(), what: "a frame is damaged".into() };
    let mut file = File::open(&part.path).map_err(io)?;
    let mut offset = 0;
    while offset < part.bytes {
        let mut header = [0; HEADER_BYTES];
        file.read_exact(&mut header).map_err(io)?;
        let frame = Frame::parse(&header).ok_or_else(damaged)?;
        offset += (HEADER_BYTES + frame.length) as u64;
        let end = frame.start.plus(frame.length as u64);
        if end <= from {
            file.seek(SeekFrom::Start(offset)).map_err(io)?;
            continue;
        }
        let have = piece.as_ref().map_or(0, |piece| piece.bytes.len());
        let skip = usize::try_from(from.since(frame.start)).unwrap_or(usize::MAX).min(frame.length);
        let new = frame.length - skip;
        if have > 0 && have + new > most {
            return Ok(false);
        }
        let mut bytes = vec![0; frame.length];
        file.read_exact(&mut bytes).map_err(io)?;
        if sum(&header[..24], &bytes) != frame.sum {
            return Err(damaged());
        }
        let fresh = &bytes[skip..];
        match piece {
            Some(piece) if piece.start.plus(have as u64) != frame.start => return Err(damaged()),
            Some(piece) => {
                piece.bytes.extend_from_slice(fresh);
                piece.sent_at = piece.sent_at.max(frame.sent_at);
            }
            None => {
                let start = from.max(frame.start);
                // One frame alone may be more than was asked for: then it is cut.
                let bytes = fresh[..fresh.len().min(most)].to_vec();
                let is_cut = bytes.len() < fresh.len();
                *piece = Some(Piece { start, bytes, sent_at: frame.sent_at });
                if is_cut {
                    return Ok(false);
                }
            }
        }
    }
    Ok(true)
}

/// How far the frames of a file are whole: their end in the log, in the file, and whether that is all of it.
fn survey(path: &Path, start: Position) -> io::Result<(Position, u64, bool)> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let (mut end, mut offset) = (start, 0);
    while offset < length {
        let mut header = [0; HEADER_BYTES];
        if length - offset < HEADER_BYTES as u64 {
            return Ok((end, offset, false));
        }
        file.read_exact(&mut header)?;
        let Some(frame) = Frame::parse(&header).filter(|frame| frame.start == end) else {
            return Ok((end, offset, false));
        };
        let next = offset + (HEADER_BYTES + frame.length) as u64;
        if next > length {
            return Ok((end, offset, false));
        }
        let mut bytes = vec![0; frame.length];
        file.read_exact(&mut bytes)?;
        if sum(&header[..24], &bytes) != frame.sum {
            return Ok((end, offset, false));
        }
        end = end.plus(frame.length as u64);
        offset = next;
    }
    Ok((end, offset, true))
}

#[cfg(test)]
mod tests;
