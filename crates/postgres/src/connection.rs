//! A connection: made, let in, and asked in SQL or in the commands of replication.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use strongroom_server_line::tls;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use crate::authentication::{self, Channel};
use crate::wire::{Message, Wire, message, put_text, take_text, untagged};
use crate::{PostgresError, Target, TlsMode};

/// A server that does not answer within this while we log in or ask is down.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// For connecting alone.
const CONNECT_PATIENCE: Duration = Duration::from_secs(20);

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Sql,
    Replication,
}

/// The line to a server, and whose it is.
pub(crate) struct Talk {
    pub(crate) wire: Wire,
    place: String,
    /// How long the server may say nothing.
    patience: Duration,
}

impl Talk {
    pub(crate) async fn next(&mut self) -> Result<Message, PostgresError> {
        match tokio::time::timeout(self.patience, self.wire.next()).await {
            Ok(got) => got.map_err(|cause| self.broken(cause)),
            Err(_) => {
                Err(PostgresError::Silent { place: self.place.clone(), seconds: self.patience.as_secs() })
            }
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), PostgresError> {
        match tokio::time::timeout(PATIENCE, self.wire.send(bytes)).await {
            Ok(sent) => sent.map_err(|cause| self.broken(cause)),
            Err(_) => Err(PostgresError::Silent { place: self.place.clone(), seconds: PATIENCE.as_secs() }),
        }
    }

    pub(crate) fn broken(&self, cause: std::io::Error) -> PostgresError {
        PostgresError::Broken { place: self.place.clone(), cause }
    }

    pub(crate) fn protocol(&self, what: impl Into<String>) -> PostgresError {
        PostgresError::Protocol { place: self.place.clone(), what: what.into() }
    }
}

/// What a server says when it does not do something.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) state: String,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn parse(mut body: Bytes) -> Self {
        let mut refusal = Self { state: String::new(), message: String::new() };
        while body.has_remaining() {
            let field = body.get_u8();
            if field == 0 {
                break;
            }
            let Some(text) = take_text(&mut body) else { break };
            match field {
                b'C' => refusal.state = text,
                b'M' => refusal.message = text,
                _ => {}
            }
        }
        refusal
    }
}

/// Rows of text; `None` where there is no value.
pub type Rows = Vec<Vec<Option<String>>>;

/// A connection that was let in.
pub struct Connection {
    pub(crate) talk: Talk,
    settings: BTreeMap<String, String>,
    is_encrypted: bool,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("place", &self.talk.place).finish_non_exhaustive()
    }
}

impl Connection {
    /// A connection for SQL.
    ///
    /// # Errors
    /// When the server cannot be reached or does not let us in.
    pub async fn open(target: &Target) -> Result<Self, PostgresError> {
        Self::open_for(target, Use::Sql).await
    }

    pub(crate) async fn open_for(target: &Target, purpose: Use) -> Result<Self, PostgresError> {
        let (wire, channel) = match tokio::time::timeout(CONNECT_PATIENCE, line(target)).await {
            Ok(line) => line?,
            Err(_) => {
                let seconds = CONNECT_PATIENCE.as_secs();
                return Err(PostgresError::Silent { place: target.to_string(), seconds });
            }
        };
        let mut talk = Talk { wire, place: target.to_string(), patience: PATIENCE };
        let greeting = untagged(|body| {
            body.put_u32(3 << 16);
            let mut pairs = vec![("user", target.user.as_str()), ("application_name", &target.application)];
            match purpose {
                Use::Sql => pairs.push(("database", &target.database)),
                Use::Replication => pairs.push(("replication", "true")),
            }
            // Numbers and times in the form we read, whatever the role's settings are.
            pairs.extend([("client_encoding", "UTF8"), ("DateStyle", "ISO"), ("TimeZone", "UTC")]);
            for (key, value) in pairs {
                put_text(body, key);
                put_text(body, value);
            }
            body.put_u8(0);
        });
        talk.send(&greeting).await?;
        authentication::log_in(&mut talk, target, &channel).await?;
        let mut connection = Self {
            talk,
            settings: BTreeMap::new(),
            is_encrypted: channel.is_private && target.socket().is_none(),
        };
        connection.until_ready("logging in").await?;
        Ok(connection)
    }

