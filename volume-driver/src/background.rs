//! Work that goes on beside requests: a thread that does a step, waits, and does the next.
//!
//! It ends with the value that stands for it, within the step it is at; steps that take long ask whether they shall
//! [stop](Stop::is_set) between their pieces.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::core_error::CoreError;

/// How long a step that failed is left alone.
const AFTER_A_FAILURE: Duration = Duration::from_secs(5);

/// Whether the work shall end.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    set: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    pub(crate) fn is_set(&self) -> bool {
        *self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self) {
        *self.set.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Waits for `time`, or until it is set; whether it is.
    pub(crate) fn wait(&self, time: Duration) -> bool {
        let set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        let (set, _) =
            self.changed.wait_timeout_while(set, time, |set| !*set).unwrap_or_else(PoisonError::into_inner);
        *set
    }
}

/// A thread at work; it is stopped and waited for when this is dropped.
#[derive(Debug)]
pub(crate) struct Background {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Does `step` again and again; each answers how long to wait for the next. A failure is logged once until it
    /// changes or ends.
    pub(crate) fn start(
        name: &'static str,
        mut step: impl FnMut(&Stop) -> Result<Duration, CoreError> + Send + 'static,
    ) -> Result<Self, CoreError> {
        let stop = Arc::new(Stop::default());
        let stopped = Arc::clone(&stop);
        let work = move || {
            let mut failed = String::new();
            loop {
                let wait = match step(&stopped) {
                    Ok(wait) => {
                        failed.clear();
                        wait
                    }
                    Err(error) => {
                        let reason = strongroom_model::chain(&error);
                        if reason != failed {
                            tracing::warn!(work = name, "{reason}");
                            failed = reason;
                        }
                        AFTER_A_FAILURE
                    }
                };
                if stopped.wait(wait) {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(work)
            .map_err(CoreError::system("starting a thread for", name))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.set();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed when it happened.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn work_goes_on_until_its_value_is_dropped() {
        let count = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&count);
        let background = Background::start("test", move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(Duration::from_millis(1))
        })
        .unwrap();
        while count.load(Ordering::Relaxed) < 3 {
            std::thread::yield_now();
        }
        drop(background);
        let ended = count.load(Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(count.load(Ordering::Relaxed), ended);
        assert_eq!(Arc::strong_count(&count), 1);
    }
}
