//! A connection: made, let in, and asked in SQL.

use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use crate::authentication::{self, Greeting, TLS};
use crate::wire::{Length, Wire, packet, take_length};
use crate::{MariadbError, Target, TlsMode};

/// A server that does not answer within this while we log in or ask is down.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// For connecting alone.
const CONNECT_PATIENCE: Duration = Duration::from_secs(20);

/// A greeting is not longer than this.
const LONGEST_GREETING: usize = 1024;

/// Nothing that we ask has so many rows: the longest is the list of binary logs.
const MOST_ROWS: usize = 1 << 20;

/// The line to a server, and whose it is.
pub(crate) struct Talk {
    pub(crate) wire: Wire,
    place: String,
    patience: Duration,
}

impl Talk {
    pub(crate) async fn next(&mut self) -> Result<Bytes, MariadbError> {
        match tokio::time::timeout(self.patience, self.wire.next()).await {
            Ok(got) => got.map_err(|cause| self.broken(cause)),
            Err(_) => Err(self.silent()),
        }
    }

    pub(crate) async fn send(&mut self, body: &[u8]) -> Result<(), MariadbError> {
        match tokio::time::timeout(self.patience, self.wire.send(body)).await {
            Ok(sent) => sent.map_err(|cause| self.broken(cause)),
            Err(_) => Err(self.silent()),
        }
    }

    pub(crate) async fn command(&mut self, kind: u8, body: &[u8]) -> Result<(), MariadbError> {
        let command = [&[kind][..], body].concat();
        match tokio::time::timeout(self.patience, self.wire.command(&command)).await {
            Ok(sent) => sent.map_err(|cause| self.broken(cause)),
            Err(_) => Err(self.silent()),
        }
    }

    fn silent(&self) -> MariadbError {
        MariadbError::Silent { place: self.place.clone(), seconds: self.patience.as_secs() }
    }

    pub(crate) fn broken(&self, cause: std::io::Error) -> MariadbError {
        MariadbError::Broken { place: self.place.clone(), cause }
    }

    pub(crate) fn protocol(&self, what: impl Into<String>) -> MariadbError {
        MariadbError::Protocol { place: self.place.clone(), what: what.into() }
    }

    pub(crate) fn place(&self) -> &str {
        &self.place
    }
}

/// What a server says when it does not do something: a number, and why.
pub(crate) fn refusal(mut packet: Bytes) -> (u16, String) {
    // 0xFF, the number, then `#` and five letters of state, then words.
    let number = (packet.len() >= 3).then(|| packet.split_to(3)).map_or(0, |mut head| {
        head.advance(1);
        head.get_u16_le()
    });
    if packet.first() == Some(&b'#') {
        packet.advance(packet.len().min(6));
    }
    (number, String::from_utf8_lossy(&packet).chars().take(600).collect())
}

/// Rows of text; `None` where there is no value.
pub type Rows = Vec<Vec<Option<String>>>;

/// A connection that was let in.
pub struct Connection {
    pub(crate) talk: Talk,
    version: String,
    is_encrypted: bool,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("place", &self.talk.place).finish_non_exhaustive()
    }
}

impl Connection {
    /// Comes in.
    ///
    /// # Errors
    /// When the server cannot be reached or does not let us in.
    pub async fn open(target: &Target) -> Result<Self, MariadbError> {
        match tokio::time::timeout(CONNECT_PATIENCE, Self::come_in(target)).await {
            Ok(connection) => connection,
            Err(_) => {
                let seconds = CONNECT_PATIENCE.as_secs();
                Err(MariadbError::Silent { place: target.to_string(), seconds })
            }
        }
    }

    async fn come_in(target: &Target) -> Result<Self, MariadbError> {
        let unreachable = |cause| MariadbError::Unreachable { place: target.to_string(), cause };
        let is_encrypted;
        let (greeting, wire) = if let Some(socket) = target.socket() {
            let mut line = UnixStream::connect(socket).await.map_err(unreachable)?;
            let greeting = greeting(&mut line, target).await?;
            is_encrypted = false;
            (greeting, Wire::new(Box::new(line), 1))
        } else {
            let mut line =
                TcpStream::connect((target.host.as_str(), target.port)).await.map_err(unreachable)?;
            line.set_nodelay(true).map_err(unreachable)?;
            let greeting = greeting(&mut line, target).await?;
            let refused = |reason: String| MariadbError::NotEncrypted { place: target.to_string(), reason };
            match target.tls {
                TlsMode::Disable => {
                    is_encrypted = false;
                    (greeting, Wire::new(Box::new(line), 1))
                }
                _ if greeting.abilities & TLS != 0 => {
                    let ask = packet(1, &authentication::head(TLS)).map_err(unreachable)?;
                    line.write_all(&ask).await.map_err(unreachable)?;
                    let ca = target.tls_ca.as_deref();
                    let line = strongroom_server_line::encrypt(line, &target.host, target.tls, ca);
                    is_encrypted = true;
                    (greeting, Wire::new(Box::new(line.await.map_err(refused)?), 2))
                }
                TlsMode::Prefer => {
                    is_encrypted = false;
                    (greeting, Wire::new(Box::new(line), 1))
                }
                _ => return Err(refused("the server offers none".into())),
            }
        };
        let mut talk = Talk { wire, place: target.to_string(), patience: PATIENCE };
        authentication::log_in(&mut talk, target, &greeting, is_encrypted).await?;
        Ok(Self { talk, version: greeting.version, is_encrypted })
    }

