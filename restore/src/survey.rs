//! Makes the windows of a plan: streams the map once, and looks up in the packs' tables what to ask for.
//!
//! Memory: the runs of one window (`WINDOW_RUNS`) and the footers of a few packs, whatever the size of the volume.
//! A window that is mostly holes may span a TiB.

use std::ops::Range;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use strongroom_block_io::BlockSource;
use strongroom_model::{ByteRange, Failure as _, PackId, RecoveryPointId, Remedy};
use strongroom_repository::chunk::{BLOCK_BYTES, ChunkHasher};
use strongroom_repository::map::{ChunkDelta, MapError, MapReader, Run};
use strongroom_repository::pack::{EntryRef, EntryType, FetchError, Footer};

use crate::aim::{Limits, Place, coalesce};
use crate::chunk_set::ChunkSet;
use crate::compare;
use crate::error::HydrateError;
use crate::plan::{Lost, PackFetch, Totals, Window};
use crate::supply::Supply;
use crate::touched::Touched;
use crate::work::{ByPack, Piece, Work, add_bases, entries, part};

/// A window ends when it has this many runs: some MB of memory.
const WINDOW_RUNS: usize = 1 << 17;
/// The map is read in steps of this many chunks (4 GiB of a grid of 64 KiB), so no answer has more runs than that.
const STEP: u64 = 1 << 16;
/// Below this many chunks a damaged part of a map is not narrowed down further: a leaf has about as many.
const LEAF: u64 = 1024;
/// A window has at most about this many bytes of deltas, since they wait in memory for what they are built on.
const DELTA_BYTES: u64 = 8 << 20;
/// Footers that are looked up side by side.
const LOOKUPS: usize = 8;

/// What a survey needs to know.
#[derive(Debug)]
pub struct Survey<'a> {
    /// The point, for messages.
    pub point: RecoveryPointId,
    /// Its map.
    pub map: &'a MapReader,
    /// Its packs.
    pub supply: &'a dyn Supply,
    /// How ranges are put together.
    pub limits: Limits,
    /// Note what cannot be read and go on.
    pub keep_going: bool,
    /// What already exists locally and is compared, chunk by chunk.
    pub local: Option<Local>,
    /// The map of what the target was cloned from, where that is another point.
    pub cloned: Option<&'a MapReader>,
}

/// Content that exists locally and may partly be that of the point.
#[derive(Debug, Clone)]
pub struct Local {
    /// The content.
    pub source: Arc<dyn BlockSource>,
    /// Makes the ids it is compared by.
    pub hasher: ChunkHasher,
    /// It is the target itself: equal chunks are left alone. Otherwise they are copied.
    pub is_target: bool,
}

/// What a survey found.
#[derive(Debug, Default)]
pub struct Surveyed {
    /// The windows that have something to do.
    pub windows: Vec<Window>,
    /// What they come to.
    pub totals: Totals,
    /// What cannot be read.
    pub lost: Vec<Lost>,
}

