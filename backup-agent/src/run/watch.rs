//! Watching a capture: tells its progress, and ends it when nothing moves any more. Silence is a failure.

use std::future::Future;
use std::time::Duration;

use strongroom_console::Progress;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Agent, BackupError, Mode};
use crate::capture::{CaptureError, Meter};

/// How often it is looked at. Ten times a second is smooth for a bar and nothing for a processor.
const LOOK: Duration = Duration::from_millis(100);

/// Runs `capturing` to its end, unless nothing moves for as long as the agent puts up with.
pub(super) async fn watched<T>(
    capturing: impl Future<Output = Result<T, CaptureError>>,
    agent: &Agent,
    meter: &Meter,
    mode: Mode,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<T, BackupError> {
    tokio::pin!(capturing);
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut pulse, mut moved) = (None, Instant::now());
    let mut stalled = false;
    loop {
        tokio::select! {
            captured = &mut capturing => {
                return match captured {
                    Err(_) if stalled => Err(BackupError::Stalled { after: agent.stall_after }),
                    other => Ok(other?),
                };
            }
            _ = looks.tick() => {
                let tally = meter.tally();
                progress.set_done(if mode == Mode::Incremental { tally.scanned_bytes } else { meter.position() });
                let now = Some((meter.pulse(), agent.counts.sent_bytes(), agent.counts.received_bytes()));
                if now != pulse {
                    (pulse, moved) = (now, Instant::now());
                } else if !stalled && moved.elapsed() >= agent.stall_after {
                    stalled = true;
                    cancel.cancel();
                }
            }
        }
    }
}
