//! Reads what the agent answers: each string becomes a type of ours, or the answer makes no sense.

use std::collections::BTreeMap;

use jiff::Timestamp;
use strongroom_model::{RecoveryPointId, VolumeId, VolumeName};
use strongroom_proto::control;

use super::{PointsError, Progress};
use crate::nouns::VolumeKind;

/// A recovery point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PointInfo {
    pub(crate) id: RecoveryPointId,
    pub(crate) volume_name: VolumeName,
    /// `None`: it was taken of an image.
    pub(crate) volume: Option<VolumeId>,
    /// The moment of the content.
    pub(crate) taken_at: Timestamp,
    pub(crate) bytes: u64,
    pub(crate) kind: VolumeKind,
    pub(crate) labels: BTreeMap<String, String>,
}

pub(super) fn nonsense(what: impl ToString) -> PointsError {
    PointsError::Nonsense { what: what.to_string() }
}

pub(super) fn point(given: Option<control::Point>) -> Result<PointInfo, PointsError> {
    let given = given.ok_or_else(|| nonsense("it names no point"))?;
    let taken_at = given.taken_at.ok_or_else(|| nonsense("a point has no time"))?;
    let volume = match given.volume_id.as_str() {
        "" => None,
        id => Some(id.parse().map_err(nonsense)?),
    };
    Ok(PointInfo {
        id: given.id.parse().map_err(nonsense)?,
        volume_name: given.volume_name.parse().map_err(nonsense)?,
        volume,
        taken_at: Timestamp::new(taken_at.seconds, taken_at.nanos).map_err(nonsense)?,
        bytes: given.bytes,
        kind: match given.fs() {
            control::Filesystem::Ext4 => VolumeKind::Ext4,
            control::Filesystem::Xfs => VolumeKind::Xfs,
            control::Filesystem::Btrfs => VolumeKind::Btrfs,
            control::Filesystem::Block | control::Filesystem::Unspecified => VolumeKind::Block,
        },
        labels: given.labels.into_iter().collect(),
    })
}

pub(super) fn progress(done: bool, percent: u32) -> Progress {
    if done { Progress::Done } else { Progress::Running(u8::try_from(percent).unwrap_or(99).min(99)) }
}

pub(super) const fn kind_out(kind: VolumeKind) -> control::Filesystem {
    match kind {
        VolumeKind::Ext4 => control::Filesystem::Ext4,
        VolumeKind::Xfs => control::Filesystem::Xfs,
        VolumeKind::Btrfs => control::Filesystem::Btrfs,
        VolumeKind::Block => control::Filesystem::Block,
    }
}
