//! Identity: who this plugin is and what it serves. The same on every node that runs this version.

use strongroom_proto::csi::identity_server::Identity;
use strongroom_proto::csi::plugin_capability::{Service, Type, VolumeExpansion, service, volume_expansion};
use strongroom_proto::csi::{
    GetPluginCapabilitiesRequest, GetPluginCapabilitiesResponse, GetPluginInfoRequest, GetPluginInfoResponse,
    PluginCapability, ProbeRequest, ProbeResponse,
};
use tonic::{Request, Response, Status};

use super::{Csi, answered};

/// What orchestrators call this plugin. It is written into their objects, so it never changes.
const NAME: &str = "csi.strongroom.io";

#[tonic::async_trait]
impl Identity for Csi {
    async fn get_plugin_info(
        &self,
        _: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        Ok(Response::new(GetPluginInfoResponse {
            name: NAME.to_owned(),
            vendor_version: env!("CARGO_PKG_VERSION").to_owned(),
            manifest: [].into(),
        }))
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        let services = [
            service::Type::ControllerService,
            service::Type::VolumeAccessibilityConstraints,
            service::Type::GroupControllerService,
            service::Type::SnapshotMetadataService,
        ]
        .map(|r#type| Type::Service(Service { r#type: r#type.into() }));
        let expansion =
            Type::VolumeExpansion(VolumeExpansion { r#type: volume_expansion::Type::Online.into() });
        Ok(Response::new(GetPluginCapabilitiesResponse {
            capabilities: services
                .into_iter()
                .chain([expansion])
                .map(|r#type| PluginCapability { r#type: Some(r#type) })
                .collect(),
        }))
    }

    /// Healthy is a driver that can look at its pool. A pool that is nearly full is not unhealthy: volumes in it work.
    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        answered("Probe", "", async {
            self.volumes.capacity().await.map_err(super::status::unhealthy)?;
            Ok(ProbeResponse { ready: Some(true) })
        })
        .await
    }
}
