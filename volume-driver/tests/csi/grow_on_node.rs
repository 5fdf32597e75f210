//! `--grow-on-node`: where one resizer serves many nodes, the node that has a volume grows all of it.

use std::fs;

use strongroom_proto::csi::controller_service_capability::Type;
use strongroom_proto::csi::controller_service_capability::rpc::Type as Rpc;
use strongroom_proto::csi::{ControllerGetCapabilitiesRequest, NodeExpandVolumeRequest};
use tonic::Code;

use crate::ground::{Ground, MIB, block, mount, new_volume, range};

async fn offers_expansion(ground: &mut Ground) -> bool {
    let request = ControllerGetCapabilitiesRequest::default();
    let answer = ground.clients.controller.controller_get_capabilities(request).await.unwrap().into_inner();
    let types = answer.capabilities.into_iter().filter_map(|capability| capability.r#type);
    types.into_iter().any(|Type::Rpc(rpc)| rpc.r#type() == Rpc::ExpandVolume)
}

/// What the filesystem of `files` offers, its log aside.
fn filesystem_bytes(ground: &Ground) -> u64 {
    let stat = rustix::fs::statvfs(ground.path("pods/files")).unwrap();
    stat.f_blocks * stat.f_frsize
}

#[tokio::test]
async fn the_node_grows_a_volume_as_a_whole_where_no_controller_offers_it() {
    let test = "the_node_grows_a_volume_as_a_whole_where_no_controller_offers_it";
    let Some(mut ground) = Ground::new(test).await else { return };
    assert!(offers_expansion(&mut ground).await);
    // XFS grows while it is mounted on any machine; ext4 asks for a capability.
    for (name, capability) in [("files", mount("xfs")), ("device", block())] {
        let mut request = new_volume(name, 320);
        request.volume_capabilities = vec![capability.clone()];
        let created = ground.clients.controller.create_volume(request).await.unwrap().into_inner();
        let id = created.volume.unwrap().volume_id;
        fs::create_dir_all(ground.path("stage").join(name)).unwrap();
        fs::create_dir_all(ground.path("pods")).unwrap();
        let mut request = ground.stage_request(&id, name);
        request.volume_capability = Some(capability.clone());
        ground.clients.node.node_stage_volume(request).await.unwrap();
        let mut request = ground.publish_request(&id, name);
        request.volume_capability = Some(capability);
        ground.clients.node.node_publish_volume(request).await.unwrap();

        let before = if name == "files" { filesystem_bytes(&ground) } else { 0 };
        let grow = NodeExpandVolumeRequest {
            volume_id: id.clone(),
            volume_path: ground.text(&format!("pods/{name}")),
            capacity_range: Some(range(384)),
            ..Default::default()
        };
        ground.restart_growing_on_node(false).await;
        let refused = ground.clients.node.node_expand_volume(grow.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::OutOfRange, "{name}: the controller comes first");
        ground.restart_growing_on_node(true).await;
        assert!(!offers_expansion(&mut ground).await);
        for _ in 0..2 {
            let grown = ground.clients.node.node_expand_volume(grow.clone()).await.unwrap().into_inner();
            assert_eq!(grown.capacity_bytes, i64::try_from(384 * MIB).unwrap(), "{name}");
        }
        let mut limited = grow;
        let mut smaller = range(448);
        smaller.limit_bytes = i64::try_from(400 * MIB).unwrap();
        limited.capacity_range = Some(smaller);
        let refused = ground.clients.node.node_expand_volume(limited).await.unwrap_err();
        assert!(matches!(refused.code(), Code::InvalidArgument | Code::OutOfRange), "{name}: {refused}");
        if name == "files" {
            assert!(filesystem_bytes(&ground) > before + 60 * MIB, "its filesystem has grown too");
        }
        ground.unpublish(&id, name).await;
    }
}
