//! What every command prints and answers: results, talk, progress, errors and exit codes.
//!
//! A command is handed a [`Console`] and gives back `Result<Exit, Failed>`. It says its *result* once, at the end, on
//! standard output; everything else is *talk* and goes to standard error. With `--output json` standard output
//! carries JSON only: one object, preceded by progress objects, one a line (docs/json-output.md).
//!
//! Nothing here decides what a command does, and nothing here knows volumes or repositories.

mod confirm;
mod console;
mod exit;
mod failed;
mod plain;
mod progress;
mod sink;
mod size;
mod span;
mod table;
mod terminal;
mod time;

pub use confirm::ConfirmError;
pub use console::Console;
pub use exit::Exit;
pub use failed::Failed;
pub use plain::plain;
pub use progress::Progress;
pub use sink::{Captured, LogWriter};
pub use size::{ParseSizeError, Size};
pub use span::{ParseSpanError, TimeSpan};
pub use table::{Table, Text};
pub use terminal::{Output, OutputArgs, Terminal};
pub use time::{local, local_and_utc, utc};
