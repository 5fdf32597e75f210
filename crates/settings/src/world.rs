//! The real world, for programs only: the machine's clock, its randomness and its name.

use std::sync::Arc;

use jiff::Timestamp;
use strongroom_model::{Clock, Entropy, World};

#[derive(Debug)]
struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

#[derive(Debug)]
struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        // The kernel's own generator. That of aws-lc gathers entropy of its own first, which takes 40 ms of each process.
        getrandom::fill(bytes).expect("the kernel's generator does not fail after boot");
    }
}

/// The machine's clock and its randomness.
#[must_use]
pub fn system_world() -> World {
    World { clock: Arc::new(SystemClock), entropy: Arc::new(SystemEntropy) }
}

/// What this machine is called: as whom it writes to repositories. `STRONGROOM_MACHINE_NAME` comes before the host's own name, which
/// changes with every container.
#[must_use]
pub fn machine_name() -> String {
    let given = std::env::var("STRONGROOM_MACHINE_NAME").unwrap_or_default();
    if !given.trim().is_empty() {
        return given.trim().chars().take(255).collect();
    }
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" | "(none)" => "unnamed".to_owned(),
        name => name.chars().take(255).collect(),
    }
}
