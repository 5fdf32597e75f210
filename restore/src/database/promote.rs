//! A restored copy takes the live database's place: the two volumes exchange their content, and what was there is kept.
//!
//! It is a restore in place whose staged volume is the copy: the same exchange by the driver, in one step, with a safety snapshot that
//! `strongroom restore undo` brings back. The run is named after the copy, so a command that is given again after an
//! interruption asks for the same exchange again, or says that it was done.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use strongroom_console::{Failed, Text};
use strongroom_database::{LineageId, Position};
use strongroom_model::{RunId, VolumeName, World};
use strongroom_proto::control::{MountKind, Volume, VolumeState};
use strongroom_repository::Fold;
use strongroom_repository::fold::LogState;

use super::mark::{Mark, Purpose};
use super::sqlite::file_in;
use super::workspace::{Workspace, sweep};
use super::{Engine, RecoveryError, beside, mariadb};
use crate::driver::{Driver, IDENTITY, Labels, RUN, safety_label};
use crate::plan::aligned;
use crate::refusal::Refusal;
use crate::report::Swapped;
use crate::restore::exchange;
use crate::target::volume::run_of;

mod error;

pub(super) use error::PromoteError;

/// The label of a safety snapshot that carries the name of the copy whose content took the place of what is in it.
const PROMOTED: &str = "strongroom.database.promoted";

/// So often it is asked whether the agent let go of a volume that was unmounted: it looks once a second.
const AGENT_LETS_GO: u32 = 50;
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a promotion will do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct PromotePlan {
    /// The name of this run: it can be undone.
    pub(super) run: RunId,
    /// The live volume.
    pub(super) volume: VolumeName,
    /// The driver's id of it.
    pub(super) volume_id: String,
    /// The volume with the restored copy; it is gone afterwards.
    pub(super) copy: VolumeName,
    copy_id: String,
    /// The database.
    pub(super) database: String,
    /// The history that the copy left.
    pub(super) left_lineage: u32,
    /// Where it left it.
    pub(super) left_at: Position,
    /// The history that it writes.
    pub(super) lineage: LineageId,
    /// The label of the snapshot that keeps the present content.
    pub(super) safety_label: String,
    /// The command that takes it back.
    pub(super) undo: String,
    /// Unmount and mount again what was mounted by hand.
    pub(super) remount: bool,
    /// What else is good to know.
    pub(super) notes: Vec<String>,
}

/// What a promotion did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Promoted {
    /// The live volume.
    volume: VolumeName,
    /// The copy whose content it has.
    copy: VolumeName,
    /// An earlier run of this command did it.
    earlier: bool,
    /// What is left.
    swapped: Swapped,
}

/// All that is needed to look.
pub(super) struct Promote<'a> {
    pub(super) driver: &'a Driver,
    pub(super) world: &'a World,
    pub(super) fold: &'a Fold,
    pub(super) database: &'a str,
    /// Where it lies in its volume, when it is a single file.
    pub(super) file: Option<&'a str>,
    pub(super) volume: &'a VolumeName,
    pub(super) copy: &'a VolumeName,
    pub(super) remount: bool,
    pub(super) data_directory: Option<&'a Path>,
    pub(super) programs: Option<&'a Path>,
    pub(super) work_dir: &'a Path,
}

