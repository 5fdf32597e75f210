//! One restore from the request to the report: select, plan, hydrate, verify, swap.
//!
//! [`Restore::plan`] changes nothing anywhere. [`Restore::execute`] takes the very value that was shown.

use std::path::PathBuf;
use std::sync::Arc;

use strongroom_block_io::{BlockSource, BlockTarget, Caching, FileSource};
use strongroom_console::{Console, Failed};
use strongroom_model::{RecoveryPointId, RunId, World, chain};
use strongroom_repository::map::MapReader;
use strongroom_repository::record::Restored;
use strongroom_repository::store::ObjectStore;
use strongroom_repository::{Point, Repository};

use crate::aim::Limits;
use crate::driver::Driver;
use crate::error::HydrateError;
use crate::hydrate::{Bounds, Hydrated, Hydration};
use crate::journal::{Journal, Stage};
use crate::plan::{Base, PointSummary, RestorePlan, Target, estimated_seconds};
use crate::report::Report;
use crate::request::{Request, TargetRequest};
use crate::select::{Candidate, Choice, next_after, select};
use crate::supply::{RepositorySupply, Supply};
use crate::survey::{Local, Survey};
use crate::target::{Aimed, Wanted, device, file, in_place, volume};
use crate::verify::{self, Verified};
use crate::work::{Scope, Work};

mod driven;

pub(crate) use driven::exchange;

/// What takes longer than this keeps its point from being forgotten meanwhile.
const HOLD_AFTER_SECONDS: u64 = 60;
/// The maps of two points are compared in steps of this many chunks.
const STEP: u64 = 1 << 20;

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
    /// How much at once.
    pub bounds: Bounds,
}

/// A plan and what it was made with.
#[derive(Debug)]
pub struct Prepared {
    /// The plan, as it is shown.
    pub plan: RestorePlan,
    map: MapReader,
    supply: Arc<dyn Supply>,
    point: Point,
    wanted: Wanted,
    aimed: Aimed,
    driver: Option<Driver>,
}

impl Restore {
    /// Makes the plan.
    ///
    /// # Errors
    /// When no point fits, the target is refused, or what the plan needs cannot be read.
    pub async fn plan(&self, request: &Request) -> Result<Prepared, Failed> {
        let fold = self.repository.fold().await?;
        let candidates: Vec<Candidate> = fold
            .points
            .values()
            .map(|point| Candidate {
                id: point.id,
                volume: point.volume.clone(),
                taken_at: point.info.taken_at,
                number: point.number,
            })
            .collect();
        let chosen = select(&candidates, request.volume.as_ref(), &request.choice)?;
        let next = next_after(&candidates, chosen).map(|point| (point.id, point.taken_at));
        let point = fold.points[&chosen.id].clone();
        let map = self.repository.map(&point).await.map_err(|cause| HydrateError::Map {
            point: point.id,
            range: strongroom_model::ByteRange::at(0, point.info.volume_bytes.max(1))
                .expect("it holds a byte"),
            cause: Box::new(cause),
        })?;
        let wanted = self.wanted(request, &point, &map);
        let driver = match request.target {
            TargetRequest::Volume { .. } | TargetRequest::InPlace { .. } => {
                Some(Driver::connect(self.endpoint.as_deref()).await?)
            }
            TargetRequest::File { .. } | TargetRequest::Device { .. } => None,
        };
        let mut aimed = self.aim(request, &wanted, &point, &fold, driver.as_ref()).await?;
        if let Base::OtherSnapshot { point: other, .. } = &aimed.base
            && aimed.scope == Scope::All
        {
            aimed.scope = self.difference(&map, &fold.points[other], aimed.target_bytes, &wanted).await?;
        }
        let supply: Arc<dyn Supply> =
            Arc::new(RepositorySupply::new(self.repository.clone(), Arc::clone(&self.store), point.id));
        let local = aimed.local.take();
        let mut plan = self.lay_out(request, &point, &aimed);
        plan.next_point = next;
        let local = local.map(|(source, is_target)| Local { source, hasher: self.hasher(), is_target });
        self.survey_into(&mut plan, &map, &*supply, local, aimed.earlier.as_ref().map(|found| &found.done))
            .await?;
        if let Target::File { path, .. } = &plan.target {
            plan.notes.extend(file::note_of_room(path, plan.totals.write_bytes + plan.totals.copy_bytes));
        }
        Ok(Prepared { plan, map, supply, point, wanted, aimed, driver })
    }

    fn wanted(&self, request: &Request, point: &Point, map: &MapReader) -> Wanted {
        Wanted {
            repository: self.repository.id(),
            point: PointSummary {
                id: point.id,
                volume: point.volume.clone(),
                taken_at: point.info.taken_at,
                volume_bytes: map.head().volume_bytes,
                fs: point.info.fs.clone(),
                number: point.number,
            },
            chunk_bytes: map.head().chunk_bytes,
            start_over: request.start_over,
            run: RunId::random(&*self.world.entropy),
            state_dir: self.state_dir.clone(),
        }
    }

