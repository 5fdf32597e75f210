//! What the driver answers when it cannot do what it was asked.

use std::io;
use std::path::PathBuf;

use strongroom_block_io::BlockIoError;
use strongroom_model::{Failure, Remedy};

/// The driver could not do what it was asked. Nothing was changed, or it will be undone or finished when the
/// driver starts again.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// Another operation on the same volume or snapshot is going on.
    #[error("another operation on {subject} is going on")]
    Busy {
        /// Which.
        subject: String,
    },
    /// There is no such volume, snapshot, or mount.
    #[error("there is no {subject}")]
    NotFound {
        /// Which.
        subject: String,
    },
    /// It is in use.
    #[error("{subject} is in use: {holder}")]
    InUse {
        /// Which.
        subject: String,
        /// By whom, as far as could be found out.
        holder: String,
    },
    /// Something else is there.
    #[error("{subject} exists and is different: {difference}")]
    Conflict {
        /// What.
        subject: String,
        /// How.
        difference: String,
    },
    /// The request makes no sense or is not allowed.
    #[error("{subject} is refused: {reason}")]
    Refused {
        /// What.
        subject: String,
        /// Why.
        reason: String,
    },
    /// A size that cannot be.
    #[error("{subject} cannot have that size: {reason}")]
    Size {
        /// What.
        subject: String,
        /// Why.
        reason: String,
    },
    /// The state of the volume does not allow it.
    #[error("{subject} is not ready for that: {reason}")]
    NotReady {
        /// Which.
        subject: String,
        /// Why.
        reason: String,
    },
    /// The pool has no room for it.
    #[error("the pool is too full for {subject}: {reason}")]
    PoolFull {
        /// What.
        subject: String,
        /// The numbers.
        reason: String,
    },
    /// No more volumes can be attached to a node.
    #[error(
        "{subject} cannot be attached to node {node:?}: {limit} volumes are attached there, which is the limit"
    )]
    NodeFull {
        /// Which volume.
        subject: String,
        /// Which node.
        node: String,
        /// How many it takes.
        limit: u64,
    },
    /// The kernel of this machine cannot limit I/O.
    #[error("the I/O of {subject} cannot be limited here: {missing}")]
    NoIoLimits {
        /// Which volume.
        subject: String,
        /// What the kernel, or its setup, lacks.
        missing: String,
    },
    /// The filesystem in a volume is damaged, or not what it should be.
    #[error("the filesystem of {subject} cannot be used: {report}")]
    Filesystem {
        /// Which volume.
        subject: String,
        /// What the checking program said.
        report: String,
    },
    /// The kernel would not grow a mounted filesystem.
    #[error("the filesystem of {subject} cannot grow while it is mounted: {report}")]
    OnlineGrow {
        /// Which volume.
        subject: String,
        /// What the growing program said.
        report: String,
    },
    /// A filesystem could not be frozen, or was thawed before the cut was complete.
    #[error("{subject} could not be quiesced: {reason}")]
    Freeze {
        /// Which volume.
        subject: String,
        /// Why.
        reason: String,
    },
    /// A program that is needed is missing, or failed.
    #[error("{program} failed on {subject}: {report}")]
    Program {
        /// Which program.
        program: String,
        /// On what.
        subject: String,
        /// The end of what it said.
        report: String,
    },
    /// The operating system refused.
    #[error("{action} {path}")]
    System {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The registry refused.
    #[error("the driver's registry: {action}")]
    Registry {
        /// What was being done.
        action: String,
        /// Why.
        #[source]
        cause: rusqlite::Error,
    },
    /// The bytes of an image.
    #[error("the image of {subject}")]
    Blocks {
        /// Which.
        subject: String,
        /// Why.
        #[source]
        cause: BlockIoError,
    },
    /// Our mistake.
    #[error("the driver made a mistake: {what}")]
    Bug {
        /// What.
        what: String,
    },
}

impl CoreError {
    pub(crate) fn system(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |cause| Self::System { action, path, cause }
    }

