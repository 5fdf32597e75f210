//! SIGINT and SIGTERM: stop in good order; the second one ends the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use strongroom_console::Failed;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::FilesError;

/// A flag that the first signal sets.
pub(super) fn stop_flag() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&flag);
    tokio::spawn(async move {
        stopped().await;
        set.store(true, Ordering::Relaxed);
        stopped().await;
        std::process::exit(130);
    });
    flag
}

/// Returns at the next signal.
pub(super) async fn stopped() {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Runs what blocks on a thread of its own: readers of filesystems wait for the runtime.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failed> + Send + 'static,
) -> Result<T, Failed> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(FilesError::Interrupted.into()),
    }
}
