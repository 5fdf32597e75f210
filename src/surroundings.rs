//! What the process finds around it.

use std::io::{self, IsTerminal as _};

use jiff::tz::TimeZone;
use strongroom_console::Terminal;
use strongroom_model::{Failure, Remedy};

pub(crate) fn terminal() -> Terminal {
    let width = console_width();
    Terminal {
        stdout: io::stdout().is_terminal(),
        stderr: io::stderr().is_terminal(),
        stdin: io::stdin().is_terminal(),
        color: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        width,
        time_zone: TimeZone::system(),
    }
}

/// The kernel's word; `COLUMNS` is not exported by shells. 80 where it has none.
fn console_width() -> Option<u16> {
    rustix::termios::tcgetwinsize(io::stdout())
        .ok()
        .map(|size| if size.ws_col == 0 { 80 } else { size.ws_col })
}

/// The threads could not be started.
#[derive(Debug, thiserror::Error)]
#[error("starting the threads of the program")]
pub(crate) struct NoRuntime(#[source] pub(crate) io::Error);

impl Failure for NoRuntime {
    fn code(&self) -> &'static str {
        "process.threads"
    }

    fn remedy(&self) -> Remedy {
        Remedy::FixSurroundings
    }

    fn advice(&self) -> String {
        "the machine refuses new threads or file descriptors: see ulimit -u, ulimit -n and the limits of the service".to_owned()
    }
}
