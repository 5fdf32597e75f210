//! Attachments in the registry: which volume an orchestrator has given to which node.

use rusqlite::{Row, params};
use strongroom_model::VolumeId;

use crate::core_error::CoreError;
use crate::nouns::Attachment;

use super::Registry;

impl Registry {
    /// Where a volume is attached, in order of the nodes' names.
    pub(crate) fn attachments(&self, volume: VolumeId) -> Result<Vec<Attachment>, CoreError> {
        self.ask("listing attachments", |connection| {
            let text = "SELECT node, readonly, only_target FROM attachments WHERE volume = ?1 ORDER BY node";
            connection.prepare_cached(text)?.query_map([volume.to_string()], read)?.collect()
        })
    }

    /// How many volumes are attached to a node.
    pub(crate) fn attached_to(&self, node: &str) -> Result<u64, CoreError> {
        self.ask("counting attachments", |connection| {
            let text = "SELECT count(*) FROM attachments WHERE node = ?1";
            let count: i64 = connection.query_row(text, [node], |row| row.get(0))?;
            Ok(u64::try_from(count).unwrap_or_default())
        })
    }

    pub(crate) fn insert_attachment(&self, volume: VolumeId, row: &Attachment) -> Result<(), CoreError> {
        self.change("writing an attachment", |transaction| {
            let text =
                "INSERT INTO attachments (volume, node, readonly, only_target) VALUES (?1, ?2, ?3, ?4)";
            transaction
                .execute(text, params![volume.to_string(), row.node, row.readonly, row.only_target])
                .map(drop)
        })
    }

    /// A volume is no longer attached to `node`, or to any.
    pub(crate) fn remove_attachments(&self, volume: VolumeId, node: Option<&str>) -> Result<(), CoreError> {
        self.change("removing attachments", |transaction| {
            let text = "DELETE FROM attachments WHERE volume = ?1 AND (?2 IS NULL OR node = ?2)";
            transaction.execute(text, params![volume.to_string(), node]).map(drop)
        })
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<Attachment> {
    Ok(Attachment { node: row.get(0)?, readonly: row.get(1)?, only_target: row.get(2)? })
}
