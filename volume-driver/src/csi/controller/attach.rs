//! Volumes are given to nodes and taken back, and changed.

use strongroom_proto::csi::{
    ControllerModifyVolumeRequest, ControllerModifyVolumeResponse, ControllerPublishVolumeRequest,
    ControllerPublishVolumeResponse, ControllerUnpublishVolumeRequest, ControllerUnpublishVolumeResponse,
};
use tonic::Status;

use super::super::status::RequestError;
use super::super::{Csi, answer, door};
use crate::Attachment;

impl Csi {
    pub(super) async fn attach(
        &self,
        request: ControllerPublishVolumeRequest,
    ) -> Result<ControllerPublishVolumeResponse, Status> {
        door::required("volume_id", &request.volume_id)?;
        if door::node_id(&request.node_id)?.is_empty() {
            return Err(RequestError::Missing { field: "node_id" }.into());
        }
        door::map("secrets", &request.secrets)?;
        door::map("volume_context", &request.volume_context)?;
        let capability = door::capability(request.volume_capability.as_ref(), door::Blame::Request)?;
        let id = door::known_volume("volume_id", &request.volume_id)?;
        let kind = self.volumes.brief(id).await?.kind;
        if let Some(reason) = capability.misfit(kind) {
            return Err(RequestError::Unsupported { reason }.into());
        }
        let attachment = Attachment {
            node: request.node_id,
            readonly: request.readonly || capability.readonly,
            only_target: capability.only_target,
        };
        let node = attachment.node.clone();
        let outcome = self.volumes.attach_to_node(id, attachment).await?;
        answer::agreed(outcome, || format!("the attachment of volume {id} to node {node:?}"))?;
        // The node finds in the registry what it has to know, so nothing has to be carried there.
        Ok(ControllerPublishVolumeResponse { publish_context: [].into() })
    }

    pub(super) async fn detach(
        &self,
        request: ControllerUnpublishVolumeRequest,
    ) -> Result<ControllerUnpublishVolumeResponse, Status> {
        let node = door::node_id(&request.node_id)?;
        door::map("secrets", &request.secrets)?;
        // What was never ours is as detached as what was deleted before.
        if let Some(id) = door::volume_id(&request.volume_id)? {
            self.volumes.detach_from_node(id, Some(node).filter(|node| !node.is_empty())).await?;
        }
        Ok(ControllerUnpublishVolumeResponse {})
    }

    pub(super) async fn modify(
        &self,
        request: ControllerModifyVolumeRequest,
    ) -> Result<ControllerModifyVolumeResponse, Status> {
        door::required("volume_id", &request.volume_id)?;
        door::map("secrets", &request.secrets)?;
        if request.mutable_parameters.is_empty() {
            return Err(RequestError::Missing { field: "mutable_parameters" }.into());
        }
        let changes = door::mutable_parameters(&request.mutable_parameters)?;
        let id = door::known_volume("volume_id", &request.volume_id)?;
        self.volumes.modify(id, changes).await?;
        Ok(ControllerModifyVolumeResponse {})
    }
}
