//! Backups in the background, one for each point that shall be: so many are remembered.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use strongroom_console::Progress;
use strongroom_model::RecoveryPointId;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// How many are remembered, those that wait for a place among them.
const REMEMBERED: usize = 256;

/// How long what was cancelled may take to come to rest.
const REST: Duration = Duration::from_secs(15);

/// How far it is with a point.
#[derive(Debug)]
pub(super) enum State {
    /// Nobody is at it. The repository knows whether it is done.
    Unknown,
    /// So far, in percent.
    Running(u8),
    /// Told once: whoever asks again begins anew.
    Failed(Status),
}

#[derive(Debug)]
enum Job {
    Running { progress: Progress, cancel: CancellationToken },
    Failed(Status),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Jobs {
    all: Arc<Mutex<BTreeMap<RecoveryPointId, Job>>>,
}

impl Jobs {
    fn all(&self) -> MutexGuard<'_, BTreeMap<RecoveryPointId, Job>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ask(&self, point: RecoveryPointId) -> State {
        let mut all = self.all();
        match all.get(&point) {
            None => State::Unknown,
            Some(Job::Running { progress, .. }) => State::Running(progress.percent().unwrap_or(0).min(99)),
            Some(Job::Failed(_)) => match all.remove(&point) {
                Some(Job::Failed(status)) => State::Failed(status),
                _ => State::Unknown,
            },
        }
    }

    /// Begins work for a point that has none. Refused, with how many there are, when there are too many.
    pub(super) fn begin<F>(
        &self,
        point: RecoveryPointId,
        progress: Progress,
        parent: &CancellationToken,
        work: impl FnOnce(CancellationToken) -> F,
    ) -> Result<(), usize>
    where
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let mut all = self.all();
        if matches!(all.get(&point), Some(Job::Running { .. })) {
            return Ok(());
        }
        if all.len() >= REMEMBERED {
            all.retain(|_, job| matches!(job, Job::Running { .. }));
        }
        if all.len() >= REMEMBERED {
            return Err(all.len());
        }
        let cancel = parent.child_token();
        all.insert(point, Job::Running { progress, cancel: cancel.clone() });
        drop(all);
        let (jobs, working) = (self.clone(), work(cancel.clone()));
        tokio::spawn(async move {
            // Whatever becomes of the work, a panic too, the point does not stay "running".
            let ended = Ended { jobs: &jobs, point };
            // A backup stops in good order by itself when it is cancelled; its waiting does not.
            let done = tokio::select! {
                done = working => Some(done),
                () = async { cancel.cancelled().await; tokio::time::sleep(REST).await } => None,
            };
            if let Some(Err(status)) = done
                && !cancel.is_cancelled()
            {
                ended.jobs.all().insert(point, Job::Failed(status));
            }
        });
        Ok(())
    }

    /// Ends the work for a point and forgets about it. Whether it came to rest.
    pub(super) async fn cancel(&self, point: RecoveryPointId) -> bool {
        if let Some(Job::Running { cancel, .. }) = self.all().get(&point) {
            cancel.cancel();
        }
        let resting = async {
            while matches!(self.all().get(&point), Some(Job::Running { .. })) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let rested = tokio::time::timeout(REST, resting).await.is_ok();
        if rested {
            self.all().remove(&point);
        }
        rested
    }
}

struct Ended<'a> {
    jobs: &'a Jobs,
    point: RecoveryPointId,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let mut all = self.jobs.all();
        if matches!(all.get(&self.point), Some(Job::Running { .. })) {
            all.remove(&self.point);
        }
    }
}
