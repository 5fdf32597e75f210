//! What an image says of itself, so that a lost registry can be made again from its images.
//!
//! The note is JSON in the extended attribute `user.strongroom` of the image. It is an aid and never a truth: nothing
//! reads it but `strongroom driver doctor`, about images that the registry does not know. It is written when a volume
//! or snapshot is made or changed, and again at each start where it is not as it should be.
//!
//! Old reader, new note: fields that it does not know are passed over. New reader, old note: each field has a default.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strongroom_model::VolumeId;

use crate::nouns::VolumeKind;
use crate::registry::{SnapshotRow, VolumeRow, VolumeStep};

/// What an image is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ImageNote {
    /// The name of the volume, or of the volume that a snapshot is of.
    pub(crate) name: String,
    pub(crate) volume: Option<VolumeId>,
    pub(crate) kind: Option<VolumeKind>,
    pub(crate) labels: BTreeMap<String, String>,
    /// A restore has not finished it.
    pub(crate) hydrating: bool,
    /// The filesystem has yet to take all of its volume.
    pub(crate) grow: bool,
    /// Snapshots: what it is called, and who asked for it.
    pub(crate) label: Option<String>,
    pub(crate) owner: Option<String>,
    pub(crate) created_at: Option<Timestamp>,
}

impl ImageNote {
    pub(crate) fn of_volume(row: &VolumeRow) -> Self {
        Self {
            name: row.name.as_str().to_owned(),
            volume: Some(row.id),
            kind: Some(row.kind),
            labels: row.labels.clone(),
            hydrating: row.step == VolumeStep::Hydrating,
            grow: row.grow,
            label: None,
            owner: None,
            created_at: Some(row.created_at),
        }
    }

    pub(crate) fn of_snapshot(row: &SnapshotRow) -> Self {
        Self {
            name: row.volume_name.as_str().to_owned(),
            volume: Some(row.volume),
            kind: Some(row.kind),
            labels: row.labels.clone(),
            hydrating: false,
            grow: row.grow,
            label: Some(row.label.clone()),
            owner: Some(row.owner.clone()),
            created_at: Some(row.created_at),
        }
    }

    pub(crate) fn to_text(&self) -> String {
        serde_json::to_string(self).expect("plain data becomes JSON")
    }

    /// `None`: not a note that this version can read.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}
