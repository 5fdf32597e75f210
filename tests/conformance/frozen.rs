//! The disk below a pool, frozen: whoever writes to the pool waits, with the guards of its operation held.
//!
//! So a test sees for sure what a second call is answered while the first is under way. A process of its own thaws the
//! disk when the test lets go of it or dies.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use tonic::{Code, Status};

use crate::call::Call;
use crate::kernel;
use crate::machine::{Begun, Machine};

/// While this lives, nothing is written to the pool.
#[derive(Debug)]
pub(crate) struct Frozen {
    thawer: Child,
}

impl Frozen {
    pub(crate) fn freeze(pool: &Path) -> Self {
        let pool = pool.to_str().unwrap();
        let thawer = Command::new("sh")
            .args(["-c", "read -r _; fsfreeze --unfreeze \"$1\"", "sh", pool])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        kernel::sh("fsfreeze", &["--freeze", pool]);
        Self { thawer }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        drop(self.thawer.stdin.take());
        let _ = self.thawer.wait();
    }
}

/// Begins a call twice, with the pool frozen. One of the two must be answered ABORTED at once; then the other holds its
/// guards. Answers both.
#[track_caller]
pub(crate) fn begin_and_hold<R: Call>(machine: &Machine, request: R) -> (Begun<R>, Status) {
    let (first, second) = (machine.begin(request.clone()), machine.begin(request));
    for _ in 0..3000 {
        if first.has_ended() || second.has_ended() {
            let (ended, held) = if first.has_ended() { (first, second) } else { (second, first) };
            let status = machine.end(ended).expect_err("one of two at the same time is refused");
            assert_eq!(status.code(), Code::Aborted, "{status:?}");
            return (held, status);
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("neither of two calls of {} is answered", R::PATH);
}
