//! Lists, page by page, and capacity.

use std::collections::BTreeSet;

use strongroom_proto::csi::{
    ControllerGetVolumeRequest, GetCapacityRequest, GetSnapshotRequest, ListSnapshotsRequest,
    ListVolumesRequest, Topology,
};
use tonic::Code;

use crate::machine::Machine;
use crate::requests::{self, Kind, MIB, NO_SNAPSHOT, NO_VOLUME};
use crate::volume;

#[test]
fn volumes_are_listed_page_by_page_each_once() {
    let Some(machine) = Machine::new("lists of volumes") else { return };
    let made: BTreeSet<String> =
        (0..7).map(|number| volume::small(&machine, &format!("v{number}"), Kind::Block)).collect();
    let all = machine.ok(ListVolumesRequest::default());
    assert_eq!((all.entries.len(), all.next_token.as_str()), (7, ""));
    for most in [1, 2, 3, 7, 8, i32::MAX] {
        let (mut seen, mut token) = (Vec::new(), String::new());
        loop {
            let page = machine.ok(ListVolumesRequest { max_entries: most, starting_token: token });
            assert!(page.entries.len() <= usize::try_from(most).unwrap());
            seen.extend(page.entries.into_iter().map(|entry| entry.volume.unwrap().volume_id));
            token = page.next_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(seen.len(), 7, "by {most}");
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), made, "by {most}");
    }
    // What stays is seen once, although the list changes between two pages.
    let page = machine.ok(ListVolumesRequest { max_entries: 3, ..Default::default() });
    let seen: Vec<String> = page.entries.into_iter().map(|entry| entry.volume.unwrap().volume_id).collect();
    volume::delete(&machine, &seen[2]);
    let rest = machine.ok(ListVolumesRequest { starting_token: page.next_token, ..Default::default() });
    let rest: BTreeSet<String> =
        rest.entries.into_iter().map(|entry| entry.volume.unwrap().volume_id).collect();
    assert_eq!(rest, made.iter().filter(|id| !seen.contains(id)).cloned().collect());
    // The list and the single answer agree.
    let entry = &machine.ok(ListVolumesRequest { max_entries: 1, ..Default::default() }).entries[0];
    let volume = entry.volume.clone().unwrap();
    let single = machine.ok(ControllerGetVolumeRequest { volume_id: volume.volume_id.clone() });
    assert_eq!(single.volume, Some(volume));
    let condition = single.status.unwrap().volume_condition.unwrap();
    assert!(!condition.abnormal && !condition.message.is_empty());
    assert_eq!(entry.status.as_ref().unwrap().volume_condition, Some(condition));
    machine.finish();
}

#[test]
fn snapshots_are_listed_by_page_by_volume_and_by_id() {
    let Some(machine) = Machine::new("lists of snapshots") else { return };
    let volumes = ["a", "b"].map(|name| volume::small(&machine, name, Kind::Block));
    let mut made = BTreeSet::new();
    for (number, id) in volumes.iter().cycle().take(5).enumerate() {
        made.insert(volume::snapshot(&machine, id, &format!("s{number}")).snapshot_id);
    }
    let ids = |request: ListSnapshotsRequest| -> BTreeSet<String> {
        machine.ok(request).entries.into_iter().map(|entry| entry.snapshot.unwrap().snapshot_id).collect()
    };
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page =
            machine.ok(ListSnapshotsRequest { max_entries: 2, starting_token: token, ..Default::default() });
        seen.extend(page.entries.into_iter().map(|entry| entry.snapshot.unwrap().snapshot_id));
        token = page.next_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!((seen.len(), seen.into_iter().collect::<BTreeSet<_>>()), (5, made.clone()));
    let of_a = ids(ListSnapshotsRequest { source_volume_id: volumes[0].clone(), ..Default::default() });
    assert_eq!(of_a.len(), 3);
    let one = made.first().unwrap();
    assert_eq!(
        ids(ListSnapshotsRequest { snapshot_id: one.clone(), ..Default::default() }),
        [one.clone()].into()
    );
    // A filter that fits nothing is no error.
    for filter in [NO_SNAPSHOT, "another driver's"] {
        assert!(ids(ListSnapshotsRequest { snapshot_id: filter.into(), ..Default::default() }).is_empty());
    }
    for filter in [NO_VOLUME, "another driver's"] {
        assert!(
            ids(ListSnapshotsRequest { source_volume_id: filter.into(), ..Default::default() }).is_empty()
        );
    }
    let both = ListSnapshotsRequest {
        snapshot_id: of_a.first().unwrap().clone(),
        source_volume_id: volumes[1].clone(),
        ..Default::default()
    };
    assert!(ids(both).is_empty());
    let single =
        machine.ok(GetSnapshotRequest { snapshot_id: one.clone(), ..Default::default() }).snapshot.unwrap();
    assert!(single.ready_to_use && single.creation_time.is_some() && single.size_bytes > 0);
    // Snapshots outlive their volume.
    volume::delete(&machine, &volumes[0]);
    assert_eq!(
        ids(ListSnapshotsRequest { source_volume_id: volumes[0].clone(), ..Default::default() }),
        of_a
    );
    machine.finish();
}

#[test]
fn capacity_is_what_can_really_be_created() {
    let Some(machine) = Machine::new("capacity") else { return };
    let ask = |request: GetCapacityRequest| machine.ok(request);
    let room = ask(GetCapacityRequest::default());
    let largest = room.maximum_volume_size.unwrap();
    assert!(room.available_capacity > 0 && largest > 0 && largest <= room.available_capacity);
    let least = room.minimum_volume_size.unwrap();
    assert!(0 < least && least <= largest);
    let elsewhere = Topology { segments: requests::entry("strongroom.io/node", "elsewhere") };
    let elsewhere = ask(GetCapacityRequest { accessible_topology: Some(elsewhere), ..Default::default() });
    assert_eq!(elsewhere.available_capacity, 0);
    let impossible =
        GetCapacityRequest { volume_capabilities: vec![requests::mount("ntfs")], ..Default::default() };
    assert_eq!(ask(impossible).available_capacity, 0);

    // One more than the largest is refused; the largest and the least are made.
    let largest = u64::try_from(largest).unwrap();
    let mut request = requests::volume("large", Kind::Block, 1);
    request.capacity_range = requests::range(largest + 4096, 0);
    machine.refused(Code::ResourceExhausted, request.clone());
    request.capacity_range = requests::range(largest / 4096 * 4096, 0);
    let id = volume::create(&machine, request).volume_id;
    assert!(ask(GetCapacityRequest::default()).maximum_volume_size.unwrap() < i64::try_from(MIB).unwrap());
    machine.refused(Code::ResourceExhausted, requests::volume("one more", Kind::Ext4, 64));
    volume::delete(&machine, &id);
    assert_eq!(
        ask(GetCapacityRequest::default()).maximum_volume_size.unwrap() / 4096,
        i64::try_from(largest).unwrap() / 4096
    );
    let mut request = requests::volume("least", Kind::Block, 1);
    request.capacity_range = requests::range(u64::try_from(least).unwrap(), u64::try_from(least).unwrap());
    volume::create(&machine, request);
    machine.finish();
}
