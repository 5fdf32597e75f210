//! A real MariaDB server of the test's own: in a folder of its own, as a user without rights, ended whatever happens.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use strongroom_mariadb::{Target, TlsMode};
use tempfile::TempDir;

/// The password of the account `strongroom`.
pub(crate) const PASSWORD: &str = "correct horse: batt\\ery";

/// A data folder, and its server while it runs.
pub(crate) struct Server {
    folder: TempDir,
    data: PathBuf,
    user: Option<(u32, u32)>,
    settings: Vec<String>,
    port: u16,
    running: Option<Child>,
}

/// MariaDB refuses to run as root: then it runs as the user that Debian made for it.
fn user() -> Option<(u32, u32)> {
    let is_root =
        std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    let text = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = text.lines().find(|line| line.starts_with("mysql:"))?;
    let mut fields = line.split(':').skip(2);
    let ids = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    is_root.then_some(ids)
}

impl Server {
    /// Makes a server and starts it. `None`, said loudly, where there is no MariaDB on this machine.
    pub(crate) fn start(settings: &[&str]) -> Option<Self> {
        Self::start_on(None, settings)
    }

    /// The same, with its data on a filesystem that is mounted here.
    pub(crate) fn start_on(mount: Option<&Path>, settings: &[&str]) -> Option<Self> {
        if !Path::new("/usr/sbin/mariadbd").exists() {
            eprintln!("SKIPPED: no /usr/sbin/mariadbd (tests/setup/debian test installs it)");
            return None;
        }
        let folder =
            tempfile::Builder::new().prefix("strongroom-my-").tempdir().expect("the server of the test");
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("a port").port();
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        let data = mount.unwrap_or(folder.path()).join("data");
        let mut server = Self { folder, data, user: user(), settings, port, running: None };
        if let Some((uid, gid)) = server.user {
            if let Some(mount) = mount {
                std::os::unix::fs::chown(mount, Some(uid), Some(gid)).expect("the server of the test");
            }
            std::os::unix::fs::chown(server.folder.path(), Some(uid), Some(gid))
                .expect("the server of the test");
        }
        let made = server
            .command("/usr/bin/mariadb-install-db")
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
            .arg(format!("--datadir={}", server.data().display()))
            .output()
            .expect("mariadb-install-db");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        server.start_again();
        let password = PASSWORD.replace('\\', "\\\\").replace('\'', "''");
        // Accounts without a name would stand before ours.
        server.sql(&format!(
            "set sql_log_bin=0; delete from mysql.global_priv where user = ''; flush privileges; set sql_log_bin=1; create user strongroom@'%' identified by '{password}'; grant replication slave, binlog monitor, reload on *.* to strongroom@'%'"
        ));
        Some(server)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.data.clone()
    }

    /// A folder of the test's own, which the server's user may write.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("mysqld.sock")
    }

    /// How to come to it, by its port.
    pub(crate) fn target(&self) -> Target {
        let path = self.folder.path().join("password");
        if !path.exists() {
            std::fs::write(&path, PASSWORD).expect("the password of the test");
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
                .expect("the password of the test");
        }
        Target {
            host: "127.0.0.1".into(),
            port: self.port,
            user: "strongroom".into(),
            password_file: Some(path),
            tls: TlsMode::Prefer,
            tls_ca: None,
            application: "strongroom".into(),
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command.current_dir(self.folder.path()).env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin");
        command.stdin(Stdio::null());
        command
    }

    /// A second server over another data folder, asked one question, and ended properly.
    pub(crate) fn ask_restored(&self, data: &Path, sql: &str) -> String {
        let socket = self.folder.path().join("restored.sock");
        let words = self.folder.path().join("restored.log");
        let log = std::fs::File::create(&words).expect("the log of the test");
        let mut restored = self
            .command("/usr/sbin/mariadbd")
            .args(["--no-defaults", "--skip-networking", "--log-bin=mysql-bin", "--server-id=8"])
            .args(["--skip-grant-tables", "--innodb-buffer-pool-size=16M"])
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--socket={}", socket.display()))
            .arg(format!("--pid-file={}", self.folder.path().join("restored.pid").display()))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("mariadbd");
        let ask = |sql: &str| {
            let mut command = self.command("/usr/bin/mariadb");
            command.args(["--no-defaults", "-uroot", "--batch", "--skip-column-names"]);
            command.arg(format!("--socket={}", socket.display())).arg("-e").arg(sql);
            command.output().expect("mariadb")
        };
        let deadline = Instant::now() + Duration::from_secs(90);
        while !ask("select 1").status.success() {
            let ended = restored.try_wait().is_ok_and(|ended| ended.is_some());
            if ended || Instant::now() > deadline {
                let _ = restored.kill();
                let _ = restored.wait();
                panic!(
                    "the restored server does not start: {}",
                    std::fs::read_to_string(&words).unwrap_or_default()
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let answer = ask(sql);
        ask("shutdown");
        let _ = restored.wait();
        format!("{}{}", String::from_utf8_lossy(&answer.stdout), String::from_utf8_lossy(&answer.stderr))
            .trim()
            .to_owned()
    }

    /// Starts it, after a crash as well.
    pub(crate) fn start_again(&mut self) {
        let log = std::fs::File::create(self.folder.path().join("log")).expect("the log of the test");
        let child = self
            .command("/usr/sbin/mariadbd")
            .args(["--no-defaults", "--bind-address=127.0.0.1", "--log-bin=mysql-bin", "--server-id=7"])
            .args(["--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M", "--key-buffer-size=1M"])
            .arg(format!("--datadir={}", self.data().display()))
            .arg(format!("--socket={}", self.socket().display()))
            .arg(format!("--port={}", self.port))
            .arg(format!("--pid-file={}", self.folder.path().join("pid").display()))
            .args(&self.settings)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("mariadbd");
        self.running = Some(child);
        let deadline = Instant::now() + Duration::from_secs(90);
        while !self.try_sql("select 1").is_ok_and(|answer| answer == "1") {
            let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "the server does not start: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.running.as_ref().expect("it runs").id()
    }

    /// It ended by itself, or does not run.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.running.as_mut().is_none_or(|child| child.try_wait().is_ok_and(|ended| ended.is_some()))
    }

    /// Ends it as a loss of power would, but for what the kernel has.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.running.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(crate) fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub(crate) fn try_sql(&self, sql: &str) -> Result<String, String> {
        let mut command = self.command("/usr/bin/mariadb");
        command.args(["--no-defaults", "-uroot", "--batch", "--skip-column-names"]);
        command.arg(format!("--socket={}", self.socket().display()));
        let output = command.arg("-e").arg(sql).output().map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
