//! `[[database]]`: databases whose log is archived, so that they can be restored to any second.

use std::num::NonZeroU8;
use std::path::{Component, PathBuf};

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
    /// How many of the newest bases stay in the pool as snapshots: a restore from one of them fetches no base.
    pub local_bases: NonZeroU8,
    /// How it is proved that it can be brought back; `None`: it is not.
    pub test: Option<RestoreTestConfig>,
}

/// What kind of database it is, with the keys of that kind.
#[derive(Debug, Clone)]
pub enum EngineConfig {
    /// MariaDB 10.6 and newer.
    Mariadb(MariadbConfig),
    /// PostgreSQL 13 and newer.
    Postgres(PostgresConfig),
    /// SQLite 3 with a write-ahead log.
    Sqlite(SqliteConfig),
    /// Redis or Valkey. No log of it is archived; it is asked before its volume is cut.
    Redis(RedisConfig),
}

/// How a Redis or Valkey server is reached.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// A host, an address, or its Unix socket.
    pub host: String,
    /// The port; a socket has none.
    pub port: u16,
    /// The user of its access list; `None`: the one that has no name.
    pub user: Option<String>,
    /// The file whose first line is the password.
    pub password_file: Option<PathBuf>,
}

impl RedisConfig {
    /// Where it is, for messages.
    #[must_use]
    pub fn place(&self) -> String {
        if self.host.starts_with('/') { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }

    fn of(keys: &Keys) -> Result<Self, String> {
        let others = [
            ("database", keys.database.is_some()),
            ("pgpass_file", keys.pgpass_file.is_some()),
            ("tls", keys.tls.is_some()),
            ("tls_ca", keys.tls_ca.is_some()),
            ("slot", keys.slot.is_some()),
            ("held", keys.held.is_some()),
            ("log", keys.log.is_some()),
            ("handover", keys.handover.is_some()),
            ("path", keys.path.is_some()),
            ("test", keys.test.is_some()),
        ];
        if let Some((key, _)) = others.iter().find(|(_, given)| *given) {
            return Err(format!(
                "`{key}` is nothing of engine = \"redis\", which has `host`, `port`, `user` and `password_file`"
            ));
        }
        Ok(Self {
            host: needed("host", keys.host.clone())?,
            port: keys.port.unwrap_or(6379),
            user: keys.user.clone(),
            password_file: keys.password_file.clone(),
        })
    }
}

/// Where a SQLite database lies.
#[derive(Debug, Clone)]
pub struct SqliteConfig {
    /// The file, from the root of the volume; never out of it.
    pub path: PathBuf,
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
    /// How its log comes to the agent.
    pub log: PostgresLog,
}

/// How PostgreSQL's log comes to the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PostgresLog {
    /// Over the replication protocol, as it is written.
    Stream,
    /// By the server's `archive_command`, segment for segment, through this folder.
    Handover(PathBuf),
}

/// The value of `log`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Log {
    #[default]
    Stream,
    ArchiveCommand,
}

/// How a MariaDB server is reached.
#[derive(Debug, Clone)]
pub struct MariadbConfig {
    /// A host, an address, or the path of its Unix socket or of that one's folder.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The account, which needs REPLICATION SLAVE, BINLOG MONITOR and RELOAD.
    pub user: String,
    /// The file whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// Whether and how the line is encrypted.
    pub tls: TlsMode,
    /// Who signed the server's certificate.
    pub tls_ca: Option<PathBuf>,
}

/// The value of `engine`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Engine {
    Mariadb,
    #[default]
    Postgresql,
    Sqlite,
    Redis,
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
    log: Option<Log>,
    handover: Option<PathBuf>,
    path: Option<PathBuf>,
    #[serde(default = "usual_spool")]
    spool: Size,
    #[serde(default = "usual_window")]
    window: Interval,
    local_bases: Option<NonZeroU8>,
    test: Option<RestoreTestConfig>,
}

impl TryFrom<Keys> for DatabaseConfig {
    type Error = String;

