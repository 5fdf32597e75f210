//! Redis and Valkey: seeing to it, before a volume is cut, that what lies on it is a state that loads.
//!
//! No log is archived of them; a backup of the volume is one moment. With an append-only file all that was answered lies in the
//! file, and the cut has it. Without one it lies in memory: a dump is made first, and waited for.
//!
//! What always holds: a server that does not answer, or cannot write, costs no backup. It is told, and the volume is cut all the
//! same.

mod client;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use strongroom_model::{Failure, Remedy};
use strongroom_settings::RedisConfig;
use tokio::time::Instant;

use client::Client;

/// How long loading, a rewrite or a dump that is under way is waited for, and a dump of our own. Some tens of gigabytes take so long.
const PATIENCE: Duration = Duration::from_secs(600);

/// How often it is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// A server, and how it is reached.
#[derive(Debug, Clone)]
pub(super) struct Redis {
    config: RedisConfig,
}

/// What the volume holds when it is cut now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Calm {
    /// As it says itself, such as `7.0.15`.
    pub(super) version: String,
    /// What tells this data from others: the id of its replication.
    pub(super) identity: String,
    /// Of which moment the dump is, by the server's clock; `None`: the append-only file counts, up to the cut.
    pub(super) dumped_at: Option<Timestamp>,
}

impl fmt::Display for Calm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dumped_at {
            Some(at) => write!(f, "a dump of {at}"),
            None => f.write_str("an append-only file up to the snapshot"),
        }
    }
}

/// Why nothing is known of what the volume holds.
#[derive(Debug, thiserror::Error)]
pub(super) enum RedisError {
    #[error("connecting to Redis at {place}")]
    Unreachable {
        place: String,
        #[source]
        cause: std::io::Error,
    },
    #[error("the password file {}: {reason}", path.display())]
    PasswordFile { path: PathBuf, reason: String },
    #[error("Redis at {place} refused {what}: {message}")]
    Refused { place: String, what: &'static str, message: String },
    #[error("Redis at {place} does not speak its protocol: {what}")]
    Protocol { place: String, what: &'static str },
    #[error("Redis at {place} cannot write to its disk: {what}")]
    NotWritten { place: String, what: &'static str },
    #[error("Redis at {place} was still {what} after {} minutes", PATIENCE.as_secs() / 60)]
    Late { place: String, what: &'static str },
}

impl Failure for RedisError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "redis.unreachable",
            Self::PasswordFile { .. } => "redis.password-file",
            Self::Refused { .. } => "redis.refused",
            Self::Protocol { .. } => "redis.protocol",
            Self::NotWritten { .. } => "redis.not-written",
            Self::Late { .. } => "redis.late",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Unreachable { .. } | Self::Late { .. } => Remedy::Retry,
            _ => Remedy::FixSurroundings,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Unreachable { .. } => "Check that the server runs and can be reached from here; the next backup asks it again.".into(),
            Self::PasswordFile { .. } => "The file holds the password in its first line and is readable by its owner alone (chmod 600).".into(),
            Self::Refused { .. } => "The user needs the commands INFO and BGSAVE: ACL SETUSER … +info +bgsave, and a password where one is asked for.".into(),
            Self::Protocol { .. } => "Check that the address is that of a Redis or Valkey server, without TLS.".into(),
            Self::NotWritten { .. } => "See the server's own log: mostly its disk is full.".into(),
            Self::Late { .. } => "See the server's own log; the next backup asks it again.".into(),
        }
    }
}

impl Redis {
    pub(super) fn new(config: &RedisConfig) -> Self {
        Self { config: config.clone() }
    }

    fn place(&self) -> String {
        self.config.place()
    }

    /// Waits until nothing is under way, and makes a dump where nothing else holds what is in memory.
    pub(super) async fn calm(&self) -> Result<Calm, RedisError> {
        let mut client = Client::open(&self.config).await?;
        let deadline = Instant::now() + PATIENCE;
        let mut is_dumped = false;
        loop {
            let info = client.info().await?;
            let is = |key: &str| info.is(key);
            let under_way = [
                ("loading", "loading"),
                ("aof_rewrite_in_progress", "rewriting its append-only file"),
                ("aof_rewrite_scheduled", "about to rewrite its append-only file"),
                ("rdb_bgsave_in_progress", "writing its dump"),
            ];
            if let Some(&(_, what)) = under_way.iter().find(|(key, _)| is(key)) {
                if Instant::now() >= deadline {
                    return Err(RedisError::Late { place: self.place(), what });
                }
                tokio::time::sleep(ASK_EVERY).await;
                continue;
            }
            let is_appending = is("aof_enabled");
            if is_appending && info.of("aof_last_write_status").is_some_and(|status| status != "ok") {
                return Err(RedisError::NotWritten { place: self.place(), what: "aof_last_write_status" });
            }
            let dumped_at = match (is_appending, is_dumped) {
                (true, _) => None,
                (false, false) => {
                    is_dumped = true;
                    client.ask("BGSAVE", &["BGSAVE"]).await?;
                    continue;
                }
                (false, true) if info.of("rdb_last_bgsave_status") != Some("ok") => {
                    return Err(RedisError::NotWritten {
                        place: self.place(),
                        what: "rdb_last_bgsave_status",
                    });
                }
                (false, true) => Timestamp::from_second(info.number("rdb_last_save_time")).ok(),
            };
            let text = |key: &str| info.of(key).unwrap_or_default().to_owned();
            return Ok(Calm {
                version: info.of("valkey_version").map_or_else(|| text("redis_version"), str::to_owned),
                identity: text("master_replid"),
                dumped_at,
            });
        }
    }
}
