//! Controller: volumes and snapshots come and go.

mod attach;
mod snapshots;

use std::time::Duration;

use strongroom_proto::csi::controller_server::Controller;
use strongroom_proto::csi::controller_service_capability::rpc::Type as Rpc;
use strongroom_proto::csi::controller_service_capability::{Rpc as RpcCapability, Type};
use strongroom_proto::csi::validate_volume_capabilities_response::Confirmed;
use strongroom_proto::csi::volume_content_source::Type as SourceType;
use strongroom_proto::csi::{
    ControllerExpandVolumeRequest, ControllerExpandVolumeResponse, ControllerGetCapabilitiesRequest,
    ControllerGetCapabilitiesResponse, ControllerGetVolumeRequest, ControllerGetVolumeResponse,
    ControllerModifyVolumeRequest, ControllerModifyVolumeResponse, ControllerPublishVolumeRequest,
    ControllerPublishVolumeResponse, ControllerServiceCapability, ControllerUnpublishVolumeRequest,
    ControllerUnpublishVolumeResponse, CreateSnapshotRequest, CreateSnapshotResponse, CreateVolumeRequest,
    CreateVolumeResponse, DeleteSnapshotRequest, DeleteSnapshotResponse, DeleteVolumeRequest,
    DeleteVolumeResponse, GetCapacityRequest, GetCapacityResponse, GetSnapshotRequest, GetSnapshotResponse,
    ListSnapshotsRequest, ListSnapshotsResponse, ListVolumesRequest, ListVolumesResponse,
    ValidateVolumeCapabilitiesRequest, ValidateVolumeCapabilitiesResponse, VolumeContentSource,
    controller_get_volume_response, list_volumes_response,
};
use tonic::{Request, Response, Status};

use super::handle::SnapshotHandle;
use super::page::page;
use super::status::RequestError;
use super::{Csi, answer, answered, door, patience};
use crate::{
    Beginning, IoLimits, NewVolume, PointChoice, Provisioned, SizeRange, Volume, VolumeKind, WantedKind,
};

/// What is served: all there is.
const OFFERED: [Rpc; 15] = [
    Rpc::CreateDeleteVolume,
    Rpc::PublishUnpublishVolume,
    Rpc::PublishReadonly,
    Rpc::ListVolumesPublishedNodes,
    Rpc::ModifyVolume,
    Rpc::ListVolumes,
    Rpc::GetCapacity,
    Rpc::CreateDeleteSnapshot,
    Rpc::ListSnapshots,
    Rpc::CloneVolume,
    Rpc::ExpandVolume,
    Rpc::VolumeCondition,
    Rpc::GetVolume,
    Rpc::SingleNodeMultiWriter,
    Rpc::GetSnapshot,
];

/// Sizes are whole sectors of this many bytes.
pub(super) const SECTOR_BYTES: u64 = 4096;

impl Csi {
    async fn create(
        &self,
        request: CreateVolumeRequest,
        patience: Duration,
    ) -> Result<CreateVolumeResponse, Status> {
        let name = door::volume_name(&request.name)?;
        let size = door::size(request.capacity_range.as_ref())?;
        let capabilities = door::capabilities(&request.volume_capabilities)?;
        let parameters = door::parameters(&request.parameters)?;
        door::map("secrets", &request.secrets)?;
        let changes = door::mutable_parameters(&request.mutable_parameters)?;
        door::reachable(request.accessibility_requirements.as_ref(), self.volumes.node())?;
        door::no_snapshot_parameters(&parameters)?;
        // Without a word about its kind it is whatever it begins with, which must have a filesystem then.
        let kind = door::kind_for(&capabilities, parameters.filesystem)?;
        let kind = kind.map_or(WantedKind::Filesystem, WantedKind::Exactly);
        let content_source = request.volume_content_source;
        let beginning = match (&content_source, parameters.from_point) {
            (None, choice) => choice.map(Beginning::Point),
            (Some(source), None) => Some(beginning(source)?),
            (Some(_), Some(_)) => {
                let reason =
                    "from-point says what the volume begins with, and so does its content source".to_owned();
                return Err(RequestError::Wrong { field: "parameters", reason }.into());
            }
        };
        let mut labels = parameters.labels;
        // What can change wins over what cannot; a label that shall not be there is none.
        for (key, value) in changes.labels {
            match value {
                Some(value) => labels.insert(key, value),
                None => labels.remove(&key),
            };
        }
        door::labels(&labels)?;
        let limits = IoLimits::NONE.changed(&changes.limits);
        let wanted = NewVolume { name: name.clone(), size, kind, beginning, labels, limits };
        match self.provision.create(wanted, patience).await? {
            Provisioned::Ready(outcome) => {
                let (volume, _) = answer::agreed(outcome, || format!("volume {name:?}"))?;
                let mut volume = answer::volume(&volume, self.volumes.node());
                // As it was asked for: a parameter is no content source.
                volume.content_source = content_source;
                Ok(CreateVolumeResponse { volume: Some(volume) })
            }
            Provisioned::Restoring { percent, .. } => {
                Err(RequestError::Restoring { subject: format!("volume {name:?}"), percent }.into())
            }
        }
    }

