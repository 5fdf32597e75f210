//! Refusals of Controller: volumes and lists.

use strongroom_proto::csi::volume_capability::access_mode::Mode;
use strongroom_proto::csi::{
    CapacityRange, ControllerExpandVolumeRequest, ControllerGetVolumeRequest, ControllerModifyVolumeRequest,
    CreateVolumeRequest, DeleteVolumeRequest, GetCapacityRequest, ListVolumesRequest, Topology,
    TopologyRequirement, ValidateVolumeCapabilitiesRequest, VolumeCapability, VolumeContentSource,
};
use tonic::Code;

use super::Findings;
use super::scene::Scene;
use crate::requests::{self, Kind, MIB, NO_SNAPSHOT, NO_VOLUME, entry, with_mode};

pub(super) fn provoke(scene: &Scene, findings: &mut Findings) {
    create(scene, findings);
    questions(scene, findings);
    changes(scene, findings);
}

fn create(scene: &Scene, findings: &mut Findings) {
    let mut refused = |code, when: &str, change: &dyn Fn(&mut CreateVolumeRequest)| {
        let mut request = requests::volume("new", Kind::Ext4, 64);
        change(&mut request);
        findings.refused(&scene.machine, code, when, request);
    };
    use Code::{AlreadyExists, InvalidArgument, NotFound, OutOfRange, ResourceExhausted};
    refused(InvalidArgument, "no name", &|one| one.name.clear());
    refused(InvalidArgument, "a name of 129 bytes", &|one| one.name = "x".repeat(129));
    refused(InvalidArgument, "no capability", &|one| one.volume_capabilities.clear());
    refused(InvalidArgument, "an empty capability", &|one| {
        one.volume_capabilities = vec![VolumeCapability::default()];
    });
    refused(InvalidArgument, "no access mode", &|one| one.volume_capabilities[0].access_mode = None);
    refused(InvalidArgument, "an access mode of another node", &|one| {
        one.volume_capabilities = vec![with_mode(Mode::MultiNodeMultiWriter, requests::mount("ext4"))];
    });
    refused(InvalidArgument, "a filesystem that is not offered", &|one| {
        one.volume_capabilities = vec![requests::mount("ntfs")];
    });
    refused(InvalidArgument, "two filesystems at once", &|one| {
        one.volume_capabilities = vec![requests::mount("ext4"), requests::mount("xfs")];
    });
    refused(InvalidArgument, "folder and device at once", &|one| {
        one.volume_capabilities = vec![requests::mount("ext4"), requests::block()];
    });
    refused(InvalidArgument, "an unknown parameter", &|one| one.parameters = entry("color", "red"));
    refused(InvalidArgument, "a mutable parameter that is not offered", &|one| {
        one.mutable_parameters = entry("color", "red");
    });
    refused(InvalidArgument, "a source without a type", &|one| {
        one.volume_content_source = Some(VolumeContentSource { r#type: None });
    });
    refused(InvalidArgument, "a source of another kind", &|one| {
        one.volume_capabilities = vec![requests::block()];
        one.volume_content_source = requests::snapshot_source(&scene.snapshot);
    });
    refused(InvalidArgument, "a capacity that says nothing", &|one| {
        one.capacity_range = requests::range(0, 0)
    });
    refused(NotFound, "a source snapshot that is not there", &|one| {
        one.volume_content_source = requests::snapshot_source(NO_SNAPSHOT);
    });
    refused(NotFound, "a source volume that is not there", &|one| {
        one.volume_content_source = requests::volume_source(NO_VOLUME);
    });
    refused(NotFound, "a source of another driver", &|one| {
        one.volume_content_source = requests::snapshot_source("not ours");
    });
    refused(AlreadyExists, "the name of a smaller volume", &|one| {
        one.name = "db".into();
        one.capacity_range = requests::range(65 * MIB, 0);
    });
    refused(AlreadyExists, "the name of a larger volume", &|one| {
        one.name = "db".into();
        one.capacity_range = requests::range(0, 32 * MIB);
    });
    refused(AlreadyExists, "the name of a volume of another kind", &|one| {
        one.name = "db".into();
        one.volume_capabilities = vec![requests::block()];
    });
    refused(AlreadyExists, "the name of a volume with another beginning", &|one| {
        one.name = "db".into();
        one.volume_content_source = requests::snapshot_source(&scene.other_snapshot);
    });
    refused(ResourceExhausted, "a place that is not here", &|one| {
        let place = Topology { segments: entry("strongroom.io/node", "elsewhere") };
        one.accessibility_requirements =
            Some(TopologyRequirement { requisite: vec![place.clone()], preferred: vec![place] });
    });
    refused(ResourceExhausted, "more than the pool has", &|one| {
        one.capacity_range = requests::range(1 << 40, 0)
    });
    refused(OutOfRange, "more required than the limit", &|one| {
        one.capacity_range = requests::range(64 * MIB, 63 * MIB);
    });
    refused(OutOfRange, "a limit below the source", &|one| {
        one.capacity_range = requests::range(0, 32 * MIB);
        one.volume_content_source = requests::snapshot_source(&scene.snapshot);
    });
    refused(OutOfRange, "less than a filesystem needs", &|one| {
        one.capacity_range = requests::range(4096, 8192)
    });
    refused(OutOfRange, "a negative capacity", &|one| {
        one.capacity_range = Some(CapacityRange { required_bytes: -1, limit_bytes: 0 });
    });
}

fn questions(scene: &Scene, findings: &mut Findings) {
    use Code::{Aborted, InvalidArgument, NotFound};
    let machine = &scene.machine;
    let validate = |volume_id: &str, volume_capabilities| ValidateVolumeCapabilitiesRequest {
        volume_id: volume_id.to_owned(),
        volume_capabilities,
        ..Default::default()
    };
    let fine = || vec![requests::mount("ext4")];
    findings.refused(machine, InvalidArgument, "no volume", validate("", fine()));
    findings.refused(machine, InvalidArgument, "no capability", validate(&scene.db, Vec::new()));
    findings.refused(machine, NotFound, "an unknown volume", validate(NO_VOLUME, fine()));
    findings.refused(machine, NotFound, "a volume of another driver", validate("not ours", fine()));
    let get = |volume_id: &str| ControllerGetVolumeRequest { volume_id: volume_id.to_owned() };
    findings.refused(machine, InvalidArgument, "no volume", get(""));
    findings.refused(machine, NotFound, "an unknown volume", get(NO_VOLUME));
    findings.refused(machine, NotFound, "a volume of another driver", get("not ours"));
    let list =
        |max_entries, token: &str| ListVolumesRequest { max_entries, starting_token: token.to_owned() };
    findings.refused(machine, InvalidArgument, "fewer than none", list(-1, ""));
    findings.refused(machine, Aborted, "a token that was never given", list(0, "not a token"));
    let capacity =
        GetCapacityRequest { volume_capabilities: vec![VolumeCapability::default()], ..Default::default() };
    findings.refused(machine, InvalidArgument, "an empty capability", capacity);
    let capacity = GetCapacityRequest { parameters: entry("color", "red"), ..Default::default() };
    findings.refused(machine, InvalidArgument, "an unknown parameter", capacity);
}

fn changes(scene: &Scene, findings: &mut Findings) {
    use Code::{FailedPrecondition, InvalidArgument, NotFound, OutOfRange, ResourceExhausted};
    let machine = &scene.machine;
    let delete =
        |volume_id: &str| DeleteVolumeRequest { volume_id: volume_id.to_owned(), ..Default::default() };
    findings.refused(machine, InvalidArgument, "no volume", delete(""));
    findings.refused(machine, FailedPrecondition, "it is published", delete(&scene.db));
    let expand = |volume_id: &str, capacity_range| ControllerExpandVolumeRequest {
        volume_id: volume_id.to_owned(),
        capacity_range,
        ..Default::default()
    };
    let more = || requests::range(80 * MIB, 0);
    findings.refused(machine, InvalidArgument, "no volume", expand("", more()));
    findings.refused(machine, InvalidArgument, "no capacity", expand(&scene.idle, None));
    let mut wrong = expand(&scene.idle, more());
    wrong.volume_capability = Some(requests::block());
    findings.refused(machine, InvalidArgument, "a capability it does not have", wrong);
    findings.refused(machine, NotFound, "an unknown volume", expand(NO_VOLUME, more()));
    findings.refused(machine, NotFound, "a volume of another driver", expand("not ours", more()));
    findings.refused(
        machine,
        OutOfRange,
        "a limit below its size",
        expand(&scene.idle, requests::range(0, MIB)),
    );
    findings.refused(
        machine,
        OutOfRange,
        "more required than the limit",
        expand(&scene.idle, requests::range(90 * MIB, 80 * MIB)),
    );
    findings.refused(
        machine,
        ResourceExhausted,
        "more than the pool has",
        expand(&scene.idle, requests::range(1 << 40, 0)),
    );
    let modify = |volume_id: &str, key: &str| ControllerModifyVolumeRequest {
        volume_id: volume_id.to_owned(),
        mutable_parameters: entry(key, "a"),
        ..Default::default()
    };
    findings.refused(machine, InvalidArgument, "no volume", modify("", "label.team"));
    findings.refused(machine, InvalidArgument, "an unknown key", modify(&scene.idle, "color"));
    let mut half = modify(&scene.idle, "label.team");
    half.mutable_parameters.insert("color".to_owned(), "red".to_owned());
    findings.refused(machine, InvalidArgument, "one known key and one unknown", half);
    findings.refused(machine, NotFound, "an unknown volume", modify(NO_VOLUME, "label.team"));
    findings.refused(machine, NotFound, "a volume of another driver", modify("not ours", "label.team"));
}
