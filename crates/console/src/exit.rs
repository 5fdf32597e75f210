//! What a finished command answers to the shell. The numbers are a promise: docs/exit-codes.md.

use std::process::ExitCode;

use strongroom_model::Remedy;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done; for `status`: everything is healthy.
    Done,
    /// 1: it failed; for `status`: something is at risk.
    AtRisk,
    /// 2: for `status`: a volume is not protected.
    Unprotected,
    /// 3: stored data is damaged or missing.
    Damaged,
    /// 4: nothing was done because nobody said yes.
    NotConfirmed,
    /// 5: it did not work now and may work later: the cause passes by itself or somebody else is at work.
    TryAgain,
    /// 64: the command line was not understood (`EX_USAGE`).
    Usage,
    /// 70: a mistake of ours (`EX_SOFTWARE`).
    Bug,
    /// 130: interrupted (128 and the number of SIGINT).
    Interrupted,
    /// 200: whether there is more of a log could not be found out: recovery must not go on as if there were none.
    StopRecovery,
}

impl Exit {
    /// 1 under the name it has when a command simply failed.
    pub const FAILED: Self = Self::AtRisk;

    /// The number the shell sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::AtRisk => 1,
            Self::Unprotected => 2,
            Self::Damaged => 3,
            Self::NotConfirmed => 4,
            Self::TryAgain => 5,
            Self::Usage => 64,
            Self::Bug => 70,
            Self::Interrupted => 130,
            Self::StopRecovery => 200,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl From<Remedy> for Exit {
    fn from(remedy: Remedy) -> Self {
        match remedy {
            Remedy::Retry | Remedy::Wait | Remedy::Fenced => Self::TryAgain,
            Remedy::FixRequest | Remedy::FixSurroundings => Self::FAILED,
            Remedy::FixData => Self::Damaged,
            Remedy::Bug => Self::Bug,
        }
    }
}
