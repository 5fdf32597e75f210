//! Reads what is committed into the spool, and sees to it that nothing goes unseen.
//!
//! A checkpoint copies the log file's pages into the database; a writer that finds all of them copied begins the file anew and
//! overwrites it. What was not read by then is gone. We hold a read transaction, whose place in the log file SQLite respects:
//!
//! * Begun while frames are not copied yet, it *marks* its place: the file is not begun anew, and copying stops at the mark.
//! * Begun when all is copied, it reads the database alone: the file may be begun anew, but *nothing of the new file is copied*
//!   while we hold. So what is in it stays in it, and it is not begun anew a second time with frames in it.
//!
//! To be sure that all was read when it is begun, it is begun under the write lock, during which nothing is appended and
//! nothing is begun anew (`hold_exactly`). From then on a file with other salts is the expected next one if no
//! frame came behind those that were read by then; otherwise something went unseen, and that is a gap.
//!
//! Where there is no log file, or an empty one, it has no salts by which it could be told from the next one: whoever closes the
//! database last copies all of it and removes it. So whoever goes on from there compares the database's own file, which nothing
//! but a checkpoint changes.
//!
//! Between two holds there is always one of them: the next transaction begins before the one before ends.
//!
//! POSIX locks belong to a process and a file, and closing *any* descriptor of the file drops them. So the file of the
//! shared index, which carries SQLite's locks, is closed only after the connections are, and nothing else in this process
//! may open the database or its index.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use strongroom_database::Position;
use strongroom_log_spool::Spool;

use crate::wal::{FILE_HEADER, WalHeader};
use crate::{Cursor, Frame, HEADER_BYTES, Record, Shared, SqliteError, WalError, shared};

/// For how long a reader or a recovery is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// The write lock is asked for so often, a millisecond apart: whoever sleeps longer, as SQLite's own waiting does, never gets it
/// from writers that hardly pause.
const ATTEMPTS: i32 = 2000;

/// Frames are read and kept in pieces of about this size.
const PIECE_BYTES: usize = 1 << 20;

/// The header of the shared index is written in microseconds; so often it is looked at again.
const LOOKS: usize = 1000;

/// Those of a log file that is empty, or not there.
const NO_SALTS: [u8; 8] = [0; 8];

/// Follows one database.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    /// The file behind the path when it was opened.
    identity: (u64, u64),
    /// Two that hold, by turns.
    holders: [Connection; 2],
    holding: usize,
    /// For the write lock.
    writer: Connection,
    /// For checkpoints.
    checkpointer: Connection,
    /// Closed behind the connections: fields go in this order.
    index: File,
    log: File,
    header: Option<WalHeader>,
    cursor: Cursor,
    /// Nothing was behind this frame when the hold was begun.
    held_at: Option<u32>,
}

