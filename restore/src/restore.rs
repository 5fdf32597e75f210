//! One restore from the request to the report: select, plan, hydrate, verify, swap.
//!
//! [`Restore::plan`] changes nothing anywhere. [`Restore::execute`] takes the very value that was shown.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use strongroom_block_io::{BlockSource, BlockTarget, Caching, FileSource};
use strongroom_console::{Console, Failed, Progress};
use strongroom_model::{Remedy, RunId, World, chain};
use strongroom_repository::map::MapReader;
use strongroom_repository::record::Restored;
use strongroom_repository::store::ObjectStore;
use strongroom_repository::{Point, Repository};

use crate::driver::Driver;
use crate::error::HydrateError;
use crate::hydrate::{Bounds, Hydrated};
use crate::journal::{Journal, Stage};
use crate::plan::{RestorePlan, Target};
use crate::report::Report;
use crate::supply::Supply;
use crate::survey::Local;
use crate::target::{Aimed, Wanted, device, file};
use crate::verify::Verified;

mod driven;
mod filling;
mod planning;

pub(crate) use driven::exchange;

/// A machine that can restore: a repository, and what there is around it.
#[derive(Debug)]
pub struct Restore {
    /// Where points come from.
    pub repository: Repository,
    /// The store that the repository lies in: ranges of packs are read from it directly.
    pub store: Arc<dyn ObjectStore>,
    /// Who is told.
    pub console: Console,
    /// Clock and randomness.
    pub world: World,
    /// Where the journals of devices and volumes are kept; `None`: nowhere, and a restart fetches again.
    pub state_dir: Option<PathBuf>,
    /// The driver's socket.
    pub endpoint: Option<String>,
    /// Told how far it is, instead of the console.
    pub watch: Option<Progress>,
    /// How much at once.
    pub bounds: Bounds,
}

/// A plan and what it was made with.
#[derive(Debug)]
pub struct Prepared {
    /// The plan, as it is shown.
    pub plan: RestorePlan,
    map: MapReader,
    /// The map of what the target is cloned from, where that is another point.
    cloned_map: Option<MapReader>,
    supply: Arc<dyn Supply>,
    point: Point,
    wanted: Wanted,
    aimed: Aimed,
    driver: Option<Driver>,
}

impl Restore {
    /// Does what the plan says.
    ///
    /// # Errors
    /// When something cannot be read or written. The target is then as it was before, or unfinished and not usable by
    /// mistake; the same command goes on.
    pub async fn execute(&self, prepared: &mut Prepared) -> Result<Report, Failed> {
        // What goes again at once is told by who made it go, in words of its own.
        let is_passing = prepared.wanted.labels.is_some();
        let held = !is_passing && self.hold(&prepared.plan).await;
        let done = self.carry_out(prepared).await;
        if held
            && let Err(error) =
                self.repository.release(prepared.plan.point.id, &hold_name(prepared.plan.run)).await
        {
            self.console.warn(format!("the hold on {} stays: {}", prepared.plan.point.id, chain(&error)));
        }
        let report = match done {
            Ok(report) => report,
            Err(failed) => return Err(self.say_more(prepared, failed).await),
        };
        if !is_passing {
            self.note(&prepared.plan, &report).await;
        }
        Ok(report)
    }

    async fn carry_out(&self, prepared: &mut Prepared) -> Result<Report, Failed> {
        match prepared.plan.target.clone() {
            Target::File { path, overwrite } => self.to_file(prepared, &path, overwrite).await,
            Target::Device { path, .. } => self.to_device(prepared, &path).await,
            Target::Volume { name, bytes, fs } => self.to_volume(prepared, &name, bytes, &fs).await,
            Target::InPlace { .. } => self.in_place(prepared).await,
        }
    }

