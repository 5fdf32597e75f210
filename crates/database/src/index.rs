//! The commit index as it is stored: what a stretch of log says, beside its bytes.
//!
//! Written while the log comes in and only ever appended to; each stretch has its own, which is understood by itself.
//! docs/format.md, section 16, has every byte. A commit takes about ten bytes, the log that it stands for some
//! hundreds.
//!
//! | bytes | field |
//! |---|---|
//! | 2 | version, u16 = 1 |
//! | 2 | zero |
//! | 4 | lineage, u32 |
//! | 8 | origin, u64: the position from which the first entry's end is counted |
//! | … | entries |

use jiff::Timestamp;

use crate::postgres::{LogReader, ReadError, Record, Start, Version};
use crate::{Changes, Commit, Ended, Entry, LineageId, NamedPoint, Position, Statements, TransactionId};

mod numbers;
mod stretch;

use numbers::{Input, put, signed, unsigned};
pub use stretch::{Indexed, Stretch};

const VERSION: u16 = 1;
const HEADER: usize = 16;

/// Names are cut to this by who writes them: PostgreSQL's have 63 bytes.
const LONGEST_NAME: usize = 1024;

/// Set beside the kind of an entry: its transaction is a global one.
const GLOBAL: u8 = 0x80;

mod kind {
    pub(super) const COMMIT: u8 = 1;
    pub(super) const ROLLED_BACK: u8 = 2;
    pub(super) const PREPARED: u8 = 3;
    pub(super) const NAMED: u8 = 4;
    pub(super) const CHECKPOINT: u8 = 5;
    pub(super) const BEGAN: u8 = 6;
}

mod changes {
    pub(super) const ROWS: u8 = 1;
    pub(super) const FILES: u8 = 2;
    pub(super) const STATEMENTS: u8 = 4;
    pub(super) const PARTIAL: u8 = 8;
}

/// Writes an index.
#[derive(Debug)]
pub struct IndexWriter {
    bytes: Vec<u8>,
    last: Last,
}

/// What the next entry is told against.
#[derive(Debug, Clone, Copy, Default)]
struct Last {
    end: u64,
    at: i64,
    number: u64,
}

impl IndexWriter {
    /// Begins an index of a history; all records that it will name end behind `origin`.
    #[must_use]
    pub fn new(lineage: LineageId, origin: Position) -> Self {
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend([0; 2]);
        bytes.extend(lineage.0.to_le_bytes());
        bytes.extend(origin.number().to_le_bytes());
        Self { bytes, last: Last { end: origin.number(), ..Last::default() } }
    }

    /// Appends an entry; those before it end before it.
    pub fn push(&mut self, entry: &Entry) {
        let (kind, transaction) = match entry {
            Entry::Commit(commit) => (kind::COMMIT, Some(commit.transaction)),
            Entry::RolledBack(ended) => (kind::ROLLED_BACK, Some(ended.transaction)),
            Entry::Prepared(ended) => (kind::PREPARED, Some(ended.transaction)),
            Entry::Named(_) => (kind::NAMED, None),
            Entry::Checkpoint { .. } => (kind::CHECKPOINT, None),
            Entry::Began { .. } => (kind::BEGAN, None),
        };
        let global = matches!(transaction, Some(TransactionId::Global { .. }));
        self.bytes.push(if global { kind | GLOBAL } else { kind });
        let (end, at) = (entry.end().number(), entry.at().as_microsecond());
        put(&mut self.bytes, end.saturating_sub(self.last.end));
        put(&mut self.bytes, end.saturating_sub(entry.start().number()));
        put(&mut self.bytes, unsigned(at.wrapping_sub(self.last.at)));
        self.last = Last { end, at, number: self.last.number };
        match transaction {
            Some(TransactionId::Number(number)) => {
                put(&mut self.bytes, unsigned(number.wrapping_sub(self.last.number).cast_signed()));
                self.last.number = number;
            }
            Some(TransactionId::Global { source, sequence }) => {
                self.bytes.extend(source.to_le_bytes());
                put(&mut self.bytes, sequence);
            }
            None => {}
        }
        match entry {
            Entry::Commit(commit) => self.changes(&commit.changes),
            Entry::Named(point) => {
                let name = &point.name[..point.name.floor_char_boundary(LONGEST_NAME)];
                put(&mut self.bytes, name.len() as u64);
                self.bytes.extend(name.as_bytes());
            }
            Entry::Checkpoint { redo, .. } => put(&mut self.bytes, redo.number()),
            Entry::Began { lineage, parent, .. } => {
                put(&mut self.bytes, u64::from(lineage.0));
                put(&mut self.bytes, u64::from(parent.0));
            }
            Entry::RolledBack(_) | Entry::Prepared(_) => {}
        }
    }

