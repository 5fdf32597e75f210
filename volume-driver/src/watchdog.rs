//! The process that thaws a filesystem when the driver that froze it dies or takes too long.
//!
//! A freeze outlives whoever asked for it, so it must never rest on the driver alone. Before the freeze the driver starts this process,
//! which opens the mounted folder and says `ready`. It then waits for its standard input to end: a byte before the
//! end means that all went well; the end without one, or the deadline, means that it has to thaw.

use std::process::ExitCode;

/// What the hidden subcommand `driver-thaw-watchdog` runs: `arguments` are those behind its name.
pub fn thaw_watchdog(arguments: impl Iterator<Item = String>) -> ExitCode {
    todo!()
}
