//! The commands of replication, and the stream of the log.

use bytes::{Buf as _, BufMut as _, Bytes};
use jiff::Timestamp;
use strongroom_database::{LineageId, Position};

use crate::connection::{Connection, Refusal, Use};
use crate::wire::{Message, message};
use crate::{PostgresError, Target};

/// PostgreSQL counts microseconds from 2000-01-01T00:00:00Z.
const EPOCH_MICROSECONDS: i64 = 946_684_800_000_000;

/// The oldest server that is supported.
const OLDEST: u32 = 13;

/// What a server says of its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// Drawn when the cluster was made.
    pub identifier: u64,
    /// The timeline that it writes.
    pub timeline: LineageId,
    /// How far its log is flushed.
    pub flushed: Position,
    /// Its version, such as `15.18`.
    pub version: String,
    /// The size of a segment of its log.
    pub segment_bytes: u64,
}

/// A physical slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// From where on the server keeps its log.
    pub restart: Position,
}

/// A connection for replication.
#[derive(Debug)]
pub struct ReplicationConnection {
    connection: Connection,
}

/// One thing that comes in a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Bytes of the log.
    Log {
        /// Where they begin.
        start: Position,
        /// How far the server's log went when it sent this.
        server_end: Position,
        /// When it sent this, by its clock.
        sent_at: Timestamp,
        /// The bytes.
        bytes: Bytes,
    },
    /// A sign of life.
    Alive {
        /// How far the server's log goes.
        server_end: Position,
        /// When it sent this, by its clock.
        sent_at: Timestamp,
        /// Whether it wants to hear of us at once.
        reply: bool,
    },
    /// The timeline ended: another one goes on from it.
    TimelineEnded {
        /// Which.
        next: LineageId,
        /// From where.
        at: Position,
    },
}

impl ReplicationConnection {
    /// A connection for replication.
    ///
    /// # Errors
    /// When the server cannot be reached, does not let us in, or is too old.
    pub async fn open(target: &Target) -> Result<Self, PostgresError> {
        let connection = Connection::open_for(target, Use::Replication).await?;
        let version = connection.setting("server_version").unwrap_or_default();
        let major: u32 = version
            .split(|letter: char| !letter.is_ascii_digit())
            .next()
            .and_then(|digits| digits.parse().ok())
            .unwrap_or(0);
        if major < OLDEST {
            return Err(PostgresError::TooOld { version: version.to_owned() });
        }
        Ok(Self { connection })
    }

    /// Whether the line is encrypted by TLS.
    #[must_use]
    pub const fn is_encrypted(&self) -> bool {
        self.connection.is_encrypted()
    }

    /// What the server says of its cluster.
    ///
    /// # Errors
    /// When it refuses, or answers what we do not understand.
    pub async fn identify(&mut self) -> Result<System, PostgresError> {
        let version = self.connection.setting("server_version").unwrap_or_default().to_owned();
        let rows = self.connection.ask("IDENTIFY_SYSTEM", "IDENTIFY_SYSTEM").await?;
        let segment = self.connection.ask("SHOW wal_segment_size", "SHOW wal_segment_size").await?;
        let system = || {
            let row = rows.first()?;
            let field = |at: usize| row.get(at)?.as_deref();
            let segment = segment.first()?.first()?.as_deref()?;
            let segment_bytes = segment_bytes(segment)?;
            Some(System {
                identifier: field(0)?.parse().ok()?,
                timeline: LineageId(field(1)?.parse().ok()?),
                flushed: field(2)?.parse().ok()?,
                version,
                segment_bytes,
            })
        };
        system().ok_or_else(|| self.connection.talk.protocol("an answer to IDENTIFY_SYSTEM that is none"))
    }

