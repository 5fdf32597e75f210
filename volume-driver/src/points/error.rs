//! Why something that has to do with recovery points could not be done.

use strongroom_model::{Failure, Remedy};
use strongroom_proto::CallError;

use crate::core_error::CoreError;

/// Something that has to do with recovery points could not be done.
#[derive(Debug, thiserror::Error)]
pub enum PointsError {
    /// The driver's own part.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// Nobody named an agent.
    #[error("this driver knows no backup agent, and without one there are no recovery points")]
    NoAgent,
    /// Nobody answers there.
    #[error("the backup agent does not answer at {endpoint}")]
    Unreachable {
        /// Where it was looked for.
        endpoint: String,
        /// What happened.
        #[source]
        cause: CallError,
    },
    /// The agent refuses, or what it did failed.
    #[error("{0}")]
    Agent(CallError),
    /// A restore that was begun has to wait; whoever asks again makes it go on.
    #[error("the restore has to wait: {0}")]
    Unfinished(CallError),
    /// The agent answered something that makes no sense.
    #[error("the backup agent's answer makes no sense: {what}")]
    Nonsense {
        /// What is wrong with it.
        what: String,
    },
}

impl Failure for PointsError {
    fn code(&self) -> &'static str {
        match self {
            Self::Core(cause) => cause.code(),
            Self::NoAgent => "agent.none",
            Self::Unreachable { .. } => "agent.unreachable",
            Self::Agent(cause) | Self::Unfinished(cause) => cause.code(),
            Self::Nonsense { .. } => "agent.nonsense",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Core(cause) => cause.remedy(),
            Self::NoAgent | Self::Unreachable { .. } => Remedy::FixSurroundings,
            Self::Agent(cause) | Self::Unfinished(cause) => cause.remedy(),
            Self::Nonsense { .. } => Remedy::Bug,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Core(cause) => cause.advice(),
            Self::NoAgent => {
                "run `strongroom agent` on this node with `socket` in [agent], and give the driver that socket with --agent-endpoint"
                    .to_owned()
            }
            Self::Unreachable { .. } => {
                "check that `strongroom agent` runs on this node and that its `socket` in [agent] is the driver's --agent-endpoint; then ask again"
                    .to_owned()
            }
            Self::Agent(cause) | Self::Unfinished(cause) => cause.advice(),
            Self::Nonsense { .. } => {
                "check that driver and agent have the same version; otherwise report it".to_owned()
            }
        }
    }
}
