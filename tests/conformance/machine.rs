//! A machine of its own for a test: a disk with a pool, the driver's process on it, and folders for mounts.
//!
//! ```text
//! disk            a sparse file with XFS, mounted at pool/
//! pool/           the driver's
//! state/          the driver's registry
//! yard/           guarded: nothing but mounts/ may change in it
//!   mounts/stage, mounts/pods      where volumes are staged and published
//! ```

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use strongroom_proto::csi::{ListSnapshotsRequest, ListVolumesRequest, ProbeRequest};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::call::{self, Call};
use crate::kernel;
use crate::volume;

pub(crate) const NODE: &str = "node-under-test";

/// How long anything may take that happens by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// Takes everything down when it goes, also after a failure.
#[derive(Debug)]
pub(crate) struct Machine {
    driver: Option<Child>,
    channel: Option<Channel>,
    runtime: tokio::runtime::Runtime,
    options: Options,
    folder: tempfile::TempDir,
}

/// What tests vary.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The size of the disk; it is sparse.
    pub(crate) disk_mib: u64,
    /// What the driver logs.
    pub(crate) log: &'static str,
    /// What the node is called.
    pub(crate) node: &'static str,
    /// More words for the driver.
    pub(crate) words: &'static [&'static str],
}

impl Default for Options {
    fn default() -> Self {
        Self { disk_mib: 8192, log: "warn,strongroom=debug", node: NODE, words: &[] }
    }
}

impl Machine {
    /// A driver that answers; `None`, said loudly, where there can be none.
    pub(crate) fn new(test: &str) -> Option<Self> {
        Self::with(test, Options::default())
    }

    pub(crate) fn with(test: &str, options: Options) -> Option<Self> {
        if !kernel::is_root(test) || !Path::new("/dev/loop-control").exists() {
            println!("SKIPPED: {test} needs root and loop devices");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("strongroom-csi-").tempdir().unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let mut machine = Self { driver: None, channel: None, runtime, options, folder };
        for name in ["pool", "state", "yard/mounts/stage", "yard/mounts/pods", "yard/outside"] {
            fs::create_dir_all(machine.path(name)).unwrap();
        }
        let (disk, pool) = (machine.text("disk"), machine.text("pool"));
        kernel::sh("truncate", &["-s", &format!("{}M", machine.options.disk_mib), &disk]);
        kernel::sh("mkfs.xfs", &["-q", "-m", "reflink=1", &disk]);
        kernel::sh("mount", &["-o", "loop", &disk, &pool]);
        machine.start();
        Some(machine)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Where a volume is staged.
    pub(crate) fn stage_path(&self, name: &str) -> String {
        self.text(&format!("yard/mounts/stage/{name}"))
    }

    /// Where a volume is published.
    pub(crate) fn pod_path(&self, name: &str) -> String {
        self.text(&format!("yard/mounts/pods/{name}"))
    }

    /// Starts the driver and waits until it says that it is ready.
    #[track_caller]
    pub(crate) fn start(&mut self) {
        assert!(self.driver.is_none(), "one driver at a time");
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("STRONGROOM_") {
                command.env_remove(&name);
            }
        }
        command
            .args(["driver", "--node-id", self.options.node])
            .args(self.options.words)
            .args(["--pool", &self.text("pool"), "--state-dir", &self.text("state")])
            .args(["--endpoint", &self.text("csi.sock"), "--mount-root", &self.text("yard/mounts")])
            .env("RUST_LOG", self.options.log)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.driver = Some(command.spawn().unwrap());
        let begun = Instant::now();
        loop {
            let ended = self.driver.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the driver ended: {ended:?}\n{}", self.log());
            assert!(begun.elapsed() < PATIENCE, "the driver does not answer\n{}", self.log());
            if self.path("csi.sock").exists() {
                let endpoint = Endpoint::try_from(format!("unix://{}", self.text("csi.sock"))).unwrap();
                if let Ok(channel) = self.runtime.block_on(endpoint.connect()) {
                    self.channel = Some(channel);
                    if self.call(ProbeRequest {}).is_ok_and(|probe| probe.ready != Some(false)) {
                        return;
                    }
                }
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        let mut driver = self.driver.take().expect("a driver runs");
        driver.kill().unwrap();
        driver.wait().unwrap();
        self.channel = None;
    }

    /// SIGTERM, and the end in good order.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        let Some(mut driver) = self.driver.take() else { return };
        kernel::sh("kill", &["-TERM", &driver.id().to_string()]);
        let ended = driver.wait().unwrap();
        self.channel = None;
        assert!(ended.success(), "it ended with {ended} (signal {:?})\n{}", ended.signal(), self.log());
    }

    /// kill -9 and a new start: what is mounted stays.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.start();
    }

    /// The same machine, called otherwise.
    pub(crate) fn restart_as(&mut self, node: &'static str) {
        self.options.node = node;
        self.restart();
    }

    /// The process is there and was not ended by one of its mistakes.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.driver.as_mut().is_some_and(|driver| driver.try_wait().unwrap().is_none())
    }

