//! How hard a worker compresses: harder while it would only wait otherwise.
//!
//! A worker that waits most of its time waits for the disk or, through the budget, for the store: then processor time is to be
//! had for nothing, and what is saved need not be sent. One that is busy goes back to the usual level at once, for then it
//! is what the others wait for.

use std::time::{Duration, Instant};

use strongroom_repository::chunk::Compressor;

/// What is looked at before the level may change: long enough to even out one slow request.
const LOOK: Duration = Duration::from_secs(2);

/// Above this share of waiting the level rises, one at a time.
const IDLE: f64 = 0.7;
/// Below this share it falls back. Between the two it stays: a level up takes about half of the waiting away.
const BUSY: f64 = 0.3;

#[derive(Debug)]
pub(super) struct Effort {
    level: i32,
    since: Instant,
    waited: Duration,
}

impl Effort {
    pub(super) fn begin() -> Self {
        Self { level: Compressor::DATA_LEVEL, since: Instant::now(), waited: Duration::ZERO }
    }

    /// Does what may take long although nothing is worked on.
    pub(super) fn waits<T>(&mut self, wait: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let answer = wait();
        self.waited += begun.elapsed();
        answer
    }

    /// The level for the next slab.
    pub(super) fn level(&mut self) -> i32 {
        let all = self.since.elapsed();
        if all >= LOOK {
            self.level = next(self.level, self.waited.as_secs_f64() / all.as_secs_f64());
            (self.since, self.waited) = (Instant::now(), Duration::ZERO);
        }
        self.level
    }
}

fn next(level: i32, waiting: f64) -> i32 {
    if waiting > IDLE {
        (level + 1).min(Compressor::HIGHEST_LEVEL)
    } else if waiting < BUSY {
        Compressor::DATA_LEVEL
    } else {
        level
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_compresses_harder_step_by_step_and_who_is_busy_does_not() {
        let usual = Compressor::DATA_LEVEL;
        assert_eq!(next(usual, 0.9), usual + 1);
        assert_eq!(next(Compressor::HIGHEST_LEVEL, 1.0), Compressor::HIGHEST_LEVEL);
        assert_eq!(next(usual + 1, 0.5), usual + 1);
        assert_eq!(next(usual + 2, 0.1), usual);
        assert_eq!(next(usual, 0.0), usual);
    }
}
