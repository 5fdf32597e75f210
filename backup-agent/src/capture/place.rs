//! Placing chunks, in the order of the volume: where does each lie, and what is to be stored?

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use strongroom_repository::chunk::{ChunkId, Compressed};
use strongroom_repository::layout::PackKind;
use strongroom_repository::map::{ChunkPlace, DeltaOf, MapReader, MapSpec, MapWriter, WrittenMap};
use strongroom_repository::pack::{EntryRef, EntryType, PackWriter};
use strongroom_repository::reader::PackReader;
use strongroom_repository::{Repository, Session};
use tokio::sync::mpsc;

use super::CaptureError;
use super::meter::Meter;
use super::work::{Found, Worked};

/// How many of the last pushed chunks are remembered. A worker looked a chunk up before it came here; the same chunk may have
/// been pushed by another slab in between, and its pack stored. What is in flight are at most some thousand chunks.
const REMEMBERED: usize = 32_768;

/// Chunks of a parent's map that are looked at with one question.
const STRIDE: u64 = 1 << 20;

pub(super) struct Placer {
    data: PackWriter,
    map: MapWriter,
    parent: Option<Parent>,
    spec: MapSpec,
    /// What is not visited is zero, rather than as in the parent.
    full: bool,
    meter: Arc<Meter>,
    recent: Recent,
    /// Up to which chunk everything is placed.
    next_chunk: u64,
}

struct Parent {
    map: MapReader,
    reader: PackReader,
}

impl Placer {
    pub(super) fn new(
        repository: &Repository,
        session: &Session,
        map: MapWriter,
        parent: Option<MapReader>,
        spec: MapSpec,
        full: bool,
        meter: Arc<Meter>,
    ) -> Self {
        Self {
            data: session.pack_writer(PackKind::Data),
            map,
            parent: parent.map(|map| Parent { map, reader: repository.reader() }),
            spec,
            full,
            meter,
            recent: Recent::default(),
            next_chunk: 0,
        }
    }

    /// Places everything that arrives, until no more can.
    pub(super) async fn drain(&mut self, mut arrivals: mpsc::Receiver<Worked>) -> Result<(), CaptureError> {
        // Slabs come in any order; what waits here is bounded by the budget, and the one waited for is on its way.
        let mut waiting: BTreeMap<u64, Worked> = BTreeMap::new();
        let mut next = 0;
        while let Some(worked) = arrivals.recv().await {
            waiting.insert(worked.number, worked);
            while let Some(worked) = waiting.remove(&next) {
                self.place(worked).await?;
                next += 1;
            }
        }
        Ok(())
    }

    /// All of the volume was placed: ends the packs and the map.
    pub(super) async fn finish(mut self) -> Result<WrittenMap, CaptureError> {
        let chunks = self.spec.volume_bytes.div_ceil(u64::from(self.spec.chunk_bytes));
        self.pass_over(chunks).await?;
        self.meter.placed_up_to(self.spec.volume_bytes);
        // Data before maps: the map takes receipts.
        self.data.finish().await?;
        self.map.finish().await.map_err(CaptureError::Map)
    }

    async fn place(&mut self, worked: Worked) -> Result<(), CaptureError> {
        self.pass_over(worked.chunks.start).await?;
        let before = self.before(worked.chunks.clone()).await?;
        for ((chunk, old), found) in worked.chunks.clone().zip(before).zip(worked.found) {
            let now = match found {
                Found::Zero => None,
                Found::Known(id, at) => {
                    Some(self.prefer_parent(id, Some(at), old).await.unwrap_or_else(|| at.into()))
                }
                Found::New(id, compressed) => Some(self.store(id, compressed, old).await?),
                Found::Same(place) => Some(place),
                Found::Changed(id, of, compressed) => Some(self.store_delta(id, of, compressed).await?),
            };
            if now != old {
                self.meter.changed(self.bytes_of(chunk..chunk + 1));
            }
            self.map.place(chunk, now).await.map_err(CaptureError::Map)?;
        }
        self.next_chunk = worked.chunks.end;
        self.meter
            .placed_up_to((self.next_chunk * u64::from(self.spec.chunk_bytes)).min(self.spec.volume_bytes));
        Ok(())
    }

    /// A chunk that the index did not know.
    async fn store(
        &mut self,
        id: ChunkId,
        compressed: Compressed,
        old: Option<ChunkPlace>,
    ) -> Result<ChunkPlace, CaptureError> {
        if let Some(at) = self.recent.get(&id).or_else(|| self.data.pending(&id)) {
            return Ok(at.into());
        }
        // The index is a cache and may have been lost, and it does not know deltas. Where everything is read again, the
        // parent's own footers tell.
        if self.full
            && let Some(place) = self.prefer_parent(id, None, old).await
        {
            return Ok(place);
        }
        let plain_bytes = compressed.plain_bytes;
        let at = self.data.push(id, EntryType::Chunk, compressed).await?;
        self.meter.new_bytes(plain_bytes.into());
        self.recent.remember(id, at);
        Ok(at.into())
    }

