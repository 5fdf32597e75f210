//! Our own conformance suite: CSI, spec by spec, as an orchestrator sees the real `strongroom driver` on its socket.
//!
//! The public suite reads no data, calls nothing twice at the same time, restarts nothing, fills nothing and asks for no
//! changed blocks. This one does: every answer is compared with what is on the disk, in the mount table and in the
//! standard. What both ask for is asked here too, so that this suite alone says whether the driver conforms.
//!
//! It needs root and loop devices; elsewhere each test says `SKIPPED` and passes. All that a test makes lies below one
//! folder, its [`machine::Machine`], which is looked through for leaks at the end.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod call;
mod capacity;
mod changes;
mod codes;
mod concurrency;
mod content;
mod contents;
mod frozen;
mod groups;
mod hostile;
mod identity;
mod inline;
#[path = "../system/kernel.rs"]
#[expect(dead_code, reason = "the system tests use more of it")]
mod kernel;
mod lifecycle;
mod lists;
mod machine;
mod requests;
mod restarts;
mod secrets;
mod volume;