    async fn validate(
        &self,
        request: ValidateVolumeCapabilitiesRequest,
    ) -> Result<ValidateVolumeCapabilitiesResponse, Status> {
        door::required("volume_id", &request.volume_id)?;
        if request.volume_capabilities.is_empty() {
            return Err(RequestError::Missing { field: "volume_capabilities" }.into());
        }
        door::map("volume_context", &request.volume_context)?;
        door::map("secrets", &request.secrets)?;
        door::map("parameters", &request.parameters)?;
        door::map("mutable_parameters", &request.mutable_parameters)?;
        let id = door::known_volume("volume_id", &request.volume_id)?;
        let volume = self.volumes.brief(id).await?;
        Ok(match self.unsupported(&request, &volume).await? {
            Some(message) => ValidateVolumeCapabilitiesResponse { confirmed: None, message },
            None => ValidateVolumeCapabilitiesResponse {
                confirmed: Some(Confirmed {
                    volume_context: request.volume_context,
                    volume_capabilities: request.volume_capabilities,
                    parameters: request.parameters,
                    mutable_parameters: request.mutable_parameters,
                }),
                message: String::new(),
            },
        })
    }

    /// The first thing in `request` that `volume` does not offer.
    async fn unsupported(
        &self,
        request: &ValidateVolumeCapabilitiesRequest,
        volume: &Volume,
    ) -> Result<Option<String>, Status> {
        for given in &request.volume_capabilities {
            match door::understand(given)? {
                Err(reason) => return Ok(Some(reason)),
                Ok(capability) => {
                    if let Some(reason) = capability.misfit(volume.kind) {
                        return Ok(Some(reason));
                    }
                }
            }
        }
        match door::parameters(&request.parameters) {
            Err(error) => return Ok(Some(error.to_string())),
            Ok(parameters) => {
                if let Err(error) = door::no_snapshot_parameters(&parameters) {
                    return Ok(Some(error.to_string()));
                }
                let wanted = parameters.filesystem.map(VolumeKind::from);
                if let Some(wanted) = wanted.filter(|wanted| *wanted != volume.kind) {
                    return Ok(Some(format!("it is {}, not {wanted}", volume.kind)));
                }
            }
        }
        match door::mutable_parameters(&request.mutable_parameters) {
            Err(error) => Ok(Some(error.to_string())),
            Ok(changes) if changes.limits.values().any(Option::is_some) => Ok(self
                .volumes
                .cannot_limit()
                .await?
                .map(|missing| format!("its I/O cannot be limited: {missing}"))),
            Ok(_) => Ok(None),
        }
    }

    async fn capacity(&self, request: GetCapacityRequest) -> Result<GetCapacityResponse, Status> {
        let parameters = door::parameters(&request.parameters)?;
        door::no_snapshot_parameters(&parameters)?;
        if let Some(place) = &request.accessible_topology {
            door::map("accessible_topology", &place.segments)?;
        }
        let mut possible = request
            .accessible_topology
            .as_ref()
            .is_none_or(|place| place.segments.is_empty() || door::is_here(place, self.volumes.node()));
        let room = self.volumes.capacity().await?;
        // Without a word about what it shall hold: the smallest of all that can be made.
        let mut least = room.minimum_volume_bytes;
        if let Some(filesystem) = parameters.filesystem {
            least = VolumeKind::from(filesystem).least_bytes();
        }
        if !request.volume_capabilities.is_empty() {
            // Nothing of a kind that is not offered can be made: that is an answer, not an error.
            let mut capabilities = Vec::new();
            for given in &request.volume_capabilities {
                match door::understand(given)? {
                    Ok(capability) => capabilities.push(capability),
                    Err(_) => possible = false,
                }
            }
            match door::kind_for(&capabilities, parameters.filesystem) {
                Ok(kind) => least = kind.unwrap_or(VolumeKind::Ext4).least_bytes(),
                Err(_) => possible = false,
            }
        }
        // What is left may be too little for any volume of the kind.
        let most = if possible && room.available_bytes >= least { room.available_bytes } else { 0 };
        Ok(GetCapacityResponse {
            available_capacity: answer::bytes(most),
            maximum_volume_size: Some(answer::bytes(most)),
            minimum_volume_size: Some(answer::bytes(least)),
        })
    }

