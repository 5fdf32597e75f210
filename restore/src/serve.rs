//! Restores that the driver asks for: the service RestoreControl on the agent's socket.
//!
//! The driver holds a volume ready and asks, again and again, until it is filled. Here every volume has at most one restore, which runs in
//! the background; so many at once, and so many remembered. Nothing is kept across a restart: the volume at the driver, and the journal of
//! what is durable in it, are what the next who asks goes on from. An error is told once; asked again, it is tried again.

mod jobs;
mod reading;

use std::path::PathBuf;
use std::sync::Arc;

use jiff::tz::TimeZone;
use prost_types::Timestamp;
use strongroom_console::{Console, Failed, Output, Progress};
use strongroom_model::{Failure, RecoveryPointId, Remedy, VolumeId, VolumeName, World, chain};
use strongroom_proto::control::restore_control_server::{RestoreControl, RestoreControlServer};
use strongroom_proto::control::{
    CancelRestoreRequest, CancelRestoreResponse, FindPointRequest, FindPointResponse, RestoreVolumeRequest,
    RestoreVolumeResponse, VolumeState,
};
use strongroom_proto::{code_for, control, status};
use strongroom_repository::{Point, Source};
use strongroom_settings::{
    Candidate, Choice, OpenedRepository, RepositorySettings, SelectError, Selection, select,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

use crate::driver::{Driver, fs_of_word, fs_word};
use crate::hydrate::{Bounds, SYNC_BYTES};
use crate::request::TargetRequest;
use crate::restore::{Restore, hold_name};
use crate::target::volume::run_of;

use jobs::{Jobs, State};
use reading::Reading;

/// What the service needs of the agent beside which it is served.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The repository, once it is open.
    pub opened: watch::Receiver<Option<OpenedRepository>>,
    /// What it was opened with: where it has copies, restores read from whichever place answers.
    pub settings: RepositorySettings,
    /// The driver's socket.
    pub endpoint: Option<String>,
    /// Where journals are kept.
    pub state_dir: PathBuf,
    /// What all restores together may hold in memory.
    pub budget_bytes: u64,
    /// In which zone times without one are meant.
    pub zone: TimeZone,
    /// Clock and randomness.
    pub world: World,
    /// When it fires, everything stops; what is durable is kept.
    pub cancel: CancellationToken,
}

/// Restores that run side by side; more wait.
const AT_ONCE: u32 = 2;

/// The service, to be added to the agent's.
#[must_use]
pub fn service(surroundings: Surroundings) -> RestoreControlServer<impl RestoreControl> {
    RestoreControlServer::new(Service {
        jobs: Jobs::new(AT_ONCE),
        reading: Reading::default(),
        surroundings: Arc::new(surroundings),
    })
}

#[derive(Debug)]
struct Service {
    surroundings: Arc<Surroundings>,
    /// What restores read from.
    reading: Reading,
    jobs: Jobs,
}

/// A restore that was asked for.
#[derive(Debug, Clone)]
struct Wish {
    volume: VolumeId,
    name: VolumeName,
    point: RecoveryPointId,
    bytes: u64,
    fs: &'static str,
}

/// What the service refuses by itself.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("{field} is wrong: {reason}")]
    Wrong { field: &'static str, reason: String },
    #[error("the repository is not open yet")]
    NotOpen,
    #[error("the driver that the agent works for has no volume {volume} that waits to be filled")]
    NoVolume { volume: VolumeId },
    #[error("{count} restores are under way")]
    Crowded { count: usize },
}

impl Failure for Refused {
    fn code(&self) -> &'static str {
        match self {
            Self::Wrong { .. } => "request.wrong",
            Self::NotOpen => "agent.not-open",
            Self::NoVolume { .. } => "restore.no-waiting-volume",
            Self::Crowded { .. } => "restore.crowded",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Wrong { .. } => Remedy::FixRequest,
            Self::NotOpen => Remedy::Retry,
            Self::NoVolume { .. } => Remedy::FixSurroundings,
            Self::Crowded { .. } => Remedy::Wait,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Wrong { .. } => "change it",
            Self::NotOpen => "wait until the agent reaches the repository; its log says what keeps it from that",
            Self::NoVolume { .. } => {
                "check that [driver] endpoint of the agent is the driver that names this agent in --agent-endpoint"
            }
            Self::Crowded { .. } => "ask again when some of them have ended",
        }
        .to_owned()
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        status(code_for(&refused), &refused)
    }
}

