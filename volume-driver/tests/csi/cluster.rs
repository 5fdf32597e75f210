//! What orchestrators with a controller ask: attaching, changing, groups, lists that change, and how much there is.

use std::collections::BTreeSet;

use strongroom_proto::csi::{
    CapacityRange, ControllerGetVolumeRequest, ControllerModifyVolumeRequest, ControllerPublishVolumeRequest,
    ControllerUnpublishVolumeRequest, CreateVolumeGroupSnapshotRequest, CreateVolumeRequest,
    DeleteSnapshotRequest, DeleteVolumeGroupSnapshotRequest, DeleteVolumeRequest, GetCapacityRequest,
    GetSnapshotRequest, GetVolumeGroupSnapshotRequest, ListSnapshotsRequest, ListVolumesRequest,
    NodeUnpublishVolumeRequest, ValidateVolumeCapabilitiesRequest, VolumeGroupSnapshot,
};
use strongroom_proto::csi::{Topology, TopologyRequirement};
use tonic::{Code, Status};

use crate::ground::{Ground, MIB, block, mount, new_volume};

const UNKNOWN: &str = "vol-00000000000000000000000000000000";

fn code<T: std::fmt::Debug>(answer: Result<T, Status>) -> Code {
    let status = answer.unwrap_err();
    assert!(!status.message().is_empty() && status.details().is_empty(), "{status:?}");
    status.code()
}

fn attach(volume: &str, node: &str) -> ControllerPublishVolumeRequest {
    ControllerPublishVolumeRequest {
        volume_id: volume.into(),
        node_id: node.into(),
        volume_capability: Some(mount("")),
        ..Default::default()
    }
}

fn detach(volume: &str, node: &str) -> ControllerUnpublishVolumeRequest {
    ControllerUnpublishVolumeRequest { volume_id: volume.into(), node_id: node.into(), ..Default::default() }
}