impl Promote<'_> {
    /// What an earlier run of this command did, when the copy is gone for it.
    pub(super) async fn done_before(&self) -> Result<Option<Promoted>, Failed> {
        if self.driver.volume_named(self.copy).await?.is_some() {
            return Ok(None);
        }
        let Some(live) = self.driver.volume_named(self.volume).await? else { return Ok(None) };
        let snapshots = self.driver.snapshots(Some(&live.id)).await?;
        let of_copy = |snapshot: &&strongroom_proto::control::Snapshot| {
            snapshot.labels.get(PROMOTED).map(String::as_str) == Some(self.copy.as_str())
        };
        let Some(safety) = snapshots.iter().rev().find(of_copy) else {
            return Err(PromoteError::NoCopy { name: self.copy.clone() }.into());
        };
        let run = safety.labels.get(RUN).cloned().unwrap_or_default();
        let swapped = Swapped {
            safety_snapshot: safety.id.clone(),
            safety_label: safety.label.clone(),
            remounted: Vec::new(),
            not_remounted: Vec::new(),
            undo: format!("strongroom restore undo {run}"),
        };
        let (volume, copy) = (self.volume.clone(), self.copy.clone());
        Ok(Some(Promoted { volume, copy, earlier: true, swapped }))
    }

    /// Looks at both volumes, and into the copy. Changes nothing.
    pub(super) async fn plan(&self) -> Result<PromotePlan, Failed> {
        let live = self.ready(self.volume).await?;
        let copy = self.ready(self.copy).await?;
        if let Some(mount) = copy.mounts.first() {
            let (name, path) = (self.copy.clone(), mount.path.clone());
            return Err(PromoteError::InUse { name, path, by_hand: true }.into());
        }
        let by_hand = |mount: &&strongroom_proto::control::Mount| mount.kind() == MountKind::ByHand;
        // An agent that follows a file lets go of the volume when it is unmounted, and only then.
        let may_stay = self.remount && self.file.is_none();
        if let Some(mount) = live.mounts.iter().find(|mount| !may_stay || !by_hand(mount)) {
            let (name, path) = (self.volume.clone(), mount.path.clone());
            return Err(PromoteError::InUse { name, path, by_hand: by_hand(&mount) }.into());
        }
        let owner = copy.labels.get(IDENTITY);
        if owner.is_some_and(|owner| *owner != live.id && live.labels.get(IDENTITY) != Some(owner)) {
            return Err(Refusal::Identity {
                owner: format!("volume {} ({})", self.copy, owner.map_or("", String::as_str)),
                target: format!("volume {} ({})", self.volume, live.id),
            }
            .into());
        }
        sweep(self.work_dir, self.driver).await;
        let (mark, lineage) = self.within(|data| self.look(data)).await?;
        if mark.volume != *self.volume || mark.database != self.database {
            let owner = format!("database {} of volume {}", mark.database, mark.volume);
            let target = format!("database {} of volume {}", self.database, self.volume);
            return Err(Refusal::Identity { owner, target }.into());
        }
        if self.file.is_none() {
            self.refuse_taken(lineage)?;
        }
        let run = run_of(&copy.id).ok_or_else(|| Refusal::DriverAnswer { what: copy.id.clone() })?;
        let mut notes: Vec<String> = live
            .mounts
            .iter()
            .map(|mount| {
                format!(
                    "{} is unmounted for the exchange and mounted again: nothing in it may be open",
                    mount.path
                )
            })
            .collect();
        if copy.bytes < live.bytes {
            notes.push("the filesystem is made as large as the volume is now when it is next used".into());
        }
        Ok(PromotePlan {
            run,
            volume: self.volume.clone(),
            volume_id: live.id,
            copy: self.copy.clone(),
            copy_id: copy.id,
            database: self.database.to_owned(),
            left_lineage: mark.lineage,
            left_at: Position::new(mark.cut),
            lineage,
            safety_label: safety_label(run),
            undo: format!("strongroom restore undo {run}"),
            remount: self.remount,
            notes,
        })
    }

    async fn ready(&self, name: &VolumeName) -> Result<Volume, Failed> {
        let volume = self.driver.volume_named(name).await?;
        let volume = volume.ok_or_else(|| Refusal::NoSuchVolume { name: name.clone() })?;
        match volume.state() {
            VolumeState::Ready => Ok(volume),
            VolumeState::Hydrating => Err(PromoteError::Unfinished { name: name.clone() }.into()),
            _ => Err(Refusal::VolumeNotReady { name: name.clone(), state: volume.message }.into()),
        }
    }

    /// Does something in the data folder of the copy, which is mounted for it.
    async fn within<T>(&self, work: impl FnOnce(&Path) -> Result<T, Failed>) -> Result<T, Failed> {
        let workspace = Workspace::make(self.work_dir, self.copy, false, self.world)?;
        let mounted = workspace.volume();
        self.driver.mount(self.copy, &mounted).await?;
        let mark = if self.is_mariadb() { mariadb::MARK } else { beside::POSTGRES_MARK };
        let found = match self.file {
            Some(_) => file_in(&mounted, self.data_directory, self.file).map_err(Failed::from),
            None => beside::folder_with(mark, &mounted, self.data_directory).map_err(Failed::from),
        };
        let done = found.and_then(|data| work(&data));
        let unmounted = self.driver.unmount(self.copy, &mounted).await;
        let done = done?;
        unmounted?;
        Ok(done)
    }

    fn newest_log(&self) -> Option<&LogState> {
        strongroom_archive::newest_log(self.fold, self.database)
    }

    fn is_mariadb(&self) -> bool {
        self.newest_log().is_some_and(|log| log.opened.engine == mariadb::ENGINE)
    }

    /// What the copy is, and which history it writes.
    fn look(&self, data: &Path) -> Result<(Mark, LineageId), Failed> {
        let failed = |cause| RecoveryError::Folder { path: data.to_owned(), cause };
        let name = || self.copy.clone();
        let mark = if self.file.is_some() { Mark::of_file(data) } else { Mark::of(data) };
        let mark = mark.map_err(failed)?.ok_or_else(|| PromoteError::NotACopy { name: name() })?;
        if mark.purpose == Purpose::Clone {
            return Err(PromoteError::Clone { name: name() }.into());
        }
        if self.file.is_some() {
            // Its log tells one content of the file from the other, with a gap between.
            let lineage = LineageId(mark.lineage);
            return Ok((mark, lineage));
        }
        if self.is_mariadb() {
            // Its server goes on with the log that it finds. Another's has what is not in the copy.
            let log = self.newest_log().and_then(|log| log.opened.facts.get("log-name"));
            let log = log.map_or("mysql-bin", String::as_str);
            if !data.join(format!("{log}.index")).exists() {
                return Err(PromoteError::LogElsewhere { name: name() }.into());
            }
            let newest = self.newest_log().map_or(0, |log| log.opened.lineage);
            return Ok((mark, LineageId(newest.saturating_add(1))));
        }
        if data.join("recovery.signal").exists() {
            return Err(PromoteError::Unfinished { name: name() }.into());
        }
        let engine = Engine::of(data, self.programs)?;
        let lineage = engine.timeline(data)?;
        Ok((mark, lineage))
    }

    /// Two copies that were restored from the same history have the same number for two histories. Only one of them can live:
    /// nothing would tell their logs apart.
    fn refuse_taken(&self, lineage: LineageId) -> Result<(), PromoteError> {
        let taken =
            strongroom_archive::logs(self.fold, self.database).any(|log| log.opened.lineage == lineage.0);
        if taken { Err(PromoteError::LineageTaken { name: self.copy.clone(), lineage }) } else { Ok(()) }
    }

    /// Exchanges the content. The copy is let go before, since nobody gets at it afterwards without stopping it.
    pub(super) async fn execute(&self, plan: &PromotePlan) -> Result<Promoted, Failed> {
        let mark = self.let_go().await?;
        let labels =
            Labels::from([(RUN.into(), plan.run.to_string()), (PROMOTED.into(), plan.copy.to_string())]);
        let mut looks = if self.file.is_some() { AGENT_LETS_GO } else { 0 };
        let swapped = loop {
            let (volume, copy) = (&plan.volume_id, &plan.copy_id);
            let swapped = exchange(self.driver, volume, copy, plan.run, labels.clone(), plan.remount).await;
            match &swapped {
                Err(error) if looks > 0 && error.failure().code() == "driver.in-use" => {
                    looks -= 1;
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                _ => break swapped,
            }
        };
        if let Some(mark) = mark.filter(|_| swapped.is_err()) {
            // It stays a copy, and disturbs nobody. Where it is gone already it is the answer that was lost.
            let held = |data: &Path| {
                let failed = |cause| RecoveryError::Folder { path: data.to_owned(), cause };
                Ok(mark.hold(data).map_err(failed)?)
            };
            if let Err(error) = self.within(held).await {
                tracing::debug!(error = error.to_string(), "the copy is not held again");
            }
        }
        let swapped = swapped?;
        Ok(Promoted { volume: plan.volume.clone(), copy: plan.copy.clone(), earlier: false, swapped })
    }

    /// The copy may disturb others from here on. A single file never did.
    async fn let_go(&self) -> Result<Option<Mark>, Failed> {
        if self.file.is_some() {
            return Ok(None);
        }
        let mark = self
            .within(|data| {
                let failed = |cause| RecoveryError::Folder { path: data.to_owned(), cause };
                let mark = Mark::of(data).map_err(failed)?;
                let mark = mark.ok_or_else(|| PromoteError::NotACopy { name: self.copy.clone() })?;
                mark.clone().let_go(data).map_err(failed)?;
                Ok(mark)
            })
            .await?;
        Ok(Some(mark))
    }
}

