//! The ways of a volume that many tests go: made, staged, published, taken back, deleted.

use std::path::PathBuf;

use strongroom_proto::csi::{
    CreateVolumeRequest, DeleteSnapshotRequest, DeleteVolumeGroupSnapshotRequest, DeleteVolumeRequest,
    NodePublishVolumeRequest, NodeStageVolumeRequest, NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest,
    Snapshot, Volume, VolumeCapability,
};

use crate::machine::Machine;
use crate::requests::{self, Kind};

#[track_caller]
pub(crate) fn create(machine: &Machine, request: CreateVolumeRequest) -> Volume {
    machine.ok(request).volume.unwrap()
}

/// A volume of its smallest size.
#[track_caller]
pub(crate) fn small(machine: &Machine, name: &str, kind: Kind) -> String {
    create(machine, requests::volume(name, kind, kind.mib())).volume_id
}

pub(crate) fn stage_request(
    machine: &Machine,
    id: &str,
    name: &str,
    capability: VolumeCapability,
) -> NodeStageVolumeRequest {
    let staging_target_path = machine.stage_path(name);
    // Orchestrators make the folder.
    std::fs::create_dir_all(&staging_target_path).unwrap();
    NodeStageVolumeRequest {
        volume_id: id.to_owned(),
        staging_target_path,
        volume_capability: Some(capability),
        ..Default::default()
    }
}

pub(crate) fn publish_request(
    machine: &Machine,
    id: &str,
    name: &str,
    capability: VolumeCapability,
) -> NodePublishVolumeRequest {
    NodePublishVolumeRequest {
        volume_id: id.to_owned(),
        staging_target_path: machine.stage_path(name),
        target_path: machine.pod_path(name),
        volume_capability: Some(capability),
        ..Default::default()
    }
}

pub(crate) fn unpublish_request(machine: &Machine, id: &str, name: &str) -> NodeUnpublishVolumeRequest {
    NodeUnpublishVolumeRequest { volume_id: id.to_owned(), target_path: machine.pod_path(name) }
}

pub(crate) fn unstage_request(machine: &Machine, id: &str, name: &str) -> NodeUnstageVolumeRequest {
    NodeUnstageVolumeRequest { volume_id: id.to_owned(), staging_target_path: machine.stage_path(name) }
}

/// Stages and publishes a volume; answers where a workload sees it.
#[track_caller]
pub(crate) fn publish(machine: &Machine, id: &str, name: &str, kind: Kind) -> PathBuf {
    machine.ok(stage_request(machine, id, name, kind.capability()));
    let request = publish_request(machine, id, name, kind.capability());
    let target = PathBuf::from(&request.target_path);
    machine.ok(request);
    target
}

/// Takes back what [`publish`] did.
#[track_caller]
pub(crate) fn unpublish(machine: &Machine, id: &str, name: &str) {
    machine.ok(unpublish_request(machine, id, name));
    machine.ok(unstage_request(machine, id, name));
}

#[track_caller]
pub(crate) fn delete(machine: &Machine, id: &str) {
    machine.ok(DeleteVolumeRequest { volume_id: id.to_owned(), ..Default::default() });
}

#[track_caller]
pub(crate) fn snapshot(machine: &Machine, id: &str, name: &str) -> Snapshot {
    machine.ok(requests::snapshot(id, name)).snapshot.unwrap()
}

/// Members of a group go with their group.
#[track_caller]
pub(crate) fn delete_snapshots(machine: &Machine, snapshots: &[Snapshot]) {
    let mut groups = std::collections::BTreeMap::<&str, Vec<String>>::new();
    for one in snapshots {
        if one.group_snapshot_id.is_empty() {
            machine.ok(DeleteSnapshotRequest { snapshot_id: one.snapshot_id.clone(), ..Default::default() });
        } else {
            groups.entry(&one.group_snapshot_id).or_default().push(one.snapshot_id.clone());
        }
    }
    for (group, snapshot_ids) in groups {
        machine.ok(DeleteVolumeGroupSnapshotRequest {
            group_snapshot_id: group.to_owned(),
            snapshot_ids,
            ..Default::default()
        });
    }
}
