//! How a service is watched from outside: a page of metrics over HTTP, and what its service manager hears.
//!
//! Both the driver and the agent are services, and neither may depend on the other, so what they share for being
//! watched stands here. Without `--metrics-listen` nothing is served, and without a service manager nothing is told.
//!
//! * [`MonitoringArgs`]: the flags of both.
//! * [`Endpoint`]: `/metrics`, `/healthz`, `/readyz`, in bounded time and memory whoever asks.
//! * [`Page`]: how gauges that are computed for one scrape are written down.
//! * [`ServiceManager`]: systemd's notification protocol.

mod args;
mod endpoint;
mod page;
mod service_manager;

pub use args::MonitoringArgs;
pub use endpoint::{Endpoint, ListenError, Watched};
pub use page::{Page, Sample, collected};
pub use service_manager::{ServiceManager, SignOfLife};
