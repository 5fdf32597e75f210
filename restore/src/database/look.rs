//! A copy of a database for a while: it is looked at, moved forward, put back, and then it is gone.
//!
//! ```text
//! open    the base in a temporary volume, the log replayed up to the stop; the server waits there, read-only, without a network
//! go_to   the same copy, a later stop: nothing is fetched but log that is not there yet
//! stand   what the copy is now is kept as a snapshot of its volume, from which again() begins: that is how it goes back
//! close   server, mount, volume, snapshots and folder go
//! ```
//! Whoever is killed between leaves what the next command puts away (see `workspace`).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use strongroom_console::Failed;
use strongroom_database::postgres::segments;
use strongroom_database::{LineageId, Plan, Position};
use strongroom_model::VolumeName;
use strongroom_proto::control::BeginRestoreRequest;
use tokio_util::sync::CancellationToken;

use super::beside::{Beside, Laid, data_folder};
use super::mark::{Mark, Purpose};
use super::recovery::Recovered;
use super::workspace::{Workspace, sweep};
use super::{Engine, Recovery, RecoveryError};
use crate::driver::{Driver, Labels, fs_of_word, fs_word};

mod error;

pub(super) use error::LookError;

/// The label of the snapshots of a temporary volume.
const FLOOR: &str = "strongroom-db-floor";

/// Who asks a copy, and where.
#[derive(Debug, Clone)]
pub(super) struct Asking {
    /// A superuser of the copy.
    pub(super) role: String,
    /// The database within the cluster.
    pub(super) database: String,
}

/// The copy.
pub(super) struct Look {
    beside: Beside,
    driver: Driver,
    workspace: Workspace,
    given_up: CancellationToken,
    laid: Laid,
    engine: Option<Engine>,
    data: PathBuf,
    mounted: bool,
    server: Option<Recovered>,
    resting: Option<Recovery>,
    floor: Option<String>,
    /// What it was brought to.
    plan: Plan,
}

impl Look {
    /// A copy that is nowhere yet. [`Self::close`] it, whatever happens.
    pub(super) async fn new(
        beside: Beside,
        plan: Plan,
        temporary: bool,
        given_up: CancellationToken,
    ) -> Result<Self, Failed> {
        let driver = Driver::connect(beside.endpoint.as_deref()).await?;
        sweep(&beside.work_dir, &driver).await;
        let workspace = Workspace::make(&beside.work_dir, &beside.target, temporary, &beside.world)?;
        let (laid, data) = (Laid::default(), workspace.volume());
        Ok(Self {
            beside,
            driver,
            workspace,
            given_up,
            laid,
            engine: None,
            data,
            mounted: false,
            server: None,
            resting: None,
            floor: None,
            plan,
        })
    }

    /// What it was brought to.
    pub(super) const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Brings it to its plan's stop.
    pub(super) async fn open(&mut self) -> Result<(), Failed> {
        // Asked for before anything is fetched.
        segments(&self.plan, self.beside.archive.segment_bytes()).map_err(RecoveryError::Segments)?;
        tokio::select! {
            brought = self.beside.clone_or_bring_base(&self.driver, &self.plan) => brought?,
            () = self.given_up.cancelled() => return Err(RecoveryError::Ending.into()),
        }
        self.take_up().await?;
        self.run().await
    }

    /// Mounts the volume and prepares what is in it for a recovery.
    async fn take_up(&mut self) -> Result<(), Failed> {
        let mounted = self.workspace.volume();
        self.driver.mount(&self.beside.target, &mounted).await?;
        self.mounted = true;
        self.data = data_folder(&mounted, self.beside.data_directory.as_deref())?;
        let engine = Engine::of(&self.data, self.beside.programs.as_deref())?;
        self.workspace.serves(&self.data)?;
        let (stop, lineage) = (self.plan.stop, self.plan.lineage);
        let recovery =
            Recovery::prepare(&self.data, &self.workspace.server(), engine.clone(), stop, lineage)?;
        self.engine = Some(engine);
        self.resting = Some(recovery.until(self.given_up.clone()));
        Ok(())
    }

    async fn run(&mut self) -> Result<(), Failed> {
        let mut recovery = self.resting.take().ok_or(LookError::Gone)?;
        let files =
            segments(&self.plan, self.beside.archive.segment_bytes()).map_err(RecoveryError::Segments)?;
        recovery.go_on_to(self.plan.stop, self.plan.lineage);
        self.beside.lay_out(&self.plan, &files, &recovery.archive(), &mut self.laid).await?;
        let running = tokio::task::spawn_blocking(move || recovery.run());
        self.server = Some(running.await.map_err(|_| RecoveryError::Ending)??);
        Ok(())
    }

    /// Ends the server where it is, with all that it replayed written down.
    async fn rest(&mut self) -> Result<(), Failed> {
        let Some(server) = self.server.take() else { return Ok(()) };
        let ending = tokio::task::spawn_blocking(move || server.shut_down());
        self.resting = Some(ending.await.map_err(|_| RecoveryError::Ending)??);
        Ok(())
    }

    /// Moves it forward, to a plan from the same base.
    pub(super) async fn go_to(&mut self, plan: Plan) -> Result<(), Failed> {
        if plan.cut < self.plan.cut {
            return Err(LookError::Backwards { at: self.plan.cut, wanted: plan.cut }.into());
        }
        // Everything up to here has to be the same in both.
        if lineage_at(&plan, self.plan.cut) != lineage_at(&self.plan, self.plan.cut) {
            let (at, lineage) = (self.plan.cut, plan.lineage);
            return Err(LookError::OtherHistory { at, lineage }.into());
        }
        self.rest().await?;
        self.plan = plan;
        self.run().await
    }

