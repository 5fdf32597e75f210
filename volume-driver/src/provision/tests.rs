//! Volumes that begin with recovery points, with an agent that does as it is told.

use std::sync::Mutex;

use strongroom_model::World;
use strongroom_proto::control::restore_control_server::{RestoreControl, RestoreControlServer};
use strongroom_proto::control::{
    self, CancelRestoreRequest, CancelRestoreResponse, FindPointRequest, FindPointResponse,
    RestoreVolumeRequest, RestoreVolumeResponse,
};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Code, Request, Response, Status};

use super::*;
use crate::testing::{MIB, Scratch, can_mount, settings, world};

/// What the agent says to each attempt, the last of them first.
#[derive(Debug)]
enum Says {
    Running(u32),
    Done,
    Damaged,
    Full,
}

#[derive(Debug)]
struct FakeAgent {
    volumes: Volumes,
    says: Mutex<Vec<Says>>,
    world: World,
}

#[derive(Debug, thiserror::Error)]
#[error("it did not work")]
struct Broken(Remedy, &'static str);

impl strongroom_model::Failure for Broken {
    fn code(&self) -> &'static str {
        self.1
    }
    fn remedy(&self) -> Remedy {
        self.0
    }
    fn advice(&self) -> String {
        "mend it".to_owned()
    }
}

#[tonic::async_trait]
impl RestoreControl for FakeAgent {
    async fn find_point(
        &self,
        request: Request<FindPointRequest>,
    ) -> Result<Response<FindPointResponse>, Status> {
        let which = request.into_inner().which;
        // `latest` is another point each time.
        let id = which.parse().unwrap_or_else(|_| RecoveryPointId::random(&*self.world.entropy));
        let point = control::Point {
            id: id.to_string(),
            volume_name: "db".into(),
            volume_id: String::new(),
            taken_at: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
            bytes: 16 * MIB,
            fs: control::Filesystem::Block.into(),
            labels: [("pvc.name", "old"), ("team", "a"), ("tier", "gold")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        };
        Ok(Response::new(FindPointResponse { point: Some(point) }))
    }

    async fn restore_volume(
        &self,
        request: Request<RestoreVolumeRequest>,
    ) -> Result<Response<RestoreVolumeResponse>, Status> {
        let volume = request.into_inner().volume_id.parse().unwrap();
        let says = self.says.lock().unwrap().pop();
        match says.unwrap_or(Says::Running(99)) {
            Says::Running(percent) => Ok(Response::new(RestoreVolumeResponse { done: false, percent })),
            Says::Done => {
                self.volumes.finish_restore(volume).await.unwrap();
                Ok(Response::new(RestoreVolumeResponse { done: true, percent: 100 }))
            }
            Says::Damaged => {
                let broken = Broken(Remedy::FixData, "pack.damaged");
                Err(strongroom_proto::status(Code::DataLoss, &broken))
            }
            Says::Full => {
                let broken = Broken(Remedy::FixSurroundings, "key.wrong");
                Err(strongroom_proto::status(Code::FailedPrecondition, &broken))
            }
        }
    }

    async fn cancel_restore(
        &self,
        _: Request<CancelRestoreRequest>,
    ) -> Result<Response<CancelRestoreResponse>, Status> {
        Ok(Response::new(CancelRestoreResponse {}))
    }
}

/// Runs `test` on a driver whose agent says these things, the last of them first.
fn with_an_agent(says: Vec<Says>, test: impl AsyncFnOnce(Volumes, Provision)) {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    // It ends before the scratch does: the agent's task has the driver, and that the pool.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (volumes, provision) = provision(&scratch, says).await;
        test(volumes, provision).await;
    });
}

async fn provision(scratch: &Scratch, says: Vec<Says>) -> (Volumes, Provision) {
    let volumes = Volumes::open(settings(scratch), world()).await.unwrap().volumes;
    let socket = scratch.path("agent.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let agent = FakeAgent { volumes: volumes.clone(), says: Mutex::new(says), world: world() };
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(RestoreControlServer::new(agent))
            .serve_with_incoming(UnixListenerStream::new(listener)),
    );
    let points = Points::of_agent(socket.to_str().unwrap()).unwrap();
    (volumes.clone(), Provision::new(volumes, points))
}

