//! A frozen filesystem that thaws whatever happens.
//!
//! While it is frozen nobody may write to it, neither this driver. So nothing is logged, allocated on disk or
//! recorded between [`Frozen::freeze`] and [`Frozen::thaw`] but the clone itself.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::core_error::CoreError;
use crate::mount_table::MountTable;
use crate::place;
use crate::requests::WatchdogCommand;
use crate::sys;
use crate::watchdog::Watchdog;

/// A filesystem that is about to be frozen: its watchdog runs already, so that the freeze itself takes no longer
/// than it must.
#[derive(Debug)]
pub(crate) struct Armed(Option<Parts>);

#[derive(Debug)]
struct Parts {
    folder: File,
    subject: String,
    watchdog: Watchdog,
}

/// Thaws when it is dropped; if this process dies, its watchdog does.
#[derive(Debug)]
pub(crate) struct Frozen {
    folder: File,
    subject: String,
    watchdog: Option<Watchdog>,
    since: Instant,
}

impl Armed {
    /// Starts the watchdog of the filesystem mounted at `folder`; its deadline counts from now.
    pub(crate) fn arm(
        folder: &Path,
        subject: &str,
        command: &WatchdogCommand,
        deadline: Duration,
    ) -> Result<Self, CoreError> {
        let failed = |reason: String| CoreError::Freeze { subject: subject.to_owned(), reason };
        let open = File::open(folder).map_err(CoreError::system("opening", folder))?;
        // By mountinfo it is mounted there; a link that stands there now would lead to another filesystem.
        let id = place::mount_id(&open)?;
        if MountTable::read()?.numbered(id).is_none_or(|mount| mount.path != folder) {
            return Err(failed(format!("{} is not where it is mounted any more", folder.display())));
        }
        let device = open.metadata().map_err(CoreError::system("looking at", folder))?.dev();
        let watchdog = Watchdog::start(command, folder, device, deadline)
            .map_err(|cause| failed(format!("its watchdog: {cause}")))?;
        Ok(Self(Some(Parts { folder: open, subject: subject.to_owned(), watchdog })))
    }

    /// Flushes and freezes the filesystem.
    pub(crate) fn freeze(mut self) -> Result<Frozen, CoreError> {
        let Parts { folder, subject, watchdog } = self.0.take().expect("only this, which ends it, takes it");
        let since = Instant::now();
        match sys::freeze(&folder) {
            Ok(()) => Ok(Frozen { folder, subject, watchdog: Some(watchdog), since }),
            Err(cause) => {
                // Somebody else froze it; they must also thaw it.
                watchdog.dismiss();
                let reason = if cause.raw_os_error() == Some(Errno::BUSY.raw_os_error()) {
                    "it is frozen already, by somebody else".to_owned()
                } else {
                    format!("freezing it: {cause}")
                };
                Err(CoreError::Freeze { subject, reason })
            }
        }
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        if let Some(parts) = self.0.take() {
            // Never frozen, so nothing is to be thawed; another's freeze above all not.
            parts.watchdog.dismiss();
        }
    }
}

impl Frozen {
    /// Flushes and freezes the filesystem mounted at `folder`.
    pub(crate) fn freeze(
        folder: &Path,
        subject: &str,
        command: &WatchdogCommand,
        deadline: Duration,
    ) -> Result<Self, CoreError> {
        Armed::arm(folder, subject, command, deadline)?.freeze()
    }

    /// Ends the freeze. An error when it had ended before: then the cut that was made meanwhile is not one.
    ///
    /// Answers how long writers had to wait, the flush included.
    pub(crate) fn thaw(mut self) -> Result<Duration, CoreError> {
        let thawed = sys::thaw(&self.folder);
        let waited = self.since.elapsed();
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.dismiss();
        }
        thawed.map(|()| waited).map_err(|cause| {
            let early = cause.raw_os_error() == Some(Errno::INVAL.raw_os_error());
            let reason = if early {
                "it was thawed before the cut was complete".to_owned()
            } else {
                format!("thawing it: {cause}")
            };
            CoreError::Freeze { subject: self.subject.clone(), reason }
        })
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Some(watchdog) = self.watchdog.take() {
            match sys::thaw(&self.folder) {
                Ok(()) => watchdog.dismiss(),
                // Let the watchdog try.
                Err(_) => drop(watchdog),
            }
        }
    }
}

/// Thaws the filesystem mounted at `folder` if it is frozen; whether it was.
pub(crate) fn thaw_if_frozen(folder: &Path) -> Result<bool, CoreError> {
    let open = File::open(folder).map_err(CoreError::system("opening", folder))?;
    match sys::thaw(&open) {
        Ok(()) => Ok(true),
        Err(cause) if cause.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(false),
        Err(cause) => Err(CoreError::System { action: "thawing", path: folder.to_owned(), cause }),
    }
}