/// The gRPC code for whatever may go wrong in a restore.
fn told(failed: &Failed) -> Status {
    let failure = failed.failure();
    let code = match failure.code() {
        "restore.forgotten" | "point.forgotten" | "restore.no-such-point" | "restore.no-such-volume" => {
            Code::NotFound
        }
        _ => code_for(failure),
    };
    status(code, failure)
}

impl Service {
    fn opened(&self) -> Result<OpenedRepository, Refused> {
        self.surroundings.opened.borrow().clone().ok_or(Refused::NotOpen)
    }

    async fn find(&self, which: &str) -> Result<Point, Status> {
        let surroundings = &self.surroundings;
        let selection = Selection::parse(which, surroundings.world.clock.now(), &surroundings.zone)
            .map_err(|reason| Refused::Wrong { field: "which", reason })?;
        let opened = self.reading.of(&self.surroundings).await.map_err(|failed| told(&failed))?;
        let fold = opened.repository.fold().await.map_err(|error| told(&error.into()))?;
        let candidates: Vec<Candidate> = fold.points.values().map(Candidate::from).collect();
        let chosen = select(&candidates, selection.volume.as_ref(), &selection.choice).map_err(|error| {
            let code = match &error {
                SelectError::NoSuchVolume { .. }
                | SelectError::NoSuchPoint { .. }
                | SelectError::NothingBefore { .. } => Code::NotFound,
                SelectError::Ambiguous { .. }
                | SelectError::OfOtherVolume { .. }
                | SelectError::NoVolumeNamed => Code::InvalidArgument,
            };
            status(code, &error)
        })?;
        Ok(fold.points[&chosen.id].clone())
    }

    fn begin(&self, wish: Wish) -> Result<(), Status> {
        let (surroundings, reading) = (Arc::clone(&self.surroundings), self.reading.clone());
        if surroundings.settings.copies.is_empty() {
            self.opened()?;
        }
        let (id, progress) = (wish.volume, Progress::silent());
        let watch = progress.clone();
        self.jobs
            .begin(id, progress, &self.surroundings.cancel, async move {
                tracing::info!(volume = %wish.name, point = %wish.point, "restoring");
                let done = match reading.of(&surroundings).await {
                    Ok(opened) => fill(&surroundings, opened, &wish, watch).await,
                    Err(failed) => Err(failed),
                };
                match &done {
                    Ok(()) => tracing::info!(volume = %wish.name, point = %wish.point, "restored"),
                    Err(failed) => tracing::error!(
                        volume = %wish.name, point = %wish.point, code = failed.failure().code(),
                        error = chain(failed.failure()), advice = failed.failure().advice(), "the restore failed"
                    ),
                }
                done.map_err(|failed| told(&failed))
            })
            .map_err(|count| Refused::Crowded { count })?;
        Ok(())
    }
}

/// Fills the volume that waits at the driver.
async fn fill(
    surroundings: &Surroundings,
    opened: OpenedRepository,
    wish: &Wish,
    watch: Progress,
) -> Result<(), Failed> {
    let driver = Driver::connect(surroundings.endpoint.as_deref()).await?;
    match driver.volume_with_id(&wish.volume.to_string()).await? {
        Some(volume) if volume.state() == VolumeState::Hydrating => {}
        // It was finished by an attempt whose end nobody heard of.
        Some(_) => return Ok(()),
        None => return Err(Refused::NoVolume { volume: wish.volume }.into()),
    }
    let (console, said) = Console::captured(Output::Text);
    let restore = Restore {
        repository: opened.repository,
        store: opened.store,
        console,
        world: surroundings.world.clone(),
        state_dir: Some(surroundings.state_dir.clone()),
        endpoint: surroundings.endpoint.clone(),
        watch: Some(watch),
        bounds: Bounds {
            budget_bytes: (surroundings.budget_bytes / u64::from(AT_ONCE)).max(16 << 20),
            workers: Bounds::usual_workers(),
            sync_bytes: SYNC_BYTES,
        },
    };
    let request = crate::request::Request {
        volume: None,
        choice: Choice::Id(wish.point.to_string()),
        target: TargetRequest::Volume {
            name: wish.name.clone(),
            bytes: Some(wish.bytes),
            fs: Some(wish.fs.to_owned()),
            only: Some(wish.volume.to_string()),
            labels: None,
        },
        verify: None,
        keep_going: false,
        start_over: false,
    };
    let mut prepared = restore.plan(&request).await?;
    let done = restore.execute(&mut prepared).await;
    for line in said.stderr().lines() {
        tracing::warn!(volume = %wish.name, "{line}");
    }
    done.map(drop)
}

