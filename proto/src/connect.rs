//! Reaches a driver on its Unix socket.
//!
//! An endpoint is written `unix:///path`, `unix://path` or as a bare path (Docker gives it so). What can go wrong is
//! told apart here, before gRPC makes one "transport error" of it: no such socket, nobody listens, not a socket.

use std::io;
use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use strongroom_model::{Failure, Remedy};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::{control, csi};

/// Lists are not paged, and a volume takes some hundred bytes: this is room for tens of thousands.
const LARGEST_ANSWER_BYTES: usize = 64 << 20;

/// The text is not the address of a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// No path at all.
    #[error("the endpoint is empty")]
    Empty,
    /// Some other kind of address.
    #[error("the endpoint {text:?} is not a Unix socket")]
    Scheme {
        /// What was given.
        text: String,
    },
    /// The kernel allows 107 bytes for the path of a socket.
    #[error("the socket path {} has {bytes} bytes; the kernel allows 107", path.display())]
    TooLong {
        /// The path.
        path: PathBuf,
        /// How long it is.
        bytes: usize,
    },
}

impl Failure for EndpointError {
    fn code(&self) -> &'static str {
        "endpoint.invalid"
    }

    fn remedy(&self) -> Remedy {
        Remedy::FixRequest
    }

    fn advice(&self) -> String {
        match self {
            Self::Empty | Self::Scheme { .. } => {
                "give the driver's socket as unix:///run/strongroom/csi.sock or as a plain path".into()
            }
            Self::TooLong { .. } => "choose a shorter path for the socket".into(),
        }
    }
}

/// The path of the socket that `endpoint` names.
///
/// # Errors
/// When it is no Unix socket, or its path is longer than the kernel allows.
pub fn socket_path(endpoint: &str) -> Result<PathBuf, EndpointError> {
    let path = match endpoint.strip_prefix("unix:") {
        Some(rest) => rest.strip_prefix("//").unwrap_or(rest),
        None if endpoint.contains("://") => return Err(EndpointError::Scheme { text: endpoint.into() }),
        None => endpoint,
    };
    match path.len() {
        0 => Err(EndpointError::Empty),
        1..=107 => Ok(PathBuf::from(path)),
        bytes => Err(EndpointError::TooLong { path: path.into(), bytes }),
    }
}

/// Nobody could be reached at an endpoint.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The text is no endpoint.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// There is no such file.
    #[error("there is no socket at {}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// There is a file of another kind.
    #[error("{} is not a socket", path.display())]
    NotASocket {
        /// What is there.
        path: PathBuf,
    },
    /// A socket is there, but nobody listens.
    #[error("nobody answers at {}", path.display())]
    Refused {
        /// The socket.
        path: PathBuf,
    },
    /// The socket belongs to somebody else.
    #[error("no permission to use the socket {}", path.display())]
    Denied {
        /// The socket.
        path: PathBuf,
    },
    /// Anything else the kernel says.
    #[error("connecting to the socket {}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What it says.
        #[source]
        cause: io::Error,
    },
    /// Somebody answers, but does not speak gRPC.
    #[error("the process at {} does not speak gRPC", path.display())]
    Transport {
        /// The socket.
        path: PathBuf,
        /// What gRPC says.
        #[source]
        cause: tonic::transport::Error,
    },
}

impl Failure for ConnectError {
    fn code(&self) -> &'static str {
        match self {
            Self::Endpoint(cause) => cause.code(),
            Self::Missing { .. } => "driver.no-socket",
            Self::NotASocket { .. } => "driver.not-a-socket",
            Self::Refused { .. } => "driver.not-running",
            Self::Denied { .. } => "driver.denied",
            Self::Io { .. } | Self::Transport { .. } => "driver.unreachable",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Endpoint(cause) => cause.remedy(),
            Self::NotASocket { .. } => Remedy::FixRequest,
            Self::Missing { .. } | Self::Refused { .. } | Self::Denied { .. } => Remedy::FixSurroundings,
            Self::Io { .. } | Self::Transport { .. } => Remedy::Retry,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Endpoint(cause) => cause.advice(),
            Self::Missing { .. } => {
                "start `strongroom driver` with this endpoint, or name the right one with --endpoint or STRONGROOM_ENDPOINT"
                    .into()
            }
            Self::NotASocket { .. } => "name the driver's socket with --endpoint or STRONGROOM_ENDPOINT".into(),
            Self::Refused { .. } => "the driver has stopped; start `strongroom driver` again".into(),
            Self::Denied { .. } => "the socket belongs to root: run the command as root".into(),
            Self::Io { .. } => "look at the cause and try again".into(),
            Self::Transport { .. } => "check that the endpoint is the driver's and try again".into(),
        }
    }
}

