//! Where the bytes of results and talk go: to the process's own streams, or into memory for a test.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indicatif::MultiProgress;

/// Both streams. Bars are taken off the terminal while something else is written to it.
#[derive(Debug)]
pub(crate) struct Sink {
    target: Target,
    pub(crate) bars: MultiProgress,
    /// The reader of standard output went away (`strongroom points list | head`): not our failure, and no reason to go on printing.
    pub(crate) closed: AtomicBool,
    /// Standard output could not be written for another reason, such as a full disk: the command has failed.
    pub(crate) broken: Mutex<Option<io::Error>>,
}

#[derive(Debug)]
enum Target {
    Process,
    Memory(Arc<Mutex<Pages>>),
}

#[derive(Debug, Default)]
struct Pages {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// What a console made by [`crate::Console::captured`] has printed.
#[derive(Debug, Clone, Default)]
pub struct Captured(Arc<Mutex<Pages>>);

impl Captured {
    /// Everything that went to standard output.
    #[must_use]
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&lock(&self.0).stdout).into_owned()
    }

    /// Everything that went to standard error.
    #[must_use]
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&lock(&self.0).stderr).into_owned()
    }
}

impl Sink {
    pub(crate) fn process() -> Self {
        Self {
            target: Target::Process,
            bars: MultiProgress::new(),
            closed: AtomicBool::new(false),
            broken: Mutex::new(None),
        }
    }

    pub(crate) fn memory(captured: &Captured) -> Self {
        Self { target: Target::Memory(Arc::clone(&captured.0)), ..Self::process() }
    }

    pub(crate) fn stdout(&self, bytes: &[u8]) {
        if self.closed.load(Ordering::Relaxed) {
            return;
        }
        let written = match &self.target {
            Target::Process => self.bars.suspend(|| {
                let mut out = io::stdout().lock();
                out.write_all(bytes).and_then(|()| out.flush())
            }),
            Target::Memory(pages) => {
                lock(pages).stdout.extend_from_slice(bytes);
                Ok(())
            }
        };
        if let Err(cause) = written {
            self.closed.store(true, Ordering::Relaxed);
            if cause.kind() != io::ErrorKind::BrokenPipe {
                *lock(&self.broken) = Some(cause);
            }
        }
    }

    /// Talk that cannot be written is lost: there is nobody left to tell.
    pub(crate) fn stderr(&self, bytes: &[u8]) {
        match &self.target {
            Target::Process => self.bars.suspend(|| {
                let _ = io::stderr().lock().write_all(bytes);
            }),
            Target::Memory(pages) => lock(pages).stderr.extend_from_slice(bytes),
        }
    }
}

/// Writes log lines to standard error without tearing a progress bar apart. Given to `tracing-subscriber`.
#[derive(Debug, Clone)]
pub struct LogWriter(pub(crate) Arc<Sink>);

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.stderr(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A poisoned lock only says that another thread panicked while it printed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
