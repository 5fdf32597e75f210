//! The page of metrics, over HTTP.
//!
//! Whoever can reach the port can ask, so nothing that is asked costs much: a few connections at a time, one request
//! each, no bodies, bounded headers, bounded time. It serves what [`Watched`] says and changes nothing.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use strongroom_model::{Failure, Remedy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// How many are served at once; more wait in the kernel's queue. A Prometheus or two, and somebody with curl.
const CONNECTIONS: usize = 8;

/// The longest head of a request.
const HEAD_BYTES: usize = 16 * 1024;

/// How long a request may take to arrive, and its answer to be fetched.
const PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 300 } else { 5000 });

/// How long it may take to compute a page: what Prometheus waits by default.
const COMPUTE: Duration = Duration::from_secs(10);

/// What is served: OpenMetrics, which Prometheus reads.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The port cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("serving metrics at {address}")]
pub struct ListenError {
    /// Where.
    address: SocketAddr,
    #[source]
    cause: io::Error,
}

impl Failure for ListenError {
    fn code(&self) -> &'static str {
        "metrics.listen"
    }

    fn remedy(&self) -> Remedy {
        Remedy::FixRequest
    }

    fn advice(&self) -> String {
        "give another --metrics-listen: an address of this machine with a port that is free".into()
    }
}

/// A service that can be watched. Neither question may wait for an operation of the service.
pub trait Watched: Send + Sync + 'static {
    /// All metrics, as OpenMetrics text.
    fn metrics(&self) -> impl Future<Output = String> + Send;

    /// Whether requests can be served; if not, why, in a sentence.
    fn ready(&self) -> impl Future<Output = Result<(), String>> + Send;
}

/// A served port. It is closed when this is dropped.
#[derive(Debug)]
#[must_use]
pub struct Endpoint {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Endpoint {
    /// Serves `watched` at `address`; port 0 takes any that is free.
    ///
    /// # Errors
    /// When the port cannot be listened on.
    pub async fn serve(address: SocketAddr, watched: Arc<impl Watched>) -> Result<Self, ListenError> {
        let failed = |cause| ListenError { address, cause };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let task = tokio::spawn(accept(listener, watched));
        Ok(Self { address, task })
    }

    /// Where it is served.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn accept(listener: TcpListener, watched: Arc<impl Watched>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let watched = Arc::clone(&watched);
                tokio::spawn(async move {
                    let _place = place;
                    converse(stream, watched).await;
                });
            }
            Err(error) => {
                // No descriptors left, for one: it passes, and asking at once again would only burn time.
                tracing::warn!(%error, "a connection to the metrics was not accepted");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, watched: Arc<impl Watched>) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        // A connection that stays open would hold its place.
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(move |request| {
                let watched = Arc::clone(&watched);
                async move { Ok::<_, Infallible>(answer(&request, &*watched).await) }
            }),
        );
    // Whoever breaks off in the middle hears nothing more; there is nothing to mend and nobody to tell.
    let _ = tokio::time::timeout(PATIENCE + COMPUTE + PATIENCE, connection).await;
}

async fn answer(request: &Request<Incoming>, watched: &impl Watched) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n");
    }
    match request.uri().path() {
        "/metrics" => match tokio::time::timeout(COMPUTE, watched.metrics()).await {
            Ok(text) => {
                let mut response = Response::new(Full::from(text));
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(OPEN_METRICS));
                response
            }
            Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE, "the metrics took too long to gather\n"),
        },
        "/healthz" => plain(StatusCode::OK, "it runs\n"),
        "/readyz" => match tokio::time::timeout(COMPUTE, watched.ready()).await {
            Ok(Ok(())) => plain(StatusCode::OK, "ready\n"),
            Ok(Err(reason)) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
            Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE, "no answer in time\n"),
        },
        _ => plain(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n"),
    }
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests;
