//! Events: a header of 19 bytes, a body, and as a rule a sum.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | when the statement began, seconds since 1970 |
//! | 4 | 1 | kind |
//! | 5 | 4 | `server_id` of the server that wrote it first |
//! | 9 | 4 | bytes of all of it |
//! | 13 | 4 | offset of its end in its file; 0 in what a server makes up for a replica |
//! | 17 | 2 | flags |

use jiff::Timestamp;

use crate::Position;
use crate::postgres::Bytes;

/// How long a header is.
pub const HEADER_BYTES: usize = 19;

/// The longest: `max_allowed_packet` is at most 1 GiB, and an event has little more.
const LONGEST: u32 = 0x4010_0000;

/// The kinds that matter here.
pub mod kind {
    /// A statement, or the end of a transaction of tables that know none.
    pub const QUERY: u8 = 2;
    /// The server stopped.
    pub const STOP: u8 = 3;
    /// The next file goes on.
    pub const ROTATE: u8 = 4;
    /// Goes before a statement.
    pub const INTVAR: u8 = 5;
    /// Goes before a statement.
    pub const RAND: u8 = 13;
    /// Goes before a statement.
    pub const USER_VAR: u8 = 14;
    /// The first of a file.
    pub const FORMAT_DESCRIPTION: u8 = 15;
    /// The transaction commits.
    pub const XID: u8 = 16;
    /// Which table the rows behind it are of.
    pub const TABLE_MAP: u8 = 19;
    /// Rows, in their three kinds.
    pub const ROWS_V1: std::ops::RangeInclusive<u8> = 23..=25;
    /// Something that should be in the log is not.
    pub const INCIDENT: u8 = 26;
    /// A sign of life, in no file.
    pub const HEARTBEAT: u8 = 27;
    /// Rows, in the newer form.
    pub const ROWS_V2: std::ops::RangeInclusive<u8> = 30..=32;
    /// A transaction is prepared for a commit in two phases.
    pub const XA_PREPARE: u8 = 38;
    /// The statement behind the rows, for people.
    pub const ANNOTATE_ROWS: u8 = 160;
    /// From which file on a crash needs them.
    pub const BINLOG_CHECKPOINT: u8 = 161;
    /// A transaction begins.
    pub const GTID: u8 = 162;
    /// What was committed before this file.
    pub const GTID_LIST: u8 = 163;
    /// What follows in the file is encrypted.
    pub const START_ENCRYPTION: u8 = 164;
    /// A statement, compressed.
    pub const QUERY_COMPRESSED: u8 = 165;
    /// Rows, compressed.
    pub const ROWS_COMPRESSED: std::ops::RangeInclusive<u8> = 166..=171;
}

/// The header of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Seconds since 1970.
    pub seconds: u32,
    /// What it is; see [`kind`].
    pub kind: u8,
    /// Who wrote it first.
    pub server: u32,
    /// How long it is with all.
    pub bytes: u32,
    /// The offset of its end in its file, or 0.
    pub end: u32,
    /// Flags.
    pub flags: u16,
}

impl Header {
    /// Reads it. `None`: the length is impossible.
    #[must_use]
    pub fn read(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let mut bytes = Bytes(bytes);
        let header = Self {
            seconds: bytes.u32()?,
            kind: bytes.u8()?,
            server: bytes.u32()?,
            bytes: bytes.u32()?,
            end: bytes.u32()?,
            flags: bytes.u16()?,
        };
        (HEADER_BYTES as u64..=u64::from(LONGEST)).contains(&u64::from(header.bytes)).then_some(header)
    }

    /// Made up by a server for a replica: in no file.
    #[must_use]
    pub const fn is_artificial(&self) -> bool {
        self.flags & 0x20 != 0 || self.end == 0 || self.kind == kind::HEARTBEAT
    }
}

/// An event, as far as it was kept.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// Where it begins.
    pub start: Position,
    /// Where it ends.
    pub end: Position,
    /// Its header.
    pub header: Header,
    /// The beginning of what is behind the header, without the sum.
    pub body: &'a [u8],
    /// How long that is.
    pub body_bytes: u32,
}

impl Event<'_> {
    /// When the statement began, to a second.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        Timestamp::from_second(self.header.seconds.into()).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// All of the body is there.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.body.len() as u64 == self.body_bytes as u64
    }
}