    fn changes(&mut self, of: &Changes) {
        let flag = |bit, yes| if yes { bit } else { 0 };
        let rows = of.inserted > 0 || of.updated > 0 || of.deleted > 0;
        self.bytes.push(
            flag(changes::ROWS, rows)
                | flag(changes::FILES, of.files_dropped > 0)
                | flag(changes::STATEMENTS, !of.statements.is_empty())
                | flag(changes::PARTIAL, of.partial),
        );
        if rows {
            for count in [of.inserted, of.updated, of.deleted] {
                put(&mut self.bytes, u64::from(count));
            }
        }
        if of.files_dropped > 0 {
            put(&mut self.bytes, u64::from(of.files_dropped));
        }
        if !of.statements.is_empty() {
            self.bytes.push(of.statements.bits());
        }
    }

    /// The index so far, whole at any time.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// An index that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The history.
    pub lineage: LineageId,
    /// What the log says, in its order.
    pub entries: Vec<Entry>,
}

/// The bytes are no index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// Another version.
    #[error("a commit index of version {0}, which is not known here")]
    Version(u16),
    /// It contradicts itself.
    #[error("the commit index is damaged at byte {0}")]
    Damaged(usize),
}

impl Index {
    /// Reads an index.
    ///
    /// # Errors
    /// When it is damaged or of another version.
    pub fn read(bytes: &[u8]) -> Result<Self, IndexError> {
        let mut input = Input(bytes);
        let damaged = |input: &Input<'_>| IndexError::Damaged(bytes.len() - input.0.len());
        let version = input.array().map(u16::from_le_bytes).ok_or(IndexError::Damaged(0))?;
        if version != VERSION {
            return Err(IndexError::Version(version));
        }
        let header = |input: &mut Input<'_>| {
            let zero = input.array::<2>()?;
            let lineage = input.array().map(u32::from_le_bytes)?;
            let origin = input.array().map(u64::from_le_bytes)?;
            (zero == [0; 2]).then_some((LineageId(lineage), origin))
        };
        let (lineage, origin) = header(&mut input).ok_or_else(|| damaged(&input))?;
        let mut last = Last { end: origin, ..Last::default() };
        let mut entries = Vec::new();
        while !input.0.is_empty() {
            let at = damaged(&input);
            entries.push(entry(&mut input, &mut last).ok_or(at)?);
        }
        Ok(Self { lineage, entries })
    }

    /// The commits, in the order of the log.
    #[must_use]
    pub fn commits(&self) -> Vec<Commit> {
        let commit = |entry: &Entry| if let Entry::Commit(commit) = entry { Some(*commit) } else { None };
        self.entries.iter().filter_map(commit).collect()
    }

    /// The named points, in the order of the log.
    #[must_use]
    pub fn named_points(&self) -> Vec<NamedPoint> {
        let named = |entry: &Entry| if let Entry::Named(point) = entry { Some(point.clone()) } else { None };
        self.entries.iter().filter_map(named).collect()
    }
}

