//! PostgreSQL's own recovery, up to a position and not a byte further.
//!
//! The plan's stop is told as an LSN that a record has. Afterwards the server's words are compared with it: where it stopped
//! must be where it was told to stop. `archive` is a folder with the segments and history files that the server may ask for;
//! what is not in it does not exist for the recovery.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use strongroom_database::{LineageId, Position, Stop};
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::outside::{self, Outlet};

mod error;

pub use error::RecoveryError;

/// What a server may say before it says something else: its log is read no further.
const MOST_LOG_BYTES: u64 = 16 << 20;

/// How often its log is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Replay that takes longer than this is not waited for. A terabyte of log takes a day.
const PATIENCE: Duration = Duration::from_hours(24);

/// A recovery of a copy.
#[derive(Debug)]
pub struct Recovery {
    engine: Engine,
    data: PathBuf,
    work: PathBuf,
    user: Option<(u32, u32)>,
    stop: Stop,
    timeline: LineageId,
    given_up: CancellationToken,
}

/// A server that reached its stop and waits there, read-only. It ends when this is dropped.
#[derive(Debug)]
pub struct Recovered {
    recovery: Recovery,
    server: Child,
    /// Where the server says that it stopped.
    pub stopped_at: Option<Position>,
}

impl Recovery {
    /// Prepares a copy of a data folder: what belonged to the running server of which it is a copy goes.
    ///
    /// `work` is a folder of the caller's, in which the socket, the log and the archive (`wal`) are: [`Self::archive`] is to be
    /// filled before [`Self::run`].
    ///
    /// # Errors
    /// When the copy is used by a server, cannot be read here, or cannot be written.
    pub fn prepare(
        data: &Path,
        work: &Path,
        engine: Engine,
        stop: Stop,
        timeline: LineageId,
    ) -> Result<Self, RecoveryError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |cause| RecoveryError::Folder { path, cause }
        };
        let owner = fs::metadata(data).map_err(failed(data))?;
        let is_root = rustix::process::geteuid().is_root();
        if is_root && owner.uid() == 0 {
            return Err(RecoveryError::OwnedByRoot { data: data.to_owned() });
        }
        if let Some(Outlet { path, to }) = outside::of_postgres(data).map_err(failed(data))? {
            return Err(RecoveryError::LeadsOutside { path, to });
        }
        // Server and socket are of the user whose files these are; a server refuses to run as root.
        let user = is_root.then(|| (owner.uid(), owner.gid()));
        let recovery = Self {
            engine,
            data: data.to_owned(),
            work: work.to_owned(),
            user,
            stop,
            timeline,
            given_up: CancellationToken::new(),
        };
        for folder in [work, &recovery.archive()] {
            fs::create_dir_all(folder).map_err(failed(folder))?;
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(failed(folder))?;
            recovery.give(folder)?;
        }
        for name in ["postmaster.pid", "postmaster.opts", "standby.signal", "recovery.signal"] {
            let path = data.join(name);
            match fs::remove_file(&path) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(failed(&path)(cause)),
                _ => {}
            }
        }
        // A slot of the original would keep log for a receiver that never comes.
        let slots = data.join("pg_replslot");
        for slot in fs::read_dir(&slots).map_err(failed(&slots))?.flatten() {
            fs::remove_dir_all(slot.path()).map_err(failed(&slot.path()))?;
        }
        let signal = data.join("recovery.signal");
        fs::write(&signal, "").map_err(failed(&signal))?;
        recovery.give(&signal)?;
        Ok(recovery)
    }

    /// Where the segments and history files lie that the server may ask for.
    #[must_use]
    pub fn archive(&self) -> PathBuf {
        self.work.join("wal")
    }

    /// Is given up when this is cancelled: a replay can take hours.
    #[must_use]
    pub fn until(self, given_up: CancellationToken) -> Self {
        let Self { engine, data, work, user, stop, timeline, .. } = self;
        Self { engine, data, work, user, stop, timeline, given_up }
    }

    /// Stops at another place, which is not before the one where it stopped.
    pub fn go_on_to(&mut self, stop: Stop, timeline: LineageId) {
        (self.stop, self.timeline) = (stop, timeline);
    }

    fn give(&self, path: &Path) -> Result<(), RecoveryError> {
        let Some((uid, gid)) = self.user else { return Ok(()) };
        std::os::unix::fs::chown(path, Some(uid), Some(gid))
            .map_err(|cause| RecoveryError::Folder { path: path.to_owned(), cause })
    }

    /// The data folder.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Whether this version has such a program here.
    #[must_use]
    pub fn has_program(&self, name: &str) -> bool {
        self.engine.program(name).exists()
    }

    /// Runs one of the programs of this version as the user whose files these are, `--pgdata` and the like being among `args`.
    /// Answers whether it was content, and the end of what it said.
    ///
    /// # Errors
    /// When it cannot be started, or the recovery is given up meanwhile.
    pub fn ask_program(&self, name: &'static str, args: &[&str]) -> Result<(bool, String), RecoveryError> {
        let path = self.work.join(format!("{name}.out"));
        let failed = |cause| RecoveryError::Folder { path: path.clone(), cause };
        let said = File::create(&path).map_err(failed)?;
        let both = said.try_clone().map_err(failed)?;
        let mut command = self.command(name);
        command.args(args).stdout(said).stderr(both);
        let mut running = command.spawn().map_err(|cause| RecoveryError::Program { name, cause })?;
        let status = loop {
            match running.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if !self.given_up.is_cancelled() => std::thread::sleep(LOOK_EVERY),
                _ => {
                    let _ = running.kill();
                    let _ = running.wait();
                    return Err(RecoveryError::Ending);
                }
            }
        };
        Ok((status.success(), end_of(&path).map_err(failed)?))
    }

    fn log(&self) -> PathBuf {
        self.work.join("server.log")
    }

    /// Replays up to the stop. The server waits there.
    ///
    /// # Errors
    /// When the server does not get there, with its own words; or stops anywhere else.
    pub fn run(self) -> Result<Recovered, RecoveryError> {
        let write = |name: &str, text: &str| -> Result<PathBuf, RecoveryError> {
            let path = self.work.join(name);
            fs::write(&path, text).map_err(|cause| RecoveryError::Folder { path: path.clone(), cause })?;
            self.give(&path)?;
            Ok(path)
        };
        write("server.log", "")?;
        // The folder of the socket is private, so whoever reaches it may log in.
        let rules = write("pg_hba.conf", "local all all trust\n")?;
        let mut settings = self.settings(&rules);
        if !self.data.join("postgresql.conf").exists() {
            // Debian keeps the settings outside of the data folder.
            let path = write("postgresql.conf", &self.limits()?)?;
            settings.push(("config_file", path.display().to_string()));
        }
        let log = self.log();
        let log = File::options()
            .append(true)
            .open(&log)
            .map_err(|cause| RecoveryError::Folder { path: log, cause })?;
        let mut command = self.isolated("postgres");
        command.arg("-D").arg(&self.data);
        for (name, value) in settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        // In a group of its own: an interrupt that is meant for a session in the terminal does not end it.
        command.stdout(Stdio::null()).stderr(log).process_group(0);
        let server = command.spawn().map_err(|cause| RecoveryError::Program { name: "postgres", cause })?;
        let mut recovered = Recovered { recovery: self, server, stopped_at: None };
        recovered.wait_for_stop()?;
        Ok(recovered)
    }

    /// All that this server does otherwise than the one that it is a copy of.
    fn settings(&self, rules: &Path) -> Vec<(&'static str, String)> {
        let archive = self.archive().display().to_string().replace('%', "%%").replace('\'', r"'\''");
        // 1 says that there is no such file; above 125 is a failure, at which the server gives up instead of going on without.
        let fetch = format!("test -e '{archive}/%f' || exit 1; cp '{archive}/%f' '%p' || exit 200");
        let mut settings: Vec<(&'static str, String)> = vec![
            ("listen_addresses", String::new()),
            ("unix_socket_directories", self.work.display().to_string()),
            ("port", "5432".into()),
            ("hba_file", rules.display().to_string()),
            ("logging_collector", "off".into()),
            ("log_destination", "stderr".into()),
            ("log_min_messages", "log".into()),
            ("lc_messages", "C".into()),
            ("ssl", "off".into()),
            ("archive_mode", "off".into()),
            ("primary_conninfo", String::new()),
            ("primary_slot_name", String::new()),
            ("synchronous_standby_names", String::new()),
            // A subscription would go on where the original is, and take its place at the publisher.
            ("max_logical_replication_workers", "0".into()),
            ("autovacuum", "off".into()),
            ("hot_standby", "on".into()),
            // Nobody has this copy yet: it is made durable as a whole, when it is done.
            ("fsync", "off".into()),
            ("restore_command", fetch),
            ("archive_cleanup_command", String::new()),
            ("recovery_end_command", String::new()),
            // Another target in the copied settings is one too many.
            ("recovery_target", String::new()),
            ("recovery_target_lsn", String::new()),
            ("recovery_target_time", String::new()),
            ("recovery_target_xid", String::new()),
            ("recovery_target_name", String::new()),
            ("recovery_target_timeline", self.timeline.to_string()),
            ("recovery_target_action", "pause".into()),
        ];
        let (name, value, inclusive) = match self.stop {
            Stop::Before(position) => ("recovery_target_lsn", position.to_string(), "off"),
            Stop::After(position) => ("recovery_target_lsn", position.to_string(), "on"),
            Stop::Consistent => ("recovery_target", "immediate".into(), "on"),
        };
        settings.push((name, value));
        settings.push(("recovery_target_inclusive", inclusive.into()));
        settings
    }

    /// Settings without which replay is not possible, as the original had them: its control file knows.
    fn limits(&self) -> Result<String, RecoveryError> {
        const LIMITS: [(&str, &str); 5] = [
            ("max_connections setting:", "max_connections"),
            ("max_worker_processes setting:", "max_worker_processes"),
            ("max_wal_senders setting:", "max_wal_senders"),
            ("max_prepared_xacts setting:", "max_prepared_transactions"),
            ("max_locks_per_xact setting:", "max_locks_per_transaction"),
        ];
        let output = self.command("pg_controldata").arg(&self.data).output();
        let output = output.map_err(|cause| RecoveryError::Program { name: "pg_controldata", cause })?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let value = |label: &str| text.lines().find_map(|line| line.strip_prefix(label)).map(str::trim);
        let lines = LIMITS.iter().filter_map(|(label, name)| Some(format!("{name} = {}\n", value(label)?)));
        Ok(lines.collect())
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.engine.program(name));
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        surroundings(&mut command, &self.work);
        command
    }

    /// The program without any network, where we are permitted to take it away.
    fn isolated(&self, name: &str) -> Command {
        let Some((uid, gid)) = self.user.filter(|_| Path::new("/usr/bin/unshare").exists()) else {
            return self.command(name);
        };
        let mut command = Command::new("/usr/bin/unshare");
        command.arg("--net").arg(format!("--setgid={gid}")).arg(format!("--setuid={uid}")).arg("--");
        command.arg(self.engine.program(name));
        surroundings(&mut command, &self.work);
        command
    }

    /// All that the server said, for the person.
    fn words(&self) -> String {
        let mut words = Vec::new();
        self.read_on(&mut words);
        String::from_utf8_lossy(&words).into_owned()
    }

    /// Reads what the server said since, behind what was read already. Answers whether that is anything.
    fn read_on(&self, words: &mut Vec<u8>) -> bool {
        use io::{Read as _, Seek as _};
        let known = words.len();
        // What cannot be read is as good as nothing said.
        let _ = File::open(self.log()).and_then(|mut log| {
            log.seek(io::SeekFrom::Start(known as u64))?;
            log.take(MOST_LOG_BYTES - known as u64).read_to_end(words)
        });
        words.len() > known
    }
}

