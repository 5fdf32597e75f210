//! The agent's socket: gRPC's own health service, for service managers and monitoring.
//!
//! SERVING means: driver and repository answer, and no volume's last backup failed. It is the agent's own belief; whether the
//! volumes are protected is what `strongroom status` computes.

use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use strongroom_model::{Failure, Remedy};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, health_reporter};

/// Connections that may wait to be accepted, and calls of one connection that run at once: the driver is the one who calls.
const BACKLOG: i32 = 64;
const CALLS_AT_ONCE: usize = 64;

/// The name of the service whose health is told, besides the empty one.
const SERVICE: &str = "strongroom.agent";

/// The socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another agent is there.
    #[error("an agent answers at {} already", path.display())]
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// It cannot be made.
    #[error("serving the agent's socket {}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
}

impl Failure for SocketError {
    fn code(&self) -> &'static str {
        match self {
            Self::Taken { .. } => "agent.running",
            Self::Io { .. } => "agent.socket",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Taken { .. } => Remedy::FixRequest,
            Self::Io { .. } => Remedy::FixSurroundings,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Taken { .. } => {
                "Stop the other agent, or give this one another `socket` in [agent].".into()
            }
            Self::Io { .. } => "Choose a `socket` in [agent] whose folder is there and writable.".into(),
        }
    }
}

/// Tells others how the agent is. Without a socket it tells nobody.
#[derive(Debug, Clone, Default)]
pub struct Health {
    reporter: Option<HealthReporter>,
    /// Only held: the file goes with the last clone, whatever becomes of the task that serves it.
    _socket: Option<Arc<SocketFile>>,
}

/// The socket in the filesystem, as long as an agent answers there.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
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

impl Health {
    /// Serves a socket, with what `routes` adds to it, until `cancel`; a socket that a killed agent left behind is replaced.
    ///
    /// # Errors
    /// When another agent answers there, or the socket cannot be made.
    pub async fn serve(
        path: &Path,
        routes: impl FnOnce(Routes) -> Routes,
        cancel: CancellationToken,
    ) -> Result<Self, SocketError> {
        let failed = |cause| SocketError::Io { path: path.to_owned(), cause };
        if UnixStream::connect(path).await.is_ok() {
            return Err(SocketError::Taken { path: path.to_owned() });
        }
        if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
            std::fs::remove_file(path).map_err(failed)?;
        }
        if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        }
        let listener = listen(path).map_err(|errno| failed(errno.into()))?;
        let listener = UnixListener::from_std(listener).map_err(failed)?;
        let (reporter, service) = health_reporter();
        let routes = routes(Routes::new(service));
        tokio::spawn(async move {
            let serving = tonic::transport::Server::builder()
                .concurrency_limit_per_connection(CALLS_AT_ONCE)
                .add_routes(routes)
                .serve_with_incoming_shutdown(UnixListenerStream::new(listener), cancel.cancelled_owned());
            if let Err(error) = serving.await {
                tracing::error!(%error, "the agent's socket is served no longer");
            }
        });
        let health = Self { reporter: Some(reporter), _socket: Some(Arc::new(SocketFile(path.to_owned()))) };
        health.tell(true).await;
        Ok(health)
    }

    /// Whether all is well, as far as the agent knows.
    pub async fn tell(&self, well: bool) {
        if let Some(reporter) = &self.reporter {
            let status = if well { ServingStatus::Serving } else { ServingStatus::NotServing };
            reporter.set_service_status("", status).await;
            reporter.set_service_status(SERVICE, status).await;
        }
    }
}
