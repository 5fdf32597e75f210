//! Many callers at the same time: each is answered OK or ABORTED, and the outcome is as if one had called.

use std::collections::BTreeSet;

use strongroom_proto::csi::{
    ControllerExpandVolumeRequest, DeleteSnapshotRequest, DeleteVolumeRequest, ListSnapshotsRequest,
    ListVolumesRequest, NodeGetVolumeStatsRequest,
};
use tonic::{Code, Status};

use crate::call::Call;
use crate::content;
use crate::kernel;
use crate::machine::Machine;
use crate::requests::{self, Kind, MIB};
use crate::volume;

const CALLERS: usize = 64;

/// The good answers of 64 calls at the same time; at least one, and all others ABORTED.
#[track_caller]
fn all_at_once<R: Call>(machine: &Machine, request: &R) -> Vec<R::Answer> {
    let answers = machine.together(vec![request.clone(); CALLERS]);
    let good = only_aborted(answers);
    assert!(!good.is_empty(), "{}: all 64 were put off", R::PATH);
    good
}

#[track_caller]
fn only_aborted<T>(answers: Vec<Result<T, Status>>) -> Vec<T> {
    let mut good = Vec::new();
    for answer in answers {
        match answer {
            Ok(answer) => good.push(answer),
            Err(status) => assert_eq!(status.code(), Code::Aborted, "{status:?}"),
        }
    }
    good
}