/// The last 4 KiB of a file.
fn end_of(path: &Path) -> io::Result<String> {
    use io::{Read as _, Seek as _};
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(io::SeekFrom::Start(length.saturating_sub(4096)))?;
    let mut end = Vec::new();
    file.take(4096).read_to_end(&mut end)?;
    Ok(String::from_utf8_lossy(&end).into_owned())
}

fn surroundings(command: &mut Command, work: &Path) {
    command
        .current_dir(work)
        .env_clear()
        .env("LC_ALL", "C")
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null());
}

impl Recovered {
    fn wait_for_stop(&mut self) -> Result<(), RecoveryError> {
        let deadline = Instant::now() + PATIENCE;
        let mut said = Vec::new();
        loop {
            let ended = matches!(self.server.try_wait(), Ok(Some(_)) | Err(_));
            let is_new = self.recovery.read_on(&mut said);
            let is_late = Instant::now() > deadline;
            if self.recovery.given_up.is_cancelled() {
                return Err(RecoveryError::Ending);
            }
            if !is_new && !ended && !is_late {
                std::thread::sleep(LOOK_EVERY);
                continue;
            }
            let words = String::from_utf8_lossy(&said);
            if ended {
                return Err(RecoveryError::Ended { words: fatal(&words) });
            }
            if words.contains("pausing at the end of recovery") {
                let (stopped, at) = stop_in(&words);
                self.stopped_at = at;
                return if stopped.is_some_and(|stopped| agrees(self.recovery.stop, stopped, at)) {
                    Ok(())
                } else {
                    Err(RecoveryError::Elsewhere { wanted: self.recovery.stop, words: stop_line(&words) })
                };
            }
            if words.contains("hot standby is not possible") || is_late {
                return Err(RecoveryError::Stuck { words: fatal(&words) });
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// The folder of its socket (port 5432), on which anyone who may enter it logs in.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.recovery.work
    }

    /// Ends the server where it is; the copy can be brought further later.
    ///
    /// # Errors
    /// When it does not end.
    pub fn end(self) -> Result<Recovery, RecoveryError> {
        self.stop("immediate")
    }

    /// Ends the server where it is, with everything written down: all its files are then whole.
    ///
    /// # Errors
    /// When it does not end.
    pub fn shut_down(self) -> Result<Recovery, RecoveryError> {
        self.stop("fast")
    }

    fn stop(mut self, mode: &str) -> Result<Recovery, RecoveryError> {
        self.control(&["stop", "-m", mode, "-w", "-t", "600"])?;
        let _ = self.server.wait();
        let Recovery { engine, data, work, user, stop, timeline, given_up } = &self.recovery;
        let (engine, data, work, given_up) = (engine.clone(), data.clone(), work.clone(), given_up.clone());
        Ok(Recovery { engine, data, work, user: *user, stop: *stop, timeline: *timeline, given_up })
    }

    /// The recovery that it has done.
    #[must_use]
    pub const fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Makes it a database of its own, in a new history, and ends it properly: whoever starts it next finds it as after any
    /// other shutdown.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn promote(mut self) -> Result<(), RecoveryError> {
        self.control(&["promote", "-w", "-t", "600"])?;
        self.control(&["stop", "-m", "fast", "-w", "-t", "600"])?;
        let _ = self.server.wait();
        // It names the settings of this recovery, and a restart would take them from there.
        let data = &self.recovery.data;
        let _ = fs::remove_file(data.join("postmaster.opts"));
        // The server did not wait for the disk; whoever is told that it is done can rely on it.
        let synced = File::open(data).and_then(|folder| Ok(rustix::fs::syncfs(folder)?));
        synced.map_err(|cause| RecoveryError::Folder { path: data.clone(), cause })
    }

    fn control(&self, args: &[&str]) -> Result<(), RecoveryError> {
        let output = self.recovery.command("pg_ctl").args(args).arg("-D").arg(&self.recovery.data).output();
        let output = output.map_err(|cause| RecoveryError::Program { name: "pg_ctl", cause })?;
        if output.status.success() {
            return Ok(());
        }
        Err(RecoveryError::Stuck { words: fatal(&self.recovery.words()) })
    }
}

impl Drop for Recovered {
    fn drop(&mut self) {
        if let Ok(None) = self.server.try_wait() {
            let _ = self.control(&["stop", "-m", "immediate", "-w", "-t", "60"]);
            let _ = self.server.kill();
            let _ = self.server.wait();
        }
    }
}

/// How the server said that it stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopped {
    Before,
    After,
    Consistent,
}

