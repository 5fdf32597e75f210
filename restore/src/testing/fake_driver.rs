//! A volume driver of plain files, for tests: images are files, snapshots and clones are copies. It keeps the promises of the
//! control service that restore rests on, and can lose its answer to an exchange.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use strongroom_model::{Entropy, SnapshotId, VolumeId};
use strongroom_proto::control::driver_control_server::{DriverControl, DriverControlServer};
use strongroom_proto::control::volume_ref::By;
use strongroom_proto::control::*;
use strongroom_proto::csi;
use strongroom_proto::csi::controller_server::{Controller, ControllerServer};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

/// The driver; clones share it. It serves until the test's runtime ends.
#[derive(Clone)]
pub(crate) struct FakeDriver {
    folder: PathBuf,
    entropy: Arc<dyn Entropy>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    volumes: Vec<Volume>,
    snapshots: Vec<Snapshot>,
    exchanges: Vec<(String, String, Snapshot)>,
    lose_next_exchange: bool,
}

type Answer<T> = Result<Response<T>, Status>;

impl FakeDriver {
    /// Serves at `folder/csi.sock`.
    pub(crate) fn start(folder: &Path, entropy: Arc<dyn Entropy>) -> (Self, String) {
        std::fs::create_dir_all(folder).unwrap();
        let driver = Self { folder: folder.into(), entropy, state: Arc::default() };
        let path = folder.join("csi.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let server = tonic::transport::Server::builder()
            .add_service(DriverControlServer::new(driver.clone()))
            .add_service(ControllerServer::new(driver.clone()));
        tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
        (driver, format!("unix://{}", path.display()))
    }

    /// A ready volume with this content.
    pub(crate) fn volume(&self, name: &str, content: &[u8]) -> VolumeId {
        let id = VolumeId::random(&*self.entropy);
        std::fs::write(self.image(&id.to_string()), content).unwrap();
        let volume = Volume {
            id: id.to_string(),
            name: name.into(),
            fs: Filesystem::Ext4.into(),
            bytes: content.len() as u64,
            state: VolumeState::Ready.into(),
            ..Volume::default()
        };
        self.state.lock().unwrap().volumes.push(volume);
        id
    }

    /// A snapshot of a volume as it is.
    pub(crate) fn snapshot(&self, volume: VolumeId, owner: &str) -> SnapshotId {
        let state = &mut *self.state.lock().unwrap();
        let volume = state.volumes.iter().find(|known| known.id == volume.to_string()).unwrap().clone();
        let snapshot = self.cut(&volume, "backup", owner, Default::default());
        let id = snapshot.id.parse().unwrap();
        state.snapshots.push(snapshot);
        id
    }

    pub(crate) fn content(&self, volume: VolumeId) -> Vec<u8> {
        std::fs::read(self.image(&volume.to_string())).unwrap()
    }

    pub(crate) fn write(&self, volume: VolumeId, content: &[u8]) {
        std::fs::write(self.image(&volume.to_string()), content).unwrap();
    }

    pub(crate) fn named(&self, name: &str) -> Option<Volume> {
        self.state.lock().unwrap().volumes.iter().find(|volume| volume.name == name).cloned()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.state.lock().unwrap().volumes.iter().map(|volume| volume.name.clone()).collect()
    }

    pub(crate) fn snapshots(&self) -> Vec<Snapshot> {
        self.state.lock().unwrap().snapshots.clone()
    }

    /// The next exchange is done, and its answer is lost.
    pub(crate) fn lose_next_exchange(&self) {
        self.state.lock().unwrap().lose_next_exchange = true;
    }

    fn image(&self, id: &str) -> PathBuf {
        self.folder.join(id)
    }

    fn cut(
        &self,
        volume: &Volume,
        label: &str,
        owner: &str,
        labels: std::collections::HashMap<String, String>,
    ) -> Snapshot {
        let id = SnapshotId::random(&*self.entropy).to_string();
        std::fs::copy(self.image(&volume.id), self.image(&id)).unwrap();
        Snapshot {
            id,
            volume_id: volume.id.clone(),
            volume_name: volume.name.clone(),
            label: label.into(),
            owner: owner.into(),
            bytes: volume.bytes,
            labels,
            ..Snapshot::default()
        }
    }
}

fn is_meant(volume: &Volume, by: Option<&VolumeRef>) -> bool {
    match by.and_then(|by| by.by.as_ref()) {
        Some(By::Id(id)) => volume.id == *id,
        Some(By::Name(name)) => volume.name == *name,
        None => false,
    }
}

#[tonic::async_trait]
impl DriverControl for FakeDriver {
    async fn get_volume(&self, request: Request<GetVolumeRequest>) -> Answer<GetVolumeResponse> {
        let by = request.into_inner().volume;
        let volume =
            self.state.lock().unwrap().volumes.iter().find(|volume| is_meant(volume, by.as_ref())).cloned();
        let volume = volume.ok_or_else(|| Status::not_found("no such volume"))?;
        Ok(Response::new(GetVolumeResponse { volume: Some(volume) }))
    }

