//! Identity, and what every service says that it can.

use std::collections::BTreeSet;

use strongroom_proto::csi::controller_service_capability::Type as ControllerType;
use strongroom_proto::csi::controller_service_capability::rpc::Type as ControllerRpc;
use strongroom_proto::csi::node_service_capability::Type as NodeType;
use strongroom_proto::csi::node_service_capability::rpc::Type as NodeRpc;
use strongroom_proto::csi::plugin_capability::service::Type as Service;
use strongroom_proto::csi::plugin_capability::{Type as PluginType, volume_expansion};
use strongroom_proto::csi::{
    ControllerGetCapabilitiesRequest, GetPluginCapabilitiesRequest, GetPluginInfoRequest,
    GroupControllerGetCapabilitiesRequest, NodeGetCapabilitiesRequest, NodeGetInfoRequest, ProbeRequest,
};

use crate::machine::{Machine, NODE};

/// What the driver offers, as the standard numbers it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Offered {
    plugin: BTreeSet<i32>,
    online: bool,
    pub(crate) controller: BTreeSet<i32>,
    pub(crate) node: BTreeSet<i32>,
    pub(crate) group: BTreeSet<i32>,
}

impl Offered {
    pub(crate) fn ask(machine: &Machine) -> Self {
        let (mut plugin, mut online) = (BTreeSet::new(), false);
        for one in machine.ok(GetPluginCapabilitiesRequest {}).capabilities {
            match one.r#type.expect("no capability is empty") {
                PluginType::Service(service) => assert!(plugin.insert(service.r#type), "said twice"),
                PluginType::VolumeExpansion(how) => {
                    online = how.r#type == i32::from(volume_expansion::Type::Online);
                }
            }
        }
        let controller = machine.ok(ControllerGetCapabilitiesRequest {}).capabilities;
        let controller = controller.into_iter().map(|one| match one.r#type {
            Some(ControllerType::Rpc(rpc)) => rpc.r#type,
            None => panic!("an empty capability"),
        });
        let node = machine.ok(NodeGetCapabilitiesRequest {}).capabilities;
        let node = node.into_iter().map(|one| match one.r#type {
            Some(NodeType::Rpc(rpc)) => rpc.r#type,
            None => panic!("an empty capability"),
        });
        let group = if plugin.contains(&i32::from(Service::GroupControllerService)) {
            use strongroom_proto::csi::group_controller_service_capability::Type;
            let group = machine.ok(GroupControllerGetCapabilitiesRequest {}).capabilities;
            let group = group.into_iter().map(|one| match one.r#type {
                Some(Type::Rpc(rpc)) => rpc.r#type,
                None => panic!("an empty capability"),
            });
            group.collect()
        } else {
            BTreeSet::new()
        };
        Self { plugin, online, controller: controller.collect(), node: node.collect(), group }
    }
}

#[test]
fn the_plugin_names_itself_and_is_ready() {
    let Some(machine) = Machine::new("identity") else { return };
    let info = machine.ok(GetPluginInfoRequest {});
    assert!(!info.vendor_version.is_empty());
    assert!(info.name.len() <= 63 && info.name.contains('.'), "domain notation: {}", info.name);
    assert!(info.name.starts_with(|c: char| c.is_ascii_alphanumeric()));
    assert!(info.name.ends_with(|c: char| c.is_ascii_alphanumeric()));
    assert_ne!(machine.ok(ProbeRequest {}).ready, Some(false));
    let node = machine.ok(NodeGetInfoRequest {});
    assert_eq!(node.node_id, NODE);
    assert!(node.max_volumes_per_node >= 0);
    let topology = node.accessible_topology.expect("volumes are local").segments;
    assert!(
        !topology.is_empty()
            && topology.iter().all(|(key, value)| {
                key.contains('/') && key.len() <= 63 + 253 && value.len() <= 63 && !value.is_empty()
            }),
        "{topology:?}"
    );
    for _ in 0..10 {
        assert_eq!(machine.ok(GetPluginInfoRequest {}), info);
    }
    machine.finish();
}

#[test]
fn what_is_offered_is_the_same_after_a_restart_and_hangs_together() {
    let Some(mut machine) = Machine::new("capabilities") else { return };
    let offered = Offered::ask(&machine);
    machine.restart();
    assert_eq!(Offered::ask(&machine), offered);
    let controller = |one: ControllerRpc| offered.controller.contains(&i32::from(one));
    let node = |one: NodeRpc| offered.node.contains(&i32::from(one));
    let service = |one: Service| offered.plugin.contains(&i32::from(one));
    for needed in [
        Service::ControllerService,
        Service::VolumeAccessibilityConstraints,
        Service::SnapshotMetadataService,
        Service::GroupControllerService,
    ] {
        assert!(service(needed), "{needed:?}");
    }
    assert!(offered.online);
    for needed in [
        ControllerRpc::CreateDeleteVolume,
        ControllerRpc::ListVolumes,
        ControllerRpc::GetCapacity,
        ControllerRpc::CreateDeleteSnapshot,
        ControllerRpc::ListSnapshots,
        ControllerRpc::CloneVolume,
        ControllerRpc::ExpandVolume,
        ControllerRpc::VolumeCondition,
        ControllerRpc::GetVolume,
        ControllerRpc::SingleNodeMultiWriter,
        ControllerRpc::GetSnapshot,
        ControllerRpc::PublishUnpublishVolume,
        ControllerRpc::PublishReadonly,
        ControllerRpc::ListVolumesPublishedNodes,
        ControllerRpc::ModifyVolume,
    ] {
        assert!(controller(needed), "{needed:?}");
    }
    for needed in [
        NodeRpc::StageUnstageVolume,
        NodeRpc::GetVolumeStats,
        NodeRpc::ExpandVolume,
        NodeRpc::VolumeCondition,
        NodeRpc::SingleNodeMultiWriter,
    ] {
        assert!(node(needed), "{needed:?}");
    }
    // What the standard makes depend on each other.
    let (attach, published) =
        (ControllerRpc::PublishUnpublishVolume, ControllerRpc::ListVolumesPublishedNodes);
    assert!(controller(attach) || !(controller(published) || controller(ControllerRpc::PublishReadonly)));
    assert_eq!(service(Service::GroupControllerService), !offered.group.is_empty());
    machine.finish();
}
