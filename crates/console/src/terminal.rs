//! Where a command runs: on a terminal or in a pipe, in colour or not, wide or narrow.

use jiff::tz::TimeZone;

/// In which form results are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Output {
    /// Tables and sentences, for people.
    #[default]
    Text,
    /// JSON objects, one a line, the result last; for programs (docs/json-output.md).
    Json,
}

/// The global option `--output`, to be flattened into the top of a command line.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct OutputArgs {
    /// Give results as text for people or as JSON for programs
    #[arg(long, global = true, value_enum, default_value_t = Output::Text, value_name = "FORM")]
    pub output: Output,
}

/// What the program found out about its surroundings; plain data, so that a test can state it.
#[derive(Debug, Clone)]
pub struct Terminal {
    /// Somebody watches standard output.
    pub stdout: bool,
    /// Somebody watches standard error: progress bars make sense.
    pub stderr: bool,
    /// Somebody can answer a question.
    pub stdin: bool,
    /// Colours and bold are wanted (`NO_COLOR` is not set).
    pub color: bool,
    /// Columns of the terminal, when known. In a pipe tables are as wide as they are.
    pub width: Option<u16>,
    /// The zone in which times are shown to people.
    pub time_zone: TimeZone,
}

impl Terminal {
    /// Nobody watches: a pipe, a service, a test.
    #[must_use]
    pub fn none() -> Self {
        Self {
            stdout: false,
            stderr: false,
            stdin: false,
            color: false,
            width: None,
            time_zone: TimeZone::UTC,
        }
    }
}
