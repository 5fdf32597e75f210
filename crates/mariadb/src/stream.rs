//! The binary log as it comes, put together to the bytes of the server's files.
//!
//! A server sends events, and makes some up: a rotation before each file, a description before a stream that begins in the
//! middle of one, signs of life. Those are in no file and are left out; the four bytes that begin a file are put in.

use std::collections::VecDeque;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use strongroom_database::Position;
use strongroom_database::mariadb::{
    FIRST_EVENT, HEADER_BYTES, Header, LogReader, MAGIC, ReadError, file, file_number, kind, offset, place,
};

use crate::connection::refusal;
use crate::server::file_name;
use crate::wire::LONGEST;
use crate::{Connection, MariadbError};

/// Send also what is only for people: every byte of the files is wanted.
const SEND_ANNOTATIONS: u16 = 2;

/// How often the server gives a sign of life when it has nothing to say, in nanoseconds.
const HEARTBEAT_NANOSECONDS: u64 = 5_000_000_000;

/// Something that is known at the place where a stream begins: the first transaction has to be this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// Its name, such as `0-1-270`.
    pub transaction: String,
    /// When it was written, seconds since 1970.
    pub seconds: i64,
}

/// What comes in a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of a file.
    Log {
        /// Where they begin.
        start: Position,
        /// The bytes.
        bytes: Bytes,
    },
    /// A sign of life.
    Alive,
}

/// A stream.
#[derive(Debug)]
pub struct LogStream {
    connection: Connection,
    /// The next byte.
    at: Position,
    /// Checks every byte: its place, and the sums.
    reader: LogReader,
    anchor: Option<Anchor>,
    /// The packet that comes next goes on with an event.
    continues: bool,
    ready: VecDeque<Piece>,
}

impl Connection {
    /// Begins to stream at the beginning of a file (offset 0) or where a transaction begins. `replica` is the number by which the
    /// server tells its replicas apart.
    ///
    /// # Errors
    /// When the server refuses. That it does not have the place is said by the first piece.
    pub async fn stream(
        mut self,
        log_name: &str,
        from: Position,
        anchor: Option<Anchor>,
        replica: u32,
        application: &str,
    ) -> Result<LogStream, MariadbError> {
        for setting in [
            format!("SET @master_heartbeat_period = {HEARTBEAT_NANOSECONDS}"),
            // Whatever it writes: nothing is summed or left out for us.
            "SET @master_binlog_checksum = @@global.binlog_checksum".to_owned(),
            "SET @mariadb_slave_capability = 4".to_owned(),
        ] {
            self.ask("to be a replica", &setting).await?;
        }
        let mut body = BytesMut::new();
        body.put_u32_le(replica);
        for text in [application, "", ""] {
            let text = &text.as_bytes()[..text.len().min(60)];
            body.put_u8(u8::try_from(text.len()).unwrap_or_default());
            body.put_slice(text);
        }
        body.put_bytes(0, 2 + 4 + 4);
        self.talk.command(0x15, &body).await?;
        self.answer("to be a replica").await?;
        let mut body = BytesMut::new();
        body.put_u32_le(offset(from).max(FIRST_EVENT));
        body.put_u16_le(SEND_ANNOTATIONS);
        body.put_u32_le(replica);
        body.put_slice(file_name(log_name, from).as_bytes());
        self.talk.command(0x12, &body).await?;
        let mut ready = VecDeque::new();
        let mut reader = LogReader::new(from);
        let at = if offset(from) == 0 { begin_file(&mut ready, &mut reader, from)? } else { from };
        Ok(LogStream { connection: self, at, reader, anchor, continues: false, ready })
    }
}

/// The bytes with which every file begins.
fn begin_file(
    ready: &mut VecDeque<Piece>,
    reader: &mut LogReader,
    start: Position,
) -> Result<Position, MariadbError> {
    reader.push(start, MAGIC, |_| Ok(())).map_err(|error| wrong(&error))?;
    ready.push_back(Piece::Log { start, bytes: Bytes::from_static(MAGIC) });
    Ok(start.plus(MAGIC.len() as u64))
}

fn wrong(error: &ReadError) -> MariadbError {
    match error {
        ReadError::Incident { at } => MariadbError::Incident { at: *at },
        ReadError::NoFile { at }
        | ReadError::Foreign { at, .. }
        | ReadError::Encrypted { at }
        | ReadError::Place { at }
        | ReadError::Sum { at }
        | ReadError::Jump { given: at, .. } => MariadbError::NotNext { at: *at, what: error.to_string() },
    }
}