    /// A chunk that differs from the parent's in a few blocks. Nobody else is pointed to it: they would need its base too.
    async fn store_delta(
        &mut self,
        id: ChunkId,
        of: DeltaOf,
        compressed: Compressed,
    ) -> Result<ChunkPlace, CaptureError> {
        if let Some(at) = self.recent.get(&id).or_else(|| self.data.pending(&id)) {
            return Ok(at.into());
        }
        let plain_bytes = compressed.plain_bytes;
        let at = self.data.push(id, EntryType::Delta, compressed).await?;
        self.meter.new_bytes(plain_bytes.into());
        Ok(ChunkPlace { at, delta_of: Some(of) })
    }

    /// The parent's own entry for this place, when it holds the same bytes as the chunk `id`. Content that is stored twice would
    /// otherwise make a map that differs from the parent's where nothing changed.
    async fn prefer_parent(
        &self,
        id: ChunkId,
        known: Option<EntryRef>,
        old: Option<ChunkPlace>,
    ) -> Option<ChunkPlace> {
        let (parent, old) = (self.parent.as_ref()?, old?);
        if known == Some(old.at) {
            return Some(old);
        }
        // A footer that cannot be read only costs that the bytes are stored, or pointed to, elsewhere.
        let footer = parent.reader.footer(old.at.pack).await.ok()?;
        footer.row(old.at.entry).is_some_and(|row| row.id == id).then_some(old)
    }

    /// Where these chunks lie in the parent.
    async fn before(&self, chunks: Range<u64>) -> Result<Vec<Option<ChunkPlace>>, CaptureError> {
        let count = usize::try_from(chunks.end - chunks.start).expect("a slab has few chunks");
        let mut before = vec![None; count];
        let Some(parent) = &self.parent else { return Ok(before) };
        let inside = chunks.start..chunks.end.min(parent.map.head().chunks());
        if inside.is_empty() {
            return Ok(before);
        }
        for run in parent.map.runs(inside.clone()).await.map_err(CaptureError::Map)? {
            for step in 0..run.count {
                let place =
                    (run.start + step).checked_sub(chunks.start).and_then(|at| usize::try_from(at).ok());
                if let (Some(place), Ok(step)) =
                    (place.and_then(|at| before.get_mut(at)), u32::try_from(step))
                {
                    *place = Some(EntryRef { pack: run.pack, entry: run.first_entry + step }.into());
                }
            }
        }
        for delta in parent.map.deltas(inside).await.map_err(CaptureError::Map)? {
            let place = usize::try_from(delta.chunk - chunks.start).ok().and_then(|at| before.get_mut(at));
            if let Some(Some(place)) = place {
                place.delta_of = Some(delta.of);
            }
        }
        Ok(before)
    }

    /// Chunks up to `until` were not visited. In a full capture they are zero: what the parent had there has changed.
    async fn pass_over(&mut self, until: u64) -> Result<(), CaptureError> {
        let (mut from, full) = (self.next_chunk, self.full);
        self.next_chunk = self.next_chunk.max(until);
        let Some(parent) = self.parent.as_ref().filter(|_| full) else { return Ok(()) };
        let end = until.min(parent.map.head().chunks());
        while from < end {
            let to = end.min(from + STRIDE);
            for run in parent.map.runs(from..to).await.map_err(CaptureError::Map)? {
                self.meter.changed(self.bytes_of(run.start..run.start + run.count));
            }
            from = to;
        }
        Ok(())
    }

    fn bytes_of(&self, chunks: Range<u64>) -> u64 {
        let chunk_bytes = u64::from(self.spec.chunk_bytes);
        (chunks.end * chunk_bytes).min(self.spec.volume_bytes).saturating_sub(chunks.start * chunk_bytes)
    }
}

/// The last chunks that were pushed.
#[derive(Debug, Default)]
struct Recent {
    places: HashMap<ChunkId, EntryRef>,
    order: VecDeque<ChunkId>,
}

impl Recent {
    fn get(&self, id: &ChunkId) -> Option<EntryRef> {
        self.places.get(id).copied()
    }

    fn remember(&mut self, id: ChunkId, at: EntryRef) {
        if self.places.insert(id, at).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.places.remove(&oldest);
        }
    }
}