fn stop_line(words: &str) -> String {
    let line = words.lines().rfind(|line| line.contains("recovery stopping")).unwrap_or_default();
    line.chars().take(400).collect()
}

fn stop_in(words: &str) -> (Option<Stopped>, Option<Position>) {
    let line = stop_line(words);
    let stopped = if line.contains("recovery stopping before") {
        Some(Stopped::Before)
    } else if line.contains("stopping after reaching consistency") {
        Some(Stopped::Consistent)
    } else if line.contains("recovery stopping after") {
        Some(Stopped::After)
    } else {
        None
    };
    (stopped, line.split('"').nth(1).and_then(|text| text.parse().ok()))
}

/// It stopped where it should: the record that it names is the one that it was told, or the first behind.
fn agrees(wanted: Stop, stopped: Stopped, at: Option<Position>) -> bool {
    match wanted {
        Stop::Before(position) => stopped == Stopped::Before && at.is_some_and(|at| at >= position),
        Stop::After(position) => stopped == Stopped::After && at == Some(position),
        Stop::Consistent => stopped == Stopped::Consistent,
    }
}

/// The line that says why it ended, or the last one.
fn fatal(words: &str) -> String {
    let lines = || words.lines().filter(|line| !line.trim().is_empty());
    let line = lines()
        .rfind(|line| line.contains("FATAL:") || line.contains("PANIC:"))
        .or_else(|| lines().next_back());
    line.unwrap_or("nothing").chars().take(600).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_server_stopped_is_compared_with_where_it_should() {
        let before = "LOG:  recovery stopping before WAL location (LSN) \"0/3000158\"\nLOG:  pausing at the end of recovery\n";
        let (stopped, at) = stop_in(before);
        let position = |text: &str| text.parse::<Position>().unwrap();
        assert_eq!((stopped, at), (Some(Stopped::Before), Some(position("0/3000158"))));
        assert!(agrees(Stop::Before(position("0/3000158")), Stopped::Before, at));
        assert!(agrees(Stop::Before(position("0/3000150")), Stopped::Before, at), "the first record behind");
        assert!(!agrees(Stop::Before(position("0/3000160")), Stopped::Before, at));
        assert!(!agrees(Stop::After(position("0/3000158")), Stopped::Before, at));
        assert_eq!(
            stop_in("LOG:  recovery stopping after reaching consistency"),
            (Some(Stopped::Consistent), None)
        );
        assert_eq!(stop_in("LOG:  redo done"), (None, None));
    }

    #[test]
    fn the_reason_of_the_server_is_what_is_told() {
        let words = "LOG:  starting\nFATAL:  recovery ended before configured recovery target was reached\nLOG:  shutting down\n";
        assert_eq!(fatal(words), "FATAL:  recovery ended before configured recovery target was reached");
        assert_eq!(fatal("a\nb\n"), "b");
    }
}