    async fn expand(
        &self,
        request: ControllerExpandVolumeRequest,
    ) -> Result<ControllerExpandVolumeResponse, Status> {
        door::required("volume_id", &request.volume_id)?;
        let range = request.capacity_range.as_ref();
        if range.is_none() {
            return Err(RequestError::Missing { field: "capacity_range" }.into());
        }
        let size = door::size(range)?;
        door::map("secrets", &request.secrets)?;
        let id = door::known_volume("volume_id", &request.volume_id)?;
        let volume = self.volumes.brief(id).await?;
        if request.volume_capability.is_some() {
            let capability = door::capability(request.volume_capability.as_ref(), door::Blame::Request)?;
            if let Some(reason) = capability.misfit(volume.kind) {
                return Err(RequestError::Unsupported { reason }.into());
            }
        }
        let wanted = within(size, volume.bytes)?;
        let expanded = self.volumes.expand(id, wanted).await?;
        Ok(ControllerExpandVolumeResponse {
            capacity_bytes: answer::bytes(expanded.bytes),
            node_expansion_required: expanded.filesystem_pending,
        })
    }

    async fn list_of_volumes(&self, request: ListVolumesRequest) -> Result<ListVolumesResponse, Status> {
        let most = door::count("max_entries", request.max_entries)?;
        door::optional("starting_token", &request.starting_token)?;
        let found = self.volumes.volumes().await?;
        let (found, next_token) = page(found, |volume| volume.id, most, &request.starting_token)?;
        let entries = found
            .iter()
            .map(|volume| list_volumes_response::Entry {
                volume: Some(answer::volume(volume, self.volumes.node())),
                status: Some(list_volumes_response::VolumeStatus {
                    published_node_ids: answer::nodes(volume),
                    volume_condition: Some(answer::condition(volume.condition.as_deref())),
                }),
            })
            .collect();
        Ok(ListVolumesResponse { entries, next_token })
    }
}

/// What a volume shall begin with.
fn beginning(given: &VolumeContentSource) -> Result<Beginning, RequestError> {
    Ok(match &given.r#type {
        None => return Err(RequestError::Missing { field: "volume_content_source.type" }),
        Some(SourceType::Snapshot(source)) => match door::known_handle("snapshot_id", &source.snapshot_id)? {
            SnapshotHandle::Local(id) => Beginning::Snapshot(id),
            SnapshotHandle::Point(id) => Beginning::Point(PointChoice::id(id)),
        },
        Some(SourceType::Volume(source)) => {
            Beginning::Volume(door::known_volume("volume_id", &source.volume_id)?)
        }
    })
}

/// How large a volume of `has` bytes has to become to fit into `size`. Volumes do not shrink.
fn within(size: SizeRange, has: u64) -> Result<u64, RequestError> {
    let wanted = size.required_bytes.max(has).checked_next_multiple_of(SECTOR_BYTES);
    let refused = |reason: String| Err(RequestError::OutOfRange { field: "capacity_range", reason });
    match wanted {
        None => refused(format!("{} bytes are too many", size.required_bytes)),
        Some(wanted) if size.limit_bytes != 0 && wanted > size.limit_bytes => refused(format!(
            "the volume has {has} bytes and would get {wanted}, but {} are the limit",
            size.limit_bytes
        )),
        Some(wanted) => Ok(wanted),
    }
}

#[tonic::async_trait]
impl Controller for Csi {
    async fn create_volume(
        &self,
        request: Request<CreateVolumeRequest>,
    ) -> Result<Response<CreateVolumeResponse>, Status> {
        let patience = patience(&request);
        let request = request.into_inner();
        answered("CreateVolume", &request.name.clone(), self.create(request, patience)).await
    }

    async fn delete_volume(
        &self,
        request: Request<DeleteVolumeRequest>,
    ) -> Result<Response<DeleteVolumeResponse>, Status> {
        let request = request.into_inner();
        answered("DeleteVolume", &request.volume_id, async {
            let id = door::volume_id(&request.volume_id)?;
            door::map("secrets", &request.secrets)?;
            // What was never ours is as gone as what was deleted before.
            if let Some(id) = id {
                self.provision.delete(id).await?;
            }
            Ok(DeleteVolumeResponse {})
        })
        .await
    }

    async fn controller_publish_volume(
        &self,
        request: Request<ControllerPublishVolumeRequest>,
    ) -> Result<Response<ControllerPublishVolumeResponse>, Status> {
        let request = request.into_inner();
        answered("ControllerPublishVolume", &request.volume_id.clone(), self.attach(request)).await
    }

