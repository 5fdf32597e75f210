//! Reads and writes the messages of the service.

use std::fmt::Display;
use std::str::FromStr;

use jiff::Timestamp;
use strongroom_proto::control::{self, BackUpSnapshotRequest, Filesystem};
use strongroom_repository::{Point, Source};

use super::refused::Refused;
use crate::driver::{Snapshot, Volume};
use crate::run::Cut;

/// Labels of a point together, names and values: as much as CSI allows for a map, twice over.
const LABELS_BYTES: usize = 8192;

pub(super) fn parsed<T: FromStr>(field: &'static str, text: &str) -> Result<T, Refused>
where
    T::Err: Display,
{
    text.parse().map_err(|error: T::Err| Refused::Wrong { field, reason: error.to_string() })
}

pub(super) fn cut(request: BackUpSnapshotRequest) -> Result<Cut, Refused> {
    let fs = match request.fs() {
        Filesystem::Ext4 => Some("ext4".to_owned()),
        Filesystem::Xfs => Some("xfs".to_owned()),
        Filesystem::Btrfs => Some("btrfs".to_owned()),
        Filesystem::Block | Filesystem::Unspecified => None,
    };
    let wrong = |field, reason: String| Refused::Wrong { field, reason };
    let labels_bytes: usize = request.labels.iter().map(|(key, value)| key.len() + value.len()).sum();
    if labels_bytes > LABELS_BYTES {
        return Err(wrong("labels", format!("they have {labels_bytes} bytes, {LABELS_BYTES} are allowed")));
    }
    let at = request.taken_at.ok_or_else(|| wrong("taken_at", "it is missing".to_owned()))?;
    let taken_at =
        Timestamp::new(at.seconds, at.nanos).map_err(|error| wrong("taken_at", error.to_string()))?;
    Ok(Cut {
        volume: Volume {
            id: parsed("volume_id", &request.volume_id)?,
            name: parsed("volume_name", &request.volume_name)?,
            fs,
            bytes: 0,
            labels: request.labels.into_iter().collect(),
            mounts: Vec::new(),
            trouble: None,
        },
        snapshot: Snapshot { id: parsed("snapshot_id", &request.snapshot_id)?, taken_at, bytes: 0 },
        point: parsed("point_id", &request.point_id)?,
    })
}

pub(super) fn point_out(point: &Point) -> control::Point {
    let fs = match point.info.fs.as_deref() {
        Some("ext4") => Filesystem::Ext4,
        Some("xfs") => Filesystem::Xfs,
        Some("btrfs") => Filesystem::Btrfs,
        _ => Filesystem::Block,
    };
    let nanoseconds = point.info.taken_at.as_nanosecond();
    control::Point {
        id: point.id.to_string(),
        volume_name: point.volume.to_string(),
        volume_id: match &point.info.source {
            Source::Driver { volume, .. } => volume.to_string(),
            Source::Image { .. } => String::new(),
        },
        taken_at: Some(prost_types::Timestamp {
            seconds: i64::try_from(nanoseconds.div_euclid(1_000_000_000)).unwrap_or_default(),
            nanos: i32::try_from(nanoseconds.rem_euclid(1_000_000_000)).unwrap_or_default(),
        }),
        bytes: point.info.volume_bytes,
        fs: fs.into(),
        labels: point.info.labels.clone().into_iter().collect(),
    }
}
