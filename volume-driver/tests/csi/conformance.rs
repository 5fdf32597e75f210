//! What the conformance suite of CSI asks of lists, capabilities and capacity, in our own words.

use std::collections::BTreeSet;

use strongroom_proto::csi::controller_service_capability::Type as ControllerType;
use strongroom_proto::csi::plugin_capability::Type as PluginType;
use strongroom_proto::csi::{
    ControllerGetCapabilitiesRequest, ControllerGetVolumeRequest, GetCapacityRequest,
    GetPluginCapabilitiesRequest, GetPluginInfoRequest, GetSnapshotRequest, ListSnapshotsRequest,
    ListVolumesRequest, NodeGetCapabilitiesRequest, NodeGetInfoRequest, ProbeRequest, Topology,
};
use tonic::Code;

use crate::ground::{Ground, MIB, mount};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_plugin_says_who_it_is_and_what_it_can() {
    let Some(mut ground) = Ground::new("identity").await else { return };
    let info = ground.clients.identity.get_plugin_info(GetPluginInfoRequest {}).await.unwrap().into_inner();
    assert!(!info.vendor_version.is_empty(), "the suite fails on an empty version");
    assert!(info.name.len() <= 63 && info.name.contains('.') && info.name.is_ascii());
    assert_eq!(ground.clients.identity.probe(ProbeRequest {}).await.unwrap().into_inner().ready, Some(true));
    let plugin =
        ground.clients.identity.get_plugin_capabilities(GetPluginCapabilitiesRequest {}).await.unwrap();
    let services = plugin.into_inner().capabilities;
    assert!(services.iter().any(|one| matches!(one.r#type, Some(PluginType::VolumeExpansion(_)))));
    assert_eq!(services.len(), 5);
    let offered =
        ground.clients.controller.controller_get_capabilities(ControllerGetCapabilitiesRequest {}).await;
    let numbers: BTreeSet<i32> = offered
        .unwrap()
        .into_inner()
        .capabilities
        .into_iter()
        .map(|one| match one.r#type {
            Some(ControllerType::Rpc(rpc)) => rpc.r#type,
            None => panic!("an empty capability"),
        })
        .collect();
    assert_eq!(numbers, (1..=15).collect::<BTreeSet<i32>>());
    let node = ground.clients.node.node_get_capabilities(NodeGetCapabilitiesRequest {}).await.unwrap();
    assert_eq!(node.into_inner().capabilities.len(), 6);
    let info = ground.clients.node.node_get_info(NodeGetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.node_id, "node-1");
    assert_eq!(info.accessible_topology.unwrap().segments["strongroom.io/node"], "node-1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_come_in_pages_and_each_thing_comes_once() {
    let Some(mut ground) = Ground::new("lists").await else { return };
    let mut expected = BTreeSet::new();
    let mut of_first = BTreeSet::new();
    for number in 0..5 {
        let id = ground.volume(&format!("v{number}"), 16).await.volume_id;
        if number == 0 {
            for round in 0..3 {
                of_first.insert(ground.snapshot(&id, &format!("s{round}")).await.snapshot_id);
            }
        }
        expected.insert(id);
    }
    let first =
        ground.clients.controller.list_volumes(ListVolumesRequest::default()).await.unwrap().into_inner();
    assert_eq!((first.entries.len(), first.next_token.as_str()), (5, ""));
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let request = ListVolumesRequest { max_entries: 2, starting_token: token };
        let page = ground.clients.controller.list_volumes(request).await.unwrap().into_inner();
        assert!(page.entries.len() <= 2);
        for entry in page.entries {
            assert!(!entry.status.unwrap().volume_condition.unwrap().abnormal);
            seen.push(entry.volume.unwrap().volume_id);
        }
        token = page.next_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen.iter().cloned().collect::<BTreeSet<_>>(), expected);
    assert_eq!(seen.len(), 5);
    let bad = ListVolumesRequest { starting_token: "invalid-token".into(), ..Default::default() };
    assert_eq!(ground.clients.controller.list_volumes(bad).await.unwrap_err().code(), Code::Aborted);
    let bad = ListVolumesRequest { max_entries: -1, ..Default::default() };
    assert_eq!(ground.clients.controller.list_volumes(bad).await.unwrap_err().code(), Code::InvalidArgument);

    let list = |request: ListSnapshotsRequest| {
        let mut controller = ground.clients.controller.clone();
        async move {
            let found = controller.list_snapshots(request).await.unwrap().into_inner();
            let ids: BTreeSet<String> =
                found.entries.into_iter().map(|entry| entry.snapshot.unwrap().snapshot_id).collect();
            (ids, found.next_token)
        }
    };
    assert_eq!(list(ListSnapshotsRequest::default()).await.0, of_first);
    let (page, token) = list(ListSnapshotsRequest { max_entries: 2, ..Default::default() }).await;
    let (rest, _) = list(ListSnapshotsRequest { starting_token: token, ..Default::default() }).await;
    assert_eq!((page.len(), rest.len()), (2, 1));
    let one = of_first.first().unwrap().clone();
    let (found, _) = list(ListSnapshotsRequest { snapshot_id: one.clone(), ..Default::default() }).await;
    assert_eq!(found, [one.clone()].into());
    for unknown in ["none-of-ours", "snap-00000000000000000000000000000000"] {
        let (found, _) =
            list(ListSnapshotsRequest { snapshot_id: unknown.into(), ..Default::default() }).await;
        assert!(found.is_empty(), "an unknown id gives an empty list");
        let (found, _) =
            list(ListSnapshotsRequest { source_volume_id: unknown.into(), ..Default::default() }).await;
        assert!(found.is_empty());
    }
    let got = ground
        .clients
        .controller
        .get_snapshot(GetSnapshotRequest { snapshot_id: one.clone(), ..Default::default() });
    assert_eq!(got.await.unwrap().into_inner().snapshot.unwrap().snapshot_id, one);
    let none = GetSnapshotRequest { snapshot_id: "x".into(), ..Default::default() };
    assert_eq!(ground.clients.controller.get_snapshot(none).await.unwrap_err().code(), Code::NotFound);
    let id = expected.first().unwrap().clone();
    let got =
        ground.clients.controller.controller_get_volume(ControllerGetVolumeRequest { volume_id: id.clone() });
    assert_eq!(got.await.unwrap().into_inner().volume.unwrap().volume_id, id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_capacity_that_is_told_can_be_had() {
    let Some(mut ground) = Ground::new("capacity").await else { return };
    let controller = ground.clients.controller.clone();
    let ask = |request: GetCapacityRequest| {
        let mut controller = controller.clone();
        async move { controller.get_capacity(request).await.unwrap().into_inner() }
    };
    let room = ask(GetCapacityRequest::default()).await;
    assert!(room.available_capacity > 0 && room.minimum_volume_size > Some(0));
    assert_eq!(room.maximum_volume_size, Some(room.available_capacity));
    let elsewhere = Topology { segments: [("strongroom.io/node".into(), "node-2".into())].into() };
    let none = ask(GetCapacityRequest { accessible_topology: Some(elsewhere), ..Default::default() }).await;
    assert_eq!(none.available_capacity, 0);
    let foreign =
        ask(GetCapacityRequest { volume_capabilities: vec![mount("ntfs")], ..Default::default() }).await;
    assert_eq!(foreign.available_capacity, 0);
    let largest = u64::try_from(room.available_capacity).unwrap() / MIB;
    assert!(largest > 0);
    ground.volume("largest", largest).await;
    let after = ask(GetCapacityRequest::default()).await;
    assert!(after.available_capacity < room.available_capacity);
}
