//! The ground a test stands on: a temporary directory with a repository, a key, and when wanted a driver.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::answer::Answer;
use crate::call::{Call, Running};
use crate::kernel;

/// Everything a test makes, taken down when it goes.
#[derive(Debug)]
pub(crate) struct Ground {
    driver: Option<Running>,
    repository: String,
    env: Vec<(String, String)>,
    directory: tempfile::TempDir,
}

impl Ground {
    /// A ground whose repository is a directory. Nothing is initialised yet.
    pub(crate) fn new() -> Self {
        let directory =
            tempfile::Builder::new().prefix("strongroom-test-").tempdir().expect("a temporary directory");
        let repository = format!("file://{}", directory.path().join("repository").display());
        fs::create_dir(directory.path().join("outputs")).expect("a fresh directory can be written to");
        Self { driver: None, repository, env: Vec::new(), directory }
    }

    /// A ground whose repository lies in a bucket of the real server that the tests run under; `None`, said loudly, when
    /// there is none.
    pub(crate) fn on_s3(test: &str) -> Option<Self> {
        let server = crate::s3::server(test)?;
        let mut ground = Self::new();
        ground.repository = server.fresh_prefix();
        ground.env = server.env();
        Some(ground)
    }

    /// Another place for the repository.
    pub(crate) fn set_repository(&mut self, url: &str) {
        self.repository = url.to_owned();
    }

