//! Snapshots of both kinds: those of this driver, and recovery points of the agent's repository.
//!
//! Which kind is made is a parameter (`type`); afterwards the id says it. A snapshot of type backup has the id of its recovery point from
//! the first answer on, and is ready when the point is in the repository. Lists show the snapshots of the driver first, then points, each
//! in the order of ids, so that a list can be told page by page while it changes.

use std::collections::BTreeMap;

use strongroom_model::{RecoveryPointId, VolumeId};
use strongroom_proto::csi::{
    self, CreateSnapshotRequest, CreateSnapshotResponse, GetSnapshotRequest, GetSnapshotResponse,
    ListSnapshotsRequest, ListSnapshotsResponse, list_snapshots_response,
};
use tonic::{Code, Status};

use super::super::handle::SnapshotHandle;
use super::super::page::page;
use super::super::status::RequestError;
use super::super::{Csi, answer, door};
use crate::driver::deliver::OWNER;
use crate::points::PointInfo;
use crate::registry::{Delivery, DeliveryStep};
use crate::{CoreError, CreateSnapshot, LabelScope, PointsError, SnapshotFilter};

/// CSI allows this many bytes for an id.
const ID_BYTES: usize = 128;

impl Csi {
    pub(super) async fn snap(
        &self,
        request: CreateSnapshotRequest,
    ) -> Result<CreateSnapshotResponse, Status> {
        let name = door::snapshot_name(&request.name)?;
        door::required("source_volume_id", &request.source_volume_id)?;
        door::map("secrets", &request.secrets)?;
        let parameters = door::parameters(&request.parameters)?;
        if parameters.filesystem.is_some() || parameters.from_point.is_some() {
            let reason =
                "a snapshot holds what its volume holds; there are only type and label.KEY".to_owned();
            return Err(RequestError::Wrong { field: "parameters", reason }.into());
        }
        let volume = door::known_volume("source_volume_id", &request.source_volume_id)?;
        if parameters.backup == Some(true) {
            let delivery = self.courier.take(volume, name, parameters.labels).await?;
            return Ok(CreateSnapshotResponse { snapshot: Some(delivery_out(&delivery)) });
        }
        if self.volumes.delivery_named(name.clone()).await?.is_some() {
            let difference = "it is of type backup".to_owned();
            return Err(CoreError::Conflict { subject: format!("snapshot {name:?}"), difference }.into());
        }
        let request = CreateSnapshot {
            volume,
            label: name.clone(),
            scope: LabelScope::Driver,
            owner: "csi".to_owned(),
            labels: parameters.labels,
        };
        let outcome = self.volumes.create_snapshot(request).await?;
        let (snapshot, _) = answer::agreed(outcome, || format!("snapshot {name:?}"))?;
        Ok(CreateSnapshotResponse { snapshot: Some(answer::snapshot(&snapshot)) })
    }

    pub(super) async fn remove_snapshot(&self, id: &str) -> Result<(), Status> {
        match door::handle(id)? {
            // What was never ours is as gone as what was deleted before.
            None => Ok(()),
            Some(SnapshotHandle::Local(id)) => Ok(self.volumes.delete_snapshot(id).await?),
            Some(SnapshotHandle::Point(id)) => Ok(self.courier.delete(id).await?),
        }
    }

    pub(super) async fn one_snapshot(
        &self,
        request: GetSnapshotRequest,
    ) -> Result<GetSnapshotResponse, Status> {
        door::map("secrets", &request.secrets)?;
        let snapshot = match door::known_handle("snapshot_id", &request.snapshot_id)? {
            SnapshotHandle::Local(id) => answer::snapshot(&self.volumes.snapshot(id).await?),
            SnapshotHandle::Point(id) => self.point(id).await?,
        };
        Ok(GetSnapshotResponse { snapshot: Some(snapshot) })
    }

    async fn point(&self, id: RecoveryPointId) -> Result<csi::Snapshot, Status> {
        match self.volumes.delivery(id).await? {
            Some(delivery) if delivery.step == DeliveryStep::Waiting => Ok(delivery_out(&delivery)),
            Some(delivery) if delivery.step == DeliveryStep::Cancelled => {
                Err(RequestError::Unknown { subject: delivery.subject() }.into())
            }
            _ => Ok(point_out(&self.points.get(id).await?)),
        }
    }

