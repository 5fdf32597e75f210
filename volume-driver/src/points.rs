//! Recovery points, as far as the driver knows them: what it asks the backup agent.
//!
//! The agent has the key of the repository; the driver has not, and never will. So whatever has to do with recovery points is asked on the
//! agent's socket, by ids that the driver chose itself, and can be asked again after either of the two was restarted. Every call is
//! bounded in time: an agent that hangs must not hang an orchestrator.

mod courier;
mod error;
mod understand;

use std::future::Future;
use std::time::Duration;

use strongroom_model::{RecoveryPointId, RepositoryId, VolumeId};
use strongroom_proto::control::{
    BackUpSnapshotRequest, CancelRestoreRequest, FindPointRequest, ForgetPointRequest, GetPointRequest,
    ListPointsRequest, RestoreVolumeRequest,
};
use strongroom_proto::{AgentClients, CallError, EndpointError};
use tonic::{Response, Status};

use crate::csi::answer::moment;
use crate::nouns::Volume;
use crate::registry::Delivery;

pub(crate) use courier::Courier;
pub use error::PointsError;
pub(crate) use understand::PointInfo;

/// How long the agent may take to answer. It answers from memory, or after a read of the journal of the repository.
const PATIENCE: Duration = Duration::from_secs(20);

/// The way to recovery points; with no agent there is none. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Points {
    agent: Option<Agent>,
}

#[derive(Debug, Clone)]
struct Agent {
    endpoint: String,
    clients: AgentClients,
}

/// How far something is that the agent does in the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// So far, in percent.
    Running(u8),
    /// It is done.
    Done,
}

/// A snapshot that became a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The repository for which the agent wants to keep the snapshot, as the base of its next run.
    pub(crate) repository: Option<RepositoryId>,
}

/// So many points are asked for at once.
const PAGE: u32 = 1000;

impl Points {
    /// Recovery points by way of the agent at `endpoint`, whether it runs yet or not. Must be called within a runtime.
    ///
    /// # Errors
    /// When the text is no endpoint.
    pub fn of_agent(endpoint: &str) -> Result<Self, EndpointError> {
        let clients = AgentClients::at(endpoint)?;
        Ok(Self { agent: Some(Agent { endpoint: endpoint.to_owned(), clients }) })
    }

    async fn ask<T>(
        &self,
        call: impl AsyncFnOnce(AgentClients) -> Result<Response<T>, Status> + Send,
    ) -> Result<T, PointsError> {
        let agent = self.agent.as_ref().ok_or(PointsError::NoAgent)?;
        within(agent, call(agent.clients.clone())).await
    }

    /// The point that is meant by an id or by words.
    pub(crate) async fn find(&self, which: &str) -> Result<PointInfo, PointsError> {
        let request = FindPointRequest { which: which.to_owned() };
        let answer = self.ask(async |mut agent| agent.restore.find_point(request).await).await?;
        understand::point(answer.point)
    }

    /// Lets the agent fill a volume with a point, and says how far it is.
    pub(crate) async fn restore(
        &self,
        volume: &Volume,
        point: RecoveryPointId,
    ) -> Result<Progress, PointsError> {
        let request = RestoreVolumeRequest {
            volume_id: volume.id.to_string(),
            volume_name: volume.name.to_string(),
            point_id: point.to_string(),
            bytes: volume.bytes,
            fs: understand::kind_out(volume.kind).into(),
        };
        let answer = self.ask(async |mut agent| agent.restore.restore_volume(request).await).await?;
        Ok(understand::progress(answer.done, answer.percent))
    }

    /// Whether an agent was named at all.
    pub(crate) const fn is_configured(&self) -> bool {
        self.agent.is_some()
    }

    /// The point with this id. [`PointsError::Agent`] with NOT_FOUND: there is none.
    pub(crate) async fn get(&self, point: RecoveryPointId) -> Result<PointInfo, PointsError> {
        let request = GetPointRequest { point_id: point.to_string() };
        let answer = self.ask(async |mut agent| agent.backup.get_point(request).await).await?;
        understand::point(answer.point)
    }

    /// Points behind `after`, of one volume or of all, in order of their ids; at least `enough` of them if there are so many.
    pub(crate) async fn list(
        &self,
        mut after: Option<RecoveryPointId>,
        volume: Option<VolumeId>,
        enough: usize,
    ) -> Result<Vec<PointInfo>, PointsError> {
        let mut all = Vec::new();
        loop {
            let request = ListPointsRequest {
                after_id: after.map(|id| id.to_string()).unwrap_or_default(),
                limit: u32::try_from(enough.saturating_sub(all.len())).unwrap_or(PAGE).min(PAGE),
                volume_id: volume.map(|id| id.to_string()).unwrap_or_default(),
            };
            let answer = self.ask(async |mut agent| agent.backup.list_points(request).await).await?;
            for point in answer.points {
                all.push(understand::point(Some(point))?);
            }
            let last = all.last().map(|point: &PointInfo| point.id);
            // A page that brings nothing new is the last, whatever it says.
            if !answer.more || last == after || all.len() >= enough {
                return Ok(all);
            }
            after = last;
        }
    }

    /// Lets the agent make a point of a snapshot; `None`: it is at it.
    pub(crate) async fn back_up(&self, delivery: &Delivery) -> Result<Option<Kept>, PointsError> {
        let request = BackUpSnapshotRequest {
            point_id: delivery.point.to_string(),
            snapshot_id: delivery.snapshot.to_string(),
            volume_id: delivery.volume.to_string(),
            volume_name: delivery.volume_name.to_string(),
            fs: understand::kind_out(delivery.kind).into(),
            taken_at: Some(moment(delivery.taken_at)),
            labels: delivery.labels.clone().into_iter().collect(),
        };
        let answer = self.ask(async |mut agent| agent.backup.back_up_snapshot(request).await).await?;
        if !answer.done {
            return Ok(None);
        }
        let repository = match answer.repository_id.as_str() {
            "" => None,
            id => Some(id.parse().map_err(understand::nonsense)?),
        };
        Ok(Some(Kept { repository }))
    }

    /// Lets the agent forget a point, and end the backup that is to become it. Unknown: fine.
    pub(crate) async fn forget(&self, point: RecoveryPointId) -> Result<(), PointsError> {
        let request = ForgetPointRequest { point_id: point.to_string() };
        self.ask(async |mut agent| agent.backup.forget_point(request).await).await.map(drop)
    }

    /// Lets the agent stop filling a volume.
    pub(crate) async fn cancel_restore(&self, volume: VolumeId) -> Result<(), PointsError> {
        let request = CancelRestoreRequest { volume_id: volume.to_string() };
        self.ask(async |mut agent| agent.restore.cancel_restore(request).await).await.map(drop)
    }
}

/// One call to the agent, within bounds. Whoever is not reached is told apart from whoever refuses.
async fn within<T>(
    agent: &Agent,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, PointsError> {
    let answer = tokio::time::timeout(PATIENCE, call).await;
    let status = match answer {
        Ok(Ok(answer)) => return Ok(answer.into_inner()),
        Ok(Err(status)) => status,
        Err(_) => Status::deadline_exceeded(format!("no answer within {} seconds", PATIENCE.as_secs())),
    };
    let error = CallError::from(status);
    if error.is_ours() {
        Err(PointsError::Agent(error))
    } else {
        Err(PointsError::Unreachable { endpoint: agent.endpoint.clone(), cause: error })
    }
}
