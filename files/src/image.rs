//! The image of a recovery point as bytes at offsets, fetched as they are asked for.
//!
//! What always holds:
//! * Every byte that is given out is a byte of the point: the pack reader opens the seal and computes the chunk's id again.
//!   A chunk that cannot be had is an error for whoever asked, never zeros.
//! * Of many who ask for one chunk at once, one fetches.
//! * Memory is bounded: the cache by its budget, what is on the way by [`BATCH`] and [`AT_ONCE`] for each reader.
//! * Whoever reads forwards gets a window ahead that doubles up to [`MOST_AHEAD`]; whoever jumps about gets single chunks.

mod error;
mod flights;

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use strongroom_model::{ByteRange, PackId};
use strongroom_repository::map::{MapReader, Run};
use strongroom_repository::pack::Cache;
use strongroom_repository::reader::PackReader;
use strongroom_repository::{Point, Repository};
use tokio::runtime::Handle;

pub use error::ImageError;
use flights::Flights;

use crate::disk::Disk;

/// Chunks that are asked of one pack together: at 64 KiB these are 4 MiB, which come with one request where they lie
/// together.
const BATCH: usize = 64;
/// Such requests on the way at once, for each read.
const AT_ONCE: usize = 4;
/// The most that is fetched ahead of a reader who goes forwards.
const MOST_AHEAD: u64 = 4 << 20;

/// Random access to the bytes of a point. Cheap to clone; clones share the cache.
#[derive(Debug, Clone)]
pub struct PointImage(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    map: MapReader,
    reader: PackReader,
    chunk_bytes: u64,
    bytes: u64,
    cache: Mutex<Cache<u64, Bytes>>,
    flights: Flights,
    course: Mutex<Course>,
    runtime: Handle,
}

/// Where the last reader was, to notice one that goes forwards.
#[derive(Debug, Default)]
struct Course {
    next: u64,
    ahead_bytes: u64,
    fetched_to: u64,
}

impl Course {
    /// Whether `offset` is where a reader who goes forwards would be next: behind what was read, at most `slack` bytes behind
    /// what was fetched ahead.
    fn follows(&self, offset: u64, slack: u64) -> bool {
        offset >= self.next && offset <= self.next.max(self.fetched_to).saturating_add(slack)
    }
}

impl PointImage {
    /// Opens the image of `point`; at most about `budget_bytes` of chunks stay in memory. To be called on a runtime, on
    /// which everything is fetched.
    ///
    /// # Errors
    /// When the root of the point's map cannot be read.
    pub async fn open(
        repository: &Repository,
        point: &Point,
        budget_bytes: usize,
    ) -> Result<Self, ImageError> {
        let map = repository
            .map(point)
            .await
            .map_err(|cause| ImageError::map(0..point.info.volume_bytes.max(1), cause))?;
        Ok(Self(Arc::new(Inner {
            chunk_bytes: map.head().chunk_bytes.max(1).into(),
            bytes: map.head().volume_bytes,
            reader: repository.reader().of_point(point.id),
            map,
            cache: Mutex::new(Cache::new(budget_bytes)),
            flights: Flights::default(),
            course: Mutex::default(),
            runtime: Handle::current(),
        })))
    }

    /// The size of the image.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// When the range is not inside of the image, or something of it cannot be read.
    pub async fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ImageError> {
        if buffer.is_empty() {
            return Ok(());
        }
        let end = self.inside(offset, buffer.len() as u64)?;
        let wanted = offset / self.0.chunk_bytes..end.div_ceil(self.0.chunk_bytes);
        self.look_ahead(offset, end);
        // In steps, so that a huge buffer does not hold all of its chunks a second time.
        let mut step = wanted.start;
        while step < wanted.end {
            let chunks = step..(step + (BATCH * AT_ONCE) as u64).min(wanted.end);
            step = chunks.end;
            let found = self.0.chunks(chunks.clone()).await?;
            for chunk in chunks {
                self.0.copy(chunk, found.get(&chunk), offset, buffer);
            }
        }
        Ok(())
    }

