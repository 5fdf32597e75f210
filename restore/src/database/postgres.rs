//! A copy of a PostgreSQL cluster: its own recovery, and a server that waits at the stop, read-only, on a socket in a private folder.

mod checks;

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use async_trait::async_trait;
use strongroom_archive::DatabaseArchive;
use strongroom_console::Failed;
use strongroom_database::postgres::{Segment, segments};
use strongroom_database::{Plan, Position};

use super::answer::{Answer, AskError};
use super::beside::{Laid, data_folder, lay_out};
use super::copy::{Asking, Compared, DatabaseCopy, Place};
use super::look::LookError;
use super::mark::Mark;
use super::proving::or_stop;
use super::recovery::Recovered;
use super::{Engine, Recovery, RecoveryError};
use checks::Cluster;

/// A copy of a cluster.
pub(super) struct PostgresCopy {
    archive: Arc<DatabaseArchive>,
    place: Place,
    laid: Laid,
    engine: Option<Engine>,
    server: Option<Recovered>,
    resting: Option<Recovery>,
}

impl PostgresCopy {
    pub(super) fn new(archive: Arc<DatabaseArchive>, place: Place) -> Self {
        Self { archive, place, laid: Laid::default(), engine: None, server: None, resting: None }
    }

    fn files(&self, plan: &Plan) -> Result<Vec<Segment>, RecoveryError> {
        segments(plan, self.archive.segment_bytes()).map_err(RecoveryError::Segments)
    }

    /// Those who ask it.
    fn cluster(&self) -> Result<Cluster, LookError> {
        let socket = self.server.as_ref().ok_or(LookError::Gone)?.socket().to_owned();
        Ok(Cluster { socket, asking: self.place.asking.clone(), given_up: self.place.given_up.clone() })
    }

    /// A program of this version that talks to it.
    fn client(&self, name: &str) -> Result<Command, LookError> {
        let engine = self.engine.as_ref().ok_or(LookError::Gone)?;
        let socket = self.server.as_ref().ok_or(LookError::Gone)?.socket();
        let asking = &self.place.asking;
        let mut command = Command::new(engine.program(name));
        command.arg("--host").arg(socket).args(["--port", "5432", "--username", &asking.role]);
        command.arg("--dbname").arg(asking.database()).arg("--no-password");
        Ok(command)
    }
}

impl Asking {
    /// The database in which a cluster is asked.
    fn database(&self) -> &str {
        self.database.as_deref().unwrap_or("postgres")
    }
}

#[async_trait]
impl DatabaseCopy for PostgresCopy {
    fn fits(&self, plan: &Plan) -> Result<(), Failed> {
        Ok(self.files(plan).map(drop)?)
    }

    async fn take_up(&mut self, plan: &Plan) -> Result<PathBuf, Failed> {
        let data = data_folder(&self.place.mounted, self.place.data_directory.as_deref())?;
        let engine = Engine::of(&data, self.place.programs.as_deref())?;
        let recovery = Recovery::prepare(&data, &self.place.server, engine.clone(), plan.stop, plan.lineage)?;
        self.engine = Some(engine);
        self.resting = Some(recovery.until(self.place.given_up.clone()));
        Ok(data)
    }

    async fn fetch(&mut self, plan: &Plan) -> Result<(), Failed> {
        let files = self.files(plan)?;
        let to = match (&self.resting, &self.server) {
            (Some(recovery), _) => recovery.archive(),
            (None, Some(server)) => server.recovery().archive(),
            (None, None) => return Err(LookError::Gone.into()),
        };
        lay_out(&self.archive, plan, &files, &to, &mut self.laid, &self.place.given_up).await
    }

    async fn go_to(&mut self, plan: &Plan) -> Result<Option<Position>, Failed> {
        self.rest().await?;
        self.fetch(plan).await?;
        let mut recovery = self.resting.take().ok_or(LookError::Gone)?;
        recovery.go_on_to(plan.stop, plan.lineage);
        let recovered = off_thread(move || recovery.run()).await?;
        let stopped_at = recovered.stopped_at;
        self.server = Some(recovered);
        Ok(stopped_at)
    }

    async fn ask(&mut self, sql: &str) -> Result<Answer, AskError> {
        let cluster = self.cluster().map_err(|_| AskError::Ending)?;
        let mut connection = cluster.connect().await?;
        tokio::select! {
            answer = checks::ask(&mut connection, sql) => answer,
            () = self.place.given_up.cancelled() => Err(AskError::Ending),
        }
    }

    async fn compare(&mut self, plan: &Plan) -> Result<Compared, Failed> {
        let cluster = self.cluster()?;
        or_stop(&self.place.given_up, async { checks::compare(&mut cluster.connect().await?, plan).await })
            .await
    }

    async fn check(&mut self) -> Result<Vec<String>, Failed> {
        let cluster = self.cluster()?;
        let server = self.server.take().ok_or(LookError::Gone)?;
        cluster.check(server).await
    }

    async fn shell(&mut self) -> Result<(&'static str, Command), Failed> {
        let mut command = self.client("psql")?;
        command.args(["--set", "PROMPT1=copy of %/%R%x%# "]);
        Ok(("psql", command))
    }

    async fn dump(&mut self, tables: &[String], out: File) -> Result<(), Failed> {
        let mut command = self.client("pg_dump")?;
        // Of a table that is not logged there is nothing to be had from a log.
        command.arg("--no-unlogged-table-data");
        for table in tables {
            command.arg("--table").arg(table);
        }
        command.stdin(Stdio::null()).stdout(out).stderr(Stdio::piped());
        let failed = |cause| LookError::Program { name: "pg_dump", cause };
        let running = command.spawn().map_err(failed)?;
        let pid = rustix::process::Pid::from_child(&running);
        let mut waiting = tokio::task::spawn_blocking(move || running.wait_with_output());
        let output = tokio::select! {
            output = &mut waiting => output,
            () = self.place.given_up.cancelled() => {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
                waiting.await
            }
        };
        let output = output.map_err(|_| LookError::Gone)?.map_err(failed)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next().unwrap_or("nothing").chars().take(400).collect();
        Err(LookError::Failed { name: "pg_dump", said }.into())
    }

    async fn rest(&mut self) -> Result<(), Failed> {
        if let Some(server) = self.server.take() {
            self.resting = Some(off_thread(move || server.shut_down()).await?);
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<(), Failed> {
        let (server, resting) = (self.server.take(), self.resting.take());
        Ok(off_thread(move || {
            let ended = server.map(Recovered::end).transpose();
            drop(resting);
            ended.map(drop)
        })
        .await?)
    }

    async fn keep(&mut self, mark: Mark) -> Result<(), Failed> {
        let server = self.server.take().ok_or(LookError::Gone)?;
        let data = server.recovery().data().to_owned();
        mark.hold(&data).map_err(|cause| RecoveryError::Folder { path: data, cause })?;
        Ok(off_thread(move || server.promote()).await?)
    }
}

/// Runs what waits for programs where it holds nobody up.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RecoveryError> + Send + 'static,
) -> Result<T, RecoveryError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| RecoveryError::Ending)?
}
