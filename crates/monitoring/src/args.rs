//! The flags that driver and agent share for being watched.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use crate::ServiceManager;

/// How the service is watched.
#[derive(Debug, Clone, Default, Args)]
pub struct MonitoringArgs {
    /// Serve metrics for Prometheus at http://ADDRESS/metrics (with /healthz and /readyz), such as 127.0.0.1:9810
    /// [default: nowhere]
    #[arg(long, value_name = "ADDRESS", env = "STRONGROOM_METRICS_LISTEN")]
    pub metrics_listen: Option<SocketAddr>,
    /// Where a service manager listens (systemd sets it)
    #[arg(long, hide = true, env = "NOTIFY_SOCKET")]
    notify_socket: Option<String>,
    /// How often a service manager wants a sign of life, in microseconds (systemd sets it)
    #[arg(long, hide = true, env = "WATCHDOG_USEC")]
    watchdog_usec: Option<String>,
    /// From which process it wants that (systemd sets it)
    #[arg(long, hide = true, env = "WATCHDOG_PID")]
    watchdog_pid: Option<String>,
}

impl MonitoringArgs {
    /// The service manager that started us, if one did. What it set and makes no sense is left aside: it is no reason
    /// not to start.
    #[must_use]
    pub fn service_manager(&self) -> ServiceManager {
        let number = |text: &Option<String>| text.as_ref().and_then(|text| text.parse::<u64>().ok());
        let meant = number(&self.watchdog_pid).is_none_or(|pid| pid == u64::from(std::process::id()));
        let every = number(&self.watchdog_usec).filter(|usec| meant && *usec > 0).map(Duration::from_micros);
        ServiceManager::at(self.notify_socket.as_deref().unwrap_or_default(), every)
    }
}
