//! Events out of the bytes of a binary log, in pieces of any size.

use crc32fast::Hasher;

use super::event::{Event, HEADER_BYTES, Header, kind};
use super::place::{FIRST_EVENT, file, offset, place};
use crate::Position;

/// With what every file begins.
pub const MAGIC: &[u8; 4] = b"\xfebin";

/// What is kept of an event. Rows come 8 KiB at a time, or one that is longer; of a longer one nothing is counted.
const KEPT: usize = 1 << 20;

/// What a reader holds on to between events.
const KEPT_BETWEEN: usize = 64 << 10;

const SUM_BYTES: u32 = 4;

/// The log cannot be read on from here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// What should be a file of a binary log is none.
    #[error("what begins at {at} is no file of a binary log")]
    NoFile {
        /// Where it begins.
        at: Position,
    },
    /// The file is of a server that is not understood.
    #[error("the file that begins at {at} was written by {version:?}, and only MariaDB's is understood")]
    Foreign {
        /// Where it begins.
        at: Position,
        /// What it says.
        version: String,
    },
    /// It is encrypted.
    #[error("the binary log is encrypted from {at} on")]
    Encrypted {
        /// Where.
        at: Position,
    },
    /// An event of an impossible length, or that is at another place than it says.
    #[error("the event at {at} of the binary log does not fit where it is")]
    Place {
        /// Where it begins.
        at: Position,
    },
    /// The sum of an event is another one.
    #[error("the event at {at} of the binary log is damaged")]
    Sum {
        /// Where it begins.
        at: Position,
    },
    /// The server noted that something is missing.
    #[error("the server noted at {at} that its binary log lacks something")]
    Incident {
        /// Where.
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

/// Reads the events of a log.
#[derive(Debug)]
pub struct LogReader {
    at: Position,
    /// Whether events have sums; unknown in the middle of a file, until one was seen.
    sums: Option<bool>,
    state: State,
    failed: Option<ReadError>,
}

#[derive(Debug)]
enum State {
    /// Looking for the beginning of an event: the last bytes, in which one may have begun.
    Seeking(Vec<u8>),
    /// In the four bytes that begin a file.
    Magic,
    /// Between events.
    Between,
    /// In an event.
    Within(Box<Under>),
}

/// The event under way.
#[derive(Debug)]
struct Under {
    start: Position,
    head: Vec<u8>,
    header: Option<Header>,
    /// How many bytes of it were read.
    read: u32,
    kept: Vec<u8>,
    sum: Hasher,
    trailer: Vec<u8>,
}

impl LogReader {
    /// Begins at the beginning of a file, or between two events.
    #[must_use]
    pub const fn new(at: Position) -> Self {
        let state = if offset(at) == 0 { State::Magic } else { State::Between };
        Self { at, sums: None, state, failed: None }
    }

    /// Begins anywhere: what is left of an event that began earlier is passed over.
    #[must_use]
    pub const fn anywhere(at: Position) -> Self {
        let state = if offset(at) == 0 { State::Magic } else { State::Seeking(Vec::new()) };
        Self { at, sums: None, state, failed: None }
    }

    /// The next byte it wants.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.at
    }

    /// Where the event under way begins, or the next one will.
    #[must_use]
    pub const fn boundary(&self) -> Position {
        match &self.state {
            State::Within(under) => under.start,
            State::Magic | State::Between | State::Seeking(_) => self.at,
        }
    }

    /// Takes the bytes at `at`, which come next, here or with the next file, and gives each event that ends in them to `take`.
    ///
    /// # Errors
    /// When the log cannot be read on; then the same error comes for ever.
    pub fn push(
        &mut self,
        at: Position,
        bytes: &[u8],
        mut take: impl FnMut(&Event<'_>) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.go_to(at).and_then(|()| self.read(bytes, &mut take));
        if let Err(error) = &result {
            self.failed = Some(error.clone());
        }
        result
    }

    fn go_to(&mut self, at: Position) -> Result<(), ReadError> {
        if at == self.at {
            return Ok(());
        }
        // A server that crashed ends a file wherever it was, but never within an event that it sent to anybody.
        if !self.at.is_followed_by(at) || !matches!(self.state, State::Between | State::Seeking(_)) {
            return Err(ReadError::Jump { given: at, expected: self.at });
        }
        self.at = at;
        self.sums = None;
        self.state = State::Magic;
        Ok(())
    }

    fn read(
        &mut self,
        mut bytes: &[u8],
        take: &mut impl FnMut(&Event<'_>) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        while !bytes.is_empty() {
            let used = match &mut self.state {
                State::Seeking(before) => {
                    let mut known = std::mem::take(before);
                    known.extend_from_slice(bytes);
                    let first =
                        Position::new(self.at.number().saturating_sub((known.len() - bytes.len()) as u64));
                    let found = known.windows(HEADER_BYTES).zip(0_u64..).find(|(window, further)| {
                        window.first_chunk().is_some_and(|head| could_begin(head, first.plus(*further)))
                    });
                    let Some((_, further)) = found else {
                        known.drain(..known.len().saturating_sub(HEADER_BYTES - 1));
                        self.at = self.at.plus(bytes.len() as u64);
                        self.state = State::Seeking(known);
                        return Ok(());
                    };
                    self.at = first.plus(further);
                    self.state = State::Between;
                    let rest = usize::try_from(further).ok().and_then(|further| known.get(further..));
                    return self.read(rest.unwrap_or_default(), take);
                }
                State::Magic => {
                    let from = offset(self.at) as usize;
                    let wanted = MAGIC.get(from..).unwrap_or_default();
                    let used = wanted.len().min(bytes.len());
                    if wanted[..used] != bytes[..used] {
                        return Err(ReadError::NoFile { at: place(file(self.at), 0) });
                    }
                    if used == wanted.len() {
                        self.state = State::Between;
                    }
                    used
                }
                State::Between => {
                    self.state = State::Within(Box::new(Under::new(self.at)));
                    continue;
                }
                State::Within(under) => under.push(bytes)?,
            };
            // Fits: an offset that would not was refused with the header, and so many bytes are in a piece at most.
            self.at = self.at.plus(used as u64);
            bytes = bytes.get(used..).unwrap_or_default();
            self.ended(take)?;
        }
        Ok(())
    }

    /// Gives out the event under way, if it has ended.
    fn ended(&mut self, take: &mut impl FnMut(&Event<'_>) -> Result<(), ReadError>) -> Result<(), ReadError> {
        let State::Within(under) = &mut self.state else { return Ok(()) };
        let Some(header) = under.header.filter(|header| under.read >= header.bytes) else { return Ok(()) };
        let start = under.start;
        if header.kind == kind::FORMAT_DESCRIPTION && offset(start) == FIRST_EVENT {
            self.sums = Some(describes(start, &under.kept, &under.trailer)?);
        }
        let is_right = under.trailer[..] == under.sum.clone().finalize().to_le_bytes();
        let has_sum = *self.sums.get_or_insert(is_right);
        if has_sum && !is_right {
            return Err(ReadError::Sum { at: start });
        }
        if !has_sum {
            let room = KEPT.saturating_sub(under.kept.len());
            let trailer = &under.trailer[..under.trailer.len().min(room)];
            under.kept.extend_from_slice(trailer);
        }
        match header.kind {
            kind::START_ENCRYPTION => return Err(ReadError::Encrypted { at: start }),
            kind::INCIDENT => return Err(ReadError::Incident { at: start }),
            _ => {}
        }
        let sum = if has_sum { SUM_BYTES } else { 0 };
        take(&Event {
            start,
            end: self.at,
            header,
            body: &under.kept,
            body_bytes: (header.bytes - HEADER_LENGTH).saturating_sub(sum),
        })?;
        self.state = State::Between;
        Ok(())
    }
}

/// Whether these bytes can be the header of an event at this place: it says where it ends, which by chance hardly anything does.
fn could_begin(head: &[u8; HEADER_BYTES], at: Position) -> bool {
    Header::read(head).is_some_and(|header| offset(at).checked_add(header.bytes) == Some(header.end))
}

#[expect(clippy::cast_possible_truncation, reason = "19")]
const HEADER_LENGTH: u32 = HEADER_BYTES as u32;

/// Whether the events behind it have sums.
fn describes(at: Position, body: &[u8], trailer: &[u8]) -> Result<bool, ReadError> {
    let version = body.get(2..52).unwrap_or_default();
    let version = version.split(|byte| *byte == 0).next().unwrap_or_default();
    let version = String::from_utf8_lossy(version).into_owned();
    if body.get(..2) != Some(&[4, 0]) || !version.contains("MariaDB") {
        return Err(ReadError::Foreign { at: place(file(at), 0), version });
    }
    // The way of summing is the last byte before its own sum, which always has its place.
    match (body.last(), trailer.len()) {
        (Some(0), 4) => Ok(false),
        (Some(1), 4) => Ok(true),
        _ => Err(ReadError::Foreign { at: place(file(at), 0), version }),
    }
}

impl Under {
    fn new(start: Position) -> Self {
        Self {
            start,
            head: Vec::with_capacity(HEADER_BYTES),
            header: None,
            read: 0,
            kept: Vec::new(),
            sum: Hasher::new(),
            trailer: Vec::with_capacity(4),
        }
    }

    /// Takes bytes of it, and says how many they were.
    fn push(&mut self, bytes: &[u8]) -> Result<usize, ReadError> {
        let Some(header) = self.header else {
            let used = (HEADER_BYTES - self.head.len()).min(bytes.len());
            self.head.extend_from_slice(&bytes[..used]);
            if let Ok(head) = <[u8; HEADER_BYTES]>::try_from(&self.head[..]) {
                self.begin(head)?;
            }
            return Ok(used);
        };
        let body_end = header.bytes.saturating_sub(SUM_BYTES).max(HEADER_LENGTH);
        let is_body = self.read < body_end;
        let wanted = if is_body { body_end - self.read } else { header.bytes - self.read };
        let used = bytes.len().min(wanted as usize);
        let taken = &bytes[..used];
        if is_body {
            self.sum.update(taken);
            let keep = KEPT.saturating_sub(self.kept.len()).min(used);
            if self.kept.is_empty() && wanted as usize <= KEPT_BETWEEN {
                self.kept.reserve_exact(wanted as usize);
            }
            self.kept.extend_from_slice(&taken[..keep]);
        } else {
            self.trailer.extend_from_slice(taken);
        }
        // Fits: at most what the header says.
        self.read += u32::try_from(used).unwrap_or_default();
        Ok(used)
    }

    fn begin(&mut self, mut head: [u8; HEADER_BYTES]) -> Result<(), ReadError> {
        let wrong = ReadError::Place { at: self.start };
        let header = Header::read(&head).ok_or(wrong.clone())?;
        let end = offset(self.start).checked_add(header.bytes);
        // A description may be the one that a crash left "in use"; its sum was made without that flag.
        if end != Some(header.end)
            || (offset(self.start) == FIRST_EVENT) != (header.kind == kind::FORMAT_DESCRIPTION)
        {
            return Err(wrong);
        }
        if header.kind == kind::FORMAT_DESCRIPTION {
            head[17] &= !1;
        }
        self.sum.update(&head);
        self.read = HEADER_LENGTH;
        self.header = Some(header);
        Ok(())
    }
}
