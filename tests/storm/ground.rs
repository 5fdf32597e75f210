//! The ground of a storm: a driver as a process that can be killed and started again, and what the kernel and the pool
//! hold for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use strongroom_proto::Clients;
use strongroom_proto::csi::GetPluginInfoRequest;

use crate::kernel;

/// A driver that takes longer to answer after its start hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// A driver on a pool of its own. What it leaves behind is taken down with this value.
#[derive(Debug)]
pub(crate) struct Ground {
    driver: Option<Child>,
    folder: tempfile::TempDir,
}

impl Ground {
    /// `None`, said loudly, where no volumes can be had.
    pub(crate) fn new(test: &str) -> Option<Self> {
        let root = Command::new("id").arg("-u").output().is_ok_and(|said| said.stdout == b"0\n");
        if !root || !Path::new("/dev/loop-control").exists() {
            println!("SKIPPED: {test} needs root and loop devices");
            return None;
        }
        let folder =
            tempfile::Builder::new().prefix("strongroom-storm-").tempdir().expect("a temporary folder");
        Some(Self { driver: None, folder })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("the paths of tests are plain text").to_owned()
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("unix://{}", self.text("csi.sock"))
    }

    /// Starts the driver; it need not answer yet.
    pub(crate) fn start(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.path("driver.log"));
        let log = log.expect("the log of the driver can be written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("STRONGROOM_") {
                command.env_remove(name);
            }
        }
        command
            .args(["driver", "--pool-size", "8GiB", "--node-id", "storm", "--pool"])
            .arg(self.path("pool"))
            .arg("--state-dir")
            .arg(self.path("state"))
            .args(["--endpoint", &self.endpoint(), "--mount-root"])
            .arg(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.driver = Some(command.spawn().expect("the driver starts"));
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut driver) = self.driver.take() {
            let _ = driver.kill();
            let _ = driver.wait();
        }
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn stop(&mut self) {
        if let Some(mut driver) = self.driver.take() {
            let _ = Command::new("kill").args(["-TERM", &driver.id().to_string()]).status();
            let ended = driver.wait().expect("our own child can be waited for");
            assert!(ended.success(), "the driver ended with {ended}: {}", self.log());
        }
    }

    /// Connects as soon as the driver answers.
    pub(crate) async fn connect(&mut self) -> Clients {
        let begun = Instant::now();
        loop {
            let ended = self.driver.as_mut().and_then(|driver| driver.try_wait().ok().flatten());
            assert!(ended.is_none(), "the driver ended with {ended:?}: {}", self.log());
            if let Ok(mut clients) = strongroom_proto::connect(&self.endpoint()).await
                && clients.identity.get_plugin_info(GetPluginInfoRequest {}).await.is_ok()
            {
                return clients;
            }
            assert!(begun.elapsed() < PATIENCE, "the driver does not answer: {}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The end of what the driver said.
    pub(crate) fn log(&self) -> String {
        let text = fs::read_to_string(self.path("driver.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// What is mounted below the ground beside the pool itself.
    pub(crate) fn mounts(&self) -> Vec<PathBuf> {
        let pool = self.path("pool/mounted");
        kernel::mounts_below(self.folder.path()).into_iter().filter(|place| *place != pool).collect()
    }

    /// Loop devices on files below the ground beside the pool file.
    pub(crate) fn loops(&self) -> Vec<(String, String)> {
        let pool = self.text("pool/pool.img");
        kernel::loops_below(self.folder.path()).into_iter().filter(|(_, file)| *file != pool).collect()
    }

    /// Files in the folders of the pool.
    pub(crate) fn images(&self) -> Vec<PathBuf> {
        ["volumes", "snapshots", "fresh"]
            .iter()
            .flat_map(|folder| fs::read_dir(self.path("pool/mounted").join(folder)).into_iter().flatten())
            .map(|entry| entry.expect("the pool can be listed").path())
            .collect()
    }

    /// `strongroom driver doctor`, of the driver that runs or, when none does, of its files: the codes of what it found
    /// beside notes and what the machine lacks.
    pub(crate) fn doctor(&self) -> Vec<String> {
        let output = Command::new(env!("CARGO_BIN_EXE_strongroom"))
            .args(["driver", "doctor", "--output", "json", "--endpoint", &self.endpoint(), "--pool"])
            .arg(self.path("pool"))
            .arg("--state-dir")
            .arg(self.path("state"))
            .output()
            .expect("the doctor starts");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("the doctor said: {}", String::from_utf8_lossy(&output.stderr)));
        let found = report["findings"].as_array().unwrap_or_else(|| panic!("{report}"));
        found
            .iter()
            .filter(|finding| finding["severity"] != "note")
            .map(|finding| finding["code"].as_str().unwrap_or_default().to_owned())
            .filter(|code| !code.starts_with("capability.") && !code.starts_with("program."))
            .collect()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the driver said\n{}", self.log());
        }
        self.kill();
        kernel::take_down(self.folder.path());
    }
}
