//! Work that takes long enough to be kept off the runtime's threads.
//!
//! In the tests of this crate it is done at once instead: a thread beside the simulation would make two runs of
//! one seed differ.

use tokio::task::JoinError;

/// [`tokio::task::spawn_blocking`].
#[cfg(not(test))]
pub(crate) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    tokio::task::spawn_blocking(work).await
}

#[cfg(test)]
pub(crate) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    Ok(work())
}
