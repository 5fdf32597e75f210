//! From bytes of the log to its records.
//!
//! The log is a stream of pages; records go through it, begin at multiples of 8, and are cut by the headers of pages. The reader is
//! given bytes in order, in any pieces, and remembers where it is; of a record under way it keeps the beginning (at most
//! [`KEPT`] bytes, commits more) and the sum so far. So its memory does not grow with the log or with a record.

use super::page::{FirstPage, LONG_HEADER, PAGE_BYTES, PageError, PageHeader, SHORT_HEADER, Version};
use super::record::{self, HEADER, Record, manager};
use super::sum::Sum;
use crate::Position;

/// What is kept of a record that says nothing of transactions: enough for the headers of its blocks and small data.
const KEPT: usize = 32 << 10;

/// What is kept of one that does: 16 million subtransactions or a million dropped files.
const KEPT_OF_TRANSACTIONS: usize = 64 << 20;

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Anywhere: what comes before the first page is passed over, and what is left there of a record that began earlier.
    Anywhere(Position),
    /// At the end of a record, as [`LogReader::whole_to`] tells it: nothing is passed over.
    Boundary(Position),
}

/// The log cannot be read on from here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// A page is not what should be there.
    #[error("the page at {at} of the log")]
    Page {
        /// Where it begins.
        at: Position,
        /// What is wrong with it.
        #[source]
        cause: PageError,
    },
    /// A page that should go on with a record does not, or the other way round.
    #[error("the page at {at} of the log does not continue the one before")]
    Broken {
        /// Where it begins.
        at: Position,
    },
    /// A record of an impossible length.
    #[error("the record at {at} of the log says that it has {bytes} bytes")]
    Length {
        /// Where it begins.
        at: Position,
        /// What it says.
        bytes: u32,
    },
    /// Zeros where a record should be: the log was not written so far.
    #[error("the log ends at {at}")]
    End {
        /// Where the next record would begin.
        at: Position,
    },
    /// The sum of a record is another one.
    #[error("the record at {at} of the log is damaged")]
    Sum {
        /// Where it begins.
        at: Position,
    },
    /// A record follows another one than it says.
    #[error("the record at {at} of the log does not follow the one at {before}")]
    Order {
        /// Where it begins.
        at: Position,
        /// The one before it.
        before: Position,
    },
    /// The log is of another server, segment size or version than it was before, or of a timeline that comes later.
    #[error("the page at {at} of the log belongs to another log")]
    Foreign {
        /// Where it begins.
        at: Position,
    },
    /// Bytes were given that do not follow the ones before.
    #[error("bytes at {given} were given where {expected} comes next")]
    Jump {
        /// What was given.
        given: Position,
        /// What comes next.
        expected: Position,
    },
}

/// Reads the log of one timeline, with what it shares with its ancestors.
#[derive(Debug)]
pub struct LogReader {
    /// The next byte.
    at: u64,
    segment_bytes: u64,
    timeline: u32,
    version: Option<Version>,
    system: Option<u64>,
    state: State,
    page: Vec<u8>,
    record: Under,
    last: Option<u64>,
    whole_to: u64,
    page_timeline: u32,
    failed: Option<ReadError>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Passing over bytes until the first page begins, here.
    Before(u64),
    /// In front of the first page.
    Seeking,
    /// Passing over the end of a record whose beginning is unknown.
    Skipping(u64),
    /// Between records.
    Between,
    /// In a record.
    Within,
    /// Passing over zeros until the segment ends.
    Padding(u64),
}

/// The record under way.
#[derive(Debug)]
struct Under {
    start: u64,
    bytes: u32,
    read: u32,
    kept: Vec<u8>,
    sum: Sum,
}

impl LogReader {
    /// Begins to read.
    ///
    /// `version` is needed at a boundary in the middle of a page, and known from the first page otherwise.
    #[must_use]
    pub fn new(start: Start, timeline: u32, segment_bytes: u32, version: Option<Version>) -> Self {
        let (at, state) = match start {
            Start::Anywhere(at) => (at.number(), State::Before(at.number().next_multiple_of(PAGE_BYTES))),
            Start::Boundary(at) => (at.number(), State::Between),
        };
        Self {
            at,
            // A server refuses others, too.
            segment_bytes: u64::from(segment_bytes.clamp(1 << 20, 1 << 30).next_power_of_two()),
            timeline,
            version,
            system: None,
            state,
            page: Vec::with_capacity(LONG_HEADER),
            record: Under { start: at, bytes: 0, read: 0, kept: Vec::new(), sum: Sum::default() },
            last: None,
            whole_to: at,
            page_timeline: timeline,
            failed: None,
        }
    }

    /// The next byte it wants.
    #[must_use]
    pub const fn position(&self) -> Position {
        Position::new(self.at)
    }

