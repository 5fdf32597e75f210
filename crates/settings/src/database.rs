//! `[[database]]`: databases whose log is archived, so that they can be restored to any second.

use std::path::PathBuf;

use serde::Deserialize;
use strongroom_model::VolumeName;
use strongroom_postgres::TlsMode;

use crate::{Interval, Located, RestoreTestConfig, Size};

/// One `[[database]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Keys")]
pub struct DatabaseConfig {
    /// What people call it. Another cluster needs another name, also in the same volume.
    pub name: Located<String>,
    /// The volume on which all of it lies: the snapshots of it are its bases.
    pub volume: VolumeName,
    /// What kind of database it is, and how it is reached.
    pub engine: EngineConfig,
    /// How much of this machine's disk may hold what is not in the repository yet.
    pub spool: Size,
    /// How far back any second can be restored.
    pub window: Interval,
    /// How it is proved that it can be brought back; `None`: it is not.
    pub test: Option<RestoreTestConfig>,
}

/// What kind of database it is, with the keys of that kind.
#[derive(Debug, Clone)]
pub enum EngineConfig {
    /// PostgreSQL 13 and newer.
    Postgres(PostgresConfig),
}

/// How a PostgreSQL server is reached.
#[derive(Debug, Clone)]
pub struct PostgresConfig {
    /// A host, an address, or the folder of its Unix socket.
    pub host: String,
    /// The port, which also names the socket.
    pub port: u16,
    /// The role, which needs REPLICATION.
    pub user: String,
    /// The database for questions in SQL.
    pub database: String,
    /// The file whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// A file in the form of `~/.pgpass`.
    pub pgpass_file: Option<PathBuf>,
    /// Whether and how the line is encrypted.
    pub tls: TlsMode,
    /// Who signed the server's certificate.
    pub tls_ca: Option<PathBuf>,
    /// The replication slot.
    pub slot: String,
    /// How much of its log the server may be made to keep for the agent, on its own disk; then the slot lets go.
    pub held: Size,
}

/// The value of `engine`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Engine {
    #[default]
    Postgresql,
}

/// The keys as they are written: those of all engines.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    name: Located<String>,
    volume: VolumeName,
    #[serde(default)]
    engine: Engine,
    host: Option<String>,
    port: Option<u16>,
    user: Option<String>,
    database: Option<String>,
    password_file: Option<PathBuf>,
    pgpass_file: Option<PathBuf>,
    tls: Option<TlsMode>,
    tls_ca: Option<PathBuf>,
    slot: Option<String>,
    held: Option<Size>,
    #[serde(default = "usual_spool")]
    spool: Size,
    #[serde(default = "usual_window")]
    window: Interval,
    test: Option<RestoreTestConfig>,
}

impl TryFrom<Keys> for DatabaseConfig {
    type Error = String;

    fn try_from(keys: Keys) -> Result<Self, String> {
        let engine = match keys.engine {
            Engine::Postgresql => EngineConfig::Postgres(PostgresConfig {
                host: needed("host", keys.host)?,
                port: keys.port.unwrap_or(5432),
                user: needed("user", keys.user)?,
                database: keys.database.unwrap_or_else(|| "postgres".to_owned()),
                password_file: keys.password_file,
                pgpass_file: keys.pgpass_file,
                tls: keys.tls.unwrap_or_default(),
                tls_ca: keys.tls_ca,
                slot: keys.slot.unwrap_or_else(|| "strongroom".to_owned()),
                held: keys.held.unwrap_or(Size::mib(4096)),
            }),
        };
        Ok(Self {
            name: keys.name,
            volume: keys.volume,
            engine,
            spool: keys.spool,
            window: keys.window,
            test: keys.test,
        })
    }
}

fn needed<T>(key: &str, value: Option<T>) -> Result<T, String> {
    // As serde words it for the other keys.
    value.ok_or_else(|| format!("missing field `{key}`"))
}

/// 64 segments of PostgreSQL: an hour of a store's outage at 300 KB/s.
const fn usual_spool() -> Size {
    Size::mib(1024)
}

const fn usual_window() -> Interval {
    Interval::seconds(7 * 24 * 3600)
}

impl DatabaseConfig {
    /// What is wrong with it, beyond its form.
    pub(crate) fn fault(&self) -> Option<String> {
        let name = &self.name.value;
        let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
        if name.is_empty() || name.len() > 63 || !name.chars().all(fits) || name.starts_with('.') {
            return Some(format!(
                "a database's name has letters, digits, '-', '_' and '.', at most 63: {name:?}"
            ));
        }
        if self.spool.bytes() < Size::mib(64).bytes() {
            return Some("the spool needs at least 64MiB".to_owned());
        }
        match &self.engine {
            EngineConfig::Postgres(postgres) => postgres.fault(),
        }
    }
}

impl PostgresConfig {
    fn fault(&self) -> Option<String> {
        let slot = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if self.slot.is_empty() || self.slot.len() > 63 || !self.slot.bytes().all(slot) {
            return Some(format!(
                "a slot's name has lower-case letters, digits and '_', at most 63: {:?}",
                self.slot
            ));
        }
        if self.held.bytes() < Size::mib(64).bytes() {
            return Some("what the server may keep (`held`) needs at least 64MiB".to_owned());
        }
        None
    }
}
