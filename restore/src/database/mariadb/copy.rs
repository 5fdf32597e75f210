//! A copy and its server: brought to a stop, proved, asked, and brought on to a later stop.

use std::path::{Path, PathBuf};

use strongroom_database::mariadb::{GtidState, ReplayScan};
use strongroom_database::{Plan, Position};

use super::feed::{Feed, feed};
use super::{LaidOutLog, ReplayError, Server};

/// What a copy was brought to: up to here in the log, and so these transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    at: Position,
    has: GtidState,
}

impl Reached {
    /// How far in the log.
    #[must_use]
    pub const fn at(&self) -> Position {
        self.at
    }
}

/// A copy of a base, and its server, while it runs. It ends when this is dropped, as by a crash.
#[derive(Debug)]
pub struct MariadbCopy {
    server: Server,
    log_name: String,
    feed: Option<Feed>,
    reached: Option<Reached>,
}

impl MariadbCopy {
    /// Prepares a copy of a data folder. `work` is a private folder of the caller's, for socket, log and what else the server needs.
    ///
    /// # Errors
    /// When the files are of root, cannot be written, or there is no MariaDB on this machine.
    pub fn prepare(
        data: &Path,
        work: &Path,
        programs: Option<&Path>,
        log_name: &str,
    ) -> Result<Self, ReplayError> {
        let server = Server::prepare(data, work, programs, log_name)?;
        Ok(Self { server, log_name: log_name.to_owned(), feed: None, reached: None })
    }

    /// The log that is laid out for it, which is empty at first.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn log(&self) -> Result<LaidOutLog, ReplayError> {
        Ok(LaidOutLog::new(self.server.folder("log")?, self.log_name.clone()))
    }

    /// Starts its server, which recovers first.
    ///
    /// # Errors
    /// When it does not come up, with its own words.
    pub async fn start(&mut self, settings: &[String]) -> Result<(), ReplayError> {
        self.server.start(settings).await
    }

    /// Goes on with a copy of what was brought so far before. Without this the copy is asked what it has.
    ///
    /// # Errors
    /// When it is not what was brought there.
    pub async fn go_on_from(&mut self, reached: Reached) -> Result<(), ReplayError> {
        if !self.server.has_own_log() {
            self.server.begin_with(&reached.has).await?;
        }
        self.prove(&reached.has).await?;
        self.reached = Some(reached);
        Ok(())
    }

    /// Brings it to the stop of a plan, which is not before where it is, and proves that it is there. Answers where it stopped.
    ///
    /// # Errors
    /// When the log does not say what is to be replayed, the server does not take it, or has not what it should in the end.
    pub async fn go_to(&mut self, log: &LaidOutLog, plan: &Plan) -> Result<Position, ReplayError> {
        let has_own_log = self.server.has_own_log();
        let (scan, from) = match &self.reached {
            Some(reached) => {
                (ReplayScan::onward(reached.at, reached.has.clone(), plan.cut), Some(reached.at))
            }
            // Where the binary log is in the copy, the copy says what it has; else the position says it that was read around the cut.
            None if has_own_log => (ReplayScan::behind(self.server.committed().await?, plan.cut), None),
            None => (ReplayScan::from(plan.base.end, plan.cut), None),
        };
        let (read, first) = (log.clone(), from.unwrap_or(plan.base.end));
        let scanning = tokio::task::spawn_blocking(move || read.scan(scan, from, first));
        let replay = scanning.await.map_err(|_| ReplayError::Ending)??;
        if self.reached.is_none() && !has_own_log {
            self.server.begin_with(&replay.before).await?;
        }
        if replay.transactions > 0 {
            feed(&mut self.feed, &self.server, log, &replay).await?;
        }
        self.prove(&replay.after).await?;
        self.reached = Some(Reached { at: replay.to, has: replay.after });
        Ok(replay.to)
    }

    async fn prove(&mut self, wanted: &GtidState) -> Result<(), ReplayError> {
        let found = self.server.committed().await?;
        if found == *wanted {
            return Ok(());
        }
        Err(ReplayError::Unproved { wanted: wanted.to_string(), found: found.to_string() })
    }

    /// What it was brought to.
    #[must_use]
    pub const fn reached(&self) -> Option<&Reached> {
        self.reached.as_ref()
    }

    /// What it has committed, as it says itself: the last transaction of each domain and server.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn committed(&mut self) -> Result<GtidState, ReplayError> {
        self.server.committed().await
    }

    /// Asks it in SQL, as somebody who may do everything; `what` is for messages.
    ///
    /// # Errors
    /// When it refuses, or does not answer any more.
    pub async fn ask(&mut self, what: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>, ReplayError> {
        Ok(self.server.connection()?.ask(what, sql).await?)
    }

    pub(in super::super) const fn is_running(&self) -> bool {
        self.server.is_running()
    }

    /// Where its programs come in; whoever comes may do everything.
    ///
    /// What was replayed made the server look at its accounts, so it is started anew without them. Temporary tables of the replayed
    /// sessions go with it.
    pub(in super::super) async fn open_doors(&mut self, settings: &[String]) -> Result<PathBuf, ReplayError> {
        if let Some(feed) = self.feed.take() {
            feed.end().await?;
            self.server.end().await?;
            self.server.start(settings).await?;
            if let Some(reached) = self.reached.clone() {
                self.go_on_from(reached).await?;
            }
        }
        Ok(self.server.socket())
    }

    /// One of MariaDB's programs, for a person or a dump.
    pub(in super::super) fn program(&self, name: &'static str) -> Result<PathBuf, ReplayError> {
        self.server.find(name)
    }

    /// What its server said last that was wrong.
    pub(in super::super) fn words(&self) -> String {
        self.server.words()
    }

    /// Ends it at once, as a crash would: for a copy that goes.
    pub async fn kill(mut self) {
        self.feed = None;
        self.server.kill().await;
    }

    /// Ends it properly: whoever starts it next finds it as after any other shutdown.
    ///
    /// # Errors
    /// When it does not end so.
    pub async fn end(mut self) -> Result<(), ReplayError> {
        if let Some(feed) = self.feed.take() {
            feed.end().await?;
        }
        self.server.end().await
    }
}
