//! The volume driver, as far as restore needs it: a few calls with typed answers.

use std::collections::BTreeMap;

use strongroom_console::Failed;
use strongroom_model::{RunId, SnapshotId, VolumeName};
use strongroom_proto::control::{
    BeginRestoreRequest, BeginRestoreResponse, CreateSnapshotRequest, DiscardRestoreRequest,
    ExchangeContentRequest, ExchangeContentResponse, Filesystem, FinishRestoreRequest, GetVolumeRequest,
    ListSnapshotsRequest, ListVolumesRequest, MountRequest, Snapshot, UnmountRequest, Volume, VolumeRef,
    VolumeState, volume_ref::By,
};
use strongroom_proto::{CallError, Clients, csi, while_busy};

use crate::refusal::Refusal;

/// The label that carries the run, on staged volumes and on safety snapshots.
pub(crate) const RUN: &str = "strongroom.restore.run";
/// The label that carries the point.
pub(crate) const POINT: &str = "strongroom.restore.point";
/// The label that carries the driver's id of the volume that is restored in place.
pub(crate) const RESTORES: &str = "strongroom.restore.volume";
/// The label that carries what a staged volume began with.
pub(crate) const BASE: &str = "strongroom.restore.base";
/// The label that carries the run that an undo takes back.
pub(crate) const UNDOES: &str = "strongroom.restore.undoes";
/// The label of a volume that carries the id of the volume whose content it got: its identity goes on.
pub(crate) const IDENTITY: &str = "strongroom.restore.identity";
/// Who makes and removes the snapshots of restores.
pub(crate) const OWNER: &str = "restore";

pub(crate) type Labels = BTreeMap<String, String>;

/// A connected driver.
#[derive(Debug, Clone)]
pub(crate) struct Driver {
    clients: Clients,
}

impl Driver {
    pub(crate) async fn connect(endpoint: Option<&str>) -> Result<Self, Failed> {
        let endpoint = endpoint.filter(|endpoint| !endpoint.is_empty()).ok_or(Refusal::NoDriver)?;
        Ok(Self { clients: strongroom_proto::connect(endpoint).await? })
    }

    /// The volume of that name, if there is one.
    pub(crate) async fn volume_named(&self, name: &VolumeName) -> Result<Option<Volume>, CallError> {
        self.volume(By::Name(name.as_str().into())).await
    }

    /// The volume with that id, if there is one.
    pub(crate) async fn volume_with_id(&self, id: &str) -> Result<Option<Volume>, CallError> {
        self.volume(By::Id(id.into())).await
    }

    async fn volume(&self, by: By) -> Result<Option<Volume>, CallError> {
        let request = GetVolumeRequest { volume: Some(VolumeRef { by: Some(by) }) };
        match self.clients.driver.clone().get_volume(request).await {
            Ok(answer) => Ok(answer.into_inner().volume),
            Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
            Err(status) => Err(status.into()),
        }
    }

    /// The volumes that carry all of these labels.
    pub(crate) async fn volumes(&self, labels: &[(&str, &str)]) -> Result<Vec<Volume>, CallError> {
        let labels = labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let answer = self.clients.driver.clone().list_volumes(ListVolumesRequest { labels }).await?;
        Ok(answer.into_inner().volumes)
    }

    /// Snapshots in order of their cut, of one volume or of all.
    pub(crate) async fn snapshots(&self, volume: Option<&str>) -> Result<Vec<Snapshot>, CallError> {
        let volume = volume.map(|id| VolumeRef { by: Some(By::Id(id.into())) });
        let request = ListSnapshotsRequest { volume, owner: String::new() };
        Ok(self.clients.driver.clone().list_snapshots(request).await?.into_inner().snapshots)
    }

    pub(crate) async fn snapshot(
        &self,
        volume: &str,
        label: &str,
        labels: Labels,
    ) -> Result<Snapshot, Failed> {
        let request = CreateSnapshotRequest {
            volume: Some(VolumeRef { by: Some(By::Id(volume.into())) }),
            label: label.into(),
            owner: OWNER.into(),
            labels: labels.into_iter().collect(),
        };
        let client = &self.clients.driver;
        let answer = while_busy(client, request, |mut client, request| async move {
            client.create_snapshot(request).await
        })
        .await?;
        Ok(answer.snapshot.ok_or_else(|| Refusal::DriverAnswer { what: "no snapshot".into() })?)
    }

    pub(crate) async fn delete_snapshot(&self, id: &str) -> Result<(), CallError> {
        let request = csi::DeleteSnapshotRequest { snapshot_id: id.into(), ..Default::default() };
        let client = &self.clients.controller;
        while_busy(
            client,
            request,
            |mut client, request| async move { client.delete_snapshot(request).await },
        )
        .await?;
        Ok(())
    }

