//! The control service: what the command line, the agent and restore ask of the driver beyond CSI.

mod door;
mod group;

pub(crate) use door::finding_out;

use std::path::Path;
use std::time::Duration;

use strongroom_proto::control::driver_control_server::DriverControl;
use strongroom_proto::control::{
    BeginRestoreRequest, BeginRestoreResponse, CompareVolumeRequest, CompareVolumeResponse,
    CreateGroupRequest, CreateGroupResponse, CreateSnapshotRequest, CreateSnapshotResponse,
    CreateVolumeRequest, CreateVolumeResponse, DeleteGroupRequest, DeleteGroupResponse,
    DiscardRestoreRequest, DiscardRestoreResponse, ExamineRequest, ExamineResponse, ExchangeContentRequest,
    ExchangeContentResponse, FinishRestoreRequest, FinishRestoreResponse, GetDriverRequest,
    GetDriverResponse, GetVolumeRequest, GetVolumeResponse, ListGroupsRequest, ListGroupsResponse,
    ListSnapshotsRequest, ListSnapshotsResponse, ListVolumesRequest, ListVolumesResponse, MountRequest,
    MountResponse, NotRemounted, OpenSnapshotRequest, OpenSnapshotResponse, RepairRequest, RepairResponse,
    UnmountRequest, UnmountResponse, create_volume_request,
};
use tonic::{Request, Response, Status};

use crate::csi::status::RequestError;
use crate::csi::{answer, answered, door as csi_door};
use crate::{
    BeginRestore, Beginning, CreateSnapshot, Exchange, IoLimits, LabelScope, NewVolume, PointContent,
    Provision, Provisioned, SizeRange, SnapshotFilter, VolumeKind, Volumes, WantedKind,
};

/// How long a call waits for a restore before it says how far it is. A person wants to see it move.
const PATIENCE: Duration = Duration::from_secs(1);

/// The control service over the driver.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    volumes: Volumes,
    provision: Provision,
    /// What the driver found when it started, a sentence each.
    findings: Vec<String>,
}

impl Control {
    pub(crate) const fn new(volumes: Volumes, provision: Provision, findings: Vec<String>) -> Self {
        Self { volumes, provision, findings }
    }

    async fn create(&self, request: CreateVolumeRequest) -> Result<CreateVolumeResponse, Status> {
        let name = csi_door::volume_name(&request.name)?;
        let beginning = match &request.source {
            None => None,
            Some(create_volume_request::Source::SnapshotId(id)) => {
                Some(Beginning::Snapshot(csi_door::known_snapshot("snapshot_id", id)?))
            }
            Some(create_volume_request::Source::Volume(given)) => {
                Some(Beginning::Volume(door::volume(&self.volumes, Some(given)).await?))
            }
            Some(create_volume_request::Source::Point(words)) => {
                Some(Beginning::Point(csi_door::point_choice("point", words)?))
            }
        };
        let wanted = NewVolume {
            name: name.clone(),
            size: SizeRange::of(request.bytes),
            kind: door::kind(request.fs)?.map_or(WantedKind::Any, WantedKind::Exactly),
            beginning,
            labels: door::labels(request.labels)?,
            limits: IoLimits::NONE,
        };
        match self.provision.create(wanted, PATIENCE).await? {
            Provisioned::Ready(outcome) => {
                let (volume, existed) = answer::agreed(outcome, || format!("volume {name:?}"))?;
                let volume = Some(door::volume_out(volume));
                Ok(CreateVolumeResponse { volume, existed, restoring_percent: None })
            }
            Provisioned::Restoring { volume, percent } => Ok(CreateVolumeResponse {
                volume: Some(door::volume_out(volume)),
                existed: false,
                restoring_percent: Some(percent.into()),
            }),
        }
    }