    fn try_from(keys: Keys) -> Result<Self, String> {
        let of_a_server = [
            ("host", keys.host.is_some()),
            ("port", keys.port.is_some()),
            ("user", keys.user.is_some()),
            ("database", keys.database.is_some()),
            ("password_file", keys.password_file.is_some()),
            ("pgpass_file", keys.pgpass_file.is_some()),
            ("tls", keys.tls.is_some()),
            ("tls_ca", keys.tls_ca.is_some()),
            ("slot", keys.slot.is_some()),
            ("held", keys.held.is_some()),
            ("log", keys.log.is_some()),
            ("handover", keys.handover.is_some()),
        ];
        let engine = match keys.engine {
            Engine::Sqlite => {
                if let Some((key, _)) = of_a_server.iter().find(|(_, given)| *given) {
                    return Err(format!(
                        "`{key}` says how a server is reached; engine = \"sqlite\" has none, but a `path`"
                    ));
                }
                EngineConfig::Sqlite(SqliteConfig { path: needed("path", keys.path)? })
            }
            Engine::Redis => EngineConfig::Redis(RedisConfig::of(&keys)?),
            _ if keys.path.is_some() => {
                return Err("`path` is a file of engine = \"sqlite\"; this engine has a server".to_owned());
            }
            Engine::Mariadb => {
                for (key, is_there) in [
                    ("database", keys.database.is_some()),
                    ("pgpass_file", keys.pgpass_file.is_some()),
                    ("slot", keys.slot.is_some()),
                    ("held", keys.held.is_some()),
                    ("log", keys.log.is_some()),
                    ("handover", keys.handover.is_some()),
                ] {
                    if is_there {
                        return Err(format!("`{key}` is for engine = \"postgresql\" alone"));
                    }
                }
                EngineConfig::Mariadb(MariadbConfig {
                    host: needed("host", keys.host)?,
                    port: keys.port.unwrap_or(3306),
                    user: needed("user", keys.user)?,
                    password_file: keys.password_file,
                    tls: keys.tls.unwrap_or_default(),
                    tls_ca: keys.tls_ca,
                })
            }
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
                log: match (keys.log.unwrap_or_default(), keys.handover) {
                    (Log::Stream, None) => PostgresLog::Stream,
                    (Log::ArchiveCommand, Some(folder)) => PostgresLog::Handover(folder),
                    (Log::ArchiveCommand, None) => return Err("missing field `handover`".to_owned()),
                    (Log::Stream, Some(_)) => {
                        return Err(
                            "`handover` is the folder of log = \"archive_command\"; this is log = \"stream\""
                                .to_owned(),
                        );
                    }
                },
            }),
        };
        Ok(Self {
            name: keys.name,
            volume: keys.volume,
            engine,
            spool: keys.spool,
            window: keys.window,
            local_bases: keys.local_bases.unwrap_or(USUAL_LOCAL_BASES),
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

/// The newest, with which the next is compared, and the one before the newest: from that what happened since the newest was taken
/// or shortly before comes back.
const USUAL_LOCAL_BASES: NonZeroU8 = NonZeroU8::MIN.saturating_add(1);

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
            EngineConfig::Mariadb(_) => None,
            EngineConfig::Postgres(postgres) => postgres.fault(),
            EngineConfig::Sqlite(sqlite) => sqlite.fault(),
            EngineConfig::Redis(_) => None,
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
        if let PostgresLog::Handover(folder) = &self.log
            && !folder.is_absolute()
        {
            return Some(format!("`handover` begins with \"/\": {}", folder.display()));
        }
        if self.held.bytes() < Size::mib(64).bytes() {
            return Some("what the server may keep (`held`) needs at least 64MiB".to_owned());
        }
        None
    }
}

impl SqliteConfig {
    fn fault(&self) -> Option<String> {
        let stays = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::RootDir);
        if self.path.file_name().is_none() || !self.path.components().all(stays) {
            return Some(format!("`path` is a file in the volume, counted from its root: {:?}", self.path));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(keys: &str) -> Result<DatabaseConfig, String> {
        let text = format!("name = \"shop\"\nvolume = \"db\"\n{keys}");
        let config: DatabaseConfig = toml::from_str(&text).map_err(|error| error.message().to_owned())?;
        config.fault().map_or(Ok(config), Err)
    }

    #[test]
    fn each_engine_takes_its_own_keys_and_refuses_those_of_another() {
        assert!(matches!(read("host = \"/run\"\nuser = \"u\"").unwrap().engine, EngineConfig::Postgres(_)));
        let sqlite = read("engine = \"sqlite\"\npath = \"data/app.db\"").unwrap();
        assert!(matches!(sqlite.engine, EngineConfig::Sqlite(_)));
        let redis = read("engine = \"redis\"\nhost = \"cache\"").unwrap();
        let EngineConfig::Redis(redis) = redis.engine else { panic!("it is Redis") };
        assert_eq!(redis.place(), "cache:6379");
        let refused = read("engine = \"redis\"\nhost = \"cache\"\nslot = \"s\"").unwrap_err();
        assert!(refused.contains("`slot` is nothing of engine"), "{refused}");
        let server = "host = \"/run\"\nuser = \"u\"\n";
        let handed = read(&format!("{server}log = \"archive_command\"\nhandover = \"/srv/wal\"")).unwrap();
        let EngineConfig::Postgres(handed) = handed.engine else { panic!("it is PostgreSQL") };
        assert_eq!(handed.log, PostgresLog::Handover("/srv/wal".into()));
        for (keys, reason) in [
            ("log = \"archive_command\"", "missing field `handover`"),
            ("handover = \"/srv/wal\"", "is the folder of log"),
            ("log = \"archive_command\"\nhandover = \"wal\"", "begins with"),
        ] {
            let refused = read(&format!("{server}{keys}")).unwrap_err();
            assert!(refused.contains(reason), "{keys}: {refused}");
        }
        for (keys, reason) in [
            ("user = \"u\"", "missing field `host`"),
            ("engine = \"sqlite\"", "missing field `path`"),
            ("engine = \"sqlite\"\npath = \"a.db\"\nslot = \"s\"", "`slot` says how a server is reached"),
            ("path = \"a.db\"\nhost = \"h\"\nuser = \"u\"", "`path` is a file of engine"),
            ("engine = \"sqlite\"\npath = \"../a.db\"", "counted from its root"),
            ("engine = \"sqlite\"\npath = \"/\"", "counted from its root"),
            ("host = \"h\"\nuser = \"u\"\nlocal_bases = 0", "nonzero"),
            ("engine = \"oracle\"", "unknown variant"),
        ] {
            let refused = read(keys).unwrap_err();
            assert!(refused.contains(reason), "{keys}: {refused}");
        }
    }
}
