//! What can be changed about a volume, in the registry: its limits, and what it was created with.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension as _, params};
use strongroom_model::VolumeId;

use crate::core_error::CoreError;
use crate::io_limits::IoLimits;

use super::Registry;
use super::rows::{from_json, to_json};

/// What a volume was asked to be when it was created, as far as that can change since.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Asked {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) limits: IoLimits,
}

impl Registry {
    /// The limits of a volume; those of a volume that nobody limited are none.
    pub(crate) fn limits(&self, volume: VolumeId) -> Result<IoLimits, CoreError> {
        self.ask("reading the limits of a volume", |connection| {
            let text = "SELECT limits FROM volume_settings WHERE volume = ?1";
            let read = |row: &rusqlite::Row<'_>| from_json(&row.get::<_, String>(0)?, 0);
            let found: Option<IoLimits> =
                connection.prepare_cached(text)?.query_row([volume.to_string()], read).optional()?;
            Ok(found.unwrap_or_default())
        })
    }

    /// Whether any volume has limits.
    pub(crate) fn any_limits(&self) -> Result<bool, CoreError> {
        self.ask("looking for limits", |connection| {
            let text = "SELECT EXISTS (SELECT 1 FROM volume_settings WHERE limits <> '{}')";
            connection.query_row(text, [], |row| row.get(0))
        })
    }

    /// What a volume was created with; `None`: not by `create`, so nothing was asked.
    pub(crate) fn asked(&self, volume: VolumeId) -> Result<Option<Asked>, CoreError> {
        self.ask("reading how a volume was created", |connection| {
            let text = "SELECT asked FROM volume_settings WHERE volume = ?1";
            let read = |row: &rusqlite::Row<'_>| from_json(&row.get::<_, String>(0)?, 0);
            connection.prepare_cached(text)?.query_row([volume.to_string()], read).optional()
        })
    }

    /// What a volume was created with, which are its first limits.
    pub(crate) fn insert_settings(&self, volume: VolumeId, asked: &Asked) -> Result<(), CoreError> {
        self.change("writing the limits of a volume", |transaction| {
            let text = "INSERT INTO volume_settings (volume, limits, asked) VALUES (?1, ?2, ?3)";
            transaction
                .execute(text, params![volume.to_string(), to_json(&asked.limits)?, to_json(asked)?])
                .map(drop)
        })
    }

    /// A volume gets other labels and limits, together.
    pub(crate) fn modify_volume(
        &self,
        volume: VolumeId,
        labels: &BTreeMap<String, String>,
        limits: IoLimits,
    ) -> Result<(), CoreError> {
        self.change("modifying a volume", |transaction| {
            let id = volume.to_string();
            transaction
                .execute("UPDATE volumes SET labels = ?2 WHERE id = ?1", params![id, to_json(labels)?])?;
            let text = "INSERT INTO volume_settings (volume, limits, asked) VALUES (?1, ?2, ?3)
                        ON CONFLICT (volume) DO UPDATE SET limits = ?2";
            let asked = Asked { labels: labels.clone(), limits };
            transaction.execute(text, params![id, to_json(&limits)?, to_json(&asked)?]).map(drop)
        })
    }
}
