//! Node: volumes come to the workloads of this machine.

use std::path::PathBuf;

use strongroom_model::VolumeId;
use strongroom_proto::csi::node_server::Node;
use strongroom_proto::csi::node_service_capability::rpc::Type as Rpc;
use strongroom_proto::csi::node_service_capability::{Rpc as RpcCapability, Type};
use strongroom_proto::csi::volume_usage::Unit;
use strongroom_proto::csi::{
    NodeExpandVolumeRequest, NodeExpandVolumeResponse, NodeGetCapabilitiesRequest,
    NodeGetCapabilitiesResponse, NodeGetInfoRequest, NodeGetInfoResponse, NodeGetVolumeStatsRequest,
    NodeGetVolumeStatsResponse, NodePublishVolumeRequest, NodePublishVolumeResponse, NodeServiceCapability,
    NodeStageVolumeRequest, NodeStageVolumeResponse, NodeUnpublishVolumeRequest, NodeUnpublishVolumeResponse,
    NodeUnstageVolumeRequest, NodeUnstageVolumeResponse, VolumeCapability, VolumeUsage,
};
use tonic::{Request, Response, Status};

use super::controller::SECTOR_BYTES;
use super::door::{Blame, Capability};
use super::status::RequestError;
use super::{Csi, answer, answered, door, inline};
use crate::{Access, PublishEphemeral, PublishRequest, StageRequest, Usage};

const OFFERED: [Rpc; 6] = [
    Rpc::StageUnstageVolume,
    Rpc::GetVolumeStats,
    Rpc::ExpandVolume,
    Rpc::VolumeCondition,
    Rpc::SingleNodeMultiWriter,
    Rpc::VolumeMountGroup,
];

impl Csi {
    /// A volume that exists, and a way of using it that it allows.
    async fn usable(
        &self,
        volume: &str,
        capability: Option<&VolumeCapability>,
    ) -> Result<(VolumeId, Capability), Status> {
        let capability = door::capability(capability, Blame::Volume)?;
        let id = door::known_volume("volume_id", volume)?;
        let volume = self.volumes.brief(id).await?;
        if let Some(reason) = capability.misfit(volume.kind) {
            return Err(RequestError::Incapable { reason }.into());
        }
        // A volume that was attached to this node read-only is read-only here, whatever the node is told.
        let attached = volume.attachments.iter().find(|one| one.node == self.volumes.node());
        let readonly = capability.readonly || attached.is_some_and(|one| one.readonly);
        Ok((id, Capability { readonly, ..capability }))
    }

    async fn stage(&self, request: NodeStageVolumeRequest) -> Result<NodeStageVolumeResponse, Status> {
        door::required("volume_id", &request.volume_id)?;
        let path = door::path("staging_target_path", &request.staging_target_path)?;
        door::map("publish_context", &request.publish_context)?;
        door::map("volume_context", &request.volume_context)?;
        let (volume, capability) =
            self.usable(&request.volume_id, request.volume_capability.as_ref()).await?;
        let outcome = self
            .volumes
            .stage(StageRequest {
                volume,
                path: path.clone(),
                access: capability.access,
                filesystem: capability.filesystem,
                options: capability.options,
            })
            .await?;
        answer::agreed(outcome, || format!("the staged volume {volume}"))?;
        if let Some(group) = capability.group {
            self.volumes.share_with_group(volume, &path, group).await?;
        }
        Ok(NodeStageVolumeResponse {})
    }

    async fn publish(&self, request: NodePublishVolumeRequest) -> Result<NodePublishVolumeResponse, Status> {
        door::required("volume_id", &request.volume_id)?;
        let target = door::path("target_path", &request.target_path)?;
        door::map("publish_context", &request.publish_context)?;
        door::map("volume_context", &request.volume_context)?;
        if inline::is_asked_for(&request.volume_context) {
            return self.publish_inline(request, target).await;
        }
        let (volume, capability) =
            self.usable(&request.volume_id, request.volume_capability.as_ref()).await?;
        if request.staging_target_path.is_empty() {
            let reason = "it has to be staged first, and the request does not say where it is".to_owned();
            return Err(RequestError::Incapable { reason }.into());
        }
        let outcome = self
            .volumes
            .publish(PublishRequest {
                volume,
                staging_path: door::path("staging_target_path", &request.staging_target_path)?,
                target: target.clone(),
                access: capability.access,
                readonly: request.readonly || capability.readonly,
                options: capability.options,
                only_target: capability.only_target,
            })
            .await?;
        answer::agreed(outcome, || format!("the published volume {volume}"))?;
        if let Some(group) = capability.group {
            self.volumes.share_with_group(volume, &target, group).await?;
        }
        Ok(NodePublishVolumeResponse {})
    }