    /// Every record that begins before this was given out. The best place to cut the log: a reader can begin here.
    #[must_use]
    pub const fn whole_to(&self) -> Position {
        Position::new(self.whole_to)
    }

    /// Where the last record begins that was given out.
    #[must_use]
    pub const fn last_record(&self) -> Option<Position> {
        match self.last {
            Some(last) => Some(Position::new(last)),
            None => None,
        }
    }

    /// Which server wrote the log, as soon as that is known.
    #[must_use]
    pub const fn version(&self) -> Option<Version> {
        self.version
    }

    /// Whose log it is, as soon as a segment began.
    #[must_use]
    pub const fn system(&self) -> Option<u64> {
        self.system
    }

    /// Takes the bytes at `at`, which are those that come next, and gives each record that ends in them to `take`.
    ///
    /// # Errors
    /// When the log cannot be read on; then the same error comes for ever.
    pub fn push(
        &mut self,
        at: Position,
        bytes: &[u8],
        mut take: impl FnMut(&Record<'_>),
    ) -> Result<(), ReadError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if at.number() != self.at {
            return Err(ReadError::Jump { given: at, expected: self.position() });
        }
        let result = self.read(bytes, &mut take);
        if let Err(error) = &result {
            self.failed = Some(error.clone());
        }
        result
    }

