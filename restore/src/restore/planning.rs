//! The plan of a restore: nothing here changes anything, anywhere.

use std::ops::Range;
use std::sync::Arc;

use strongroom_console::Failed;
use strongroom_model::{ByteRange, RecoveryPointId, RunId};
use strongroom_repository::chunk::ChunkHasher;
use strongroom_repository::map::MapReader;
use strongroom_repository::{Fold, Point};
use strongroom_settings::{Candidate, Choice, next_after, select};

use super::{Prepared, Restore};
use crate::aim::Limits;
use crate::chunk_set::ChunkSet;
use crate::driver::Driver;
use crate::error::HydrateError;
use crate::plan::{Base, PointSummary, RestorePlan, Target, Totals, estimated_seconds};
use crate::refusal::Refusal;
use crate::request::{Request, TargetRequest};
use crate::supply::{RepositorySupply, Supply};
use crate::survey::{Local, Survey};
use crate::target::{Aimed, Wanted, device, file, in_place, volume};
use crate::work::{Scope, Work};

/// What takes longer than this keeps its point from being forgotten meanwhile.
const HOLD_AFTER_SECONDS: u64 = 60;
/// The maps of two points are compared in steps of this many chunks.
const STEP: u64 = 1 << 20;

impl Restore {
    /// Makes the plan.
    ///
    /// # Errors
    /// When no point fits, the target is refused, or what the plan needs cannot be read.
    pub async fn plan(&self, request: &Request) -> Result<Prepared, Failed> {
        let fold = self.repository.fold().await?;
        let candidates: Vec<Candidate> = fold.points.values().map(Candidate::from).collect();
        let chosen = select(&candidates, request.volume.as_ref(), &request.choice)?;
        let next = next_after(&candidates, chosen).map(|point| (point.id, point.taken_at));
        let point = fold.points[&chosen.id].clone();
        let map = self.repository.map(&point).await.map_err(|cause| HydrateError::Map {
            point: point.id,
            range: ByteRange::at(0, point.info.volume_bytes.max(1)).expect("it holds a byte"),
            cause: Box::new(cause),
        })?;
        let wanted = self.wanted(request, &point, &map);
        let driver = match request.target {
            TargetRequest::Volume { .. } | TargetRequest::InPlace { .. } => {
                Some(Driver::connect(self.endpoint.as_deref()).await?)
            }
            TargetRequest::File { .. } | TargetRequest::Device { .. } => None,
        };
        let mut cloned_map = None;
        let mut aimed = self.aim(request, &wanted, &point, &fold, driver.as_ref()).await?;
        if let Base::OtherSnapshot { point: other, .. } = &aimed.base
            && aimed.scope == Scope::All
        {
            let (scope, cloned) =
                self.difference(&map, &fold.points[other], aimed.target_bytes, &wanted).await?;
            aimed.scope = scope;
            cloned_map = Some(cloned);
        }
        let supply: Arc<dyn Supply> =
            Arc::new(RepositorySupply::new(self.repository.clone(), Arc::clone(&self.store), point.id));
        let local = aimed.local.take();
        let mut plan = self.lay_out(request, &wanted, &aimed);
        plan.next_point = next;
        let local = local.map(|(source, is_target)| Local { source, hasher: self.hasher(), is_target });
        self.survey_into(&mut plan, &map, &*supply, local, aimed.earlier.as_ref().map(|found| &found.done))
            .await?;
        if let Target::File { path, .. } = &plan.target {
            plan.notes.extend(file::note_of_room(path, plan.totals.write_bytes + plan.totals.copy_bytes));
        }
        Ok(Prepared { plan, map, cloned_map, supply, point, wanted, aimed, driver })
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
            only: match &request.target {
                TargetRequest::Volume { only, .. } => only.clone(),
                _ => None,
            },
            labels: match &request.target {
                TargetRequest::Volume { labels, .. } => labels.clone(),
                _ => None,
            },
            state_dir: self.state_dir.clone(),
        }
    }

    async fn aim(
        &self,
        request: &Request,
        wanted: &Wanted,
        point: &Point,
        fold: &Fold,
        driver: Option<&Driver>,
    ) -> Result<Aimed, Failed> {
        let driver = || driver.ok_or(Refusal::NoDriver);
        match &request.target {
            TargetRequest::File { path, overwrite } => file::aim(wanted, path, *overwrite),
            TargetRequest::Device { path, compare } => device::aim(wanted, path, *compare),
            TargetRequest::Volume { name, bytes, fs, .. } => {
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

    /// The chunks in which two points differ, and the map of the other. Proportional to the change.
    async fn difference(
        &self,
        map: &MapReader,
        other: &Point,
        target_bytes: u64,
        wanted: &Wanted,
    ) -> Result<(Scope, MapReader), Failed> {
        let failed = |point: RecoveryPointId| {
            move |cause| HydrateError::Map {
                point,
                range: ByteRange::at(0, target_bytes.max(1)).expect("it holds a byte"),
                cause: Box::new(cause),
            }
        };
        let base = self.repository.map(other).await.map_err(failed(other.id))?;
        let chunks = target_bytes.div_ceil(u64::from(wanted.chunk_bytes));
        let mut ranges: Vec<Range<u64>> = Vec::new();
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
        Ok((Scope::Ranges(ranges), base))
    }

    /// The plan without its windows.
    fn lay_out(&self, request: &Request, wanted: &Wanted, aimed: &Aimed) -> RestorePlan {
        let to_file = matches!(aimed.target, Target::File { .. });
        RestorePlan {
            run: aimed.run,
            repository: wanted.repository,
            location: self.repository.location(),
            point: wanted.point.clone(),
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
            totals: Totals::default(),
            estimated_seconds: 0,
            undo: aimed.undo.then(|| format!("strongroom restore undo {}", aimed.run)),
            notes: aimed.notes.clone(),
            lost: Vec::new(),
            windows: Vec::new(),
            work: Arc::new(Work {
                chunk_bytes: u64::from(wanted.chunk_bytes),
                point_bytes: wanted.point.volume_bytes,
                target_bytes: aimed.target_bytes,
                blank: aimed.blank,
                scope: aimed.scope.clone(),
                right: ChunkSet::new(),
                copy: ChunkSet::new(),
            }),
        }
    }

    /// Fills in the windows: what is in scope, minus what an earlier run has done, minus what is found to be there.
    pub(super) async fn survey_into(
        &self,
        plan: &mut RestorePlan,
        map: &MapReader,
        supply: &dyn Supply,
        local: Option<Local>,
        done: Option<&ChunkSet>,
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

    pub(super) fn survey<'a>(
        &self,
        plan: &RestorePlan,
        map: &'a MapReader,
        supply: &'a dyn Supply,
    ) -> Survey<'a> {
        Survey {
            point: plan.point.id,
            map,
            supply,
            limits: Limits::DEFAULT,
            keep_going: plan.keep_going,
            local: None,
            cloned: None,
        }
    }

    pub(super) fn hasher(&self) -> ChunkHasher {
        self.repository.chunk_hasher()
    }
}