    /// What the driver said, of all its starts.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.path("log")).unwrap_or_default()).into_owned()
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone().expect("a driver runs")
    }

    pub(crate) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// One call that has one answer.
    pub(crate) fn call<R: Call>(&self, request: R) -> Result<R::Answer, Status> {
        let mut answers = self.run(call::call(self.channel(), request))?;
        assert_eq!(answers.len(), 1, "one answer to {}", R::PATH);
        Ok(answers.remove(0))
    }

    /// One call that must succeed. While the driver itself is at work on the volume (it makes writers wait when the pool is full) it
    /// answers ABORTED, and is asked again as orchestrators do.
    #[track_caller]
    pub(crate) fn ok<R: Call>(&self, request: R) -> R::Answer {
        let printed = format!("{request:?}");
        let begun = Instant::now();
        loop {
            match self.call(request.clone()) {
                Ok(answer) => return answer,
                Err(status) if status.code() == Code::Aborted && begun.elapsed() < PATIENCE => {
                    thread::sleep(Duration::from_millis(20));
                }
                Err(status) => panic!("{}: {status:?}\n{printed}", call::name_of(R::PATH)),
            }
        }
    }

    /// One call that must be refused with this code.
    #[track_caller]
    pub(crate) fn refused<R: Call>(&self, code: Code, request: R) -> Status {
        let printed = format!("{request:?}");
        match self.call(request) {
            Ok(answer) => panic!("{} is not refused: {answer:?}\n{printed}", R::PATH),
            Err(status) => {
                assert_eq!(status.code(), code, "{}: {status:?}\n{printed}", R::PATH);
                status
            }
        }
    }

    /// A call whose answers are a stream.
    pub(crate) fn stream<R: Call>(&self, request: R) -> Result<Vec<R::Answer>, Status> {
        self.run(call::call(self.channel(), request))
    }

    /// Begins a call and does not wait for it.
    pub(crate) fn begin<R: Call>(&self, request: R) -> Begun<R> {
        let channel = self.channel();
        let task = self
            .runtime
            .spawn(async move { call::call(channel, request).await.map(|mut answers| answers.remove(0)) });
        Begun { task }
    }

    /// Waits for what was begun.
    pub(crate) fn end<R: Call>(&self, begun: Begun<R>) -> Result<R::Answer, Status> {
        self.run(begun.task).unwrap()
    }

    /// All at the same time, each over a connection of its own; the answers in the order of the requests.
    pub(crate) fn together<R: Call>(&self, requests: Vec<R>) -> Vec<Result<R::Answer, Status>> {
        let endpoint = Endpoint::try_from(format!("unix://{}", self.text("csi.sock"))).unwrap();
        let context = self.runtime.enter();
        let begun: Vec<Begun<R>> = requests
            .into_iter()
            .map(|request| {
                let channel = endpoint.connect_lazy();
                let task = self.runtime.spawn(async move {
                    call::call(channel, request).await.map(|mut answers| answers.remove(0))
                });
                Begun { task }
            })
            .collect();
        drop(context);
        begun.into_iter().map(|one| self.end(one)).collect()
    }

    /// What the command line says of this driver.
    #[track_caller]
    pub(crate) fn command(&self, words: &[&str]) -> serde_json::Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        let output = command.args(words).args(["--endpoint", &self.text("csi.sock")]).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Deletes whatever the driver still has, ends it, and fails when anything is left on the machine.
    #[track_caller]
    pub(crate) fn finish(mut self) {
        assert!(self.is_alive(), "the driver died\n{}", self.log());
        assert!(!self.log().contains("panicked at"), "the driver panicked\n{}", self.log());
        self.clear();
        self.stop();
        self.check_nothing_is_left();
    }

    /// Deletes all snapshots and volumes; nothing may be in use any more.
    #[track_caller]
    pub(crate) fn clear(&self) {
        let snapshots = self.ok(ListSnapshotsRequest::default()).entries;
        let snapshots: Vec<_> = snapshots.into_iter().map(|entry| entry.snapshot.unwrap()).collect();
        volume::delete_snapshots(self, &snapshots);
        for entry in self.ok(ListVolumesRequest::default()).entries {
            volume::delete(self, &entry.volume.unwrap().volume_id);
        }
    }

    /// No image, no mount, no loop device.
    #[track_caller]
    pub(crate) fn check_nothing_is_left(&self) {
        let images = ["volumes", "snapshots", "fresh"].map(|name| self.path("pool").join(name));
        let images: Vec<_> = images.iter().flat_map(|folder| fs::read_dir(folder).unwrap()).collect();
        assert!(images.is_empty(), "images are left: {images:?}");
        let mounts = kernel::mounts_below(&self.path("yard"));
        let loops = kernel::loops_below(&self.path("pool"));
        assert!(mounts.is_empty() && loops.is_empty(), "left behind: {mounts:?} {loops:?}");
    }
}

/// A call that is under way.
#[derive(Debug)]
pub(crate) struct Begun<R: Call> {
    task: tokio::task::JoinHandle<Result<R::Answer, Status>>,
}

impl<R: Call> Begun<R> {
    pub(crate) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// The caller hangs up.
    pub(crate) fn give_up(self) {
        self.task.abort();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(mut driver) = self.driver.take() {
            if thread::panicking() {
                let log = self.log();
                let tail: Vec<&str> = log.lines().rev().take(20).collect();
                eprintln!("--- the driver said last");
                tail.iter()
                    .rev()
                    .for_each(|line| eprintln!("{}", line.chars().take(400).collect::<String>()));
            }
            let _ = driver.kill();
            let _ = driver.wait();
        }
        kernel::take_down(self.folder.path());
    }
}