    pub(crate) fn errno(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(rustix::io::Errno) -> Self {
        let path = path.into();
        move |errno| Self::System { action, path, cause: errno.into() }
    }

    /// Whether a disk was full.
    pub(crate) fn is_full(&self) -> bool {
        match self {
            Self::System { cause, .. } => {
                matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Blocks { cause, .. } => cause.is_full(),
            Self::Registry { cause, .. } => cause.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull),
            _ => false,
        }
    }
}

impl Failure for CoreError {
    fn code(&self) -> &'static str {
        match self {
            Self::Busy { .. } => "driver.busy",
            Self::NotFound { .. } => "driver.not-found",
            Self::InUse { .. } => "driver.in-use",
            Self::Conflict { .. } => "driver.conflict",
            Self::Refused { .. } => "driver.refused",
            Self::Size { .. } => "driver.size",
            Self::NotReady { .. } => "driver.not-ready",
            Self::PoolFull { .. } => "driver.pool-full",
            Self::System { .. } | Self::Blocks { .. } | Self::Registry { .. } if self.is_full() => {
                "driver.pool-full"
            }
            Self::NodeFull { .. } => "driver.node-full",
            Self::NoIoLimits { .. } => "driver.no-io-limits",
            Self::Filesystem { .. } => "driver.filesystem",
            Self::OnlineGrow { .. } => "driver.online-grow",
            Self::Freeze { .. } => "driver.freeze",
            Self::Program { .. } => "driver.program",
            Self::System { .. } => "driver.system",
            Self::Registry { .. } => "driver.registry",
            Self::Blocks { cause, .. } => cause.code(),
            Self::Bug { .. } => "driver.bug",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Busy { .. } | Self::InUse { .. } => Remedy::Wait,
            Self::NotFound { .. } | Self::Conflict { .. } | Self::Refused { .. } | Self::Size { .. } => {
                Remedy::FixRequest
            }
            Self::NotReady { .. } | Self::Freeze { .. } => Remedy::Retry,
            Self::Filesystem { .. } => Remedy::FixData,
            Self::PoolFull { .. }
            | Self::NodeFull { .. }
            | Self::NoIoLimits { .. }
            | Self::OnlineGrow { .. }
            | Self::Program { .. }
            | Self::System { .. }
            | Self::Registry { .. }
            | Self::Blocks { .. } => Remedy::FixSurroundings,
            Self::Bug { .. } => Remedy::Bug,
        }
    }

    fn advice(&self) -> String {
        match self {
            _ if self.is_full() => "delete snapshots or volumes that are no longer needed, or give the driver a larger pool".to_owned(),
            Self::Busy { .. } => "wait until it has ended, then ask again".to_owned(),
            Self::NotFound { .. } => "look at `strongroom volume list` and `strongroom snapshot list`".to_owned(),
            Self::InUse { .. } => "end what uses it, then ask again".to_owned(),
            Self::Conflict { .. } => "choose another name, or ask for exactly what is there".to_owned(),
            Self::Refused { .. } | Self::Size { .. } => "change the request".to_owned(),
            Self::NotReady { .. } => "bring it into the state that is asked for, then ask again".to_owned(),
            Self::PoolFull { .. } => "delete snapshots or volumes that are no longer needed, or give the driver a larger pool".to_owned(),
            Self::NodeFull { .. } => "let the workload run on another node, or raise the driver's --max-volumes".to_owned(),
            Self::NoIoLimits { .. } => {
                "mount a cgroup hierarchy with the io or blkio controller where --cgroup-root says, writable for the driver; or ask for no limit".to_owned()
            }
            Self::Filesystem { .. } => {
                "end what uses it and try again; else repair it by hand (e2fsck or xfs_repair on its device; what was found is kept as a snapshot), or restore it from a recovery point".to_owned()
            }
            Self::OnlineGrow { .. } => {
                "unmount it and mount it again: it grows before the next mount; or give the driver CAP_SYS_RESOURCE; xfs and btrfs grow without it".to_owned()
            }
            Self::Freeze { .. } => "try again when the volume is less busy".to_owned(),
            Self::Program { .. } => "check that the program is installed; its message says what else is wrong".to_owned(),
            Self::System { .. } => "the message says what the operating system refused; the kernel's log may say more".to_owned(),
            Self::Registry { .. } => "check that the state folder is writable and has space; the registry is never made anew by itself".to_owned(),
            Self::Blocks { cause, .. } => cause.advice(),
            Self::Bug { .. } => "report this, with the driver's log".to_owned(),
        }
    }
}
