//! `[database.test]`: proving now and then that a database can be brought back.

use std::path::PathBuf;

use serde::Deserialize;

use crate::Interval;

/// The `[database.test]` of a `[[database]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RestoreTestConfig {
    /// How often a random second of the window is proved.
    pub every: Interval,
    /// Whether each new base is proved as well.
    pub after_base: bool,
    /// However many bases there are, and however often it fails: not more often than this.
    pub at_most_every: Interval,
    /// Questions in SQL that the restored database has to answer with yes.
    pub sql: Vec<String>,
    /// In which database they are asked; that of the `[[database]]` by default.
    pub database: Option<String>,
    /// A superuser of the database.
    pub role: String,
    /// Where the programs of the database are, when they are not found.
    pub programs: Option<PathBuf>,
    /// Where in the volume the data folder is, when it is not found.
    pub data_directory: Option<PathBuf>,
    /// Where the log is laid out while it is replayed.
    pub work_dir: PathBuf,
    /// A test that takes longer has failed.
    pub time_limit: Interval,
}

impl Default for RestoreTestConfig {
    fn default() -> Self {
        Self {
            every: Interval::seconds(24 * 3600),
            after_base: true,
            at_most_every: Interval::seconds(6 * 3600),
            sql: Vec::new(),
            database: None,
            role: "postgres".to_owned(),
            programs: None,
            data_directory: None,
            work_dir: "/var/tmp".into(),
            time_limit: Interval::seconds(6 * 3600),
        }
    }
}