/// Everything a driver serves, over one connection. Clones share it.
#[derive(Debug, Clone)]
pub struct Clients {
    /// Who the driver is.
    pub identity: csi::identity_client::IdentityClient<Channel>,
    /// Volumes and snapshots.
    pub controller: csi::controller_client::ControllerClient<Channel>,
    /// Snapshots of several volumes.
    pub group_controller: csi::group_controller_client::GroupControllerClient<Channel>,
    /// Mounts on this machine.
    pub node: csi::node_client::NodeClient<Channel>,
    /// Changed blocks.
    pub snapshot_metadata: csi::snapshot_metadata_client::SnapshotMetadataClient<Channel>,
    /// What CSI has no words for.
    pub driver: control::driver_control_client::DriverControlClient<Channel>,
}

impl Clients {
    /// Everything over `channel`.
    #[must_use]
    pub fn over(channel: Channel) -> Self {
        Self {
            identity: csi::identity_client::IdentityClient::new(channel.clone()),
            controller: csi::controller_client::ControllerClient::new(channel.clone())
                .max_decoding_message_size(LARGEST_ANSWER_BYTES),
            group_controller: csi::group_controller_client::GroupControllerClient::new(channel.clone())
                .max_decoding_message_size(LARGEST_ANSWER_BYTES),
            node: csi::node_client::NodeClient::new(channel.clone()),
            snapshot_metadata: csi::snapshot_metadata_client::SnapshotMetadataClient::new(channel.clone())
                .max_decoding_message_size(LARGEST_ANSWER_BYTES),
            driver: control::driver_control_client::DriverControlClient::new(channel)
                .max_decoding_message_size(LARGEST_ANSWER_BYTES),
        }
    }
}

/// What the agent serves on its socket, beside its health. Clones share the connection.
#[derive(Debug, Clone)]
pub struct AgentClients {
    /// Recovery points and how they come about.
    pub backup: control::backup_control_client::BackupControlClient<Channel>,
    /// Bringing them back.
    pub restore: control::restore_control_client::RestoreControlClient<Channel>,
}

impl AgentClients {
    /// The agent at `endpoint`, whether it runs yet or not: the connection is made by the first call, and made again whenever it
    /// broke. Must be called within a runtime.
    ///
    /// # Errors
    /// When the text is no endpoint.
    pub fn at(endpoint: &str) -> Result<Self, EndpointError> {
        let path = socket_path(endpoint)?;
        let channel =
            Endpoint::from_static("http://strongroom.invalid").connect_with_connector_lazy(dial(path));
        Ok(Self {
            backup: control::backup_control_client::BackupControlClient::new(channel.clone())
                .max_decoding_message_size(LARGEST_ANSWER_BYTES),
            restore: control::restore_control_client::RestoreControlClient::new(channel),
        })
    }
}

/// Opens connections to a socket.
fn dial(
    path: PathBuf,
) -> impl tower::Service<
    tonic::transport::Uri,
    Response = TokioIo<UnixStream>,
    Error = io::Error,
    Future = impl Future<Output = io::Result<TokioIo<UnixStream>>> + Send,
> + Send
+ 'static {
    tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    })
}

/// Connects to the driver at `endpoint`. The connection is made again by itself when the driver restarts.
///
/// # Errors
/// Told apart by what a person would do next; see [`ConnectError`].
pub async fn connect(endpoint: &str) -> Result<Clients, ConnectError> {
    let path = socket_path(endpoint)?;
    // The first connection is tried by hand, because gRPC would hide why it fails.
    drop(open(&path).await?);
    let channel = Endpoint::from_static("http://strongroom.invalid")
        .connect_with_connector(dial(path.clone()))
        .await
        .map_err(|cause| ConnectError::Transport { path, cause })?;
    Ok(Clients::over(channel))
}

async fn open(path: &Path) -> Result<UnixStream, ConnectError> {
    let path_of = || path.to_path_buf();
    UnixStream::connect(path).await.map_err(|cause| match cause.kind() {
        io::ErrorKind::NotFound => ConnectError::Missing { path: path_of() },
        io::ErrorKind::PermissionDenied => ConnectError::Denied { path: path_of() },
        // The kernel answers "refused" for files that are no sockets, too.
        io::ErrorKind::ConnectionRefused if is_socket(path) => ConnectError::Refused { path: path_of() },
        io::ErrorKind::ConnectionRefused => ConnectError::NotASocket { path: path_of() },
        _ => ConnectError::Io { path: path_of(), cause },
    })
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    std::fs::metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

#[cfg(test)]
mod tests;
