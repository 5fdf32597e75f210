//! Docker Swarm as a caller: what it sends is CSI 1.2, at a bare socket path, with paths of its plugin's own filesystem.
//!
//! The manager creates and deletes (and attaches where that is advertised); the agent of a node probes, stages below
//! `/data/staged`, publishes below `/data/published`, and remembers what it did only as long as it lives.

use std::fs;

use strongroom_proto::csi::controller_service_capability::{
    Type as ControllerType, rpc::Type as ControllerRpc,
};
use strongroom_proto::csi::node_service_capability::{Type as NodeType, rpc::Type as NodeRpc};
use strongroom_proto::csi::plugin_capability::{Type as PluginType, service::Type as Service};
use strongroom_proto::csi::{
    ControllerGetCapabilitiesRequest, ControllerPublishVolumeRequest, ControllerUnpublishVolumeRequest,
    CreateVolumeRequest, DeleteVolumeRequest, GetPluginCapabilitiesRequest, NodeGetCapabilitiesRequest,
    NodeGetInfoRequest, NodePublishVolumeRequest, NodeStageVolumeRequest, NodeUnpublishVolumeRequest,
    NodeUnstageVolumeRequest, ProbeRequest, Topology, TopologyRequirement,
};
use tonic::Code;

use crate::ground::{Ground, block, mount, range};
use crate::kernel::mounts_below;