impl LogStream {
    /// What comes next. May be dropped while it waits: nothing is lost.
    ///
    /// # Errors
    /// When the connection breaks, or the server sends what does not follow.
    pub async fn next(&mut self) -> Result<Piece, MariadbError> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Ok(piece);
            }
            let packet = self.connection.talk.wire.next().await;
            let packet = packet.map_err(|cause| self.connection.talk.broken(cause))?;
            self.understand(packet)?;
        }
    }

    /// What is here already, without waiting.
    ///
    /// # Errors
    /// As for [`Self::next`].
    pub fn ready(&mut self) -> Result<Option<Piece>, MariadbError> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Ok(Some(piece));
            }
            let packet = self.connection.talk.wire.ready();
            let Some(packet) = packet.map_err(|cause| self.connection.talk.broken(cause))? else {
                return Ok(None);
            };
            self.understand(packet)?;
        }
    }

    fn understand(&mut self, mut packet: Bytes) -> Result<(), MariadbError> {
        let goes_on = packet.len() == LONGEST;
        if std::mem::replace(&mut self.continues, goes_on) {
            return self.take(packet);
        }
        match packet.first() {
            Some(0x00) => packet.advance(1),
            Some(0xFF) => return Err(self.refused(packet)),
            _ => {
                let cause =
                    std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the server ended the stream");
                return Err(self.connection.talk.broken(cause));
            }
        }
        let head = packet.first_chunk::<HEADER_BYTES>().and_then(Header::read);
        let Some(header) = head else {
            return Err(self.connection.talk.protocol("an event that is none"));
        };
        if !header.is_artificial() {
            self.begins(&header)?;
            return self.take(packet);
        }
        match header.kind {
            kind::ROTATE => self.rotate(&packet),
            kind::HEARTBEAT => {
                self.ready.push_back(Piece::Alive);
                Ok(())
            }
            // The description of a file that is begun in its middle, and lists for who asks by names.
            _ => Ok(()),
        }
    }

    /// The first transaction is the one that is known.
    fn begins(&mut self, header: &Header) -> Result<(), MariadbError> {
        let Some(anchor) = self.anchor.as_ref() else { return Ok(()) };
        if header.kind != kind::GTID || i64::from(header.seconds) != anchor.seconds {
            let what = format!("transaction {} is not there any more", anchor.transaction);
            return Err(MariadbError::OtherHistory { at: self.at, what });
        }
        Ok(())
    }

    /// Bytes of a file.
    fn take(&mut self, bytes: Bytes) -> Result<(), MariadbError> {
        let (start, anchor) = (self.at, &mut self.anchor);
        let mut other = None;
        self.reader
            .push(start, &bytes, |event| {
                let Some(known) = anchor.take() else { return Ok(()) };
                let mut body = event.body;
                let found = (|| {
                    let (sequence, domain) = (body.try_get_u64_le().ok()?, body.try_get_u32_le().ok()?);
                    Some(format!("{domain}-{}-{sequence}", event.header.server))
                })();
                if found.as_ref() != Some(&known.transaction) {
                    let found = found.unwrap_or_default();
                    other = Some(format!("transaction {found} is where {} was", known.transaction));
                }
                Ok(())
            })
            .map_err(|error| wrong(&error))?;
        if let Some(what) = other {
            return Err(MariadbError::OtherHistory { at: start, what });
        }
        self.at = start.plus(bytes.len() as u64);
        if !bytes.is_empty() {
            self.ready.push_back(Piece::Log { start, bytes });
        }
        Ok(())
    }

    /// The server goes on with a file: the one that is asked for, or the next.
    fn rotate(&mut self, packet: &Bytes) -> Result<(), MariadbError> {
        let name = packet.get(HEADER_BYTES + 8..).unwrap_or_default();
        // Behind the name there may be a sum of four bytes, or none: what it is shows in what it leads to.
        let named = |name: &[u8]| std::str::from_utf8(name).ok().and_then(file_number);
        let without_sum = name.len().checked_sub(4).and_then(|end| name.get(..end));
        let found = [named(name), without_sum.and_then(named)];
        let is_expected =
            |number: &u32| *number == file(self.at) || self.at.is_followed_by(place(*number, 0));
        let number = found.into_iter().flatten().find(is_expected).or(found[0]).or(found[1]);
        let number =
            number.ok_or_else(|| self.connection.talk.protocol("a rotation to a file without a number"))?;
        if number == file(self.at) {
            return Ok(());
        }
        let start = place(number, 0);
        if !self.at.is_followed_by(start) {
            let what = format!("file {number} where file {} was", file(self.at));
            return Err(MariadbError::NotNext { at: self.at, what });
        }
        self.at = begin_file(&mut self.ready, &mut self.reader, start)?;
        Ok(())
    }

    fn refused(&self, packet: Bytes) -> MariadbError {
        let (number, message) = refusal(packet);
        // ER_MASTER_FATAL_ERROR_READING_BINLOG: the file is gone, or not so long.
        if number == 1236 {
            MariadbError::Gap { from: self.at, message }
        } else {
            MariadbError::Refused { what: "to send its binary log".into(), number, message }
        }
    }
}
