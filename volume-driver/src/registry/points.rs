//! What the registry remembers about recovery points: how a volume's was chosen.

use rusqlite::{OptionalExtension as _, params};
use strongroom_model::VolumeId;

use crate::core_error::CoreError;

use super::Registry;

impl Registry {
    /// Remembers by which words the recovery point was chosen that a volume is restored from. The point itself is the volume's
    /// source: the same words may choose another one tomorrow.
    pub(crate) fn set_chosen_by(&self, id: VolumeId, words: &str) -> Result<(), CoreError> {
        self.change("writing how a point was chosen", |transaction| {
            let text = "INSERT OR REPLACE INTO chosen_points (volume, words) VALUES (?1, ?2)";
            transaction.execute(text, params![id.to_string(), words]).map(drop)
        })
    }

    /// By which words the recovery point of a volume was chosen; `None`: by its id.
    pub(crate) fn chosen_by(&self, id: VolumeId) -> Result<Option<String>, CoreError> {
        self.ask("reading how a point was chosen", |connection| {
            let text = "SELECT words FROM chosen_points WHERE volume = ?1";
            connection.prepare_cached(text)?.query_row([id.to_string()], |row| row.get(0)).optional()
        })
    }
}
