//! One range of one pack: fetched, opened entry by entry, written.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use strongroom_block_io::{BlockIoError, BlockTarget};
use strongroom_model::{Failure as _, PackId, Remedy};
use strongroom_repository::pack::{EntryRef, EntryRow, FetchError, Footer, Opened, PackError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::gather::Gather;
use super::waiting::Waiting;
use crate::aim::{FetchRange, Limits};
use crate::compare::{Asked, read_each};
use crate::supply::Supply;
use crate::survey::{Local, aim, hole};
use crate::touched::Touched;
use crate::work::{Piece, Work, filled_by};

/// A range on its way. It owns all it needs, so that it can run beside others.
pub(super) struct Job {
    pub(super) pack: PackId,
    pub(super) footer: Arc<Footer>,
    /// All pieces that are wanted of the pack.
    pub(super) pieces: Arc<[Piece]>,
    pub(super) range: FetchRange,
    pub(super) waiting: Arc<Waiting>,
    pub(super) touched: Arc<Touched>,
    pub(super) work: Arc<Work>,
    pub(super) supply: Arc<dyn Supply>,
    pub(super) target: Arc<dyn BlockTarget>,
    pub(super) workers: Arc<Semaphore>,
    pub(super) limits: Limits,
}

/// What a range came to.
#[derive(Debug)]
pub(super) struct Landed {
    pub(super) pack: PackId,
    /// Chunks that were written.
    pub(super) chunks: Vec<Range<u64>>,
    /// Entries that could not be used, and what they should have filled.
    pub(super) bad: Vec<Bad>,
    /// Bytes that were written for these: less than they have where only some blocks can differ.
    pub(super) written_bytes: u64,
    pub(super) fetched_bytes: u64,
    pub(super) requests: u64,
}

/// Chunks that could not be filled.
#[derive(Debug)]
pub(super) struct Bad {
    pub(super) chunks: Vec<u64>,
    pub(super) cause: Cause,
}

/// Why not.
#[derive(Debug)]
pub(super) enum Cause {
    /// The range could not be had.
    Fetch(FetchError),
    /// The entry is not what was stored. Of a chunk that does not come out of its delta: the delta.
    Entry(EntryRef, PackError),
    /// The entry has this many bytes, and the grid has no place for so many.
    Length(u32, u64),
}

impl Job {
    /// Fetches and writes. Damage is part of the answer; an error is the target's.
    pub(super) async fn run(self, permit: OwnedSemaphorePermit) -> Result<Landed, BlockIoError> {
        let mut landed = Landed {
            pack: self.pack,
            chunks: Vec::new(),
            bad: Vec::new(),
            written_bytes: 0,
            fetched_bytes: 0,
            requests: 0,
        };
        let first = self.one(&self.footer, &self.pieces, self.range, &mut landed).await?;
        if first.is_empty() {
            return Ok(landed);
        }
        // A store that does not answer was asked again below; the journal has nothing to say about it.
        if let [Bad { cause: Cause::Fetch(cause), .. }] = &first[..]
            && cause.remedy() != Remedy::FixData
        {
            landed.bad = first;
            return Ok(landed);
        }
        let again: Vec<u64> = first.iter().flat_map(|bad| bad.chunks.iter().copied()).collect();
        // Once more before anything is called damaged: the bytes may have suffered on the way, or a sweep may have moved
        // the pack since the footer was read.
        let pieces: Vec<Piece> = again.iter().filter_map(|&chunk| self.piece_at(chunk)).collect();
        if first.iter().any(|bad| !matches!(bad.cause, Cause::Fetch(_))) {
            self.supply.distrust(self.footer.place());
        }
        let footer = match self.supply.footer_again(self.pack).await {
            Ok(footer) => footer,
            Err(cause) => {
                landed.bad.push(Bad { chunks: again, cause: Cause::Fetch(cause) });
                return Ok(landed);
            }
        };
        match aim(&footer, &pieces, self.limits) {
            Ok(ranges) => {
                for range in ranges {
                    let bad = self.one(&footer, &pieces, range, &mut landed).await?;
                    landed.bad.extend(bad);
                }
            }
            Err(entry) => {
                landed
                    .bad
                    .push(Bad { chunks: again, cause: Cause::Fetch(FetchError::Pack(hole(&footer, entry))) });
            }
        }
        drop(permit);
        Ok(landed)
    }

    fn piece_at(&self, chunk: u64) -> Option<Piece> {
        let piece = self.pieces.iter().find(|piece| piece.chunks().contains(&chunk))?;
        piece.part(&(chunk..chunk + 1))
    }

    /// One request and what becomes of it.
    async fn one(
        &self,
        footer: &Arc<Footer>,
        pieces: &[Piece],
        range: FetchRange,
        landed: &mut Landed,
    ) -> Result<Vec<Bad>, BlockIoError> {
        landed.requests += 1;
        let wanted = Wanted::new(footer, pieces, range);
        let sealed = match self.supply.bytes(footer.place(), range.offset, u64::from(range.bytes)).await {
            Ok(sealed) => sealed,
            Err(cause) => return Ok(vec![Bad { chunks: wanted.chunks(), cause: Cause::Fetch(cause) }]),
        };
        landed.fetched_bytes += sealed.len() as u64;
        let (footer, work) = (Arc::clone(footer), Arc::clone(&self.work));
        let (target, waiting) = (Arc::clone(&self.target), Arc::clone(&self.waiting));
        let touched = Arc::clone(&self.touched);
        let worker =
            Arc::clone(&self.workers).acquire_owned().await.expect("the workers are never dismissed");
        let filling = tokio::task::spawn_blocking(move || {
            let gather = Gather::over(&*target);
            let place = Onto { work: &work, touched: &touched, target: &gather };
            let filled = wanted.fill(&footer, range.offset, &sealed, &waiting, &place);
            let flushed = gather.flush();
            drop(worker);
            flushed.and(filled)
        });
        let Filled { chunks, bad, bytes } = filling.await.expect("opening and writing do not panic")?;
        landed.chunks.extend(chunks);
        landed.written_bytes += bytes;
        Ok(bad)
    }
}

/// The entries of a range and what they fill.
struct Wanted {
    rows: Vec<EntryRow>,
    pieces: Vec<Piece>,
}

/// What became of the entries of a range.
#[derive(Default)]
struct Filled {
    chunks: Vec<Range<u64>>,
    bad: Vec<Bad>,
    bytes: u64,
}

/// Where chunks are written.
struct Onto<'a> {
    work: &'a Work,
    touched: &'a Touched,
    target: &'a dyn BlockTarget,
}

