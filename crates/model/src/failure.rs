//! What every error that a person can meet answers.
//!
//! The text of an error (its `Display`) says what failed and on what; its `source` says why. This trait adds the
//! stable code that scripts and documents can rely on, and what to do next.

use std::error::Error;
use std::fmt::Write as _;

/// What the person on call should do next. It also decides the exit code and the gRPC status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Remedy {
    /// Try again: the cause passes by itself.
    Retry,
    /// Somebody else is at work on the same thing; wait and try again.
    Wait,
    /// The request is wrong: change it.
    FixRequest,
    /// The surroundings are wrong (a full disk, a missing right, a server that is down): mend them.
    FixSurroundings,
    /// Stored data is damaged or missing.
    FixData,
    /// This writer was shut out of the repository; start a new session.
    Fenced,
    /// It is our mistake: report it.
    Bug,
}

/// An error with a stable code and a next step.
pub trait Failure: Error {
    /// A stable code such as `key.wrong`: lower-case words, a dot between area and cause. Listed in docs/errors.md.
    fn code(&self) -> &'static str;

    /// What kind of step helps.
    fn remedy(&self) -> Remedy;

    /// The next step in a sentence, for the person who reads the message.
    fn advice(&self) -> String;
}

/// The error and its sources, joined by `: `, for one line of log or message.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Writing to a String cannot fail.
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}
