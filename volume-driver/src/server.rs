//! The driver's door: one Unix socket that serves CSI and the control service.
//!
//! Whoever may open the socket may mount and delete volumes, so it belongs to root alone from its first moment. A
//! socket that a killed driver left is taken away, but only after nobody has answered on it. Stopping ends calls, not
//! mounts: workloads go on while the driver is away.

use std::future::Future;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use strongroom_model::{Failure, Remedy};
use strongroom_proto::EndpointError;
use strongroom_proto::control::driver_control_server::DriverControlServer;
use strongroom_proto::csi::controller_server::ControllerServer;
use strongroom_proto::csi::group_controller_server::GroupControllerServer;
use strongroom_proto::csi::identity_server::IdentityServer;
use strongroom_proto::csi::node_server::NodeServer;
use strongroom_proto::csi::snapshot_metadata_server::SnapshotMetadataServer;
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use crate::control::Control;
use crate::csi::Csi;
use crate::metrics::{Calls, CountCalls};
use crate::points::Courier;
use crate::{Points, Provision, Volumes};

/// How many connections may wait to be accepted. Callers are a handful of sidecars and people.
const BACKLOG: i32 = 128;

/// How many calls of one connection run at once; more wait. Each holds at most one thread for blocking work.
const CALLS_AT_ONCE: usize = 64;

/// How soon a container that starts is limited. Volumes without limits cost nothing.
const LIMITS_EVERY: Duration = Duration::from_secs(3);

/// How long calls that are going on may take to end after the signal to stop. What is cut off then is finished or
/// undone at the next start.
const LAST_CALLS: Duration = Duration::from_secs(20);

/// The driver cannot serve at its endpoint.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The endpoint is no Unix socket.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// Another process answers there.
    #[error("another process serves at {}", path.display())]
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is no socket is there; it is left alone.
    #[error("{} exists and is not a socket", path.display())]
    NotASocket {
        /// What is there.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{action} {}", path.display())]
    System {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// gRPC stopped by itself.
    #[error("serving at {}", path.display())]
    Transport {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        cause: tonic::transport::Error,
    },
}

impl ServeError {
    fn system(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |cause| Self::System { action, path, cause }
    }
}

impl Failure for ServeError {
    fn code(&self) -> &'static str {
        match self {
            Self::Endpoint(cause) => cause.code(),
            Self::Taken { .. } => "endpoint.taken",
            Self::NotASocket { .. } => "endpoint.not-a-socket",
            Self::System { .. } | Self::Transport { .. } => "endpoint.failed",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Endpoint(_) | Self::NotASocket { .. } => Remedy::FixRequest,
            Self::Taken { .. } | Self::System { .. } | Self::Transport { .. } => Remedy::FixSurroundings,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Endpoint(cause) => cause.advice(),
            Self::Taken { .. } => {
                "stop the driver that runs there, or give this one another --endpoint".into()
            }
            Self::NotASocket { .. } => "move that file away, or give another --endpoint".into(),
            Self::System { .. } | Self::Transport { .. } => {
                "check that the folder of the socket exists and belongs to root".into()
            }
        }
    }
}

/// A bound socket, ours and only ours. Its file goes away with it.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    name: Name,
    calls: Calls,
    grow_on_node: bool,
}

impl Socket {
    /// Binds the socket that `endpoint` names, mode 0600. Its folder is made, mode 0700, when there is none.
    ///
    /// # Errors
    /// When somebody serves there already, something else is there, or the operating system refuses.
    pub async fn bind(endpoint: &str) -> Result<Self, ServeError> {
        let path = strongroom_proto::socket_path(endpoint)?;
        Self::make_folder(&path)?;
        Self::clear(&path).await?;
        let listener = Self::listen(&path).map_err(|errno| match errno {
            // Another driver was faster between our look and our bind.
            rustix::io::Errno::ADDRINUSE => ServeError::Taken { path: path.clone() },
            other => ServeError::system("binding the socket", &path)(other.into()),
        })?;
        let listener =
            UnixListener::from_std(listener).map_err(ServeError::system("listening on the socket", &path))?;
        let inode = std::fs::symlink_metadata(&path)
            .map_err(ServeError::system("looking at the socket", &path))?
            .ino();
        Ok(Self { listener, name: Name { path, inode }, calls: Calls::default(), grow_on_node: false })
    }