    /// A volume that comes with a pod: the id is the orchestrator's, and there was no stage.
    async fn publish_inline(
        &self,
        request: NodePublishVolumeRequest,
        target: PathBuf,
    ) -> Result<NodePublishVolumeResponse, Status> {
        let wrong = |field, reason: &str| RequestError::Wrong { field, reason: reason.to_owned() };
        let handle = request.volume_id;
        if door::volume_id(&handle)?.is_some() || handle.chars().any(char::is_control) {
            return Err(wrong("volume_id", "an inline volume cannot have it").into());
        }
        let capability = door::capability(request.volume_capability.as_ref(), Blame::Request)?;
        if capability.access == Access::Block {
            return Err(wrong("volume_capability", "an inline volume is a folder, not a device").into());
        }
        let inline = inline::understand(&request.volume_context)?;
        if let (Some(one), Some(other)) = (capability.filesystem, inline.parameters.filesystem)
            && one != other
        {
            return Err(
                wrong("volume_capability", "it names another filesystem than the volume's context").into()
            );
        }
        let outcome = self
            .volumes
            .publish_ephemeral(PublishEphemeral {
                handle: handle.clone(),
                target: target.clone(),
                size: inline.size,
                filesystem: capability.filesystem.or(inline.parameters.filesystem),
                readonly: request.readonly || capability.readonly,
                options: capability.options,
                labels: inline.parameters.labels,
            })
            .await?;
        let (volume, _) = answer::agreed(outcome, || format!("the inline volume {handle:?}"))?;
        if let Some(group) = capability.group
            && let Err(error) = self.volumes.share_with_group(volume, &target, group).await
        {
            // The call may never be repeated, so nothing may be left of it.
            self.volumes.unpublish_ephemeral(&handle, &target).await?;
            return Err(error.into());
        }
        Ok(NodePublishVolumeResponse {})
    }

    /// A volume on this node by its id, or by the id that the orchestrator gave an inline volume.
    async fn on_node(&self, text: &str) -> Result<VolumeId, Status> {
        if door::volume_id(text)?.is_none()
            && let Some(volume) = self.volumes.ephemeral(text).await?
        {
            return Ok(volume);
        }
        Ok(door::known_volume("volume_id", text)?)
    }

    async fn unpublish(
        &self,
        request: NodeUnpublishVolumeRequest,
    ) -> Result<NodeUnpublishVolumeResponse, Status> {
        door::required("volume_id", &request.volume_id)?;
        let target = door::path("target_path", &request.target_path)?;
        let inline = door::volume_id(&request.volume_id)?.is_none();
        if inline && self.volumes.unpublish_ephemeral(&request.volume_id, &target).await? {
            return Ok(NodeUnpublishVolumeResponse {});
        }
        if inline && inline::is_handle(&request.volume_id) {
            // Taken away before.
            return Ok(NodeUnpublishVolumeResponse {});
        }
        let id = door::known_volume("volume_id", &request.volume_id)?;
        self.volumes.unpublish(id, &target).await?;
        Ok(NodeUnpublishVolumeResponse {})
    }

    /// A volume and one of the places where it is; unknown is a volume that is not there.
    async fn usage_at(&self, volume: &str, path: &str) -> Result<(VolumeId, PathBuf, Usage), Status> {
        door::required("volume_id", volume)?;
        let path = door::path("volume_path", path)?;
        let id = self.on_node(volume).await?;
        let usage = self.volumes.usage(id, &path).await?;
        Ok((id, path, usage))
    }