/// Asks until the answer is not ABORTED.
#[track_caller]
fn persist<R: Call>(machine: &Machine, request: &R) -> R::Answer {
    for _ in 0..200 {
        match machine.call(request.clone()) {
            Ok(answer) => return answer,
            Err(status) => assert_eq!(status.code(), Code::Aborted, "{status:?}"),
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("{} is put off for ever", R::PATH);
}

#[test]
fn sixty_four_callers_with_one_wish_make_one_volume_and_use_it_once() {
    let Some(machine) = Machine::new("parallel calls") else { return };
    for kind in [Kind::Ext4, Kind::Block] {
        let name = kind.name();
        let create = requests::volume(name, kind, 64);
        let mut ids: BTreeSet<String> = all_at_once(&machine, &create)
            .into_iter()
            .map(|answer| answer.volume.unwrap().volume_id)
            .collect();
        assert_eq!(ids.len(), 1, "one volume: {ids:?}");
        let id = ids.pop_first().unwrap();

        all_at_once(&machine, &volume::stage_request(&machine, &id, name, kind.capability()));
        let publish = volume::publish_request(&machine, &id, name, kind.capability());
        all_at_once(&machine, &publish);
        let target = std::path::PathBuf::from(&publish.target_path);
        let mounted = kernel::mounts_below(&target).iter().filter(|place| **place == target).count();
        assert_eq!(mounted, 1);
        content::fill(&target, kind, 1);
        let before = content::read(&target, kind);

        let snapshot = requests::snapshot(&id, &format!("of {name}"));
        let snapshots: BTreeSet<String> = all_at_once(&machine, &snapshot)
            .into_iter()
            .map(|answer| answer.snapshot.unwrap().snapshot_id)
            .collect();
        assert_eq!(snapshots.len(), 1, "{snapshots:?}");
        let expand = ControllerExpandVolumeRequest {
            volume_id: id.clone(),
            capacity_range: requests::range(96 * MIB, 0),
            ..Default::default()
        };
        for answer in all_at_once(&machine, &expand) {
            assert_eq!(answer.capacity_bytes, 96 << 20);
        }
        let stats = NodeGetVolumeStatsRequest {
            volume_id: id.clone(),
            volume_path: publish.target_path.clone(),
            ..Default::default()
        };
        assert_eq!(all_at_once(&machine, &stats).len(), CALLERS, "questions are never put off");
        assert_eq!(content::read_bytes(&target, kind, 64 * MIB), before);

        all_at_once(&machine, &volume::unpublish_request(&machine, &id, name));
        all_at_once(&machine, &volume::unstage_request(&machine, &id, name));
        let delete =
            DeleteSnapshotRequest { snapshot_id: snapshots.first().unwrap().clone(), ..Default::default() };
        all_at_once(&machine, &delete);
        all_at_once(&machine, &DeleteVolumeRequest { volume_id: id, ..Default::default() });
        assert!(machine.ok(ListVolumesRequest::default()).entries.is_empty());
        assert!(machine.ok(ListSnapshotsRequest::default()).entries.is_empty());
    }
    machine.finish();
}

#[test]
fn different_callers_do_not_stand_in_each_others_way() {
    let Some(machine) = Machine::new("parallel volumes") else { return };
    let create = (0..32).map(|number| requests::volume(&format!("v{number}"), Kind::Block, 4)).collect();
    let made: BTreeSet<String> = machine
        .together(create)
        .into_iter()
        .map(|answer| answer.unwrap().volume.unwrap().volume_id)
        .collect();
    assert_eq!(made.len(), 32, "calls for different volumes are never put off");
    let snapshots =
        made.iter().enumerate().map(|(number, id)| requests::snapshot(id, &format!("s{number}"))).collect();
    for answer in machine.together(snapshots) {
        answer.unwrap();
    }
    let delete = made.iter().map(|id| DeleteVolumeRequest { volume_id: id.clone(), ..Default::default() });
    for answer in machine.together(delete.collect()) {
        answer.unwrap();
    }
    assert_eq!(machine.ok(ListSnapshotsRequest::default()).entries.len(), 32);
    machine.finish();
}

#[test]
fn making_and_deleting_race_and_leave_one_volume_or_none() {
    let Some(machine) = Machine::new("races of make and delete") else { return };
    for round in 0..6 {
        let name = format!("v{round}");
        let create = requests::volume(&name, Kind::Ext4, 16);
        let id = machine.ok(create.clone()).volume.unwrap().volume_id;
        let delete = DeleteVolumeRequest { volume_id: id.clone(), ..Default::default() };
        let creating: Vec<_> = (0..16).map(|_| machine.begin(create.clone())).collect();
        let deleting: Vec<_> = (0..16).map(|_| machine.begin(delete.clone())).collect();
        let publishing: Vec<_> = (0..4)
            .map(|_| machine.begin(volume::stage_request(&machine, &id, &name, requests::mount("ext4"))))
            .collect();
        let deleted = deleting.into_iter().map(|one| machine.end(one)).collect::<Vec<_>>();
        let created = only_aborted(creating.into_iter().map(|one| machine.end(one)).collect());
        for staged in publishing {
            if let Err(status) = machine.end(staged) {
                assert!(matches!(status.code(), Code::Aborted | Code::NotFound), "{status:?}");
            }
        }
        for answer in deleted {
            if let Err(status) = answer {
                // Staged by the race: then it is in use.
                assert!(matches!(status.code(), Code::Aborted | Code::FailedPrecondition), "{status:?}");
            }
        }
        let ids: BTreeSet<String> = created.into_iter().map(|one| one.volume.unwrap().volume_id).collect();
        assert!(ids.len() <= 2, "the old one and one new: {ids:?}");
        let listed = machine.ok(ListVolumesRequest::default()).entries;
        let mine: Vec<String> = listed.into_iter().map(|entry| entry.volume.unwrap().volume_id).collect();
        assert!(mine.len() <= 1, "{mine:?}");
        for id in mine {
            persist(&machine, &volume::unstage_request(&machine, &id, &name));
            persist(&machine, &DeleteVolumeRequest { volume_id: id, ..Default::default() });
        }
        assert!(machine.ok(ListVolumesRequest::default()).entries.is_empty());
    }
    machine.finish();
}

#[test]
fn callers_that_give_up_leave_nothing_half_done() {
    let Some(machine) = Machine::new("callers that give up") else { return };
    let create = requests::volume("db", Kind::Ext4, 64);
    for wait_ms in [0, 1, 3, 10, 30, 100] {
        let begun = machine.begin(create.clone());
        std::thread::sleep(std::time::Duration::from_millis(wait_ms));
        begun.give_up();
    }
    let id = persist(&machine, &create).volume.unwrap().volume_id;
    let stage = volume::stage_request(&machine, &id, "db", requests::mount("ext4"));
    for wait_ms in [0, 1, 3, 10, 30] {
        let begun = machine.begin(stage.clone());
        std::thread::sleep(std::time::Duration::from_millis(wait_ms));
        begun.give_up();
    }
    persist(&machine, &stage);
    assert_eq!(machine.ok(ListVolumesRequest::default()).entries.len(), 1);
    machine.ok(volume::unstage_request(&machine, &id, "db"));
    machine.finish();
}