impl Follower {
    /// Opens the database and holds its log file.
    ///
    /// # Errors
    /// When it is missing, in another journal mode, or SQLite refuses.
    pub fn open(path: &Path) -> Result<Self, SqliteError> {
        let found = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file);
        let found = found.ok_or_else(|| SqliteError::Missing { path: path.to_owned() })?;
        let identity = (found.dev(), found.ino());
        let refused = |cause| SqliteError::Refused { doing: "opening", path: path.to_owned(), cause };
        let open = || -> rusqlite::Result<Connection> {
            let connection = Connection::open_with_flags(
                path,
                OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
            )?;
            connection.busy_timeout(PATIENCE)?;
            // Whoever closes last checkpoints and removes the log file: that would be for us to see, and not to do.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            Ok(connection)
        };
        let mut writer = open().map_err(refused)?;
        writer.busy_handler(Some(wait_a_moment)).map_err(refused)?;
        let mode: String = writer.query_row("PRAGMA journal_mode", [], |row| row.get(0)).map_err(refused)?;
        if mode != "wal" {
            return Err(SqliteError::NotWal { path: path.to_owned(), mode });
        }
        let holders = [open().map_err(refused)?, open().map_err(refused)?];
        // Now there are both files.
        begin(&holders[0]).map_err(refused)?;
        let checkpointer = open().map_err(refused)?;
        let beside = |ending: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(ending);
            let beside = PathBuf::from(name);
            File::open(&beside).map_err(|cause| SqliteError::File { path: beside, cause })
        };
        let (index, log) = (beside("-shm")?, beside("-wal")?);
        Ok(Self {
            path: path.to_owned(),
            identity,
            holders,
            holding: 0,
            writer,
            checkpointer,
            index,
            log,
            header: None,
            cursor: Cursor::default(),
            held_at: None,
        })
    }

    /// Where it is.
    #[must_use]
    pub const fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// Begins a log at `start` with what is committed from now on.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn begin_at(&mut self, start: Position, commits: u64) -> Result<(), SqliteError> {
        self.locked(|follower| {
            let now = follower.shared()?;
            follower.cursor = Cursor {
                position: start,
                salts: now.salts,
                frame: now.frames,
                sum: now.sum,
                commits,
                page_bytes: 0,
                file: if now.salts == NO_SALTS { follower.look_of_file()? } else { 0 },
            };
            follower.hold_again()?;
            follower.held_at = Some(now.frames);
            Ok(())
        })
    }

    /// Goes on where `cursor` was, and reads what was committed since.
    ///
    /// # Errors
    /// A gap, when the log file is not the one that was read to there; or when a file fails.
    pub fn go_on(&mut self, cursor: Cursor, spool: &Spool, now: Timestamp) -> Result<(), SqliteError> {
        let shared = self.shared()?;
        self.cursor = cursor;
        if shared.salts != cursor.salts {
            if !self.is_next(&shared)? {
                return Err(self.gap("it is another one than that which was read"));
            }
            self.cursor = Cursor { salts: shared.salts, frame: 0, file: 0, ..cursor };
        } else if cursor.salts == NO_SALTS && cursor.file != self.look_of_file()? {
            return Err(self.gap("there was none, and the database was written to since"));
        } else if shared.frames < cursor.frame {
            return Err(self.gap("frames that were read are gone"));
        } else if cursor.frame > 0 {
            // The sum is over all frames to it: where that is the same, they are.
            let header = self.file_header()?;
            let mut bytes = vec![0; 24];
            self.read(&mut bytes, header.offset(cursor.frame))?;
            let word = |at| crate::wal::number(&bytes, at);
            if header.salts != cursor.salts
                || bytes[8..16] != cursor.salts
                || (word(16), word(20)) != (cursor.sum.0, cursor.sum.1)
            {
                return Err(self.gap("it has other frames than those that were read"));
            }
        }
        // The bulk before the write lock is taken, the rest under it.
        self.catch_up(spool, now)?;
        self.hold_exactly(spool, now)
    }

    /// Whether the log file was begun anew once, and had nothing behind the cursor before that. What it had is proved by what
    /// the new frames have not overwritten yet: the last frame that was read is there, and the place behind it holds none.
    fn is_next(&mut self, shared: &Shared) -> Result<bool, SqliteError> {
        let cursor = self.cursor;
        let first_salt = |salts: &[u8; 8]| crate::wal::number(salts, 0);
        let is_one_on = first_salt(&shared.salts) == first_salt(&cursor.salts).wrapping_add(1);
        if !is_one_on || shared.frames == 0 || shared.frames >= cursor.frame {
            return Ok(false);
        }
        let header = self.file_header()?;
        if header.salts != shared.salts || header.page_bytes != cursor.page_bytes {
            return Ok(false);
        }
        let mut last = [0; 24];
        if self.read(&mut last, header.offset(cursor.frame)).is_err() {
            return Ok(false);
        }
        let word = |at| crate::wal::number(&last, at);
        let is_there = last[8..16] == cursor.salts && (word(16), word(20)) == (cursor.sum.0, cursor.sum.1);
        let before = WalHeader { salts: cursor.salts, ..header };
        let mut behind = vec![0; header.frame_bytes()];
        // Where the file ends nothing was ever written.
        let is_one = self.read(&mut behind, header.offset(cursor.frame + 1)).is_ok()
            && Frame::parse(&behind, &before, cursor.frame + 1, cursor.sum).is_ok();
        Ok(is_there && !is_one)
    }

    /// Reads all that is committed into the spool: durable there when it answers. True: something came.
    ///
    /// # Errors
    /// A gap, or when a file or the spool fails.
    pub fn catch_up(&mut self, spool: &Spool, now: Timestamp) -> Result<bool, SqliteError> {
        let shared = self.shared()?;
        if shared.salts != self.cursor.salts {
            if self.held_at != Some(self.cursor.frame) {
                return Err(self.gap("frames came and went"));
            }
            self.cursor = Cursor { salts: shared.salts, frame: 0, file: 0, ..self.cursor };
            self.header = None;
            self.held_at = Some(0);
        }
        if shared.frames < self.cursor.frame {
            return Err(self.gap("frames that were read are gone"));
        }
        let before = self.cursor.position;
        while self.cursor.frame < shared.frames {
            self.read_piece(&shared, spool, now)?;
        }
        Ok(self.cursor.position > before)
    }

    /// About how many bytes of the log file are in use.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        self.header.map_or(0, |header| header.offset(self.cursor.frame.saturating_add(1)))
    }

    /// How large the log file is.
    #[must_use]
    pub fn log_file_bytes(&self) -> u64 {
        self.log.metadata().map_or(0, |log| log.len())
    }

    /// Whether what it follows is still what lies at this path: files are put in place of others.
    #[must_use]
    pub fn is_at(&self, path: &Path) -> bool {
        // Of all its files the index is open here: it is made anew with the database.
        let mut index = path.as_os_str().to_owned();
        index.push("-shm");
        let one = self.index.metadata().map(|file| (file.dev(), file.ino()));
        let other = std::fs::metadata(index).map(|file| (file.dev(), file.ino()));
        let database = std::fs::metadata(path).map(|file| (file.dev(), file.ino()));
        matches!((one, other), (Ok(one), Ok(other)) if one == other)
            && database.is_ok_and(|database| database == self.identity)
    }

    /// Copies what was read into the database, so that the log file can be begun anew. False: a writer or a reader was in
    /// the way; another time.
    ///
    /// # Errors
    /// As for [`Self::catch_up`].
    pub fn checkpoint(&mut self, spool: &Spool, now: Timestamp) -> Result<bool, SqliteError> {
        self.catch_up(spool, now)?;
        // Most of it before writers have to wait.
        self.hold_again()?;
        self.copy()?;
        match self.locked(|follower| {
            follower.catch_up(spool, now)?;
            follower.hold_again()?;
            let done = follower.copy()?;
            if done {
                follower.hold_again()?;
            }
            follower.held_at = Some(follower.cursor.frame);
            Ok(done)
        }) {
            Err(SqliteError::Refused { cause, .. }) if is_busy(&cause) => Ok(false),
            done => done,
        }
    }

    /// Reads to the end and holds there, while nobody can write.
    fn hold_exactly(&mut self, spool: &Spool, now: Timestamp) -> Result<(), SqliteError> {
        self.locked(|follower| {
            follower.catch_up(spool, now)?;
            follower.hold_again()?;
            follower.held_at = Some(follower.cursor.frame);
            Ok(())
        })
    }

    /// Does something while nobody can write, and nobody begin the log file anew.
    fn locked<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, SqliteError>,
    ) -> Result<T, SqliteError> {
        self.writer.execute_batch("BEGIN IMMEDIATE").map_err(|cause| self.refused("locking", cause))?;
        let done = work(self);
        // Nothing was written in it.
        let ended = self.writer.execute_batch("ROLLBACK").map_err(|cause| self.refused("unlocking", cause));
        let done = done?;
        ended?;
        Ok(done)
    }

    /// Holds at what is committed now, and only then lets go of the hold before.
    fn hold_again(&mut self) -> Result<(), SqliteError> {
        let next = 1 - self.holding;
        begin(&self.holders[next]).map_err(|cause| self.refused("holding", cause))?;
        let ended = self.holders[self.holding].execute_batch("ROLLBACK");
        self.holding = next;
        ended.map_err(|cause| self.refused("holding", cause))
    }

    /// True: all that is in the log file is in the database.
    fn copy(&self) -> Result<bool, SqliteError> {
        let copied = self.checkpointer.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        });
        let (busy, all, done) = copied.map_err(|cause| self.refused("checkpointing", cause))?;
        Ok(busy == 0 && all == done)
    }

    fn read_piece(&mut self, shared: &Shared, spool: &Spool, now: Timestamp) -> Result<(), SqliteError> {
        let header = self.file_header()?;
        let log = |cause| SqliteError::Log { path: self.path.clone(), cause };
        if header.salts != shared.salts {
            return Err(log(WalError::Header));
        }
        let mut cursor = self.cursor;
        if cursor.frame == 0 {
            cursor.sum = header.sum;
        }
        if cursor.page_bytes != 0 && cursor.page_bytes != header.page_bytes {
            return Err(self.gap("it has pages of another size"));
        }
        cursor.page_bytes = header.page_bytes;
        let each = header.frame_bytes();
        let count = (PIECE_BYTES / each).max(1).min((shared.frames - cursor.frame) as usize);
        let mut bytes = vec![0; count * each];
        self.read(&mut bytes, header.offset(cursor.frame + 1))?;
        let mut records = Vec::with_capacity(count * (HEADER_BYTES + header.page_bytes as usize));
        for bytes in bytes.chunks_exact(each) {
            let frame = Frame::parse(bytes, &header, cursor.frame + 1, cursor.sum).map_err(log)?;
            cursor.frame += 1;
            cursor.sum = frame.sum;
            let record = Record {
                page: frame.page,
                pages_after: frame.pages_after,
                commit: cursor.commits + 1,
                received_at: now,
                frame: cursor.frame,
                salts: header.salts,
                sum: frame.sum,
                content: frame.content,
            };
            record.put(&mut records);
            cursor.commits += u64::from(frame.pages_after > 0);
        }
        if cursor.frame == shared.frames && cursor.sum != shared.sum {
            return Err(log(WalError::Sum { frame: cursor.frame }));
        }
        spool.append(cursor.position, now, &records)?;
        cursor.position = cursor.position.plus(records.len() as u64);
        self.cursor = cursor;
        Ok(())
    }

    /// What changes whenever somebody writes to the database's own file.
    fn look_of_file(&self) -> Result<u64, SqliteError> {
        let found = std::fs::metadata(&self.path)
            .map_err(|cause| SqliteError::File { path: self.path.clone(), cause })?;
        let mut hash = blake3::Hasher::new();
        for number in [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()] {
            hash.update(&number.to_le_bytes());
        }
        hash.update(&found.ino().to_le_bytes()).update(&found.len().to_le_bytes());
        let first = *hash.finalize().as_bytes().first_chunk().expect("a hash has 32 bytes");
        Ok(u64::from_le_bytes(first))
    }

    fn shared(&self) -> Result<Shared, SqliteError> {
        let mut bytes = [0; shared::BYTES];
        for _ in 0..LOOKS {
            self.index
                .read_exact_at(&mut bytes, 0)
                .map_err(|cause| SqliteError::File { path: self.path.clone(), cause })?;
            if let Some(shared) = Shared::parse(&bytes) {
                return Ok(shared);
            }
            std::thread::yield_now();
        }
        Err(SqliteError::Log { path: self.path.clone(), cause: WalError::Header })
    }

    fn file_header(&mut self) -> Result<WalHeader, SqliteError> {
        if let Some(header) = self.header {
            return Ok(header);
        }
        let mut bytes = [0; FILE_HEADER];
        self.read(&mut bytes, 0)?;
        let header =
            WalHeader::parse(&bytes).map_err(|cause| SqliteError::Log { path: self.path.clone(), cause })?;
        self.header = Some(header);
        Ok(header)
    }

    fn read(&self, bytes: &mut [u8], at: u64) -> Result<(), SqliteError> {
        let failed = |cause: io::Error| SqliteError::File { path: self.path.clone(), cause };
        self.log.read_exact_at(bytes, at).map_err(failed)
    }

    fn refused(&self, doing: &'static str, cause: rusqlite::Error) -> SqliteError {
        SqliteError::Refused { doing, path: self.path.clone(), cause }
    }

    fn gap(&self, what: &'static str) -> SqliteError {
        SqliteError::Gap { path: self.path.clone(), what }
    }
}

fn wait_a_moment(attempts: i32) -> bool {
    std::thread::sleep(Duration::from_millis(1));
    attempts < ATTEMPTS
}

/// A read transaction begins with the first reading.
fn begin(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema;")
}

fn is_busy(cause: &rusqlite::Error) -> bool {
    matches!(
        cause.sqlite_error_code(),
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked)
    )
}

#[cfg(test)]
mod tests;
