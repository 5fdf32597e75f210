//! The server of a copy, which nobody but us can reach.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use strongroom_database::mariadb::GtidState;
use strongroom_mariadb::{Connection, MariadbError, Target, TlsMode};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::super::outside::{self, Outlet};
use super::{LARGEST_PACKET, ReplayError, places};

/// What has to be as it was in the server that wrote the files: facts of the log, and settings by the same name.
pub(super) const SETTINGS: [&str; 5] = [
    "innodb-page-size",
    "innodb-data-file-path",
    "innodb-undo-tablespaces",
    "innodb-checksum-algorithm",
    "lower-case-table-names",
];

/// A recovery that takes longer than this is not waited for.
const PATIENCE: Duration = Duration::from_hours(24);

/// How long a server may take to write down what it has.
const END_PATIENCE: Duration = Duration::from_mins(60);

/// What of its words is told.
const MOST_WORDS: usize = 600;

/// A server, while it runs. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Server {
    data: PathBuf,
    work: PathBuf,
    programs: Vec<PathBuf>,
    user: Option<(u32, u32)>,
    log_name: String,
    has_own_log: bool,
    running: Option<(Child, Connection)>,
}

impl Server {
    /// Prepares a copy of a data folder.
    pub(super) fn prepare(
        data: &Path,
        work: &Path,
        programs: Option<&Path>,
        log_name: &str,
    ) -> Result<Self, ReplayError> {
        let failed = |cause| ReplayError::Folder { path: data.to_owned(), cause };
        let owner = fs::metadata(data).map_err(failed)?;
        let is_root = rustix::process::geteuid().is_root();
        if is_root && owner.uid() == 0 {
            return Err(ReplayError::OwnedByRoot { data: data.to_owned() });
        }
        if let Some(Outlet { path, to }) = outside::of_mariadb(data).map_err(failed)? {
            return Err(ReplayError::LeadsOutside { path, to });
        }
        let user = is_root.then(|| (owner.uid(), owner.gid()));
        let mut server = Self {
            data: data.to_owned(),
            work: work.to_owned(),
            programs: places(programs),
            user,
            log_name: log_name.to_owned(),
            has_own_log: false,
            running: None,
        };
        server.make(work)?;
        server.has_own_log = server.keep_to_itself()?;
        server.program("mariadbd")?;
        Ok(server)
    }