    /// What the server said of itself, such as `server_version`.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    /// Whether the line is encrypted by TLS.
    #[must_use]
    pub const fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    /// How long it may take until the server says the next thing: for questions that are long to answer.
    pub const fn wait_for_answers(&mut self, patience: Duration) {
        self.talk.patience = patience;
    }

    /// Asks one thing in SQL, or in the commands of replication; `what` is for messages.
    ///
    /// # Errors
    /// When the server refuses it, or the connection breaks.
    pub async fn ask(&mut self, what: &str, sql: &str) -> Result<Rows, PostgresError> {
        self.talk.send(&message(b'Q', |body| put_text(body, sql))).await?;
        self.until_ready(what).await
    }

    /// Reads on until the server waits for us; answers the rows that came by.
    pub(crate) async fn until_ready(&mut self, what: &str) -> Result<Rows, PostgresError> {
        let mut rows = Rows::new();
        let mut refusal = None;
        loop {
            let Message { tag, mut body } = self.talk.next().await?;
            match tag {
                b'Z' => break,
                b'D' => {
                    let row =
                        row(&mut body).ok_or_else(|| self.talk.protocol("a row that ends within a value"))?;
                    rows.push(row);
                }
                // A server that ends does not wait for us any more.
                b'E' => {
                    let found = Refusal::parse(body);
                    let is_over = found.state.starts_with("57P0");
                    refusal = Some(found);
                    if is_over {
                        break;
                    }
                }
                b'S' => {
                    if let (Some(name), Some(value)) = (take_text(&mut body), take_text(&mut body)) {
                        self.settings.insert(name, value);
                    }
                }
                // Columns, completions, notices, notifications, keys to cancel with, empty answers.
                b'T' | b'C' | b'N' | b'A' | b'K' | b'I' => {}
                other => {
                    return Err(self.talk.protocol(format!("message {:?} in an answer", char::from(other))));
                }
            }
        }
        match refusal {
            None => Ok(rows),
            Some(Refusal { state, message }) => {
                Err(PostgresError::Refused { what: what.to_owned(), state, message })
            }
        }
    }
}

fn row(body: &mut Bytes) -> Option<Vec<Option<String>>> {
    let count = body.try_get_u16().ok()?;
    let mut values = Vec::with_capacity(count.into());
    for _ in 0..count {
        let length = body.try_get_i32().ok()?;
        values.push(match usize::try_from(length) {
            Err(_) => None,
            Ok(length) if length <= body.len() => {
                Some(String::from_utf8_lossy(&body.split_to(length)).into_owned())
            }
            Ok(_) => return None,
        });
    }
    Some(values)
}

async fn line(target: &Target) -> Result<(Wire, Channel), PostgresError> {
    let unreachable = |cause| PostgresError::Unreachable { place: target.to_string(), cause };
    if let Some(socket) = target.socket() {
        let line = UnixStream::connect(socket).await.map_err(unreachable)?;
        return Ok((Wire::new(Box::new(line)), Channel { is_private: true, end_point: None }));
    }
    let mut line = TcpStream::connect((target.host.as_str(), target.port)).await.map_err(unreachable)?;
    line.set_nodelay(true).map_err(unreachable)?;
    if target.tls == TlsMode::Disable {
        return Ok((Wire::new(Box::new(line)), Channel { is_private: false, end_point: None }));
    }
    let refused = |reason: String| PostgresError::NotEncrypted { place: target.to_string(), reason };
    line.write_all(&untagged(|body| body.put_u32(80_877_103))).await.map_err(unreachable)?;
    // One byte, unbuffered: what a stranger might push in behind it in plain is never taken for what came encrypted.
    match line.read_u8().await.map_err(unreachable)? {
        b'S' => {
            let line = tls::encrypt(line, &target.host, target.tls, target.tls_ca.as_deref())
                .await
                .map_err(refused)?;
            let end_point = tls::end_point(&line);
            Ok((Wire::new(Box::new(line)), Channel { is_private: true, end_point }))
        }
        _ if target.tls == TlsMode::Prefer => {
            Ok((Wire::new(Box::new(line)), Channel { is_private: false, end_point: None }))
        }
        _ => Err(refused("the server offers none".into())),
    }
}