    async fn describe(&self) -> Result<GetDriverResponse, Status> {
        let room = self.volumes.capacity().await?;
        let volumes = self.volumes.volumes().await?.len();
        let snapshots = self.volumes.snapshots(SnapshotFilter::default()).await?.len();
        Ok(GetDriverResponse {
            node_id: self.volumes.node().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pool_path: room.pool.display().to_string(),
            pool_bytes: room.pool_bytes,
            pool_used_bytes: room.used_bytes,
            high_water_bytes: room.high_water_bytes,
            provisioned_bytes: room.provisioned_bytes,
            provisionable_bytes: room.provisionable_bytes,
            largest_new_volume_bytes: room.available_bytes,
            volumes: volumes as u64,
            snapshots: snapshots as u64,
            message: room.condition.unwrap_or_default(),
            findings: self.findings.clone(),
        })
    }

    async fn snap(&self, request: CreateSnapshotRequest) -> Result<CreateSnapshotResponse, Status> {
        let label = csi_door::snapshot_name(&request.label)?;
        let owner = owner(&request.owner)?;
        let outcome = self
            .volumes
            .create_snapshot(CreateSnapshot {
                volume: door::volume(&self.volumes, request.volume.as_ref()).await?,
                label: label.clone(),
                scope: LabelScope::Volume,
                owner,
                labels: door::labels(request.labels)?,
            })
            .await?;
        let (snapshot, existed) = answer::agreed(outcome, || format!("snapshot {label:?}"))?;
        Ok(CreateSnapshotResponse { snapshot: Some(door::snapshot_out(snapshot)), existed })
    }

    async fn begin(&self, request: BeginRestoreRequest) -> Result<BeginRestoreResponse, Status> {
        let name = csi_door::volume_name(&request.name)?;
        let from_snapshot = match request.from_snapshot_id.as_str() {
            "" => None,
            id => Some(csi_door::known_snapshot("from_snapshot_id", id)?),
        };
        let point = match request.point_id.as_str() {
            "" => None,
            id => Some(PointContent {
                id: csi_door::known_point("point_id", id)?,
                bytes: request.content_bytes,
                words: None,
            }),
        };
        let only = match request.only_volume_id.as_str() {
            "" => None,
            id => Some(csi_door::known_volume("only_volume_id", id)?),
        };
        let outcome = self
            .volumes
            .begin_restore(BeginRestore {
                name: name.clone(),
                // What is restored has the filesystem that comes with its content; unsaid, it is bytes.
                kind: door::kind(request.fs)?.unwrap_or(VolumeKind::Block),
                size: SizeRange::of(request.bytes),
                labels: door::labels(request.labels)?,
                from_snapshot,
                point,
                only,
            })
            .await?;
        let (target, resumed) = answer::agreed(outcome, || format!("volume {name:?}"))?;
        Ok(BeginRestoreResponse {
            volume_id: target.volume.id.to_string(),
            path: target.device.display().to_string(),
            resumed,
        })
    }

    async fn exchange(&self, request: ExchangeContentRequest) -> Result<ExchangeContentResponse, Status> {
        let run = csi_door::required("run", &request.run)?.to_owned();
        let outcome = self
            .volumes
            .exchange_content(Exchange {
                volume: door::volume(&self.volumes, request.volume.as_ref()).await?,
                staged: csi_door::known_volume("staged_volume_id", &request.staged_volume_id)?,
                run: run.clone(),
                safety_label: csi_door::snapshot_name(&request.safety_label)?,
                safety_labels: door::labels(request.safety_labels)?,
                remount: request.remount,
            })
            .await?;
        let (exchanged, _) = answer::agreed(outcome, || format!("run {run:?}"))?;
        let text = |path: &Path| path.display().to_string();
        Ok(ExchangeContentResponse {
            safety: Some(door::snapshot_out(exchanged.safety)),
            remounted: exchanged.remounted.iter().map(|path| text(path)).collect(),
            not_remounted: exchanged
                .not_remounted
                .into_iter()
                .map(|(path, reason)| NotRemounted { path: text(&path), reason })
                .collect(),
            volume: Some(door::volume_out(exchanged.volume)),
        })
    }
}

/// Who takes a snapshot away again is one of those who make them here; `csi` makes its own by CSI.
fn owner(given: &str) -> Result<String, RequestError> {
    match csi_door::required("owner", given)? {
        known @ ("user" | "agent" | "restore") => Ok(known.to_owned()),
        other => Err(RequestError::Wrong {
            field: "owner",
            reason: format!("{other:?} is none of user, agent, restore"),
        }),
    }
}

