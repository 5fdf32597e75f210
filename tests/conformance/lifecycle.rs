//! Every call on its good way: once, again, ten times, and again after the driver was killed.

use std::path::Path;

use strongroom_proto::csi::volume_capability::access_mode::Mode;
use strongroom_proto::csi::{
    ControllerExpandVolumeRequest, DeleteSnapshotRequest, DeleteVolumeRequest, NodeExpandVolumeRequest,
    NodeGetVolumeStatsRequest, ValidateVolumeCapabilitiesRequest,
};
use tonic::Code;

use crate::call::Call;
use crate::kernel;
use crate::machine::Machine;
use crate::requests::{self, Kind, MIB, NO_SNAPSHOT, NO_VOLUME, with_mode};
use crate::volume;

/// The same answer to the same call: at once, ten times, and after kill -9.
#[track_caller]
fn is_idempotent<R: Call>(machine: &mut Machine, request: &R) -> R::Answer
where
    R::Answer: PartialEq,
{
    let answer = machine.ok(request.clone());
    for _ in 0..10 {
        assert_eq!(machine.ok(request.clone()), answer, "{}", R::PATH);
    }
    machine.restart();
    assert_eq!(machine.ok(request.clone()), answer, "{} after a restart", R::PATH);
    answer
}

#[test]
fn every_call_of_a_volumes_life_can_be_repeated_at_any_time() {
    let Some(mut machine) = Machine::new("repeated calls") else { return };
    for kind in [Kind::Ext4, Kind::Block] {
        let name = kind.name();
        let volume = is_idempotent(&mut machine, &requests::volume(name, kind, 64)).volume.unwrap();
        assert_eq!(volume.capacity_bytes, 64 << 20);
        assert!(!volume.accessible_topology.is_empty());
        let id = volume.volume_id;
        let capability = kind.capability();

        let request = volume::stage_request(&machine, &id, name, capability.clone());
        is_idempotent(&mut machine, &request);
        let publish = volume::publish_request(&machine, &id, name, capability.clone());
        is_idempotent(&mut machine, &publish);
        let target = publish.target_path.clone();
        assert_eq!(mounts_at(&target), 1, "published once, however often it was asked");

        let snapshot =
            is_idempotent(&mut machine, &requests::snapshot(&id, &format!("of {name}"))).snapshot.unwrap();
        assert!(snapshot.ready_to_use);
        assert_eq!((snapshot.size_bytes, &snapshot.source_volume_id), (64 << 20, &id));
        let mut restored = requests::volume(&format!("restored {name}"), kind, 64);
        restored.volume_content_source = requests::snapshot_source(&snapshot.snapshot_id);
        let restored = is_idempotent(&mut machine, &restored).volume.unwrap();
        assert_eq!(restored.content_source, requests::snapshot_source(&snapshot.snapshot_id));
        let mut cloned = requests::volume(&format!("cloned {name}"), kind, 64);
        cloned.volume_content_source = requests::volume_source(&id);
        let cloned = is_idempotent(&mut machine, &cloned).volume.unwrap();
        assert_eq!(cloned.content_source, requests::volume_source(&id));

        let stats = NodeGetVolumeStatsRequest {
            volume_id: id.clone(),
            volume_path: target.clone(),
            ..Default::default()
        };
        is_idempotent(&mut machine, &stats);
        let expand = ControllerExpandVolumeRequest {
            volume_id: id.clone(),
            capacity_range: requests::range(80 * MIB, 0),
            volume_capability: Some(capability.clone()),
            ..Default::default()
        };
        assert_eq!(is_idempotent(&mut machine, &expand).capacity_bytes, 80 << 20, "exactly what was asked");
        if kind == Kind::Block || may_grow_online() {
            let grow = NodeExpandVolumeRequest {
                volume_id: id.clone(),
                volume_path: target.clone(),
                staging_target_path: publish.staging_target_path.clone(),
                capacity_range: requests::range(80 * MIB, 0),
                ..Default::default()
            };
            assert_eq!(is_idempotent(&mut machine, &grow).capacity_bytes, 80 << 20);
        }

        let request = volume::unpublish_request(&machine, &id, name);
        is_idempotent(&mut machine, &request);
        assert!(!Path::new(&target).exists(), "the target is removed");
        let request = volume::unstage_request(&machine, &id, name);
        is_idempotent(&mut machine, &request);
        let snapshot = DeleteSnapshotRequest { snapshot_id: snapshot.snapshot_id, ..Default::default() };
        is_idempotent(&mut machine, &snapshot);
        is_idempotent(&mut machine, &DeleteVolumeRequest { volume_id: id, ..Default::default() });
    }
    is_idempotent(&mut machine, &DeleteVolumeRequest { volume_id: NO_VOLUME.into(), ..Default::default() });
    is_idempotent(&mut machine, &DeleteVolumeRequest { volume_id: "not ours".into(), ..Default::default() });
    is_idempotent(
        &mut machine,
        &DeleteSnapshotRequest { snapshot_id: NO_SNAPSHOT.into(), ..Default::default() },
    );
    is_idempotent(
        &mut machine,
        &DeleteSnapshotRequest { snapshot_id: "not ours".into(), ..Default::default() },
    );
    machine.finish();
}