impl Survey<'_> {
    /// Goes through the whole volume. Adds to `work` what it finds to be there already.
    ///
    /// # Errors
    /// When the map or a pack's table cannot be read (damage only without `keep_going`), or the local source refuses.
    pub async fn make(&self, work: &mut Work) -> Result<Surveyed, HydrateError> {
        let mut found = Surveyed::default();
        found.totals.volume_bytes = work.point_bytes;
        found.totals.target_bytes = work.target_bytes;
        let (mut start, mut runs, mut waiting) = (0, Vec::new(), 0);
        let (chunks, mut at) = (work.chunks(), 0);
        while at < chunks {
            let step = at..(at + STEP).min(chunks);
            at = step.end;
            if !work.pending(step.clone()).is_empty() {
                runs.extend(self.runs(work, step.clone(), &mut found.lost).await?);
                for delta in self.deltas(work, step).await? {
                    waiting += delta_bytes(&delta);
                    if waiting >= DELTA_BYTES {
                        self.window(work, start..delta.chunk + 1, &runs, &mut found).await?;
                        (start, waiting) = (delta.chunk + 1, 0);
                        runs.retain(|run| run.start + run.count > start);
                    }
                }
            }
            if runs.len() >= WINDOW_RUNS || at == chunks {
                self.window(work, start..at, &std::mem::take(&mut runs), &mut found).await?;
                (start, waiting) = (at, 0);
            }
        }
        found.totals.lost_bytes = found.lost.iter().map(|lost| lost.end - lost.start).sum();
        Ok(found)
    }

    /// The runs of a window, in order; the same that [`Self::make`] saw.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub async fn runs_of_window(
        &self,
        work: &Work,
        window: Range<u64>,
        lost: &mut Vec<Lost>,
    ) -> Result<Vec<Run>, HydrateError> {
        let (mut at, mut runs) = (window.start, Vec::new());
        while at < window.end {
            let step = at..(at + STEP).min(window.end);
            at = step.end;
            if !work.pending(step.clone()).is_empty() {
                runs.extend(self.runs(work, step, lost).await?);
            }
        }
        Ok(runs)
    }

    /// The runs of a step. Where the map is damaged and we are to go on, the damage is narrowed down to single leaves.
    async fn runs(
        &self,
        work: &Work,
        step: Range<u64>,
        lost: &mut Vec<Lost>,
    ) -> Result<Vec<Run>, HydrateError> {
        let end = self.map.head().chunks();
        let mut runs = Vec::new();
        let mut todo: Vec<Range<u64>> = std::iter::once(step.start.min(end)..step.end.min(end)).collect();
        while let Some(range) = todo.pop() {
            if range.is_empty() {
                continue;
            }
            match self.map.runs(range.clone()).await {
                Ok(found) => runs.extend(found),
                Err(cause) if !self.keep_going || cause.remedy() != Remedy::FixData => {
                    return Err(self.map_error(work, &range, cause));
                }
                Err(cause) if range.end - range.start <= LEAF => {
                    let bytes = byte_range(work, &range);
                    let why = strongroom_model::chain(&cause);
                    lost.push(Lost { start: bytes.start(), end: bytes.end(), pack: None, entry: None, why });
                }
                Err(_) => {
                    let middle = (range.start + (range.end - range.start) / 2).next_multiple_of(LEAF);
                    let middle = middle.clamp(range.start + 1, range.end - 1);
                    todo.push(middle..range.end);
                    todo.push(range.start..middle);
                }
            }
        }
        Ok(runs)
    }

    /// The chunks of a range that were stored as deltas, as far as the map can be read where we are to go on.
    pub(crate) async fn deltas(
        &self,
        work: &Work,
        range: Range<u64>,
    ) -> Result<Vec<ChunkDelta>, HydrateError> {
        match self.map.deltas(range.clone()).await {
            Ok(deltas) => Ok(deltas),
            Err(cause) if !self.keep_going || cause.remedy() != Remedy::FixData => {
                Err(self.map_error(work, &range, cause))
            }
            Err(_) => {
                let mut deltas = Vec::new();
                let mut at = range.start;
                while at < range.end {
                    let leaf = at..((at / LEAF + 1) * LEAF).min(range.end);
                    at = leaf.end;
                    // What cannot be read was noted as lost when the runs were read.
                    deltas.extend(self.map.deltas(leaf).await.unwrap_or_default());
                }
                Ok(deltas)
            }
        }
    }

    /// In which blocks the chunks of a window can differ from what the target was cloned from.
    pub(crate) async fn touched(
        &self,
        work: &Work,
        window: Range<u64>,
        runs: &[Run],
        deltas: &[ChunkDelta],
    ) -> Touched {
        let Some(cloned) = self.cloned else { return Touched::default() };
        let known = Touched::within(work, window, runs, deltas, cloned).await;
        known.unwrap_or_else(|cause| {
            tracing::debug!(cause = strongroom_model::chain(&cause), "whole chunks are written");
            Touched::default()
        })
    }

    fn map_error(&self, work: &Work, range: &Range<u64>, cause: MapError) -> HydrateError {
        HydrateError::Map { point: self.point, range: byte_range(work, range), cause: Box::new(cause) }
    }

    async fn window(
        &self,
        work: &mut Work,
        window: Range<u64>,
        runs: &[Run],
        found: &mut Surveyed,
    ) -> Result<(), HydrateError> {
        let pieces = work.pieces(window.clone(), runs);
        let known = self.deltas(work, window.clone()).await?;
        let (of_deltas, others) = part(pieces.packs, &known);
        let deltas = self.look_at(work, of_deltas, found).await?;
        // What a sweep made a whole chunk of is built on nothing any more.
        let of =
            |chunk: u64| known.binary_search_by_key(&chunk, |delta| delta.chunk).map(|at| known[at].of).ok();
        let bases: Vec<(u64, EntryRef)> = deltas
            .iter()
            .flat_map(Looked::built)
            .filter_map(|chunk| Some((chunk, of(chunk)?.base)))
            .collect();
        let mut fetch = self.look_at(work, others, found).await?;
        self.add_bases(work, &mut fetch, bases, found).await?;
        let deltas = self.aim(work, deltas, &mut found.totals)?;
        let fetch = self.aim(work, fetch, &mut found.totals)?;
        found.totals.zero_bytes += pieces.zeros.iter().map(|range| work.count_bytes(range)).sum::<u64>();
        found.totals.hole_bytes += pieces.hole_bytes;
        if !deltas.is_empty() || !fetch.is_empty() || !pieces.zeros.is_empty() {
            found.windows.push(Window { chunks: window, deltas, fetch });
        }
        Ok(())
    }

    /// The requests that bring what was found to be wanted.
    fn aim(
        &self,
        work: &Work,
        looked: Vec<Looked>,
        totals: &mut Totals,
    ) -> Result<Vec<PackFetch>, HydrateError> {
        looked.into_iter().filter_map(|look| look.aim(work, self.limits, totals).transpose()).collect()
    }

    /// Looks up what packs have to give for one window.
    async fn look_at(
        &self,
        work: &mut Work,
        packs: ByPack,
        found: &mut Surveyed,
    ) -> Result<Vec<Looked>, HydrateError> {
        let lookable = &*work;
        let looked: Vec<Looked> = futures::stream::iter(packs)
            .map(|(pack, pieces)| self.look(lookable, pack, pieces))
            .buffered(LOOKUPS)
            .try_collect()
            .await?;
        let bytes =
            |chunks: &[u64]| chunks.iter().map(|&chunk| work.count_bytes(&(chunk..chunk + 1))).sum::<u64>();
        for look in &looked {
            found.totals.present_bytes += bytes(&look.right);
            found.totals.copy_bytes += bytes(&look.copy);
            found.totals.write_bytes += look.write_bytes;
            found.lost.extend_from_slice(&look.lost);
        }
        for look in &looked {
            look.right.iter().for_each(|&chunk| work.right.insert(chunk));
            look.copy.iter().for_each(|&chunk| work.copy.insert(chunk));
        }
        Ok(looked)
    }

    /// Adds what deltas are built on to what is wanted of the packs.
    async fn add_bases(
        &self,
        work: &Work,
        looked: &mut Vec<Looked>,
        bases: Vec<(u64, EntryRef)>,
        found: &mut Surveyed,
    ) -> Result<(), HydrateError> {
        let mut packs = ByPack::new();
        add_bases(&mut packs, bases);
        for (pack, pieces) in packs {
            let there = looked.iter_mut().find(|look| look.pack == pack && look.footer.is_some());
            if let Some(look) = there.filter(|look| look.has(&pieces)) {
                look.wanted.extend(pieces);
                continue;
            }
            let mut look = Looked::new(pack);
            match self.footer(pack, &pieces).await {
                Ok(footer) => {
                    look.footer = Some(footer);
                    look.wanted = pieces;
                }
                Err(cause) => {
                    self.lose(&mut look, work, &pieces, cause)?;
                    found.lost.extend_from_slice(&look.lost);
                }
            }
            looked.push(look);
        }
        Ok(())
    }

    /// A pack cannot be read: that ends it, unless we are to go on.
    fn lose(
        &self,
        looked: &mut Looked,
        work: &Work,
        pieces: &[Piece],
        cause: FetchError,
    ) -> Result<(), HydrateError> {
        let pack = looked.pack;
        if self.keep_going && cause.remedy() == Remedy::FixData {
            looked.lose(work, pack, pieces, &strongroom_model::chain(&cause));
            Ok(())
        } else {
            Err(HydrateError::Pack { pack, range: first_range(work, pieces), cause: Box::new(cause) })
        }
    }

    /// Looks up what one pack has to give for one window.
    async fn look(&self, work: &Work, pack: PackId, pieces: Vec<Piece>) -> Result<Looked, HydrateError> {
        let mut looked = Looked::new(pack);
        let footer = match self.footer(pack, &pieces).await {
            Ok(footer) => footer,
            Err(cause) => {
                self.lose(&mut looked, work, &pieces, cause)?;
                return Ok(looked);
            }
        };
        if let Some(local) = &self.local {
            let footer = Arc::clone(&footer);
            let equal = compare::equal(local.clone(), work, footer, &pieces).await?;
            if local.is_target { looked.right = equal } else { looked.copy = equal }
        }
        let mut skip = ChunkSet::new();
        looked.right.iter().chain(&looked.copy).for_each(|&chunk| skip.insert(chunk));
        for piece in &pieces {
            for range in skip.missing(piece.chunks()) {
                looked.write_bytes += work.count_bytes(&range);
                looked.wanted.extend(piece.part(&range));
            }
        }
        looked.footer = Some(footer);
        Ok(looked)
    }

    /// The footer of a pack that has every entry the pieces need; the journal is read again before anything is called
    /// missing.
    pub(crate) async fn footer(&self, pack: PackId, pieces: &[Piece]) -> Result<Arc<Footer>, FetchError> {
        let complete =
            |footer: &Footer| entries(pieces).into_iter().find(|&entry| footer.row(entry).is_none());
        let footer = self.supply.footer(pack).await?;
        if complete(&footer).is_none() {
            return Ok(footer);
        }
        let footer = self.supply.footer_again(pack).await?;
        match complete(&footer) {
            None => Ok(footer),
            Some(entry) => Err(FetchError::Pack(hole(&footer, entry))),
        }
    }
}

