//! What the service refuses by itself.

use strongroom_model::{Failure, RecoveryPointId, Remedy};
use strongroom_proto::{code_for, status};
use tonic::{Code, Status};

#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("{field} is wrong: {reason}")]
    Wrong { field: &'static str, reason: String },
    #[error("the repository is not open yet")]
    NotOpen,
    #[error("the agent's configuration names no driver")]
    NoDriver,
    #[error("there is no recovery point {point}")]
    Unknown { point: RecoveryPointId },
    #[error("{point} is held: {holds}")]
    Held { point: RecoveryPointId, holds: String },
    #[error("{point} is another recovery point")]
    Taken { point: RecoveryPointId },
    #[error("{count} backups are under way")]
    Crowded { count: usize },
    #[error("the backup that becomes {point} has not come to rest yet")]
    StillRunning { point: RecoveryPointId },
}

impl Failure for Refused {
    fn code(&self) -> &'static str {
        match self {
            Self::Wrong { .. } => "request.wrong",
            Self::NotOpen => "agent.not-open",
            Self::NoDriver => "config.no-driver",
            Self::Unknown { .. } => "point.none",
            Self::Held { .. } => "point.held",
            Self::Taken { .. } => "point.taken",
            Self::Crowded { .. } => "backup.crowded",
            Self::StillRunning { .. } => "backup.busy",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Wrong { .. } | Self::Unknown { .. } | Self::Held { .. } | Self::Taken { .. } => {
                Remedy::FixRequest
            }
            Self::NotOpen => Remedy::Retry,
            Self::NoDriver => Remedy::FixSurroundings,
            Self::Crowded { .. } | Self::StillRunning { .. } => Remedy::Wait,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Wrong { .. } => "change it",
            Self::NotOpen => "wait until the agent reaches the repository; its log says what keeps it from that",
            Self::NoDriver => "write [driver] endpoint = \"unix:///run/strongroom/csi.sock\" into the configuration of the agent",
            Self::Unknown { .. } => "`strongroom points list` shows the points that there are",
            Self::Held { .. } => "take the holds off with `strongroom points release`, if nobody needs them",
            Self::Taken { .. } => "choose another id",
            Self::Crowded { .. } => "ask again when some of them have ended",
            Self::StillRunning { .. } => "ask again in a moment",
        }
        .to_owned()
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        let code = match &refused {
            Refused::Unknown { .. } => Code::NotFound,
            Refused::Held { .. } => Code::FailedPrecondition,
            Refused::Taken { .. } => Code::AlreadyExists,
            other => code_for(other),
        };
        status(code, &refused)
    }
}