    /// The list of the binary log's files names those of the original where it has whole paths: it has to name the copy's own.
    /// False: the binary log is not in the data folder.
    fn keep_to_itself(&self) -> Result<bool, ReplayError> {
        let path = self.data.join(format!("{}.index", self.log_name));
        let failed = |cause| ReplayError::Folder { path: path.clone(), cause };
        let list = match fs::read_to_string(&path) {
            Ok(list) => list,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failed(error)),
        };
        let names = list.lines().filter_map(|line| Path::new(line.trim()).file_name()?.to_str());
        let own: Vec<String> =
            names.filter(|name| self.data.join(name).is_file()).map(|name| format!("./{name}\n")).collect();
        // Owner and rights stay as they are.
        fs::write(&path, own.concat()).map_err(failed)?;
        Ok(!own.is_empty())
    }

    fn make(&self, folder: &Path) -> Result<(), ReplayError> {
        let failed = |cause| ReplayError::Folder { path: folder.to_owned(), cause };
        fs::create_dir_all(folder).map_err(failed)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(failed)?;
        if let Some((uid, gid)) = self.user {
            std::os::unix::fs::chown(folder, Some(uid), Some(gid)).map_err(failed)?;
        }
        Ok(())
    }

    /// A folder of the server's user.
    pub(super) fn folder(&self, name: &str) -> Result<PathBuf, ReplayError> {
        let folder = self.work.join(name);
        self.make(&folder)?;
        Ok(folder)
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.work.join("mysqld.sock")
    }

    /// How to come in.
    pub(super) fn target(&self) -> Target {
        Target {
            host: self.socket().display().to_string(),
            port: 0,
            user: "root".into(),
            password_file: None,
            tls: TlsMode::Disable,
            tls_ca: None,
            application: "strongroom".into(),
        }
    }

    /// Whether the copy has a binary log, and so says itself what was committed in it.
    pub(super) const fn has_own_log(&self) -> bool {
        self.has_own_log
    }

    /// One of the programs, as the user whose files these are, with nothing of our surroundings.
    pub(super) fn program(&self, name: &'static str) -> Result<Command, ReplayError> {
        let mut command = std::process::Command::new(self.find(name)?);
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        Ok(self.surroundings(command))
    }

    /// The same without any network, where we are permitted to take it away.
    fn isolated(&self, name: &'static str) -> Result<Command, ReplayError> {
        let Some((uid, gid)) = self.user.filter(|_| Path::new("/usr/bin/unshare").exists()) else {
            return self.program(name);
        };
        let mut command = std::process::Command::new("/usr/bin/unshare");
        command.arg("--net").arg(format!("--setgid={gid}")).arg(format!("--setuid={uid}")).arg("--");
        command.arg(self.find(name)?);
        Ok(self.surroundings(command))
    }

    pub(super) fn find(&self, name: &'static str) -> Result<PathBuf, ReplayError> {
        let found = self.programs.iter().map(|folder| folder.join(name)).find(|path| path.exists());
        found.ok_or(ReplayError::NoPrograms { name })
    }

    fn surroundings(&self, mut command: std::process::Command) -> Command {
        command.current_dir(&self.work).env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin");
        let mut command = Command::from(command);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Starts it; it recovers first.
    pub(super) async fn start(&mut self, settings: &[String]) -> Result<(), ReplayError> {
        let words = self.work.join("server.log");
        let log = fs::File::create(&words).map_err(|cause| ReplayError::Folder { path: words, cause })?;
        let log_bin = if self.has_own_log {
            PathBuf::from(&self.log_name)
        } else {
            self.folder("own")?.join(&self.log_name)
        };
        let mut command = self.isolated("mariadbd")?;
        command
            .arg("--no-defaults")
            .arg(format!("--datadir={}", self.data.display()))
            .arg(format!("--socket={}", self.socket().display()))
            .arg(format!("--pid-file={}", self.work.join("pid").display()))
            .arg(format!("--tmpdir={}", self.folder("tmp")?.display()))
            .arg(format!("--log-bin={}", log_bin.display()))
            // Each transaction names the server that wrote it; this number is in none.
            .args(["--server-id=4294967295", "--gtid-strict-mode=OFF", "--binlog-format=MIXED"])
            .args(["--skip-networking", "--skip-slave-start", "--event-scheduler=OFF", "--skip-grant-tables"])
            .args(["--expire-logs-days=0", LARGEST_PACKET])
            // What breaks half way is restored anew; in the end it is written down properly.
            .args(["--innodb-flush-log-at-trx-commit=0", "--sync-binlog=0"])
            .args(settings)
            .stdout(Stdio::null())
            .stderr(log);
        let mut child = command.spawn().map_err(|cause| ReplayError::Program { name: "mariadbd", cause })?;
        let deadline = Instant::now() + PATIENCE;
        let target = self.target();
        loop {
            if self.socket().exists() {
                match Connection::open(&target).await {
                    Ok(mut connection) => {
                        connection.wait_for_answers(PATIENCE);
                        self.running = Some((child, connection));
                        return Ok(());
                    }
                    Err(MariadbError::Unreachable { .. } | MariadbError::Broken { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            let has_ended = !matches!(child.try_wait(), Ok(None));
            if has_ended || Instant::now() > deadline {
                return Err(ReplayError::Ended { words: self.words() });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The lines in which it said what is wrong, or the last one.
    pub(super) fn words(&self) -> String {
        let words = fs::read(self.work.join("server.log")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words);
        let wrong: Vec<&str> = words.lines().filter(|line| line.contains("[ERROR]")).collect();
        let told = if wrong.is_empty() {
            words.lines().last().unwrap_or("nothing").to_owned()
        } else {
            wrong.join("; ")
        };
        told.chars().take(MOST_WORDS).collect()
    }

    pub(super) const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// The connection that was made first. It may do everything, also when the server knows its accounts again.
    pub(super) fn connection(&mut self) -> Result<&mut Connection, ReplayError> {
        let words = if self.running.is_none() { self.words() } else { String::new() };
        let running = self.running.as_mut().ok_or(ReplayError::Ended { words })?;
        Ok(&mut running.1)
    }

    async fn ask(&mut self, what: &str, sql: &str) -> Result<Option<String>, ReplayError> {
        let rows = self.connection()?.ask(what, sql).await?;
        Ok(rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten())
    }

    /// What is committed in it, as far as its binary log goes.
    pub(super) async fn committed(&mut self) -> Result<GtidState, ReplayError> {
        let text =
            self.ask("what is committed", "SELECT @@GLOBAL.gtid_binlog_state").await?.unwrap_or_default();
        text.parse().map_err(|_| ReplayError::Unproved { wanted: "a state".to_owned(), found: text })
    }

    /// Tells a server without a binary log of its own what is committed in it.
    pub(super) async fn begin_with(&mut self, state: &GtidState) -> Result<(), ReplayError> {
        self.ask("an empty binary log", "RESET MASTER").await?;
        let sql = format!("SET GLOBAL gtid_binlog_state = '{state}'");
        self.ask("what is committed", &sql).await.map(drop)
    }

    /// Ends it at once, as a crash would, and waits until it is gone.
    pub(super) async fn kill(&mut self) {
        if let Some((mut child, connection)) = self.running.take() {
            drop(connection);
            // One that is gone already is as good.
            let _ = child.kill().await;
        }
    }

    /// Ends it properly: whoever starts it next finds it as after any other shutdown.
    pub(super) async fn end(&mut self) -> Result<(), ReplayError> {
        self.ask("to end", "SHUTDOWN").await?;
        let words = self.words();
        let Some((mut child, connection)) = self.running.take() else { return Ok(()) };
        drop(connection);
        match tokio::time::timeout(END_PATIENCE, child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            _ => Err(ReplayError::Ended { words }),
        }
    }
}
