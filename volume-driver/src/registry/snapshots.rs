//! Snapshots in the registry.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Transaction, params};
use strongroom_model::{SnapshotId, VolumeId};

use crate::core_error::CoreError;

use super::rows::{SnapshotRow, stored_bytes, to_json};
use super::{Registry, discard};

impl Registry {
    /// All snapshots, also those that are being taken, oldest first.
    pub(crate) fn snapshots(&self) -> Result<Vec<SnapshotRow>, CoreError> {
        self.ask("listing snapshots", |connection| {
            let text = format!("SELECT {} FROM snapshots ORDER BY rowid", SnapshotRow::COLUMNS);
            connection.prepare_cached(&text)?.query_map([], SnapshotRow::read)?.collect()
        })
    }

    pub(crate) fn snapshot(&self, id: SnapshotId) -> Result<Option<SnapshotRow>, CoreError> {
        self.ask("reading a snapshot", |connection| {
            let text = format!("SELECT {} FROM snapshots WHERE id = ?1", SnapshotRow::COLUMNS);
            connection.prepare_cached(&text)?.query_row([id.to_string()], SnapshotRow::read).optional()
        })
    }

    /// Snapshots with this label, of all volumes.
    pub(crate) fn snapshots_labelled(&self, label: &str) -> Result<Vec<SnapshotRow>, CoreError> {
        self.ask("listing snapshots", |connection| {
            let text =
                format!("SELECT {} FROM snapshots WHERE label = ?1 ORDER BY rowid", SnapshotRow::COLUMNS);
            connection.prepare_cached(&text)?.query_map([label], SnapshotRow::read)?.collect()
        })
    }

    /// Writes the intent to take a snapshot.
    pub(crate) fn insert_snapshot(&self, row: &SnapshotRow) -> Result<(), CoreError> {
        self.change("writing a snapshot", |transaction| insert(transaction, row))
    }

    /// A snapshot was taken, then.
    pub(crate) fn settle_snapshot(
        &self,
        id: SnapshotId,
        created_at: Timestamp,
        quiesced: bool,
    ) -> Result<(), CoreError> {
        self.change("settling a snapshot", |transaction| {
            let text = "UPDATE snapshots SET ready = 1, created_at = ?2, quiesced = ?3 WHERE id = ?1";
            transaction.execute(text, params![id.to_string(), created_at.to_string(), quiesced]).map(drop)
        })
    }

    /// Removes a snapshot; its image becomes a discarded one.
    pub(crate) fn drop_snapshot(&self, row: &SnapshotRow) -> Result<(), CoreError> {
        self.change("dropping a snapshot", |transaction| {
            discard(transaction, row.image().as_str())?;
            transaction.execute("DELETE FROM snapshots WHERE id = ?1", [row.id.to_string()]).map(drop)
        })
    }

    /// Whether a volume has a snapshot with this label, finished or not.
    pub(crate) fn labelled(&self, volume: VolumeId, label: &str) -> Result<Option<SnapshotRow>, CoreError> {
        Ok(self.snapshots_labelled(label)?.into_iter().find(|row| row.volume == volume))
    }
}

/// Writes a row as part of a larger change.
pub(super) fn insert(transaction: &Transaction<'_>, row: &SnapshotRow) -> rusqlite::Result<()> {
    let text = format!(
        "INSERT INTO snapshots ({}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        SnapshotRow::COLUMNS
    );
    transaction
        .execute(
            &text,
            params![
                row.id.to_string(),
                row.volume.to_string(),
                row.volume_name.as_str(),
                row.label,
                row.owner,
                to_json(&row.labels)?,
                row.kind.as_str(),
                stored_bytes(row.bytes)?,
                row.ready,
                row.quiesced,
                row.grow,
                row.created_at.to_string(),
                row.group.map(|group| group.to_string()),
            ],
        )
        .map(drop)
}
