//! CSI and the control service as a caller sees them: a real driver on a real pool of its own, reached through its
//! socket by the same client that the command line and the agent use.
//!
//! Volumes need root and loop devices. Without them these tests say loudly that they were skipped.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod changes;
mod cluster;
mod command_line;
mod conformance;
mod control;
mod ground;
mod grow_on_node;
#[path = "../../../tests/system/kernel.rs"]
#[expect(dead_code, reason = "the system tests use more of it")]
mod kernel;
mod node;
mod path;
mod refusals;
mod rough;
mod swarm;
mod trials;

use std::process::ExitCode;

/// Not a test of its own: the driver starts this program again to watch over a freeze, and libtest hands the rest of the
/// arguments here.
#[test]
fn thaw_watchdog_process() {
    let arguments: Vec<String> = std::env::args().collect();
    let Some(at) = arguments.iter().position(|word| word == "--nocapture") else { return };
    if arguments.len() == at + 4 {
        let thawed = strongroom_driver::thaw_watchdog(arguments[at + 1..].iter().cloned());
        // libtest would go on talking to a driver that does not listen any more.
        std::process::exit(i32::from(thawed != ExitCode::SUCCESS));
    }
}
