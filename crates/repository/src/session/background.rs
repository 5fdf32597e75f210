//! What a session does beside its writer: its sign of life, and leaving index runs in the store.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::index::{IndexRun, RunKey};
use crate::layout::ObjectName;
use crate::repository::Repository;

/// How often a long session says that it lives. A fence looks after a day, so many may be lost.
const SIGN_OF_LIFE: Duration = Duration::from_secs(60);

/// The tasks of one session; they end with it.
#[derive(Debug)]
pub(super) struct Background {
    runs: Mutex<Option<mpsc::UnboundedSender<(RunKey, IndexRun)>>>,
    leaving: tokio::sync::Mutex<Option<JoinHandle<()>>>,
    living: JoinHandle<()>,
}

impl Background {
    pub(super) fn start(repository: &Repository, session: u64) -> Self {
        // Unbounded, and still small: a run stands for 2 GiB that were stored through the same store before.
        let (runs, mut left) = mpsc::unbounded_channel::<(RunKey, IndexRun)>();
        let leaver = repository.clone();
        let leaving = tokio::spawn(async move {
            while let Some((key, run)) = left.recv().await {
                if let Err(error) = leaver.leave_run(key, &run).await {
                    let cause = strongroom_model::chain(&error);
                    tracing::warn!(
                        cause,
                        "a run of the dedup index was not stored; other agents may store some chunks twice"
                    );
                }
            }
        });
        let living = tokio::spawn(live(repository.clone(), session));
        Self { runs: Mutex::new(Some(runs)), leaving: tokio::sync::Mutex::new(Some(leaving)), living }
    }

    /// Puts a run into the store, some time soon.
    pub(super) fn leave_run(&self, key: RunKey, run: IndexRun) {
        if let Some(runs) = &*self.runs.lock().unwrap_or_else(PoisonError::into_inner) {
            // The task is gone only when the runtime is.
            let _ = runs.send((key, run));
        }
    }

    /// Waits until the runs are stored, and ends.
    pub(super) async fn finish(&self) {
        self.living.abort();
        drop(self.runs.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(leaving) = self.leaving.lock().await.take() {
            let _ = leaving.await;
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.living.abort();
    }
}

/// A session of less than a minute sends none.
async fn live(repository: Repository, session: u64) {
    loop {
        tokio::time::sleep(SIGN_OF_LIFE).await;
        give_sign_of_life(&repository, session).await;
    }
}

pub(super) async fn give_sign_of_life(repository: &Repository, session: u64) {
    let name = ObjectName::session(session);
    if let Err(error) = repository.store().put(&name, Bytes::from_static(b"alive\n")).await {
        let cause = strongroom_model::chain(&error);
        tracing::warn!(
            session,
            cause,
            "the session's sign of life was not written; after a day without one it is fenced"
        );
    }
}