    async fn aim(
        &self,
        request: &Request,
        wanted: &Wanted,
        point: &Point,
        fold: &strongroom_repository::Fold,
        driver: Option<&Driver>,
    ) -> Result<Aimed, Failed> {
        let driver = || driver.ok_or(crate::refusal::Refusal::NoDriver);
        match &request.target {
            TargetRequest::File { path, overwrite } => file::aim(wanted, path, *overwrite),
            TargetRequest::Device { path, compare } => device::aim(wanted, path, *compare),
            TargetRequest::Volume { name, bytes, fs } => {
                volume::aim(wanted, driver()?, name, *bytes, fs.as_deref()).await
            }
            TargetRequest::InPlace { into, force_identity, remount } => {
                let asked = in_place::InPlace {
                    volume: into.as_ref().unwrap_or(&point.volume),
                    source: &point.info.source,
                    force_identity: *force_identity,
                    remount: *remount,
                    points: fold.points.values().filter(|found| found.volume == point.volume).collect(),
                };
                in_place::aim(wanted, driver()?, &asked).await
            }
        }
    }

    /// The chunks in which two points differ. Proportional to the change.
    async fn difference(
        &self,
        map: &MapReader,
        other: &Point,
        target_bytes: u64,
        wanted: &Wanted,
    ) -> Result<Scope, Failed> {
        let failed = |point: RecoveryPointId| {
            move |cause| HydrateError::Map {
                point,
                range: strongroom_model::ByteRange::at(0, target_bytes.max(1)).expect("it holds a byte"),
                cause: Box::new(cause),
            }
        };
        let base = self.repository.map(other).await.map_err(failed(other.id))?;
        let chunks = target_bytes.div_ceil(u64::from(wanted.chunk_bytes));
        let mut ranges: Vec<std::ops::Range<u64>> = Vec::new();
        let mut at = 0;
        while at < chunks {
            let step = at..(at + STEP).min(chunks);
            at = step.end;
            for range in map.diff_within(&base, step).await.map_err(failed(wanted.point.id))? {
                match ranges.last_mut() {
                    Some(last) if last.end == range.start => last.end = range.end,
                    _ => ranges.push(range),
                }
            }
        }
        Ok(Scope::Ranges(ranges))
    }

    /// The plan without its windows.
    fn lay_out(&self, request: &Request, point: &Point, aimed: &Aimed) -> RestorePlan {
        let chunk_bytes = u64::from(self.repository.chunk_bytes());
        let to_file = matches!(aimed.target, Target::File { .. });
        RestorePlan {
            run: aimed.run,
            repository: self.repository.id(),
            location: self.repository.location(),
            point: PointSummary {
                id: point.id,
                volume: point.volume.clone(),
                taken_at: point.info.taken_at,
                volume_bytes: point.info.volume_bytes,
                fs: point.info.fs.clone(),
                number: point.number,
            },
            asked_at: match request.choice {
                Choice::At(at) => Some(at),
                _ => None,
            },
            next_point: None,
            target: aimed.target.clone(),
            base: aimed.base.clone(),
            verify: request.verify.unwrap_or(to_file),
            keep_going: request.keep_going,
            hold: false,
            totals: Default::default(),
            estimated_seconds: 0,
            undo: aimed.undo.then(|| format!("strongroom restore undo {}", aimed.run)),
            notes: aimed.notes.clone(),
            lost: Vec::new(),
            windows: Vec::new(),
            work: Arc::new(Work {
                chunk_bytes,
                point_bytes: point.info.volume_bytes,
                target_bytes: aimed.target_bytes,
                blank: aimed.blank,
                scope: aimed.scope.clone(),
                right: Default::default(),
                copy: Default::default(),
            }),
        }
    }

    /// Fills in the windows: what is in scope, minus what an earlier run has done, minus what is found to be there.
    async fn survey_into(
        &self,
        plan: &mut RestorePlan,
        map: &MapReader,
        supply: &dyn Supply,
        local: Option<Local>,
        done: Option<&crate::chunk_set::ChunkSet>,
    ) -> Result<(), HydrateError> {
        let mut work = Work { right: done.cloned().unwrap_or_default(), ..Work::clone(&plan.work) };
        let chunks = work.chunks();
        let in_scope: u64 = work.in_scope(0..chunks).iter().map(|range| work.count_bytes(range)).sum();
        let done_bytes: u64 = work
            .in_scope(0..chunks)
            .into_iter()
            .flat_map(|range| work.right.present(range))
            .map(|range| work.count_bytes(&range))
            .sum();
        let compared = if local.is_some() { work.point_bytes } else { 0 };
        let mut survey = self.survey(plan, map, supply);
        survey.local = local;
        let found = survey.make(&mut work).await?;
        plan.totals = found.totals;
        plan.totals.present_bytes += work.target_bytes - in_scope;
        plan.totals.done_bytes = done_bytes;
        plan.estimated_seconds = estimated_seconds(&plan.totals, plan.verify, compared);
        plan.hold = plan.estimated_seconds >= HOLD_AFTER_SECONDS;
        plan.lost = found.lost;
        plan.windows = found.windows;
        plan.work = Arc::new(work);
        Ok(())
    }

