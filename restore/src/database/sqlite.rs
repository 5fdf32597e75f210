//! A copy of a SQLite database: the log is written over the base, page by page, and then the file lies still. Nothing runs.
//!
//! It is asked in this very process, as a file that nobody writes; only a shell needs a program. A copy goes on where it is: log
//! that is in is not fetched again.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use strongroom_archive::DatabaseArchive;
use strongroom_console::Failed;
use strongroom_database::{Plan, Position, TransactionId};
use strongroom_sqlite::{Rebuild, Rebuilt, SqliteError, Still, is_missing, uri};
use tokio::task::spawn_blocking;

use super::RecoveryError;
use super::answer::{Answer, AskError, told};
use super::copy::{Compared, DatabaseCopy, Place};
use super::look::LookError;
use super::mark::Mark;
use super::proving::ProvingError;

/// The engine, as logs name it.
pub(super) const ENGINE: &str = "sqlite";

/// A copy of a database.
pub(super) struct SqliteCopy {
    archive: Arc<DatabaseArchive>,
    place: Place,
    file: PathBuf,
    /// What is in it; `None` before it was brought anywhere.
    reached: Option<Reached>,
    /// The same of what is kept as a snapshot.
    rested: Option<Reached>,
}

/// What is in a copy.
#[derive(Debug, Clone, Copy)]
struct Reached {
    /// All of the log before it, from the base's beginning on.
    to: Position,
    last: Option<Last>,
}

/// The last commit that was put in.
#[derive(Debug, Clone, Copy)]
struct Last {
    commit: u64,
    received_at: Timestamp,
    pages: u32,
    /// How many different pages were written, and read back.
    written: usize,
}

impl SqliteCopy {
    pub(super) fn new(archive: Arc<DatabaseArchive>, place: Place) -> Self {
        let file = place.mounted.clone();
        Self { archive, place, file, reached: None, rested: None }
    }

    /// Opens it and does something, where it holds nobody up; ended when the work is given up.
    async fn with_still<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Still) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T, Failed> {
        let still = Still::open(&self.file)?;
        let interrupt = still.interrupt();
        let mut working = spawn_blocking(move || work(&still));
        let done = tokio::select! {
            done = &mut working => done,
            () = self.place.given_up.cancelled() => {
                interrupt.interrupt();
                let _ = working.await;
                return Err(RecoveryError::Ending.into());
            }
        };
        done.map_err(|_| RecoveryError::Ending)?
    }
}

#[async_trait]
impl DatabaseCopy for SqliteCopy {
    fn fits(&self, _: &Plan) -> Result<(), Failed> {
        Ok(())
    }

    async fn take_up(&mut self, _: &Plan) -> Result<PathBuf, Failed> {
        let path = self.archive.fact("path");
        self.file = file_in(&self.place.mounted, self.place.data_directory.as_deref(), path)?;
        // A copy that is not done is none.
        Mark::remove_beside(&self.file)
            .map_err(|cause| RecoveryError::Folder { path: self.file.clone(), cause })?;
        self.reached = self.rested;
        Ok(self.file.clone())
    }

    async fn go_to(&mut self, plan: &Plan) -> Result<Option<Position>, Failed> {
        let (file, start, cut) = (self.file.clone(), plan.base.start, plan.cut);
        let reached = self.reached;
        let preparing = spawn_blocking(move || match reached {
            None => Rebuild::prepare(&file, start, cut),
            Some(reached) => Rebuild::go_on(&file, reached.to, cut),
        });
        // Until it is done nobody knows what is in it.
        self.reached = None;
        let mut rebuild = preparing.await.map_err(|_| RecoveryError::Ending)??;
        let mut from = reached.map_or(start, |reached| reached.to);
        for piece in &plan.log {
            if piece.range.to <= from {
                continue;
            }
            if self.place.given_up.is_cancelled() {
                return Err(RecoveryError::Ending.into());
            }
            let log = self.archive.log(&piece.range).await?;
            // Ranges may overlap, and the first begins before the base as a rule.
            let skip = usize::try_from(from.since(piece.range.from)).unwrap_or(usize::MAX);
            let Some(bytes) = log.get(skip..).filter(|_| piece.range.from <= from) else {
                return Err(RecoveryError::ShortLog { from, to: piece.range.to }.into());
            };
            let bytes = bytes.to_vec();
            from = piece.range.to;
            let pushing = spawn_blocking(move || rebuild.push(&bytes).map(|()| rebuild));
            rebuild = pushing.await.map_err(|_| RecoveryError::Ending)??;
        }
        let settled = spawn_blocking(move || rebuild.settle()).await.map_err(|_| RecoveryError::Ending)??;
        let now = Reached::after(reached, start, settled);
        if let Some(expected) = plan.last_kept.filter(|kept| kept.end > plan.base.end)
            && now.to != expected.end
        {
            let what = format!("it ends at {}, the plan's last commit at {}", now.to, expected.end);
            return Err(SqliteError::Differs { path: self.file.clone(), what }.into());
        }
        self.reached = Some(now);
        Ok(now.last.map(|_| now.to))
    }