#[derive(Debug)]
struct Looked {
    pack: PackId,
    /// None: it cannot be had.
    footer: Option<Arc<Footer>>,
    wanted: Vec<Piece>,
    right: Vec<u64>,
    copy: Vec<u64>,
    write_bytes: u64,
    lost: Vec<Lost>,
}

impl Looked {
    const fn new(pack: PackId) -> Self {
        Self {
            pack,
            footer: None,
            wanted: Vec::new(),
            right: Vec::new(),
            copy: Vec::new(),
            write_bytes: 0,
            lost: Vec::new(),
        }
    }

    /// The wanted chunks that are deltas still.
    fn built(&self) -> impl Iterator<Item = u64> + '_ {
        let is_delta = |entry| {
            let row = self.footer.as_ref().and_then(|footer| footer.row(entry));
            row.is_some_and(|row| row.entry_type == EntryType::Delta)
        };
        let entries = self.wanted.iter().flat_map(|piece| piece.chunks().zip(piece.entry..));
        entries.filter(move |(_, entry)| is_delta(*entry)).map(|(chunk, _)| chunk)
    }

    /// Whether its table has all entries of these pieces.
    fn has(&self, pieces: &[Piece]) -> bool {
        self.footer
            .as_ref()
            .is_some_and(|footer| entries(pieces).into_iter().all(|entry| footer.row(entry).is_some()))
    }

    /// The requests; none when nothing is wanted.
    fn aim(
        self,
        work: &Work,
        limits: Limits,
        totals: &mut Totals,
    ) -> Result<Option<PackFetch>, HydrateError> {
        let Self { pack, footer: Some(footer), wanted, copy, .. } = self else { return Ok(None) };
        let ranges = aim(&footer, &wanted, limits).map_err(|entry| HydrateError::Pack {
            pack,
            range: first_range(work, &wanted),
            cause: Box::new(FetchError::Pack(hole(&footer, entry))),
        })?;
        let chunks = wanted.iter().map(|piece| u64::from(piece.count)).sum();
        let copies = copy.len() as u64;
        if chunks == 0 && copies == 0 {
            return Ok(None);
        }
        totals.fetch_bytes += ranges.iter().map(|range| u64::from(range.bytes)).sum::<u64>();
        totals.requests += ranges.len() as u64;
        totals.packs += u64::from(!ranges.is_empty());
        Ok(Some(PackFetch { pack, object: footer.place(), chunks, copies, ranges }))
    }

    fn lose(&mut self, work: &Work, pack: PackId, pieces: &[Piece], why: &str) {
        self.lost.extend(pieces.iter().map(|piece| {
            let bytes = byte_range(work, &piece.chunks());
            Lost {
                start: bytes.start(),
                end: bytes.end(),
                pack: Some(pack),
                entry: None,
                why: why.to_owned(),
            }
        }));
    }
}