    fn read(&mut self, mut bytes: &[u8], take: &mut impl FnMut(&Record<'_>)) -> Result<(), ReadError> {
        // Each turn takes at least one byte or changes to a state that does, so this ends with the bytes.
        while !bytes.is_empty() {
            let used = match self.state {
                State::Padding(until) if self.at < until => until - self.at,
                State::Padding(_) => {
                    self.state = State::Between;
                    continue;
                }
                State::Before(page) if self.at < page => page - self.at,
                State::Before(_) => {
                    self.state = State::Seeking;
                    continue;
                }
                _ if self.in_header() => self.header(bytes)?,
                // Its first page was passed, or it was in front of one.
                State::Seeking => return Err(ReadError::Broken { at: self.position() }),
                State::Skipping(left) => {
                    let used = left.min(self.room()).min(bytes.len() as u64);
                    if used == left {
                        self.between(self.at + used);
                    } else {
                        self.state = State::Skipping(left - used);
                    }
                    used
                }
                State::Between if !self.at.is_multiple_of(8) => 8 - self.at % 8,
                State::Between => {
                    self.begin();
                    continue;
                }
                State::Within => self.within(bytes)?,
            };
            let used = used.min(bytes.len() as u64);
            self.at += used;
            bytes = bytes.get(usize::try_from(used).unwrap_or(bytes.len())..).unwrap_or_default();
            self.ended(take)?;
        }
        Ok(())
    }

    /// What is left of this page.
    const fn room(&self) -> u64 {
        PAGE_BYTES - self.at % PAGE_BYTES
    }

    fn header_bytes(&self) -> usize {
        let page = self.at - self.at % PAGE_BYTES;
        if page.is_multiple_of(self.segment_bytes) { LONG_HEADER } else { SHORT_HEADER }
    }

    fn in_header(&self) -> bool {
        (self.at % PAGE_BYTES) < self.header_bytes() as u64
    }

    fn header(&mut self, bytes: &[u8]) -> Result<u64, ReadError> {
        let wanted = self.header_bytes();
        let offset = usize::try_from(self.at % PAGE_BYTES).unwrap_or_default();
        if offset == 0 {
            self.page.clear();
        }
        let used = (wanted - offset).min(bytes.len());
        self.page.extend_from_slice(&bytes[..used]);
        // A boundary inside of a header cannot be: records begin behind it.
        if offset + used == wanted && self.page.len() == wanted {
            self.page_begins(self.at - offset as u64)?;
        }
        Ok(used as u64)
    }

    fn page_begins(&mut self, page: u64) -> Result<(), ReadError> {
        let at = Position::new(page);
        let header = PageHeader::read(&self.page).map_err(|cause| match (cause, self.state) {
            // Where a record could begin and nothing was written the log just ends.
            (PageError::Blank, State::Between) => ReadError::End { at },
            _ => ReadError::Page { at, cause },
        })?;
        if header.position != page {
            let cause = PageError::Position(Position::new(header.position));
            return Err(ReadError::Page { at, cause });
        }
        let same = |first: FirstPage| {
            u64::from(first.segment_bytes) == self.segment_bytes
                && u64::from(first.page_bytes) == PAGE_BYTES
                && self.system.is_none_or(|system| system == first.system)
        };
        let version = self.version.is_none_or(|version| version == header.version);
        if !version || header.timeline > self.timeline || header.first.is_some_and(|first| !same(first)) {
            return Err(ReadError::Foreign { at });
        }
        self.version = Some(header.version);
        self.system = self.system.or(header.first.map(|first| first.system));
        self.page_timeline = header.timeline;
        let behind = page + self.page.len() as u64;
        match (self.state, header.continues) {
            (State::Seeking, Some(left)) => self.state = State::Skipping(u64::from(left)),
            (State::Skipping(left), Some(says)) if u64::from(says) == left => {}
            (State::Within, Some(says)) if says == self.record.bytes.wrapping_sub(self.record.read) => {}
            // The server crashed within the record and began another one in the place of the rest.
            (State::Within | State::Skipping(_), None) if header.overwrites => self.between(behind),
            (State::Seeking, None) => self.between(behind),
            (State::Between, None) => {}
            _ => return Err(ReadError::Broken { at }),
        }
        Ok(())
    }

    /// A record may begin at `at`, or at the next multiple of 8.
    fn between(&mut self, at: u64) {
        self.state = State::Between;
        self.whole_to = at.saturating_add(7) & !7;
    }

    fn begin(&mut self) {
        self.state = State::Within;
        self.record.start = self.at;
        self.record.bytes = 0;
        self.record.read = 0;
        self.record.kept.clear();
        // A long record must not hold its memory for ever.
        self.record.kept.shrink_to(KEPT);
        self.record.sum = Sum::default();
    }

    fn within(&mut self, bytes: &[u8]) -> Result<u64, ReadError> {
        let under = &mut self.record;
        let room = usize::try_from(PAGE_BYTES - self.at % PAGE_BYTES).unwrap_or_default();
        let read = usize::try_from(under.read).unwrap_or(usize::MAX);
        let wanted = if read < HEADER { HEADER - read } else { (under.bytes as usize).saturating_sub(read) };
        let used = wanted.min(room).min(bytes.len());
        let bytes = &bytes[..used];
        let most = match under.kept.get(17) {
            Some(&(manager::TRANSACTION | manager::XLOG)) => KEPT_OF_TRANSACTIONS,
            _ => KEPT,
        };
        let keep = most.saturating_sub(under.kept.len()).min(used);
        under.kept.extend_from_slice(&bytes[..keep]);
        if read >= HEADER {
            under.sum.update(bytes);
        }
        // Fits: at most a page.
        under.read += u32::try_from(used).unwrap_or_default();
        // The length lies within the first page, as records begin at multiples of 8.
        if read < 4 && under.read >= 4 {
            let length = under.kept.first_chunk::<4>().copied().map(u32::from_le_bytes).unwrap_or_default();
            let at = Position::new(under.start);
            match length {
                0 => return Err(ReadError::End { at }),
                24..=record::LONGEST => under.bytes = length,
                _ => return Err(ReadError::Length { at, bytes: length }),
            }
        }
        Ok(used as u64)
    }

    /// Gives out the record under way, if it has ended.
    fn ended(&mut self, take: &mut impl FnMut(&Record<'_>)) -> Result<(), ReadError> {
        let under = &mut self.record;
        if self.state != State::Within || under.bytes < 24 || under.read < under.bytes {
            return Ok(());
        }
        let at = Position::new(under.start);
        let field = |from: usize| under.kept.get(from..from + 4).and_then(|four| four.try_into().ok());
        let number = |from: usize| field(from).map(u32::from_le_bytes).unwrap_or_default();
        let (transaction, sum) = (number(4), number(20));
        let before = u64::from(number(8)) | u64::from(number(12)) << 32;
        let (info, manager) = (under.kept.get(16).copied(), under.kept.get(17).copied());
        let (info, manager) = (info.unwrap_or_default(), manager.unwrap_or_default());
        // The sum goes over the body first and then over the header up to the sum.
        under.sum.update(under.kept.get(..20).unwrap_or_default());
        if under.sum.value() != sum {
            return Err(ReadError::Sum { at });
        }
        if let Some(last) = self.last.filter(|last| *last != before) {
            return Err(ReadError::Order { at, before: Position::new(last) });
        }
        // A version is known by now: a page has begun, or it was told. Without it nothing can be taken apart.
        let Some(version) = self.version else { return Err(ReadError::Foreign { at }) };
        // Behind the switch to another segment there is nothing in this one.
        let switched = manager == manager::XLOG && info & 0xF0 == 0x40;
        let segment = self.segment_bytes;
        let end = if switched { self.at.div_ceil(segment).saturating_mul(segment) } else { self.at };
        take(&Record {
            start: at,
            end: Position::new(end),
            version,
            timeline: self.page_timeline,
            transaction,
            manager,
            info,
            body: under.kept.get(HEADER..).unwrap_or_default(),
            body_bytes: under.bytes - 24,
        });
        self.last = Some(under.start);
        self.between(end);
        if switched {
            self.state = State::Padding(end);
        }
        Ok(())
    }
}
