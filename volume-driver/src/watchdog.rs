//! The process that thaws a filesystem when the driver that froze it dies or takes too long.
//!
//! A freeze outlives whoever asked for it, so it must never rest on the driver alone. Before the freeze the
//! driver starts this process, which opens the mounted folder and says `ready`. It then waits on its standard
//! input: a byte means that all went well; the end without one, or the deadline, means that it has to thaw.
//!
//! It runs in a process group of its own, so that a Ctrl-C meant for the driver does not end it too.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::requests::WatchdogCommand;
use crate::sys;

/// What the hidden subcommand `driver-thaw-watchdog` runs: `arguments` are those behind its name.
pub fn thaw_watchdog(arguments: impl Iterator<Item = String>) -> ExitCode {
    match watch(&arguments.collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            // Standard error is the driver's log.
            eprintln!("thaw watchdog: {cause}");
            ExitCode::FAILURE
        }
    }
}

fn watch(arguments: &[String]) -> io::Result<()> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "expected DEVICE MILLISECONDS FOLDER");
    let [device, deadline, folder] = arguments else { return Err(wrong()) };
    let device: u64 = device.parse().map_err(|_| wrong())?;
    let deadline = Duration::from_millis(deadline.parse().map_err(|_| wrong())?);
    let folder = File::open(folder)?;
    if folder.metadata()?.dev() != device {
        return Err(io::Error::other("another filesystem is mounted there"));
    }
    let mut output = io::stdout();
    output.write_all(b"ready\n")?;
    output.flush()?;

    let mut input = io::stdin();
    let timeout = Timespec {
        tv_sec: i64::try_from(deadline.as_secs()).map_err(io::Error::other)?,
        tv_nsec: deadline.subsec_nanos().into(),
    };
    let heard = rustix::event::poll(&mut [PollFd::new(&input, PollFlags::IN)], Some(&timeout))?;
    // A byte: the driver thawed it itself. End of input: the driver is gone.
    if heard > 0 && input.read(&mut [0])? == 1 {
        return Ok(());
    }
    match sys::thaw(&folder) {
        Err(cause) if cause.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => Ok(()),
        thawed => thawed,
    }
}

/// A running watchdog.
#[derive(Debug)]
pub(crate) struct Watchdog {
    child: Child,
    input: Option<ChildStdin>,
}

impl Watchdog {
    /// Starts it for the filesystem mounted at `folder`, whose device number is `device`, and waits until it is
    /// ready.
    pub(crate) fn start(
        command: &WatchdogCommand,
        folder: &Path,
        device: u64,
        deadline: Duration,
    ) -> io::Result<Self> {
        let mut child = Command::new(&command.program)
            .args(&command.arguments)
            .arg(device.to_string())
            .arg(deadline.as_millis().to_string())
            .arg(folder)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let input = child.stdin.take();
        let output = child.stdout.take().expect("its standard output was asked to be a pipe");
        let watchdog = Self { child, input };
        // A test's own watchdog may say other things first; a watchdog that fails ends its output.
        let ready = BufReader::new(output).lines().map_while(Result::ok).any(|line| line.ends_with("ready"));
        if ready { Ok(watchdog) } else { Err(io::Error::other("the thaw watchdog did not start")) }
    }

    /// Tells it that the filesystem was thawed.
    pub(crate) fn dismiss(mut self) {
        if let Some(mut input) = self.input.take() {
            // If it is gone already, it has nothing left to do.
            let _ = input.write_all(b"\n");
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // Closing the pipe without a word lets it thaw.
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
