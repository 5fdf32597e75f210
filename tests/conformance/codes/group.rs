//! Refusals of GroupController.

use strongroom_proto::csi::{
    CreateVolumeGroupSnapshotRequest, DeleteSnapshotRequest, DeleteVolumeGroupSnapshotRequest,
    GetVolumeGroupSnapshotRequest,
};
use tonic::Code;

use super::Findings;
use super::scene::Scene;
use super::snapshots::FullPool;
use crate::requests::{NO_VOLUME, entry};

/// Well-formed, and naming nothing.
const NO_GROUP: &str = "group-00000000000000000000000000000000";

pub(super) fn provoke(scene: &Scene, findings: &mut Findings) {
    use Code::{AlreadyExists, InvalidArgument, NotFound, ResourceExhausted};
    if scene.offered.group.is_empty() {
        let calls = ["CreateVolumeGroupSnapshot", "DeleteVolumeGroupSnapshot", "GetVolumeGroupSnapshot"];
        findings.missing.extend(calls.map(str::to_owned));
        return;
    }
    let machine = &scene.machine;
    let create = |name: &str, members: &[&str]| CreateVolumeGroupSnapshotRequest {
        name: name.to_owned(),
        source_volume_ids: members.iter().map(|id| (*id).to_owned()).collect(),
        ..Default::default()
    };
    let both = [scene.db.as_str(), scene.idle.as_str()];
    findings.refused(machine, InvalidArgument, "no name", create("", &both));
    findings.refused(machine, InvalidArgument, "no members", create("new", &[]));
    findings.refused(machine, InvalidArgument, "an empty member", create("new", &[&scene.db, ""]));
    let mut wrong = create("new", &both);
    wrong.parameters = entry("color", "red");
    findings.refused(machine, InvalidArgument, "an unknown parameter", wrong);
    findings.refused(machine, NotFound, "an unknown member", create("new", &[&scene.db, NO_VOLUME]));
    findings.refused(
        machine,
        NotFound,
        "a member of another driver",
        create("new", &[&scene.db, "not ours"]),
    );
    {
        let _full = FullPool::new(scene);
        findings.refused(machine, ResourceExhausted, "the pool is full", create("new", &both));
    }
    let group = machine.ok(create("group", &both)).group_snapshot.unwrap();
    let members: Vec<String> = group.snapshots.iter().map(|one| one.snapshot_id.clone()).collect();
    findings.refused(machine, AlreadyExists, "the name of other members'", create("group", &[&scene.db]));
    let of_group = DeleteSnapshotRequest { snapshot_id: members[0].clone(), ..Default::default() };
    findings.refused(machine, InvalidArgument, "a member of a group", of_group);

    let get = |id: &str, snapshot_ids: &[String]| GetVolumeGroupSnapshotRequest {
        group_snapshot_id: id.to_owned(),
        snapshot_ids: snapshot_ids.to_vec(),
        ..Default::default()
    };
    findings.refused(machine, InvalidArgument, "no group", get("", &members));
    findings.refused(machine, InvalidArgument, "other members", get(&group.group_snapshot_id, &members[..1]));
    findings.refused(machine, NotFound, "an unknown group", get(NO_GROUP, &[]));
    findings.refused(machine, NotFound, "a group of another driver", get("not ours", &[]));
    let delete = |id: &str, snapshot_ids: &[String]| DeleteVolumeGroupSnapshotRequest {
        group_snapshot_id: id.to_owned(),
        snapshot_ids: snapshot_ids.to_vec(),
        ..Default::default()
    };
    findings.refused(machine, InvalidArgument, "no group", delete("", &members));
    findings.refused(
        machine,
        InvalidArgument,
        "other members",
        delete(&group.group_snapshot_id, &members[..1]),
    );
    for unknown in [NO_GROUP, "not ours"] {
        machine.ok(delete(unknown, &[]));
    }
    machine.ok(delete(&group.group_snapshot_id, &members));
    machine.ok(delete(&group.group_snapshot_id, &members));
}
