//! The backup agent: which volumes are due, what changed, and the recovery points that come of it.
//!
//! ```text
//! policy, schedule, retention, status   pure: settings, points and a clock in, decisions out
//! capture                               the way of the bytes, from ranges of a volume to a published point
//! ```
//! Everything that is decided is computed from the repository, the driver and the configuration, never from what an
//! earlier run remembers: an agent that starts on a new machine decides the same.

pub mod capture;
pub mod cli;
pub mod control;
pub mod copies;
pub mod daemon;
pub mod databases;
pub mod driver;
pub mod policy;
pub mod retention;
pub mod run;
pub mod schedule;
pub mod status;

#[cfg(test)]
mod testing;
