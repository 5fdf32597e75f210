//! Snapshots that shall become recovery points, in the registry.

use std::collections::BTreeMap;
use std::str::FromStr;

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row, params};
use strongroom_model::{RecoveryPointId, SnapshotId, VolumeId, VolumeName};

use crate::core_error::CoreError;
use crate::nouns::VolumeKind;

use super::rows::{SnapshotRow, bytes, from_json, parsed, stored_bytes, to_json};
use super::{Registry, discard};

/// How far a delivery has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryStep {
    /// An intent: its snapshot is being taken.
    Cutting,
    /// The snapshot is there; the agent has to make it a point.
    Waiting,
    /// The point is in the repository.
    Published,
    /// Nobody wants it any more; the agent has to forget it.
    Cancelled,
}

impl DeliveryStep {
    const ALL: [Self; 4] = [Self::Cutting, Self::Waiting, Self::Published, Self::Cancelled];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Cutting => "cutting",
            Self::Waiting => "waiting",
            Self::Published => "published",
            Self::Cancelled => "cancelled",
        }
    }
}

impl FromStr for DeliveryStep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|step| step.as_str() == text)
            .ok_or_else(|| format!("{text:?} is not a step of a delivery"))
    }
}

/// A snapshot that shall become, or became, a recovery point.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) point: RecoveryPointId,
    pub(crate) name: String,
    pub(crate) volume: VolumeId,
    pub(crate) volume_name: VolumeName,
    pub(crate) kind: VolumeKind,
    pub(crate) bytes: u64,
    /// The labels of the point.
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) snapshot: SnapshotId,
    /// The moment of the cut.
    pub(crate) taken_at: Timestamp,
    pub(crate) step: DeliveryStep,
}

impl Delivery {
    const COLUMNS: &str = "point, name, volume, volume_name, kind, bytes, labels, snapshot, taken_at, step";

    pub(crate) fn subject(&self) -> String {
        format!("snapshot {:?} of type backup ({})", self.name, self.point)
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            point: parsed(row, 0)?,
            name: row.get(1)?,
            volume: parsed(row, 2)?,
            volume_name: parsed(row, 3)?,
            kind: parsed(row, 4)?,
            bytes: bytes(row, 5)?,
            labels: from_json(&row.get::<_, String>(6)?, 6)?,
            snapshot: parsed(row, 7)?,
            taken_at: parsed(row, 8)?,
            step: parsed(row, 9)?,
        })
    }
}

impl Registry {
    /// All deliveries, oldest first.
    pub(crate) fn deliveries(&self) -> Result<Vec<Delivery>, CoreError> {
        self.ask("listing deliveries", |connection| {
            let text = format!("SELECT {} FROM deliveries ORDER BY rowid", Delivery::COLUMNS);
            connection.prepare_cached(&text)?.query_map([], Delivery::read)?.collect()
        })
    }

    pub(crate) fn delivery(&self, point: RecoveryPointId) -> Result<Option<Delivery>, CoreError> {
        self.ask("reading a delivery", |connection| {
            let text = format!("SELECT {} FROM deliveries WHERE point = ?1", Delivery::COLUMNS);
            connection.prepare_cached(&text)?.query_row([point.to_string()], Delivery::read).optional()
        })
    }

    pub(crate) fn delivery_named(&self, name: &str) -> Result<Option<Delivery>, CoreError> {
        self.ask("reading a delivery", |connection| {
            let text = format!("SELECT {} FROM deliveries WHERE name = ?1", Delivery::COLUMNS);
            connection.prepare_cached(&text)?.query_row([name], Delivery::read).optional()
        })
    }

    pub(crate) fn insert_delivery(&self, row: &Delivery) -> Result<(), CoreError> {
        self.change("writing a delivery", |transaction| {
            let text = format!(
                "INSERT INTO deliveries ({}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                Delivery::COLUMNS
            );
            transaction
                .execute(
                    &text,
                    params![
                        row.point.to_string(),
                        row.name,
                        row.volume.to_string(),
                        row.volume_name.as_str(),
                        row.kind.as_str(),
                        stored_bytes(row.bytes)?,
                        to_json(&row.labels)?,
                        row.snapshot.to_string(),
                        row.taken_at.to_string(),
                        row.step.as_str(),
                    ],
                )
                .map(drop)
        })
    }

    /// The cut was taken, then.
    pub(crate) fn settle_delivery(
        &self,
        point: RecoveryPointId,
        taken_at: Timestamp,
    ) -> Result<(), CoreError> {
        self.change("settling a delivery", |transaction| {
            let text =
                "UPDATE deliveries SET step = 'waiting', taken_at = ?2 WHERE point = ?1 AND step = 'cutting'";
            transaction.execute(text, params![point.to_string(), taken_at.to_string()]).map(drop)
        })
    }

    /// Nobody wants it any more.
    pub(crate) fn cancel_delivery(&self, point: RecoveryPointId) -> Result<(), CoreError> {
        self.change("cancelling a delivery", |transaction| {
            let text = "UPDATE deliveries SET step = 'cancelled' WHERE point = ?1";
            transaction.execute(text, [point.to_string()]).map(drop)
        })
    }

    /// The point is in the repository. Its snapshot becomes the agent's (`labels`, for its next run), or is discarded.
    pub(crate) fn publish_delivery(
        &self,
        row: &Delivery,
        snapshot: Option<&SnapshotRow>,
        labels: Option<&BTreeMap<String, String>>,
    ) -> Result<(), CoreError> {
        self.change("noting that a point is published", |transaction| {
            let text = "UPDATE deliveries SET step = 'published' WHERE point = ?1 AND step = 'waiting'";
            transaction.execute(text, [row.point.to_string()])?;
            match (snapshot, labels) {
                (Some(snapshot), Some(labels)) => {
                    let text = "UPDATE snapshots SET owner = 'agent', labels = ?2 WHERE id = ?1";
                    transaction.execute(text, params![snapshot.id.to_string(), to_json(labels)?]).map(drop)
                }
                (Some(snapshot), None) => {
                    discard(transaction, snapshot.image().as_str())?;
                    let text = "DELETE FROM snapshots WHERE id = ?1";
                    transaction.execute(text, [snapshot.id.to_string()]).map(drop)
                }
                (None, _) => Ok(()),
            }
        })
    }

    /// Forgets a delivery, and discards its snapshot unless that is the agent's by now.
    pub(crate) fn drop_delivery(
        &self,
        point: RecoveryPointId,
        snapshot: Option<&SnapshotRow>,
    ) -> Result<(), CoreError> {
        self.change("forgetting a delivery", |transaction| {
            if let Some(snapshot) = snapshot {
                discard(transaction, snapshot.image().as_str())?;
                transaction.execute("DELETE FROM snapshots WHERE id = ?1", [snapshot.id.to_string()])?;
            }
            transaction.execute("DELETE FROM deliveries WHERE point = ?1", [point.to_string()]).map(drop)
        })
    }
}
