//! Refusals of Node.

use std::fs::File;

use strongroom_proto::csi::volume_capability::access_mode::Mode;
use strongroom_proto::csi::{
    ControllerExpandVolumeRequest, NodeExpandVolumeRequest, NodeGetVolumeStatsRequest,
    NodePublishVolumeRequest, NodeStageVolumeRequest, NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest,
};
use tonic::Code;

use super::Findings;
use super::scene::Scene;
use crate::lifecycle::may_grow_online;
use crate::requests::{self, Kind, MIB, NO_VOLUME, with_mode};
use crate::volume;

use Code::{AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, OutOfRange};

pub(super) fn provoke(scene: &Scene, findings: &mut Findings) {
    stage(scene, findings);
    publish(scene, findings);
    take_back(scene, findings);
    look(scene, findings);
    expand(scene, findings);
}

fn stage(scene: &Scene, findings: &mut Findings) {
    let machine = &scene.machine;
    let mut refused = |code, when: &str, change: &dyn Fn(&mut NodeStageVolumeRequest)| {
        let mut request = volume::stage_request(machine, &scene.idle, "refused", requests::mount("ext4"));
        change(&mut request);
        findings.refused(machine, code, when, request);
    };
    refused(InvalidArgument, "no volume", &|one| one.volume_id.clear());
    refused(InvalidArgument, "no path", &|one| one.staging_target_path.clear());
    refused(InvalidArgument, "no capability", &|one| one.volume_capability = None);
    refused(InvalidArgument, "a relative path", &|one| one.staging_target_path = "stage".into());
    refused(InvalidArgument, "a mount option that is not allowed", &|one| {
        one.volume_capability = Some(requests::mount_with("ext4", &["journal_path=/dev/sda"]));
    });
    refused(NotFound, "an unknown volume", &|one| one.volume_id = NO_VOLUME.into());
    refused(NotFound, "a volume of another driver", &|one| one.volume_id = "not ours".into());
    refused(FailedPrecondition, "another filesystem than it has", &|one| {
        one.volume_capability = Some(requests::mount("xfs"));
    });
    refused(FailedPrecondition, "as a device, and it is not raw", &|one| {
        one.volume_capability = Some(requests::block());
    });
    refused(FailedPrecondition, "from many nodes", &|one| {
        one.volume_capability = Some(with_mode(Mode::MultiNodeMultiWriter, requests::mount("ext4")));
    });
    refused(AlreadyExists, "staged with other options", &|one| {
        one.volume_id.clone_from(&scene.db);
        one.staging_target_path = machine.stage_path("db");
        one.volume_capability = Some(requests::mount_with("ext4", &["noatime"]));
    });
}

fn publish(scene: &Scene, findings: &mut Findings) {
    let machine = &scene.machine;
    let mut refused = |code, when: &str, change: &dyn Fn(&mut NodePublishVolumeRequest)| {
        let mut request = volume::publish_request(machine, &scene.db, "db", requests::mount("ext4"));
        change(&mut request);
        findings.refused(machine, code, when, request);
    };
    refused(InvalidArgument, "no volume", &|one| one.volume_id.clear());
    refused(InvalidArgument, "no target", &|one| one.target_path.clear());
    refused(InvalidArgument, "no capability", &|one| one.volume_capability = None);
    refused(InvalidArgument, "a relative target", &|one| one.target_path = "pod".into());
    refused(InvalidArgument, "a mount option that is not allowed", &|one| {
        one.target_path = machine.pod_path("refused");
        one.volume_capability = Some(requests::mount_with("ext4", &["loop"]));
    });
    refused(NotFound, "an unknown volume", &|one| one.volume_id = NO_VOLUME.into());
    refused(NotFound, "a volume of another driver", &|one| one.volume_id = "not ours".into());
    refused(AlreadyExists, "published there for writing", &|one| one.readonly = true);
    refused(FailedPrecondition, "a second target", &|one| one.target_path = machine.pod_path("second"));
    refused(FailedPrecondition, "a second target for one writer", &|one| {
        one.target_path = machine.pod_path("second");
        one.volume_capability = Some(with_mode(Mode::SingleNodeSingleWriter, requests::mount("ext4")));
    });
    refused(FailedPrecondition, "no staging path", &|one| one.staging_target_path.clear());
    refused(FailedPrecondition, "it is not staged", &|one| {
        one.volume_id.clone_from(&scene.idle);
        one.staging_target_path = machine.stage_path("refused");
        one.target_path = machine.pod_path("refused");
    });
    refused(FailedPrecondition, "as a device, and it is not raw", &|one| {
        one.volume_capability = Some(requests::block());
    });
}