    fn survey<'a>(&self, plan: &RestorePlan, map: &'a MapReader, supply: &'a dyn Supply) -> Survey<'a> {
        Survey {
            point: plan.point.id,
            map,
            supply,
            limits: Limits::DEFAULT,
            keep_going: plan.keep_going,
            local: None,
        }
    }

    fn hasher(&self) -> strongroom_repository::chunk::ChunkHasher {
        self.repository.chunk_hasher()
    }

    /// Does what the plan says.
    ///
    /// # Errors
    /// When something cannot be read or written. The target is then as it was before, or unfinished and not usable by
    /// mistake; the same command goes on.
    pub async fn execute(&self, prepared: &mut Prepared) -> Result<Report, Failed> {
        let held = self.hold(&prepared.plan).await;
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
        self.note(&prepared.plan, &report).await;
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

    async fn to_file(
        &self,
        prepared: &Prepared,
        path: &std::path::Path,
        overwrite: bool,
    ) -> Result<Report, Failed> {
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

    async fn to_device(&self, prepared: &Prepared, path: &std::path::Path) -> Result<Report, Failed> {
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
        path: &std::path::Path,
        hydrated: &Hydrated,
        journal: Option<&mut Journal>,
    ) -> Result<Option<Verified>, Failed> {
        if !prepared.plan.verify {
            return Ok(None);
        }
        let source = FileSource::open(path, Caching::Direct).map_err(HydrateError::from)?;
        Ok(Some(self.verify(prepared, Arc::new(source), hydrated, journal).await?))
    }

    async fn hydrate(
        &self,
        prepared: &Prepared,
        target: Arc<dyn BlockTarget>,
        copy_from: Option<Local>,
        journal: Option<&mut Journal>,
    ) -> Result<Hydrated, HydrateError> {
        let Prepared { plan, map, supply, .. } = prepared;
        let todo = plan.totals.write_bytes + plan.totals.copy_bytes;
        let progress = self.console.progress("restoring", Some(todo));
        let survey = self.survey(plan, map, &**supply);
        let hydration = Hydration {
            plan,
            survey: &survey,
            supply: Arc::clone(supply),
            target,
            copy_from,
            bounds: self.bounds,
            progress: &|bytes| progress.advance(bytes),
            journal,
        };
        let hydrated = hydration.run().await;
        progress.finish();
        hydrated
    }

    /// Reads everything back. What is found wrong is taken back from the journal, so that the next run writes it again.
    async fn verify(
        &self,
        prepared: &Prepared,
        source: Arc<dyn BlockSource>,
        hydrated: &Hydrated,
        journal: Option<&mut Journal>,
    ) -> Result<Verified, HydrateError> {
        let Prepared { plan, map, supply, .. } = prepared;
        let work =
            Work { blank: false, scope: Scope::All, right: Default::default(), ..Work::clone(&plan.work) };
        let totals = &plan.totals;
        let data = totals.target_bytes - totals.hole_bytes.min(totals.target_bytes);
        let progress = self.console.progress("verifying", Some(data));
        let local = Local { source, hasher: self.hasher(), is_target: true };
        let survey = self.survey(plan, map, &**supply);
        let advance = |bytes| progress.advance(bytes);
        let verified =
            verify::verify(&survey, &work, &local, &hydrated.lost, self.bounds.workers, &advance).await;
        progress.finish();
        let verified = verified?;
        match verified.wrong.first() {
            None => Ok(verified),
            Some(first) => {
                if let Some(journal) = journal {
                    journal.retract(&verified.wrong)?;
                }
                let range = crate::survey::byte_range(&work, first);
                Err(HydrateError::NotKept { chunks: verified.wrong.len() as u64, range })
            }
        }
    }

    /// Opens the journal that the plan knew of, or makes one. Without a place for it the restore goes on without.
    fn open_journal(
        &self,
        prepared: &Prepared,
        header: crate::journal::Header,
    ) -> Result<Option<Journal>, HydrateError> {
        let Some(path) = &prepared.aimed.journal else { return Ok(None) };
        if prepared.aimed.earlier.is_some()
            && let crate::journal::Found::Journal(journal) = Journal::open(path)?
        {
            return Ok(Some(*journal));
        }
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let made = made.map_err(|cause| crate::journal::JournalError::Io { path: path.clone(), cause });
        match made.and_then(|()| Journal::create(path, header)) {
            Err(error @ crate::journal::JournalError::Io { .. }) => {
                self.console.warn(format!(
                    "no journal is kept, so an interrupted run begins anew: {}",
                    chain(&error)
                ));
                Ok(None)
            }
            journal => Ok(Some(journal?)),
        }
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
        if failed.failure().remedy() != strongroom_model::Remedy::FixData {
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

fn hold_name(run: RunId) -> String {
    format!("restore {run}")
}

#[cfg(test)]
mod driven_tests;
#[cfg(test)]
mod tests;
