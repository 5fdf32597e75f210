//! How the rooms end together: the first error wins, and everybody hears of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::CaptureError;
use super::budget::Purse;

/// Shared by all rooms of one capture. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Stop {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    stopped: AtomicBool,
    first: Mutex<Option<CaptureError>>,
    purse: Purse,
}

impl Stop {
    pub(super) fn new(purse: Purse) -> Self {
        Self { inner: Arc::new(Inner { stopped: AtomicBool::new(false), first: Mutex::new(None), purse }) }
    }

    /// Whether there is no point in going on.
    pub(super) fn is_set(&self) -> bool {
        self.inner.stopped.load(Ordering::Acquire)
    }

    /// Stops everybody. Later errors follow from the first and are dropped.
    pub(super) fn fail(&self, error: CaptureError) {
        {
            let mut first = self.inner.first.lock().unwrap_or_else(PoisonError::into_inner);
            if !self.is_set() {
                *first = Some(error);
            }
            self.inner.stopped.store(true, Ordering::Release);
        }
        self.inner.purse.close();
    }

    /// The first error.
    pub(super) fn take(&self) -> Option<CaptureError> {
        self.inner.first.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Stops everybody when it is dropped: nobody waits for the capture any longer. Harmless after its end.
    pub(super) fn guard(&self) -> Guard {
        Guard(self.clone())
    }
}

#[derive(Debug)]
pub(super) struct Guard(Stop);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.inner.stopped.store(true, Ordering::Release);
        self.0.inner.purse.close();
    }
}