    async fn ask(&mut self, sql: &str) -> Result<Answer, AskError> {
        let question = |cause: Box<dyn std::error::Error + Send + Sync>, is_missing| AskError::Question {
            sql: told(sql),
            is_missing,
            cause,
        };
        let still = Still::open(&self.file).map_err(|cause| question(Box::new(cause), false))?;
        let (interrupt, asked) = (still.interrupt(), sql.to_owned());
        let mut asking = spawn_blocking(move || still.ask(&asked));
        let answer = tokio::select! {
            answer = &mut asking => answer,
            () = self.place.given_up.cancelled() => {
                interrupt.interrupt();
                let _ = asking.await;
                return Err(AskError::Ending);
            }
        };
        let answer = answer.map_err(|_| AskError::Ending)?;
        answer.map(Answer).map_err(|cause| {
            let is_missing = is_missing(&cause);
            question(Box::new(cause), is_missing)
        })
    }

    async fn compare(&mut self, plan: &Plan) -> Result<Compared, Failed> {
        let reached = self.reached.ok_or(LookError::Gone)?;
        let differs = |what: String| Failed::from(ProvingError::Differs { what });
        let pages = self.with_still(|still| Ok(still.pages()?)).await?;
        let mut said = format!("the base and its log up to {}", reached.to);
        if let Some(last) = reached.last {
            if pages != last.pages {
                return Err(differs(format!(
                    "it has {pages} pages, and {} after its last commit",
                    last.pages
                )));
            }
            said = format!("{said}; {} pages read back as their last commit left them", last.written);
        }
        if let Some(kept) = plan.last_kept.filter(|kept| kept.end > plan.base.end) {
            let found = reached.last.map(|last| (last.commit, last.received_at));
            let is_it = |(commit, at): (u64, Timestamp)| {
                kept.transaction == TransactionId::Number(commit) && kept.at == at
            };
            if !found.is_some_and(is_it) || kept.end != reached.to {
                let (transaction, at) = (kept.transaction, kept.at);
                return Err(differs(format!("its last commit should be {transaction} of {at}: {found:?}")));
            }
            said = format!("{said}; transaction {} of {} is in", kept.transaction, kept.at);
        }
        if let Some(dropped) = plan.first_dropped {
            if dropped.start < reached.to {
                let (start, to) = (dropped.start, reached.to);
                return Err(differs(format!(
                    "the first commit to be left out begins at {start}, before {to}"
                )));
            }
            said = format!("{said}; transaction {} of {} is not", dropped.transaction, dropped.at);
        }
        let last_at = reached.last.map(|last| last.received_at);
        Ok(Compared { replayed_to: reached.to, last_at, said })
    }

    async fn check(&mut self) -> Result<Vec<String>, Failed> {
        let checked = self.with_still(|still| match still.check() {
            Err(SqliteError::Differs { what, .. }) => {
                Err(ProvingError::Corrupt { tool: "PRAGMA integrity_check", words: told(&what) }.into())
            }
            checked => Ok(checked?),
        });
        checked.await?;
        Ok(vec!["PRAGMA integrity_check: tables and indexes are whole".to_owned()])
    }

    async fn shell(&mut self) -> Result<(&'static str, Command), Failed> {
        let program =
            self.place.programs.as_ref().map_or_else(|| "sqlite3".into(), |folder| folder.join("sqlite3"));
        let mut command = Command::new(program);
        command.args(["-readonly", "-cmd", ".prompt 'copy> ' '   ...> '"]).arg(uri(&self.file));
        Ok(("sqlite3", command))
    }

    async fn dump(&mut self, tables: &[String], out: File) -> Result<(), Failed> {
        let tables = tables.to_vec();
        self.with_still(move |still| Ok(still.dump(&tables, &mut BufWriter::new(out))?)).await
    }

    async fn rest(&mut self) -> Result<(), Failed> {
        self.rested = Some(self.reached.ok_or(LookError::Gone)?);
        Ok(())
    }

    async fn end(&mut self) -> Result<(), Failed> {
        self.reached = None;
        Ok(())
    }

    async fn keep(&mut self, mark: Mark) -> Result<(), Failed> {
        let file = &self.file;
        Ok(mark.lay_beside(file).map_err(|cause| RecoveryError::Folder { path: file.clone(), cause })?)
    }
}

impl Reached {
    fn after(before: Option<Self>, start: Position, settled: Rebuilt) -> Self {
        let last = settled.last.map(|last| Last {
            commit: last.commit,
            received_at: last.received_at,
            pages: last.pages,
            written: settled.pages,
        });
        let to = settled.last.map(|last| last.end);
        Self {
            to: to.or(before.map(|before| before.to)).unwrap_or(start),
            last: last.or(before.and_then(|before| before.last)),
        }
    }
}

/// The database in a mounted volume: where a person says, or where the log says that it was.
pub(super) fn file_in(
    mounted: &Path,
    told: Option<&Path>,
    path: Option<&str>,
) -> Result<PathBuf, SqliteError> {
    let path = told.map(Path::to_owned).or_else(|| path.map(PathBuf::from));
    // What a repository says never leads out of the volume.
    let parts = path.iter().flat_map(|path| path.components());
    let within: PathBuf = parts.filter(|part| matches!(part, Component::Normal(_))).collect();
    let file = mounted.join(within);
    if stays_within(mounted, &file) { Ok(file) } else { Err(SqliteError::Missing { path: file }) }
}

/// No link in the base leads anywhere else.
fn stays_within(root: &Path, file: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    real(root).zip(real(file)).is_some_and(|(root, file)| file.starts_with(root))
}
