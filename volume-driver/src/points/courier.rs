//! Brings snapshots of type backup to the agent, until each is a recovery point.
//!
//! What has to be brought stands in the registry, so a driver that starts again goes on. The agent does the work in its background and is
//! asked again and again; an agent that is away, or a repository that fails, is tried again after pauses that grow. What the last
//! attempt failed of is told to whoever asks for the snapshot, and counted in the metrics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use strongroom_model::{Failure as _, RecoveryPointId, VolumeId, chain};
use tokio::sync::Notify;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::{Points, PointsError};
use crate::registry::{Delivery, DeliveryStep};
use crate::volumes::Volumes;

/// How often the agent is asked while it is at work.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// The first pause after a failure, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long it sleeps when there is nothing to bring: what is new wakes it.
const IDLE: Duration = Duration::from_secs(300);

/// The courier. Clones share what it knows.
#[derive(Debug, Clone)]
pub(crate) struct Courier {
    volumes: Volumes,
    points: Points,
    troubles: Arc<Mutex<BTreeMap<RecoveryPointId, Trouble>>>,
    wake: Arc<Notify>,
}

/// What the last attempt failed of.
#[derive(Debug)]
struct Trouble {
    status: Status,
    failures: u32,
    again: Instant,
}

impl Courier {
    pub(crate) fn new(volumes: Volumes, points: Points) -> Self {
        Self { volumes, points, troubles: Arc::default(), wake: Arc::default() }
    }

    fn troubles(&self) -> MutexGuard<'_, BTreeMap<RecoveryPointId, Trouble>> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the cut, or finds the one of that name, and says how far it is. An attempt that failed is an error, until one succeeds.
    pub(crate) async fn take(
        &self,
        volume: VolumeId,
        name: String,
        labels: BTreeMap<String, String>,
    ) -> Result<Delivery, Status> {
        if !self.points.is_configured() {
            return Err(PointsError::NoAgent.into());
        }
        if let Some(known) = self.volumes.delivery_named(name.clone()).await?
            && known.step == DeliveryStep::Published
            && known.volume == volume
            && self.is_gone(known.point).await
        {
            // Somebody deleted it by way of another node.
            self.volumes.forget_delivery(known.point).await?;
        }
        let delivery = self.volumes.begin_delivery(volume, name, labels).await?;
        self.wake.notify_one();
        if delivery.step == DeliveryStep::Waiting
            && let Some(trouble) = self.troubles().get(&delivery.point)
        {
            return Err(trouble.status.clone());
        }
        Ok(delivery)
    }

    async fn is_gone(&self, point: RecoveryPointId) -> bool {
        matches!(self.points.get(point).await, Err(PointsError::Agent(error)) if error.grpc() == Code::NotFound)
    }

    /// Deletes a point, whether it is in the repository already or was only to be.
    pub(crate) async fn delete(&self, point: RecoveryPointId) -> Result<(), PointsError> {
        match self.volumes.delivery(point).await? {
            None => self.points.forget(point).await,
            // One that is held stays what it is.
            Some(delivery) if delivery.step == DeliveryStep::Published => {
                self.points.forget(point).await?;
                Ok(self.volumes.forget_delivery(point).await?)
            }
            Some(_) => {
                self.volumes.cancel_delivery(point).await?;
                self.points.forget(point).await?;
                self.troubles().remove(&point);
                Ok(self.volumes.forget_delivery(point).await?)
            }
        }
    }

    /// Brings what there is to be brought, for ever.
    pub(crate) async fn run(self) {
        if !self.points.is_configured() {
            // What is left from a time with an agent waits for the next.
            return std::future::pending().await;
        }
        loop {
            let pause = match self.volumes.deliveries().await {
                Ok(deliveries) => self.round(deliveries).await,
                Err(error) => {
                    tracing::error!(error = chain(&error), "what is to be backed up cannot be read");
                    LONGEST_PAUSE
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wake.notified() => {}
            }
        }
    }

    /// One look at every delivery; answers when to look again.
    async fn round(&self, deliveries: Vec<Delivery>) -> Duration {
        let mut pause = IDLE;
        for delivery in deliveries.into_iter().filter(|one| one.step != DeliveryStep::Published) {
            let again = self.troubles().get(&delivery.point).map(|trouble| trouble.again);
            let left = again.map_or(Duration::ZERO, |again| again.saturating_duration_since(Instant::now()));
            if !left.is_zero() {
                pause = pause.min(left);
                continue;
            }
            match self.bring(&delivery).await {
                Ok(true) => {
                    self.troubles().remove(&delivery.point);
                }
                Ok(false) => pause = pause.min(LOOK_EVERY),
                Err(error) => pause = pause.min(self.failed(&delivery, error)),
            }
        }
        pause
    }

    /// Whether it is done with this one.
    async fn bring(&self, delivery: &Delivery) -> Result<bool, PointsError> {
        if delivery.step == DeliveryStep::Cancelled {
            self.points.forget(delivery.point).await?;
            self.volumes.forget_delivery(delivery.point).await?;
            return Ok(true);
        }
        match self.points.back_up(delivery).await? {
            None => Ok(false),
            Some(kept) => {
                self.volumes.finish_delivery(delivery.point, kept.repository).await?;
                tracing::info!(name = delivery.name, point = %delivery.point, "a snapshot became a recovery point");
                Ok(true)
            }
        }
    }

    fn failed(&self, delivery: &Delivery, error: PointsError) -> Duration {
        let mut troubles = self.troubles();
        let failures = troubles.get(&delivery.point).map_or(0, |trouble| trouble.failures) + 1;
        let pause = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(8)).min(LONGEST_PAUSE);
        tracing::warn!(
            name = delivery.name, point = %delivery.point, failures, code = error.code(), error = chain(&error),
            again_in_s = pause.as_secs(), "a snapshot is not backed up yet"
        );
        let again = Instant::now() + pause;
        troubles.insert(delivery.point, Trouble { status: error.into(), failures, again });
        pause
    }
}
