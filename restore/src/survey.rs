//! Makes the windows of a plan: streams the map once, and looks up in the packs' tables what to ask for.
//!
//! Memory: the runs of one window (`WINDOW_RUNS`) and the footers of a few packs, whatever the size of the volume.
//! A window that is mostly holes may span a TiB.

use std::ops::Range;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use strongroom_block_io::BlockSource;
use strongroom_model::{ByteRange, Failure as _, PackId, RecoveryPointId, Remedy};
use strongroom_repository::chunk::ChunkHasher;
use strongroom_repository::map::{MapError, MapReader, Run};
use strongroom_repository::pack::{FetchError, Footer};

use crate::aim::{Limits, Place, coalesce};
use crate::chunk_set::ChunkSet;
use crate::compare;
use crate::error::HydrateError;
use crate::plan::{Lost, PackFetch, Totals, Window};
use crate::supply::Supply;
use crate::work::{Piece, Work, entries};

/// A window ends when it has this many runs: some MB of memory.
const WINDOW_RUNS: usize = 1 << 17;
/// The map is read in steps of this many chunks (4 GiB of a grid of 64 KiB), so no answer has more runs than that.
const STEP: u64 = 1 << 16;
/// Below this many chunks a damaged part of a map is not narrowed down further: a leaf has about as many.
const LEAF: u64 = 1024;
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
        let (mut start, mut runs) = (0, Vec::new());
        let (chunks, mut at) = (work.chunks(), 0);
        while at < chunks {
            let step = at..(at + STEP).min(chunks);
            at = step.end;
            if !work.pending(step.clone()).is_empty() {
                runs.extend(self.runs(work, step, &mut found.lost).await?);
            }
            if runs.len() >= WINDOW_RUNS || at == chunks {
                self.window(work, start..at, &std::mem::take(&mut runs), &mut found).await?;
                start = at;
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
        let looked: Vec<Looked> = futures::stream::iter(pieces.packs)
            .map(|(pack, pieces)| self.look(work, pack, pieces))
            .buffered(LOOKUPS)
            .try_collect()
            .await?;
        let totals = &mut found.totals;
        let mut fetch = Vec::new();
        for look in looked {
            look.right.iter().for_each(|&chunk| work.right.insert(chunk));
            look.copy.iter().for_each(|&chunk| work.copy.insert(chunk));
            let bytes = |chunks: &[u64]| {
                chunks.iter().map(|&chunk| work.count_bytes(&(chunk..chunk + 1))).sum::<u64>()
            };
            totals.present_bytes += bytes(&look.right);
            totals.copy_bytes += bytes(&look.copy);
            totals.write_bytes += look.write_bytes;
            found.lost.extend(look.lost);
            if let Some(pack) = look.fetch {
                totals.fetch_bytes += pack.ranges.iter().map(|range| u64::from(range.bytes)).sum::<u64>();
                totals.requests += pack.ranges.len() as u64;
                totals.packs += u64::from(!pack.ranges.is_empty());
                fetch.push(pack);
            }
        }
        totals.zero_bytes += pieces.zeros.iter().map(|range| work.count_bytes(range)).sum::<u64>();
        totals.hole_bytes += pieces.hole_bytes;
        if !fetch.is_empty() || !pieces.zeros.is_empty() {
            found.windows.push(Window { chunks: window, fetch });
        }
        Ok(())
    }

    /// Looks up what one pack has to give for one window.
    async fn look(&self, work: &Work, pack: PackId, pieces: Vec<Piece>) -> Result<Looked, HydrateError> {
        let mut looked = Looked::default();
        let footer = match self.footer(pack, &pieces).await {
            Ok(footer) => footer,
            Err(cause) if self.keep_going && cause.remedy() == Remedy::FixData => {
                looked.lose(work, pack, &pieces, &strongroom_model::chain(&cause));
                return Ok(looked);
            }
            Err(cause) => {
                return Err(HydrateError::Pack {
                    pack,
                    range: first_range(work, &pieces),
                    cause: Box::new(cause),
                });
            }
        };
        let mut wanted = Vec::new();
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
                wanted.extend(piece_of(piece, &range));
            }
        }
        let ranges = aim(&footer, &wanted, self.limits).map_err(|entry| HydrateError::Pack {
            pack,
            range: first_range(work, &pieces),
            cause: Box::new(FetchError::Pack(hole(&footer, entry))),
        })?;
        let chunks = wanted.iter().map(|piece| u64::from(piece.count)).sum();
        let copies = looked.copy.len() as u64;
        if chunks > 0 || copies > 0 {
            looked.fetch = Some(PackFetch { pack, object: footer.place(), chunks, copies, ranges });
        }
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

#[derive(Debug, Default)]
struct Looked {
    fetch: Option<PackFetch>,
    right: Vec<u64>,
    copy: Vec<u64>,
    write_bytes: u64,
    lost: Vec<Lost>,
}

impl Looked {
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

/// The part of a piece that fills `chunks`.
pub(crate) fn piece_of(piece: &Piece, chunks: &Range<u64>) -> Option<Piece> {
    let skipped = u32::try_from(chunks.start.checked_sub(piece.chunk)?).ok()?;
    Some(Piece {
        chunk: chunks.start,
        count: u32::try_from(chunks.end - chunks.start).ok()?,
        entry: piece.entry.checked_add(skipped)?,
    })
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
