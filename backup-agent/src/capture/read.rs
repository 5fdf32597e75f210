//! Reading slabs: several threads, so that the disk always has something to do.

use std::sync::Arc;
use std::thread::Scope;

use bytes::Bytes;
use strongroom_block_io::{BlockSource, Buffer};

use super::CaptureError;
use super::meter::Meter;
use super::plan::Slab;
use super::room::{Inbox, queue};
use super::stop::Stop;

/// Reads under way at once. Four keep a solid-state disk and most network storage busy with reads of 1 MiB.
pub(super) const READERS: usize = 4;

/// A slab with its bytes.
#[derive(Debug)]
pub(super) struct Filled {
    pub(super) slab: Slab,
    /// The bytes of its chunks; the last chunk of the volume may be shorter.
    pub(super) bytes: Bytes,
}

/// Starts the readers.
pub(super) fn spawn<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    source: &'env dyn BlockSource,
    slabs: Inbox<Slab>,
    chunk_bytes: u32,
    meter: &Arc<Meter>,
    stop: &Stop,
) -> Inbox<Filled> {
    let (sender, inbox) = queue(READERS);
    for _ in 0..READERS {
        let (slabs, sender, meter, stop) = (slabs.clone(), sender.clone(), Arc::clone(meter), stop.clone());
        scope.spawn(move || {
            while let Some(slab) = slabs.next() {
                if stop.is_set() {
                    return;
                }
                let start = slab.chunks.start * u64::from(chunk_bytes);
                let end = (slab.chunks.end * u64::from(chunk_bytes)).min(source.bytes());
                let mut bytes = Buffer::of(usize::try_from(end - start).expect("a slab is at most 1 MiB"));
                if let Err(cause) = source.read_at(start, bytes.bytes_mut()) {
                    return stop.fail(CaptureError::Read(cause));
                }
                meter.scanned(end - start);
                if sender.send(Filled { slab, bytes: Bytes::from_owner(bytes) }).is_err() {
                    return;
                }
            }
        });
    }
    inbox
}
