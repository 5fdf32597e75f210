//! As much of Redis' protocol as is needed: a command of words, an answer that is one line or one text.

use std::collections::BTreeMap;
use std::time::Duration;

use strongroom_server_line::first_line;
use strongroom_settings::RedisConfig;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::{TcpStream, UnixStream};

use super::RedisError;

/// A server that does not answer within this is down.
const PATIENCE: Duration = Duration::from_secs(20);

/// No answer to what we ask is longer.
const MOST_BYTES: usize = 1 << 20;

trait Line: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Line for T {}

/// A connection that was let in.
pub(super) struct Client {
    line: BufReader<Box<dyn Line>>,
    place: String,
}

/// What a server says of itself.
pub(super) struct Info(BTreeMap<String, String>);

impl Info {
    pub(super) fn parse(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.trim_end().split_once(':'));
        Self(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    pub(super) fn of(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    pub(super) fn is(&self, key: &str) -> bool {
        self.of(key) == Some("1")
    }

    pub(super) fn number(&self, key: &str) -> i64 {
        self.of(key).and_then(|value| value.parse().ok()).unwrap_or(0)
    }
}

impl Client {
    pub(super) async fn open(config: &RedisConfig) -> Result<Self, RedisError> {
        let place = config.place();
        let unreachable = |cause| RedisError::Unreachable { place: place.clone(), cause };
        let connecting = async {
            Ok::<Box<dyn Line>, std::io::Error>(if config.host.starts_with('/') {
                Box::new(UnixStream::connect(&config.host).await?)
            } else {
                Box::new(TcpStream::connect((config.host.as_str(), config.port)).await?)
            })
        };
        let line = tokio::time::timeout(PATIENCE, connecting).await;
        let line = line.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())).map_err(unreachable)?;
        let mut client = Self { line: BufReader::new(line), place };
        if let Some(path) = &config.password_file {
            let password = first_line(path)
                .map_err(|error| RedisError::PasswordFile { path: error.path, reason: error.reason })?;
            match &config.user {
                Some(user) => client.ask("the password", &["AUTH", user, &password]).await?,
                None => client.ask("the password", &["AUTH", &password]).await?,
            };
        }
        Ok(client)
    }

    pub(super) async fn info(&mut self) -> Result<Info, RedisError> {
        Ok(Info::parse(&self.ask("INFO", &["INFO"]).await?))
    }

    /// Asks one thing; `what` is for messages, and never an argument.
    pub(super) async fn ask(&mut self, what: &'static str, words: &[&str]) -> Result<String, RedisError> {
        let mut command = zeroize::Zeroizing::new(format!("*{}\r\n", words.len()));
        for word in words {
            for part in ["$", &word.len().to_string(), "\r\n", word, "\r\n"] {
                command.push_str(part);
            }
        }
        let place = self.place.clone();
        let answered = tokio::time::timeout(PATIENCE, async {
            self.line.write_all(command.as_bytes()).await?;
            self.line.flush().await?;
            self.answer().await
        });
        let answer = answered.await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        match answer.map_err(|cause| RedisError::Unreachable { place: place.clone(), cause })? {
            Some(Ok(text)) => Ok(text),
            Some(Err(message)) => {
                let message = message.chars().take(200).collect();
                Err(RedisError::Refused { place, what, message })
            }
            None => Err(RedisError::Protocol { place, what: "an answer that is none" }),
        }
    }

    /// `None`: not an answer that this knows.
    async fn answer(&mut self) -> std::io::Result<Option<Result<String, String>>> {
        let mut line = String::new();
        (&mut self.line).take(MOST_BYTES as u64).read_line(&mut line).await?;
        let line = line.trim_end();
        let Some((kind, rest)) = line.split_at_checked(1) else { return Ok(None) };
        match kind {
            "+" | ":" => Ok(Some(Ok(rest.to_owned()))),
            "-" => Ok(Some(Err(rest.to_owned()))),
            "$" => {
                let Some(length) = rest.parse().ok().filter(|length: &usize| *length <= MOST_BYTES) else {
                    return Ok(None);
                };
                let mut text = vec![0; length + 2];
                self.line.read_exact(&mut text).await?;
                text.truncate(length);
                Ok(String::from_utf8(text).ok().map(Ok))
            }
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_of_itself_is_found_by_its_name() {
        let info = Info::parse(
            "# persistence\r\nloading:0\r\naof_enabled:1\r\nrdb_last_save_time:1795334940\r\n\r\n",
        );
        assert!(info.is("aof_enabled") && !info.is("loading") && !info.is("nothing"));
        assert_eq!(info.number("rdb_last_save_time"), 1_795_334_940);
    }
}
