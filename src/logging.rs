//! Log lines and panics: both on standard error, neither ever in a result.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal as _;
use std::panic;

use strongroom_console::Console;
use strongroom_model::{Failure, Remedy};
use tracing_subscriber::EnvFilter;

/// In which form log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// Services tell what they do; a command that a person waits for only warns. `RUST_LOG` overrides both.
pub(crate) fn begin(console: &Console, format: LogFormat, service: bool) {
    let default = if service { "warn,strongroom=info" } else { "warn" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let writer = console.log_writer();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal() && console.terminal().color)
        .with_writer(move || writer.clone());
    match format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
}

/// A panic is a mistake of ours. Where it happened goes to standard error, without tearing a progress bar apart.
pub(crate) fn report_panics(console: &Console) {
    let console = console.clone();
    panic::set_hook(Box::new(move |info| {
        console.talk(info);
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            console.talk(trace);
        }
    }));
}

/// The command itself panicked.
#[derive(Debug, thiserror::Error)]
#[error("strongroom has a mistake here; where it is stands above")]
pub(crate) struct Panicked;

impl Failure for Panicked {
    fn code(&self) -> &'static str {
        "bug.panic"
    }

    fn remedy(&self) -> Remedy {
        Remedy::Bug
    }

    fn advice(&self) -> String {
        "report it with the lines above (RUST_BACKTRACE=1 adds more); what was committed before is safe"
            .to_owned()
    }
}