    /// Makes a physical slot which keeps the log from now on; it is no error that there is one.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn create_slot(&mut self, name: &SlotName) -> Result<(), PostgresError> {
        let command = format!("CREATE_REPLICATION_SLOT {} PHYSICAL RESERVE_WAL", name.as_str());
        match self.connection.ask("CREATE_REPLICATION_SLOT", &command).await {
            Err(PostgresError::Refused { state, .. }) if state == "42710" => Ok(()),
            answer => answer.map(drop),
        }
    }

    /// The file that says from which timelines this one comes.
    ///
    /// # Errors
    /// When the server refuses: the first timeline has none.
    pub async fn timeline_history(&mut self, timeline: LineageId) -> Result<String, PostgresError> {
        let rows = self.connection.ask("TIMELINE_HISTORY", &format!("TIMELINE_HISTORY {timeline}")).await?;
        let content = rows.into_iter().next().and_then(|row| row.into_iter().nth(1)).flatten();
        content.ok_or_else(|| self.connection.talk.protocol("an answer to TIMELINE_HISTORY that is none"))
    }

    /// Begins to stream from a byte of a timeline.
    ///
    /// # Errors
    /// [`PostgresError::Gap`] when the server no longer has it; else when it refuses.
    pub async fn stream(
        mut self,
        slot: &SlotName,
        from: Position,
        timeline: LineageId,
    ) -> Result<LogStream, PostgresError> {
        let command = format!("START_REPLICATION SLOT {} PHYSICAL {from} TIMELINE {timeline}", slot.as_str());
        let asked = message(b'Q', |body| crate::wire::put_text(body, &command));
        self.connection.talk.send(&asked).await?;
        loop {
            let Message { tag, body } = self.connection.talk.next().await?;
            match tag {
                b'W' => {
                    return Ok(LogStream {
                        connection: self.connection,
                        slot: slot.clone(),
                        timeline,
                        next: from,
                    });
                }
                b'E' => return Err(refused(from, timeline, Refusal::parse(body))),
                // Nothing is left of an old timeline: the server says at once which one goes on.
                b'T' => {
                    let next =
                        LogStream { connection: self.connection, slot: slot.clone(), timeline, next: from };
                    return Ok(next);
                }
                b'N' | b'S' => {}
                other => {
                    let what = format!("message {:?} instead of a stream", char::from(other));
                    return Err(self.connection.talk.protocol(what));
                }
            }
        }
    }
}

fn refused(from: Position, timeline: LineageId, refusal: Refusal) -> PostgresError {
    let Refusal { state, message } = refusal;
    // undefined_file: the segment is gone; object_not_in_prerequisite_state: the slot was invalidated.
    let is_gap = state == "58P01" || (state == "55000" && message.contains("slot"));
    if is_gap {
        PostgresError::Gap { from, timeline, message }
    } else {
        PostgresError::Refused { what: "START_REPLICATION".into(), state, message }
    }
}

/// The log as it comes.
#[derive(Debug)]
pub struct LogStream {
    connection: Connection,
    slot: SlotName,
    timeline: LineageId,
    next: Position,
}

impl LogStream {
    /// What comes next. May be dropped while it waits: nothing is lost.
    ///
    /// # Errors
    /// When the connection breaks, or the server sends what does not follow.
    pub async fn next(&mut self) -> Result<Event, PostgresError> {
        loop {
            let got = self.connection.talk.wire.next().await;
            let message = got.map_err(|cause| self.connection.talk.broken(cause))?;
            if let Some(event) = self.understand(message).await? {
                return Ok(event);
            }
        }
    }

