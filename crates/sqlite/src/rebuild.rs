//! A base and records become the database at a commit.
//!
//! SQLite itself brings the base to its own last commit (it replays what is in the base's log file). What the log has from the base's
//! beginning on is then written over it, page by page, whole commits only: pages of commits that the base has already are written
//! again, and come out as the last commit left them. The result is read back and compared, and then SQLite checks it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};
use strongroom_database::Position;

use crate::{HEADER_BYTES, Record, SqliteError, Still};

/// A database that is put together.
#[derive(Debug)]
pub struct Rebuild {
    path: PathBuf,
    file: File,
    /// Commits that begin before it are in.
    cut: Position,
    position: Position,
    rest: Vec<u8>,
    /// Where the commit under way begins.
    begun: Option<Position>,
    /// The newest of each page that was written: 16 bytes of its hash.
    pages: BTreeMap<u32, [u8; 16]>,
    page_bytes: u32,
    last: Option<LastCommit>,
}

/// The last commit that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastCommit {
    /// Its number.
    pub commit: u64,
    /// When it was received.
    pub received_at: Timestamp,
    /// How many pages the database has with it.
    pub pages: u32,
    /// Where it ends in the log.
    pub end: Position,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rebuilt {
    /// The last commit that was written; `None`: there was none to write.
    pub last: Option<LastCommit>,
    /// How many different pages were written, and compared afterwards.
    pub pages: usize,
}

impl Rebuild {
    /// Brings a base to its last commit. The log is wanted from `start` on; commits that begin before `cut` are put in.
    ///
    /// # Errors
    /// When it is no database, or SQLite cannot recover it.
    pub fn prepare(path: &Path, start: Position, cut: Position) -> Result<Self, SqliteError> {
        if !path.is_file() {
            return Err(SqliteError::Missing { path: path.to_owned() });
        }
        let refused = |cause| SqliteError::Refused { doing: "recovering", path: path.to_owned(), cause };
        let base = open(path).map_err(refused)?;
        let copied: (i64, i64, i64) = base
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .map_err(refused)?;
        base.close().map_err(|(_, cause)| refused(cause))?;
        if copied.0 != 0 {
            return Err(differs(path, "its base is in use"));
        }
        let failed = |cause| SqliteError::File { path: path.to_owned(), cause };
        // The last one that closes removes both; what a crash left of them would be taken for newer pages.
        for ending in ["-wal", "-shm"] {
            let mut beside = path.as_os_str().to_owned();
            beside.push(ending);
            match std::fs::remove_file(&beside) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
        }
        Self::go_on(path, start, cut)
    }

    /// Goes on with one that has all commits that end at `start` or before, and of which nothing runs. As for
    /// [`Self::prepare`].
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn go_on(path: &Path, start: Position, cut: Position) -> Result<Self, SqliteError> {
        let failed = |cause| SqliteError::File { path: path.to_owned(), cause };
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            cut,
            position: start,
            rest: Vec::new(),
            begun: None,
            pages: BTreeMap::new(),
            page_bytes: 0,
            last: None,
        })
    }

    /// Takes the bytes of the log that come next.
    ///
    /// # Errors
    /// When they are none, or the disk fails.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), SqliteError> {
        let held = std::mem::take(&mut self.rest);
        let joined = [&held[..], bytes].concat();
        let mut left = &joined[..];
        while let Some((record, behind)) = Record::take(left)? {
            self.record(&record)?;
            left = behind;
        }
        self.rest = left.to_vec();
        Ok(())
    }

    fn record(&mut self, record: &Record<'_>) -> Result<(), SqliteError> {
        let begun = *self.begun.get_or_insert(self.position);
        self.position = self.position.plus((HEADER_BYTES + record.content.len()) as u64);
        if begun < self.cut {
            let page_bytes = u64::from(record.page - 1) * record.content.len() as u64;
            self.file
                .write_all_at(record.content, page_bytes)
                .map_err(|cause| SqliteError::File { path: self.path.clone(), cause })?;
            self.pages.insert(record.page, sum(record.content));
            self.page_bytes = u32::try_from(record.content.len()).unwrap_or_default();
            if record.pages_after > 0 {
                self.last = Some(LastCommit {
                    commit: record.commit,
                    received_at: record.received_at,
                    pages: record.pages_after,
                    end: self.position,
                });
            }
        }
        if record.pages_after > 0 {
            self.begun = None;
        }
        Ok(())
    }

    /// Ends it: the file gets its size, is read back, and checked by SQLite.
    ///
    /// # Errors
    /// When it is not what the log says, or SQLite finds something wrong.
    pub fn finish(self) -> Result<Rebuilt, SqliteError> {
        let path = self.path.clone();
        let rebuilt = self.settle()?;
        Still::open(&path)?.check()?;
        Ok(rebuilt)
    }

    /// The same without SQLite's check: what was written is read back and compared.
    ///
    /// # Errors
    /// When it is not what the log says.
    pub fn settle(mut self) -> Result<Rebuilt, SqliteError> {
        let failed = |cause| SqliteError::File { path: self.path.clone(), cause };
        if self.begun.is_some_and(|begun| begun < self.cut) {
            return Err(differs(&self.path, "the log ends within its last commit"));
        }
        if let Some(last) = self.last {
            let bytes = u64::from(last.pages) * u64::from(self.page_bytes);
            self.file.set_len(bytes).map_err(failed)?;
            // A commit may have cut pages off that an earlier one wrote.
            self.pages.retain(|page, _| *page <= last.pages);
        }
        self.file.sync_all().map_err(failed)?;
        let mut page = vec![0; self.page_bytes as usize];
        for (number, expected) in &self.pages {
            self.file
                .read_exact_at(&mut page, u64::from(number - 1) * u64::from(self.page_bytes))
                .map_err(failed)?;
            if sum(&page) != *expected {
                return Err(differs(&self.path, format!("page {number} reads differently")));
            }
        }
        Ok(Rebuilt { last: self.last, pages: self.pages.len() })
    }
}

fn sum(page: &[u8]) -> [u8; 16] {
    *blake3::hash(page).as_bytes().first_chunk().expect("a hash has 32 bytes")
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
}

fn differs(path: &Path, what: impl Into<String>) -> SqliteError {
    SqliteError::Differs { path: path.to_owned(), what: what.into() }
}