impl Wanted {
    fn new(footer: &Footer, pieces: &[Piece], range: FetchRange) -> Self {
        let rows = footer.rows();
        let first = rows.partition_point(|row| row.offset < range.offset);
        let within: Vec<EntryRow> = rows[first..]
            .iter()
            .take_while(|row| row.offset + u64::from(row.stored_bytes) <= range.end())
            .copied()
            .collect();
        let (low, high) =
            (within.first().map_or(0, |row| row.number), within.last().map_or(0, |row| row.number));
        let touches = |piece: &&Piece| {
            piece.entry <= high && u64::from(piece.entry) + u64::from(piece.count) > u64::from(low)
        };
        let pieces: Vec<Piece> = pieces.iter().filter(touches).copied().collect();
        let rows = within.into_iter().filter(|row| filled_by(&pieces, row.number).next().is_some()).collect();
        Self { rows, pieces }
    }

    fn chunks(&self) -> Vec<u64> {
        self.rows.iter().flat_map(|row| filled_by(&self.pieces, row.number)).map(|(chunk, _)| chunk).collect()
    }

    /// Opens each entry and writes it wherever it belongs; a delta waits.
    fn fill(
        &self,
        footer: &Arc<Footer>,
        offset: u64,
        sealed: &Bytes,
        waiting: &Waiting,
        place: &Onto<'_>,
    ) -> Result<Filled, BlockIoError> {
        let Filled { chunks: mut written, mut bad, mut bytes } = Filled::default();
        let pack = footer.place().object.pack;
        for row in &self.rows {
            let at = EntryRef { pack, entry: row.number };
            let chunks = || filled_by(&self.pieces, row.number);
            let opened = part(sealed, row, offset)
                .map_or_else(|| Err(cut_short(footer, row)), |part| Opened::of(footer, row, part));
            let entry = match opened {
                Ok(delta) if delta.base().is_some() && chunks().all(|(_, is_base)| !is_base) => {
                    chunks().for_each(|(chunk, _)| waiting.insert(chunk, delta.clone()));
                    continue;
                }
                opened => opened.and_then(Opened::whole),
            };
            let plain = match entry {
                Ok(entry) => entry.plain,
                Err(cause) => {
                    let chunks = chunks().map(|(chunk, _)| chunk).collect();
                    bad.push(Bad { chunks, cause: Cause::Entry(at, cause) });
                    continue;
                }
            };
            for (chunk, is_base) in chunks() {
                let (at, plain) = match waiting.get(chunk).filter(|_| is_base) {
                    Some(delta) => match delta.clone().onto(&plain) {
                        Ok(entry) => (at, entry.plain),
                        Err(cause) => {
                            let cause = Cause::Entry(delta.at(), cause);
                            bad.push(Bad { chunks: vec![chunk], cause });
                            continue;
                        }
                    },
                    // Nothing was built on it after all.
                    None if is_base => continue,
                    None => (at, plain.clone()),
                };
                if plain.len() as u64 == place.work.content_bytes(chunk) {
                    bytes += place.write(chunk, &plain)?;
                    match written.last_mut() {
                        Some(last) if last.end == chunk => last.end += 1,
                        _ => written.push(chunk..chunk + 1),
                    }
                } else {
                    let cause = Cause::Length(at.entry, plain.len() as u64);
                    bad.push(Bad { chunks: vec![chunk], cause });
                }
            }
        }
        Ok(Filled { chunks: written, bad, bytes })
    }
}

