//! What is done to each chunk by itself, on all processors: is it zero, is it known, and if not, compress it.

use std::ops::Range;
use std::sync::Arc;
use std::thread::Scope;

use bytes::Bytes;
use strongroom_repository::Session;
use strongroom_repository::chunk::{ChunkHasher, ChunkId, Compressed, Compressor, is_zero};
use strongroom_repository::pack::EntryRef;
use tokio::sync::mpsc;

use super::budget::Paid;
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
}

/// Starts the workers.
pub(super) fn spawn<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    hasher: &ChunkHasher,
    session: &Arc<Session>,
    chunk_bytes: u32,
    filled: &Inbox<Filled>,
    done: &mpsc::Sender<Worked>,
    stop: &Stop,
) {
    let workers = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, MOST_WORKERS);
    for _ in 0..workers {
        let (hasher, session, stop) = (hasher.clone(), Arc::clone(session), stop.clone());
        let (filled, done) = (filled.clone(), done.clone());
        scope.spawn(move || {
            let mut compressor = Compressor::default();
            while let Some(Filled { slab, bytes }) = filled.next() {
                if stop.is_set() {
                    return;
                }
                let found = look_at(&bytes, chunk_bytes, &hasher, &session, &mut compressor);
                let worked = Worked { number: slab.number, chunks: slab.chunks, found, _paid: slab.paid };
                if done.blocking_send(worked).is_err() {
                    return;
                }
            }
        });
    }
}

fn look_at(
    bytes: &Bytes,
    chunk_bytes: u32,
    hasher: &ChunkHasher,
    session: &Session,
    compressor: &mut Compressor,
) -> Vec<Found> {
    let size = usize::try_from(chunk_bytes).expect("a chunk fits into memory");
    (0..bytes.len())
        .step_by(size)
        .map(|from| {
            let plain = bytes.slice(from..bytes.len().min(from + size));
            if is_zero(&plain) {
                return Found::Zero;
            }
            let id = hasher.id(&plain);
            match session.lookup(&id) {
                Some(at) => Found::Known(id, at),
                None => Found::New(id, compressor.compress(plain)),
            }
        })
        .collect()
}
