//! What the service manager hears: ready, stopping, and a sign of life.
//!
//! systemd's notification protocol is one datagram of text a message, to the socket that `NOTIFY_SOCKET` names. It is an
//! offer, never a need: a message that cannot be sent is worth a line of log and no more.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

/// How long a manager that does not read may hold up a start or an end.
const PATIENCE: Duration = Duration::from_secs(1);

/// The service manager that started this process, or none.
#[derive(Debug, Clone, Default)]
pub struct ServiceManager {
    socket: Option<Arc<(UnixDatagram, SocketAddr)>>,
    every: Option<Duration>,
}

/// Sends signs of life until it is dropped.
#[derive(Debug)]
#[must_use]
pub struct SignOfLife(Option<JoinHandle<()>>);

impl Drop for SignOfLife {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

impl ServiceManager {
    /// The one that listens at `socket`: a path, or `@` and an abstract name; empty: none. It wants a sign of life at
    /// least `every` so often.
    #[must_use]
    pub fn at(socket: &str, every: Option<Duration>) -> Self {
        match Self::connect(socket) {
            Ok(Some(socket)) => Self { socket: Some(Arc::new(socket)), every },
            Ok(None) => Self::default(),
            Err(error) => {
                tracing::warn!(%error, "the service manager cannot be told anything");
                Self::default()
            }
        }
    }

    fn connect(socket: &str) -> io::Result<Option<(UnixDatagram, SocketAddr)>> {
        let address = match socket.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None if socket.starts_with('/') => SocketAddr::from_pathname(socket)?,
            // Other kinds (vsock) are for machines, not for services.
            None => return Ok(None),
        };
        let datagram = UnixDatagram::unbound()?;
        // A manager that does not read must not hold us up.
        datagram.set_nonblocking(true)?;
        Ok(Some((datagram, address)))
    }

    /// The service can be used now. `status` is a sentence for people.
    pub fn ready(&self, status: &str) {
        self.insist(&format!("READY=1\nSTATUS={}\n", line(status)));
    }

    /// What the service is doing, a sentence for people.
    pub fn status(&self, status: &str) {
        self.tell(&format!("STATUS={}\n", line(status)));
    }

    /// The service begins to stop.
    pub fn stopping(&self) {
        self.insist("STOPPING=1\n");
    }

    /// Sends signs of life, each after `alive` was done once more, so that a service which hangs is started again. Nothing is
    /// sent where none is wanted.
    pub fn watch<F>(&self, alive: impl Fn() -> F + Send + 'static) -> SignOfLife
    where
        F: Future<Output = ()> + Send,
    {
        let (Some(_), Some(every)) = (&self.socket, self.every) else { return SignOfLife(None) };
        let manager = self.clone();
        SignOfLife(Some(tokio::spawn(async move {
            loop {
                alive().await;
                manager.tell("WATCHDOG=1\n");
                // Twice as often as asked for, as sd_watchdog_enabled(3) advises.
                tokio::time::sleep(every / 2).await;
            }
        })))
    }

    /// Says what must not be missed: a queue that signs of life have filled is waited for, [`PATIENCE`] at most.
    fn insist(&self, message: &str) {
        let begun = Instant::now();
        while let Err(error) = self.send(message) {
            if error.kind() != io::ErrorKind::WouldBlock || begun.elapsed() > PATIENCE {
                tracing::warn!(%error, "the service manager did not take a message");
                return;
            }
            thread::sleep(PATIENCE / 50);
        }
    }

    fn tell(&self, message: &str) {
        if let Err(error) = self.send(message) {
            tracing::warn!(%error, "the service manager did not take a message");
        }
    }

    fn send(&self, message: &str) -> io::Result<()> {
        let Some(socket) = &self.socket else { return Ok(()) };
        let (datagram, address) = &**socket;
        datagram.send_to_addr(message.as_bytes(), address).map(drop)
    }
}

/// A line ends a message's field, so a sentence has one line.
fn line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        let bytes = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..bytes]).into_owned()
    }

    #[tokio::test]
    async fn a_service_manager_hears_ready_signs_of_life_and_stopping() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let manager = ServiceManager::at(path.to_str().unwrap(), Some(Duration::from_millis(2)));
        manager.ready("it serves\nWATCHDOG=trigger");
        assert_eq!(heard(&socket), "READY=1\nSTATUS=it serves WATCHDOG=trigger\n");
        let life = manager.watch(|| async {});
        // The test's thread waits in a blocking call, so the task needs the other one.
        let two = tokio::task::spawn_blocking(move || [heard(&socket), heard(&socket)]).await.unwrap();
        assert_eq!(two, ["WATCHDOG=1\n", "WATCHDOG=1\n"]);
        drop(life);
    }

    #[test]
    fn the_end_is_heard_although_signs_of_life_have_filled_the_queue() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let manager = ServiceManager::at(path.to_str().unwrap(), None);
        while manager.send("WATCHDOG=1\n").is_ok() {}
        thread::scope(|scope| {
            scope.spawn(|| manager.stopping());
            while heard(&socket) != "STOPPING=1\n" {}
        });
    }

    #[test]
    fn a_manager_that_never_reads_holds_nothing_up_for_long() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let _socket = UnixDatagram::bind(&path).unwrap();
        let manager = ServiceManager::at(path.to_str().unwrap(), None);
        while manager.send("WATCHDOG=1\n").is_ok() {}
        manager.stopping();
    }

    #[test]
    fn without_a_service_manager_nothing_is_told_and_nothing_fails() {
        for nobody in ["", "vsock:2:1234", "/nowhere/at/all"] {
            let manager = ServiceManager::at(nobody, None);
            manager.ready("it serves");
            manager.stopping();
        }
    }

    #[test]
    fn an_abstract_name_is_understood() {
        let name = format!("strongroom-test-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        ServiceManager::at(&format!("@{name}"), None).status("waiting");
        assert_eq!(heard(&socket), "STATUS=waiting\n");
    }
}