impl Onto<'_> {
    /// Writes what can differ of a chunk; answers how many bytes. Where the point ends within it and the target goes on, the rest
    /// becomes zero.
    fn write(&self, chunk: u64, plain: &[u8]) -> Result<u64, BlockIoError> {
        let offset = chunk * self.work.chunk_bytes;
        let mut bytes = 0;
        for range in self.touched.ranges(chunk, plain.len()) {
            self.target.write_at(offset + range.start as u64, &plain[range.clone()])?;
            bytes += range.len() as u64;
        }
        let rest = strongroom_model::ByteRange::new(
            offset + plain.len() as u64,
            self.work.bytes_of(&(chunk..chunk + 1)).map_or(0, |range| range.end()),
        );
        match rest {
            Ok(rest) if !self.work.blank => self.target.zero(rest)?,
            _ => {}
        }
        Ok(bytes)
    }
}

fn part<'a>(sealed: &'a Bytes, row: &EntryRow, offset: u64) -> Option<&'a [u8]> {
    let start = usize::try_from(row.offset.checked_sub(offset)?).ok()?;
    sealed.get(start..start.checked_add(row.stored_bytes as usize)?)
}

fn cut_short(footer: &Footer, row: &EntryRow) -> PackError {
    let place = footer.place();
    PackError::Damaged {
        object: strongroom_repository::layout::ObjectName::pack(place.kind, place.object).to_string(),
        what: format!("it ends within entry {}", row.number),
    }
}

/// Copies chunks from local content, in large reads and writes. Answers which were written, and the pieces that are no longer
/// what the plan saw: a file may have changed since.
pub(super) fn copy(
    local: &Local,
    target: &dyn BlockTarget,
    asked: &[Asked],
    work: &Work,
) -> Result<(Vec<u64>, Vec<Piece>), BlockIoError> {
    let (mut written, mut gone) = (Vec::new(), Vec::new());
    let gather = Gather::over(target);
    let place = Onto { work, touched: &Touched::default(), target: &gather };
    read_each(local, work.chunk_bytes, asked, |asked, plain| {
        match plain {
            Some(plain) => {
                place.write(asked.chunk, plain)?;
                written.push(asked.chunk);
            }
            None => gone.push(Piece { chunk: asked.chunk, count: 1, entry: asked.entry, is_base: false }),
        }
        Ok(())
    })?;
    gather.flush()?;
    Ok((written, gone))
}
