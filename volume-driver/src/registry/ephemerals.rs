//! Inline volumes in the registry: the orchestrator's id, our volume, the target.

use std::path::PathBuf;

use rusqlite::{OptionalExtension as _, Row, params};
use strongroom_model::VolumeId;

use crate::core_error::CoreError;

use super::Registry;
use super::mounts::{path_of, path_text};
use super::rows::parsed;

/// An inline volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EphemeralRow {
    /// What the orchestrator calls it.
    pub(crate) handle: String,
    /// What it is; there or not there yet.
    pub(crate) volume: VolumeId,
    /// The one place where it is published.
    pub(crate) target: PathBuf,
}

fn read(row: &Row<'_>) -> rusqlite::Result<EphemeralRow> {
    Ok(EphemeralRow {
        handle: row.get(0)?,
        volume: parsed(row, 1)?,
        target: path_of(&row.get::<_, String>(2)?),
    })
}

impl Registry {
    /// All inline volumes.
    pub(crate) fn ephemerals(&self) -> Result<Vec<EphemeralRow>, CoreError> {
        self.ask("listing inline volumes", |connection| {
            let text = "SELECT handle, volume, target FROM ephemerals ORDER BY rowid";
            connection.prepare_cached(text)?.query_map([], read)?.collect()
        })
    }

    pub(crate) fn ephemeral(&self, handle: &str) -> Result<Option<EphemeralRow>, CoreError> {
        self.ask("reading an inline volume", |connection| {
            let text = "SELECT handle, volume, target FROM ephemerals WHERE handle = ?1";
            connection.prepare_cached(text)?.query_row([handle], read).optional()
        })
    }

    /// Writes the intent to make an inline volume.
    pub(crate) fn insert_ephemeral(&self, row: &EphemeralRow) -> Result<(), CoreError> {
        self.change("writing an inline volume", |transaction| {
            let text = "INSERT INTO ephemerals (handle, volume, target) VALUES (?1, ?2, ?3)";
            let values = params![row.handle, row.volume.to_string(), path_text(&row.target)];
            transaction.execute(text, values).map(drop)
        })
    }

    pub(crate) fn forget_ephemeral(&self, handle: &str) -> Result<(), CoreError> {
        self.change("forgetting an inline volume", |transaction| {
            transaction.execute("DELETE FROM ephemerals WHERE handle = ?1", [handle]).map(drop)
        })
    }
}