impl PromotePlan {
    fn history(&self) -> String {
        let (lineage, left, at) = (self.lineage, self.left_lineage, self.left_at);
        if lineage.0 == left {
            return format!(
                "goes on from {at}, with a gap of the moments of the exchange; what was archived behind that stays restorable"
            );
        }
        format!(
            "lineage {lineage}, which left lineage {left} at {at}: what was archived behind that stays restorable with --lineage"
        )
    }

    /// As a person reads it before saying yes.
    pub(super) fn text(&self) -> String {
        let facts = [
            ("run", self.run.to_string()),
            ("promotes", format!("database {} in volume {}", self.database, self.copy)),
            ("into", format!("volume {} ({})", self.volume, self.volume_id)),
            ("history", self.history()),
            ("keeps", format!("the present content as safety snapshot {}", self.safety_label)),
            ("undo", self.undo.clone()),
        ];
        let mut lines = aligned(&facts);
        lines.extend(self.notes.iter().map(|note| format!("note: {note}")));
        lines.join("\n")
    }
}

impl Promoted {
    /// Writes what was done on a page.
    pub(super) fn write(&self, page: &mut Text) {
        let done = if self.earlier { "was promoted before" } else { "promoted" };
        let mut facts = vec![
            (done, self.copy.to_string()),
            ("volume", self.volume.to_string()),
            (
                "before",
                format!("kept as snapshot {} ({})", self.swapped.safety_snapshot, self.swapped.safety_label),
            ),
            ("undo", self.swapped.undo.clone()),
        ];
        facts.extend(self.swapped.remounted.iter().map(|path| ("mounted again", path.clone())));
        facts.extend(self.swapped.not_remounted.iter().map(|path| ("NOT MOUNTED", path.clone())));
        page.facts(facts);
        page.line("Start the database: the agent goes on with its log, in its new history.");
    }
}