    fn inside(&self, offset: u64, bytes: u64) -> Result<u64, ImageError> {
        match offset.checked_add(bytes) {
            Some(end) if end <= self.0.bytes => Ok(end),
            _ => Err(ImageError::Outside { offset, bytes, image_bytes: self.0.bytes }),
        }
    }

    /// Only from the cache, without a runtime; whether all of it was there.
    fn read_cached(&self, offset: u64, buffer: &mut [u8]) -> bool {
        let chunk = offset / self.0.chunk_bytes;
        let last = (offset + buffer.len() as u64 - 1) / self.0.chunk_bytes;
        let found = if chunk == last { lock(&self.0.cache).get(&chunk) } else { None };
        if let Some(found) = &found {
            self.0.copy(chunk, Some(found), offset, buffer);
            // Whoever goes forwards mostly finds what was fetched ahead, and must be followed there, too.
            if lock(&self.0.course).follows(offset, 0) {
                self.look_ahead(offset, offset + buffer.len() as u64);
            }
        }
        found.is_some()
    }

    /// Begins to fetch what a reader who goes forwards will want next.
    fn look_ahead(&self, offset: u64, end: u64) {
        let mut course = lock(&self.0.course);
        let forwards = course.follows(offset, self.0.chunk_bytes);
        course.ahead_bytes = match (forwards, course.ahead_bytes) {
            (false, _) => 0,
            (true, 0) => self.0.chunk_bytes,
            (true, ahead) => (ahead * 2).min(MOST_AHEAD),
        };
        course.next = end;
        if course.ahead_bytes == 0 {
            course.fetched_to = end;
            return;
        }
        // The next window is begun when half of the last is used up: fewer and larger requests.
        let until = end.saturating_add(course.ahead_bytes).min(self.0.bytes);
        if course.fetched_to > end + course.ahead_bytes / 2 || until <= course.fetched_to {
            return;
        }
        let from = course.fetched_to.max(end);
        course.fetched_to = until;
        drop(course);
        let inner = Arc::clone(&self.0);
        let chunks = from.div_ceil(inner.chunk_bytes)..until.div_ceil(inner.chunk_bytes);
        self.0.runtime.spawn(async move {
            // Whoever comes to want it fetches it again, and is told what is wrong.
            if let Err(cause) = inner.chunks(chunks).await {
                tracing::debug!(error = %strongroom_model::chain(&cause), "reading ahead");
            }
        });
    }
}

impl Disk for PointImage {
    fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// Blocks; not to be called on a thread of the runtime.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if buffer.is_empty() {
            return Ok(());
        }
        self.inside(offset, buffer.len() as u64).map_err(io::Error::from)?;
        if self.read_cached(offset, buffer) {
            return Ok(());
        }
        self.0.runtime.clone().block_on(self.read(offset, buffer)).map_err(io::Error::from)
    }
}

impl Inner {
    /// The stored chunks of a range; those that are missing in the answer are zero.
    async fn chunks(&self, wanted: Range<u64>) -> Result<BTreeMap<u64, Bytes>, ImageError> {
        let range = self.bytes_of(wanted.clone());
        let runs = self.map.runs(wanted).await.map_err(|cause| ImageError::map(range, cause))?;
        let mut found = BTreeMap::new();
        loop {
            let (claimed, others) = {
                let mut cache = lock(&self.cache);
                let missing: Vec<u64> = runs
                    .iter()
                    .flat_map(|run| run.start..run.start + run.count)
                    .filter(|chunk| {
                        if !found.contains_key(chunk)
                            && let Some(bytes) = cache.get(chunk)
                        {
                            found.insert(*chunk, bytes);
                        }
                        !found.contains_key(chunk)
                    })
                    .collect();
                self.flights.claim(&missing)
            };
            if !claimed.chunks().is_empty() {
                found.append(&mut self.fetch(&runs, claimed.chunks()).await?);
            }
            // What was fetched is in the cache before the claim ends: whoever waited finds it there.
            drop(claimed);
            match others {
                Some(others) => others.wait().await,
                None => return Ok(found),
            }
        }
    }

