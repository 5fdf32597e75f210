//! Carries the windows of a plan out: many ranges in flight under one byte budget, written wherever they belong as they
//! come.
//!
//! * A chunk is written only after its seal was opened and its id computed again: never a wrong byte.
//! * What is zero at the point becomes a hole, or stays one.
//! * Chunks are noted as done only after the target was synced; a kill at any moment costs at most
//!   [`SYNC_BYTES`] and what is in flight.
//! * A pack that a sweep has moved meanwhile is aimed at anew, at the object the journal names now.
//!
//! * Deltas come first, and wait within the budget for what they are built on; only the chunk that both make is written.
//!
//! Memory: the budget, one chunk for each range in flight, and a window's runs.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use strongroom_block_io::{BlockIoError, BlockTarget};
use strongroom_model::{Failure as _, PackId, Remedy, chain};
use strongroom_repository::pack::{EntryRef, FetchError, Footer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};

use crate::aim::FetchRange;
use crate::compare;
use crate::error::HydrateError;
use crate::journal::{Durable, Journal, Stage};
use crate::plan::{Lost, PackFetch, RestorePlan, Window};
use crate::supply::Supply;
use crate::survey::{Local, Survey, aim, byte_range, delta_bytes, first_range, hole};
use crate::touched::Touched;
use crate::work::{ByPack, Piece, Work, add_bases, part};

mod gather;
mod range;
mod waiting;

use range::{Bad, Cause, Job, Landed};
use waiting::Waiting;

/// After so many written bytes the target is synced and the journal told.
pub const SYNC_BYTES: u64 = 128 << 20;
/// Ranges in flight, at most, however small they are.
const MOST_IN_FLIGHT: usize = 64;
/// Zeros are made in pieces of this size, so that a journal can follow.
const ZERO_BYTES: u64 = 1 << 30;
/// How long ranges in flight may take to land after an error. A store that answers sends 4 MiB well within this; one that
/// does not must not keep the message from the person who waits for it.
const LANDING_TIME: Duration = Duration::from_secs(5);

/// The budget is counted in units of this many bytes.
const UNIT_BYTES: u64 = 4096;

/// What bounds a hydration.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// What fetched data may take in memory at once.
    pub budget_bytes: u64,
    /// Ranges that are opened and written side by side: as many as there are processors.
    pub workers: usize,
    /// After so many written bytes the target is synced: [`SYNC_BYTES`], less in tests.
    pub sync_bytes: u64,
}

impl Bounds {
    /// 80 MiB: ten ranges of 4 MiB, each counted twice. With all else a process has it stays below 160 MiB.
    pub const DEFAULT_BUDGET_BYTES: u64 = 80 << 20;

    /// Ranges are worked on side by side by twice as many as there are processors: half of them wait for the disk.
    #[must_use]
    pub fn usual_workers() -> usize {
        2 * std::thread::available_parallelism().map_or(2, usize::from)
    }
}

/// What a hydration has done.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Hydrated {
    /// Bytes written to the target from fetched data.
    pub written_bytes: u64,
    /// Bytes copied from what existed locally.
    pub copied_bytes: u64,
    /// Bytes made zero.
    pub zeroed_bytes: u64,
    /// Bytes that the store sent for data.
    pub fetched_bytes: u64,
    /// Requests for data.
    pub requests: u64,
    /// What could not be read.
    pub lost: Vec<Lost>,
}

/// Everything a hydration works with.
pub struct Hydration<'a> {
    /// What to do.
    pub plan: &'a RestorePlan,
    /// How the map is read.
    pub survey: &'a Survey<'a>,
    /// The packs.
    pub supply: Arc<dyn Supply>,
    /// Where to write.
    pub target: Arc<dyn BlockTarget>,
    /// Where chunks are copied from that the plan found there.
    pub copy_from: Option<Local>,
    /// How much at once.
    pub bounds: Bounds,
    /// Is told how many bytes were written.
    pub progress: &'a (dyn Fn(u64) + Sync),
    /// What is known to be durable, where something is kept of it.
    pub journal: Option<&'a mut Journal>,
}

impl std::fmt::Debug for Hydration<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hydration({} to {:?})", self.plan.point.id, self.target)
    }
}

