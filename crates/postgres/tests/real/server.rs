//! A real PostgreSQL server of the test's own: in a folder of its own, as a user without rights, ended whatever happens.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The password of the role `strongroom`.
pub(crate) const PASSWORD: &str = "correct horse: batt\\ery";

/// A cluster, and its server while it runs.
pub(crate) struct Server {
    folder: TempDir,
    data: PathBuf,
    bin: PathBuf,
    user: Option<(u32, u32)>,
    pub(crate) port: u16,
}

/// Where Debian puts the programs of each version; the newest.
fn programs() -> Option<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .collect();
    found.retain(|bin| bin.join("initdb").exists());
    found.sort();
    found.pop()
}

/// PostgreSQL refuses to run as root: then it runs as the user that Debian made for it.
fn user() -> Option<(u32, u32)> {
    let is_root =
        std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    let text = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = text.lines().find(|line| line.starts_with("postgres:"))?;
    let mut fields = line.split(':').skip(2);
    let ids = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    is_root.then_some(ids)
}

impl Server {
    /// Makes a cluster and starts it. `None`, said loudly, where there is no PostgreSQL on this machine.
    pub(crate) fn start(settings: &str) -> Option<Self> {
        Self::start_on(None, settings)
    }

    /// The same, with its data on a filesystem that is mounted here.
    pub(crate) fn start_on(mount: Option<&Path>, settings: &str) -> Option<Self> {
        let Some(bin) = programs() else {
            eprintln!(
                "SKIPPED: no PostgreSQL below /usr/lib/postgresql (tests/setup/debian test installs it)"
            );
            return None;
        };
        let folder =
            tempfile::Builder::new().prefix("strongroom-pg-").tempdir().expect("the server of the test");
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .expect("the server of the test")
            .local_addr()
            .expect("the server of the test")
            .port();
        let data = mount.unwrap_or(folder.path()).join("data");
        let server = Self { folder, data, bin, user: user(), port };
        if let Some((uid, gid)) = server.user {
            if let Some(mount) = mount {
                std::os::unix::fs::chown(mount, Some(uid), Some(gid)).expect("the server of the test");
            }
            std::os::unix::fs::chown(server.folder.path(), Some(uid), Some(gid))
                .expect("the server of the test");
        }
        let data = server.data();
        server.run(
            "initdb",
            &[
                "-k",
                "-A",
                "trust",
                "-U",
                "postgres",
                "-N",
                "-D",
                data.to_str().expect("the server of the test"),
            ],
        );
        let common = format!(
            "port = {port}\nunix_socket_directories = '{}'\nlisten_addresses = '127.0.0.1'\nwal_keep_size = '4GB'\nshared_buffers = '16MB'\nmax_wal_size = '256MB'\nmax_connections = 20\n{settings}\n",
            server.folder.path().display()
        );
        std::fs::write(data.join("postgresql.auto.conf"), common).expect("the server of the test");
        let rules = "local all postgres trust\nlocal all,replication md5er md5\nlocal all,replication strongroom scram-sha-256\nhost all,replication all 127.0.0.1/32 scram-sha-256\n";
        std::fs::write(data.join("pg_hba.conf"), rules).expect("the server of the test");
        server.start_again();
        let password = PASSWORD.replace('\'', "''");
        server.sql(&format!("create role strongroom login replication password '{password}'"));
        server.sql("grant pg_monitor to strongroom");
        server.sql(&format!(
            "set password_encryption = 'md5'; create role md5er login replication password '{password}'"
        ));
        Some(server)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.data.clone()
    }

    /// The folder of its socket.
    pub(crate) fn socket(&self) -> &Path {
        self.folder.path()
    }

    /// A file with the password of `strongroom`.
    pub(crate) fn password_file(&self) -> PathBuf {
        let path = self.folder.path().join("password");
        if !path.exists() {
            std::fs::write(&path, PASSWORD).expect("the server of the test");
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
                .expect("the server of the test");
        }
        path
    }

    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
            .current_dir(self.folder.path())
            .env_clear()
            .env("LC_ALL", "C")
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, program: &str, args: &[&str]) -> Output {
        let output = self.command(program).args(args).output().expect("the server of the test");
        assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// Starts it, after a crash as well.
    pub(crate) fn start_again(&self) {
        let (data, log) = (self.data(), self.folder.path().join("log"));
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let started = self
                .command("pg_ctl")
                .args([
                    "-D",
                    data.to_str().expect("the server of the test"),
                    "-l",
                    log.to_str().expect("the server of the test"),
                    "-w",
                    "-t",
                    "60",
                    "start",
                ])
                .stdout(Stdio::null())
                .status()
                .expect("the server of the test");
            if started.success() {
                return;
            }
            // After a kill the old shared memory may live until its last process has gone.
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            assert!(Instant::now() < deadline, "PostgreSQL does not start: {text}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Every process of it, at once, without any good-bye.
    pub(crate) fn kill(&self) {
        let Ok(text) = std::fs::read_to_string(self.data().join("postmaster.pid")) else { return };
        let Some(postmaster) = text.lines().next().and_then(|line| line.trim().parse::<i32>().ok()) else {
            return;
        };
        let children = std::fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children"))
            .unwrap_or_default();
        let pids: Vec<i32> = std::iter::once(postmaster)
            .chain(children.split_whitespace().filter_map(|pid| pid.parse().ok()))
            .collect();
        for pid in &pids {
            kill(*pid);
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while pids.iter().any(|pid| is_alive(*pid)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks as the superuser.
    pub(crate) fn sql(&self, sql: &str) -> String {
        let output = self.try_sql(sql);
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("the server of the test").trim().to_owned()
    }

    pub(crate) fn try_sql(&self, sql: &str) -> Output {
        let (socket, port) =
            (self.folder.path().to_str().expect("the server of the test"), self.port.to_string());
        self.command("psql")
            .args([
                "-h",
                socket,
                "-p",
                &port,
                "-U",
                "postgres",
                "-X",
                "-A",
                "-t",
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "-c",
                sql,
                "postgres",
            ])
            .output()
            .expect("the server of the test")
    }
}

fn kill(pid: i32) {
    let _ = Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status();
}

fn is_alive(pid: i32) -> bool {
    // A zombie is as good as gone; whoever waits for it is init.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