    fn make_folder(path: &Path) -> Result<(), ServeError> {
        match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() && !folder.exists() => std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(ServeError::system("making the folder", folder)),
            _ => Ok(()),
        }
    }

    /// Takes a socket away on which nobody answers.
    async fn clear(path: &Path) -> Result<(), ServeError> {
        let found = match std::fs::symlink_metadata(path) {
            Ok(found) => found,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(cause) => return Err(ServeError::system("looking at", path)(cause)),
        };
        if !found.file_type().is_socket() {
            return Err(ServeError::NotASocket { path: path.to_owned() });
        }
        match UnixStream::connect(path).await {
            Err(cause) if cause.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(ServeError::system("removing the old socket", path))
            }
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
            // Whoever answers, or is too busy to, is alive.
            Ok(_) | Err(_) => Err(ServeError::Taken { path: path.to_owned() }),
        }
    }

    /// The mode is set on the socket before it gets its name, so that there is no moment at which others could open it.
    fn listen(path: &Path) -> rustix::io::Result<std::os::unix::net::UnixListener> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        rustix::net::listen(&socket, BACKLOG)?;
        Ok(socket.into())
    }

    /// Where the socket lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.name.path
    }

    /// The listener, and the name that goes away with the second value.
    pub(crate) fn into_parts(self) -> (UnixListener, Name) {
        (self.listener, self.name)
    }

    /// Whether only the node's side grows volumes, as where one resizer serves many nodes.
    #[must_use]
    pub fn growing_on_node(mut self, grow_on_node: bool) -> Self {
        self.grow_on_node = grow_on_node;
        self
    }

    /// What is asked through this socket, counted.
    pub(crate) fn calls(&self) -> Calls {
        self.calls.clone()
    }

    /// Serves `volumes`, and recovery points by way of `points`, until `stop` is done, and then until the calls that are
    /// going on have ended, within bounds.
    ///
    /// # Errors
    /// When gRPC gives up by itself.
    pub async fn serve(
        self,
        volumes: Volumes,
        points: Points,
        findings: Vec<String>,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<(), ServeError> {
        // The name stays until the end of this function.
        let Self { listener, name, calls, grow_on_node } = self;
        let provision = Provision::new(volumes.clone(), points.clone());
        let courier = Courier::new(volumes.clone(), points.clone());
        let csi = Csi::new(volumes.clone(), provision.clone(), points, courier.clone())
            .growing_on_node(grow_on_node);
        let limiting = limit_again(volumes.clone());
        let (stopping, stopped) = tokio::sync::oneshot::channel();
        let serving = Server::builder()
            .layer(CountCalls(calls))
            .concurrency_limit_per_connection(CALLS_AT_ONCE)
            .add_service(IdentityServer::new(csi.clone()))
            .add_service(ControllerServer::new(csi.clone()))
            .add_service(GroupControllerServer::new(csi.clone()))
            .add_service(NodeServer::new(csi.clone()))
            .add_service(SnapshotMetadataServer::new(csi))
            .add_service(DriverControlServer::new(Control::new(volumes, provision, findings)))
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), async move {
                stop.await;
                // The receiver is gone only when serving has ended already.
                let _ = stopping.send(());
            });
        let patience = async {
            match stopped.await {
                Ok(()) => tokio::time::sleep(LAST_CALLS).await,
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = serving => ended.map_err(|cause| ServeError::Transport { path: name.path.clone(), cause }),
            // It never ends by itself; its end is that of the others.
            () = limiting => Ok(()),
            () = courier.run() => Ok(()),
            () = patience => {
                tracing::warn!(seconds = LAST_CALLS.as_secs(), "stopped although calls were still going on");
                Ok(())
            }
        }
    }
}

/// Lets limits of I/O hold also in control groups that came since: a container starts after its volume is published.
async fn limit_again(volumes: Volumes) {
    let mut failing = false;
    loop {
        tokio::time::sleep(LIMITS_EVERY).await;
        let limited = volumes.limit_again().await;
        if let (Err(error), false) = (&limited, failing) {
            tracing::warn!(
                error = strongroom_model::chain(error),
                "volumes are not limited as they should be"
            );
        }
        failing = limited.is_err();
    }
}

/// Takes the socket's file away at the end, unless somebody else's is there by now.
#[derive(Debug)]
pub(crate) struct Name {
    path: PathBuf,
    inode: u64,
}

impl Name {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            // A socket that stays is taken away at the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests;