    /// Keeps what it is now, so that [`Self::again`] can begin with it.
    pub(super) async fn stand(&mut self) -> Result<(), Failed> {
        self.rest().await?;
        self.put_down().await?;
        let volume = self.driver.volume_named(&self.beside.target).await?.ok_or(LookError::Gone)?;
        let label = format!("{FLOOR}-{}", super::workspace::short_name(&self.beside.world));
        let snapshot = self.driver.snapshot(&volume.id, &label, Labels::new()).await?;
        if let Some(earlier) = self.floor.replace(snapshot.id) {
            self.driver.delete_snapshot(&earlier).await?;
        }
        Ok(())
    }

    /// Begins again with what was kept: a clone, of which nothing is copied.
    pub(super) async fn again(&mut self, stood_at: &Plan) -> Result<(), Failed> {
        let floor = self.floor.clone().ok_or(LookError::Gone)?;
        if let Some(server) = self.server.take() {
            let ending = tokio::task::spawn_blocking(move || server.end());
            drop(ending.await.map_err(|_| RecoveryError::Ending)??);
        }
        self.resting = None;
        self.put_down().await?;
        if let Some(volume) = self.driver.volume_named(&self.beside.target).await? {
            let (bytes, fs) = (volume.bytes, fs_of_word(fs_word(volume.fs)));
            let labels = volume.labels;
            self.driver.remove(&self.beside.target).await?;
            let begun = self
                .driver
                .begin_restore(BeginRestoreRequest {
                    name: self.beside.target.to_string(),
                    fs: fs.into(),
                    bytes,
                    labels,
                    from_snapshot_id: floor,
                    ..BeginRestoreRequest::default()
                })
                .await?;
            self.driver.finish_restore(&begun.volume_id).await?;
        }
        self.plan = stood_at.clone();
        self.take_up().await
    }

    async fn put_down(&mut self) -> Result<(), Failed> {
        if std::mem::take(&mut self.mounted) {
            self.driver.unmount(&self.beside.target, &self.workspace.volume()).await?;
        }
        Ok(())
    }

    /// The folder of its socket.
    pub(super) fn socket(&self) -> Result<&Path, LookError> {
        Ok(self.server.as_ref().ok_or(LookError::Gone)?.socket())
    }

    /// A program of this version that talks to it.
    pub(super) fn client(&self, name: &str, asking: &Asking) -> Result<Command, LookError> {
        let engine = self.engine.as_ref().ok_or(LookError::Gone)?;
        let mut command = Command::new(engine.program(name));
        command.arg("--host").arg(self.socket()?).args(["--port", "5432", "--username", &asking.role]);
        command.arg("--dbname").arg(&asking.database);
        Ok(command)
    }

    /// What it answers: rows, columns with `|` between.
    pub(super) async fn ask(&self, asking: &Asking, sql: &str) -> Result<String, LookError> {
        let mut command = self.client("psql", asking)?;
        command.args(["--no-psqlrc", "--no-align", "--tuples-only", "--quiet", "--no-password"]);
        command.args(["--set", "ON_ERROR_STOP=1", "--set", "VERBOSITY=verbose", "--command", sql]);
        command.env("LC_ALL", "C").stdin(Stdio::null());
        let run = |cause| LookError::Program { name: "psql", cause };
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(run)?;
        let pid = rustix::process::Pid::from_child(&child);
        let mut asked = tokio::task::spawn_blocking(move || child.wait_with_output());
        let output = tokio::select! {
            output = &mut asked => output,
            () = self.given_up.cancelled() => {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
                asked.await
            }
        };
        let output = output.map_err(|_| LookError::Gone)?;
        let output = output.map_err(|cause| LookError::Program { name: "psql", cause })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(LookError::Question { said: said.lines().next().unwrap_or_default().chars().take(400).collect() })
    }

    /// Makes it a database of its own, marked as a clone; then it stays.
    pub(super) async fn keep(&mut self) -> Result<String, Failed> {
        let failed = |cause| RecoveryError::Folder { path: self.data.clone(), cause };
        let (archive, plan) = (&self.beside.archive, &self.plan);
        Mark::new(Purpose::Clone, archive.database(), &self.beside.volume, plan.lineage, plan.cut)
            .hold(&self.data)
            .map_err(failed)?;
        let server = self.server.take().ok_or(LookError::Gone)?;
        let promoting = tokio::task::spawn_blocking(move || server.promote());
        promoting.await.map_err(|_| RecoveryError::Ending)??;
        let within = self.data.strip_prefix(self.workspace.volume()).unwrap_or(&self.data);
        let within = format!("/{}", within.display());
        self.workspace.stays()?;
        Ok(within)
    }

    /// Ends all of it. What is kept stays as a volume, the rest goes.
    pub(super) async fn close(mut self) -> Result<(), Failed> {
        let (server, resting) = (self.server.take(), self.resting.take());
        let ending = tokio::task::spawn_blocking(move || {
            let ended = server.map(Recovered::end).transpose();
            drop(resting);
            ended.map(drop)
        });
        let ended = ending.await.map_err(|_| RecoveryError::Ending)?;
        self.put_down().await?;
        if self.workspace.is_temporary() {
            self.driver.remove_with_snapshots(&self.beside.target).await?;
        }
        Ok(ended?)
    }

    /// The volume in which the copy is.
    pub(super) const fn own_volume(&self) -> &VolumeName {
        &self.beside.target
    }
}

/// The history to which the byte before a position belongs.
fn lineage_at(plan: &Plan, at: Position) -> Option<LineageId> {
    plan.path.iter().find(|step| step.from < at && at <= step.to).map(|step| step.lineage)
}
