//! Driver and agent as those see them who watch: Prometheus over HTTP, systemd over its socket.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::content::write_files;
use crate::ground::{Ground, text};
use crate::kernel::is_root;

const ANY_PORT: &str = "127.0.0.1:0";

/// Where a service said that it serves metrics.
#[track_caller]
fn address_in(said: &str) -> String {
    let (_, rest) = said.split_once("metrics at http://").unwrap_or_else(|| panic!("no address: {said}"));
    rest.split('/').next().expect("a split has a first part").to_owned()
}

/// What is answered at `path`: the status and the body.
#[track_caller]
fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("metrics are served");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").expect("a request can be sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer comes");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a head has a status");
    (status, body.to_owned())
}

/// The names of all families on a page.
fn families(page: &str) -> BTreeSet<String> {
    let typed = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    typed
        .filter_map(|line| line.split_once(' '))
        .map(|(name, kind)| if kind == "counter" { format!("{name}_total") } else { name.to_owned() })
        .collect()
}

/// The names that docs/metrics.md explains, of those that begin with one of `prefixes`.
fn documented(prefixes: &[&str]) -> BTreeSet<String> {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let document = fs::read_to_string(document).expect("docs/metrics.md is there");
    let names = document.lines().filter_map(|line| line.strip_prefix("| `strongroom_")?.split('`').next());
    let names = names.map(|name| format!("strongroom_{name}"));
    names.filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix))).collect()
}

#[track_caller]
fn has(page: &str, line: &str) {
    assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
}

/// A socket such as systemd listens at, read all the time as systemd does: its queue holds ten messages.
struct Manager {
    heard: mpsc::Receiver<String>,
    path: String,
}

impl Manager {
    fn new(ground: &Ground, name: &str) -> Self {
        let path = text(&ground.path(name)).to_owned();
        let socket = UnixDatagram::bind(&path).expect("a socket can be bound");
        let (tell, heard) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok(bytes) = socket.recv(&mut buffer) {
                if tell.send(String::from_utf8_lossy(&buffer[..bytes]).into_owned()).is_err() {
                    return;
                }
            }
        });
        Self { heard, path }
    }

    /// Reads on until a message begins with `wanted`.
    #[track_caller]
    fn wait_for(&self, wanted: &str) {
        loop {
            let message = self.heard.recv_timeout(Duration::from_secs(60));
            if message.unwrap_or_else(|error| panic!("no {wanted}: {error}")).starts_with(wanted) {
                return;
            }
        }
    }
}

#[test]
fn the_driver_tells_prometheus_and_systemd_how_it_is() {
    if !is_root("the_driver_tells_prometheus_and_systemd_how_it_is") {
        return;
    }
    let mut ground = Ground::new();
    let manager = Manager::new(&ground, "notify");
    ground.set_env("NOTIFY_SOCKET", &manager.path);
    ground.set_env("WATCHDOG_USEC", "200000");
    ground.start_driver_with("2GiB", &["--metrics-listen", ANY_PORT]);
    manager.wait_for("READY=1\nSTATUS=");
    manager.wait_for("WATCHDOG=1");
    manager.wait_for("WATCHDOG=1");
    let mount = ground.mounted_volume("db", "64MiB");
    write_files(&mount, 8, 1_000_000, 1);
    ground.run(["volume", "create", "raw \"quoted\"", "--size", "32MiB", "--fs", "block"]).ok();
    ground.run(["snapshot", "create", "db", "--name", "one"]).ok();
    ground.run(["volume", "show", "db"]).ok();

    let address = address_in(&ground.driver_stderr());
    assert_eq!(get(&address, "/healthz").0, 200);
    assert_eq!(get(&address, "/readyz").0, 200);
    let (status, page) = get(&address, "/metrics");
    assert_eq!(status, 200);
    assert!(page.ends_with("# EOF\n"), "{page}");
    has(&page, "strongroom_volume_bytes{volume=\"db\"} 67108864.0");
    has(&page, "strongroom_volume_bytes{volume=\"raw \\\"quoted\\\"\"} 33554432.0");
    has(&page, "strongroom_volume_mounts{volume=\"db\",use=\"hand\"} 1.0");
    has(&page, "strongroom_volume_snapshots{volume=\"db\"} 1.0");
    has(&page, "strongroom_volume_condition{volume=\"db\"} 0.0");
    has(&page, "strongroom_driver_pool_condition 0.0");
    has(&page, "strongroom_driver_unknown_images 0.0");
    has(
        &page,
        "strongroom_driver_operations_total{service=\"strongroom.v1.DriverControl\",method=\"CreateSnapshot\",code=\"OK\"} 1",
    );
    assert!(!page.contains("strongroom_volume_used_bytes{volume=\"raw"), "nothing is mounted there\n{page}");
    let used =
        page.lines().find_map(|line| line.strip_prefix("strongroom_volume_used_bytes{volume=\"db\"} "));
    let used: f64 = used.and_then(|used| used.parse().ok()).expect("what a mounted volume holds is told");
    assert!(used > 1_000_000.0 && used < 67_108_864.0, "{used}");
    assert_eq!(families(&page), documented(&["strongroom_driver_", "strongroom_volume_"]));

    ground.run(["volume", "unmount", "db"]).ok();
    ground.stop_driver();
    manager.wait_for("STOPPING=1");
    ground.assert_nothing_leaks();
}

#[test]
fn the_agent_tells_prometheus_and_systemd_what_status_says() {
    if !is_root("the_agent_tells_prometheus_and_systemd_what_status_says") {
        return;
    }
    let mut ground = Ground::new();
    ground.init();
    ground.start_driver("2GiB");
    let mount = ground.mounted_volume("db", "64MiB");
    write_files(&mount, 4, 100_000, 1);
    let config = ground.config("");
    let manager = Manager::new(&ground, "notify");
    let agent = ground
        .call(["agent", "--config", text(&config), "--metrics-listen", ANY_PORT])
        .env("NOTIFY_SOCKET", &manager.path)
        .env("WATCHDOG_USEC", "200000")
        .start();
    manager.wait_for("READY=1");
    manager.wait_for("WATCHDOG=1");
    let address = address_in(&agent.stderr());
    let begun = Instant::now();
    let page = loop {
        let (_, page) = get(&address, "/metrics");
        if page.contains("strongroom_backup_last_success_timestamp_seconds{volume=\"db\"}") {
            break page;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "{page}{}", agent.stderr());
        thread::sleep(Duration::from_millis(100));
    };
    has(&page, "strongroom_agent_volumes{health=\"healthy\"} 1.0");
    has(&page, "strongroom_backup_at_risk{volume=\"db\"} 0.0");
    has(&page, "strongroom_backup_points{volume=\"db\"} 1.0");
    has(&page, "strongroom_backup_rpo_objective_seconds{volume=\"db\"} 7200.0");
    has(&page, "strongroom_agent_up 1.0");
    assert_eq!(get(&address, "/readyz").0, 200);
    assert_eq!(
        families(&page),
        documented(&["strongroom_agent_", "strongroom_backup_", "strongroom_repository_"])
    );
    agent.terminate().ok();
    manager.wait_for("STOPPING=1");
    ground.run(["volume", "unmount", "db"]).ok();
    ground.stop_driver();
    ground.assert_nothing_leaks();
}