    /// Mounts a volume at a folder.
    pub(crate) async fn mount(&self, volume: &VolumeName, path: &std::path::Path) -> Result<(), CallError> {
        let request = MountRequest {
            volume: Some(VolumeRef { by: Some(By::Name(volume.as_str().into())) }),
            path: path.display().to_string(),
            mount_flags: Vec::new(),
        };
        let client = &self.clients.driver;
        while_busy(client, request, |mut client, request| async move { client.mount(request).await }).await?;
        Ok(())
    }

    /// Undoes [`Self::mount`].
    pub(crate) async fn unmount(&self, volume: &VolumeName, path: &std::path::Path) -> Result<(), CallError> {
        let request = UnmountRequest {
            volume: Some(VolumeRef { by: Some(By::Name(volume.as_str().into())) }),
            path: path.display().to_string(),
        };
        let client = &self.clients.driver;
        while_busy(client, request, |mut client, request| async move { client.unmount(request).await })
            .await?;
        Ok(())
    }

    /// Removes a volume, however far it is. One that is not there is removed.
    pub(crate) async fn remove(&self, volume: &VolumeName) -> Result<(), CallError> {
        let Some(found) = self.volume_named(volume).await? else { return Ok(()) };
        if found.state() == VolumeState::Hydrating {
            return self.discard_restore(&found.id).await;
        }
        let request = csi::DeleteVolumeRequest { volume_id: found.id, ..Default::default() };
        let client = &self.clients.controller;
        while_busy(client, request, |mut client, request| async move { client.delete_volume(request).await })
            .await?;
        Ok(())
    }

    /// Removes a volume that was nobody's but ours, and the snapshots that we made of it.
    pub(crate) async fn remove_with_snapshots(&self, volume: &VolumeName) -> Result<(), CallError> {
        self.remove(volume).await?;
        for snapshot in self.snapshots(None).await? {
            if snapshot.owner == OWNER && snapshot.volume_name == volume.as_str() {
                self.delete_snapshot(&snapshot.id).await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn begin_restore(
        &self,
        request: BeginRestoreRequest,
    ) -> Result<BeginRestoreResponse, CallError> {
        let client = &self.clients.driver;
        while_busy(client, request, |mut client, request| async move { client.begin_restore(request).await })
            .await
    }

    pub(crate) async fn finish_restore(&self, volume: &str) -> Result<(), CallError> {
        let request = FinishRestoreRequest { volume_id: volume.into() };
        let client = &self.clients.driver;
        while_busy(
            client,
            request,
            |mut client, request| async move { client.finish_restore(request).await },
        )
        .await?;
        Ok(())
    }

    pub(crate) async fn discard_restore(&self, volume: &str) -> Result<(), CallError> {
        let request = DiscardRestoreRequest { volume_id: volume.into() };
        let client = &self.clients.driver;
        while_busy(
            client,
            request,
            |mut client, request| async move { client.discard_restore(request).await },
        )
        .await?;
        Ok(())
    }

    /// Deletes a volume. One that is not known counts as deleted.
    pub(crate) async fn delete_volume(&self, id: &str) -> Result<(), CallError> {
        let request = csi::DeleteVolumeRequest { volume_id: id.into(), ..Default::default() };
        let client = &self.clients.controller;
        while_busy(client, request, |mut client, request| async move { client.delete_volume(request).await })
            .await?;
        Ok(())
    }

    pub(crate) async fn exchange(
        &self,
        volume: &str,
        staged: &str,
        run: RunId,
        labels: Labels,
        remount: bool,
    ) -> Result<ExchangeContentResponse, CallError> {
        let request = ExchangeContentRequest {
            volume: Some(VolumeRef { by: Some(By::Id(volume.into())) }),
            staged_volume_id: staged.into(),
            safety_label: safety_label(run),
            safety_labels: labels.into_iter().collect(),
            remount,
            run: run.to_string(),
        };
        let client = &self.clients.driver;
        while_busy(
            client,
            request,
            |mut client, request| async move { client.exchange_content(request).await },
        )
        .await
    }
}

/// What the snapshot of the content before a run is called.
pub(crate) fn safety_label(run: RunId) -> String {
    format!("before-{run}")
}

/// The word for what a volume holds.
pub(crate) fn fs_word(fs: i32) -> &'static str {
    match Filesystem::try_from(fs) {
        Ok(Filesystem::Ext4) => "ext4",
        Ok(Filesystem::Xfs) => "xfs",
        Ok(Filesystem::Btrfs) => "btrfs",
        _ => "block",
    }
}

/// What a word stands for; anything that is no filesystem of the driver's is bytes to us.
pub(crate) fn fs_of_word(word: &str) -> Filesystem {
    match word {
        "ext4" => Filesystem::Ext4,
        "xfs" => Filesystem::Xfs,
        "btrfs" => Filesystem::Btrfs,
        _ => Filesystem::Block,
    }
}

/// A snapshot's id, parsed.
pub(crate) fn snapshot_id(snapshot: &Snapshot) -> Option<SnapshotId> {
    snapshot.id.parse().ok()
}
