//! Runs the binary: to the end, or in the background, or until it is killed.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::answer::Answer;

/// A command that takes longer than this hangs; measurements are given an hour.
fn patience() -> Duration {
    Duration::from_secs(if std::env::var_os("STRONGROOM_BENCH").is_some() { 3600 } else { 240 })
}

/// A command line under construction.
#[derive(Debug)]
pub(crate) struct Call {
    command: Command,
    words: String,
    outputs: PathBuf,
    patience: Duration,
}

impl Call {
    /// The binary, with an environment that holds nothing of Strongroom or AWS but what the test adds. `outputs` is a
    /// directory for its streams: files, so that no full pipe can stop it.
    pub(crate) fn new(outputs: &Path) -> Self {
        let mut command = Command::new(binary());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("STRONGROOM_") || text.starts_with("AWS_") {
                command.env_remove(&name);
            }
        }
        command.stdin(Stdio::null()).env("RUST_BACKTRACE", "1").env("TZ", "UTC");
        Self { command, words: "strongroom".to_owned(), outputs: outputs.to_owned(), patience: patience() }
    }

    pub(crate) fn args<S: Into<OsString>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        for arg in args {
            let arg = arg.into();
            self.words.push(' ');
            self.words.push_str(&arg.to_string_lossy());
            self.command.arg(arg);
        }
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.command.env(name, value.into());
        self
    }

    /// Gives it this file as its standard input.
    pub(crate) fn stdin(mut self, path: &Path) -> Self {
        self.command.stdin(File::open(path).expect("the input can be read"));
        self
    }

    /// Runs it at a terminal of its own, at which the lines of this file are typed.
    pub(crate) fn at_a_terminal(mut self, typed: &Path) -> Self {
        let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"));
        let words: Vec<String> =
            std::iter::once(self.command.get_program()).chain(self.command.get_args()).map(quoted).collect();
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &words.join(" "), "/dev/null"]);
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => script.env(name, value),
                None => script.env_remove(name),
            };
        }
        // No pager, which would take what is typed for itself.
        script.env("TERM", "dumb").env("PAGER", "cat");
        self.command = script;
        self.stdin(typed)
    }

    /// Takes a variable out of its environment.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Runs it and waits for its end.
    #[track_caller]
    pub(crate) fn run(self) -> Answer {
        self.start().wait()
    }

    /// Starts it.
    #[track_caller]
    pub(crate) fn start(mut self) -> Running {
        static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let stdout = self.outputs.join(format!("{number:04}.stdout"));
        let stderr = self.outputs.join(format!("{number:04}.stderr"));
        self.command.stdout(File::create(&stdout).expect("the outputs directory can be written to"));
        self.command.stderr(File::create(&stderr).expect("the outputs directory can be written to"));
        let child = self.command.spawn().expect("the binary starts");
        Running {
            child,
            words: self.words,
            stdout,
            stderr,
            begun: Instant::now(),
            patience: self.patience,
            peak_bytes: 0,
            cpu_s: 0.0,
        }
    }
}

/// The binary under test: the one cargo built, or the one named for measurements of a release build.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("STRONGROOM_TEST_BINARY")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_strongroom")), PathBuf::from)
}

/// A command that runs. It is killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    words: String,
    stdout: PathBuf,
    stderr: PathBuf,
    begun: Instant,
    patience: Duration,
    peak_bytes: u64,
    cpu_s: f64,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// It has ended.
    pub(crate) fn ended(&mut self) -> bool {
        self.peak_bytes = self.peak_bytes.max(peak_bytes(self.child.id()));
        self.cpu_s = self.cpu_s.max(cpu_s(self.child.id()));
        self.child.try_wait().expect("our own child can be waited for").is_some()
    }

    /// kill -9, and what was said until then.
    pub(crate) fn kill(mut self) -> Answer {
        let _ = self.child.kill();
        self.finish()
    }

    /// SIGTERM, then waits for the end.
    #[track_caller]
    pub(crate) fn terminate(self) -> Answer {
        signal(self.child.id(), "TERM");
        self.wait()
    }

    /// Waits for the end.
    #[track_caller]
    pub(crate) fn wait(mut self) -> Answer {
        while !self.ended() {
            if self.begun.elapsed() > self.patience {
                let _ = self.child.kill();
                panic!("it hangs: {}", self.finish());
            }
            thread::sleep(Duration::from_millis(3));
        }
        self.finish()
    }

    /// What it has said so far on standard error.
    pub(crate) fn stderr(&self) -> String {
        read(&self.stderr)
    }

    fn finish(&mut self) -> Answer {
        let status = self.child.wait().expect("our own child can be waited for");
        Answer {
            words: self.words.clone(),
            code: status.code(),
            stdout: read(&self.stdout),
            stderr: read(&self.stderr),
            took: self.begun.elapsed(),
            peak_bytes: self.peak_bytes,
            cpu_s: self.cpu_s,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// VmHWM of a living process; 0 when it is gone. It only rises, so looking often enough sees nearly all of it.
fn peak_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// CPU seconds of a living process or one that is not yet waited for. The kernel counts in hundredths.
fn cpu_s(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold anything; what follows the last one is plain.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
