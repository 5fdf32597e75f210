//! The thread that follows: reads what is committed twenty times a second, checkpoints in good time, answers who makes a base.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use strongroom_database::Position;
use strongroom_log_spool::SpoolError;
use strongroom_sqlite::{Cursor, SqliteError};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{Answer, Asking, LOG_POSITIONS, Open, Reached};
use crate::databases::engine::Receiving;

/// How often it looks: a commit is on our disk so much later. A look is two reads of some bytes.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// When so much came since the last checkpoint it is time for one: as much as SQLite's own 1000 pages.
const CHECKPOINT_BYTES: u64 = 4 << 20;

/// Less than that is checkpointed after this time.
const CHECKPOINT_AGE: Duration = Duration::from_secs(60);

/// After one that could not be ended, and between looks at the mount.
const PAUSE: Duration = Duration::from_secs(1);

/// When the spool is full the database's own log file grows, up to here; then it is let go of, and there is a gap.
pub(super) const MOST_LOG_BYTES: u64 = 1 << 30;

pub(super) struct Following {
    open: Open,
    into: Receiving,
    /// In the volume.
    path: PathBuf,
    asked: Receiver<oneshot::Sender<Answer>>,
    asking: Arc<Asking>,
    cancel: CancellationToken,
    cursor_file: PathBuf,
    /// When the last checkpoint was tried, and what it copied all of.
    tried_at: Instant,
    copied: Position,
}

impl Following {
    pub(super) fn new(
        open: Open,
        into: Receiving,
        path: PathBuf,
        (asked, asking): (Receiver<oneshot::Sender<Answer>>, Arc<Asking>),
        cancel: CancellationToken,
    ) -> Self {
        let cursor_file = into.folder.join("cursor");
        let copied = into.from;
        Self { open, into, path, asked, asking, cancel, cursor_file, tried_at: Instant::now(), copied }
    }

    /// Until it is cancelled. `fresh`: its log begins where it is.
    pub(super) fn run(mut self, fresh: bool) -> Result<(), SqliteError> {
        if !fresh {
            self.go_on()?;
        }
        let from = self.open.follower.cursor().position;
        self.into.progress.send_modify(|progress| {
            progress.streaming = true;
            progress.flushed = from;
        });
        let followed = self.follow();
        self.into.progress.send_modify(|progress| progress.streaming = false);
        self.asking.held_bytes.store(0, Ordering::Relaxed);
        followed
    }

    fn go_on(&mut self) -> Result<(), SqliteError> {
        let cursor = Cursor::resume(&self.cursor_file, &self.into.spool, self.into.from);
        let cursor = cursor.ok_or_else(|| SqliteError::Gap {
            path: self.path.clone(),
            what: "where that was is not known on this machine",
        })?;
        self.open.follower.go_on(cursor, &self.into.spool, self.into.world.clock.now())?;
        self.remember()
    }

    fn follow(&mut self) -> Result<(), SqliteError> {
        self.remember()?;
        let mut looked_at = Instant::now();
        while !self.cancel.is_cancelled() {
            let is_full = self.look()?;
            if !is_full && self.is_checkpoint_due() {
                self.tried_at = Instant::now();
                let now = self.into.world.clock.now();
                if self.open.follower.checkpoint(&self.into.spool, now)? {
                    self.copied = self.open.follower.cursor().position;
                }
                self.remember()?;
            }
            if looked_at.elapsed() >= PAUSE {
                looked_at = Instant::now();
                if !self.open.place.is_needed() {
                    return Err(SqliteError::NotMounted);
                }
                let path = self.open.place.file(&self.path);
                if !self.open.follower.is_at(&path) {
                    return Err(SqliteError::Missing { path });
                }
            }
            match self.asked.recv_timeout(LOOK_EVERY) {
                Ok(asking) => {
                    // Whoever asked may be gone.
                    let _ = asking.send(self.reached());
                }
                Err(RecvTimeoutError::Timeout) => {}
                // A later follower took over who asks, which `alone` does not let happen.
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(LOOK_EVERY),
            }
        }
        self.remember()
    }

    /// Reads what came; true: the spool is full, and it did not.
    fn look(&mut self) -> Result<bool, SqliteError> {
        let is_full = self.into.spool.disk_bytes() >= self.into.budget_bytes;
        let follower = &mut self.open.follower;
        let held_bytes = if is_full { follower.log_file_bytes() } else { 0 };
        self.asking.held_bytes.store(held_bytes, Ordering::Relaxed);
        if is_full {
            if held_bytes > MOST_LOG_BYTES {
                return Err(self.gap("the spool is full, and it grew to a gibibyte"));
            }
        } else {
            // Read before the log is: what was committed by then is in.
            let now = self.into.world.clock.now();
            if follower.catch_up(&self.into.spool, now)? {
                self.remember()?;
            }
            let end = self.open.follower.cursor().position;
            if end.since(Position::new(self.into.opened.start)) > LOG_POSITIONS - (1 << 32) {
                return Err(self.gap("a log has no more positions"));
            }
            self.into.progress.send_modify(|progress| {
                progress.flushed = end;
                progress.server_end = end;
                progress.current_at = Some(now);
                progress.heard_at = Some(now);
            });
        }
        self.into
            .progress
            .send_if_modified(|progress| std::mem::replace(&mut progress.is_full, is_full) != is_full);
        Ok(is_full)
    }

    fn reached(&mut self) -> Answer {
        if self.look()? {
            return Err(SpoolError::Disk {
                path: self.into.folder.clone(),
                cause: std::io::ErrorKind::StorageFull.into(),
            }
            .into());
        }
        let position = self.open.follower.cursor().position;
        Ok(Reached { log: self.into.opened.log, position, at: self.into.world.clock.now() })
    }

    fn is_checkpoint_due(&self) -> bool {
        let fresh = self.open.follower.cursor().position.since(self.copied);
        let since = self.tried_at.elapsed();
        (fresh >= CHECKPOINT_BYTES && since >= PAUSE) || (fresh > 0 && since >= CHECKPOINT_AGE)
    }

    fn remember(&self) -> Result<(), SqliteError> {
        let written = self.open.follower.cursor().write(&self.cursor_file);
        written.map_err(|cause| SqliteError::File { path: self.cursor_file.clone(), cause })
    }

    fn gap(&self, what: &'static str) -> SqliteError {
        SqliteError::Gap { path: self.path.clone(), what }
    }
}
