//! What is done to each chunk by itself, on all processors: is it zero, is it known, and if not, compress it: all of it, or
//! what changed since the parent, where that is less than a quarter.

use std::ops::Range;
use std::sync::Arc;
use std::thread::Scope;

use bytes::Bytes;
use strongroom_repository::Session;
use strongroom_repository::chunk::{Blocks, ChunkHasher, ChunkId, Compressed, Compressor, is_zero};
use strongroom_repository::map::{ChunkPlace, DeltaOf, MapReader};
use strongroom_repository::pack::{Delta, EntryRef};
use strongroom_repository::reader::PackReader;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::CaptureError;
use super::budget::Paid;
use super::effort::Effort;
use super::plan::Slab;
use super::read::Filled;
use super::room::Inbox;
use super::stop::Stop;

/// More threads than this only wait for one another.
const MOST_WORKERS: usize = 16;

/// A slab whose chunks were looked at.
#[derive(Debug)]
pub(super) struct Worked {
    pub(super) number: u64,
    pub(super) chunks: Range<u64>,
    pub(super) found: Vec<Found>,
    /// Given back when the slab is placed.
    pub(super) _paid: Paid,
}

/// What became of one chunk.
#[derive(Debug)]
pub(super) enum Found {
    /// All zeros: not stored.
    Zero,
    /// The repository has it, or will have it when this session publishes.
    Known(ChunkId, EntryRef),
    /// Nobody has it, as far as the index knows.
    New(ChunkId, Compressed),
    /// The same, but it differs from the parent's in a few blocks: a delta.
    Changed(ChunkId, DeltaOf, Compressed),
    /// It is as in the parent, which has a delta there.
    Same(ChunkPlace),
}

/// What a worker works with. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Worker {
    pub(super) hasher: ChunkHasher,
    pub(super) session: Arc<Session>,
    pub(super) chunk_bytes: u32,
    /// The parent, where the ranges are exactly what changed since.
    pub(super) changed_since: Option<MapReader>,
    /// How the parent's packs are read.
    pub(super) reader: PackReader,
    /// Where the parent is read.
    pub(super) runtime: Handle,
}

/// Starts the workers.
pub(super) fn spawn<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    worker: &Worker,
    filled: &Inbox<Filled>,
    done: &mpsc::Sender<Worked>,
    stop: &Stop,
) {
    let workers = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, MOST_WORKERS);
    for _ in 0..workers {
        let (worker, stop) = (worker.clone(), stop.clone());
        let (filled, done) = (filled.clone(), done.clone());
        scope.spawn(move || {
            let mut compressor = Compressor::default();
            let mut effort = Effort::begin();
            while let Some(Filled { slab, bytes }) = effort.waits(|| filled.next()) {
                if stop.is_set() {
                    return;
                }
                compressor.set_level(effort.level());
                let found = match worker.look_at(&slab, &bytes, &mut compressor) {
                    Ok(found) => found,
                    Err(error) => return stop.fail(error),
                };
                let worked = Worked { number: slab.number, chunks: slab.chunks, found, _paid: slab.paid };
                if effort.waits(|| done.blocking_send(worked)).is_err() {
                    return;
                }
            }
        });
    }
}

impl Worker {
    fn look_at(
        &self,
        slab: &Slab,
        bytes: &Bytes,
        compressor: &mut Compressor,
    ) -> Result<Vec<Found>, CaptureError> {
        let size = usize::try_from(self.chunk_bytes).expect("a chunk fits into memory");
        let chunks = (0..bytes.len()).step_by(size).zip(slab.chunks.start..);
        let found = chunks.map(|(from, chunk)| {
            let plain = bytes.slice(from..bytes.len().min(from + size));
            if is_zero(&plain) {
                return Ok(Found::Zero);
            }
            let id = self.hasher.id(&plain);
            if let Some(at) = self.session.lookup(&id) {
                return Ok(Found::Known(id, at));
            }
            let parents = match &self.changed_since {
                Some(parent) => self.runtime.block_on(parent.place(chunk)).map_err(CaptureError::Map)?,
                None => None,
            };
            if let Some(place) = parents.filter(|place| self.is_delta_of(place, id)) {
                return Ok(Found::Same(place));
            }
            let touched = slab.touched.get(&chunk);
            Ok(
                match parents
                    .zip(touched)
                    .and_then(|(place, touched)| self.built_on(&place, plain.len(), touched))
                {
                    Some(of) => {
                        let delta = Delta::encode(of.base, &of.blocks, &plain);
                        Found::Changed(id, of, compressor.compress(delta))
                    }
                    None => Found::New(id, compressor.compress(plain)),
                },
            )
        });
        found.collect()
    }

    /// Whether the parent has this very chunk as a delta. The index does not know deltas, and blocks that are listed need not
    /// have changed: a driver may have moved them.
    fn is_delta_of(&self, parents: &ChunkPlace, id: ChunkId) -> bool {
        parents.delta_of.is_some()
            && self
                .runtime
                .block_on(self.reader.footer(parents.at.pack))
                // A footer that cannot be read only costs that the chunk is stored again.
                .is_ok_and(|footer| footer.row(parents.at.entry).is_some_and(|row| row.id == id))
    }

    /// What a delta of a chunk of `bytes` would be built on, where one is worth it.
    fn built_on(&self, parents: &ChunkPlace, bytes: usize, touched: &Blocks) -> Option<DeltaOf> {
        // Never a delta of a delta: what had changed before has changed since the base as well.
        let of = match parents.delta_of {
            Some(of) => DeltaOf { blocks: of.blocks.union(touched), ..of },
            None => DeltaOf { base: parents.at, blocks: *touched },
        };
        let fits = of.blocks.end() <= Blocks::of_chunk(bytes) && Delta::is_worth_it(&of.blocks, bytes);
        (fits && self.session.refers_to(of.base)).then_some(of)
    }
}
