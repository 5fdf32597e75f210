//! Waiting for a driver that is busy with the same volume.
//!
//! A client that was killed leaves its last call behind: the driver finishes it, and until then it answers `driver.busy`.
//! Whoever runs the command again, in an incident of all times, should not have to ask a third time.

use std::future::Future;
use std::time::Duration;

use strongroom_model::Failure;
use tonic::{Response, Status};

use crate::CallError;

/// How long a driver may be busy before that is told: longer than any single operation of the driver on a volume that is
/// not ill, shorter than anybody's patience.
const LONGEST: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Makes the call, and again while the driver answers that another operation on the same volume is going on, for half a minute
/// at most. For calls that may be asked twice.
///
/// # Errors
/// The first answer that is another error, or the last that the driver is busy.
pub async fn while_busy<C, R, T, F>(
    client: &C,
    request: R,
    mut call: impl FnMut(C, R) -> F,
) -> Result<T, CallError>
where
    C: Clone,
    R: Clone,
    F: Future<Output = Result<Response<T>, Status>>,
{
    let (mut waited, mut pause) = (Duration::ZERO, FIRST_PAUSE);
    loop {
        let error = match call(client.clone(), request.clone()).await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) => CallError::from(status),
        };
        if error.code() != "driver.busy" || waited >= LONGEST {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
        waited += pause;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    async fn ask(
        answers: impl Fn(u32) -> Result<&'static str, Status>,
    ) -> (Result<&'static str, CallError>, u32) {
        let asked = Cell::new(0);
        let answer = while_busy(&(), (), |(), ()| {
            asked.set(asked.get() + 1);
            let answer = answers(asked.get()).map(Response::new);
            async move { answer }
        })
        .await;
        (answer, asked.get())
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_driver_is_asked_again_until_it_is_free() {
        let (answer, asked) =
            ask(|time| if time < 5 { Err(Status::aborted("busy")) } else { Ok("done") }).await;
        assert_eq!((answer.expect("it is free"), asked), ("done", 5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_driver_that_stays_busy_is_told_of_and_other_errors_at_once() {
        let (answer, asked) = ask(|_| Err(Status::aborted("busy"))).await;
        assert_eq!(answer.expect_err("it stays busy").code(), "driver.busy");
        assert!(asked > 20, "asked {asked} times in half a minute");
        let (answer, asked) = ask(|_| Err(Status::not_found("no such volume"))).await;
        assert_eq!((answer.expect_err("there is none").code(), asked), ("driver.not-found", 1));
    }
}
