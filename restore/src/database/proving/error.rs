//! What speaks against a database that was brought back.

use std::path::PathBuf;

use strongroom_model::{Failure, Remedy};

use super::super::answer::AskError;

/// A restore test does not prove what it should, or cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ProvingError {
    /// Its engine cannot be tested yet.
    #[error("copies of databases of the engine {engine} are not looked into or tested yet")]
    Engine {
        /// Which.
        engine: String,
    },
    /// Another test is going on.
    #[error("another restore test is going on in {}", folder.display())]
    Running {
        /// Where.
        folder: PathBuf,
    },
    /// The folder cannot be told to the driver.
    #[error("the path of {} is too long", folder.display())]
    LongPath {
        /// Which.
        folder: PathBuf,
    },
    /// A folder cannot be used.
    #[error("the folder {}", folder.display())]
    Folder {
        /// Which.
        folder: PathBuf,
        /// What the machine said.
        #[source]
        cause: std::io::Error,
    },
    /// A question that should be true is not.
    #[error("the assertion {sql:?} does not hold: it answered {answer}")]
    Assertion {
        /// Which.
        sql: String,
        /// What the database answered.
        answer: String,
    },
    /// A question cannot be answered.
    #[error("asking {sql:?}")]
    Question {
        /// Which.
        sql: String,
        /// What the database said.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine finds its own files damaged.
    #[error("{tool} finds the restored database damaged: {words}")]
    Corrupt {
        /// Which check.
        tool: &'static str,
        /// What it said.
        words: String,
    },
    /// The restored database is not at the state that the commit index says.
    #[error("the restored database differs from the commit index: {what}")]
    Differs {
        /// How.
        what: String,
    },
    /// It took too long.
    #[error("it was not done after {seconds} seconds")]
    Slow {
        /// How long it was given.
        seconds: u64,
    },
}

impl ProvingError {
    /// An assertion that is not answered.
    pub(super) fn asking(error: AskError) -> strongroom_console::Failed {
        match error {
            AskError::Question { sql, cause, .. } => Self::Question { sql, cause }.into(),
            other => other.into(),
        }
    }
}

impl Failure for ProvingError {
    fn code(&self) -> &'static str {
        match self {
            Self::Engine { .. } => "database.test-engine",
            Self::Running { .. } => "database.test-running",
            Self::LongPath { .. } => "database.test-path",
            Self::Folder { .. } => "database.test-folder",
            Self::Assertion { .. } => "database.test-assertion",
            Self::Question { .. } => "database.test-question",
            Self::Corrupt { .. } => "database.test-corrupt",
            Self::Differs { .. } => "database.test-differs",
            Self::Slow { .. } => "database.test-slow",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Engine { .. } | Self::LongPath { .. } => Remedy::FixRequest,
            Self::Running { .. } => Remedy::Wait,
            Self::Folder { .. } | Self::Slow { .. } => Remedy::FixSurroundings,
            Self::Assertion { .. } | Self::Question { .. } | Self::Corrupt { .. } => Remedy::FixData,
            Self::Differs { .. } => Remedy::Bug,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Engine { .. } => "Restore it by hand, and look.".into(),
            Self::Running { .. } => "Wait until it is done: one at a time.".into(),
            Self::LongPath { .. } => "Choose a `work_dir` with a shorter path.".into(),
            Self::Folder { .. } => "Check space and rights there.".into(),
            Self::Assertion { .. } => {
                "Restore that state with `strongroom db restore --at` and look; if the assertion is too strict, correct it.".into()
            }
            Self::Question { .. } => {
                "Correct the SQL or its `database` in [database.test]; if it is right, restore that state and look.".into()
            }
            Self::Corrupt { .. } => {
                "Check the live database by the same means at once: it may be damaged, too. Other bases may be whole: try --at.".into()
            }
            Self::Differs { .. } => "Do not rely on restores of this database, and report it.".into(),
            Self::Slow { .. } => {
                "Find out from the steps what takes so long; take bases more often, or give it a longer `time_limit`.".into()
            }
        }
    }
}