    async fn grow(&self, request: NodeExpandVolumeRequest) -> Result<NodeExpandVolumeResponse, Status> {
        let size = door::size(request.capacity_range.as_ref())?;
        let (id, _, _) = self.usage_at(&request.volume_id, &request.volume_path).await?;
        let mut volume = self.volumes.brief(id).await?;
        if request.volume_capability.is_some() {
            let capability = door::capability(request.volume_capability.as_ref(), Blame::Request)?;
            if let Some(reason) = capability.misfit(volume.kind) {
                return Err(RequestError::Unsupported { reason }.into());
            }
        }
        if self.grow_on_node && size.required_bytes > volume.bytes {
            let wanted = size.required_bytes.next_multiple_of(SECTOR_BYTES);
            if size.limit_bytes == 0 || wanted <= size.limit_bytes {
                volume.bytes = self.volumes.expand(id, wanted).await?.bytes;
            }
        }
        if size.required_bytes > volume.bytes || (size.limit_bytes != 0 && size.limit_bytes < volume.bytes) {
            let reason =
                format!("the volume has {} bytes; ControllerExpandVolume changes that", volume.bytes);
            return Err(RequestError::OutOfRange { field: "capacity_range", reason }.into());
        }
        let grown = self.volumes.grow_filesystem(id).await?;
        Ok(NodeExpandVolumeResponse { capacity_bytes: answer::bytes(grown.bytes) })
    }
}

/// 0 means unknown there.
fn stats(usage: &Usage) -> NodeGetVolumeStatsResponse {
    let mut rows = vec![VolumeUsage {
        available: answer::bytes(usage.available_bytes.unwrap_or(0)),
        total: answer::bytes(usage.total_bytes),
        used: answer::bytes(usage.used_bytes.unwrap_or(0)),
        unit: Unit::Bytes.into(),
    }];
    if let Some((total, used, free)) = usage.inodes {
        rows.push(VolumeUsage {
            available: answer::bytes(free),
            total: answer::bytes(total),
            used: answer::bytes(used),
            unit: Unit::Inodes.into(),
        });
    }
    NodeGetVolumeStatsResponse {
        usage: rows,
        volume_condition: Some(answer::condition(usage.condition.as_deref())),
    }
}

#[tonic::async_trait]
impl Node for Csi {
    async fn node_stage_volume(
        &self,
        request: Request<NodeStageVolumeRequest>,
    ) -> Result<Response<NodeStageVolumeResponse>, Status> {
        let request = request.into_inner();
        answered("NodeStageVolume", &request.volume_id.clone(), self.stage(request)).await
    }

    async fn node_unstage_volume(
        &self,
        request: Request<NodeUnstageVolumeRequest>,
    ) -> Result<Response<NodeUnstageVolumeResponse>, Status> {
        let request = request.into_inner();
        answered("NodeUnstageVolume", &request.volume_id, async {
            door::required("volume_id", &request.volume_id)?;
            let path = door::path("staging_target_path", &request.staging_target_path)?;
            let id = door::known_volume("volume_id", &request.volume_id)?;
            self.volumes.unstage(id, &path).await?;
            Ok(NodeUnstageVolumeResponse {})
        })
        .await
    }

    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let request = request.into_inner();
        answered("NodePublishVolume", &request.volume_id.clone(), self.publish(request)).await
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let request = request.into_inner();
        answered("NodeUnpublishVolume", &request.volume_id.clone(), self.unpublish(request)).await
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<NodeGetVolumeStatsRequest>,
    ) -> Result<Response<NodeGetVolumeStatsResponse>, Status> {
        let request = request.into_inner();
        answered("NodeGetVolumeStats", &request.volume_id, async {
            let (_, _, usage) = self.usage_at(&request.volume_id, &request.volume_path).await?;
            Ok(stats(&usage))
        })
        .await
    }

    async fn node_expand_volume(
        &self,
        request: Request<NodeExpandVolumeRequest>,
    ) -> Result<Response<NodeExpandVolumeResponse>, Status> {
        let request = request.into_inner();
        answered("NodeExpandVolume", &request.volume_id.clone(), self.grow(request)).await
    }

    async fn node_get_capabilities(
        &self,
        _: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        let capabilities = OFFERED
            .map(|rpc| NodeServiceCapability {
                r#type: Some(Type::Rpc(RpcCapability { r#type: rpc.into() })),
            })
            .into();
        Ok(Response::new(NodeGetCapabilitiesResponse { capabilities }))
    }

    async fn node_get_info(
        &self,
        _: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        let node = self.volumes.node();
        Ok(Response::new(NodeGetInfoResponse {
            node_id: node.to_owned(),
            // 0: the pool is full before the kernel runs out of loop devices.
            max_volumes_per_node: i64::try_from(self.volumes.max_volumes()).unwrap_or(i64::MAX),
            accessible_topology: Some(door::topology(node)),
        }))
    }
}