fn wanted(words: &str) -> NewVolume {
    NewVolume {
        name: "new".parse().unwrap(),
        size: SizeRange { required_bytes: 0, limit_bytes: 0 },
        kind: WantedKind::Any,
        beginning: Some(Beginning::Point(PointChoice::parse(words).unwrap())),
        labels: [("team".to_owned(), "b".to_owned())].into(),
        limits: IoLimits::NONE,
    }
}

const NO_PATIENCE: Duration = Duration::ZERO;

#[test]
fn who_asks_again_is_told_how_far_it_is_and_gets_the_point_that_was_chosen_first() {
    with_an_agent(vec![Says::Done, Says::Running(70), Says::Running(40)], async |volumes, provision| {
        let mut told = Vec::new();
        let made = loop {
            match provision.create(wanted("db@latest"), NO_PATIENCE).await.unwrap() {
                Provisioned::Restoring { volume, percent } => told.push((volume.source, percent)),
                Provisioned::Ready(outcome) => break outcome.agreed().unwrap(),
            }
        };
        assert_eq!(told.iter().map(|(_, percent)| *percent).collect::<Vec<_>>(), [40, 70]);
        assert!(told.iter().all(|(source, _)| *source == made.source), "{told:?}");
        assert_eq!((made.bytes, made.kind, made.state), (16 * MIB, VolumeKind::Block, VolumeState::Ready));
        assert_eq!(
            made.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect::<Vec<_>>(),
            [("team", "b"), ("tier", "gold")],
            "what the request says wins, and whose claim it was is not inherited"
        );
        let again = provision.create(wanted("db@latest"), NO_PATIENCE).await.unwrap();
        assert!(matches!(again, Provisioned::Ready(Outcome::Identical(_))), "{again:?}");
        let Some(ContentSource::Point(point)) = made.source else { panic!("{made:?}") };
        let by_id = provision.create(wanted(&point.to_string()), NO_PATIENCE).await.unwrap();
        assert!(matches!(by_id, Provisioned::Ready(Outcome::Identical(_))), "{by_id:?}");
        let other = provision.create(wanted("db@2026-11-21T00:00:00Z"), NO_PATIENCE).await.unwrap();
        assert!(matches!(other, Provisioned::Ready(Outcome::Conflict { .. })), "{other:?}");
        provision.delete(made.id).await.unwrap();
        assert!(volumes.volumes().await.unwrap().is_empty());
    });
}

#[test]
fn a_restore_that_can_never_succeed_takes_its_volume_with_it_and_one_that_waits_keeps_it() {
    with_an_agent(vec![Says::Damaged, Says::Full], async |volumes, provision| {
        let waits = provision.create(wanted("db@latest"), NO_PATIENCE).await.unwrap_err();
        assert_eq!((waits.code(), Status::from(waits).code()), ("key.wrong", Code::Unavailable));
        assert_eq!(volumes.volumes().await.unwrap().len(), 1, "an orchestrator asks again");
        let hopeless = provision.create(wanted("db@latest"), NO_PATIENCE).await.unwrap_err();
        assert_eq!((hopeless.code(), Status::from(hopeless).code()), ("pack.damaged", Code::DataLoss));
        assert!(
            volumes.volumes().await.unwrap().is_empty(),
            "an orchestrator believes that nothing was made"
        );
    });
}

#[test]
fn a_restore_is_given_up_by_deleting_its_volume() {
    with_an_agent(Vec::new(), async |volumes, provision| {
        let begun = provision.create(wanted("db@latest"), NO_PATIENCE).await.unwrap();
        let Provisioned::Restoring { volume, .. } = begun else { panic!("{begun:?}") };
        provision.delete(volume.id).await.unwrap();
        assert!(volumes.volumes().await.unwrap().is_empty());
    });
}
