//! GroupController: snapshots of several volumes at one moment.

use strongroom_model::SnapshotId;
use strongroom_proto::csi::group_controller_server::GroupController;
use strongroom_proto::csi::group_controller_service_capability::rpc::Type as Rpc;
use strongroom_proto::csi::group_controller_service_capability::{Rpc as RpcCapability, Type};
use strongroom_proto::csi::{
    CreateVolumeGroupSnapshotRequest, CreateVolumeGroupSnapshotResponse, DeleteVolumeGroupSnapshotRequest,
    DeleteVolumeGroupSnapshotResponse, GetVolumeGroupSnapshotRequest, GetVolumeGroupSnapshotResponse,
    GroupControllerGetCapabilitiesRequest, GroupControllerGetCapabilitiesResponse,
    GroupControllerServiceCapability,
};
use tonic::{Request, Response, Status};

use super::status::RequestError;
use super::{Csi, answer, answered, door};
use crate::CreateGroup;

/// Lists are bounded before they are read; the driver knows how many volumes a group may have.
const MOST_IDS: usize = 1024;

impl Csi {
    async fn group_up(
        &self,
        request: CreateVolumeGroupSnapshotRequest,
    ) -> Result<CreateVolumeGroupSnapshotResponse, Status> {
        let name = door::snapshot_name(&request.name)?;
        door::map("secrets", &request.secrets)?;
        let labels = door::group_parameters(&request.parameters)?;
        if request.source_volume_ids.is_empty() {
            return Err(RequestError::Missing { field: "source_volume_ids" }.into());
        }
        door::few("source_volume_ids", request.source_volume_ids.len(), MOST_IDS)?;
        let volumes = request
            .source_volume_ids
            .iter()
            .map(|id| door::known_volume("source_volume_ids", id))
            .collect::<Result<Vec<_>, _>>()?;
        let wanted = CreateGroup { name: name.clone(), volumes, owner: "csi".to_owned(), labels };
        let outcome = self.volumes.create_group(wanted).await?;
        let (group, _) = answer::agreed(outcome, || format!("group {name:?}"))?;
        Ok(CreateVolumeGroupSnapshotResponse { group_snapshot: Some(answer::group(&group)) })
    }

    async fn ungroup(
        &self,
        request: DeleteVolumeGroupSnapshotRequest,
    ) -> Result<DeleteVolumeGroupSnapshotResponse, Status> {
        let id = door::group_id(&request.group_snapshot_id)?;
        door::map("secrets", &request.secrets)?;
        let members = members(&request.snapshot_ids)?;
        // What was never ours is as gone as what was deleted before.
        if let Some(id) = id {
            self.volumes.delete_group(id, Some(members)).await?;
        }
        Ok(DeleteVolumeGroupSnapshotResponse {})
    }

    async fn look_at_group(
        &self,
        request: GetVolumeGroupSnapshotRequest,
    ) -> Result<GetVolumeGroupSnapshotResponse, Status> {
        let id = door::known_group(&request.group_snapshot_id)?;
        door::map("secrets", &request.secrets)?;
        let group = self.volumes.group(id, Some(members(&request.snapshot_ids)?)).await?;
        Ok(GetVolumeGroupSnapshotResponse { group_snapshot: Some(answer::group(&group)) })
    }
}

/// The snapshots that are named. One that cannot be ours stands for a member that no group has.
fn members(ids: &[String]) -> Result<Vec<SnapshotId>, RequestError> {
    door::few("snapshot_ids", ids.len(), MOST_IDS)?;
    let read = |id: &String| Ok(door::snapshot_id(id)?.unwrap_or(SnapshotId::from_bytes([0; 16])));
    ids.iter().map(read).collect()
}

#[tonic::async_trait]
impl GroupController for Csi {
    async fn group_controller_get_capabilities(
        &self,
        _: Request<GroupControllerGetCapabilitiesRequest>,
    ) -> Result<Response<GroupControllerGetCapabilitiesResponse>, Status> {
        let rpc = RpcCapability { r#type: Rpc::CreateDeleteGetVolumeGroupSnapshot.into() };
        let capabilities = vec![GroupControllerServiceCapability { r#type: Some(Type::Rpc(rpc)) }];
        Ok(Response::new(GroupControllerGetCapabilitiesResponse { capabilities }))
    }

    async fn create_volume_group_snapshot(
        &self,
        request: Request<CreateVolumeGroupSnapshotRequest>,
    ) -> Result<Response<CreateVolumeGroupSnapshotResponse>, Status> {
        let request = request.into_inner();
        answered("CreateVolumeGroupSnapshot", &request.name.clone(), self.group_up(request)).await
    }

    async fn delete_volume_group_snapshot(
        &self,
        request: Request<DeleteVolumeGroupSnapshotRequest>,
    ) -> Result<Response<DeleteVolumeGroupSnapshotResponse>, Status> {
        let request = request.into_inner();
        answered("DeleteVolumeGroupSnapshot", &request.group_snapshot_id.clone(), self.ungroup(request)).await
    }

    async fn get_volume_group_snapshot(
        &self,
        request: Request<GetVolumeGroupSnapshotRequest>,
    ) -> Result<Response<GetVolumeGroupSnapshotResponse>, Status> {
        let request = request.into_inner();
        answered("GetVolumeGroupSnapshot", &request.group_snapshot_id.clone(), self.look_at_group(request))
            .await
    }
}
