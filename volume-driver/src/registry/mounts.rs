//! Mounts and exchanges in the registry.

use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rusqlite::{Row, params};
use strongroom_model::{SnapshotId, VolumeId};

use crate::core_error::CoreError;
use crate::nouns::{Access, Mount, MountUse};

use super::Registry;
use super::rows::{from_json, parsed, to_json};

/// One place where a volume is in use, or is about to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountRow {
    pub(crate) volume: VolumeId,
    pub(crate) mount: Mount,
    /// Whether it was mounted; otherwise an intent.
    pub(crate) done: bool,
}

/// How far an exchange has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExchangeStep {
    /// Hand mounts may be gone; the content is the old.
    Begun,
    /// The content is the new; hand mounts may be missing and the old image may still lie there.
    Switched,
    Done,
}

impl ExchangeStep {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Switched => "switched",
            Self::Done => "done",
        }
    }
}

impl std::str::FromStr for ExchangeStep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Begun, Self::Switched, Self::Done]
            .into_iter()
            .find(|step| step.as_str() == text)
            .ok_or_else(|| format!("{text:?} is not a step of an exchange"))
    }
}

/// An exchange of content.
#[derive(Debug, Clone)]
pub(crate) struct ExchangeRow {
    pub(crate) run: String,
    pub(crate) volume: VolumeId,
    pub(crate) staged: VolumeId,
    /// The id of the safety snapshot, chosen before it is taken.
    pub(crate) safety: SnapshotId,
    /// What was mounted by hand before: path and options.
    pub(crate) remounts: Vec<(PathBuf, Vec<String>)>,
    pub(crate) step: ExchangeStep,
}

impl Registry {
    /// Where a volume is in use, or is about to be.
    pub(crate) fn mounts(&self, volume: VolumeId) -> Result<Vec<MountRow>, CoreError> {
        Ok(self.all_mounts()?.into_iter().filter(|row| row.volume == volume).collect())
    }

    pub(crate) fn all_mounts(&self) -> Result<Vec<MountRow>, CoreError> {
        self.ask("listing mounts", |connection| {
            let text =
                "SELECT volume, path, purpose, access, readonly, options, done FROM mounts ORDER BY rowid";
            connection.prepare_cached(text)?.query_map([], read_mount)?.collect()
        })
    }

    /// Writes the intent to mount (or a mount that is there).
    pub(crate) fn insert_mount(&self, row: &MountRow) -> Result<(), CoreError> {
        self.change("writing a mount", |transaction| {
            let text =
                "INSERT OR REPLACE INTO mounts (volume, path, purpose, access, readonly, options, done)
                        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
            transaction
                .execute(
                    text,
                    params![
                        row.volume.to_string(),
                        path_text(&row.mount.path),
                        to_json(&row.mount.purpose)?,
                        to_json(&row.mount.access)?,
                        row.mount.readonly,
                        to_json(&row.mount.options)?,
                        row.done,
                    ],
                )
                .map(drop)
        })
    }

    pub(crate) fn settle_mount(&self, volume: VolumeId, path: &Path) -> Result<(), CoreError> {
        self.change("settling a mount", |transaction| {
            let text = "UPDATE mounts SET done = 1 WHERE volume = ?1 AND path = ?2";
            transaction.execute(text, params![volume.to_string(), path_text(path)]).map(drop)
        })
    }

    pub(crate) fn remove_mount(&self, volume: VolumeId, path: &Path) -> Result<(), CoreError> {
        self.change("removing a mount", |transaction| {
            let text = "DELETE FROM mounts WHERE volume = ?1 AND path = ?2";
            transaction.execute(text, params![volume.to_string(), path_text(path)]).map(drop)
        })
    }

    pub(crate) fn exchange(&self, run: &str) -> Result<Option<ExchangeRow>, CoreError> {
        Ok(self.exchanges()?.into_iter().find(|row| row.run == run))
    }

    pub(crate) fn exchanges(&self) -> Result<Vec<ExchangeRow>, CoreError> {
        self.ask("listing exchanges", |connection| {
            let text = "SELECT run, volume, staged, safety, remounts, step FROM exchanges ORDER BY rowid";
            connection.prepare_cached(text)?.query_map([], read_exchange)?.collect()
        })
    }

    pub(crate) fn begin_exchange(&self, row: &ExchangeRow) -> Result<(), CoreError> {
        let remounts: Vec<_> =
            row.remounts.iter().map(|(path, options)| (path_text(path), options)).collect();
        self.change("beginning an exchange", |transaction| {
            let text = "INSERT INTO exchanges (run, volume, staged, safety, remounts, step)
                        VALUES (?1, ?2, ?3, ?4, ?5, 'begun')";
            let (volume, staged, safety) =
                (row.volume.to_string(), row.staged.to_string(), row.safety.to_string());
            transaction.execute(text, params![row.run, volume, staged, safety, to_json(&remounts)?]).map(drop)
        })
    }

    pub(crate) fn finish_exchange(&self, run: &str) -> Result<(), CoreError> {
        self.change("finishing an exchange", |transaction| {
            transaction.execute("UPDATE exchanges SET step = 'done' WHERE run = ?1", [run]).map(drop)
        })
    }

    pub(crate) fn drop_exchange(&self, run: &str) -> Result<(), CoreError> {
        self.change("dropping an exchange", |transaction| {
            transaction.execute("DELETE FROM exchanges WHERE run = ?1", [run]).map(drop)
        })
    }
}

/// Paths are bytes; those that are not UTF-8 are kept as hexadecimal text behind `hex:`. Absolute paths begin
/// with `/`.
pub(super) fn path_text(path: &Path) -> String {
    path.to_str().map_or_else(
        || {
            path.as_os_str()
                .as_bytes()
                .iter()
                .fold("hex:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
        },
        str::to_owned,
    )
}

pub(super) fn path_of(text: &str) -> PathBuf {
    match text.strip_prefix("hex:") {
        None => PathBuf::from(text),
        Some(hex) => {
            let digit = |at: usize| hex.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
            let bytes = (0..hex.len()).step_by(2).filter_map(digit).collect();
            PathBuf::from(std::ffi::OsString::from_vec(bytes))
        }
    }
}

fn read_mount(row: &Row<'_>) -> rusqlite::Result<MountRow> {
    let purpose: MountUse = from_json(&row.get::<_, String>(2)?, 2)?;
    let access: Access = from_json(&row.get::<_, String>(3)?, 3)?;
    Ok(MountRow {
        volume: parsed(row, 0)?,
        mount: Mount {
            path: path_of(&row.get::<_, String>(1)?),
            purpose,
            access,
            readonly: row.get(4)?,
            options: from_json(&row.get::<_, String>(5)?, 5)?,
        },
        done: row.get(6)?,
    })
}

fn read_exchange(row: &Row<'_>) -> rusqlite::Result<ExchangeRow> {
    let remounts: Vec<(String, Vec<String>)> = from_json(&row.get::<_, String>(4)?, 4)?;
    Ok(ExchangeRow {
        run: row.get(0)?,
        volume: parsed(row, 1)?,
        staged: parsed(row, 2)?,
        safety: parsed(row, 3)?,
        remounts: remounts.into_iter().map(|(path, options)| (path_of(&path), options)).collect(),
        step: parsed(row, 5)?,
    })
}