fn take_back(scene: &Scene, findings: &mut Findings) {
    let machine = &scene.machine;
    let unstage = |id: &str, path: &str| NodeUnstageVolumeRequest {
        volume_id: id.to_owned(),
        staging_target_path: path.to_owned(),
    };
    let staged = machine.stage_path("db");
    findings.refused(machine, InvalidArgument, "no volume", unstage("", &staged));
    findings.refused(machine, InvalidArgument, "no path", unstage(&scene.db, ""));
    findings.refused(machine, NotFound, "an unknown volume", unstage(NO_VOLUME, &staged));
    findings.refused(machine, NotFound, "a volume of another driver", unstage("not ours", &staged));
    findings.refused(machine, FailedPrecondition, "it is published", unstage(&scene.db, &staged));
    let unpublish = |id: &str, path: &str| NodeUnpublishVolumeRequest {
        volume_id: id.to_owned(),
        target_path: path.to_owned(),
    };
    let target = machine.pod_path("db");
    findings.refused(machine, InvalidArgument, "no volume", unpublish("", &target));
    findings.refused(machine, InvalidArgument, "no target", unpublish(&scene.db, ""));
    findings.refused(machine, NotFound, "an unknown volume", unpublish(NO_VOLUME, &target));
    findings.refused(machine, NotFound, "a volume of another driver", unpublish("not ours", &target));
    let open = File::create(scene.target.join("open")).unwrap();
    findings.refused(machine, FailedPrecondition, "a file is open there", unpublish(&scene.db, &target));
    drop(open);
}

fn look(scene: &Scene, findings: &mut Findings) {
    let machine = &scene.machine;
    let stats = |id: &str, path: &str| NodeGetVolumeStatsRequest {
        volume_id: id.to_owned(),
        volume_path: path.to_owned(),
        ..Default::default()
    };
    let target = machine.pod_path("db");
    findings.refused(machine, InvalidArgument, "no volume", stats("", &target));
    findings.refused(machine, InvalidArgument, "no path", stats(&scene.db, ""));
    findings.refused(machine, NotFound, "an unknown volume", stats(NO_VOLUME, &target));
    findings.refused(machine, NotFound, "a volume of another driver", stats("not ours", &target));
    findings.refused(machine, NotFound, "it is not there", stats(&scene.db, &machine.pod_path("elsewhere")));
    findings.refused(machine, NotFound, "another volume is there", stats(&scene.idle, &target));
}

fn expand(scene: &Scene, findings: &mut Findings) {
    let machine = &scene.machine;
    let target = machine.pod_path("db");
    let mut refused = |code, when: &str, change: &dyn Fn(&mut NodeExpandVolumeRequest)| {
        let mut request = NodeExpandVolumeRequest {
            volume_id: scene.db.clone(),
            volume_path: target.clone(),
            ..Default::default()
        };
        change(&mut request);
        findings.refused(machine, code, when, request);
    };
    refused(InvalidArgument, "no volume", &|one| one.volume_id.clear());
    refused(InvalidArgument, "no path", &|one| one.volume_path.clear());
    refused(InvalidArgument, "a capability it does not have", &|one| {
        one.volume_capability = Some(requests::block());
    });
    refused(NotFound, "an unknown volume", &|one| one.volume_id = NO_VOLUME.into());
    refused(NotFound, "a volume of another driver", &|one| one.volume_id = "not ours".into());
    refused(NotFound, "it is not there", &|one| one.volume_path = machine.pod_path("elsewhere"));
    refused(OutOfRange, "more than the volume has", &|one| one.capacity_range = requests::range(65 * MIB, 0));
    refused(OutOfRange, "a limit below its size", &|one| one.capacity_range = requests::range(0, MIB));
    if may_grow_online() {
        println!(
            "here ext4 grows while it is mounted, so that FAILED_PRECONDITION of NodeExpandVolume is not seen"
        );
        findings.provoked.insert(("NodeExpandVolume".to_owned(), FailedPrecondition.into()));
        return;
    }
    let id = volume::small(machine, "growing", Kind::Ext4);
    let target = volume::publish(machine, &id, "growing", Kind::Ext4);
    machine.ok(ControllerExpandVolumeRequest {
        volume_id: id.clone(),
        capacity_range: requests::range(80 * MIB, 0),
        ..Default::default()
    });
    let grow = NodeExpandVolumeRequest {
        volume_id: id.clone(),
        volume_path: target.to_str().unwrap().to_owned(),
        ..Default::default()
    };
    findings.refused(machine, FailedPrecondition, "the kernel does not let a mounted ext4 grow", grow);
    volume::unpublish(machine, &id, "growing");
}
