//! A copy of a database for a while: it is looked at, moved forward, put back, and then it is gone.
//!
//! ```text
//! open    the base in a temporary volume, the log replayed up to the stop; the server waits there, read-only, without a network
//! go_to   the same copy, a later stop: nothing is fetched but log that is not there yet
//! stand   what the copy is now is kept as a snapshot of its volume, from which again() begins: that is how it goes back
//! close   server, mount, volume, snapshots and folder go
//! ```
//! Whoever is killed between leaves what the next command puts away (see `workspace`).

use strongroom_console::Failed;
use strongroom_database::{LineageId, Plan, Position};
use strongroom_model::VolumeName;
use strongroom_proto::control::BeginRestoreRequest;
use tokio_util::sync::CancellationToken;

use super::RecoveryError;
use super::answer::{Answer, AskError};
use super::beside::Beside;
use super::copy::{Asking, DatabaseCopy};
use super::mark::{Mark, Purpose};
use super::workspace::{Workspace, sweep};
use crate::driver::{Driver, Labels, fs_of_word, fs_word};

mod error;

pub(super) use error::LookError;

/// The label of the snapshots of a temporary volume.
const FLOOR: &str = "strongroom-db-floor";

/// The copy.
pub(super) struct Look {
    beside: Beside,
    driver: Driver,
    workspace: Workspace,
    given_up: CancellationToken,
    copy: Box<dyn DatabaseCopy>,
    /// Where its files are.
    data: std::path::PathBuf,
    mounted: bool,
    /// It stands at its plan's stop, and answers.
    answers: bool,
    floor: Option<String>,
    /// What it was brought to.
    plan: Plan,
}

impl Look {
    /// A copy that is nowhere yet. [`Self::close`] it, whatever happens.
    pub(super) async fn new(
        beside: Beside,
        plan: Plan,
        asking: Asking,
        temporary: bool,
        given_up: CancellationToken,
    ) -> Result<Self, Failed> {
        let driver = Driver::connect(beside.endpoint.as_deref()).await?;
        sweep(&beside.work_dir, &driver).await;
        let workspace = Workspace::make(&beside.work_dir, &beside.target, temporary, &beside.world)?;
        let data = workspace.volume();
        let copy = beside.copy(data.clone(), workspace.server(), asking, given_up.clone())?;
        Ok(Self {
            beside,
            driver,
            workspace,
            given_up,
            copy,
            data,
            mounted: false,
            answers: false,
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
        self.copy.fits(&self.plan)?;
        tokio::select! {
            brought = self.beside.clone_or_bring_base(&self.driver, &self.plan) => brought?,
            () = self.given_up.cancelled() => return Err(RecoveryError::Ending.into()),
        }
        self.take_up().await?;
        self.run().await
    }

    /// Mounts the volume, and begins with what is in it.
    async fn take_up(&mut self) -> Result<(), Failed> {
        let mounted = self.workspace.volume();
        self.driver.mount(&self.beside.target, &mounted).await?;
        self.mounted = true;
        self.data = self.copy.take_up(&self.plan).await?;
        Ok(())
    }

    async fn run(&mut self) -> Result<(), Failed> {
        self.answers = false;
        self.copy.go_to(&self.plan).await?;
        self.answers = true;
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
        self.copy.fits(&plan)?;
        self.plan = plan;
        self.run().await
    }

    /// Keeps what it is now, so that [`Self::again`] can begin with it.
    pub(super) async fn stand(&mut self) -> Result<(), Failed> {
        self.answers = false;
        self.copy.rest().await?;
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
        self.answers = false;
        self.copy.end().await?;
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

    /// Whether it stands somewhere: a step that failed on the way leaves none.
    pub(super) const fn answers(&self) -> bool {
        self.answers
    }

    /// The copy as its engine has it.
    pub(super) fn copy(&mut self) -> &mut dyn DatabaseCopy {
        &mut *self.copy
    }

    /// What it answers.
    pub(super) async fn ask(&mut self, sql: &str) -> Result<Answer, AskError> {
        self.copy.ask(sql).await
    }

    /// Makes it a database of its own, marked as a clone; then it stays.
    pub(super) async fn keep(&mut self) -> Result<String, Failed> {
        let (archive, plan) = (&self.beside.archive, &self.plan);
        let mark = Mark::new(Purpose::Clone, archive.database(), &self.beside.volume, plan.lineage, plan.cut);
        self.copy.keep(mark).await?;
        let within = self.data.strip_prefix(self.workspace.volume()).unwrap_or(&self.data);
        let within = format!("/{}", within.display());
        self.workspace.stays()?;
        Ok(within)
    }

    /// Ends all of it. What is kept stays as a volume, the rest goes.
    pub(super) async fn close(mut self) -> Result<(), Failed> {
        let ended = self.copy.end().await;
        self.put_down().await?;
        if self.workspace.is_temporary() {
            self.driver.remove_with_snapshots(&self.beside.target).await?;
        }
        ended
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
