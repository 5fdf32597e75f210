//! `[[database]]`: databases whose log is archived, so that they can be restored to any second.

use std::path::PathBuf;

use serde::Deserialize;
use strongroom_model::VolumeName;
use strongroom_postgres::TlsMode;

use crate::{Interval, Located, Size};

/// One `[[database]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// What people call it. Another cluster needs another name, also in the same volume.
    pub name: Located<String>,
    /// The volume on which all of it lies: the snapshots of it are its bases.
    pub volume: VolumeName,
    /// What kind of database it is.
    #[serde(default)]
    pub engine: Engine,
    /// A host, an address, or the folder of its Unix socket.
    pub host: String,
    /// The port, which also names the socket.
    #[serde(default = "usual_port")]
    pub port: u16,
    /// The role, which needs REPLICATION.
    pub user: String,
    /// The database for questions in SQL.
    #[serde(default = "usual_database")]
    pub database: String,
    /// The file whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// A file in the form of `~/.pgpass`.
    pub pgpass_file: Option<PathBuf>,
    /// Whether and how the line is encrypted.
    #[serde(default)]
    pub tls: TlsMode,
    /// Who signed the server's certificate.
    pub tls_ca: Option<PathBuf>,
    /// The replication slot.
    #[serde(default = "usual_slot")]
    pub slot: String,
    /// How much of this machine's disk may hold what is not in the repository yet.
    #[serde(default = "usual_spool")]
    pub spool: Size,
    /// How far back any second can be restored.
    #[serde(default = "usual_window")]
    pub window: Interval,
}

/// What kind of database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// PostgreSQL 13 and newer.
    #[default]
    Postgresql,
}

const fn usual_port() -> u16 {
    5432
}

fn usual_database() -> String {
    "postgres".to_owned()
}

fn usual_slot() -> String {
    "strongroom".to_owned()
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
        let slot = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if self.slot.is_empty() || self.slot.len() > 63 || !self.slot.bytes().all(slot) {
            return Some(format!(
                "a slot's name has lower-case letters, digits and '_', at most 63: {:?}",
                self.slot
            ));
        }
        if self.spool.bytes() < Size::mib(64).bytes() {
            return Some("the spool needs at least 64MiB".to_owned());
        }
        None
    }
}