#[tonic::async_trait]
impl DriverControl for Control {
    async fn examine(&self, request: Request<ExamineRequest>) -> Result<Response<ExamineResponse>, Status> {
        let idle = request.into_inner().unstage_idle;
        answered("Examine", "", async {
            let found = self.volumes.examine(idle).await?;
            Ok(ExamineResponse { findings: found.into_iter().map(finding_out).collect() })
        })
        .await
    }

    async fn repair(&self, request: Request<RepairRequest>) -> Result<Response<RepairResponse>, Status> {
        let RepairRequest { steps, unstage_idle } = request.into_inner();
        answered("Repair", "", async {
            let steps = steps.iter().map(|step| door::repair_in(step)).collect::<Result<Vec<_>, _>>()?;
            let outcomes = self.volumes.repair(steps, unstage_idle).await?;
            Ok(RepairResponse { outcomes: outcomes.iter().map(ToString::to_string).collect() })
        })
        .await
    }

    async fn get_driver(&self, _: Request<GetDriverRequest>) -> Result<Response<GetDriverResponse>, Status> {
        answered("GetDriver", "", self.describe()).await
    }

    async fn list_volumes(
        &self,
        request: Request<ListVolumesRequest>,
    ) -> Result<Response<ListVolumesResponse>, Status> {
        let wanted = request.into_inner().labels;
        answered("ListVolumes", "", async {
            let mut found = self.volumes.volumes().await?;
            found.retain(|volume| wanted.iter().all(|(key, value)| volume.labels.get(key) == Some(value)));
            Ok(ListVolumesResponse { volumes: found.into_iter().map(door::volume_out).collect() })
        })
        .await
    }

    async fn create_volume(
        &self,
        request: Request<CreateVolumeRequest>,
    ) -> Result<Response<CreateVolumeResponse>, Status> {
        let request = request.into_inner();
        answered("CreateVolume", &request.name.clone(), self.create(request)).await
    }

    async fn get_volume(
        &self,
        request: Request<GetVolumeRequest>,
    ) -> Result<Response<GetVolumeResponse>, Status> {
        answered("GetVolume", "", async {
            let id = door::volume(&self.volumes, request.into_inner().volume.as_ref()).await?;
            Ok(GetVolumeResponse { volume: Some(door::volume_out(self.volumes.volume(id).await?)) })
        })
        .await
    }

    async fn list_snapshots(
        &self,
        request: Request<ListSnapshotsRequest>,
    ) -> Result<Response<ListSnapshotsResponse>, Status> {
        let request = request.into_inner();
        answered("ListSnapshots", "", async {
            let volume = match &request.volume {
                None => None,
                given => Some(door::volume(&self.volumes, given.as_ref()).await?),
            };
            let owner = Some(csi_door::optional("owner", &request.owner)?)
                .filter(|owner| !owner.is_empty())
                .map(str::to_owned);
            let filter = SnapshotFilter { volume, owner, ..SnapshotFilter::default() };
            let found = self.volumes.snapshots(filter).await?;
            Ok(ListSnapshotsResponse { snapshots: found.into_iter().map(door::snapshot_out).collect() })
        })
        .await
    }

    async fn create_snapshot(
        &self,
        request: Request<CreateSnapshotRequest>,
    ) -> Result<Response<CreateSnapshotResponse>, Status> {
        let request = request.into_inner();
        answered("CreateSnapshot", &request.label.clone(), self.snap(request)).await
    }

    async fn create_group(
        &self,
        request: Request<CreateGroupRequest>,
    ) -> Result<Response<CreateGroupResponse>, Status> {
        let request = request.into_inner();
        answered("CreateGroup", &request.name.clone(), self.group_up(request)).await
    }

    async fn list_groups(
        &self,
        _: Request<ListGroupsRequest>,
    ) -> Result<Response<ListGroupsResponse>, Status> {
        answered("ListGroups", "", self.list_of_groups()).await
    }