fn modify(volume: &str, pairs: &[(&str, &str)]) -> ControllerModifyVolumeRequest {
    let mutable_parameters = pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    ControllerModifyVolumeRequest { volume_id: volume.into(), mutable_parameters, ..Default::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_is_attached_as_csi_wants_it() {
    let Some(mut ground) = Ground::new("attaching").await else { return };
    let id = ground.volume("db", 64).await.volume_id;
    let controller = ground.clients.controller.clone();
    let publish = |request: ControllerPublishVolumeRequest| {
        let mut controller = controller.clone();
        async move { controller.controller_publish_volume(request).await }
    };
    let without = |change: fn(&mut ControllerPublishVolumeRequest)| {
        let mut request = attach(&id, "node-1");
        change(&mut request);
        request
    };
    for (request, expected) in [
        (without(|request| request.volume_id.clear()), Code::InvalidArgument),
        (without(|request| request.node_id.clear()), Code::InvalidArgument),
        (without(|request| request.node_id = "x".repeat(257)), Code::InvalidArgument),
        (without(|request| request.volume_capability = None), Code::InvalidArgument),
        (without(|request| request.volume_capability = Some(block())), Code::InvalidArgument),
        (without(|request| _ = request.secrets.insert("k".into(), "v".repeat(4096))), Code::InvalidArgument),
        (attach(UNKNOWN, "node-1"), Code::NotFound),
        (attach("none-of-ours", "node-1"), Code::NotFound),
        (attach(&id, "node-2"), Code::NotFound),
    ] {
        assert_eq!(code(publish(request.clone()).await), expected, "{request:?}");
    }
    for _ in 0..2 {
        assert!(publish(attach(&id, "node-1")).await.unwrap().into_inner().publish_context.is_empty());
    }
    let readonly = without(|request| request.readonly = true);
    assert_eq!(code(publish(readonly.clone()).await), Code::AlreadyExists);
    let listed = ground.clients.controller.list_volumes(ListVolumesRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().entries[0].status.as_ref().unwrap().published_node_ids, ["node-1"]);
    let delete = DeleteVolumeRequest { volume_id: id.clone(), ..Default::default() };
    assert_eq!(code(ground.clients.controller.delete_volume(delete.clone()).await), Code::FailedPrecondition);

    // Used by the node it is attached to; then it is not taken away.
    ground.publish(&id, "pod").await;
    assert_eq!(
        code(ground.clients.controller.controller_unpublish_volume(detach(&id, "")).await),
        Code::FailedPrecondition
    );
    ground.unpublish(&id, "pod").await;
    for request in [
        detach(&id, "node-2"),
        detach(UNKNOWN, "node-1"),
        detach("x", ""),
        detach(&id, ""),
        detach(&id, "node-1"),
    ] {
        ground.clients.controller.controller_unpublish_volume(request).await.unwrap();
    }
    assert_eq!(
        code(ground.clients.controller.controller_unpublish_volume(detach("", "")).await),
        Code::InvalidArgument
    );
    let get = ControllerGetVolumeRequest { volume_id: id.clone() };
    let got = ground.clients.controller.controller_get_volume(get).await.unwrap().into_inner();
    assert!(got.status.unwrap().published_node_ids.is_empty());

    // Attached for reading only, it can only be read, although the node is not told so.
    publish(readonly).await.unwrap();
    let folder = ground.publish(&id, "reader").await;
    let written = std::fs::write(folder.join("file"), b"x").unwrap_err();
    assert_eq!(written.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    ground.unpublish(&id, "reader").await;
    ground.clients.controller.controller_unpublish_volume(detach(&id, "node-1")).await.unwrap();
    ground.clients.controller.delete_volume(delete).await.unwrap();
    let gone = NodeUnpublishVolumeRequest { volume_id: id, target_path: ground.text("pods/reader") };
    assert_eq!(code(ground.clients.node.node_unpublish_volume(gone).await), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_is_changed_as_a_whole_or_not_at_all() {
    let Some(mut ground) = Ground::new("modifying").await else { return };
    let create = |name: &str, pairs: &[(&str, &str)]| CreateVolumeRequest {
        mutable_parameters: modify("", pairs).mutable_parameters,
        ..new_volume(name, 16)
    };
    let controller = &mut ground.clients.controller;
    let made = controller.create_volume(create("db", &[("policy", "hourly"), ("label.tier", "gold")])).await;
    let id = made.unwrap().into_inner().volume.unwrap().volume_id;
    for (pairs, expected) in [
        (&[("unknown", "x")][..], Code::InvalidArgument),
        (&[("label.tier", "silver"), ("unknown", "x")], Code::InvalidArgument),
        (&[("label.tier", "silver"), ("iops.read", "-1")], Code::InvalidArgument),
        (&[("label.tier", "silver"), ("bytes-per-second.read", "1GiB")], Code::InvalidArgument),
        (&[("label.tier", "a\nb")], Code::InvalidArgument),
        (&[("policy", "a"), ("label.policy", "b")], Code::InvalidArgument),
        (&[], Code::InvalidArgument),
        // Here the kernel has nothing to limit with; the label is not changed either.
        (&[("label.tier", "silver"), ("iops.read", "5")], Code::FailedPrecondition),
    ] {
        assert_eq!(
            code(controller.controller_modify_volume(modify(&id, pairs)).await),
            expected,
            "{pairs:?}"
        );
    }
    assert_eq!(
        code(controller.controller_modify_volume(modify("", &[("policy", "a")])).await),
        Code::InvalidArgument
    );
    assert_eq!(
        code(controller.controller_modify_volume(modify(UNKNOWN, &[("policy", "a")])).await),
        Code::NotFound
    );
    // The same again is the same; other parameters are another volume.
    for (pairs, expected) in [
        (&[("policy", "hourly"), ("label.tier", "gold")][..], None),
        (&[("policy", "daily")], Some(Code::AlreadyExists)),
        (&[("iops.write", "7")], Some(Code::AlreadyExists)),
        (&[("iops.write", "0"), ("label.none", "")], None),
    ] {
        let answer = controller.create_volume(create("db", pairs)).await;
        match expected {
            None => assert_eq!(answer.unwrap().into_inner().volume.unwrap().volume_id, id, "{pairs:?}"),
            Some(expected) => assert_eq!(code(answer), expected, "{pairs:?}"),
        }
    }
    assert_eq!(
        code(controller.create_volume(create("new", &[("iops.write", "7")])).await),
        Code::FailedPrecondition
    );
    controller.controller_modify_volume(modify(&id, &[("policy", ""), ("label.new", "x")])).await.unwrap();
    // A repetition of its creation that comes late is not a conflict.
    let late = create("db", &[("policy", "hourly"), ("label.tier", "gold")]);
    assert_eq!(controller.create_volume(late).await.unwrap().into_inner().volume.unwrap().volume_id, id);

    let validate =
        |pairs: &[(&str, &str)], fs: &str, parameter: Option<&str>| ValidateVolumeCapabilitiesRequest {
            volume_id: id.clone(),
            volume_capabilities: vec![mount(fs)],
            parameters: parameter.map(|fs| ("fs".to_owned(), fs.to_owned())).into_iter().collect(),
            mutable_parameters: modify("", pairs).mutable_parameters,
            ..Default::default()
        };
    for (request, confirmed) in [
        (validate(&[("policy", "x")], "ext4", Some("ext4")), true),
        (validate(&[("iops.read", "0")], "", None), true),
        (validate(&[("unknown", "x")], "ext4", None), false),
        (validate(&[("iops.read", "1")], "ext4", None), false),
        (validate(&[], "xfs", None), false),
        (validate(&[], "ext4", Some("xfs")), false),
    ] {
        let answer = controller.validate_volume_capabilities(request.clone()).await.unwrap().into_inner();
        assert_eq!(answer.confirmed.is_some(), confirmed, "{request:?}: {answer:?}");
        if let Some(echo) = answer.confirmed {
            assert_eq!(echo.mutable_parameters, request.mutable_parameters);
            assert_eq!(
                (echo.volume_capabilities, echo.parameters),
                (request.volume_capabilities, request.parameters)
            );
        } else {
            assert!(!answer.message.is_empty());
        }
    }
}

fn group_request(name: &str, volumes: &[&str]) -> CreateVolumeGroupSnapshotRequest {
    CreateVolumeGroupSnapshotRequest {
        name: name.into(),
        source_volume_ids: volumes.iter().map(|id| (*id).to_owned()).collect(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_what_csi_wants_it_to_be() {
    let Some(mut ground) = Ground::new("groups").await else { return };
    let one = ground.volume("one", 16).await.volume_id;
    let raw = CreateVolumeRequest { volume_capabilities: vec![block()], ..new_volume("two", 16) };
    let two =
        ground.clients.controller.create_volume(raw).await.unwrap().into_inner().volume.unwrap().volume_id;
    let folder = ground.publish(&one, "pod").await;
    std::fs::write(folder.join("file"), b"in the group").unwrap();
    let groups = &mut ground.clients.group_controller;
    for (request, expected) in [
        (group_request("", &[&one]), Code::InvalidArgument),
        (group_request(&"x".repeat(129), &[&one]), Code::InvalidArgument),
        (group_request("a\u{1f}", &[&one]), Code::InvalidArgument),
        (group_request("g", &[]), Code::InvalidArgument),
        (group_request("g", &[&one, &two, &one]), Code::InvalidArgument),
        (group_request("g", &[&one, UNKNOWN]), Code::NotFound),
        (group_request("g", &[&one, "x"]), Code::NotFound),
        (
            CreateVolumeGroupSnapshotRequest {
                parameters: [("fs".to_owned(), "ext4".to_owned())].into(),
                ..group_request("g", &[&one])
            },
            Code::InvalidArgument,
        ),
    ] {
        assert_eq!(code(groups.create_volume_group_snapshot(request.clone()).await), expected, "{request:?}");
    }
    let mut taken: Vec<VolumeGroupSnapshot> = Vec::new();
    for order in [[one.as_str(), two.as_str()], [two.as_str(), one.as_str()]] {
        let answer = groups.create_volume_group_snapshot(group_request("a\tg\n", &order)).await.unwrap();
        taken.push(answer.into_inner().group_snapshot.unwrap());
    }
    assert_eq!(taken[0], taken[1], "once");
    let group = taken.remove(0);
    assert!(group.ready_to_use && group.creation_time.is_some());
    let sources: BTreeSet<&str> = group.snapshots.iter().map(|one| one.source_volume_id.as_str()).collect();
    assert_eq!(sources, [one.as_str(), two.as_str()].into());
    for member in &group.snapshots {
        assert_eq!(member.group_snapshot_id, group.group_snapshot_id);
        assert!(member.ready_to_use && member.creation_time == group.creation_time);
        let request = GetSnapshotRequest { snapshot_id: member.snapshot_id.clone(), ..Default::default() };
        let got = ground.clients.controller.get_snapshot(request).await.unwrap().into_inner().snapshot;
        assert_eq!(got.as_ref(), Some(member));
        let delete = DeleteSnapshotRequest { snapshot_id: member.snapshot_id.clone(), ..Default::default() };
        assert_eq!(code(ground.clients.controller.delete_snapshot(delete).await), Code::InvalidArgument);
    }
    assert_eq!(
        code(groups.create_volume_group_snapshot(group_request("a\tg\n", &[&one])).await),
        Code::AlreadyExists
    );

    let ids: Vec<String> = group.snapshots.iter().map(|one| one.snapshot_id.clone()).collect();
    let id = group.group_snapshot_id.as_str();
    let get = |id: &str, members: &[String]| GetVolumeGroupSnapshotRequest {
        group_snapshot_id: id.into(),
        snapshot_ids: members.to_vec(),
        ..Default::default()
    };
    let delete = |id: &str, members: &[String]| DeleteVolumeGroupSnapshotRequest {
        group_snapshot_id: id.into(),
        snapshot_ids: members.to_vec(),
        ..Default::default()
    };
    let got = groups.get_volume_group_snapshot(get(id, &[ids[1].clone(), ids[0].clone()])).await.unwrap();
    assert_eq!(got.into_inner().group_snapshot, Some(group.clone()));
    let nobody = "group-00000000000000000000000000000000";
    for (unknown, expected) in [("", Code::InvalidArgument), ("x", Code::NotFound), (nobody, Code::NotFound)]
    {
        assert_eq!(code(groups.get_volume_group_snapshot(get(unknown, &ids)).await), expected, "{unknown:?}");
    }
    let foreign = [ids[0].clone(), "x".to_owned()];
    for wrong in [&[][..], &ids[..1], &foreign] {
        assert_eq!(code(groups.get_volume_group_snapshot(get(id, wrong)).await), Code::InvalidArgument);
        assert_eq!(code(groups.delete_volume_group_snapshot(delete(id, wrong)).await), Code::InvalidArgument);
    }
    for gone in ["x", nobody] {
        groups.delete_volume_group_snapshot(delete(gone, &ids)).await.unwrap();
    }
    assert_eq!(code(groups.delete_volume_group_snapshot(delete("", &ids)).await), Code::InvalidArgument);
    for _ in 0..2 {
        groups.delete_volume_group_snapshot(delete(id, &ids)).await.unwrap();
    }
    let left = ground.clients.controller.list_snapshots(ListSnapshotsRequest::default()).await.unwrap();
    assert!(left.into_inner().entries.is_empty());
    ground.unpublish(&one, "pod").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_show_what_stays_once_while_volumes_come_and_go() {
    let Some(mut ground) = Ground::new("changing lists").await else { return };
    let mut stays = BTreeSet::new();
    let mut goes = Vec::new();
    for number in 0..8 {
        let id = ground.volume(&format!("v{number}\tof\n8"), 8).await.volume_id;
        if number % 2 == 0 {
            stays.insert(id);
        } else {
            goes.push(id);
        }
    }
    let (mut seen, mut token, mut round) = (Vec::new(), String::new(), 0);
    loop {
        let request = ListVolumesRequest { max_entries: 2, starting_token: token };
        let page = ground.clients.controller.list_volumes(request).await.unwrap().into_inner();
        seen.extend(page.entries.into_iter().map(|entry| entry.volume.unwrap().volume_id));
        token = page.next_token;
        if token.is_empty() {
            break;
        }
        // Also the very volume that the token names may go.
        let gone =
            goes.iter().position(|id| Some(id) == seen.last()).or(Some(0)).filter(|_| !goes.is_empty());
        if let Some(at) = gone {
            let request = DeleteVolumeRequest { volume_id: goes.remove(at), ..Default::default() };
            ground.clients.controller.delete_volume(request).await.unwrap();
        }
        round += 1;
        ground.volume(&format!("new {round}"), 8).await;
    }
    assert!(stays.iter().all(|id| seen.iter().filter(|other| *other == id).count() == 1), "{seen:?}");
    let distinct: BTreeSet<_> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len(), "each once");
    for bad in ["x", "snap-00000000000000000000000000000000", "vol-", "../.."] {
        let request = ListVolumesRequest { starting_token: bad.into(), ..Default::default() };
        assert_eq!(code(ground.clients.controller.list_volumes(request).await), Code::Aborted, "{bad:?}");
        let request =
            ListSnapshotsRequest { starting_token: bad.replace("snap", "vol"), ..Default::default() };
        assert_eq!(code(ground.clients.controller.list_snapshots(request).await), Code::Aborted, "{bad:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_capacity_is_that_of_what_is_asked_for() {
    let Some(mut ground) = Ground::new("capacity by kind").await else { return };
    let controller = &mut ground.clients.controller;
    let ask = |capabilities, fs: Option<&str>| GetCapacityRequest {
        volume_capabilities: capabilities,
        parameters: fs.map(|fs| ("fs".to_owned(), fs.to_owned())).into_iter().collect(),
        ..Default::default()
    };
    let mib = i64::try_from(MIB).unwrap();
    for (request, least) in [
        (ask(vec![], None), 4096),
        (ask(vec![block()], None), 4096),
        (ask(vec![mount("")], None), 8 * mib),
        (ask(vec![mount("xfs")], None), 300 * mib),
        (ask(vec![mount("")], Some("xfs")), 300 * mib),
        (ask(vec![], Some("xfs")), 300 * mib),
    ] {
        let room = controller.get_capacity(request.clone()).await.unwrap().into_inner();
        assert_eq!(room.minimum_volume_size, Some(least), "{request:?}");
        assert!(room.maximum_volume_size >= Some(least) && room.available_capacity > 0, "{room:?}");
    }
    for nothing in [ask(vec![mount("xfs"), block()], None), ask(vec![mount("ext4")], Some("xfs"))] {
        let room = controller.get_capacity(nothing).await.unwrap().into_inner();
        assert_eq!((room.available_capacity, room.maximum_volume_size), (0, Some(0)));
    }
    for wrong in [ask(vec![], Some("ntfs")), ask(vec![Default::default()], None)] {
        assert_eq!(code(controller.get_capacity(wrong).await), Code::InvalidArgument);
    }
    let huge = Topology { segments: [("k".repeat(4096), "v".into())].into() };
    let request = GetCapacityRequest { accessible_topology: Some(huge), ..Default::default() };
    assert_eq!(code(controller.get_capacity(request).await), Code::InvalidArgument);

    // What is said to be possible is, and one sector more than the largest is not.
    let place = |node: &str| Topology { segments: [("strongroom.io/node".into(), node.into())].into() };
    let largest =
        controller.get_capacity(ask(vec![block()], None)).await.unwrap().into_inner().available_capacity;
    let new = |bytes, limit, requisite: &[&str], preferred: &[&str]| CreateVolumeRequest {
        name: "large".into(),
        volume_capabilities: vec![block()],
        capacity_range: Some(CapacityRange { required_bytes: bytes, limit_bytes: limit }),
        accessibility_requirements: Some(TopologyRequirement {
            requisite: requisite.iter().map(|node| place(node)).collect(),
            preferred: preferred.iter().map(|node| place(node)).collect(),
        }),
        ..Default::default()
    };
    for (request, expected) in [
        (new(largest + 4096, 0, &[], &[]), Code::ResourceExhausted),
        (new(4096, 0, &["node-2"], &[]), Code::ResourceExhausted),
        (new(4096, 0, &["node-2", "node-3"], &["node-3"]), Code::ResourceExhausted),
        (new(-1, 0, &[], &[]), Code::OutOfRange),
        (new(0, -1, &[], &[]), Code::OutOfRange),
        (new(8192, 4096, &[], &[]), Code::OutOfRange),
        (new(0, 4095, &[], &[]), Code::OutOfRange),
        (new(4097, 8191, &[], &[]), Code::OutOfRange),
        (new(i64::MAX, 0, &[], &[]), Code::OutOfRange),
        (new(0, 0, &[], &[]), Code::InvalidArgument),
    ] {
        assert_eq!(code(controller.create_volume(request.clone()).await), expected, "{request:?}");
    }
    // Preferred elsewhere, required here: it is made here.
    let made =
        controller.create_volume(new(largest, largest, &["node-2", "node-1"], &["node-2", "node-1"])).await;
    let made = made.unwrap().into_inner().volume.unwrap();
    assert_eq!((made.capacity_bytes, made.accessible_topology), (largest, vec![place("node-1")]));
}
