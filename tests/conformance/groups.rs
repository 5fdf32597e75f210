//! Group snapshots: all members at one moment, with what was in them, and deleted together.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use strongroom_proto::csi::{
    CreateVolumeGroupSnapshotRequest, DeleteVolumeGroupSnapshotRequest, GetSnapshotRequest,
    GetVolumeGroupSnapshotRequest, ListSnapshotsRequest, VolumeGroupSnapshot,
};
use tonic::Code;

use crate::content;
use crate::machine::Machine;
use crate::requests::{self, Kind};
use crate::volume;

fn group_of(name: &str, members: &[String]) -> CreateVolumeGroupSnapshotRequest {
    CreateVolumeGroupSnapshotRequest {
        name: name.to_owned(),
        source_volume_ids: members.to_vec(),
        ..Default::default()
    }
}

fn members_of(group: &VolumeGroupSnapshot) -> Vec<String> {
    group.snapshots.iter().map(|one| one.snapshot_id.clone()).collect()
}

/// The member that was taken of a volume.
fn of_volume<'a>(group: &'a VolumeGroupSnapshot, id: &str) -> &'a str {
    &group.snapshots.iter().find(|one| one.source_volume_id == id).unwrap().snapshot_id
}

#[track_caller]
fn delete(machine: &Machine, group: &VolumeGroupSnapshot) {
    let request = DeleteVolumeGroupSnapshotRequest {
        group_snapshot_id: group.group_snapshot_id.clone(),
        snapshot_ids: members_of(group),
        ..Default::default()
    };
    for _ in 0..3 {
        machine.ok(request.clone());
    }
}

#[test]
fn a_group_holds_what_was_in_all_its_members_and_goes_as_one() {
    let Some(mut machine) = Machine::new("group snapshots") else { return };
    let mut members = Vec::new();
    let mut contents = Vec::new();
    for kind in Kind::all() {
        let id = volume::small(&machine, kind.name(), kind);
        let target = volume::publish(&machine, &id, kind.name(), kind);
        content::fill(&target, kind, 1);
        contents.push((kind, id.clone(), content::read(&target, kind), target));
        members.push(id);
    }
    let request = group_of("group", &members);
    let group = machine.ok(request.clone()).group_snapshot.unwrap();
    assert!(group.ready_to_use && group.creation_time.is_some());
    assert_eq!(group.snapshots.len(), members.len());
    for one in &group.snapshots {
        assert!(one.ready_to_use && one.creation_time.is_some() && one.size_bytes > 0);
        assert_eq!(one.group_snapshot_id, group.group_snapshot_id);
        let single = GetSnapshotRequest { snapshot_id: one.snapshot_id.clone(), ..Default::default() };
        assert_eq!(machine.ok(single).snapshot.as_ref(), Some(one));
    }
    let same = |machine: &Machine, request: CreateVolumeGroupSnapshotRequest| {
        let mut again = machine.ok(request).group_snapshot.unwrap();
        again.snapshots.sort_by(|a, b| a.snapshot_id.cmp(&b.snapshot_id));
        let mut first = group.clone();
        first.snapshots.sort_by(|a, b| a.snapshot_id.cmp(&b.snapshot_id));
        assert_eq!(again, first);
    };
    for _ in 0..10 {
        same(&machine, request.clone());
    }
    let mut turned = request.clone();
    turned.source_volume_ids.reverse();
    same(&machine, turned);
    machine.restart();
    same(&machine, request);
    let get = GetVolumeGroupSnapshotRequest {
        group_snapshot_id: group.group_snapshot_id.clone(),
        snapshot_ids: members_of(&group),
        ..Default::default()
    };
    assert_eq!(machine.ok(get.clone()).group_snapshot.unwrap().group_snapshot_id, group.group_snapshot_id);

    for (kind, id, before, target) in &contents {
        content::fill(target, *kind, 2);
        let name = format!("restored {}", kind.name());
        let mut restored = requests::volume(&name, *kind, kind.mib());
        restored.volume_content_source = requests::snapshot_source(of_volume(&group, id));
        let restored = volume::create(&machine, restored).volume_id;
        let place = volume::publish(&machine, &restored, "restored", *kind);
        assert_eq!(content::read(&place, *kind), *before, "{name}");
        volume::unpublish(&machine, &restored, "restored");
        volume::unpublish(&machine, id, kind.name());
    }
    delete(&machine, &group);
    machine.refused(Code::NotFound, get);
    assert!(machine.ok(ListSnapshotsRequest::default()).entries.is_empty(), "its members went with it");
    machine.finish();
}

/// A workload writes the same number to one volume and then to the other. In every group the second never knows more than
/// the first, and is at most one behind: that is one moment.
#[test]
fn members_are_cut_at_one_moment_under_a_writing_workload() {
    let Some(machine) = Machine::new("consistency of groups") else { return };
    let ids = ["first", "second"].map(|name| volume::small(&machine, name, Kind::Ext4));
    let places = [0, 1].map(|at| volume::publish(&machine, &ids[at], ["first", "second"][at], Kind::Ext4));
    let stop = AtomicBool::new(false);
    let groups = std::thread::scope(|scope| {
        scope.spawn(|| {
            let write = |place: &Path, number: u64| {
                let mut file = File::create(place.join("part")).unwrap();
                file.write_all(&number.to_le_bytes()).unwrap();
                file.sync_all().unwrap();
                fs::rename(place.join("part"), place.join("number")).unwrap();
                File::open(place).unwrap().sync_all().unwrap();
            };
            let mut number = 1;
            while !stop.load(Ordering::Relaxed) {
                places.iter().for_each(|place| write(place, number));
                number += 1;
            }
        });
        while !places[1].join("number").exists() {
            std::thread::yield_now();
        }
        let groups: Vec<VolumeGroupSnapshot> = (0..6)
            .map(|round| machine.ok(group_of(&format!("g{round}"), &ids)).group_snapshot.unwrap())
            .collect();
        stop.store(true, Ordering::Relaxed);
        groups
    });
    let mut seen = BTreeSet::new();
    for (round, group) in groups.iter().enumerate() {
        let numbers = [0, 1].map(|at| {
            let name = format!("r{round}-{at}");
            let mut request = requests::volume(&name, Kind::Ext4, 64);
            request.volume_content_source = requests::snapshot_source(of_volume(group, &ids[at]));
            let id = volume::create(&machine, request).volume_id;
            let place = volume::publish(&machine, &id, &name, Kind::Ext4);
            let number = u64::from_le_bytes(fs::read(place.join("number")).unwrap().try_into().unwrap());
            volume::unpublish(&machine, &id, &name);
            volume::delete(&machine, &id);
            number
        });
        let [first, second] = numbers;
        assert!(first == second || first == second + 1, "group {round}: {first} and {second}");
        seen.insert(first);
        delete(&machine, group);
    }
    assert!(seen.len() > 1, "the workload went on between the groups: {seen:?}");
    for (at, name) in ["first", "second"].into_iter().enumerate() {
        volume::unpublish(&machine, &ids[at], name);
    }
    machine.finish();
}
