//! Counting what is asked of the driver: by method and by how it ended.
//!
//! A layer around all services, so that no service has to remember to count. How a call ended is read where gRPC says it: in
//! the head of the response when it failed at once, in the trailers otherwise. A caller that goes away before has cancelled.

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tonic::Code;
use tower::{Layer, Service};

/// How many different methods are counted by name: more than all that are offered. What else is called is `other`.
const METHODS: usize = 128;

/// From a look at the registry to a filesystem check of a large volume, in seconds.
const BUCKETS: [f64; 10] = [0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 30.0, 120.0, 600.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Method {
    service: String,
    method: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ending {
    service: String,
    method: String,
    code: &'static str,
}

/// What was asked since the driver started. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Calls {
    ended: Family<Ending, Counter>,
    seconds: Family<Method, Histogram>,
    running: Gauge,
    known: Arc<Mutex<HashSet<Method>>>,
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            ended: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            running: Gauge::default(),
            known: Arc::default(),
        }
    }
}

impl Calls {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "strongroom_driver_operations",
            "Calls that ended, by gRPC service, method and code",
            self.ended.clone(),
        );
        registry.register(
            "strongroom_driver_operation_duration_seconds",
            "How long calls took",
            self.seconds.clone(),
        );
        registry.register(
            "strongroom_driver_operations_running",
            "Calls that are going on",
            self.running.clone(),
        );
    }

    /// A call of `service` (such as `csi.v1.Node`) begins.
    pub(crate) fn begin(&self, service: &str, method: &str) -> Call {
        self.running.inc();
        Call {
            calls: self.clone(),
            method: self.bounded(service, method),
            began: Instant::now(),
            code: Code::Cancelled,
        }
    }

    /// Names come from callers, and each takes memory for good.
    fn bounded(&self, service: &str, method: &str) -> Method {
        let named = Method { service: service.to_owned(), method: method.to_owned() };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let short = service.len() + method.len() <= 128;
        if known.contains(&named) || (short && known.len() < METHODS && known.insert(named.clone())) {
            named
        } else {
            Method { service: "other".to_owned(), method: "other".to_owned() }
        }
    }
}

/// A call that is going on. It is counted when it is dropped.
#[derive(Debug)]
pub(crate) struct Call {
    calls: Calls,
    method: Method,
    began: Instant,
    /// Until it is known: a call that nobody waits for any more.
    code: Code,
}

impl Call {
    /// How it ended.
    pub(crate) fn ended(&mut self, code: Code) {
        self.code = code;
    }

    /// How it ended, if these headers (or trailers) say so.
    fn read(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get("grpc-status") {
            self.ended(Code::from_bytes(status.as_bytes()));
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let Method { service, method } = self.method.clone();
        let seconds: Duration = self.began.elapsed();
        self.calls.running.dec();
        self.calls.seconds.get_or_create(&self.method).observe(seconds.as_secs_f64());
        self.calls.ended.get_or_create(&Ending { service, method, code: name(self.code) }).inc();
    }
}

/// As gRPC writes it.
const fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// Puts the counting around services.
#[derive(Debug, Clone)]
pub(crate) struct CountCalls(pub(crate) Calls);

impl<S> Layer<S> for CountCalls {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, calls: self.0.clone() }
    }
}

/// A service whose calls are counted.
#[derive(Debug, Clone)]
pub(crate) struct Counted<S> {
    inner: S,
    calls: Calls,
}

impl<S, Q, A> Service<Request<Q>> for Counted<S>
where
    S: Service<Request<Q>, Response = Response<A>>,
    S::Future: Send + 'static,
{
    type Response = Response<CountedBody<A>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let path = request.uri().path().trim_start_matches('/');
        let (service, method) = path.split_once('/').unwrap_or(("other", "other"));
        let mut call = self.calls.begin(service, method);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            call.read(response.headers());
            Ok(response.map(|body| CountedBody { body, call }))
        })
    }
}

/// The body of an answer; its end is the end of the call.
#[derive(Debug)]
pub(crate) struct CountedBody<B> {
    body: B,
    call: Call,
}

impl<B: Body + Unpin> Body for CountedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            self.call.read(trailers);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_that_nobody_offers_do_not_fill_the_memory() {
        let calls = Calls::default();
        calls.begin("csi.v1.Node", "NodeGetInfo").ended(Code::Ok);
        for number in 0..10 * METHODS {
            drop(calls.begin("made.up", &format!("Method{number}")));
        }
        drop(calls.begin("long", &"x".repeat(1000)));
        calls.begin("csi.v1.Node", "NodeGetInfo").ended(Code::Ok);
        let mut registry = Registry::default();
        calls.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let counted = text.lines().filter(|line| line.starts_with("strongroom_driver_operations_total"));
        assert_eq!(counted.count(), METHODS + 1);
        assert!(text.contains(
            "strongroom_driver_operations_total{service=\"csi.v1.Node\",method=\"NodeGetInfo\",code=\"OK\"} 2"
        ));
        assert!(text.contains("strongroom_driver_operations_running 0"), "{text}");
    }
}
