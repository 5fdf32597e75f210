//! CSI over the driver: Identity, Controller, GroupController, Node and SnapshotMetadata.
//!
//! Every call takes the same way: [`door`] turns the message into types of ours or refuses it, [`Volumes`] does the work
//! and is idempotent by itself, [`answer`] turns what came out into a message, and [`status`] decides what an error is
//! called on the wire. Nothing is kept here between two calls.

pub(crate) mod answer;
mod changes;
mod controller;
pub(crate) mod door;
mod group_controller;
mod handle;
mod identity;
mod inline;
mod node;
mod page;
pub(crate) mod status;

use std::future::Future;
use std::time::{Duration, Instant};

use tonic::{Request, Response, Status};

use crate::points::Courier;
use crate::{Points, Provision, Volumes};

/// The services of CSI. Clones share the driver.
#[derive(Debug, Clone)]
pub(crate) struct Csi {
    volumes: Volumes,
    provision: Provision,
    points: Points,
    courier: Courier,
    grow_on_node: bool,
}

impl Csi {
    pub(crate) const fn new(
        volumes: Volumes,
        provision: Provision,
        points: Points,
        courier: Courier,
    ) -> Self {
        Self { volumes, provision, points, courier, grow_on_node: false }
    }

    /// Lets NodeExpandVolume grow volumes as a whole, and offers no ControllerExpandVolume.
    pub(crate) const fn growing_on_node(mut self, grow_on_node: bool) -> Self {
        self.grow_on_node = grow_on_node;
        self
    }
}

/// How long a call waits for something that goes on in the background: then it says how far that is. Orchestrators give a call
/// 10 to 60 seconds, and must get the answer within them.
const PATIENCE: Duration = Duration::from_secs(10);

/// [`PATIENCE`], or what the caller's own deadline leaves of it.
fn patience<T>(request: &Request<T>) -> Duration {
    let deadline = request.metadata().get("grpc-timeout").and_then(|value| timeout(value.to_str().ok()?));
    deadline.map_or(PATIENCE, |deadline| PATIENCE.min(deadline / 2))
}

/// A deadline as gRPC writes it: at most eight digits and a unit.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u32 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(3600) * number,
        "M" => Duration::from_secs(60) * number,
        "S" => Duration::from_secs(number.into()),
        "m" => Duration::from_millis(number.into()),
        "u" => Duration::from_micros(number.into()),
        "n" => Duration::from_nanos(number.into()),
        _ => return None,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_with_little_time_is_answered_within_it() {
        let asked = |deadline: Option<&'static str>| {
            let mut request = Request::new(());
            if let Some(deadline) = deadline {
                request.metadata_mut().insert("grpc-timeout", deadline.parse().unwrap());
            }
            patience(&request)
        };
        assert_eq!(asked(None), PATIENCE);
        assert_eq!(asked(Some("1H")), PATIENCE);
        assert_eq!(asked(Some("3000m")), Duration::from_millis(1500));
        for nonsense in ["", "S", "-1S", "1d", "999999999S"] {
            assert_eq!(asked(Some(nonsense)), PATIENCE, "{nonsense}");
        }
    }
}
