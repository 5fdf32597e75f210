//! CSI over the driver: Identity, Controller, Node and SnapshotMetadata.
//!
//! Every call takes the same way: [`door`] turns the message into types of ours or refuses it, [`Volumes`] does the work
//! and is idempotent by itself, [`answer`] turns what came out into a message, and [`status`] decides what an error is
//! called on the wire. Nothing is kept here between two calls.

pub(crate) mod answer;
mod changes;
mod controller;
pub(crate) mod door;
mod identity;
mod node;
mod page;
pub(crate) mod status;

use std::future::Future;
use std::time::Instant;

use tonic::{Response, Status};

use crate::Volumes;

/// The services of CSI. Clones share the driver.
#[derive(Debug, Clone)]
pub(crate) struct Csi {
    volumes: Volumes,
}

impl Csi {
    pub(crate) const fn new(volumes: Volumes) -> Self {
        Self { volumes }
    }
}

/// Answers a call and writes a line of log about it. Requests are never logged, as they may hold secrets: only what the
/// call is about.
pub(crate) async fn answered<T>(
    call: &'static str,
    subject: &str,
    work: impl Future<Output = Result<T, Status>>,
) -> Result<Response<T>, Status> {
    let began = Instant::now();
    let answer = work.await;
    let ms = began.elapsed().as_millis();
    match &answer {
        Ok(_) => tracing::debug!(call, subject, ms, "answered"),
        Err(status) => {
            tracing::info!(call, subject, ms, code = ?status.code(), "refused: {}", status.message());
        }
    }
    answer.map(Response::new)
}
