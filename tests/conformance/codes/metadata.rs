//! Refusals of SnapshotMetadata.

use strongroom_proto::csi::{GetMetadataAllocatedRequest, GetMetadataDeltaRequest};
use tonic::Code;

use super::Findings;
use super::scene::Scene;
use crate::requests::{MIB, NO_SNAPSHOT};

pub(super) fn provoke(scene: &Scene, findings: &mut Findings) {
    use Code::{InvalidArgument, NotFound, OutOfRange};
    let machine = &scene.machine;
    let behind = i64::try_from(64 * MIB + 1).unwrap();
    for (when, code, snapshot, starting_offset, max_results) in [
        ("no snapshot", InvalidArgument, "", 0, 0),
        ("fewer than none", InvalidArgument, scene.snapshot.as_str(), 0, -1),
        ("an unknown snapshot", NotFound, NO_SNAPSHOT, 0, 0),
        ("a snapshot of another driver", NotFound, "not ours", 0, 0),
        ("a negative offset", OutOfRange, &scene.snapshot, -1, 0),
        ("an offset behind the end", OutOfRange, &scene.snapshot, behind, 0),
    ] {
        let request = GetMetadataAllocatedRequest {
            snapshot_id: snapshot.to_owned(),
            starting_offset,
            max_results,
            ..Default::default()
        };
        findings.refused(machine, code, when, request);
        for (base, target) in [(snapshot, scene.snapshot.as_str()), (scene.snapshot.as_str(), snapshot)] {
            let request = GetMetadataDeltaRequest {
                base_snapshot_id: base.to_owned(),
                target_snapshot_id: target.to_owned(),
                starting_offset,
                max_results,
                ..Default::default()
            };
            findings.refused(machine, code, when, request);
        }
    }
    let request = GetMetadataDeltaRequest {
        base_snapshot_id: scene.snapshot.clone(),
        target_snapshot_id: scene.other_snapshot.clone(),
        ..Default::default()
    };
    findings.refused(machine, InvalidArgument, "snapshots of two volumes", request);
}
