//! Rows as values.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use jiff::Timestamp;
use rusqlite::Row;
use rusqlite::types::Type;
use strongroom_model::{GroupId, SnapshotId, VolumeId, VolumeName};

use crate::image::ImageName;
use crate::nouns::{ContentSource, VolumeKind};

/// How far a volume has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VolumeStep {
    /// An intent: its image is being made.
    Creating,
    Ready,
    Hydrating,
}

impl VolumeStep {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Ready => "ready",
            Self::Hydrating => "hydrating",
        }
    }
}

impl FromStr for VolumeStep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Creating, Self::Ready, Self::Hydrating]
            .into_iter()
            .find(|step| step.as_str() == text)
            .ok_or_else(|| format!("{text:?} is not a step of a volume"))
    }
}

/// A volume.
#[derive(Debug, Clone)]
pub(crate) struct VolumeRow {
    pub(crate) id: VolumeId,
    pub(crate) name: VolumeName,
    pub(crate) kind: VolumeKind,
    pub(crate) bytes: u64,
    pub(crate) image: ImageName,
    pub(crate) step: VolumeStep,
    /// Whether the filesystem has yet to take all of the volume.
    pub(crate) grow: bool,
    pub(crate) source: Option<ContentSource>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) condition: Option<String>,
    pub(crate) created_at: Timestamp,
}

impl VolumeRow {
    /// How messages call it.
    pub(crate) fn subject(&self) -> String {
        format!("volume {} ({})", self.name, self.id)
    }

    pub(super) const COLUMNS: &str =
        "id, name, kind, bytes, image, step, grow, source, labels, condition, created_at";

    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: parsed(row, 0)?,
            name: parsed(row, 1)?,
            kind: parsed(row, 2)?,
            bytes: bytes(row, 3)?,
            image: parsed(row, 4)?,
            step: parsed(row, 5)?,
            grow: row.get(6)?,
            source: row.get::<_, Option<String>>(7)?.map(|text| from_json(&text, 7)).transpose()?,
            labels: from_json(&row.get::<_, String>(8)?, 8)?,
            condition: row.get(9)?,
            created_at: parsed(row, 10)?,
        })
    }
}

/// A snapshot.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotRow {
    pub(crate) id: SnapshotId,
    pub(crate) volume: VolumeId,
    pub(crate) volume_name: VolumeName,
    pub(crate) label: String,
    pub(crate) owner: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) kind: VolumeKind,
    pub(crate) bytes: u64,
    pub(crate) ready: bool,
    pub(crate) quiesced: bool,
    pub(crate) grow: bool,
    pub(crate) created_at: Timestamp,
    /// The group that it is a member of.
    pub(crate) group: Option<GroupId>,
}

impl SnapshotRow {
    /// What is intended: a snapshot of this volume, before anything of it exists.
    pub(crate) fn intended(id: SnapshotId, volume: &VolumeRow, label: String, created_at: Timestamp) -> Self {
        Self {
            id,
            volume: volume.id,
            volume_name: volume.name.clone(),
            label,
            owner: String::new(),
            labels: BTreeMap::new(),
            kind: volume.kind,
            bytes: volume.bytes,
            ready: false,
            quiesced: false,
            grow: volume.grow,
            created_at,
            group: None,
        }
    }

    pub(crate) fn image(&self) -> ImageName {
        ImageName::of_snapshot(self.id)
    }

    pub(crate) fn subject(&self) -> String {
        format!("snapshot {} of volume {}", self.id, self.volume_name)
    }

    pub(super) const COLUMNS: &str = "id, volume, volume_name, label, owner, labels, kind, bytes, ready, quiesced, grow, created_at, grouped";

    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: parsed(row, 0)?,
            volume: parsed(row, 1)?,
            volume_name: parsed(row, 2)?,
            label: row.get(3)?,
            owner: row.get(4)?,
            labels: from_json(&row.get::<_, String>(5)?, 5)?,
            kind: parsed(row, 6)?,
            bytes: bytes(row, 7)?,
            ready: row.get(8)?,
            quiesced: row.get(9)?,
            grow: row.get(10)?,
            created_at: parsed(row, 11)?,
            group: optional(row, 12)?,
        })
    }
}

/// A column whose text is parsed; a text that does not parse is damage, never guessed around.
pub(super) fn parsed<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: FromStr,
    T::Err: Display,
{
    let text: String = row.get(column)?;
    text.parse().map_err(|error: T::Err| damaged(column, error.to_string()))
}

/// As [`parsed`], of a column that may be empty.
pub(super) fn optional<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>>
where
    T: FromStr,
    T::Err: Display,
{
    let text: Option<String> = row.get(column)?;
    text.map(|text| text.parse().map_err(|error: T::Err| damaged(column, error.to_string()))).transpose()
}

pub(super) fn bytes(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|error| damaged(column, error.to_string()))
}

pub(super) fn stored_bytes(bytes: u64) -> rusqlite::Result<i64> {
    i64::try_from(bytes).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

pub(super) fn from_json<T: serde::de::DeserializeOwned>(text: &str, column: usize) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|error| damaged(column, error.to_string()))
}

pub(super) fn to_json<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

fn damaged(column: usize, reason: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, reason.into())
}
