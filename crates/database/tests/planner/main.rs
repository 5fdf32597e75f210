//! The planner against a slow model that is easy to believe: histories with gaps, forks, idle times and clocks that are set,
//! replayed record by record by an engine that does only what an engine does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod history;
mod properties;
mod traps;