    /// What the server says it is, such as `10.11.19-MariaDB-log`.
    #[must_use]
    pub fn version(&self) -> &str {
        // Old replicas wanted to see a 5 there.
        self.version.strip_prefix("5.5.5-").unwrap_or(&self.version)
    }

    /// Whether the line is encrypted by TLS.
    #[must_use]
    pub const fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    /// Waits for an answer for as long as this from now on: a question may take its time.
    pub const fn wait_for_answers(&mut self, patience: Duration) {
        self.talk.patience = patience;
    }

    /// Asks one thing in SQL; `what` is for messages.
    ///
    /// # Errors
    /// When the server refuses it, or the connection breaks.
    pub async fn ask(&mut self, what: &str, sql: &str) -> Result<Rows, MariadbError> {
        self.talk.command(0x03, sql.as_bytes()).await?;
        self.answer(what).await
    }

    /// Asks what has one row without anything that is not there.
    ///
    /// # Errors
    /// As for [`Self::ask`], and when the answer is another.
    pub async fn ask_row(&mut self, what: &str, sql: &str) -> Result<Vec<String>, MariadbError> {
        let rows = self.ask(what, sql).await?;
        let row = rows.into_iter().next().and_then(|row| row.into_iter().collect::<Option<Vec<_>>>());
        row.ok_or_else(|| self.talk.protocol(format!("an answer to {what} that is none")))
    }

    pub(crate) async fn answer(&mut self, what: &str) -> Result<Rows, MariadbError> {
        let mut first = self.talk.next().await?;
        match first.first() {
            Some(0x00) => return Ok(Rows::new()),
            Some(0xFF) => return Err(refused(what, first)),
            _ => {}
        }
        let Some(Length::Of(columns)) = take_length(&mut first) else {
            return Err(self.talk.protocol("an answer that is none"));
        };
        for _ in 0..=columns.min(4096) {
            // The columns, and what ends them.
            self.talk.next().await?;
        }
        let mut rows = Rows::new();
        loop {
            let mut packet = self.talk.next().await?;
            match packet.first() {
                Some(0xFF) => return Err(refused(what, packet)),
                Some(0xFE) if packet.len() < 9 => return Ok(rows),
                _ => {}
            }
            let row = row(&mut packet, columns);
            rows.push(row.ok_or_else(|| self.talk.protocol("a row that ends within a value"))?);
            if rows.len() > MOST_ROWS {
                return Err(self.talk.protocol("an answer without an end"));
            }
        }
    }
}

fn refused(what: &str, packet: Bytes) -> MariadbError {
    let (number, message) = refusal(packet);
    MariadbError::Refused { what: what.to_owned(), number, message }
}

fn row(packet: &mut Bytes, columns: usize) -> Option<Vec<Option<String>>> {
    let mut values = Vec::with_capacity(columns.min(64));
    for _ in 0..columns {
        values.push(match take_length(packet)? {
            Length::Null => None,
            Length::Of(length) if length <= packet.len() => {
                Some(String::from_utf8_lossy(&packet.split_to(length)).into_owned())
            }
            Length::Of(_) => return None,
        });
    }
    Some(values)
}

/// The greeting, not one byte more: what a stranger might push in behind it in plain is never taken for what came encrypted.
async fn greeting<L: tokio::io::AsyncRead + Unpin>(
    line: &mut L,
    target: &Target,
) -> Result<Greeting, MariadbError> {
    let unreachable = |cause| MariadbError::Unreachable { place: target.to_string(), cause };
    let mut head = [0; 4];
    line.read_exact(&mut head).await.map_err(unreachable)?;
    let length = u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize;
    let none =
        || MariadbError::Protocol { place: target.to_string(), what: "a greeting that is none".into() };
    if length > LONGEST_GREETING {
        return Err(none());
    }
    let mut body = vec![0; length];
    line.read_exact(&mut body).await.map_err(unreachable)?;
    if body.first() == Some(&0xFF) {
        // Too many connections, or this host may not come.
        let (number, message) = refusal(body.into());
        return Err(MariadbError::Refused { what: "the connection".into(), number, message });
    }
    Greeting::parse(body.into()).ok_or_else(none)
}
