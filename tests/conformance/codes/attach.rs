//! Refusals of attaching.

use strongroom_proto::csi::{
    ControllerPublishVolumeRequest, ControllerUnpublishVolumeRequest, DeleteVolumeRequest,
};
use tonic::Code;

use Code::{AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted};

use super::Findings;
use super::scene::Scene;
use crate::machine::NODE;
use crate::requests::{self, NO_VOLUME};

pub(super) fn provoke(scene: &Scene, findings: &mut Findings) {
    let machine = &scene.machine;
    let publish = |volume_id: &str, node_id: &str| ControllerPublishVolumeRequest {
        volume_id: volume_id.to_owned(),
        node_id: node_id.to_owned(),
        volume_capability: Some(requests::mount("ext4")),
        ..Default::default()
    };
    let unpublish = |volume_id: &str, node_id: &str| ControllerUnpublishVolumeRequest {
        volume_id: volume_id.to_owned(),
        node_id: node_id.to_owned(),
        ..Default::default()
    };
    findings.refused(machine, InvalidArgument, "no volume", publish("", NODE));
    findings.refused(machine, InvalidArgument, "no node", publish(&scene.idle, ""));
    let mut wrong = publish(&scene.idle, NODE);
    wrong.volume_capability = None;
    findings.refused(machine, InvalidArgument, "no capability", wrong);
    findings.refused(machine, NotFound, "an unknown volume", publish(NO_VOLUME, NODE));
    findings.refused(machine, NotFound, "an unknown node", publish(&scene.idle, "elsewhere"));
    if findings.missing.contains("ControllerPublishVolume") {
        return;
    }
    machine.ok(publish(&scene.idle, NODE));
    let mut other = publish(&scene.idle, NODE);
    other.readonly = true;
    findings.refused(machine, AlreadyExists, "attached in another way", other);
    let delete = DeleteVolumeRequest { volume_id: scene.idle.clone(), ..Default::default() };
    findings.refused(machine, FailedPrecondition, "it is attached", delete);
    // As many as the node may have.
    let mut raw = publish(&scene.raw, NODE);
    raw.volume_capability = Some(requests::block());
    machine.ok(raw);
    findings.refused(machine, ResourceExhausted, "one more than the node may have", publish(&scene.db, NODE));
    machine.ok(unpublish(&scene.raw, NODE));
    machine.ok(publish(&scene.db, NODE));
    findings.refused(machine, FailedPrecondition, "it is still published", unpublish(&scene.db, NODE));
    findings.refused(machine, InvalidArgument, "no volume", unpublish("", NODE));
    // Assumed detached: fine.
    for request in [unpublish(NO_VOLUME, NODE), unpublish(&scene.db, "elsewhere"), unpublish("not ours", "")]
    {
        machine.ok(request);
    }
    machine.ok(unpublish(&scene.idle, ""));
}

/// The machine gets another name: then what is attached is attached elsewhere. It keeps its name afterwards.
pub(super) fn provoke_elsewhere(scene: &mut Scene, findings: &mut Findings) {
    let attach = |node: &str| ControllerPublishVolumeRequest {
        volume_id: scene.idle.clone(),
        node_id: node.to_owned(),
        volume_capability: Some(requests::mount("ext4")),
        ..Default::default()
    };
    let (here, elsewhere) = (attach(NODE), attach("renamed"));
    scene.machine.ok(here);
    scene.machine.restart_as("renamed");
    findings.refused(&scene.machine, FailedPrecondition, "attached to another node", elsewhere);
    for volume_id in [scene.idle.clone(), scene.db.clone()] {
        // No node means all of them; the published one was attached to the node of the old name.
        let all = ControllerUnpublishVolumeRequest { volume_id, ..Default::default() };
        scene.machine.ok(all);
    }
    scene.machine.restart_as(NODE);
}
