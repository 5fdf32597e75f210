//! Asks before something is overwritten or deleted.

use std::io::{self, BufRead};

use strongroom_model::{Failure, Remedy};

use crate::{Console, Output};

/// Nobody agreed.
#[derive(Debug)]
pub enum ConfirmError {
    /// The person said no.
    Declined,
    /// Nobody is there to be asked: standard input or standard error is not a terminal, or JSON was asked for.
    Nobody,
    /// The answer could not be read.
    Read(io::Error),
}

impl std::fmt::Display for ConfirmError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Declined => "not confirmed, so nothing was done",
            Self::Nobody => {
                "this needs a confirmation and there is no terminal to ask on, so nothing was done"
            }
            Self::Read(_) => "the answer could not be read, so nothing was done",
        })
    }
}

impl std::error::Error for ConfirmError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read(cause) => Some(cause),
            Self::Declined | Self::Nobody => None,
        }
    }
}

impl Failure for ConfirmError {
    fn code(&self) -> &'static str {
        match self {
            Self::Declined => "confirm.declined",
            Self::Nobody => "confirm.nobody",
            Self::Read(_) => "confirm.read",
        }
    }

    fn remedy(&self) -> Remedy {
        Remedy::FixRequest
    }

    fn advice(&self) -> String {
        "read what would be done above, then run the command again with --yes".to_owned()
    }
}

pub(crate) fn ask(
    console: &Console,
    question: &str,
    yes: bool,
    answers: &mut impl BufRead,
) -> Result<(), ConfirmError> {
    if yes {
        return Ok(());
    }
    let terminal = console.terminal();
    if console.output() == Output::Json || !terminal.stdin || !terminal.stderr {
        return Err(ConfirmError::Nobody);
    }
    console.ask_on_stderr(&format!("{question} [y/N] "));
    let mut answer = String::new();
    answers.read_line(&mut answer).map_err(ConfirmError::Read)?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(ConfirmError::Declined),
    }
}