impl Hydration<'_> {
    /// Does all that the plan says. The target is synced when it returns `Ok`, and the journal says so.
    ///
    /// # Errors
    /// When something cannot be read (damage only without `keep_going`), the target refuses, or the journal cannot be
    /// written.
    pub async fn run(self) -> Result<Hydrated, HydrateError> {
        let plan = self.plan;
        let mut run = Run {
            budget: Arc::new(Semaphore::new(units(self.bounds.budget_bytes) as usize)),
            held: 0,
            workers: Arc::new(Semaphore::new(self.bounds.workers.max(1))),
            touched: Arc::default(),
            tasks: JoinSet::new(),
            unsynced: Vec::new(),
            unsynced_bytes: 0,
            done: Hydrated { lost: plan.lost.clone(), ..Hydrated::default() },
            room: self,
        };
        let done = run.windows(plan).await;
        if done.is_err() {
            run.keep_what_landed().await;
        }
        done?;
        Ok(run.done)
    }
}

/// A hydration under way.
struct Run<'a> {
    room: Hydration<'a>,
    budget: Arc<Semaphore>,
    /// How much of it the deltas of the window under way hold.
    held: u32,
    workers: Arc<Semaphore>,
    /// What is known of the chunks of the window under way.
    touched: Arc<Touched>,
    tasks: JoinSet<Result<Landed, BlockIoError>>,
    /// Chunks that were written since the last sync.
    unsynced: Vec<Range<u64>>,
    unsynced_bytes: u64,
    done: Hydrated,
}

