//! Which gRPC code each refusal becomes. This is the one place that decides it.
//!
//! CSI gives the codes their meaning for the caller: ABORTED is tried again, RESOURCE_EXHAUSTED makes a scheduler look
//! for another node, NOT_FOUND and FAILED_PRECONDITION need something else to happen first. Whatever has no meaning of
//! its own there is INTERNAL.

use strongroom_model::{Failure, Remedy};
use strongroom_proto::status;
use tonic::{Code, Status};

use crate::{CoreError, PointsError};

/// A request that is refused at the door, before the driver is asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestError {
    /// A field that must be there is not.
    #[error("the request has no {field}")]
    Missing { field: &'static str },
    /// A field is longer than CSI allows.
    #[error("{field} has {bytes} bytes; CSI allows {limit}")]
    TooLong { field: &'static str, bytes: usize, limit: usize },
    /// A field holds what it cannot.
    #[error("{field} is wrong: {reason}")]
    Wrong { field: &'static str, reason: String },
    /// A size or an offset that cannot be.
    #[error("{field} is out of range: {reason}")]
    OutOfRange { field: &'static str, reason: String },
    /// A way of using a volume that this driver does not offer.
    #[error("this driver cannot do that: {reason}")]
    Unsupported { reason: String },
    /// The same, where CSI wants to hear that it depends on the volume.
    #[error("the volume cannot be used so: {reason}")]
    Incapable { reason: String },
    /// The place that is asked for is not here.
    #[error("node {node:?} is not among the places that are asked for")]
    Elsewhere { node: String },
    /// A page of a list that this driver never offered.
    #[error("{token:?} is not a token of this list")]
    Token { token: String },
    /// Something that is named does not exist.
    #[error("there is no {subject}")]
    Unknown { subject: String },
    /// A volume that is being restored: whoever asks again is told again, or gets it.
    #[error("{subject} is being restored, {percent} percent are done")]
    Restoring { subject: String, percent: u8 },
}

impl Failure for RequestError {
    fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "request.missing",
            Self::TooLong { .. } => "request.too-long",
            Self::Wrong { .. } => "request.wrong",
            Self::OutOfRange { .. } => "request.out-of-range",
            Self::Unsupported { .. } | Self::Incapable { .. } => "request.unsupported",
            Self::Elsewhere { .. } => "request.elsewhere",
            Self::Token { .. } => "request.token",
            Self::Unknown { .. } => "driver.not-found",
            Self::Restoring { .. } => "restore.running",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Restoring { .. } => Remedy::Wait,
            _ => Remedy::FixRequest,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Restoring { .. } => "ask again for the same volume",
            Self::Missing { .. } => "fill it in",
            Self::TooLong { .. } => "make it shorter",
            Self::Wrong { .. } | Self::OutOfRange { .. } => "change it",
            Self::Unsupported { .. } | Self::Incapable { .. } => {
                "ask for an ext4, xfs, btrfs or raw volume that is used on one node"
            }
            Self::Elsewhere { .. } => "ask the driver of that node",
            Self::Token { .. } => "begin the list again, without a token",
            Self::Unknown { .. } => "look at `strongroom volume list` and `strongroom snapshot list`",
        }
        .to_owned()
    }
}

impl From<RequestError> for Status {
    fn from(error: RequestError) -> Self {
        let code = match &error {
            RequestError::Missing { .. }
            | RequestError::TooLong { .. }
            | RequestError::Wrong { .. }
            | RequestError::Unsupported { .. } => Code::InvalidArgument,
            RequestError::OutOfRange { .. } => Code::OutOfRange,
            RequestError::Incapable { .. } => Code::FailedPrecondition,
            RequestError::Elsewhere { .. } => Code::ResourceExhausted,
            RequestError::Token { .. } | RequestError::Restoring { .. } => Code::Aborted,
            RequestError::Unknown { .. } => Code::NotFound,
        };
        status(code, &error)
    }
}

impl From<CoreError> for Status {
    fn from(error: CoreError) -> Self {
        let code = match &error {
            CoreError::Busy { .. } => Code::Aborted,
            CoreError::NotFound { .. } => Code::NotFound,
            CoreError::Conflict { .. } => Code::AlreadyExists,
            CoreError::Refused { .. } => Code::InvalidArgument,
            CoreError::Size { .. } => Code::OutOfRange,
            CoreError::PoolFull { .. } | CoreError::NodeFull { .. } => Code::ResourceExhausted,
            CoreError::InUse { .. }
            | CoreError::NotReady { .. }
            | CoreError::NoIoLimits { .. }
            | CoreError::OnlineGrow { .. } => Code::FailedPrecondition,
            // To be tried again: the volume was too busy to be quiesced.
            CoreError::Freeze { .. } => Code::Unavailable,
            CoreError::Filesystem { .. } => Code::DataLoss,
            // A full disk below the pool is a full pool, whoever noticed it.
            _ if error.code() == "driver.pool-full" => Code::ResourceExhausted,
            CoreError::Program { .. }
            | CoreError::System { .. }
            | CoreError::Registry { .. }
            | CoreError::Blocks { .. }
            | CoreError::Bug { .. } => Code::Internal,
        };
        status(code, &error)
    }
}

impl From<PointsError> for Status {
    fn from(error: PointsError) -> Self {
        let code = match &error {
            PointsError::Core(_) => {
                let PointsError::Core(core) = error else { unreachable!("it was looked at above") };
                return core.into();
            }
            PointsError::NoAgent => Code::FailedPrecondition,
            // A code that ends the matter would make an orchestrator forget the volume that was begun.
            PointsError::Unreachable { .. } | PointsError::Unfinished(_) => Code::Unavailable,
            PointsError::Agent(cause) => cause.grpc(),
            PointsError::Nonsense { .. } => Code::Internal,
        };
        status(code, &error)
    }
}

/// Whatever is wrong with a driver that is asked how it is: CSI has one code for it.
pub(crate) fn unhealthy(error: CoreError) -> Status {
    status(Code::FailedPrecondition, &error)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn code(error: CoreError) -> Code {
        Status::from(error).code()
    }

    fn system(kind: io::ErrorKind) -> CoreError {
        CoreError::System { action: "writing", path: "/pool".into(), cause: kind.into() }
    }

    #[test]
    fn the_codes_that_orchestrators_act_on_are_the_right_ones() {
        let (subject, reason) = (|| "volume db".to_owned(), || "why".to_owned());
        assert_eq!(code(CoreError::Busy { subject: subject() }), Code::Aborted);
        assert_eq!(code(CoreError::NotFound { subject: subject() }), Code::NotFound);
        assert_eq!(code(CoreError::InUse { subject: subject(), holder: reason() }), Code::FailedPrecondition);
        assert_eq!(
            code(CoreError::PoolFull { subject: subject(), reason: reason() }),
            Code::ResourceExhausted
        );
        assert_eq!(
            code(CoreError::Conflict { subject: subject(), difference: reason() }),
            Code::AlreadyExists
        );
    }

    #[test]
    fn a_full_disk_below_the_pool_is_a_full_pool_and_any_other_trouble_is_internal() {
        assert_eq!(code(system(io::ErrorKind::StorageFull)), Code::ResourceExhausted);
        assert_eq!(code(system(io::ErrorKind::PermissionDenied)), Code::Internal);
    }

    #[test]
    fn the_message_holds_text_code_and_advice() {
        let status = Status::from(RequestError::Missing { field: "name" });
        assert_eq!(status.message(), "the request has no name [request.missing] fill it in");
    }
}
