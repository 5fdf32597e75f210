//! ABORTED: another operation on the same thing is under way.
//!
//! The pool is frozen while one operation writes to it, so it is surely under way when the next call comes.

use strongroom_proto::csi::{
    ControllerExpandVolumeRequest, ControllerModifyVolumeRequest, ControllerPublishVolumeRequest,
    ControllerUnpublishVolumeRequest, CreateVolumeGroupSnapshotRequest, DeleteSnapshotRequest,
    DeleteVolumeGroupSnapshotRequest, DeleteVolumeRequest, NodeExpandVolumeRequest,
};
use tonic::Code::Aborted;

use super::Findings;
use super::scene::Scene;
use crate::call::Call;
use crate::frozen::{Frozen, begin_and_hold};
use crate::machine::NODE;
use crate::requests::{self, Kind, MIB, entry};
use crate::volume;

pub(super) fn provoke(scene: &Scene, findings: &mut Findings) {
    let machine = &scene.machine;
    let doomed = volume::snapshot(machine, &scene.raw, "doomed").snapshot_id;
    let members = vec![scene.raw.clone(), scene.idle.clone()];
    let groups = !scene.offered.group.is_empty();
    let group = groups.then(|| {
        let request = CreateVolumeGroupSnapshotRequest {
            name: "doomed group".into(),
            source_volume_ids: members.clone(),
            ..Default::default()
        };
        machine.ok(request).group_snapshot.unwrap()
    });
    let stage = volume::stage_request(machine, &scene.db, "db", requests::mount("ext4"));

    let frozen = Frozen::freeze(&machine.path("pool"));
    let (create, status) = begin_and_hold(machine, requests::volume("pending", Kind::Block, 4));
    note(findings, &create, "the same volume is being created", &status);
    let (snapshot, status) = begin_and_hold(machine, requests::snapshot(&scene.raw, "pending"));
    note(findings, &snapshot, "the same snapshot is being taken", &status);
    let delete = DeleteSnapshotRequest { snapshot_id: doomed, ..Default::default() };
    let (delete, status) = begin_and_hold(machine, delete);
    note(findings, &delete, "the same snapshot is being deleted", &status);
    // A snapshot of the raw volume is under way: whatever else is asked of that volume is put off.
    let id = || scene.raw.clone();
    let when = "a snapshot of it is being taken";
    findings.refused(machine, Aborted, when, DeleteVolumeRequest { volume_id: id(), ..Default::default() });
    let expand = ControllerExpandVolumeRequest {
        volume_id: id(),
        capacity_range: requests::range(80 * MIB, 0),
        ..Default::default()
    };
    findings.refused(machine, Aborted, when, expand);
    let modify = ControllerModifyVolumeRequest {
        volume_id: id(),
        mutable_parameters: entry("label.team", "a"),
        ..Default::default()
    };
    findings.refused(machine, Aborted, when, modify);
    let mut clone = requests::volume("clone of pending", Kind::Block, 64);
    clone.volume_content_source = requests::volume_source(&scene.raw);
    findings.refused(machine, Aborted, when, clone);
    let attach = ControllerPublishVolumeRequest {
        volume_id: id(),
        node_id: NODE.into(),
        volume_capability: Some(requests::block()),
        ..Default::default()
    };
    findings.refused(machine, Aborted, when, attach);
    let detach =
        ControllerUnpublishVolumeRequest { volume_id: id(), node_id: NODE.into(), ..Default::default() };
    findings.refused(machine, Aborted, when, detach);
    findings.refused(machine, Aborted, when, volume::stage_request(machine, &id(), "raw", requests::block()));
    findings.refused(
        machine,
        Aborted,
        when,
        volume::publish_request(machine, &id(), "raw", requests::block()),
    );
    findings.refused(machine, Aborted, when, volume::unpublish_request(machine, &id(), "raw"));
    findings.refused(machine, Aborted, when, volume::unstage_request(machine, &id(), "raw"));
    let mut pending = Vec::new();
    if let Some(group) = group {
        let request = CreateVolumeGroupSnapshotRequest {
            name: "pending group".into(),
            source_volume_ids: members,
            ..Default::default()
        };
        findings.refused(machine, Aborted, when, request);
        let request = DeleteVolumeGroupSnapshotRequest {
            snapshot_ids: group.snapshots.iter().map(|one| one.snapshot_id.clone()).collect(),
            group_snapshot_id: group.group_snapshot_id,
            ..Default::default()
        };
        let (held, status) = begin_and_hold(machine, request);
        note(findings, &held, "the same group is being deleted", &status);
        pending.push(held);
    }
    // Another volume is not held up; what it is asked needs nothing of the pool.
    machine.ok(stage);
    drop(frozen);
    machine.end(create).unwrap();
    machine.end(snapshot).unwrap();
    machine.end(delete).unwrap();
    for held in pending {
        machine.end(held).unwrap();
    }
    expand_on_node(scene, findings);
}

/// A volume has to be somewhere to be grown there, so this is asked of the published one.
fn expand_on_node(scene: &Scene, findings: &mut Findings) {
    let machine = &scene.machine;
    let id = volume::small(machine, "busy", Kind::Block);
    let target = volume::publish(machine, &id, "busy", Kind::Block);
    let frozen = Frozen::freeze(&machine.path("pool"));
    let (snapshot, _) = begin_and_hold(machine, requests::snapshot(&id, "of busy"));
    let grow = NodeExpandVolumeRequest {
        volume_id: id.clone(),
        volume_path: target.to_str().unwrap().to_owned(),
        ..Default::default()
    };
    findings.refused(machine, Aborted, "a snapshot of it is being taken", grow);
    drop(frozen);
    machine.end(snapshot).unwrap();
    volume::unpublish(machine, &id, "busy");
}

fn note<R: Call>(findings: &mut Findings, _: &crate::machine::Begun<R>, when: &str, status: &tonic::Status) {
    findings.was_refused::<R>(Aborted, when, Err((status.code(), status.message().to_owned())));
}
