//! HTTP for the plugin: which call a request is, and how its answer goes out.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::Response;
use tokio::sync::Semaphore;

use super::Docker;
use super::calls::PluginError;
use super::wire::{Answer, CONTENT_TYPE, Request};
use crate::server::{ServeError, Socket};

/// A name, an id and options: more than this no call needs.
const BODY_BYTES: usize = 64 * 1024;

/// How many calls run at once; more wait. Each holds at most one thread for blocking work.
const CALLS_AT_ONCE: usize = 64;

/// How long calls that are going on may take to end after the signal to stop.
const LAST_CALLS: Duration = Duration::from_secs(20);

#[derive(Debug, Clone)]
struct Plugin {
    docker: Docker,
    turns: Arc<Semaphore>,
}

/// Serves Docker at `socket` until `stop` is done, and then until the calls that are going on have ended, within bounds.
pub(crate) async fn serve(
    socket: Socket,
    docker: Docker,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    // The name stays until the end of this function.
    let (listener, name) = socket.into_parts();
    let (stopping, stopped) = tokio::sync::oneshot::channel();
    let serving = axum::serve(listener, router(docker)).with_graceful_shutdown(async move {
        stop.await;
        let _ = stopping.send(());
    });
    tokio::select! {
        ended = serving => ended.map_err(|cause| ServeError::System {
            action: "serving Docker at",
            path: name.path().to_owned(),
            cause,
        }),
        () = async {
            match stopped.await {
                Ok(()) => tokio::time::sleep(LAST_CALLS).await,
                Err(_) => std::future::pending().await,
            }
        } => Ok(()),
    }
}

pub(super) fn router(docker: Docker) -> Router {
    let plugin = Plugin { docker, turns: Arc::new(Semaphore::new(CALLS_AT_ONCE)) };
    Router::new().fallback(handle).layer(DefaultBodyLimit::max(BODY_BYTES)).with_state(plugin)
}

async fn handle(
    State(plugin): State<Plugin>,
    method: Method,
    uri: Uri,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Infallible> {
    let _turn = plugin.turns.acquire().await.expect("the semaphore is never closed");
    let began = Instant::now();
    let call = uri.path().trim_start_matches('/').to_owned();
    let (name, answer) = match read(&method, body) {
        Ok(request) => (request.name.clone(), plugin.docker.answer(&call, request).await),
        Err(error) => (String::new(), Err(error)),
    };
    let ms = began.elapsed().as_millis();
    Ok(match answer {
        Ok(answer) => {
            tracing::debug!(call, name, ms, "answered Docker");
            respond(StatusCode::OK, &answer)
        }
        Err(error) => {
            let message = error.message();
            tracing::info!(call, name, ms, "refused Docker: {message}");
            respond(error.http(), &Answer { err: message, ..Answer::default() })
        }
    })
}

/// Docker sends no body where a call has no arguments, and labels bodies in several ways, so the label does not count.
fn read(method: &Method, body: Result<Bytes, BytesRejection>) -> Result<Request, PluginError> {
    if method != Method::POST {
        return Err(PluginError::Method);
    }
    let body = body.map_err(|cause| PluginError::Body { reason: cause.body_text() })?;
    if body.is_empty() {
        return Ok(Request::default());
    }
    // `null` is what Docker makes of no arguments.
    serde_json::from_slice::<Option<Request>>(&body)
        .map(Option::unwrap_or_default)
        .map_err(|cause| PluginError::Body { reason: cause.to_string() })
}

fn respond(status: StatusCode, answer: &Answer) -> Response {
    let body = serde_json::to_vec(answer).expect("answers are plain data");
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, CONTENT_TYPE)
        .body(Body::from(body))
        .expect("the head is constant")
}