    async fn delete_group(
        &self,
        request: Request<DeleteGroupRequest>,
    ) -> Result<Response<DeleteGroupResponse>, Status> {
        let request = request.into_inner();
        answered("DeleteGroup", &request.group_id.clone(), self.ungroup(request)).await
    }

    async fn compare_volume(
        &self,
        request: Request<CompareVolumeRequest>,
    ) -> Result<Response<CompareVolumeResponse>, Status> {
        let request = request.into_inner();
        answered("CompareVolume", &request.snapshot_id, async {
            let volume = door::volume(&self.volumes, request.volume.as_ref()).await?;
            let snapshot = csi_door::known_snapshot("snapshot_id", &request.snapshot_id)?;
            let (same, at) = self.volumes.holds_still(volume, snapshot).await?;
            Ok(CompareVolumeResponse { same, at: Some(answer::moment(at)) })
        })
        .await
    }

    async fn open_snapshot(
        &self,
        request: Request<OpenSnapshotRequest>,
    ) -> Result<Response<OpenSnapshotResponse>, Status> {
        let request = request.into_inner();
        answered("OpenSnapshot", &request.snapshot_id, async {
            let id = csi_door::known_snapshot("snapshot_id", &request.snapshot_id)?;
            let bytes = self.volumes.snapshot(id).await?.bytes;
            let path = self.volumes.open_snapshot(id).await?;
            Ok(OpenSnapshotResponse { path: path.display().to_string(), bytes })
        })
        .await
    }

    async fn mount(&self, request: Request<MountRequest>) -> Result<Response<MountResponse>, Status> {
        let request = request.into_inner();
        answered("Mount", &request.path.clone(), async {
            let id = door::volume(&self.volumes, request.volume.as_ref()).await?;
            let path = csi_door::path("path", &request.path)?;
            let outcome = self.volumes.mount(id, &path, request.mount_flags).await?;
            answer::agreed(outcome, || format!("the mount of {id} at {}", path.display()))?;
            let device = self.volumes.brief(id).await?.device;
            Ok(MountResponse { device: device.map(|path| path.display().to_string()).unwrap_or_default() })
        })
        .await
    }

    async fn unmount(&self, request: Request<UnmountRequest>) -> Result<Response<UnmountResponse>, Status> {
        let request = request.into_inner();
        answered("Unmount", &request.path, async {
            let id = door::volume(&self.volumes, request.volume.as_ref()).await?;
            let path = match request.path.as_str() {
                "" => None,
                path => Some(csi_door::path("path", path)?),
            };
            let paths = self.volumes.unmount(id, path.as_deref()).await?;
            Ok(UnmountResponse { paths: paths.iter().map(|path| path.display().to_string()).collect() })
        })
        .await
    }

    async fn begin_restore(
        &self,
        request: Request<BeginRestoreRequest>,
    ) -> Result<Response<BeginRestoreResponse>, Status> {
        let request = request.into_inner();
        answered("BeginRestore", &request.name.clone(), self.begin(request)).await
    }

    async fn finish_restore(
        &self,
        request: Request<FinishRestoreRequest>,
    ) -> Result<Response<FinishRestoreResponse>, Status> {
        let request = request.into_inner();
        answered("FinishRestore", &request.volume_id, async {
            let id = csi_door::known_volume("volume_id", &request.volume_id)?;
            let volume = self.volumes.finish_restore(id).await?;
            Ok(FinishRestoreResponse { volume: Some(door::volume_out(volume)) })
        })
        .await
    }

    async fn discard_restore(
        &self,
        request: Request<DiscardRestoreRequest>,
    ) -> Result<Response<DiscardRestoreResponse>, Status> {
        let request = request.into_inner();
        answered("DiscardRestore", &request.volume_id, async {
            if let Some(id) = csi_door::volume_id(&request.volume_id)? {
                self.volumes.discard_restore(id).await?;
            }
            Ok(DiscardRestoreResponse {})
        })
        .await
    }

    async fn exchange_content(
        &self,
        request: Request<ExchangeContentRequest>,
    ) -> Result<Response<ExchangeContentResponse>, Status> {
        let request = request.into_inner();
        answered("ExchangeContent", &request.run.clone(), self.exchange(request)).await
    }
}
