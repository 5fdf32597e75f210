//! Groups for people without an orchestrator.

use strongroom_proto::control::{
    CreateGroupRequest, CreateGroupResponse, DeleteGroupRequest, DeleteGroupResponse, ListGroupsResponse,
};
use tonic::Status;

use super::{Control, door};
use crate::CreateGroup;
use crate::csi::{answer, door as csi_door};

/// How many volumes are looked up before the driver says how many a group may have.
const MOST_VOLUMES: usize = 1024;

impl Control {
    pub(super) async fn group_up(&self, request: CreateGroupRequest) -> Result<CreateGroupResponse, Status> {
        let name = csi_door::snapshot_name(&request.name)?;
        csi_door::few("volumes", request.volumes.len(), MOST_VOLUMES)?;
        let mut volumes = Vec::with_capacity(request.volumes.len());
        for volume in &request.volumes {
            volumes.push(door::volume(&self.volumes, Some(volume)).await?);
        }
        let labels = door::labels(request.labels)?;
        let wanted = CreateGroup { name: name.clone(), volumes, owner: "user".to_owned(), labels };
        let outcome = self.volumes.create_group(wanted).await?;
        let (group, existed) = answer::agreed(outcome, || format!("group {name:?}"))?;
        Ok(CreateGroupResponse { group: Some(door::group_out(group)), existed })
    }

    pub(super) async fn list_of_groups(&self) -> Result<ListGroupsResponse, Status> {
        let groups = self.volumes.groups().await?;
        Ok(ListGroupsResponse { groups: groups.into_iter().map(door::group_out).collect() })
    }

    pub(super) async fn ungroup(&self, request: DeleteGroupRequest) -> Result<DeleteGroupResponse, Status> {
        if let Some(id) = csi_door::group_id(&request.group_id)? {
            self.volumes.delete_group(id, None).await?;
        }
        Ok(DeleteGroupResponse {})
    }
}