fn entry(input: &mut Input<'_>, last: &mut Last) -> Option<Entry> {
    let kind = input.byte()?;
    let end = last.end.checked_add(input.number().filter(|further| *further > 0)?)?;
    let start = Position::new(end.checked_sub(input.number().filter(|bytes| *bytes > 0)?)?);
    let stamp = last.at.checked_add(signed(input.number()?))?;
    let at = Timestamp::from_microsecond(stamp).ok()?;
    (last.end, last.at) = (end, stamp);
    let end = Position::new(end);
    let mut ended = |input: &mut Input<'_>| {
        let transaction = if kind & GLOBAL == 0 {
            last.number = last.number.wrapping_add(signed(input.number()?).cast_unsigned());
            TransactionId::Number(last.number)
        } else {
            let source = input.array().map(u128::from_le_bytes)?;
            TransactionId::Global { source, sequence: input.number()? }
        };
        Some(Ended { start, end, at, transaction })
    };
    match kind {
        kind::NAMED => {
            let bytes = usize::try_from(input.number()?).ok().filter(|bytes| *bytes <= LONGEST_NAME)?;
            let name = std::str::from_utf8(input.take(bytes)?).ok()?.to_owned();
            Some(Entry::Named(NamedPoint { name, start, end, at }))
        }
        kind::CHECKPOINT => Some(Entry::Checkpoint { start, end, at, redo: Position::new(input.number()?) }),
        kind::BEGAN => {
            let mut lineage = || Some(LineageId(u32::try_from(input.number()?).ok()?));
            Some(Entry::Began { start, end, at, lineage: lineage()?, parent: lineage()? })
        }
        _ => match kind & !GLOBAL {
            kind::COMMIT => {
                let Ended { transaction, .. } = ended(input)?;
                Some(Entry::Commit(Commit { start, end, at, transaction, changes: read_changes(input)? }))
            }
            kind::ROLLED_BACK => ended(input).map(Entry::RolledBack),
            kind::PREPARED => ended(input).map(Entry::Prepared),
            _ => None,
        },
    }
}

fn read_changes(input: &mut Input<'_>) -> Option<Changes> {
    let flags = input.byte().filter(|flags| *flags < 16)?;
    let mut count = |yes: bool| {
        if yes { u32::try_from(input.number()?).ok() } else { Some(0) }
    };
    let rows = flags & changes::ROWS != 0;
    let (inserted, updated, deleted) = (count(rows)?, count(rows)?, count(rows)?);
    let files = flags & changes::FILES != 0;
    let files_dropped = count(files)?;
    // What is said to be there is there: an index has one form.
    let empty = (rows && inserted == 0 && updated == 0 && deleted == 0) || (files && files_dropped == 0);
    let statements = if flags & changes::STATEMENTS == 0 {
        Statements::NONE
    } else {
        Statements::from_bits(input.byte()?).filter(|statements| !statements.is_empty())?
    };
    let partial = flags & changes::PARTIAL != 0;
    (!empty).then_some(Changes { inserted, updated, deleted, files_dropped, statements, partial })
}

/// Reads PostgreSQL's log as it comes in, and makes the index of each stretch of it.
#[derive(Debug)]
pub struct Indexer {
    lineage: LineageId,
    reader: LogReader,
    interpreter: crate::postgres::Interpreter,
    stretch: Stretch,
}

impl Indexer {
    /// Begins to read the log of this history; see [`LogReader::new`].
    #[must_use]
    pub fn new(start: Start, lineage: LineageId, segment_bytes: u32, version: Option<Version>) -> Self {
        let reader = LogReader::new(start, lineage.0, segment_bytes, version);
        let stretch = Stretch::new(lineage, reader.position());
        Self { lineage, reader, interpreter: crate::postgres::Interpreter::default(), stretch }
    }

    /// The reader, which says what it wants next and up to where all is whole.
    #[must_use]
    pub const fn reader(&self) -> &LogReader {
        &self.reader
    }

    /// Takes the bytes that come next.
    ///
    /// # Errors
    /// When the log cannot be read on; what came before counts.
    pub fn push(&mut self, at: Position, bytes: &[u8]) -> Result<(), ReadError> {
        let (interpreter, stretch) = (&mut self.interpreter, &mut self.stretch);
        self.reader.push(at, bytes, |record: &Record<'_>| {
            stretch.record(record.start);
            if let Some(entry) = interpreter.entry(record) {
                stretch.push(&entry);
            }
        })
    }

    /// Ends the stretch where the reader is, and begins the next one there. To forget what only led up to a stretch
    /// (after a restart, from the page before it on), end it here and drop the answer.
    pub fn cut(&mut self) -> Indexed {
        let next = Stretch::new(self.lineage, self.reader.position());
        // Behind a switch the next record is a segment away.
        let whole_to = self.reader.whole_to().min(self.reader.position());
        std::mem::replace(&mut self.stretch, next).finish(whole_to)
    }
}

#[cfg(test)]
mod tests;
