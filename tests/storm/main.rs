//! The real driver, killed again and again while it is used: storms of whole lives of volumes from many callers at once,
//! and workloads that must not notice that the driver is replaced under them.
//!
//! Everything comes from one seed, which is printed. `make storm` runs the full storm; `make test` a part of it.

mod ground;
#[path = "../system/kernel.rs"]
#[expect(dead_code, reason = "the system tests use more of it")]
mod kernel;
mod lives;
mod random;
mod release;
mod storm;
mod upgrade;
