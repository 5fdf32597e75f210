//! A volume whose content a restore is still writing cannot be used yet.

use strongroom_proto::control::{BeginRestoreRequest, DiscardRestoreRequest, Filesystem};
use strongroom_proto::csi::{
    ControllerExpandVolumeRequest, CreateVolumeGroupSnapshotRequest, NodePublishVolumeRequest,
};
use tonic::Code::FailedPrecondition;

use super::Findings;
use super::scene::Scene;
use crate::requests::{self, Kind, MIB};
use crate::volume;

pub(super) fn provoke(scene: &Scene, findings: &mut Findings) {
    let machine = &scene.machine;
    let begun = machine.ok(BeginRestoreRequest {
        name: "hydrating".into(),
        fs: Filesystem::Ext4.into(),
        bytes: 64 * MIB,
        ..Default::default()
    });
    let id = begun.volume_id;
    let when = "a restore is writing it";
    findings.refused(
        machine,
        FailedPrecondition,
        when,
        volume::stage_request(machine, &id, "h", requests::mount("ext4")),
    );
    std::fs::remove_dir(machine.stage_path("h")).unwrap();
    let publish: NodePublishVolumeRequest =
        volume::publish_request(machine, &id, "h", requests::mount("ext4"));
    findings.refused(machine, FailedPrecondition, when, publish);
    findings.refused(machine, FailedPrecondition, when, requests::snapshot(&id, "of hydrating"));
    let mut clone = requests::volume("clone of hydrating", Kind::Ext4, 64);
    clone.volume_content_source = requests::volume_source(&id);
    findings.refused(machine, FailedPrecondition, when, clone);
    let expand = ControllerExpandVolumeRequest {
        volume_id: id.clone(),
        capacity_range: requests::range(80 * MIB, 0),
        ..Default::default()
    };
    findings.refused(machine, FailedPrecondition, when, expand);
    let group = CreateVolumeGroupSnapshotRequest {
        name: "of hydrating".into(),
        source_volume_ids: vec![scene.idle.clone(), id.clone()],
        ..Default::default()
    };
    findings.refused(machine, FailedPrecondition, when, group);
    machine.ok(DiscardRestoreRequest { volume_id: id });
}