#[test]
fn a_volume_is_used_in_every_way_that_one_node_allows() {
    let Some(machine) = Machine::new("access modes") else { return };
    let id = volume::small(&machine, "db", Kind::Ext4);
    let publish = |name: &str, mode: Mode, readonly: bool| {
        let mut request =
            volume::publish_request(&machine, &id, "db", with_mode(mode, requests::mount("ext4")));
        request.target_path = machine.pod_path(name);
        request.readonly = readonly;
        request
    };
    machine.ok(volume::stage_request(&machine, &id, "db", requests::mount("ext4")));
    // One target each.
    for mode in [Mode::SingleNodeWriter, Mode::SingleNodeSingleWriter] {
        machine.ok(publish("first", mode, false));
        machine.refused(Code::FailedPrecondition, publish("second", mode, false));
        assert!(!Path::new(&machine.pod_path("second")).exists(), "a refused target is not left behind");
        take_back(&machine, &id, "first");
    }
    // Many writers on one node.
    machine.ok(publish("first", Mode::SingleNodeMultiWriter, false));
    machine.ok(publish("second", Mode::SingleNodeMultiWriter, false));
    std::fs::write(Path::new(&machine.pod_path("first")).join("file"), "seen by both").unwrap();
    let seen = std::fs::read(Path::new(&machine.pod_path("second")).join("file")).unwrap();
    assert_eq!(seen, b"seen by both");
    take_back(&machine, &id, "first");
    take_back(&machine, &id, "second");
    // Only for reading, by the mode, by the flag, and by a mount option.
    machine.ok(publish("reader", Mode::SingleNodeReaderOnly, false));
    assert!(std::fs::write(Path::new(&machine.pod_path("reader")).join("file"), "no").is_err());
    take_back(&machine, &id, "reader");
    machine.ok(publish("reader", Mode::SingleNodeWriter, true));
    assert!(std::fs::write(Path::new(&machine.pod_path("reader")).join("file"), "no").is_err());
    machine.refused(Code::AlreadyExists, publish("reader", Mode::SingleNodeWriter, false));
    take_back(&machine, &id, "reader");
    let mut flagged = publish("reader", Mode::SingleNodeWriter, false);
    flagged.volume_capability = Some(requests::mount_with("ext4", &["ro", "noexec"]));
    machine.ok(flagged);
    assert!(std::fs::write(Path::new(&machine.pod_path("reader")).join("file"), "no").is_err());
    take_back(&machine, &id, "reader");
    machine.ok(volume::unstage_request(&machine, &id, "db"));
    // No node but this one is offered anything.
    for mode in [Mode::MultiNodeReaderOnly, Mode::MultiNodeSingleWriter, Mode::MultiNodeMultiWriter] {
        let mut request = requests::volume("far", Kind::Ext4, 64);
        request.volume_capabilities = vec![with_mode(mode, requests::mount("ext4"))];
        machine.refused(Code::InvalidArgument, request);
    }
    machine.finish();
}

#[test]
fn capabilities_are_confirmed_only_when_all_of_them_fit() {
    let Some(machine) = Machine::new("validated capabilities") else { return };
    let ids = [Kind::Ext4, Kind::Block].map(|kind| volume::small(&machine, kind.name(), kind));
    let validate = |id: &str, capabilities: &[strongroom_proto::csi::VolumeCapability]| {
        machine.ok(ValidateVolumeCapabilitiesRequest {
            volume_id: id.to_owned(),
            volume_capabilities: capabilities.to_vec(),
            parameters: requests::entry("label.team", "a"),
            volume_context: requests::entry("some", "context"),
            ..Default::default()
        })
    };
    let fits = validate(&ids[0], &[requests::mount("ext4"), requests::mount("")]).confirmed.unwrap();
    assert_eq!(fits.volume_capabilities.len(), 2);
    assert_eq!(fits.parameters, requests::entry("label.team", "a"));
    assert_eq!(fits.volume_context, requests::entry("some", "context"));
    assert!(validate(&ids[1], &[requests::block()]).confirmed.is_some());
    for (id, wrong) in [
        (&ids[0], requests::mount("xfs")),
        (&ids[0], requests::block()),
        (&ids[1], requests::mount("ext4")),
        (&ids[0], with_mode(Mode::MultiNodeMultiWriter, requests::mount("ext4"))),
    ] {
        let good = if *id == ids[0] { requests::mount("ext4") } else { requests::block() };
        let answer = validate(id, &[good, wrong]);
        assert!(answer.confirmed.is_none() && !answer.message.is_empty(), "{answer:?}");
    }
    machine.finish();
}

