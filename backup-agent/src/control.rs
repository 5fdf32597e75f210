//! Recovery points that the driver asks for: the service BackupControl on the agent's socket.
//!
//! The driver cuts a snapshot at once and chooses the id of the point that it shall become; then it asks here, again and again, until the
//! point is in the repository. Whatever is asked is decided by what the repository says: a point that is there is done, whoever made it
//! and before whichever restart. An error is told once; asked again, it is tried again, and what was stored is not sent again.
//!
//! Points made so are held under the name [`HOLD`]: a snapshot object that still exists must not lose its content to the retention of a
//! policy. Deleting the snapshot takes the hold off.

mod jobs;
mod refused;
mod words;

use std::sync::Arc;
use std::time::Duration;

use strongroom_console::Progress;
use strongroom_model::{Failure, RecoveryPointId, VolumeId, chain};
use strongroom_proto::control::backup_control_server::{BackupControl, BackupControlServer};
use strongroom_proto::control::{
    BackUpSnapshotRequest, BackUpSnapshotResponse, ForgetPointRequest, ForgetPointResponse, GetPointRequest,
    GetPointResponse, ListPointsRequest, ListPointsResponse,
};
use strongroom_proto::{code_for, status};
use strongroom_repository::{Fold, Point, Source};
use tokio::sync::{RwLock, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::daemon::retain_volume;
use crate::driver::Driver;
use crate::policy::Policies;
use crate::run::{Agent, BackupError, Cut, Target, back_up};

use jobs::{Jobs, State};
use refused::Refused;
use words::{parsed, point_out};

/// The name of the hold on points that are snapshots of an orchestrator.
pub const HOLD: &str = "csi";

/// So many points in one answer; some hundred bytes each.
const PAGE: usize = 1000;

/// How soon a volume is tried again that somebody else is backing up.
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// What the backups of the schedule and those that are asked for share, so that together they keep to the settings.
#[derive(Debug, Clone)]
pub struct Places {
    /// One for each backup that may run.
    pub slots: Arc<Semaphore>,
    /// Read by backups, written by a sweep, where one agent alone may write.
    pub house: Arc<RwLock<()>>,
}

impl Places {
    /// So many backups side by side.
    #[must_use]
    pub fn new(jobs: u32) -> Self {
        let jobs = usize::try_from(jobs).unwrap_or(1);
        Self { slots: Arc::new(Semaphore::new(jobs)), house: Arc::default() }
    }
}

/// What the service works with.
#[derive(Debug)]
pub struct Surroundings {
    /// The agent, once the repository is open.
    pub agent: watch::Receiver<Option<Arc<Agent>>>,
    /// The driver's socket.
    pub endpoint: Option<String>,
    /// What is retained of a volume after a backup.
    pub policies: Arc<Policies>,
    /// Shared with the schedule.
    pub places: Places,
    /// When it fires, everything stops; what is stored is kept.
    pub cancel: CancellationToken,
}

/// The service, to be served on the agent's socket.
#[must_use]
pub fn service(surroundings: Surroundings) -> BackupControlServer<impl BackupControl> {
    BackupControlServer::new(Service { surroundings: Arc::new(surroundings), jobs: Jobs::default() })
}

#[derive(Debug)]
struct Service {
    surroundings: Arc<Surroundings>,
    jobs: Jobs,
}

fn told(failure: &dyn Failure) -> Status {
    status(code_for(failure), failure)
}

impl Service {
    fn agent(&self) -> Result<Arc<Agent>, Refused> {
        self.surroundings.agent.borrow().clone().ok_or(Refused::NotOpen)
    }

    async fn fold(&self) -> Result<(Arc<Agent>, Arc<Fold>), Status> {
        let agent = self.agent()?;
        let fold = agent.repository.fold().await.map_err(|error| told(&error))?;
        Ok((agent, fold))
    }

    async fn back_up(&self, cut: Cut) -> Result<BackUpSnapshotResponse, Status> {
        let point = cut.point;
        let running = |percent: u8| {
            Ok(BackUpSnapshotResponse { done: false, percent: percent.into(), repository_id: String::new() })
        };
        match self.jobs.ask(point) {
            State::Running(percent) => return running(percent),
            State::Failed(status) => return Err(status),
            State::Unknown => {}
        }
        let (agent, fold) = self.fold().await?;
        if let Some(there) = fold.points.get(&point) {
            same(there, &cut)?;
            hold(&agent, there).await?;
            let keep = is_newest_of_its_volume(there, &fold);
            let repository_id = if keep { agent.repository.id().to_string() } else { String::new() };
            return Ok(BackUpSnapshotResponse { done: true, percent: 100, repository_id });
        }
        let endpoint = self.surroundings.endpoint.clone().ok_or(Refused::NoDriver)?;
        let (surroundings, progress) = (Arc::clone(&self.surroundings), Progress::silent());
        let shown = progress.clone();
        self.jobs
            .begin(point, progress, &self.surroundings.cancel, |cancel| async move {
                let volume = cut.volume.name.clone();
                let done = deliver(&surroundings, &agent, &endpoint, cut, &shown, &cancel).await;
                if let Err(error) = &done {
                    tracing::error!(
                        %volume, %point, code = error.code(), error = chain(error), advice = error.advice(),
                        "a snapshot could not be backed up"
                    );
                }
                done.map_err(|error| told(&error))
            })
            .map_err(|count| Refused::Crowded { count })?;
        running(0)
    }

    async fn forget(&self, point: RecoveryPointId) -> Result<(), Status> {
        if !self.jobs.cancel(point).await {
            return Err(Refused::StillRunning { point }.into());
        }
        let (agent, fold) = self.fold().await?;
        let Some(there) = fold.points.get(&point) else { return Ok(()) };
        let holds: Vec<&str> = there.held.iter().map(String::as_str).filter(|hold| *hold != HOLD).collect();
        if !holds.is_empty() {
            return Err(Refused::Held { point, holds: holds.join(", ") }.into());
        }
        let forgetting = async {
            if there.held.contains(HOLD) {
                agent.repository.release(point, HOLD).await?;
            }
            agent.repository.forget(point, "deleted as a snapshot").await
        };
        match forgetting.await {
            Ok(()) => {
                tracing::info!(volume = %there.volume, %point, "forgot a point that was deleted as a snapshot");
                Ok(())
            }
            // Somebody else may have been faster, which is as good.
            Err(error) => match agent.repository.fold().await {
                Ok(fold) if !fold.points.contains_key(&point) => Ok(()),
                _ => Err(told(&error)),
            },
        }
    }
}

/// Backs the cut up, as soon as there is a place for it and nobody else is at its volume.
async fn deliver(
    surroundings: &Surroundings,
    agent: &Agent,
    endpoint: &str,
    cut: Cut,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<(), BackupError> {
    let volume = cut.volume.name.clone();
    let driver = Driver::connect(endpoint).await?;
    let target = Target::Cut(driver, Box::new(cut));
    let report = loop {
        let done = {
            let _place = surroundings.places.slots.acquire().await;
            let alone = agent.repository.head().single_writer.is_some();
            let _quiet = if alone { Some(surroundings.places.house.read().await) } else { None };
            back_up(agent, &target, progress, cancel).await
        };
        match done {
            Err(BackupError::Busy { .. }) if !cancel.is_cancelled() => tokio::time::sleep(BUSY_PAUSE).await,
            done => break done?,
        }
    };
    tracing::info!(
        %volume, point = %report.point, mode = ?report.mode, scanned_bytes = report.tally.scanned_bytes,
        sent_bytes = report.sent_bytes, duration_ms = report.duration_ms, "backed up a snapshot"
    );
    if let Err(error) = agent.repository.hold(report.point, HOLD).await {
        // Whoever asks whether it is done puts the hold on first.
        tracing::warn!(point = %report.point, error = chain(&error), "the point is not held yet");
    }
    retain_volume(agent, &surroundings.policies, &volume).await;
    Ok(())
}

/// Whether a point is what the cut was to become.
fn same(there: &Point, cut: &Cut) -> Result<(), Refused> {
    match &there.info.source {
        Source::Driver { volume, snapshot, .. }
            if *volume == cut.volume.id && *snapshot == cut.snapshot.id =>
        {
            Ok(())
        }
        _ => Err(Refused::Taken { point: there.id }),
    }
}

/// Whether the next run compares with this point, if its snapshot still exists then.
fn is_newest_of_its_volume(point: &Point, fold: &Fold) -> bool {
    let volume_of = |point: &Point| match &point.info.source {
        Source::Driver { volume, .. } => Some(*volume),
        Source::Image { .. } => None,
    };
    let newest =
        fold.points_of(&point.volume).into_iter().rev().find(|other| volume_of(other) == volume_of(point));
    newest.is_some_and(|newest| newest.id == point.id)
}

async fn hold(agent: &Agent, point: &Point) -> Result<(), Status> {
    if point.held.contains(HOLD) {
        return Ok(());
    }
    agent.repository.hold(point.id, HOLD).await.map_err(|error| told(&error))
}

#[tonic::async_trait]
impl BackupControl for Service {
    async fn back_up_snapshot(
        &self,
        request: Request<BackUpSnapshotRequest>,
    ) -> Result<Response<BackUpSnapshotResponse>, Status> {
        self.back_up(words::cut(request.into_inner())?).await.map(Response::new)
    }

    async fn list_points(
        &self,
        request: Request<ListPointsRequest>,
    ) -> Result<Response<ListPointsResponse>, Status> {
        let request = request.into_inner();
        let after: Option<RecoveryPointId> = Some(request.after_id.as_str())
            .filter(|id| !id.is_empty())
            .map(|id| parsed("after_id", id))
            .transpose()?;
        let volume: Option<VolumeId> = Some(request.volume_id.as_str())
            .filter(|id| !id.is_empty())
            .map(|id| parsed("volume_id", id))
            .transpose()?;
        let limit = match usize::try_from(request.limit).unwrap_or(PAGE) {
            0 => PAGE,
            limit => limit.min(PAGE),
        };
        let (_, fold) = self.fold().await?;
        let of_volume = |point: &&Point| {
            volume.is_none_or(
                |wanted| matches!(&point.info.source, Source::Driver { volume, .. } if *volume == wanted),
            )
        };
        let mut points: Vec<&Point> = fold
            .points
            .values()
            .filter(|point| after.is_none_or(|after| point.id > after))
            .filter(of_volume)
            .collect();
        points.sort_by_key(|point| point.id);
        let more = points.len() > limit;
        points.truncate(limit);
        Ok(Response::new(ListPointsResponse { points: points.into_iter().map(point_out).collect(), more }))
    }

    async fn get_point(
        &self,
        request: Request<GetPointRequest>,
    ) -> Result<Response<GetPointResponse>, Status> {
        let point: RecoveryPointId = parsed("point_id", &request.into_inner().point_id)?;
        let (_, fold) = self.fold().await?;
        let there = fold.points.get(&point).ok_or(Refused::Unknown { point })?;
        Ok(Response::new(GetPointResponse { point: Some(point_out(there)) }))
    }

    async fn forget_point(
        &self,
        request: Request<ForgetPointRequest>,
    ) -> Result<Response<ForgetPointResponse>, Status> {
        self.forget(parsed("point_id", &request.into_inner().point_id)?).await?;
        Ok(Response::new(ForgetPointResponse {}))
    }
}