    async fn to_file(&self, prepared: &Prepared, path: &Path, overwrite: bool) -> Result<Report, Failed> {
        let plan = &prepared.plan;
        let header = prepared.wanted.header(plan.run, &plan.target, &plan.base, None);
        if prepared.aimed.earlier.as_ref().is_some_and(|found| found.stage >= Stage::Verified)
            && file::is_complete(path)
        {
            // An earlier run did everything but remove its journal.
            if let Some(journal) = self.open_journal(prepared, header)? {
                journal.remove().map_err(HydrateError::from)?;
            }
            return Ok(Report::new(plan, Hydrated::default(), None));
        }
        let (target, mut journal) = file::open(path, header, prepared.aimed.earlier.is_some())?;
        let copy_from = if overwrite {
            let source = FileSource::open(path, Caching::Cached).map_err(HydrateError::from)?;
            Some(Local { source: Arc::new(source), hasher: self.hasher(), is_target: false })
        } else {
            None
        };
        let target: Arc<dyn BlockTarget> = Arc::new(target);
        let hydrated = self.hydrate(prepared, target, copy_from, Some(&mut journal)).await?;
        let verified = if plan.verify {
            let source: Arc<dyn BlockSource> = Arc::new(file::read_back(path)?);
            Some(self.verify(prepared, source, &hydrated, Some(&mut journal)).await?)
        } else {
            None
        };
        journal.reach(Stage::Verified).map_err(HydrateError::from)?;
        file::finish(path, overwrite, journal)?;
        Ok(Report::new(plan, hydrated, verified))
    }

    async fn to_device(&self, prepared: &Prepared, path: &Path) -> Result<Report, Failed> {
        let plan = &prepared.plan;
        let header = prepared.wanted.header(plan.run, &plan.target, &plan.base, None);
        let target: Arc<dyn BlockTarget> = Arc::new(device::open(path)?);
        let mut journal = self.open_journal(prepared, header)?;
        let hydrated = self.hydrate(prepared, Arc::clone(&target), None, journal.as_mut()).await?;
        let verified = self.verify_device(prepared, path, &hydrated, journal.as_mut()).await?;
        if let Some(journal) = journal {
            journal.remove().map_err(HydrateError::from)?;
        }
        Ok(Report::new(plan, hydrated, verified))
    }

    async fn verify_device(
        &self,
        prepared: &Prepared,
        path: &Path,
        hydrated: &Hydrated,
        journal: Option<&mut Journal>,
    ) -> Result<Option<Verified>, Failed> {
        if !prepared.plan.verify {
            return Ok(None);
        }
        let source = FileSource::open(path, Caching::Direct).map_err(HydrateError::from)?;
        Ok(Some(self.verify(prepared, Arc::new(source), hydrated, journal).await?))
    }

    async fn hold(&self, plan: &RestorePlan) -> bool {
        if !plan.hold {
            return false;
        }
        match self.repository.hold(plan.point.id, &hold_name(plan.run)).await {
            Ok(()) => true,
            Err(error) => {
                self.console.warn(format!(
                    "{} is not held while it is restored: {}",
                    plan.point.id,
                    chain(&error)
                ));
                false
            }
        }
    }

    /// Notes the restore in the repository's journal. Whoever may only read restores all the same.
    async fn note(&self, plan: &RestorePlan, report: &Report) {
        let restored = Restored {
            run: plan.run,
            point: plan.point.id,
            volume: plan.point.volume.clone(),
            target: plan.target.describe(),
            bytes: report.hydrated.written_bytes,
        };
        if let Err(error) = self.repository.note_restored(restored).await {
            self.console
                .warn(format!("the repository's journal does not note this restore: {}", chain(&error)));
        }
    }

    /// Damage may only mean that the point was forgotten meanwhile; and where it is damage, other points may be whole.
    async fn say_more(&self, prepared: &Prepared, failed: Failed) -> Failed {
        if failed.failure().remedy() != Remedy::FixData {
            return failed;
        }
        let Ok(fold) = self.repository.fold().await else { return failed };
        let point = prepared.plan.point.id;
        if !fold.points.contains_key(&point) {
            return HydrateError::Forgotten { point }.into();
        }
        let own = |found: &&Point| found.volume == prepared.point.volume && found.id != point;
        let mut others: Vec<&Point> = fold.points.values().filter(own).collect();
        others.sort_by_key(|found| std::cmp::Reverse((found.info.taken_at, found.number)));
        for other in others.iter().take(4) {
            self.console
                .talk(format!("another point of this volume: {} of {}", other.id, other.info.taken_at));
        }
        failed
    }
}

pub(crate) fn hold_name(run: RunId) -> String {
    format!("restore {run}")
}

#[cfg(test)]
mod delta_tests;
#[cfg(test)]
mod driven_tests;
#[cfg(test)]
mod tests;
