//! kill -9 between calls and in the middle of them; then the same call again brings all to its end.

use std::time::Duration;

use strongroom_proto::csi::{
    ControllerExpandVolumeRequest, DeleteSnapshotRequest, DeleteVolumeRequest, ListVolumesRequest,
};

use crate::call::Call;
use crate::content;
use crate::machine::Machine;
use crate::requests::{self, Kind, MIB};
use crate::volume;

/// Begins a call, kills the driver while it is under way (or just before, or after), starts it again, and repeats.
#[track_caller]
fn killed_on_the_way<R: Call>(machine: &mut Machine, request: &R, after: Duration) -> R::Answer {
    let begun = machine.begin(request.clone());
    std::thread::sleep(after);
    machine.kill();
    // Whatever the caller heard: it asks again.
    let _ = machine.end(begun);
    machine.start();
    machine.ok(request.clone())
}

#[test]
fn a_driver_that_is_killed_in_the_middle_of_any_call_goes_on_when_it_is_asked_again() {
    let Some(mut machine) = Machine::new("kills in calls") else { return };
    for (round, after_ms) in [2, 12, 40].into_iter().enumerate() {
        let after = Duration::from_millis(after_ms);
        let kind = [Kind::Ext4, Kind::Block, Kind::Ext4][round];
        let name = format!("v{round}");
        let create = requests::volume(&name, kind, 64);
        let id = killed_on_the_way(&mut machine, &create, after).volume.unwrap().volume_id;
        assert_eq!(machine.ok(ListVolumesRequest::default()).entries.len(), 1, "one volume");
        let stage = volume::stage_request(&machine, &id, &name, kind.capability());
        killed_on_the_way(&mut machine, &stage, after);
        let publish = volume::publish_request(&machine, &id, &name, kind.capability());
        killed_on_the_way(&mut machine, &publish, after);
        let target = std::path::PathBuf::from(&publish.target_path);
        content::fill(&target, kind, 5);
        let before = content::read(&target, kind);
        assert!(!before.is_empty());

        let snapshot = requests::snapshot(&id, &format!("s{round}"));
        let snapshot = killed_on_the_way(&mut machine, &snapshot, after).snapshot.unwrap();
        assert_eq!(content::read(&target, kind), before, "the volume can be used: it is not left frozen");
        let mut restore = requests::volume(&format!("r{round}"), kind, 64);
        restore.volume_content_source = requests::snapshot_source(&snapshot.snapshot_id);
        let restored = killed_on_the_way(&mut machine, &restore, after).volume.unwrap().volume_id;
        let place = volume::publish(&machine, &restored, &format!("r{round}"), kind);
        assert_eq!(content::read(&place, kind), before, "what was restored across a kill");
        volume::unpublish(&machine, &restored, &format!("r{round}"));

        let expand = ControllerExpandVolumeRequest {
            volume_id: id.clone(),
            capacity_range: requests::range(96 * MIB, 0),
            ..Default::default()
        };
        assert_eq!(killed_on_the_way(&mut machine, &expand, after).capacity_bytes, 96 << 20);
        let request = volume::unpublish_request(&machine, &id, &name);
        killed_on_the_way(&mut machine, &request, after);
        assert!(!target.exists());
        let request = volume::unstage_request(&machine, &id, &name);
        killed_on_the_way(&mut machine, &request, after);
        let delete = DeleteSnapshotRequest { snapshot_id: snapshot.snapshot_id, ..Default::default() };
        killed_on_the_way(&mut machine, &delete, after);
        for volume_id in [id, restored] {
            killed_on_the_way(&mut machine, &DeleteVolumeRequest { volume_id, ..Default::default() }, after);
        }
        assert!(machine.ok(ListVolumesRequest::default()).entries.is_empty());
    }
    machine.finish();
}
