//! The way of the bytes: from ranges of a volume to a map, through bounded rooms.
//!
//! ```text
//! ranges -> [plan] -> [read] x4 -> [work] xCPU -> [place] x1 -> packs, map
//!           slabs on    1 MiB       zero? hash,      in the order of the volume: what the parent or
//!           the grid    direct      known? else      somebody else has is pointed to, the rest is
//!                                   compress         pushed into packs; every chunk into the map
//! ```
//! **Memory.** One byte budget covers everything in flight (`budget`): a slab pays when it is planned and gives back when it
//! was placed. Slabs pay in the order of the volume, so the one that everybody waits for has always paid already: the
//! rooms cannot block one another, and what waits in `place` for its turn is bounded by the same budget.
//!
//! **Effort.** Where the store or the disk is what everybody waits for, chunks are compressed harder (`effort`).
//!
//! **Deltas.** Where the ranges are what changed since the parent, and less than a quarter of a chunk did, only the changed
//! blocks are stored, with the name of the parent's chunk. The whole chunk is read and hashed all the same: that is cheap, and
//! gives it the id by which it is known and checked.
//!
//! **Ends.** The first error of any room stops all of them and is the answer. Nothing that was stored is taken back: the
//! session knows it, and the next run goes on from there.

mod budget;
mod effort;
mod error;
mod meter;
mod place;
mod plan;
mod read;
mod room;
mod stop;
mod work;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use strongroom_block_io::BlockSource;
use strongroom_model::ByteRange;
use strongroom_repository::map::{MapBase, MapReader, MapSpec, WrittenMap};
use strongroom_repository::{Repository, Session};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use budget::Budget;
pub use error::{CaptureError, ChangesError};
pub use meter::{Meter, Tally};

use budget::Purse;
use place::Placer;
use stop::Stop;

/// Ranges that may differ, in ascending order, as whoever knows them finds them.
pub type Changes = Box<dyn Iterator<Item = Result<ByteRange, ChangesError>> + Send>;

/// Which bytes are read, and what they are compared with.
pub enum Scope {
    /// What the source says is allocated; the rest is zero. Leaves that come out as in the parent are shared with it.
    Allocated(Option<MapReader>),
    /// The same, where somebody else (a driver) says what is allocated.
    Listed(Changes, Option<MapReader>),
    /// Only these ranges; everything else is as in the parent, in a touched chunk too but for the blocks of 4 KiB that are
    /// touched.
    Delta(Changes, MapReader),
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allocated(_) => "Allocated",
            Self::Listed(..) => "Listed",
            Self::Delta(..) => "Delta",
        })
    }
}

/// What a capture needs.
#[derive(Debug)]
pub struct Capture {
    /// Where to store.
    pub repository: Repository,
    /// In which session.
    pub session: Arc<Session>,
    /// What to read. It must not change while it is read: a snapshot, or an image that nobody writes to.
    pub source: Arc<dyn BlockSource>,
    /// Which part of it.
    pub scope: Scope,
    /// How much memory.
    pub budget: Budget,
    /// Where progress is counted.
    pub meter: Arc<Meter>,
    /// Stops it from outside.
    pub cancel: CancellationToken,
}

/// How long the threads may take to come to rest after an error. One that hangs in a read is left behind: nobody can
/// wake it.
const REST: Duration = Duration::from_secs(10);

/// Captures a volume. All packs that the map names are durable when it answers.
///
/// # Errors
/// The first error of any room. What was stored until then is kept by the session.
pub async fn capture(capture: Capture) -> Result<WrittenMap, CaptureError> {
    let Capture { repository, session, source, scope, budget, meter, cancel } = capture;
    let spec = MapSpec { volume_bytes: source.bytes(), chunk_bytes: repository.chunk_bytes() };
    let purse = Purse::new(budget);
    let stop = Stop::new(purse.clone());
    let _stop_when_dropped = stop.guard();

    let (changes, parent, base) = match scope {
        Scope::Allocated(parent) => (None, parent.clone(), MapBase::Full(parent)),
        Scope::Listed(changes, parent) => (Some(changes), parent.clone(), MapBase::Full(parent)),
        Scope::Delta(changes, parent) => (Some(changes), Some(parent.clone()), MapBase::Delta(parent)),
    };
    let full = matches!(base, MapBase::Full(_));
    let changed_since = parent.clone().filter(|_| !full);
    let resized =
        parent.as_ref().filter(|_| !full).and_then(|parent| plan::resized(parent.head().volume_bytes, spec));
    let map = session.map_writer(spec, base).map_err(CaptureError::Map)?;
    let mut placer = Placer::new(&repository, &session, map, parent, spec, full, Arc::clone(&meter));

    let (worked, arrivals) = mpsc::channel(read::READERS);
    let worker = work::Worker {
        hasher: repository.chunk_hasher(),
        session: Arc::clone(&session),
        chunk_bytes: spec.chunk_bytes,
        changed_since,
        reader: repository.reader(),
        runtime: Handle::current(),
    };
    let mut threads = {
        let stop = stop.clone();
        tokio::task::spawn_blocking(move || {
            let source = &*source;
            std::thread::scope(|scope| {
                let ranges =
                    changes.map_or_else(|| plan::allocated(source), |changes| changes as plan::Ranges<'_>);
                let slabs = plan::spawn(scope, ranges, resized, spec, &purse, &stop);
                let filled = read::spawn(scope, source, slabs, spec.chunk_bytes, &meter, &stop);
                work::spawn(scope, &worker, &filled, &worked, &stop);
                // The rooms hold what they need; the last of them to go ends the room after it.
                drop(worked);
            });
        })
    };
    let flow = async {
        placer.drain(arrivals).await?;
        // That no more arrives can also mean that a room stopped or panicked: only rooms that came to their end prove that all
        // of the volume was placed.
        (&mut threads).await.map_err(|_| CaptureError::Panicked)?;
        if stop.is_set() { Err(CaptureError::Cancelled) } else { placer.finish().await }
    };
    let captured = tokio::select! {
        captured = flow => captured,
        () = cancel.cancelled() => Err(CaptureError::Cancelled),
    };
    match captured {
        Ok(map) => Ok(map),
        Err(error) => {
            stop.fail(error);
            if !threads.is_finished() {
                // Nobody should still be reading a snapshot that is deleted next.
                let _ = tokio::time::timeout(REST, &mut threads).await;
            }
            Err(stop.take().unwrap_or(CaptureError::Cancelled))
        }
    }
}

#[cfg(test)]
mod tests;