    /// Gives every command from now on this in its environment.
    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// What the driver has said so far.
    pub(crate) fn driver_stderr(&self) -> String {
        self.driver.as_ref().map(Running::stderr).unwrap_or_default()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn repository(&self) -> &str {
        &self.repository
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.path("key")
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("unix://{}", self.path("csi.sock").display())
    }

    /// A command that knows repository, key and driver from its environment, and keeps its caches below the ground.
    pub(crate) fn call<S: Into<OsString>>(&self, args: impl IntoIterator<Item = S>) -> Call {
        let mut call = Call::new(&self.path("outputs"))
            .env("STRONGROOM_REPOSITORY", &self.repository)
            .env("STRONGROOM_KEY_FILE", self.key())
            .env("STRONGROOM_ENDPOINT", self.endpoint())
            .env("HOME", self.root())
            .env("XDG_STATE_HOME", self.path("hand-state"))
            .env("XDG_CACHE_HOME", self.path("cache"));
        for (name, value) in &self.env {
            call = call.env(name, value);
        }
        call.args(args)
    }

    /// Runs a command with `--output json`.
    #[track_caller]
    pub(crate) fn run<S: Into<OsString>>(&self, args: impl IntoIterator<Item = S>) -> Answer {
        self.call(args).args(["--output", "json"]).run()
    }

    /// Makes repository and key.
    #[track_caller]
    pub(crate) fn init(&self) {
        let key = self.key();
        self.run(["init", "--repository", &self.repository, "--key-file", text(&key)]).ok();
    }

    /// Starts the driver on an embedded pool of this size and waits until it answers.
    #[track_caller]
    pub(crate) fn start_driver(&mut self, pool_size: &str) {
        self.start_driver_with(pool_size, &[]);
    }

    /// The same, with more words on its command line.
    #[track_caller]
    pub(crate) fn start_driver_with(&mut self, pool_size: &str, more: &[&str]) {
        assert!(self.driver.is_none(), "one driver at a time");
        let running = self
            .call(["driver", "--pool"])
            .args([self.path("pool")])
            .args([
                "--pool-size",
                pool_size,
                "--node-id",
                "node-under-test",
                "--endpoint",
                &self.endpoint(),
                "--state-dir",
            ])
            .args([self.path("driver-state")])
            .args(more)
            .start();
        self.driver = Some(running);
        let begun = Instant::now();
        loop {
            let driver = self.driver.as_mut().expect("it was set above");
            assert!(!driver.ended(), "the driver ended: {}", driver.stderr());
            if self.path("csi.sock").exists() && self.run(["volume", "list"]).code == Some(0) {
                return;
            }
            let driver = self.driver.as_mut().expect("it was set above");
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "the driver does not answer: {}",
                driver.stderr()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Asks the driver to stop, and waits until it has.
    #[track_caller]
    pub(crate) fn stop_driver(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.terminate().ok();
        }
    }

    /// kill -9 of the driver.
    pub(crate) fn kill_driver(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.kill();
        }
    }

    /// Makes a volume and mounts it at the path of its name.
    #[track_caller]
    pub(crate) fn mounted_volume(&self, name: &str, size: &str) -> PathBuf {
        let point = self.path(&format!("mnt-{name}"));
        fs::create_dir_all(&point).expect("a mount point can be made");
        self.run(["volume", "create", name, "--size", size]).ok();
        self.run(["volume", "mount", name, text(&point)]).ok();
        point
    }

    /// Writes the configuration of agent and CLI: every volume, hourly. `more` is added at the end.
    pub(crate) fn config(&self, more: &str) -> PathBuf {
        let path = self.path("strongroom.toml");
        let text = format!(
            r#"[repository]
url = "{}"
key_file = "{}"
[driver]
endpoint = "{}"
[agent]
state_dir = "{}"
socket = "{}"
{more}
[[policy]]
name = "everything"
volumes = ["*"]
schedule = "15 * * * *"
time_zone = "UTC"
rpo = "2h"
retain = {{ last = 30, min_good = 2 }}
"#,
            self.repository,
            self.key().display(),
            self.endpoint(),
            self.path("agent-state").display(),
            self.path("agent.sock").display(),
        );
        fs::write(&path, text).expect("the configuration can be written");
        path
    }

    /// Backs up a volume of the driver and answers the figures of its run.
    #[track_caller]
    pub(crate) fn back_up_volume(&self, name: &str) -> serde_json::Value {
        let config = self.config("");
        let answer = self.run(["backup", "run", "--volume", name, "--config", text(&config)]).ok().json();
        answer["backups"][0].clone()
    }

    /// The recovery points of a volume, oldest first.
    #[track_caller]
    pub(crate) fn points(&self, volume: &str) -> Vec<String> {
        let list = self.run(["points", "list", "--volume", volume]).ok().json();
        let points = list["points"].as_array().expect("a list of points").iter();
        points.map(|point| point["id"].as_str().expect("a point has an id").to_owned()).collect()
    }

    /// Mounts a volume where it was, if it is not mounted there: a killed restore in place may have left it unmounted.
    #[track_caller]
    pub(crate) fn mount_again(&self, volume: &str, point: &Path) {
        if !kernel::mounts_below(point).iter().any(|mounted| mounted == point) {
            self.run(["volume", "mount", volume, text(point)]).ok();
        }
    }

    /// Backs up an image file.
    #[track_caller]
    pub(crate) fn back_up_image(&self, volume: &str, image: &Path) -> Answer {
        self.run(["backup", "image", "--volume", volume, text(image)])
    }

    /// The words of a restore to a file; `which` chooses the point.
    pub(crate) fn restore_line(&self, volume: &str, which: &[&str], target: &Path) -> Vec<String> {
        let head = ["restore", "run", "--volume", volume].map(str::to_owned);
        let tail = ["--yes", "--to-file", text(target)].map(str::to_owned);
        head.into_iter().chain(which.iter().map(|word| (*word).to_owned())).chain(tail).collect()
    }

    /// Restores to a file.
    #[track_caller]
    pub(crate) fn restore_to_file(&self, volume: &str, which: &[&str], target: &Path) -> Answer {
        self.run(self.restore_line(volume, which, target))
    }

    /// Ends the test when a loop device or a mount below the ground is left. To be called with the driver stopped and
    /// volumes unmounted. The pool itself stays mounted when a driver stops, as volumes may be in use; so it is unmounted
    /// here, which the kernel refuses while anything still rests on it.
    #[track_caller]
    pub(crate) fn assert_nothing_leaks(&self) {
        let pool = self.path("pool/mounted");
        if kernel::mounts_below(&pool).contains(&pool) {
            kernel::sh("umount", &[text(&pool)]);
        }
        let image = text(&self.path("pool/pool.img")).to_owned();
        for (device, _) in kernel::loops_below(self.root()).into_iter().filter(|(_, file)| *file == image) {
            kernel::sh("losetup", &["-d", &format!("/dev/{device}")]);
        }
        let mounts = kernel::mounts_below(self.root());
        let loops = kernel::loops_below(self.root());
        assert!(mounts.is_empty() && loops.is_empty(), "left behind: {mounts:?} {loops:?}");
    }
}

/// Paths of tests are plain text.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("the paths of tests are plain text")
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Some(driver) = self.driver.take() {
            crate::call::signal(driver.pid(), "TERM");
            thread::sleep(Duration::from_millis(200));
            let said = driver.kill();
            if thread::panicking() {
                eprintln!("--- the driver said\n{}", said.stderr);
            }
        }
        kernel::take_down(self.root());
    }
}
