//! Writes what goes out: the driver's nouns as messages.

use jiff::Timestamp;
use strongroom_proto::csi::volume_content_source::{SnapshotSource, Type, VolumeSource};
use strongroom_proto::csi::{self, VolumeCondition, VolumeContentSource};

use super::door;
use super::handle::SnapshotHandle;
use crate::{ContentSource, CoreError, Group, Outcome, Snapshot, Volume};

/// Sizes are 64 bits without a sign here and with one there; no pool holds 8 EiB.
pub(crate) fn bytes(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(crate) fn moment(at: Timestamp) -> prost_types::Timestamp {
    // jiff keeps the parts of a moment before 1970 both negative, protobuf wants the nanoseconds from 0 on.
    let nanoseconds = at.subsec_nanosecond();
    if nanoseconds < 0 {
        prost_types::Timestamp { seconds: at.as_second() - 1, nanos: nanoseconds + 1_000_000_000 }
    } else {
        prost_types::Timestamp { seconds: at.as_second(), nanos: nanoseconds }
    }
}

pub(crate) fn volume(volume: &Volume, node: &str) -> csi::Volume {
    csi::Volume {
        capacity_bytes: bytes(volume.bytes),
        volume_id: volume.id.to_string(),
        // The id says it all, so nothing has to be carried around.
        volume_context: [].into(),
        content_source: volume.source.as_ref().map(content_source),
        accessible_topology: vec![door::topology(node)],
    }
}

fn content_source(source: &ContentSource) -> VolumeContentSource {
    let r#type = match source {
        ContentSource::Snapshot(id) => Type::Snapshot(SnapshotSource { snapshot_id: id.to_string() }),
        ContentSource::Volume(id) => Type::Volume(VolumeSource { volume_id: id.to_string() }),
        ContentSource::Point(id) => {
            Type::Snapshot(SnapshotSource { snapshot_id: SnapshotHandle::Point(*id).to_string() })
        }
    };
    VolumeContentSource { r#type: Some(r#type) }
}

pub(crate) fn condition(problem: Option<&str>) -> VolumeCondition {
    VolumeCondition {
        abnormal: problem.is_some(),
        message: problem.unwrap_or("nothing is known to be wrong").to_owned(),
    }
}

pub(crate) fn snapshot(snapshot: &Snapshot) -> csi::Snapshot {
    csi::Snapshot {
        size_bytes: bytes(snapshot.bytes),
        snapshot_id: snapshot.id.to_string(),
        source_volume_id: snapshot.volume.to_string(),
        creation_time: Some(moment(snapshot.created_at)),
        ready_to_use: true,
        group_snapshot_id: snapshot.group.map(|group| group.to_string()).unwrap_or_default(),
    }
}

pub(crate) fn group(group: &Group) -> csi::VolumeGroupSnapshot {
    csi::VolumeGroupSnapshot {
        group_snapshot_id: group.id.to_string(),
        snapshots: group.snapshots.iter().map(snapshot).collect(),
        creation_time: Some(moment(group.created_at)),
        ready_to_use: true,
    }
}

/// The nodes that a volume is attached to.
pub(crate) fn nodes(volume: &Volume) -> Vec<String> {
    volume.attachments.iter().map(|one| one.node.clone()).collect()
}

/// What is there now and whether it was there before; something else that is there is a conflict.
pub(crate) fn agreed<T>(
    outcome: Outcome<T>,
    subject: impl FnOnce() -> String,
) -> Result<(T, bool), CoreError> {
    match outcome {
        Outcome::Created(value) => Ok((value, false)),
        Outcome::Identical(value) => Ok((value, true)),
        Outcome::Conflict { difference, .. } => Err(CoreError::Conflict { subject: subject(), difference }),
    }
}