    async fn list_volumes(&self, request: Request<ListVolumesRequest>) -> Answer<ListVolumesResponse> {
        let labels = request.into_inner().labels;
        let mut volumes = self.state.lock().unwrap().volumes.clone();
        volumes.retain(|volume| labels.iter().all(|(key, value)| volume.labels.get(key) == Some(value)));
        Ok(Response::new(ListVolumesResponse { volumes }))
    }

    async fn list_snapshots(&self, request: Request<ListSnapshotsRequest>) -> Answer<ListSnapshotsResponse> {
        let by = request.into_inner().volume;
        let state = self.state.lock().unwrap();
        let volume =
            state.volumes.iter().find(|volume| is_meant(volume, by.as_ref())).map(|volume| volume.id.clone());
        let mut snapshots = state.snapshots.clone();
        snapshots.retain(|snapshot| by.is_none() || Some(&snapshot.volume_id) == volume.as_ref());
        Ok(Response::new(ListSnapshotsResponse { snapshots }))
    }

    async fn create_snapshot(
        &self,
        request: Request<CreateSnapshotRequest>,
    ) -> Answer<CreateSnapshotResponse> {
        let request = request.into_inner();
        let state = &mut *self.state.lock().unwrap();
        let volume = state.volumes.iter().find(|volume| is_meant(volume, request.volume.as_ref())).unwrap();
        let snapshot = self.cut(volume, &request.label, &request.owner, request.labels);
        state.snapshots.push(snapshot.clone());
        Ok(Response::new(CreateSnapshotResponse { snapshot: Some(snapshot), existed: false }))
    }

    async fn begin_restore(&self, request: Request<BeginRestoreRequest>) -> Answer<BeginRestoreResponse> {
        let request = request.into_inner();
        let state = &mut *self.state.lock().unwrap();
        let answer = |id: &str, resumed| {
            let path = self.image(id).display().to_string();
            Ok(Response::new(BeginRestoreResponse { volume_id: id.into(), path, resumed }))
        };
        if let Some(known) = state.volumes.iter().find(|volume| volume.name == request.name) {
            let same = known.state() == VolumeState::Hydrating
                && known.made_from == request.from_snapshot_id
                && known.bytes == request.bytes;
            return if same {
                answer(&known.id, true)
            } else {
                Err(Status::already_exists("it is another one"))
            };
        }
        let id = VolumeId::random(&*self.entropy).to_string();
        if !request.from_snapshot_id.is_empty() {
            std::fs::copy(self.image(&request.from_snapshot_id), self.image(&id))
                .map_err(|_| Status::not_found("no such snapshot"))?;
        }
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.image(&id))
            .unwrap();
        file.set_len(request.bytes).unwrap();
        state.volumes.push(Volume {
            id: id.clone(),
            name: request.name.clone(),
            fs: request.fs,
            bytes: request.bytes,
            labels: request.labels,
            state: VolumeState::Hydrating.into(),
            made_from: request.from_snapshot_id,
            ..Volume::default()
        });
        answer(&id, false)
    }

    async fn finish_restore(&self, request: Request<FinishRestoreRequest>) -> Answer<FinishRestoreResponse> {
        let id = request.into_inner().volume_id;
        let state = &mut *self.state.lock().unwrap();
        let volume = state.volumes.iter_mut().find(|volume| volume.id == id).unwrap();
        volume.set_state(VolumeState::Ready);
        Ok(Response::new(FinishRestoreResponse { volume: Some(volume.clone()) }))
    }

    async fn discard_restore(
        &self,
        request: Request<DiscardRestoreRequest>,
    ) -> Answer<DiscardRestoreResponse> {
        let id = request.into_inner().volume_id;
        self.state.lock().unwrap().volumes.retain(|volume| volume.id != id);
        Ok(Response::new(DiscardRestoreResponse {}))
    }