#[test]
fn a_volume_that_is_in_use_is_not_deleted_and_its_data_stays() {
    let Some(machine) = Machine::new("deletion in use") else { return };
    let id = volume::small(&machine, "db", Kind::Ext4);
    let target = volume::publish(&machine, &id, "db", Kind::Ext4);
    crate::content::fill(&target, Kind::Ext4, 1);
    let before = crate::content::read(&target, Kind::Ext4);
    let delete = || DeleteVolumeRequest { volume_id: id.clone(), ..Default::default() };
    machine.refused(Code::FailedPrecondition, delete());
    assert_eq!(crate::content::read(&target, Kind::Ext4), before);
    machine.ok(volume::unpublish_request(&machine, &id, "db"));
    machine.refused(Code::FailedPrecondition, delete());
    machine.ok(volume::unstage_request(&machine, &id, "db"));
    machine.ok(delete());
    machine.finish();
}

fn take_back(machine: &Machine, id: &str, name: &str) {
    machine.ok(volume::unpublish_request(machine, id, name));
}

fn mounts_at(path: &str) -> usize {
    kernel::mounts_below(Path::new(path)).iter().filter(|mounted| *mounted == Path::new(path)).count()
}

/// Whether ext4 may grow while it is mounted: the kernel wants CAP_SYS_RESOURCE for it, which containers often lack.
pub(crate) fn may_grow_online() -> bool {
    const CAP_SYS_RESOURCE: u32 = 24;
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
    u64::from_str_radix(effective, 16).unwrap() >> CAP_SYS_RESOURCE & 1 == 1
}

#[test]
fn a_volume_is_attached_to_its_node_and_the_lists_say_so() {
    use strongroom_proto::csi::{
        ControllerGetVolumeRequest, ControllerPublishVolumeRequest, ControllerUnpublishVolumeRequest,
        ListVolumesRequest,
    };
    let Some(mut machine) = Machine::new("attachments") else { return };
    let id = volume::small(&machine, "db", Kind::Ext4);
    let nodes = |machine: &Machine| {
        let listed = machine.ok(ListVolumesRequest::default()).entries.remove(0).status.unwrap();
        let got = machine.ok(ControllerGetVolumeRequest { volume_id: id.clone() }).status.unwrap();
        assert_eq!(listed.published_node_ids, got.published_node_ids);
        got.published_node_ids
    };
    assert!(nodes(&machine).is_empty());
    for readonly in [false, true] {
        let attach = ControllerPublishVolumeRequest {
            volume_id: id.clone(),
            node_id: crate::machine::NODE.to_owned(),
            volume_capability: Some(requests::mount("ext4")),
            readonly,
            ..Default::default()
        };
        let context = is_idempotent(&mut machine, &attach).publish_context;
        assert_eq!(nodes(&machine), [crate::machine::NODE]);
        // What is attached read-only is read-only at its workload, too.
        let mut stage = volume::stage_request(&machine, &id, "db", requests::mount("ext4"));
        stage.publish_context.clone_from(&context);
        machine.ok(stage);
        let mut publish = volume::publish_request(&machine, &id, "db", requests::mount("ext4"));
        publish.publish_context = context;
        let target = std::path::PathBuf::from(&publish.target_path);
        publish.readonly = readonly;
        machine.ok(publish);
        assert_eq!(std::fs::write(target.join("file"), "a").is_err(), readonly);
        volume::unpublish(&machine, &id, "db");
        let detach = ControllerUnpublishVolumeRequest {
            volume_id: id.clone(),
            node_id: if readonly { String::new() } else { crate::machine::NODE.to_owned() },
            ..Default::default()
        };
        is_idempotent(&mut machine, &detach);
        assert!(nodes(&machine).is_empty());
    }
    machine.finish();
}

#[test]
fn what_is_modified_is_all_of_it_or_nothing() {
    use strongroom_proto::csi::ControllerModifyVolumeRequest;
    let Some(mut machine) = Machine::new("modification") else { return };
    let mut request = requests::volume("db", Kind::Block, 4);
    request.mutable_parameters = requests::entry("label.team", "a");
    let id = volume::create(&machine, request.clone()).volume_id;
    let modify = |parameters: &[(&str, &str)]| ControllerModifyVolumeRequest {
        volume_id: id.clone(),
        mutable_parameters: parameters
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        ..Default::default()
    };
    let labels = |machine: &Machine| {
        let shown = machine.command(&["volume", "show", "db", "--output", "json"]);
        shown["volume"]["labels"].clone()
    };
    is_idempotent(&mut machine, &modify(&[("label.team", "b"), ("policy", "hourly")]));
    let before = labels(&machine);
    assert_eq!((&before["team"], &before["policy"]), (&"b".into(), &"hourly".into()), "{before}");
    let half = modify(&[("label.team", "c"), ("color", "red")]);
    machine.refused(Code::InvalidArgument, half);
    assert_eq!(labels(&machine), before, "a refused change changes nothing");
    machine.finish();
}