/// What Swarm asks before anything else, of both halves of a plugin.
async fn probe(ground: &mut Ground) -> bool {
    let clients = &mut ground.clients;
    let ready = clients.identity.probe(ProbeRequest {}).await.unwrap().into_inner().ready;
    assert_ne!(ready, Some(false));
    let offered = clients.identity.get_plugin_capabilities(GetPluginCapabilitiesRequest {}).await.unwrap();
    let controller = |service: &PluginType| matches!(service, PluginType::Service(service) if service.r#type() == Service::ControllerService);
    assert!(
        offered.into_inner().capabilities.iter().any(|offer| offer.r#type.as_ref().is_some_and(controller))
    );
    let offered =
        clients.node.node_get_capabilities(NodeGetCapabilitiesRequest {}).await.unwrap().into_inner();
    let stages = |offer: &NodeType| match offer {
        NodeType::Rpc(rpc) => rpc.r#type() == NodeRpc::StageUnstageVolume,
    };
    assert!(offered.capabilities.iter().any(|offer| offer.r#type.as_ref().is_some_and(stages)));
    let offered =
        clients.controller.controller_get_capabilities(ControllerGetCapabilitiesRequest {}).await.unwrap();
    let attaches = |offer: &ControllerType| match offer {
        ControllerType::Rpc(rpc) => rpc.r#type() == ControllerRpc::PublishUnpublishVolume,
    };
    offered.into_inner().capabilities.iter().any(|offer| offer.r#type.as_ref().is_some_and(attaches))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swarm_creates_stages_publishes_and_takes_back_below_its_own_paths() {
    let Some(mut ground) = Ground::new("the calls of Swarm").await else { return };
    for folder in ["data/staged", "data/published"] {
        fs::create_dir_all(ground.path(folder)).unwrap();
    }
    // A bare path, as Docker writes it.
    let bare = ground.endpoint.trim_start_matches("unix://").to_owned();
    ground.clients = strongroom_proto::connect(&bare).await.unwrap();
    let attaches = probe(&mut ground).await;
    let node = ground.clients.node.node_get_info(NodeGetInfoRequest {}).await.unwrap().into_inner().node_id;
    assert_eq!(node, "node-1");

    // Swarm may name where the volume shall be; it sends no parameters of its own and an empty map of secrets.
    let here = Topology { segments: [("strongroom.io/node".to_owned(), node.clone())].into() };
    let request = CreateVolumeRequest {
        name: "web-data".to_owned(),
        capacity_range: Some(range(64)),
        volume_capabilities: vec![mount("")],
        accessibility_requirements: Some(TopologyRequirement {
            requisite: vec![here],
            preferred: Vec::new(),
        }),
        ..Default::default()
    };
    let volume =
        ground.clients.controller.create_volume(request.clone()).await.unwrap().into_inner().volume.unwrap();
    let id = volume.volume_id.clone();
    if attaches {
        let request = ControllerPublishVolumeRequest {
            volume_id: id.clone(),
            node_id: node.clone(),
            volume_capability: Some(mount("")),
            volume_context: volume.volume_context.clone(),
            ..Default::default()
        };
        ground.clients.controller.controller_publish_volume(request).await.unwrap();
    }
    // The id is Swarm's own here, not ours.
    let (staged, published) = (ground.text("data/staged/3k9x"), ground.text("data/published/3k9x"));
    let stage = NodeStageVolumeRequest {
        volume_id: id.clone(),
        staging_target_path: staged.clone(),
        volume_capability: Some(mount("")),
        volume_context: volume.volume_context.clone(),
        ..Default::default()
    };
    let publish = NodePublishVolumeRequest {
        volume_id: id.clone(),
        staging_target_path: staged.clone(),
        target_path: published.clone(),
        volume_capability: Some(mount("")),
        volume_context: volume.volume_context.clone(),
        ..Default::default()
    };
    let unpublish = NodeUnpublishVolumeRequest { volume_id: id.clone(), target_path: published.clone() };
    let unstage = NodeUnstageVolumeRequest { volume_id: id.clone(), staging_target_path: staged.clone() };
    ground.clients.node.node_stage_volume(stage.clone()).await.unwrap();
    ground.clients.node.node_publish_volume(publish.clone()).await.unwrap();
    fs::write(ground.path("data/published/3k9x/file"), "precious").unwrap();

    // The agent of Swarm was restarted, and forgot: it does all of it again. The same when the plugin was.
    ground.restart().await;
    probe(&mut ground).await;
    ground.clients.node.node_stage_volume(stage.clone()).await.unwrap();
    ground.clients.node.node_publish_volume(publish.clone()).await.unwrap();
    assert_eq!(fs::read_to_string(ground.path("data/published/3k9x/file")).unwrap(), "precious");

    // The task ends. Releases of Swarm are known that never unstage; the next task stages again.
    ground.clients.node.node_unpublish_volume(unpublish.clone()).await.unwrap();
    assert!(!ground.path("data/published/3k9x").exists());
    ground.clients.node.node_stage_volume(stage).await.unwrap();
    ground.clients.node.node_publish_volume(publish).await.unwrap();
    assert_eq!(fs::read_to_string(ground.path("data/published/3k9x/file")).unwrap(), "precious");
    ground.clients.node.node_unpublish_volume(unpublish.clone()).await.unwrap();
    ground.clients.node.node_unpublish_volume(unpublish).await.unwrap();
    ground.clients.node.node_unstage_volume(unstage.clone()).await.unwrap();
    ground.clients.node.node_unstage_volume(unstage).await.unwrap();
    if attaches {
        let request =
            ControllerUnpublishVolumeRequest { volume_id: id.clone(), node_id: node, ..Default::default() };
        ground.clients.controller.controller_unpublish_volume(request).await.unwrap();
    }
    assert!(mounts_below(&ground.path("data")).is_empty());
    let request = DeleteVolumeRequest { volume_id: id, ..Default::default() };
    ground.clients.controller.delete_volume(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swarm_is_told_when_a_volume_would_have_to_be_elsewhere() {
    let Some(mut ground) = Ground::new("a volume on another node").await else { return };
    let there = Topology { segments: [("strongroom.io/node".to_owned(), "node-2".to_owned())].into() };
    let request = CreateVolumeRequest {
        name: "elsewhere".to_owned(),
        capacity_range: Some(range(64)),
        volume_capabilities: vec![block()],
        accessibility_requirements: Some(TopologyRequirement {
            requisite: vec![there],
            preferred: Vec::new(),
        }),
        ..Default::default()
    };
    let refused = ground.clients.controller.create_volume(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
}
