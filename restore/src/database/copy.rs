//! What looking at a copy of a database, and proving one, need of its engine.
//!
//! ```text
//! take_up   what is mounted: the plan's base, or what the copy was when it rested last
//! go_to     forward to a plan's stop; from here on it answers
//! ask       questions, none of which can write
//! compare   is that the state which the commit index says?
//! check     is all of it whole, by the engine's own means?
//! rest      everything is on the disk: the volume can be unmounted, and kept as a snapshot
//! end       nothing of it runs any more; what it was is not wanted
//! ```
//! `look` and `proving` know no engine. **A new engine** implements [`DatabaseCopy`] in a module of its own (as `postgres` does)
//! and is named in [`open`]: then restore tests, `--sql`, `--shell`, `--advance`, `--bisect`, `--keep` and `db dump` work with it.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use strongroom_archive::DatabaseArchive;
use strongroom_console::Failed;
use strongroom_database::{Plan, Position};
use tokio_util::sync::CancellationToken;

use super::answer::{Answer, AskError};
use super::mariadb;
use super::mark::Mark;
use super::postgres::PostgresCopy;
use super::proving::ProvingError;
use super::sqlite::{self, SqliteCopy};

/// A copy of a database in a mounted volume.
#[async_trait]
pub(super) trait DatabaseCopy: Send {
    /// Whether a plan can be carried out at all: asked before anything is fetched.
    fn fits(&self, plan: &Plan) -> Result<(), Failed>;

    /// Begins with what is mounted. Nothing runs yet. Answers where its files are: whoever comes after a kill finds by it
    /// what runs.
    async fn take_up(&mut self, plan: &Plan) -> Result<PathBuf, Failed>;

    /// Fetches the log for a plan. An engine that fetches while it replays has nothing to do.
    async fn fetch(&mut self, _plan: &Plan) -> Result<(), Failed> {
        Ok(())
    }

    /// Brings it to the plan's stop, which is not before the one where it is. Answers where the engine says that it stopped.
    async fn go_to(&mut self, plan: &Plan) -> Result<Option<Position>, Failed>;

    /// What it answers, where it is.
    async fn ask(&mut self, sql: &str) -> Result<Answer, AskError>;

    /// Holds the state against the plan: the last commit to be kept is in, the first to be left out is not.
    async fn compare(&mut self, plan: &Plan) -> Result<Compared, Failed>;

    /// The engine's own check of all of it. Answers what was done. It need not answer questions afterwards.
    async fn check(&mut self) -> Result<Vec<String>, Failed>;

    /// The program in which a person asks it, and its name.
    async fn shell(&mut self) -> Result<(&'static str, Command), Failed>;

    /// Writes tables as SQL.
    async fn dump(&mut self, tables: &[String], out: File) -> Result<(), Failed>;

    /// Ends what runs, with everything written down.
    async fn rest(&mut self) -> Result<(), Failed>;

    /// Ends what runs, at once.
    async fn end(&mut self) -> Result<(), Failed>;

    /// Makes it a database of its own, which says of itself what it is. Nothing of it runs afterwards.
    async fn keep(&mut self, mark: Mark) -> Result<(), Failed>;
}

/// What was seen of a state that is as it should be.
#[derive(Debug)]
pub(super) struct Compared {
    pub(super) replayed_to: Position,
    /// The stamp of the last transaction that is in.
    pub(super) last_at: Option<Timestamp>,
    /// For the evidence.
    pub(super) said: String,
}

/// Where a copy is, and as whom it is asked.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Where its volume is mounted.
    pub(super) mounted: PathBuf,
    /// A folder for its server.
    pub(super) server: PathBuf,
    /// Where in the volume the database is, when a person said it.
    pub(super) data_directory: Option<PathBuf>,
    /// Where the engine's programs are, when a person said it.
    pub(super) programs: Option<PathBuf>,
    pub(super) asking: Asking,
    /// Long work ends when this is cancelled.
    pub(super) given_up: CancellationToken,
}

/// As whom a copy is asked, where its engine has such a thing.
#[derive(Debug, Clone)]
pub(super) struct Asking {
    /// A superuser of the copy.
    pub(super) role: String,
    /// The database within the cluster; `None`: the one that is always there, or none.
    pub(super) database: Option<String>,
}

/// Whether copies of this engine's databases can be looked at and tested.
pub(super) fn is_known(engine: &str) -> bool {
    matches!(engine, "postgresql" | mariadb::ENGINE | sqlite::ENGINE)
}

/// A copy of an archive's database, which is nothing yet.
pub(super) fn open(archive: &Arc<DatabaseArchive>, place: Place) -> Result<Box<dyn DatabaseCopy>, Failed> {
    match archive.engine() {
        "postgresql" => Ok(Box::new(PostgresCopy::new(Arc::clone(archive), place))),
        sqlite::ENGINE => Ok(Box::new(SqliteCopy::new(Arc::clone(archive), place))),
        mariadb::ENGINE => Ok(Box::new(mariadb::AskedCopy::new(Arc::clone(archive), place))),
        engine => Err(ProvingError::Engine { engine: engine.to_owned() }.into()),
    }
}
