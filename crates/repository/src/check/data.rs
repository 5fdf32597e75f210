//! Reading packs whole, once, in ranges: many requests on their way, both cores at work, little memory.
//!
//! What proves what. Each entry is opened under its pack's key, decompressed, and its id computed again: that proves every
//! content. The footer is sealed, and its copy of the header and its lengths pin every other byte; all but the 32 bytes of
//! the trailer's hash. That hash is computed again on the way, so that one who scrubs without the key tomorrow sees what
//! was seen today.
//!
//! A pack's ranges are looked at in order (the hash needs it); packs side by side. Each range holds its place in one budget
//! from its request until it was looked at.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use strongroom_model::chain;
use tokio::sync::Semaphore;

use super::packs::Seen;
use crate::entry_runs::EntryRuns;
use crate::pack::{self, EntryRow, Footer, PackContext, PackError, PackPlace, WholeReader};
use crate::seal::SealError;

/// Bytes of one request.
const RANGE_BYTES: u64 = 2 << 20;

/// Requests on the way, and ranges waiting: together 56 MiB.
const RANGES: usize = 28;

/// Packs side by side. Small ones are a request each, so there are as many.
pub(super) const PACKS_AT_ONCE: usize = 20;

/// Ranges of one pack that are asked for ahead.
const AHEAD: usize = 8;

/// The budget of one check.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    ranges: Arc<Semaphore>,
    cores: Arc<Semaphore>,
}

impl Budget {
    pub(super) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self { ranges: Arc::new(Semaphore::new(RANGES)), cores: Arc::new(Semaphore::new(cores)) }
    }
}

/// Reads all of a pack. The footer comes with the answer, where it could be read.
pub(super) async fn read_whole(
    context: &PackContext,
    place: PackPlace,
    budget: &Budget,
) -> (Option<Arc<Footer>>, Seen) {
    let footer = match pack::read_footer(context, place).await {
        Ok(footer) => Arc::new(footer),
        Err(error) => return (None, Seen::all_lost(&error)),
    };
    let ranges: Vec<_> = WholeReader::ranges(&footer, RANGE_BYTES).collect();
    let whole = footer.whole();
    let fetch = |(start, end, rows): (u64, u64, Vec<EntryRow>)| {
        let whole = whole.clone();
        async move {
            let held = Arc::clone(&budget.ranges).acquire_owned().await;
            let bytes = match whole {
                // A small pack came with its footer.
                Some(whole) => Ok(pack::slice(&whole, start, end)),
                None => pack::read_range(context, place, start, end - start).await,
            };
            (start, rows, bytes, held)
        }
    };
    let mut parts = futures::stream::iter(ranges).map(fetch).buffered(AHEAD);
    let mut reader = WholeReader::new(Arc::clone(&footer));
    let mut seen = Seen::default();
    while let Some((start, rows, bytes, held)) = parts.next().await {
        let bytes: Bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => {
                seen.note(&error);
                seen.lost.extend(&rows.iter().map(|row| row.number).collect::<EntryRuns>());
                reader.spoil();
                continue;
            }
        };
        seen.read_bytes += bytes.len() as u64;
        let core = Arc::clone(&budget.cores).acquire_owned().await;
        let looked = crate::off_thread::run(move || {
            let wrong = reader.look(start, &rows, &bytes);
            drop((bytes, held, core));
            (reader, wrong)
        });
        let wrong;
        match looked.await {
            Ok(done) => (reader, wrong) = done,
            Err(stopped) => {
                // The runtime is shutting down.
                seen.what.get_or_insert_with(|| stopped.to_string());
                seen.is_unclear = true;
                return (Some(footer), seen);
            }
        }
        for (entry, error) in wrong {
            seen.lost.insert_run(entry, 1);
            seen.note(&error);
        }
    }
    if let Err(error) = reader.finish() {
        seen.note(&error);
    }
    (Some(footer), seen)
}

impl Seen {
    /// The footer cannot be had, so nothing can.
    pub(super) fn all_lost(error: &PackError) -> Self {
        let mut seen = Self { is_all_lost: true, ..Self::default() };
        seen.note(error);
        seen
    }

    /// The object as it is, compared with the hash at its end: no key is needed.
    pub(super) async fn hashed(context: &PackContext, place: PackPlace) -> Self {
        let scrubbed = pack::scrub(&*context.store, place.kind, place.object, place.bytes).await;
        match scrubbed {
            Ok(_) => Self { read_bytes: place.bytes, ..Self::default() },
            Err(error) => Self::all_lost(&error),
        }
    }

    /// Of many things that are wrong the first is told.
    pub(super) fn note(&mut self, error: &PackError) {
        self.is_unclear |= matches!(
            error,
            PackError::Store { .. }
                | PackError::Unknown { .. }
                | PackError::Sealed {
                    cause: SealError::UnknownEpoch { .. } | SealError::NoDataKey { .. },
                    ..
                }
        );
        self.what.get_or_insert_with(|| chain(error));
    }
}
