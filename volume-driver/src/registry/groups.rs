//! Groups of snapshots in the registry. Group and members come and go in one transaction.

use rusqlite::{OptionalExtension as _, Row, params};
use strongroom_model::{GroupId, SnapshotId};

use jiff::Timestamp;

use crate::core_error::CoreError;

use super::rows::{SnapshotRow, from_json, parsed, to_json};
use super::{Registry, discard, snapshots};

/// A group of snapshots.
#[derive(Debug, Clone)]
pub(crate) struct GroupRow {
    pub(crate) id: GroupId,
    pub(crate) name: String,
    pub(crate) owner: String,
    pub(crate) labels: std::collections::BTreeMap<String, String>,
    pub(crate) ready: bool,
    pub(crate) created_at: Timestamp,
}

impl GroupRow {
    pub(crate) fn subject(&self) -> String {
        format!("group {:?} ({})", self.name, self.id)
    }

    const COLUMNS: &str = "id, name, owner, labels, ready, created_at";

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: parsed(row, 0)?,
            name: row.get(1)?,
            owner: row.get(2)?,
            labels: from_json(&row.get::<_, String>(3)?, 3)?,
            ready: row.get(4)?,
            created_at: parsed(row, 5)?,
        })
    }
}

/// A member that was cut: its snapshot, and whether no write was half done then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CutMember {
    pub(crate) snapshot: SnapshotId,
    pub(crate) quiesced: bool,
}

impl Registry {
    /// All groups, also those that are being taken, oldest first.
    pub(crate) fn groups(&self) -> Result<Vec<GroupRow>, CoreError> {
        self.ask("listing groups", |connection| {
            let text = format!("SELECT {} FROM groups ORDER BY rowid", GroupRow::COLUMNS);
            connection.prepare_cached(&text)?.query_map([], GroupRow::read)?.collect()
        })
    }

    pub(crate) fn group(&self, id: GroupId) -> Result<Option<GroupRow>, CoreError> {
        self.ask("reading a group", |connection| {
            let text = format!("SELECT {} FROM groups WHERE id = ?1", GroupRow::COLUMNS);
            connection.prepare_cached(&text)?.query_row([id.to_string()], GroupRow::read).optional()
        })
    }

    pub(crate) fn group_named(&self, name: &str) -> Result<Option<GroupRow>, CoreError> {
        self.ask("reading a group", |connection| {
            let text = format!("SELECT {} FROM groups WHERE name = ?1", GroupRow::COLUMNS);
            connection.prepare_cached(&text)?.query_row([name], GroupRow::read).optional()
        })
    }

    /// The members of a group, in the order in which they were cut.
    pub(crate) fn members(&self, id: GroupId) -> Result<Vec<SnapshotRow>, CoreError> {
        self.ask("listing the members of a group", |connection| {
            let text =
                format!("SELECT {} FROM snapshots WHERE grouped = ?1 ORDER BY rowid", SnapshotRow::COLUMNS);
            connection.prepare_cached(&text)?.query_map([id.to_string()], SnapshotRow::read)?.collect()
        })
    }

    /// Writes the intent to take a group with all its members.
    pub(crate) fn insert_group(&self, row: &GroupRow, members: &[SnapshotRow]) -> Result<(), CoreError> {
        self.change("writing a group", |transaction| {
            let text = format!("INSERT INTO groups ({}) VALUES (?1, ?2, ?3, ?4, ?5, ?6)", GroupRow::COLUMNS);
            let (id, at, labels) = (row.id.to_string(), row.created_at.to_string(), to_json(&row.labels)?);
            transaction.execute(&text, params![id, row.name, row.owner, labels, row.ready, at])?;
            members.iter().try_for_each(|member| snapshots::insert(transaction, member))
        })
    }

    /// All members were cut, then.
    pub(crate) fn settle_group(
        &self,
        id: GroupId,
        at: Timestamp,
        members: &[CutMember],
    ) -> Result<(), CoreError> {
        self.change("settling a group", |transaction| {
            let at = at.to_string();
            for member in members {
                let text = "UPDATE snapshots SET ready = 1, created_at = ?2, quiesced = ?3 WHERE id = ?1";
                transaction.execute(text, params![member.snapshot.to_string(), at, member.quiesced])?;
            }
            let text = "UPDATE groups SET ready = 1, created_at = ?2 WHERE id = ?1";
            transaction.execute(text, params![id.to_string(), at]).map(drop)
        })
    }

    /// Removes a group and its members, whose images become discarded ones.
    pub(crate) fn drop_group(&self, id: GroupId, members: &[SnapshotRow]) -> Result<(), CoreError> {
        self.change("dropping a group", |transaction| {
            for member in members {
                discard(transaction, member.image().as_str())?;
            }
            transaction.execute("DELETE FROM snapshots WHERE grouped = ?1", [id.to_string()])?;
            transaction.execute("DELETE FROM groups WHERE id = ?1", [id.to_string()]).map(drop)
        })
    }
}