    async fn controller_unpublish_volume(
        &self,
        request: Request<ControllerUnpublishVolumeRequest>,
    ) -> Result<Response<ControllerUnpublishVolumeResponse>, Status> {
        let request = request.into_inner();
        answered("ControllerUnpublishVolume", &request.volume_id.clone(), self.detach(request)).await
    }

    async fn validate_volume_capabilities(
        &self,
        request: Request<ValidateVolumeCapabilitiesRequest>,
    ) -> Result<Response<ValidateVolumeCapabilitiesResponse>, Status> {
        let request = request.into_inner();
        answered("ValidateVolumeCapabilities", &request.volume_id.clone(), self.validate(request)).await
    }

    async fn list_volumes(
        &self,
        request: Request<ListVolumesRequest>,
    ) -> Result<Response<ListVolumesResponse>, Status> {
        answered("ListVolumes", "", self.list_of_volumes(request.into_inner())).await
    }

    async fn get_capacity(
        &self,
        request: Request<GetCapacityRequest>,
    ) -> Result<Response<GetCapacityResponse>, Status> {
        answered("GetCapacity", "", self.capacity(request.into_inner())).await
    }

    async fn controller_get_capabilities(
        &self,
        _: Request<ControllerGetCapabilitiesRequest>,
    ) -> Result<Response<ControllerGetCapabilitiesResponse>, Status> {
        let capabilities = OFFERED
            .into_iter()
            // Where nobody knows which node has a volume, the node itself is asked to grow it.
            .filter(|rpc| !(self.grow_on_node && *rpc == Rpc::ExpandVolume))
            .map(|rpc| ControllerServiceCapability {
                r#type: Some(Type::Rpc(RpcCapability { r#type: rpc.into() })),
            })
            .collect();
        Ok(Response::new(ControllerGetCapabilitiesResponse { capabilities }))
    }

    async fn create_snapshot(
        &self,
        request: Request<CreateSnapshotRequest>,
    ) -> Result<Response<CreateSnapshotResponse>, Status> {
        let request = request.into_inner();
        answered("CreateSnapshot", &request.name.clone(), self.snap(request)).await
    }

    async fn delete_snapshot(
        &self,
        request: Request<DeleteSnapshotRequest>,
    ) -> Result<Response<DeleteSnapshotResponse>, Status> {
        let request = request.into_inner();
        answered("DeleteSnapshot", &request.snapshot_id, async {
            door::map("secrets", &request.secrets)?;
            self.remove_snapshot(&request.snapshot_id).await?;
            Ok(DeleteSnapshotResponse {})
        })
        .await
    }

    async fn list_snapshots(
        &self,
        request: Request<ListSnapshotsRequest>,
    ) -> Result<Response<ListSnapshotsResponse>, Status> {
        answered("ListSnapshots", "", self.list_of_snapshots(request.into_inner())).await
    }

    async fn get_snapshot(
        &self,
        request: Request<GetSnapshotRequest>,
    ) -> Result<Response<GetSnapshotResponse>, Status> {
        let request = request.into_inner();
        answered("GetSnapshot", &request.snapshot_id.clone(), self.one_snapshot(request)).await
    }

    async fn controller_expand_volume(
        &self,
        request: Request<ControllerExpandVolumeRequest>,
    ) -> Result<Response<ControllerExpandVolumeResponse>, Status> {
        let request = request.into_inner();
        answered("ControllerExpandVolume", &request.volume_id.clone(), self.expand(request)).await
    }

    async fn controller_get_volume(
        &self,
        request: Request<ControllerGetVolumeRequest>,
    ) -> Result<Response<ControllerGetVolumeResponse>, Status> {
        let request = request.into_inner();
        answered("ControllerGetVolume", &request.volume_id, async {
            let id = door::known_volume("volume_id", &request.volume_id)?;
            let volume = self.volumes.brief(id).await?;
            Ok(ControllerGetVolumeResponse {
                volume: Some(answer::volume(&volume, self.volumes.node())),
                status: Some(controller_get_volume_response::VolumeStatus {
                    published_node_ids: answer::nodes(&volume),
                    volume_condition: Some(answer::condition(volume.condition.as_deref())),
                }),
            })
        })
        .await
    }

    async fn controller_modify_volume(
        &self,
        request: Request<ControllerModifyVolumeRequest>,
    ) -> Result<Response<ControllerModifyVolumeResponse>, Status> {
        let request = request.into_inner();
        answered("ControllerModifyVolume", &request.volume_id.clone(), self.modify(request)).await
    }
}

#[cfg(test)]
mod tests;