    pub(super) async fn list_of_snapshots(
        &self,
        request: ListSnapshotsRequest,
    ) -> Result<ListSnapshotsResponse, Status> {
        let most = door::count("max_entries", request.max_entries)?;
        door::optional("starting_token", &request.starting_token)?;
        door::map("secrets", &request.secrets)?;
        let empty = ListSnapshotsResponse { entries: Vec::new(), next_token: String::new() };
        let only = match request.snapshot_id.as_str() {
            "" => None,
            id => match door::handle(id)? {
                None => return Ok(empty),
                known => known,
            },
        };
        let volume = match request.source_volume_id.as_str() {
            "" => None,
            id => match door::volume_id(id)? {
                None => return Ok(empty),
                known => known,
            },
        };
        let token = request.starting_token.as_str();
        let mut found: BTreeMap<SnapshotHandle, csi::Snapshot> = BTreeMap::new();
        if !matches!(only, Some(SnapshotHandle::Point(_))) {
            let id = match only {
                Some(SnapshotHandle::Local(id)) => Some(id),
                _ => None,
            };
            let filter = SnapshotFilter { id, volume, ..SnapshotFilter::default() };
            let all = self.volumes.snapshots(filter).await?;
            let own = all.iter().filter(|snapshot| snapshot.owner != OWNER);
            found.extend(own.map(|one| (SnapshotHandle::Local(one.id), answer::snapshot(one))));
        }
        match only {
            Some(SnapshotHandle::Local(_)) => {}
            Some(SnapshotHandle::Point(id)) => {
                found
                    .extend(self.point_if_any(id, volume).await?.map(|one| (SnapshotHandle::Point(id), one)));
            }
            None => {
                let after = token.parse::<SnapshotHandle>().ok();
                let before = found.keys().filter(|handle| after.is_none_or(|after| **handle > after)).count();
                // Points come behind all others: they are asked for only when the page has room for one, or to know of a next.
                if most == 0 || before <= most {
                    let enough = if most == 0 { usize::MAX } else { most + 1 - before };
                    found.extend(self.points_behind(after, volume, enough).await?);
                }
            }
        }
        let (found, next_token) =
            page(found.into_iter().collect(), |(handle, _): &(SnapshotHandle, _)| *handle, most, token)?;
        let entries = found
            .into_iter()
            .map(|(_, snapshot)| list_snapshots_response::Entry { snapshot: Some(snapshot) })
            .collect();
        Ok(ListSnapshotsResponse { entries, next_token })
    }

    async fn point_if_any(
        &self,
        id: RecoveryPointId,
        volume: Option<VolumeId>,
    ) -> Result<Option<csi::Snapshot>, Status> {
        match self.point(id).await {
            Ok(point) => {
                Ok(volume.is_none_or(|wanted| point.source_volume_id == wanted.to_string()).then_some(point))
            }
            Err(status) if status.code() == Code::NotFound => Ok(None),
            // Without an agent there are no points.
            Err(_) if !self.points.is_configured() => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Points behind a place in the list, those that are still to become points among them.
    async fn points_behind(
        &self,
        after: Option<SnapshotHandle>,
        volume: Option<VolumeId>,
        enough: usize,
    ) -> Result<BTreeMap<SnapshotHandle, csi::Snapshot>, PointsError> {
        let mut found = BTreeMap::new();
        if !self.points.is_configured() {
            return Ok(found);
        }
        let deliveries = self.volumes.deliveries().await?;
        let of_volume = |one: &&Delivery| volume.is_none_or(|volume| volume == one.volume);
        for waiting in deliveries.iter().filter(|one| one.step == DeliveryStep::Waiting).filter(of_volume) {
            found.insert(SnapshotHandle::Point(waiting.point), delivery_out(waiting));
        }
        let after = match after {
            Some(SnapshotHandle::Point(id)) => Some(id),
            Some(SnapshotHandle::Local(_)) | None => None,
        };
        for point in self.points.list(after, volume, enough).await? {
            found.insert(SnapshotHandle::Point(point.id), point_out(&point));
        }
        for cancelled in deliveries.iter().filter(|one| one.step == DeliveryStep::Cancelled) {
            found.remove(&SnapshotHandle::Point(cancelled.point));
        }
        Ok(found)
    }
}

fn delivery_out(delivery: &Delivery) -> csi::Snapshot {
    csi::Snapshot {
        size_bytes: answer::bytes(delivery.bytes),
        snapshot_id: SnapshotHandle::Point(delivery.point).to_string(),
        source_volume_id: delivery.volume.to_string(),
        creation_time: Some(answer::moment(delivery.taken_at)),
        ready_to_use: delivery.step == DeliveryStep::Published,
        group_snapshot_id: String::new(),
    }
}

fn point_out(point: &PointInfo) -> csi::Snapshot {
    // CSI wants a volume; what was taken of an image names that.
    let mut source = point.volume.map_or_else(|| format!("image:{}", point.volume_name), |id| id.to_string());
    if source.len() > ID_BYTES {
        source.truncate((0..=ID_BYTES).rev().find(|at| source.is_char_boundary(*at)).unwrap_or(0));
    }
    csi::Snapshot {
        size_bytes: answer::bytes(point.bytes),
        snapshot_id: SnapshotHandle::Point(point.id).to_string(),
        source_volume_id: source,
        creation_time: Some(answer::moment(point.taken_at)),
        ready_to_use: true,
        group_snapshot_id: String::new(),
    }
}