    /// Fetches chunks, puts them in the cache, and answers them.
    async fn fetch(&self, runs: &[Run], wanted: &[u64]) -> Result<BTreeMap<u64, Bytes>, ImageError> {
        let mut by_pack: BTreeMap<PackId, BTreeMap<u32, Vec<u64>>> = BTreeMap::new();
        for chunk in wanted {
            let at = runs.partition_point(|run| run.start + run.count <= *chunk);
            let Some(run) = runs.get(at).filter(|run| run.start <= *chunk) else { continue };
            let entry = u32::try_from(chunk - run.start).unwrap_or(u32::MAX).saturating_add(run.first_entry);
            by_pack.entry(run.pack).or_default().entry(entry).or_default().push(*chunk);
        }
        let batches = by_pack.into_iter().flat_map(|(pack, entries)| {
            let entries: Vec<_> = entries.into_iter().collect();
            let batches: Vec<_> = entries.chunks(BATCH).map(<[_]>::to_vec).collect();
            batches.into_iter().map(move |batch| (pack, batch))
        });
        stream::iter(batches)
            .map(|(pack, batch)| self.fetch_batch(pack, batch))
            .buffer_unordered(AT_ONCE)
            .try_fold(BTreeMap::new(), async |mut all, mut batch| {
                all.append(&mut batch);
                Ok(all)
            })
            .await
    }

    async fn fetch_batch(
        &self,
        pack: PackId,
        batch: Vec<(u32, Vec<u64>)>,
    ) -> Result<BTreeMap<u64, Bytes>, ImageError> {
        let first = batch.iter().flat_map(|(_, chunks)| chunks).min().copied().unwrap_or_default();
        let numbers: Vec<u32> = batch.iter().map(|(entry, _)| *entry).collect();
        let reader = self.reader.clone();
        // On a task of its own, so that opening and decompressing use all processors.
        let entries = self
            .runtime
            .spawn(async move { reader.entries(pack, &numbers).await })
            .await
            .map_err(|_| ImageError::BrokenOff)?
            .map_err(|cause| ImageError::pack(pack, self.bytes_of(first..first + 1), cause))?;
        let mut found = BTreeMap::new();
        let mut cache = lock(&self.cache);
        for (entry, (number, chunks)) in entries.into_iter().zip(&batch) {
            for chunk in chunks {
                let range = self.bytes_of(*chunk..chunk + 1);
                let expected = range.end - range.start;
                if entry.plain.len() as u64 != expected {
                    let actual = entry.plain.len() as u64;
                    return Err(ImageError::Misfit {
                        pack,
                        entry: *number,
                        offset: range.start,
                        actual,
                        expected,
                    });
                }
                cache.insert(*chunk, entry.plain.clone(), entry.plain.len() + 256);
                found.insert(*chunk, entry.plain.clone());
            }
        }
        Ok(found)
    }

    fn bytes_of(&self, chunks: Range<u64>) -> Range<u64> {
        chunks.start.saturating_mul(self.chunk_bytes).min(self.bytes)
            ..chunks.end.saturating_mul(self.chunk_bytes).min(self.bytes)
    }

    /// Copies the part of a chunk that lies in `buffer`, which begins at `offset`.
    fn copy(&self, chunk: u64, bytes: Option<&Bytes>, offset: u64, buffer: &mut [u8]) {
        let range = self.bytes_of(chunk..chunk + 1);
        let (start, end) = (range.start.max(offset), range.end.min(offset + buffer.len() as u64));
        if start >= end {
            return;
        }
        let at = |position: u64, from: u64| usize::try_from(position - from).expect("inside of a buffer");
        let target = &mut buffer[at(start, offset)..at(end, offset)];
        match bytes {
            Some(bytes) => target.copy_from_slice(&bytes[at(start, range.start)..at(end, range.start)]),
            None => target.fill(0),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panic left behind is still a cache, or a guess of where a reader is.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The range as the errors name it.
fn named(range: Range<u64>) -> ByteRange {
    let length = range.end.saturating_sub(range.start).max(1);
    ByteRange::at(range.start, length).unwrap_or_else(|_| ByteRange::at(0, 1).expect("it holds a byte"))
}
