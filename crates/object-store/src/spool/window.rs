//! How many files may be on their way to the store at once: as many as make the line faster.
//!
//! Over a long line one request fills it only in part, and several beside each other add up; over a full one more only wait
//! for each other. Neither delay nor bandwidth is known beforehand, so it is tried: whenever somebody had to wait, one more
//! is allowed, and it stays when the rate rose. What ends in an error halves them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Where it begins: the second is on its way while the first is answered.
const FIRST: usize = 2;
/// Where it ends: each file takes up to 64 MiB of a disk.
const MOST: usize = 8;
/// Rates are compared over so long at least, and over twice as many files as are allowed.
const LOOK: Duration = Duration::from_millis(500);
/// A line that nobody used for so long is looked at anew.
const IDLE: Duration = Duration::from_millis(100);
/// What one more must bring.
const WORTH_IT: f64 = 1.08;
/// After one more brought nothing, it is tried again after so many looks: lines change.
const CONTENT_FOR: u32 = 8;

#[derive(Debug)]
pub(super) struct Window {
    state: Mutex<State>,
    room: Notify,
}

#[derive(Debug)]
struct State {
    most: usize,
    sending: usize,
    /// When the last one ended.
    idle_since: Instant,
    /// What arrived since the look began.
    since: Instant,
    bytes: u64,
    files: usize,
    somebody_waited: bool,
    /// Bytes a second, at the look before.
    rate: f64,
    /// One more was allowed at the last look.
    trying: bool,
    content_for: u32,
    /// Files that were under way when the number changed: they say nothing about the new one.
    passed_over: usize,
}

impl Default for Window {
    fn default() -> Self {
        let state = State {
            most: FIRST,
            sending: 0,
            idle_since: Instant::now(),
            since: Instant::now(),
            bytes: 0,
            files: 0,
            somebody_waited: false,
            rate: 0.0,
            trying: false,
            content_for: 0,
            passed_over: 0,
        };
        Self { state: Mutex::new(state), room: Notify::new() }
    }
}

/// A file on its way; when it is dropped, there is room again.
#[derive(Debug)]
pub(super) struct Sending {
    window: Arc<Window>,
    bytes: u64,
    arrived: bool,
}

impl Window {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until fewer are on their way than may be. It takes no place: only [`Self::begin`] does.
    pub(super) async fn wait_for_room(&self) {
        loop {
            let mut freed = std::pin::pin!(self.room.notified());
            // From here on nothing is missed that happens between the look and the wait.
            freed.as_mut().enable();
            {
                let mut state = self.state();
                if state.sending < state.most {
                    return;
                }
                state.somebody_waited = true;
            }
            freed.await;
        }
    }

    /// A file of so many bytes is sent from now on.
    pub(super) fn begin(self: &Arc<Self>, bytes: u64) -> Sending {
        let mut state = self.state();
        if state.sending == 0 && state.idle_since.elapsed() > IDLE {
            // Until now nobody wanted anything of the line.
            state.begin_look();
        }
        state.sending += 1;
        drop(state);
        Sending { window: Arc::clone(self), bytes, arrived: false }
    }

    /// The line, or the store, is not up to so many.
    pub(super) fn shrink(&self) {
        let mut state = self.state();
        state.most = (state.most / 2).max(1);
        (state.rate, state.trying, state.content_for) = (0.0, false, CONTENT_FOR);
        state.begin_look();
    }
}

impl State {
    fn begin_look(&mut self) {
        (self.since, self.bytes, self.files, self.somebody_waited) = (Instant::now(), 0, 0, false);
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate is compared roughly")]
    fn arrived(&mut self, bytes: u64) {
        if self.passed_over > 0 {
            self.passed_over -= 1;
            self.begin_look();
            return;
        }
        self.bytes += bytes;
        self.files += 1;
        let passed = self.since.elapsed();
        if passed < LOOK || self.files < 2 * self.most {
            return;
        }
        let rate = self.bytes as f64 / passed.as_secs_f64();
        if self.trying && rate < self.rate * WORTH_IT {
            self.most = (self.most - 1).max(1);
            (self.trying, self.content_for) = (false, CONTENT_FOR);
            self.passed_over = self.most;
        } else if self.somebody_waited && self.content_for == 0 && self.most < MOST {
            self.most += 1;
            self.trying = true;
            self.passed_over = self.most;
        } else {
            self.trying = false;
            self.content_for = self.content_for.saturating_sub(1);
        }
        self.rate = rate;
        self.begin_look();
    }
}

impl Sending {
    /// It has ended.
    pub(super) fn end(mut self, arrived: bool) {
        self.arrived = arrived;
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let mut state = self.window.state();
        state.sending -= 1;
        state.idle_since = Instant::now();
        if self.arrived {
            state.arrived(self.bytes);
        }
        drop(state);
        self.window.room.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends files over a line that gives each `single` bytes a second, and all together at most `whole`. Answers how many are
    /// allowed in the end.
    async fn allowed_after(files: usize, single: f64, whole: f64) -> usize {
        const BYTES: u32 = 64 << 20;
        let window = Arc::new(Window::default());
        let mut senders = tokio::task::JoinSet::new();
        for _ in 0..files {
            window.wait_for_room().await;
            let sending = window.begin(BYTES.into());
            let under_way = u32::try_from(window.state().most).unwrap();
            senders.spawn(async move {
                let rate = single.min(whole / f64::from(under_way));
                tokio::time::sleep(Duration::from_secs_f64(f64::from(BYTES) / rate)).await;
                sending.end(true);
            });
        }
        while senders.join_next().await.is_some() {}
        window.state().most
    }

    #[tokio::test(start_paused = true)]
    async fn more_are_sent_at_once_where_that_is_faster_and_no_more_where_it_is_not() {
        const MIB: f64 = 1_048_576.0;
        assert!(allowed_after(300, 10.0 * MIB, 1000.0 * MIB).await >= 7, "a long line");
        assert!(allowed_after(300, 100.0 * MIB, 100.0 * MIB).await <= 3, "a full line");
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_fails_gets_fewer_and_never_none() {
        let window = Arc::new(Window::default());
        for _ in 0..5 {
            window.shrink();
        }
        assert_eq!(window.state().most, 1);
        window.wait_for_room().await;
        let one = window.begin(1);
        let waiting = tokio::time::timeout(Duration::from_secs(1), window.wait_for_room()).await;
        assert!(waiting.is_err(), "one is under way");
        one.end(false);
        window.wait_for_room().await;
    }
}