#[tonic::async_trait]
impl RestoreControl for Service {
    async fn find_point(
        &self,
        request: Request<FindPointRequest>,
    ) -> Result<Response<FindPointResponse>, Status> {
        let point = self.find(&request.into_inner().which).await?;
        Ok(Response::new(FindPointResponse { point: Some(point_out(&point)) }))
    }

    async fn restore_volume(
        &self,
        request: Request<RestoreVolumeRequest>,
    ) -> Result<Response<RestoreVolumeResponse>, Status> {
        let request = request.into_inner();
        let wish = Wish {
            volume: parsed("volume_id", &request.volume_id)?,
            name: parsed("volume_name", &request.volume_name)?,
            point: parsed("point_id", &request.point_id)?,
            bytes: request.bytes,
            fs: fs_word(request.fs),
        };
        let answer =
            |done, percent: u8| Ok(Response::new(RestoreVolumeResponse { done, percent: percent.into() }));
        match self.jobs.ask(wish.volume) {
            State::Running(percent) => answer(false, percent),
            State::Done => answer(true, 100),
            State::Failed(status) => Err(status),
            State::Unknown => self.begin(wish).and_then(|()| answer(false, 0)),
        }
    }

    async fn cancel_restore(
        &self,
        request: Request<CancelRestoreRequest>,
    ) -> Result<Response<CancelRestoreResponse>, Status> {
        let volume: VolumeId = parsed("volume_id", &request.into_inner().volume_id)?;
        self.jobs.cancel(volume).await;
        self.tidy_after(volume).await;
        Ok(Response::new(CancelRestoreResponse {}))
    }
}

impl Service {
    /// A restore that is given up leaves neither its journal nor its hold on the point.
    async fn tidy_after(&self, volume: VolumeId) {
        let journal = self.surroundings.state_dir.join(format!("{volume}.journal"));
        // It may never have been made.
        let _ = tokio::fs::remove_file(journal).await;
        let (Some(run), Ok(opened)) = (run_of(&volume.to_string()), self.opened()) else { return };
        let hold = hold_name(run);
        let fold = opened.repository.known_fold();
        let held: Vec<_> =
            fold.points.values().filter(|point| point.held.contains(&hold)).map(|point| point.id).collect();
        for point in held {
            if let Err(error) = opened.repository.release(point, &hold).await {
                tracing::warn!(%point, error = chain(&error), "the hold of a restore that was given up stays");
            }
        }
    }
}

fn parsed<T: std::str::FromStr>(field: &'static str, text: &str) -> Result<T, Refused>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| Refused::Wrong { field, reason: error.to_string() })
}

fn point_out(point: &Point) -> control::Point {
    let at = point.info.taken_at;
    control::Point {
        id: point.id.to_string(),
        volume_name: point.volume.to_string(),
        volume_id: match &point.info.source {
            Source::Driver { volume, .. } => volume.to_string(),
            Source::Image { .. } => String::new(),
        },
        taken_at: Some(Timestamp {
            seconds: at.as_millisecond().div_euclid(1000),
            nanos: i32::try_from(at.as_nanosecond().rem_euclid(1_000_000_000)).unwrap_or_default(),
        }),
        bytes: point.info.volume_bytes,
        fs: fs_of_word(point.info.fs.as_deref().unwrap_or_default()).into(),
        labels: point.info.labels.clone().into_iter().collect(),
    }
}
