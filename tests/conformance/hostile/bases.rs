//! A well-formed request of every call, into which something hostile is put, and what is to be undone when it is accepted.

use prost::Message;
use prost::bytes::Bytes;
use prost_reflect::{DescriptorPool, DynamicMessage};
use strongroom_proto::csi;

use super::fields::{self, Leaf};
use crate::call::{Call, name_of};
use crate::machine::{Machine, NODE};
use crate::requests::{self, Kind, MIB, NO_SNAPSHOT, NO_VOLUME, entry};
use crate::volume;

/// The volumes that the requests are about.
#[derive(Debug)]
pub(crate) struct Bases {
    /// ext4, staged and published.
    published: String,
    /// ext4, nowhere.
    loose: String,
    /// A raw device, nowhere.
    raw: String,
    snapshot: String,
    requests: Vec<(&'static str, Vec<u8>)>,
    /// Of calls that make a volume, or stage one, as a folder.
    of_mount: Vec<(&'static str, Vec<u8>)>,
}

/// Folders for staging belong to the orchestrator, which is this test: it takes those away that are not its own.
fn sweep(machine: &Machine) {
    for name in ["yard/mounts/stage", "yard/mounts/pods"] {
        for entry in std::fs::read_dir(machine.path(name)).unwrap().flatten() {
            let known = ["published", "hostile"].iter().any(|known| entry.file_name() == *known);
            if entry.file_type().unwrap().is_dir() && !known {
                std::fs::remove_dir(entry.path()).unwrap();
            }
        }
    }
}

fn of<R: Call>(request: &R) -> (&'static str, Vec<u8>) {
    (R::PATH, request.encode_to_vec())
}

impl Bases {
    pub(crate) fn new(machine: &Machine) -> Self {
        let make = |name: &str, kind: Kind, mib: u64| {
            volume::create(machine, requests::volume(name, kind, mib)).volume_id
        };
        let (published, loose) = (make("published", Kind::Ext4, 16), make("loose", Kind::Ext4, 16));
        let raw = make("raw", Kind::Block, 4);
        let snapshot = volume::snapshot(machine, &raw, "of raw").snapshot_id;
        // Made for good, so that requests for it are answered quickly.
        make("as a folder", Kind::Ext4, 16);
        let mut bases = Self { published, loose, raw, snapshot, requests: Vec::new(), of_mount: Vec::new() };
        bases.settle(machine);
        bases.requests = bases.all(machine);
        let mut create = requests::volume("as a folder", Kind::Ext4, 16);
        create.parameters = entry("label.team", "a");
        let stage = volume::stage_request(machine, &bases.loose, "hostile", requests::mount("ext4"));
        bases.of_mount = vec![of(&create), of(&stage)];
        bases
    }

    /// As the requests expect it.
    fn settle(&self, machine: &Machine) {
        volume::publish(machine, &self.published, "published", Kind::Ext4);
        std::fs::create_dir_all(machine.stage_path("hostile")).unwrap();
    }

    fn all(&self, machine: &Machine) -> Vec<(&'static str, Vec<u8>)> {
        let (published, loose, raw) = (|| self.published.clone(), || self.loose.clone(), || self.raw.clone());
        let (context, secrets) = (|| entry("context", "a"), || entry("password", "b"));
        let mut create = requests::volume("hostile", Kind::Block, 4);
        create.parameters = entry("label.team", "a");
        create.secrets = secrets();
        let mut snap = requests::snapshot(&self.raw, "hostile");
        snap.parameters = entry("label.team", "a");
        let publish = volume::publish_request(machine, &self.published, "published", requests::mount("ext4"));
        let (staged, target) = (publish.staging_target_path.clone(), publish.target_path.clone());
        let stage = volume::stage_request(machine, &self.loose, "hostile", requests::mount("ext4"));
        let members = vec![published(), raw()];
        vec![
            of(&csi::GetPluginInfoRequest {}),
            of(&csi::GetPluginCapabilitiesRequest {}),
            of(&csi::ProbeRequest {}),
            of(&create),
            of(&csi::DeleteVolumeRequest { volume_id: NO_VOLUME.into(), secrets: secrets() }),
            of(&csi::ControllerPublishVolumeRequest {
                volume_id: raw(),
                node_id: NODE.into(),
                volume_capability: Some(requests::block()),
                secrets: secrets(),
                volume_context: context(),
                ..Default::default()
            }),
            of(&csi::ControllerUnpublishVolumeRequest {
                volume_id: raw(),
                node_id: NODE.into(),
                secrets: secrets(),
            }),
            of(&csi::ValidateVolumeCapabilitiesRequest {
                volume_id: loose(),
                volume_capabilities: vec![requests::mount("ext4")],
                parameters: entry("label.team", "a"),
                ..Default::default()
            }),
            of(&csi::ListVolumesRequest::default()),
            of(&csi::GetCapacityRequest {
                volume_capabilities: vec![requests::mount("ext4")],
                parameters: entry("label.team", "a"),
                ..Default::default()
            }),
            of(&csi::ControllerGetCapabilitiesRequest {}),
            of(&snap),
            of(&csi::DeleteSnapshotRequest { snapshot_id: NO_SNAPSHOT.into(), secrets: secrets() }),
            of(&csi::ListSnapshotsRequest::default()),
            of(&csi::GetSnapshotRequest { snapshot_id: self.snapshot.clone(), secrets: secrets() }),
            of(&csi::ControllerExpandVolumeRequest {
                volume_id: raw(),
                capacity_range: requests::range(4 * MIB, 0),
                secrets: secrets(),
                volume_capability: Some(requests::block()),
            }),
            of(&csi::ControllerGetVolumeRequest { volume_id: raw() }),
            of(&csi::ControllerModifyVolumeRequest {
                volume_id: raw(),
                secrets: secrets(),
                mutable_parameters: entry("label.team", "b"),
            }),
            of(&csi::GroupControllerGetCapabilitiesRequest {}),
            of(&csi::CreateVolumeGroupSnapshotRequest {
                name: "hostile".into(),
                source_volume_ids: members,
                secrets: secrets(),
                ..Default::default()
            }),
            of(&csi::DeleteVolumeGroupSnapshotRequest::default()),
            of(&csi::GetVolumeGroupSnapshotRequest::default()),
            of(&csi::GetMetadataAllocatedRequest {
                snapshot_id: self.snapshot.clone(),
                ..Default::default()
            }),
            of(&csi::GetMetadataDeltaRequest {
                base_snapshot_id: self.snapshot.clone(),
                target_snapshot_id: self.snapshot.clone(),
                ..Default::default()
            }),
            of(&csi::NodeStageVolumeRequest { secrets: secrets(), volume_context: context(), ..stage }),
            of(&csi::NodeUnstageVolumeRequest {
                volume_id: published(),
                staging_target_path: staged.clone(),
            }),
            of(&csi::NodePublishVolumeRequest { secrets: secrets(), volume_context: context(), ..publish }),
            of(&csi::NodeUnpublishVolumeRequest { volume_id: published(), target_path: target.clone() }),
            of(&csi::NodeGetVolumeStatsRequest {
                volume_id: published(),
                volume_path: target.clone(),
                staging_target_path: staged.clone(),
            }),
            of(&csi::NodeExpandVolumeRequest {
                volume_id: published(),
                volume_path: target,
                capacity_range: requests::range(16 * MIB, 0),
                staging_target_path: staged,
                volume_capability: Some(requests::mount("ext4")),
                secrets: secrets(),
            }),
            of(&csi::NodeGetCapabilitiesRequest {}),
            of(&csi::NodeGetInfoRequest {}),
        ]
    }

    /// The request of a call into which something is put at `leaf`.
    pub(crate) fn message(&self, pool: &DescriptorPool, path: &str, leaf: &Leaf) -> DynamicMessage {
        let special = self.of_mount.iter().filter(|_| leaf.is_of_mount());
        let (_, bytes) =
            special.chain(&self.requests).find(|(call, _)| *call == path).expect("every call has one");
        DynamicMessage::decode(fields::message(pool, path), bytes.as_slice()).unwrap()
    }

    /// The requests as they are, of calls with secrets.
    pub(crate) fn requests(&self) -> &[(&'static str, Vec<u8>)] {
        &self.requests
    }

    /// Takes back what was accepted.
    #[track_caller]
    pub(crate) fn undo(&self, machine: &Machine, path: &str, request: &[u8], answers: &[Bytes], what: &str) {
        fn read<M: Message + Default>(bytes: &[u8]) -> M {
            M::decode(bytes).unwrap()
        }
        let answer = answers.first().map_or(&[][..], |bytes| &bytes[..]);
        let undone = match name_of(path) {
            "CreateVolume" => {
                let id = read::<csi::CreateVolumeResponse>(answer).volume.unwrap().volume_id;
                if read::<csi::CreateVolumeRequest>(request).name == "as a folder" {
                    return;
                }
                machine.call(csi::DeleteVolumeRequest { volume_id: id, ..Default::default() }).map(drop)
            }
            "CreateSnapshot" => {
                let id = read::<csi::CreateSnapshotResponse>(answer).snapshot.unwrap().snapshot_id;
                machine.call(csi::DeleteSnapshotRequest { snapshot_id: id, ..Default::default() }).map(drop)
            }
            "CreateVolumeGroupSnapshot" => {
                let group = read::<csi::CreateVolumeGroupSnapshotResponse>(answer).group_snapshot.unwrap();
                let request = csi::DeleteVolumeGroupSnapshotRequest {
                    group_snapshot_id: group.group_snapshot_id,
                    snapshot_ids: group.snapshots.into_iter().map(|one| one.snapshot_id).collect(),
                    ..Default::default()
                };
                machine.call(request).map(drop)
            }
            "ControllerPublishVolume" => {
                let request: csi::ControllerPublishVolumeRequest = read(request);
                let (volume_id, node_id) = (request.volume_id, request.node_id);
                let undo = csi::ControllerUnpublishVolumeRequest { volume_id, node_id, ..Default::default() };
                machine.call(undo).map(drop)
            }
            "NodeStageVolume" => {
                let request: csi::NodeStageVolumeRequest = read(request);
                let (volume_id, path) = (request.volume_id, request.staging_target_path);
                let undo = csi::NodeUnstageVolumeRequest { volume_id, staging_target_path: path.clone() };
                let undone = machine.call(undo).map(drop);
                sweep(machine);
                undone
            }
            "NodePublishVolume" => {
                let request: csi::NodePublishVolumeRequest = read(request);
                let (volume_id, target_path) = (request.volume_id, request.target_path);
                let undone =
                    machine.call(csi::NodeUnpublishVolumeRequest { volume_id, target_path }).map(drop);
                self.settle(machine);
                undone
            }
            "NodeUnstageVolume" | "NodeUnpublishVolume" => {
                self.settle(machine);
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(status) = undone {
            panic!("{what} was accepted and cannot be taken back: {status:?}");
        }
    }

    pub(crate) fn take_down(&self, machine: &Machine) {
        volume::unpublish(machine, &self.published, "published");
        let _ = machine.call(csi::ControllerUnpublishVolumeRequest {
            volume_id: self.raw.clone(),
            node_id: NODE.into(),
            ..Default::default()
        });
    }
}