impl Run<'_> {
    fn work(&self) -> &Arc<Work> {
        &self.room.plan.work
    }

    async fn windows(&mut self, plan: &RestorePlan) -> Result<(), HydrateError> {
        for lost in &plan.lost {
            let chunk_bytes = plan.work.chunk_bytes;
            self.blank(lost.start / chunk_bytes..lost.end.div_ceil(chunk_bytes)).await?;
        }
        for window in &plan.windows {
            // What is unreadable of the map was noted when the plan was made.
            let runs =
                self.room.survey.runs_of_window(&plan.work, window.chunks.clone(), &mut Vec::new()).await?;
            let known = self.room.survey.deltas(&plan.work, window.chunks.clone()).await?;
            let touched = self.room.survey.touched(&plan.work, window.chunks.clone(), &runs, &known).await;
            self.touched = Arc::new(touched);
            let pieces = plan.work.pieces(window.chunks.clone(), &runs);
            drop(runs);
            for zeros in &pieces.zeros {
                self.zero(zeros).await?;
            }
            let (of_deltas, mut others) = part(pieces.packs, &known);
            let waiting = self.deltas(of_deltas, window, known.iter().map(delta_bytes).sum()).await?;
            // What was lost already when the plan was made is not asked for again.
            let is_lost = |chunk: u64| {
                let start = chunk.saturating_mul(plan.work.chunk_bytes);
                plan.lost.iter().any(|lost| lost.start <= start && start < lost.end)
            };
            add_bases(&mut others, waiting.bases().into_iter().filter(|(chunk, _)| !is_lost(*chunk)));
            self.fetch(others, &window.fetch, window, &waiting).await?;
        }
        while let Some(landed) = self.tasks.join_next().await {
            self.land(landed).await?;
        }
        self.sync().await?;
        if self.done.lost.is_empty()
            && let Some(journal) = &mut self.room.journal
        {
            journal.reach(Stage::Hydrated)?;
        }
        Ok(())
    }

    /// Fetches the deltas of a window, and waits for them: what they are built on finds them here.
    async fn deltas(
        &mut self,
        packs: ByPack,
        window: &Window,
        bytes: u64,
    ) -> Result<Arc<Waiting>, HydrateError> {
        self.held = 0;
        if window.deltas.is_empty() {
            return Ok(Arc::default());
        }
        // Never more than half of the budget, so that what they wait for has room beside them.
        self.held = units(bytes).min(self.all_units() / 2);
        let held = self.permit(self.held).await?;
        let waiting = Arc::new(Waiting::holding(held));
        self.fetch(packs, &window.deltas, window, &waiting).await?;
        while let Some(landed) = self.tasks.join_next().await {
            self.land(landed).await?;
        }
        Ok(waiting)
    }

    /// Fetches what is wanted of some packs, as it was planned.
    async fn fetch(
        &mut self,
        mut packs: ByPack,
        planned: &[PackFetch],
        window: &Window,
        waiting: &Arc<Waiting>,
    ) -> Result<(), HydrateError> {
        for fetch in planned {
            let Some(at) = packs.iter().position(|(pack, _)| *pack == fetch.pack) else {
                // What a delta was to be built on is not wanted when the delta was lost, or is none any more.
                if window.deltas.is_empty() {
                    let range = byte_range(self.work(), &window.chunks);
                    return Err(HydrateError::PlanMisfit { point: self.room.plan.point.id, range });
                }
                continue;
            };
            let (pack, pieces) = packs.remove(at);
            self.pack(pack, pieces, Some(fetch), waiting).await?;
        }
        // Chunks found locally when the plan was made ask for nothing; bases come here that nobody could foresee.
        for (pack, pieces) in packs {
            if pieces.iter().any(|piece| piece.is_base) {
                self.pack(pack, pieces, None, waiting).await?;
            }
        }
        Ok(())
    }

    /// After an error: what was asked for before it may still land, and what landed need not be fetched again. Whether that
    /// works changes nothing about the error.
    async fn keep_what_landed(&mut self) {
        let landing = async {
            while let Some(landed) = self.tasks.join_next().await {
                if let Err(error) = self.land(landed).await {
                    tracing::debug!(
                        cause = chain(&error),
                        "a range failed after the one that ended the restore"
                    );
                }
            }
        };
        let in_time = tokio::time::timeout(LANDING_TIME, landing).await.is_ok();
        if !in_time {
            self.tasks.abort_all();
        }
        if let Err(error) = self.sync().await {
            tracing::debug!(cause = chain(&error), "what was written since the last sync is not noted");
        }
    }

    /// Starts all ranges of one pack, waiting for room before each.
    async fn pack(
        &mut self,
        pack: PackId,
        pieces: Vec<Piece>,
        planned: Option<&PackFetch>,
        waiting: &Arc<Waiting>,
    ) -> Result<(), HydrateError> {
        let footer = match self.room.supply.footer(pack).await {
            Ok(footer) => footer,
            Err(cause) => return self.lose_pack(pack, &pieces, cause).await,
        };
        let (copies, mut wanted) = split(&pieces, self.work());
        // Which bases are wanted is known only now: some of their deltas may have been lost, or be whole chunks by now.
        let planned = planned
            .filter(|fetch| footer.place() == fetch.object && !wanted.iter().any(|piece| piece.is_base));
        let mut as_planned = planned.is_some();
        if !copies.is_empty() {
            let gone = self.copy(&footer, copies).await?;
            as_planned &= gone.is_empty();
            wanted.extend(gone);
        }
        let ranges = match planned.filter(|_| as_planned) {
            Some(planned) => planned.ranges.clone(),
            None => match aim(&footer, &wanted, self.room.survey.limits) {
                Ok(ranges) => ranges,
                Err(entry) => {
                    let cause = FetchError::Pack(hole(&footer, entry));
                    return self.lose_pack(pack, &wanted, cause).await;
                }
            },
        };
        let pieces: Arc<[Piece]> = wanted.into();
        for range in ranges {
            let permit = self.room_for(range).await?;
            let job = Job {
                pack,
                footer: Arc::clone(&footer),
                pieces: Arc::clone(&pieces),
                waiting: Arc::clone(waiting),
                touched: Arc::clone(&self.touched),
                range,
                work: Arc::clone(self.work()),
                supply: Arc::clone(&self.room.supply),
                target: Arc::clone(&self.room.target),
                workers: Arc::clone(&self.workers),
                limits: self.room.survey.limits,
            };
            self.tasks.spawn(job.run(permit));
        }
        Ok(())
    }

    /// Waits until the budget has room for a range, taking in what lands meanwhile.
    async fn room_for(&mut self, range: FetchRange) -> Result<OwnedSemaphorePermit, HydrateError> {
        while self.tasks.len() >= MOST_IN_FLIGHT {
            if let Some(landed) = self.tasks.join_next().await {
                self.land(landed).await?;
            }
        }
        // Counted twice: a store's adapter may hold a range twice while it puts it together, and what it frees comes
        // back late from the allocator. A single range may be larger than all of it.
        // Deltas that wait hold a part until the ranges of their window have landed.
        self.permit(units(2 * u64::from(range.bytes)).min(self.all_units() - self.held)).await
    }

    fn all_units(&self) -> u32 {
        units(self.room.bounds.budget_bytes)
    }

    /// Waits for so much of the budget, taking in what lands meanwhile.
    async fn permit(&mut self, wanted: u32) -> Result<OwnedSemaphorePermit, HydrateError> {
        loop {
            let budget = Arc::clone(&self.budget);
            tokio::select! {
                biased;
                Some(landed) = self.tasks.join_next() => self.land(landed).await?,
                permit = budget.acquire_many_owned(wanted) => {
                    return Ok(permit.expect("the budget is never closed"));
                }
            }
        }
    }

    /// Copies what the plan found locally. Answers what is no longer there.
    async fn copy(&mut self, footer: &Arc<Footer>, copies: Vec<Piece>) -> Result<Vec<Piece>, HydrateError> {
        let Some(local) = self.room.copy_from.clone() else { return Ok(copies) };
        let asked = compare::asked(&local, self.work(), footer, &copies);
        let is_asked = |chunk: &u64| asked.binary_search_by_key(chunk, |asked| asked.chunk).is_ok();
        let mut gone: Vec<Piece> = copies
            .iter()
            .flat_map(|piece| piece.chunks().zip(piece.entry..))
            .filter(|(chunk, _)| !is_asked(chunk))
            .map(|(chunk, entry)| Piece { chunk, count: 1, entry, is_base: false })
            .collect();
        let mut chunks = Vec::new();
        let mut tasks = JoinSet::new();
        for some in asked.chunks(asked.len().div_ceil(self.room.bounds.workers.max(1)).max(1)) {
            let (local, work, target) =
                (local.clone(), Arc::clone(self.work()), Arc::clone(&self.room.target));
            let some = some.to_vec();
            tasks.spawn_blocking(move || range::copy(&local, &*target, &some, &work));
        }
        // All are waited for, also after an error: nothing may be written once this has answered.
        for copied in tasks.join_all().await {
            let (written, missing) = copied?;
            chunks.extend(written);
            gone.extend(missing);
        }
        let chunks: Vec<Range<u64>> = chunks.into_iter().map(|chunk| chunk..chunk + 1).collect();
        let bytes = chunks.iter().map(|chunks| self.work().count_bytes(chunks)).sum();
        self.done.copied_bytes += bytes;
        self.wrote(chunks, bytes).await?;
        Ok(gone)
    }

    async fn zero(&mut self, zeros: &Range<u64>) -> Result<(), HydrateError> {
        let step = (ZERO_BYTES / self.work().chunk_bytes).max(1);
        let mut at = zeros.start;
        while at < zeros.end {
            let chunks = at..(at + step).min(zeros.end);
            at = chunks.end;
            self.make_zero(chunks.clone()).await?;
            // Zeros cost no fetching: they do not count towards the next sync.
            self.wrote(vec![chunks], 0).await?;
        }
        Ok(())
    }

    /// Leaves nothing of the old content where the new one is lost: a stale chunk would be a wrong one.
    async fn blank(&mut self, chunks: Range<u64>) -> Result<(), HydrateError> {
        if self.work().blank { Ok(()) } else { self.make_zero(chunks).await }
    }

    async fn make_zero(&mut self, chunks: Range<u64>) -> Result<(), HydrateError> {
        if let Some(bytes) = self.work().bytes_of(&chunks) {
            let target = Arc::clone(&self.room.target);
            tokio::task::spawn_blocking(move || target.zero(bytes)).await.expect("zeroing does not panic")?;
            self.done.zeroed_bytes += bytes.len();
        }
        Ok(())
    }

    async fn land(
        &mut self,
        landed: Result<Result<Landed, BlockIoError>, JoinError>,
    ) -> Result<(), HydrateError> {
        let landed = landed.expect("a range does not panic and is not cancelled")?;
        self.done.fetched_bytes += landed.fetched_bytes;
        self.done.requests += landed.requests;
        for bad in landed.bad {
            self.bad(landed.pack, bad).await?;
        }
        let bytes = landed.chunks.iter().map(|chunks| self.work().count_bytes(chunks)).sum();
        self.done.written_bytes += landed.written_bytes;
        self.wrote(landed.chunks, bytes).await
    }

    async fn bad(&mut self, pack: PackId, bad: Bad) -> Result<(), HydrateError> {
        let Some(&first) = bad.chunks.first() else { return Ok(()) };
        let range = byte_range(self.work(), &(first..first + 1));
        let (entry, error) = match bad.cause {
            Cause::Fetch(cause) => (None, HydrateError::Pack { pack, range, cause: Box::new(cause) }),
            Cause::Entry(at, cause) => {
                // A chunk that does not come out of a delta and its base is the delta's fault.
                let EntryRef { pack, entry } = at;
                (Some(entry), HydrateError::Entry { pack, entry, range, cause: Box::new(cause) })
            }
            Cause::Length(entry, actual) => {
                let expected = self.work().content_bytes(first);
                (Some(entry), HydrateError::Misfit { pack, entry, range, actual, expected })
            }
        };
        if !self.room.plan.keep_going || !error.is_damage() {
            return Err(error);
        }
        let why = chain(&error);
        for chunk in bad.chunks {
            self.lose(chunk..chunk + 1, pack, entry, &why).await?;
        }
        Ok(())
    }

    async fn lose_pack(
        &mut self,
        pack: PackId,
        pieces: &[Piece],
        cause: FetchError,
    ) -> Result<(), HydrateError> {
        if !self.room.plan.keep_going || cause.remedy() != Remedy::FixData {
            return Err(HydrateError::Pack {
                pack,
                range: first_range(self.work(), pieces),
                cause: Box::new(cause),
            });
        }
        let why = chain(&cause);
        for piece in pieces {
            self.lose(piece.chunks(), pack, None, &why).await?;
        }
        Ok(())
    }

    async fn lose(
        &mut self,
        chunks: Range<u64>,
        pack: PackId,
        entry: Option<u32>,
        why: &str,
    ) -> Result<(), HydrateError> {
        let range = byte_range(self.work(), &chunks);
        match self.done.lost.last_mut() {
            Some(last) if last.end == range.start() && last.pack == Some(pack) && last.entry == entry => {
                last.end = range.end();
            }
            _ => self.done.lost.push(Lost {
                start: range.start(),
                end: range.end(),
                pack: Some(pack),
                entry,
                why: why.to_owned(),
            }),
        }
        self.blank(chunks).await
    }

    async fn wrote(&mut self, chunks: Vec<Range<u64>>, bytes: u64) -> Result<(), HydrateError> {
        self.unsynced.extend(chunks);
        self.unsynced_bytes += bytes;
        (self.room.progress)(bytes);
        if self.unsynced_bytes >= self.room.bounds.sync_bytes { self.sync().await } else { Ok(()) }
    }

    async fn sync(&mut self) -> Result<(), HydrateError> {
        let chunks = std::mem::take(&mut self.unsynced);
        self.unsynced_bytes = 0;
        let target = Arc::clone(&self.room.target);
        let durable = tokio::task::spawn_blocking(move || Durable::sync(chunks, || target.sync()));
        let durable = durable.await.expect("syncing does not panic")?;
        if let Some(journal) = &mut self.room.journal {
            journal.record(durable)?;
        }
        Ok(())
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).max(1)
}

/// Which parts of the pieces are copied and which are fetched.
fn split(pieces: &[Piece], work: &Work) -> (Vec<Piece>, Vec<Piece>) {
    let (mut copies, mut wanted) = (Vec::new(), Vec::new());
    for piece in pieces {
        if piece.is_base {
            // It is not the chunk: what could be copied in place of the chunk was looked at with its delta.
            wanted.push(*piece);
            continue;
        }
        copies.extend(work.copy.present(piece.chunks()).iter().filter_map(|range| piece.part(range)));
        wanted.extend(work.copy.missing(piece.chunks()).iter().filter_map(|range| piece.part(range)));
    }
    (copies, wanted)
}