    async fn exchange_content(
        &self,
        request: Request<ExchangeContentRequest>,
    ) -> Answer<ExchangeContentResponse> {
        let request = request.into_inner();
        let state = &mut *self.state.lock().unwrap();
        let answer = |safety| {
            Ok(Response::new(ExchangeContentResponse { safety: Some(safety), ..Default::default() }))
        };
        if let Some((_, staged, safety)) = state.exchanges.iter().find(|(run, ..)| *run == request.run) {
            let same = *staged == request.staged_volume_id;
            return if same { answer(safety.clone()) } else { Err(Status::already_exists("other volumes")) };
        }
        let volume = state.volumes.iter().find(|volume| is_meant(volume, request.volume.as_ref())).unwrap();
        if !state.volumes.iter().any(|volume| volume.id == request.staged_volume_id) {
            return Err(Status::not_found("no such staged volume"));
        }
        let safety = self.cut(volume, &request.safety_label, "restore", request.safety_labels);
        std::fs::rename(self.image(&request.staged_volume_id), self.image(&volume.id)).unwrap();
        state.volumes.retain(|volume| volume.id != request.staged_volume_id);
        state.snapshots.push(safety.clone());
        state.exchanges.push((request.run, request.staged_volume_id, safety.clone()));
        if std::mem::take(&mut state.lose_next_exchange) {
            return Err(Status::unavailable("the answer is lost"));
        }
        answer(safety)
    }

    async fn get_driver(&self, _: Request<GetDriverRequest>) -> Answer<GetDriverResponse> {
        Err(not_here())
    }
    async fn create_volume(&self, _: Request<CreateVolumeRequest>) -> Answer<CreateVolumeResponse> {
        Err(not_here())
    }
    async fn compare_volume(&self, _: Request<CompareVolumeRequest>) -> Answer<CompareVolumeResponse> {
        Err(not_here())
    }
    async fn open_snapshot(&self, _: Request<OpenSnapshotRequest>) -> Answer<OpenSnapshotResponse> {
        Err(not_here())
    }
    async fn mount(&self, _: Request<MountRequest>) -> Answer<MountResponse> {
        Err(not_here())
    }
    async fn unmount(&self, _: Request<UnmountRequest>) -> Answer<UnmountResponse> {
        Err(not_here())
    }
    async fn create_group(&self, _: Request<CreateGroupRequest>) -> Answer<CreateGroupResponse> {
        Err(not_here())
    }
    async fn list_groups(&self, _: Request<ListGroupsRequest>) -> Answer<ListGroupsResponse> {
        Err(not_here())
    }
    async fn delete_group(&self, _: Request<DeleteGroupRequest>) -> Answer<DeleteGroupResponse> {
        Err(not_here())
    }
    async fn examine(&self, _: Request<ExamineRequest>) -> Answer<ExamineResponse> {
        Err(not_here())
    }
    async fn repair(&self, _: Request<RepairRequest>) -> Answer<RepairResponse> {
        Err(not_here())
    }
}

fn not_here() -> Status {
    Status::unimplemented("restore does not ask for this")
}

macro_rules! not_asked_for {
    ($($name:ident: $request:ident => $response:ident),* $(,)?) => {
        #[tonic::async_trait]
        impl Controller for FakeDriver {
            async fn delete_snapshot(&self, request: Request<csi::DeleteSnapshotRequest>) -> Answer<csi::DeleteSnapshotResponse> {
                let id = request.into_inner().snapshot_id;
                self.state.lock().unwrap().snapshots.retain(|snapshot| snapshot.id != id);
                let _ = std::fs::remove_file(self.image(&id));
                Ok(Response::new(csi::DeleteSnapshotResponse {}))
            }
            $(async fn $name(&self, _: Request<csi::$request>) -> Answer<csi::$response> {
                Err(not_here())
            })*
        }
    };
}

not_asked_for! {
    create_volume: CreateVolumeRequest => CreateVolumeResponse,
    delete_volume: DeleteVolumeRequest => DeleteVolumeResponse,
    controller_publish_volume: ControllerPublishVolumeRequest => ControllerPublishVolumeResponse,
    controller_unpublish_volume: ControllerUnpublishVolumeRequest => ControllerUnpublishVolumeResponse,
    validate_volume_capabilities: ValidateVolumeCapabilitiesRequest => ValidateVolumeCapabilitiesResponse,
    list_volumes: ListVolumesRequest => ListVolumesResponse,
    get_capacity: GetCapacityRequest => GetCapacityResponse,
    controller_get_capabilities: ControllerGetCapabilitiesRequest => ControllerGetCapabilitiesResponse,
    create_snapshot: CreateSnapshotRequest => CreateSnapshotResponse,
    list_snapshots: ListSnapshotsRequest => ListSnapshotsResponse,
    get_snapshot: GetSnapshotRequest => GetSnapshotResponse,
    controller_expand_volume: ControllerExpandVolumeRequest => ControllerExpandVolumeResponse,
    controller_get_volume: ControllerGetVolumeRequest => ControllerGetVolumeResponse,
    controller_modify_volume: ControllerModifyVolumeRequest => ControllerModifyVolumeResponse,
}
