//! The agent's socket: gRPC's own health service, for service managers and monitoring.
//!
//! SERVING means: driver and repository answer, and no volume's last backup failed. It is the agent's own belief; whether the
//! volumes are protected is what `strongroom status` computes.

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strongroom_model::{Failure, Remedy};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, health_reporter};

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

impl Health {
    /// Serves a socket until `cancel`; a socket that a killed agent left behind is replaced.
    ///
    /// # Errors
    /// When another agent answers there, or the socket cannot be made.
    pub async fn serve(path: &Path, cancel: CancellationToken) -> Result<Self, SocketError> {
        let failed = |cause| SocketError::Io { path: path.to_owned(), cause };
        if UnixStream::connect(path).await.is_ok() {
            return Err(SocketError::Taken { path: path.to_owned() });
        }
        if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
            std::fs::remove_file(path).map_err(failed)?;
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let (reporter, service) = health_reporter();
        tokio::spawn(async move {
            let serving = tonic::transport::Server::builder()
                .add_service(service)
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
