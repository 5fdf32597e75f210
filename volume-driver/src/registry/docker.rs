//! References of Docker in the registry: which containers have a volume mounted.
//!
//! A reference belongs to one run of the machine. Containers of an earlier run are dead, so what they held counts for
//! nothing; see `driver::docker`.

use rusqlite::{OptionalExtension as _, params};
use strongroom_model::VolumeId;

use crate::core_error::CoreError;

use super::Registry;
use super::rows::parsed;

/// One use of a volume by one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReferenceRow {
    pub(crate) volume: VolumeId,
    /// What Docker calls it; opaque.
    pub(crate) reference: String,
    /// The run of the machine in which it was taken.
    pub(crate) boot: String,
}

impl Registry {
    /// The references to a volume, in the order in which they were taken.
    pub(crate) fn references(&self, volume: VolumeId) -> Result<Vec<ReferenceRow>, CoreError> {
        self.ask("listing references", |connection| {
            let text =
                "SELECT volume, reference, boot FROM docker_references WHERE volume = ?1 ORDER BY rowid";
            let mut statement = connection.prepare_cached(text)?;
            statement
                .query_map([volume.to_string()], |row| {
                    Ok(ReferenceRow { volume: parsed(row, 0)?, reference: row.get(1)?, boot: row.get(2)? })
                })?
                .collect()
        })
    }

    /// Writes a reference; there already: nothing but its run of the machine changes.
    pub(crate) fn insert_reference(&self, row: &ReferenceRow) -> Result<(), CoreError> {
        self.change("writing a reference", |transaction| {
            let text = "INSERT INTO docker_references (volume, reference, boot) VALUES (?1, ?2, ?3)
                        ON CONFLICT (volume, reference) DO UPDATE SET boot = excluded.boot";
            transaction.execute(text, params![row.volume.to_string(), row.reference, row.boot]).map(drop)
        })
    }

    /// Removes a reference and answers whether it was there.
    pub(crate) fn remove_reference(&self, volume: VolumeId, reference: &str) -> Result<bool, CoreError> {
        self.change("removing a reference", |transaction| {
            let text = "DELETE FROM docker_references WHERE volume = ?1 AND reference = ?2 RETURNING 1";
            let found: Option<i64> = transaction
                .query_row(text, params![volume.to_string(), reference], |row| row.get(0))
                .optional()?;
            Ok(found.is_some())
        })
    }

    /// Removes all references to a volume.
    pub(crate) fn remove_references(&self, volume: VolumeId) -> Result<(), CoreError> {
        self.change("removing references", |transaction| {
            let text = "DELETE FROM docker_references WHERE volume = ?1";
            transaction.execute(text, [volume.to_string()]).map(drop)
        })
    }

    /// Removes the references to a volume that were taken in other runs of the machine; answers how many.
    pub(crate) fn remove_dead_references(&self, volume: VolumeId, boot: &str) -> Result<usize, CoreError> {
        self.change("removing dead references", |transaction| {
            let text = "DELETE FROM docker_references WHERE volume = ?1 AND boot <> ?2";
            transaction.execute(text, params![volume.to_string(), boot])
        })
    }
}