    /// What is here already, without waiting.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn ready(&mut self) -> Result<Option<Event>, PostgresError> {
        loop {
            let got = self.connection.talk.wire.ready();
            let Some(message) = got.map_err(|cause| self.connection.talk.broken(cause))? else {
                return Ok(None);
            };
            if let Some(event) = self.understand(message).await? {
                return Ok(Some(event));
            }
        }
    }

    /// Tells the server how far the log is durable here: the slot moves to it. With `ask` it answers at once.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn report(
        &mut self,
        flushed: Position,
        ask: bool,
        now: Timestamp,
    ) -> Result<(), PostgresError> {
        let answer = message(b'd', |body| {
            body.put_u8(b'r');
            body.put_u64(flushed.number());
            body.put_u64(flushed.number());
            body.put_u64(0);
            body.put_i64(now.as_microsecond() - EPOCH_MICROSECONDS);
            body.put_u8(ask.into());
        });
        self.connection.talk.send(&answer).await
    }

    async fn understand(&mut self, message: Message) -> Result<Option<Event>, PostgresError> {
        let Message { tag, mut body } = message;
        match tag {
            b'd' => self.copy_data(body).map(Some),
            b'c' => {
                self.connection.talk.send(&crate::wire::message(b'c', |_| {})).await?;
                Ok(None)
            }
            // The row that says which timeline goes on: its number, and where.
            b'D' => {
                let event = timeline_ended(&mut body);
                let event =
                    event.ok_or_else(|| self.connection.talk.protocol("a timeline that ends in no other"))?;
                Ok(Some(event))
            }
            b'E' => Err(refused(self.next, self.timeline, Refusal::parse(body))),
            // The end without a successor: the server stops.
            b'C' | b'Z' => {
                let what = format!("the server ended the stream of slot {}", self.slot.as_str());
                Err(self.connection.talk.broken(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, what)))
            }
            b'N' | b'S' | b'T' => Ok(None),
            other => {
                Err(self.connection.talk.protocol(format!("message {:?} in a stream", char::from(other))))
            }
        }
    }

    fn copy_data(&mut self, mut body: Bytes) -> Result<Event, PostgresError> {
        let short = |_| self.connection.talk.protocol("a message of the stream that is too short");
        match body.try_get_u8().map_err(short)? {
            b'w' => {
                let start = Position::new(body.try_get_u64().map_err(short)?);
                let server_end = Position::new(body.try_get_u64().map_err(short)?);
                let sent_at = moment(body.try_get_i64().map_err(short)?);
                if start != self.next {
                    return Err(PostgresError::NotNext { expected: self.next, found: start });
                }
                self.next = start.plus(body.len() as u64);
                Ok(Event::Log { start, server_end, sent_at, bytes: body })
            }
            b'k' => {
                let server_end = Position::new(body.try_get_u64().map_err(short)?);
                let sent_at = moment(body.try_get_i64().map_err(short)?);
                let reply = body.try_get_u8().map_err(short)? != 0;
                Ok(Event::Alive { server_end, sent_at, reply })
            }
            other => Err(self
                .connection
                .talk
                .protocol(format!("message {:?} within the stream", char::from(other)))),
        }
    }
}

fn timeline_ended(body: &mut Bytes) -> Option<Event> {
    if body.try_get_u16().ok()? != 2 {
        return None;
    }
    let mut text = || {
        let length = usize::try_from(body.try_get_i32().ok()?).ok().filter(|length| *length <= body.len())?;
        String::from_utf8(body.split_to(length).to_vec()).ok()
    };
    Some(Event::TimelineEnded { next: LineageId(text()?.parse().ok()?), at: text()?.parse().ok()? })
}

fn moment(microseconds: i64) -> Timestamp {
    Timestamp::from_microsecond(microseconds.saturating_add(EPOCH_MICROSECONDS)).unwrap_or(Timestamp::MIN)
}

/// `16MB`, `1GB`, `1048576` (as the server writes sizes).
fn segment_bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "" | "B" => 1,
        "kB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        _ => return None,
    };
    let bytes = digits.parse::<u64>().ok()?.checked_mul(unit)?;
    (bytes.is_power_of_two() && (1 << 20..=1 << 30).contains(&bytes)).then_some(bytes)
}

/// The name of a slot: what PostgreSQL allows, so that it can stand in a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotName(String);

impl SlotName {
    /// Lower-case letters, digits and `_`, at most 63.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        ((1..=63).contains(&name.len()) && name.bytes().all(fits)).then(|| Self(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_segments_are_read_as_the_server_writes_them() {
        assert_eq!(segment_bytes("16MB"), Some(16 << 20));
        assert_eq!(segment_bytes("1GB"), Some(1 << 30));
        for wrong in ["", "MB", "17MB", "16XB", "0", "99999999999999999999GB"] {
            assert_eq!(segment_bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_slot_has_no_name_that_could_be_more_than_a_name() {
        assert!(SlotName::new("strongroom_1").is_some());
        for wrong in ["", "A", "a b", "a;", "a\"", &"a".repeat(64)] {
            assert!(SlotName::new(wrong).is_none(), "{wrong}");
        }
    }
}