/// The requests that bring what the pieces need from a pack.
///
/// # Errors
/// The first entry that is a hole.
pub fn aim(footer: &Footer, pieces: &[Piece], limits: Limits) -> Result<Vec<crate::aim::FetchRange>, u32> {
    let mut places = Vec::new();
    for entry in entries(pieces) {
        let row = footer.row(entry).ok_or(entry)?;
        places.push(Place { entry, offset: row.offset, bytes: u64::from(row.stored_bytes) });
    }
    places.sort_unstable_by_key(|place| place.offset);
    let data = footer.rows().iter().map(|row| u64::from(row.stored_bytes)).sum();
    Ok(coalesce(&places, data, limits))
}

/// How many bytes of a delta wait in memory.
pub(crate) fn delta_bytes(delta: &ChunkDelta) -> u64 {
    u64::from(delta.of.blocks.count()) * u64::from(BLOCK_BYTES)
}

pub(crate) fn hole(footer: &Footer, entry: u32) -> strongroom_repository::pack::PackError {
    let place = footer.place();
    let object = strongroom_repository::layout::ObjectName::pack(place.kind, place.object).to_string();
    strongroom_repository::pack::PackError::Hole { object, entry }
}

/// The bytes of chunks, which there are.
pub(crate) fn byte_range(work: &Work, chunks: &Range<u64>) -> ByteRange {
    work.bytes_of(chunks)
        .or_else(|| ByteRange::at(chunks.start.saturating_mul(work.chunk_bytes), 1).ok())
        .expect("a chunk of a volume lies below 2^64 bytes")
}

/// The first bytes of the volume that pieces fill.
pub(crate) fn first_range(work: &Work, pieces: &[Piece]) -> ByteRange {
    let first = pieces.iter().min_by_key(|piece| piece.chunk).map_or(0..1, Piece::chunks);
    byte_range(work, &first)
}
