//! Volumes in the registry.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension as _, params};
use strongroom_model::{VolumeId, VolumeName};

use crate::core_error::CoreError;
use crate::image::ImageName;

use super::rows::{VolumeRow, VolumeStep, stored_bytes, to_json};
use super::{Registry, discard};

impl Registry {
    /// All volumes, also those that are being created, by name.
    pub(crate) fn volumes(&self) -> Result<Vec<VolumeRow>, CoreError> {
        self.ask("listing volumes", |connection| {
            let text = format!("SELECT {} FROM volumes ORDER BY name", VolumeRow::COLUMNS);
            connection.prepare_cached(&text)?.query_map([], VolumeRow::read)?.collect()
        })
    }

    pub(crate) fn volume(&self, id: VolumeId) -> Result<Option<VolumeRow>, CoreError> {
        self.ask("reading a volume", |connection| {
            let text = format!("SELECT {} FROM volumes WHERE id = ?1", VolumeRow::COLUMNS);
            connection.prepare_cached(&text)?.query_row([id.to_string()], VolumeRow::read).optional()
        })
    }

    pub(crate) fn volume_named(&self, name: &VolumeName) -> Result<Option<VolumeRow>, CoreError> {
        self.ask("reading a volume", |connection| {
            let text = format!("SELECT {} FROM volumes WHERE name = ?1", VolumeRow::COLUMNS);
            connection.prepare_cached(&text)?.query_row([name.as_str()], VolumeRow::read).optional()
        })
    }

    /// The sum of the sizes of all volumes.
    pub(crate) fn provisioned_bytes(&self) -> Result<u64, CoreError> {
        Ok(self.volumes()?.iter().fold(0, |sum: u64, row| sum.saturating_add(row.bytes)))
    }

    /// Writes the intent to create a volume (or whatever step the row has).
    pub(crate) fn insert_volume(&self, row: &VolumeRow) -> Result<(), CoreError> {
        self.change("writing a volume", |transaction| {
            let text = format!(
                "INSERT INTO volumes ({}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                VolumeRow::COLUMNS
            );
            transaction
                .execute(
                    &text,
                    params![
                        row.id.to_string(),
                        row.name.as_str(),
                        row.kind.as_str(),
                        stored_bytes(row.bytes)?,
                        row.image.as_str(),
                        row.step.as_str(),
                        row.grow,
                        row.source.as_ref().map(to_json).transpose()?,
                        to_json(&row.labels)?,
                        row.condition,
                        row.created_at.to_string(),
                    ],
                )
                .map(drop)
        })
    }

    /// A volume has come to this step.
    pub(crate) fn settle_volume(&self, id: VolumeId, step: VolumeStep) -> Result<(), CoreError> {
        self.change("settling a volume", |transaction| {
            let text = "UPDATE volumes SET step = ?2 WHERE id = ?1";
            transaction.execute(text, [&id.to_string(), step.as_str()]).map(drop)
        })
    }

    /// Removes a volume; its image becomes a discarded one.
    pub(crate) fn drop_volume(&self, id: VolumeId) -> Result<(), CoreError> {
        self.change("dropping a volume", |transaction| {
            let id = id.to_string();
            let image: Option<String> = transaction
                .query_row("SELECT image FROM volumes WHERE id = ?1", [&id], |row| row.get(0))
                .optional()?;
            if let Some(image) = image {
                discard(transaction, &image)?;
            }
            transaction.execute("DELETE FROM mounts WHERE volume = ?1", [&id])?;
            transaction.execute("DELETE FROM chosen_points WHERE volume = ?1", [&id])?;
            transaction.execute("DELETE FROM exchanges WHERE volume = ?1 AND step = 'done'", [&id])?;
            transaction.execute("DELETE FROM volumes WHERE id = ?1", [&id]).map(drop)
        })
    }

    /// A volume shall have this size, and its filesystem grow if `grow`.
    pub(crate) fn set_volume_size(&self, id: VolumeId, bytes: u64, grow: bool) -> Result<(), CoreError> {
        self.change("resizing a volume", |transaction| {
            let text = "UPDATE volumes SET bytes = ?2, grow = ?3 WHERE id = ?1";
            transaction.execute(text, params![id.to_string(), stored_bytes(bytes)?, grow]).map(drop)
        })
    }

    pub(crate) fn set_volume_labels(
        &self,
        id: VolumeId,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), CoreError> {
        self.change("labelling a volume", |transaction| {
            let text = "UPDATE volumes SET labels = ?2 WHERE id = ?1";
            transaction.execute(text, params![id.to_string(), to_json(labels)?]).map(drop)
        })
    }

    /// Remembers what is wrong with a volume, or that nothing is.
    pub(crate) fn set_volume_condition(
        &self,
        id: VolumeId,
        condition: Option<&str>,
    ) -> Result<(), CoreError> {
        self.change("writing a volume's condition", |transaction| {
            let text = "UPDATE volumes SET condition = ?2 WHERE id = ?1 AND condition IS NOT ?2";
            transaction.execute(text, params![id.to_string(), condition]).map(drop)
        })
    }

    /// The one transaction of an exchange: `volume` gets the image of `staged`, which is gone, and the old
    /// image is discarded. The size never shrinks.
    pub(crate) fn switch_images(
        &self,
        run: &str,
        volume: &VolumeRow,
        staged: &VolumeRow,
    ) -> Result<(), CoreError> {
        let bytes = volume.bytes.max(staged.bytes);
        let grow = staged.grow || bytes > staged.bytes;
        self.change("exchanging the content of a volume", |transaction| {
            let (volume_id, staged_id) = (volume.id.to_string(), staged.id.to_string());
            let name: &ImageName = &staged.image;
            transaction.execute("DELETE FROM mounts WHERE volume = ?1", [&staged_id])?;
            transaction.execute("DELETE FROM chosen_points WHERE volume = ?1", [&staged_id])?;
            transaction.execute("DELETE FROM volumes WHERE id = ?1", [&staged_id])?;
            transaction.execute(
                "UPDATE volumes SET image = ?2, bytes = ?3, grow = ?4, condition = NULL WHERE id = ?1",
                params![volume_id, name.as_str(), stored_bytes(bytes)?, grow],
            )?;
            discard(transaction, volume.image.as_str())?;
            transaction.execute("UPDATE exchanges SET step = 'switched' WHERE run = ?1", [run]).map(drop)
        })
    }
}
