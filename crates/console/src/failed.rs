//! Any failure, boxed, so that a command can end with `?` whatever went wrong.

use std::fmt;

use strongroom_model::{Failure, chain};

use crate::Exit;

/// Why a command failed. Made from any [`Failure`] by `?`.
///
/// It is not an `Error` itself, as otherwise it could not be made from all of them.
pub struct Failed {
    failure: Box<dyn Failure + Send + Sync>,
    exit: Option<Exit>,
}

impl Failed {
    /// The failure with an exit code of its own instead of the one its remedy implies.
    pub fn with_exit(failure: impl Failure + Send + Sync + 'static, exit: Exit) -> Self {
        Self { failure: Box::new(failure), exit: Some(exit) }
    }

    /// A failure that is in a box already.
    #[must_use]
    pub fn boxed(failure: Box<dyn Failure + Send + Sync>) -> Self {
        Self { failure, exit: None }
    }

    /// The same with another exit code.
    #[must_use]
    pub fn exiting(self, exit: Exit) -> Self {
        Self { exit: Some(exit), ..self }
    }

    /// What failed.
    #[must_use]
    pub fn failure(&self) -> &(dyn Failure + Send + Sync) {
        &*self.failure
    }

    /// What the shell is told.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.exit.unwrap_or_else(|| self.failure.remedy().into())
    }
}

impl<F: Failure + Send + Sync + 'static> From<F> for Failed {
    fn from(failure: F) -> Self {
        Self { failure: Box::new(failure), exit: None }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&chain(&*self.failure))
    }
}

impl fmt::Debug for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self, self.failure.code())
    }
}
