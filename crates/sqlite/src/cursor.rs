//! Where following was, on disk beside the spool: 56 bytes and a hash over them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use strongroom_database::Position;
use strongroom_log_spool::Spool;

use crate::{HEADER_BYTES, Record, Sum};

const MAGIC: &[u8; 8] = b"SRSQLCU1";
const BYTES: usize = 56;

/// A place in SQLite's log file and in ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// Where our log ends.
    pub position: Position,
    /// The salts of the log file.
    pub salts: [u8; 8],
    /// The last frame that was read; 0: none.
    pub frame: u32,
    /// Its sum.
    pub sum: Sum,
    /// How many commits there were. A frame that is read next belongs to the next.
    pub commits: u64,
    /// Bytes of a page; 0 while nothing was read.
    pub page_bytes: u32,
    /// While there is no log file, which has no salts then: what the database's own file looked like (see
    /// [`crate::follower`]); else 0.
    pub file: u64,
}

impl Cursor {
    /// Writes it in place of the one before; what a crash leaves is the one or the other.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let fresh = path.with_extension("new");
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
        let mut bytes = Vec::with_capacity(BYTES + 8);
        bytes.extend(MAGIC);
        bytes.extend(self.position.number().to_le_bytes());
        bytes.extend(self.salts);
        bytes.extend(self.frame.to_le_bytes());
        bytes.extend(self.sum.0.to_le_bytes());
        bytes.extend(self.sum.1.to_le_bytes());
        bytes.extend(self.commits.to_le_bytes());
        bytes.extend(self.page_bytes.to_le_bytes());
        bytes.extend(self.file.to_le_bytes());
        debug_assert_eq!(bytes.len(), BYTES);
        let hash = blake3::hash(&bytes);
        bytes.extend(&hash.as_bytes()[..8]);
        file.write_all(&bytes)?;
        // Without a sync: after a power failure the spool's last record says more, or a new log begins.
        std::fs::rename(fresh, path)
    }

    /// Where a log that ends at `end` goes on: as it was written down, or as the last record in the spool says. `None`: neither
    /// knows.
    #[must_use]
    pub fn resume(path: &Path, spool: &Spool, end: Position) -> Option<Self> {
        if let Some(written) = Self::read(path).filter(|cursor| cursor.position == end) {
            return Some(written);
        }
        let (start, _) = spool.range().filter(|(_, kept)| *kept == end)?;
        let first = spool.read(start, HEADER_BYTES).ok()??;
        let page_bytes = first.bytes.get(28..32)?.try_into().ok().map(u32::from_le_bytes)?;
        let record_bytes = HEADER_BYTES + usize::try_from(page_bytes).ok()?;
        let last = Position::new(end.number().checked_sub(record_bytes as u64)?);
        let piece = spool.read(last.max(start), record_bytes).ok()??;
        let (record, _) = Record::take(&piece.bytes).ok()??;
        let commits = if record.pages_after > 0 { record.commit } else { record.commit.checked_sub(1)? };
        let Record { salts, frame, sum, .. } = record;
        Some(Self { position: end, salts, frame, sum, commits, page_bytes, file: 0 })
    }

    /// Reads it; `None`: there is none that is whole.
    #[must_use]
    pub fn read(path: &Path) -> Option<Self> {
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(File::open(path).ok()?, 256), &mut bytes).ok()?;
        let (head, sum) = bytes.split_at_checked(BYTES)?;
        if &head[..8] != MAGIC || blake3::hash(head).as_bytes()[..8] != *sum {
            return None;
        }
        let word = |at: usize| head[at..at + 4].try_into().map_or(0, u32::from_le_bytes);
        let long = |at: usize| head[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
        Some(Self {
            position: Position::new(long(8)),
            salts: head[16..24].try_into().unwrap_or_default(),
            frame: word(24),
            sum: Sum(word(28), word(32)),
            commits: long(36),
            page_bytes: word(44),
            file: long(48),
        })
    }
}
