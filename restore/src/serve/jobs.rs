//! Work in the background, one piece for each volume: so many run, so many are remembered.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use strongroom_console::Progress;
use strongroom_model::VolumeId;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// How many volumes are remembered, with what became of them. A node has some hundred volumes.
const REMEMBERED: usize = 256;

/// How long what was cancelled may take to come to rest.
const REST: Duration = Duration::from_secs(10);

/// How far it is with a volume.
#[derive(Debug)]
pub(super) enum State {
    Unknown,
    /// So far, in percent.
    Running(u8),
    Done,
    /// Told once: whoever asks again begins anew.
    Failed(Status),
}

#[derive(Debug)]
enum Job {
    Running { progress: Progress, cancel: CancellationToken },
    Done,
    Failed(Status),
}

#[derive(Debug, Clone)]
pub(super) struct Jobs {
    all: Arc<Mutex<BTreeMap<VolumeId, Job>>>,
    slots: Arc<Semaphore>,
}

impl Jobs {
    pub(super) fn new(at_once: u32) -> Self {
        Self { all: Arc::default(), slots: Arc::new(Semaphore::new(usize::try_from(at_once).unwrap_or(1))) }
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<VolumeId, Job>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ask(&self, volume: VolumeId) -> State {
        let mut all = self.all();
        match all.get(&volume) {
            None => State::Unknown,
            Some(Job::Running { progress, .. }) => State::Running(progress.percent().unwrap_or(0).min(99)),
            Some(Job::Done) => State::Done,
            Some(Job::Failed(_)) => match all.remove(&volume) {
                Some(Job::Failed(status)) => State::Failed(status),
                _ => State::Unknown,
            },
        }
    }

    /// Begins work for a volume that has none. Refused, with how many there are, when there are too many.
    pub(super) fn begin(
        &self,
        volume: VolumeId,
        progress: Progress,
        parent: &CancellationToken,
        work: impl Future<Output = Result<(), Status>> + Send + 'static,
    ) -> Result<(), usize> {
        let mut all = self.all();
        if matches!(all.get(&volume), Some(Job::Running { .. })) {
            return Ok(());
        }
        if all.len() >= REMEMBERED {
            all.retain(|_, job| matches!(job, Job::Running { .. }));
        }
        if all.len() >= REMEMBERED {
            return Err(all.len());
        }
        let cancel = parent.child_token();
        all.insert(volume, Job::Running { progress, cancel: cancel.clone() });
        drop(all);
        let jobs = self.clone();
        tokio::spawn(async move {
            // Whatever becomes of the work, a panic too, the volume does not stay "running".
            let ended = Ended { jobs: &jobs, volume };
            let working = async {
                let _slot = jobs.slots.acquire().await;
                work.await
            };
            let done = tokio::select! {
                done = working => Some(done),
                () = cancel.cancelled() => None,
            };
            if let Some(done) = done {
                let job = done.map_or_else(Job::Failed, |()| Job::Done);
                ended.jobs.all().insert(volume, job);
            }
        });
        Ok(())
    }

    /// Ends the work for a volume, and forgets about it.
    pub(super) async fn cancel(&self, volume: VolumeId) {
        if let Some(Job::Running { cancel, .. }) = self.all().get(&volume) {
            cancel.cancel();
        }
        let resting = async {
            while matches!(self.all().get(&volume), Some(Job::Running { .. })) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        // One that does not come to rest holds its device open, and so keeps the volume from being deleted.
        let _ = tokio::time::timeout(REST, resting).await;
        let mut all = self.all();
        if !matches!(all.get(&volume), Some(Job::Running { .. })) {
            all.remove(&volume);
        }
    }
}

struct Ended<'a> {
    jobs: &'a Jobs,
    volume: VolumeId,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let mut all = self.jobs.all();
        if matches!(all.get(&self.volume), Some(Job::Running { .. })) {
            all.remove(&self.volume);
        }
    }
}
