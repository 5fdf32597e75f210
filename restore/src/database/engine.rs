//! The programs of a database engine on this machine.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use strongroom_database::LineageId;

use super::RecoveryError;

/// Where distributions put the programs of PostgreSQL, by version.
const PLACES: [&str; 4] = [
    "/usr/lib/postgresql/{}/bin",
    "/usr/pgsql-{}/bin",
    "/usr/lib/postgresql{}/bin",
    "/opt/homebrew/opt/postgresql@{}/bin",
];

/// PostgreSQL's programs of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    folder: PathBuf,
}

impl Engine {
    /// The programs that can read this data folder: replay needs the very version that wrote it.
    ///
    /// # Errors
    /// When it is no data folder, or there are no such programs.
    pub fn of(data: &Path, told: Option<&Path>) -> Result<Self, RecoveryError> {
        let path = data.join("PG_VERSION");
        let text = std::fs::read_to_string(&path)
            .map_err(|cause| RecoveryError::NotADatabase { data: data.to_owned(), cause })?;
        let version = text.trim();
        if version.is_empty() || version.len() > 3 || !version.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(RecoveryError::UnknownVersion { version: version.chars().take(20).collect() });
        }
        let places = match told {
            Some(folder) => vec![folder.to_owned()],
            None => PLACES.iter().map(|place| PathBuf::from(place.replace("{}", version))).collect(),
        };
        let found = places.into_iter().find(|folder| folder.join("postgres").exists());
        found
            .map(|folder| Self { folder })
            .ok_or_else(|| RecoveryError::NoPrograms { version: version.to_owned() })
    }

    /// The timeline in which the last checkpoint of a data folder was.
    ///
    /// # Errors
    /// When its control file cannot be read.
    pub fn timeline(&self, data: &Path) -> Result<LineageId, RecoveryError> {
        let mut command = Command::new(self.program("pg_controldata"));
        let output = command.arg(data).env_clear().env("LC_ALL", "C").stdin(Stdio::null()).output();
        let output = output.map_err(|cause| RecoveryError::Program { name: "pg_controldata", cause })?;
        let text = String::from_utf8_lossy(&output.stdout);
        let value = text.lines().find_map(|line| line.strip_prefix("Latest checkpoint's TimeLineID:"));
        value.and_then(|value| value.trim().parse().ok()).map(LineageId).ok_or_else(|| {
            RecoveryError::NotADatabase {
                data: data.to_owned(),
                cause: std::io::ErrorKind::InvalidData.into(),
            }
        })
    }

    /// The path of one of its programs.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}
