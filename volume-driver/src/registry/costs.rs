//! What snapshots cost each volume, and when it was last looked after, in the registry.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, params};
use strongroom_model::VolumeId;

use crate::core_error::CoreError;
use crate::nouns::SnapshotCost;

use super::Registry;
use super::rows::{bytes, parsed, stored_bytes};

impl Registry {
    /// Remembers what the last snapshot of a volume cost.
    pub(crate) fn note_cost(&self, volume: VolumeId, cost: &SnapshotCost) -> Result<(), CoreError> {
        self.change("noting what a snapshot cost", |transaction| {
            // The volume may be gone by now.
            let text = "INSERT INTO volume_costs (volume, extents, stall_us, taken_at)
                        SELECT id, ?2, ?3, ?4 FROM volumes WHERE id = ?1
                        ON CONFLICT (volume) DO UPDATE SET extents = ?2, stall_us = ?3, taken_at = ?4";
            let (extents, stall) = (stored_bytes(cost.extents)?, stored_bytes(cost.stall_us)?);
            transaction
                .execute(text, params![volume.to_string(), extents, stall, cost.at.to_string()])
                .map(drop)
        })
    }

    /// What the last snapshot of a volume cost.
    pub(crate) fn cost(&self, volume: VolumeId) -> Result<Option<SnapshotCost>, CoreError> {
        self.ask("reading what a snapshot cost", |connection| {
            let text = "SELECT extents, stall_us, taken_at FROM volume_costs WHERE volume = ?1 AND taken_at IS NOT NULL";
            connection
                .prepare_cached(text)?
                .query_row([volume.to_string()], |row| {
                    Ok(SnapshotCost { extents: bytes(row, 0)?, stall_us: bytes(row, 1)?, at: parsed(row, 2)? })
                })
                .optional()
        })
    }

    /// The filesystem of a volume was trimmed then.
    pub(crate) fn note_trim(&self, volume: VolumeId, at: Timestamp) -> Result<(), CoreError> {
        self.change("noting a trim", |transaction| {
            let text =
                "INSERT INTO volume_costs (volume, trimmed_at) SELECT id, ?2 FROM volumes WHERE id = ?1
                        ON CONFLICT (volume) DO UPDATE SET trimmed_at = ?2";
            transaction.execute(text, params![volume.to_string(), at.to_string()]).map(drop)
        })
    }

    /// When the filesystem of a volume was last trimmed.
    pub(crate) fn trimmed_at(&self, volume: VolumeId) -> Result<Option<Timestamp>, CoreError> {
        self.ask("reading when a volume was trimmed", |connection| {
            let text = "SELECT trimmed_at FROM volume_costs WHERE volume = ?1 AND trimmed_at IS NOT NULL";
            connection.prepare_cached(text)?.query_row([volume.to_string()], |row| parsed(row, 0)).optional()
        })
    }
}
