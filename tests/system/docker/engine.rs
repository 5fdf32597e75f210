//! A Docker engine of the test's own: `dockerd` from Debian, and its command line.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::island;
use crate::call::signal;
use crate::ground::{Ground, text};
use crate::kernel;

/// Where Docker looks for volume plugins. The folder is the island's own.
pub(crate) const PLUGIN: &str = "/run/docker/plugins/strongroom.sock";

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running engine. It is killed when it is dropped; its containers end with the island.
pub(crate) struct Engine {
    folder: PathBuf,
    daemon: Option<Child>,
}

/// What a command of Docker answered.
pub(crate) struct Said {
    pub(crate) ok: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Engine {
    /// Starts an engine whose things lie on the ground, with an image called `box` that holds a busybox.
    pub(crate) fn start(ground: &Ground) -> Self {
        let folder = ground.path("docker");
        fs::create_dir_all(&folder).expect("the ground can be written to");
        let mut engine = Self { folder, daemon: None };
        engine.run_daemon(&[]);
        let root = engine.folder.join("box");
        fs::create_dir_all(root.join("bin")).expect("the ground can be written to");
        let busybox =
            ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| fs::metadata(path).is_ok());
        fs::copy(busybox.expect("it was looked for"), root.join("bin/busybox"))
            .expect("a program can be copied");
        for program in ["sh", "cat", "dd", "ls", "md5sum", "mv", "rm", "sleep", "sync"] {
            symlink("busybox", root.join("bin").join(program)).expect("the ground can be written to");
        }
        let archive = engine.folder.join("box.tar");
        kernel::sh("tar", &["-C", text(&root), "-cf", text(&archive), "."]);
        engine.docker(&["import", text(&archive), "box"]);
        engine
    }

    /// Starts the daemon, and waits until it answers.
    pub(crate) fn run_daemon(&mut self, more: &[&str]) {
        let at = |name: &str| self.folder.join(name);
        let log =
            File::options().create(true).append(true).open(at("log")).expect("the ground can be written to");
        let parent = format!("/{}", island::control_group());
        let daemon = Command::new("dockerd")
            .args(["--data-root", text(&at("data")), "--exec-root", text(&at("exec"))])
            .args(["--pidfile", text(&at("pid")), "-H", &self.address()])
            // No network at all, so that nothing of the machine's is touched.
            .args(["--iptables=false", "--ip6tables=false", "--bridge=none", "--ip-forward=false"])
            // Needs nothing of the filesystem below, and no right that a machine may lack.
            .args([
                "--storage-driver=vfs",
                "--exec-opt",
                "native.cgroupdriver=cgroupfs",
                "--oom-score-adjust=0",
            ])
            .args(["--cgroup-parent", &parent])
            .args(more)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor can be had twice"))
            .stderr(log)
            .spawn()
            .expect("dockerd was looked for");
        self.daemon = Some(daemon);
        let begun = Instant::now();
        while !self.ask(&["version"]).ok {
            let ended = self.daemon.as_mut().is_some_and(|daemon| !matches!(daemon.try_wait(), Ok(None)));
            assert!(!ended && begun.elapsed() < PATIENCE, "dockerd does not answer: {}", self.log());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops the daemon in good order.
    pub(crate) fn stop_daemon(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            signal(daemon.id(), "TERM");
            let begun = Instant::now();
            while matches!(daemon.try_wait(), Ok(None)) {
                if begun.elapsed() > PATIENCE {
                    let _ = daemon.kill();
                    panic!("dockerd does not stop: {}", self.log());
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// kill -9.
    pub(crate) fn kill_daemon(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }

    fn address(&self) -> String {
        format!("unix://{}", self.folder.join("engine.sock").display())
    }

    /// Runs a command of Docker.
    pub(crate) fn ask(&self, words: &[&str]) -> Said {
        let output = Command::new("docker")
            .env("DOCKER_CONFIG", self.folder.join("config"))
            .env_remove("DOCKER_HOST")
            .env_remove("DOCKER_CONTEXT")
            .args(["-H", &self.address()])
            .args(words)
            .stdin(Stdio::null())
            .output()
            .expect("docker was looked for");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        Said { ok: output.status.success(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Runs a command of Docker that must succeed; answers what it said.
    #[track_caller]
    pub(crate) fn docker(&self, words: &[&str]) -> String {
        let said = self.ask(words);
        assert!(said.ok, "docker {words:?}: {}{}\n--- dockerd\n{}", said.out, said.err, self.log());
        said.out
    }

    /// Runs a command of Docker that must fail; answers why.
    #[track_caller]
    pub(crate) fn refused(&self, words: &[&str]) -> String {
        let said = self.ask(words);
        assert!(!said.ok, "docker {words:?} should have failed: {}", said.out);
        said.err
    }

    /// Runs a line of shell in a container of its own, with `volume` at `/data`.
    #[track_caller]
    pub(crate) fn shell(&self, volume: &str, line: &str) -> String {
        self.docker(
            &Self::container(volume, &["run", "--rm"], line).iter().map(String::as_str).collect::<Vec<_>>(),
        )
    }

    /// Starts a container that runs a line of shell with `volume` at `/data`, and goes on meanwhile.
    #[track_caller]
    pub(crate) fn start_container(&self, name: &str, volume: &str, more: &[&str], line: &str) {
        let head: Vec<&str> = ["run", "-d", "--name", name].iter().chain(more).copied().collect();
        let words = Self::container(volume, &head, line);
        self.docker(&words.iter().map(String::as_str).collect::<Vec<_>>());
    }

    fn container(volume: &str, head: &[&str], line: &str) -> Vec<String> {
        let mount = format!("{volume}:/data");
        let tail = ["--network", "none", "--volume-driver", "strongroom", "-v", &mount];
        let program = ["box", "sh", "-c"];
        head.iter().copied().chain(tail).chain(program).chain([line]).map(str::to_owned).collect()
    }

    /// What `docker volume inspect` says.
    #[track_caller]
    pub(crate) fn volume(&self, name: &str) -> serde_json::Value {
        let said = self.docker(&["volume", "inspect", name]);
        let volumes: serde_json::Value = serde_json::from_str(&said).expect("Docker answers JSON");
        volumes[0].clone()
    }

    fn log(&self) -> String {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- dockerd said\n{}", self.log());
        }
        self.kill_daemon();
        // A daemon that was killed once leaves its own folders mounted upon themselves.
        kernel::take_down(&self.folder);
    }
}
