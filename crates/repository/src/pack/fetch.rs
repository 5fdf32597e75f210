//! Reads footers and entries from objects, with few requests.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::OnceCell;

use super::footer::{Tail, parse_tail};
use super::{
    Cache, Content, Entry, EntryRef, EntryRow, FetchError, Footer, PackContext, PackError, PackPlace,
    assemble, open_content,
};
use crate::layout::PackKind;
use crate::store::{ObjectStore, StoreError};

/// The end of a pack that is read at first: holds the footer of 64 MiB of chunks that halve (2,000 rows of 48 bytes)
/// with room, and small packs whole.
const TAIL_BYTES: u64 = 192 << 10;
/// Entries with less than this between them come with one request: at 100 MB/s a request's latency is worth as much.
const GAP_BYTES: u64 = 256 << 10;
/// The most that one request brings.
const SPAN_BYTES: u64 = 8 << 20;
/// Damaged bytes are asked for elsewhere so often at most: a repository and three copies.
const MOST_SOURCES: usize = 3;
/// Map nodes are small and read in order: they come in blocks.
const BLOCK_BYTES: u64 = 256 << 10;

/// Where maps read their nodes from: something that knows which object holds a pack now.
#[async_trait]
pub trait EntrySource: fmt::Debug + Send + Sync {
    /// One entry of a logical pack.
    async fn entry(&self, kind: PackKind, at: EntryRef) -> Result<Entry, FetchError>;
}

/// Reads the footer of a pack: one request for nearly every pack, two for one of very many entries.
///
/// # Errors
/// When the object is missing, damaged, or not that pack.
pub async fn read_footer(context: &PackContext, place: PackPlace) -> Result<Footer, PackError> {
    let mut wanted = TAIL_BYTES;
    loop {
        let bytes = wanted.min(place.bytes);
        let tail = read(&*context.store, place, place.bytes - bytes, bytes).await?;
        match parse_tail(context, place, &tail)? {
            Tail::Footer(footer) => return Ok(*footer),
            // It asks for more than it was given, so this ends: the second time it has what it asked for.
            Tail::Longer(needed) => wanted = needed,
        }
    }
}

/// Bytes of an object. Where the store refuses the range, says whether the object has another size than it should.
pub(super) async fn read(
    store: &dyn ObjectStore,
    place: PackPlace,
    start: u64,
    length: u64,
) -> Result<Bytes, PackError> {
    let name = place.name();
    let object = || name.to_string();
    if length == 0 {
        return Err(PackError::Damaged { object: object(), what: "it is said to be empty".to_owned() });
    }
    match store.get_range(&name, start, length).await {
        Ok(bytes) if bytes.len() as u64 == length => Ok(bytes),
        Ok(bytes) => {
            let what = format!("{} bytes came for {length}", bytes.len());
            Err(PackError::Damaged { object: object(), what })
        }
        Err(StoreError::NotFound { .. }) => Err(PackError::Missing { object: object() }),
        Err(cause) => match store.head(&name).await {
            Ok(info) if info.bytes != place.bytes => {
                let what = format!("it has {} bytes, {} were written", info.bytes, place.bytes);
                Err(PackError::Damaged { object: object(), what })
            }
            _ => Err(PackError::Store { object: object(), cause }),
        },
    }
}

/// An entry whose seal was opened.
#[derive(Debug, Clone)]
pub struct Opened {
    footer: Arc<Footer>,
    row: EntryRow,
    content: Content,
}

impl Opened {
    /// Opens the sealed bytes of an entry, whatever its type.
    ///
    /// # Errors
    /// When the bytes are not those of this row.
    pub fn of(footer: &Arc<Footer>, row: &EntryRow, sealed: &[u8]) -> Result<Self, PackError> {
        Ok(Self { footer: Arc::clone(footer), row: *row, content: open_content(footer, row, sealed)? })
    }

    /// What the footer says of it.
    #[must_use]
    pub const fn row(&self) -> &EntryRow {
        &self.row
    }

    /// Where it lies.
    #[must_use]
    pub fn at(&self) -> EntryRef {
        EntryRef { pack: self.footer.place().object.pack, entry: self.row.number }
    }

    /// The chunk that it is built on, if it is a delta.
    #[must_use]
    pub const fn base(&self) -> Option<EntryRef> {
        match &self.content {
            Content::Whole(_) => None,
            Content::Delta(delta) => Some(delta.base),
        }
    }

    /// The entry, of one that is not a delta.
    ///
    /// # Errors
    /// When it is one.
    pub fn whole(self) -> Result<Entry, PackError> {
        match self.content {
            Content::Whole(plain) => Ok(Entry { row: self.row, plain }),
            Content::Delta(_) => Err(PackError::EntryDamaged {
                object: self.footer.place().name().to_string(),
                entry: self.row.number,
                what: "it is a delta, which cannot be a base or part of a map",
            }),
        }
    }

    /// The entry, given the plain bytes of its base where it is a delta.
    ///
    /// # Errors
    /// When they do not make the chunk that the entry stands for.
    pub fn onto(self, base: &[u8]) -> Result<Entry, PackError> {
        let plain = match self.content {
            Content::Whole(plain) => plain,
            Content::Delta(delta) => assemble(&self.footer, &self.row, &delta, base)?,
        };
        Ok(Entry { row: self.row, plain })
    }
}

/// A cache whose values are read once, by the first who asks.
type Shared<K, V> = Mutex<Cache<K, Arc<OnceCell<V>>>>;

/// Reads footers (cached by object) and entries (neighbours in one request). Cheap to clone.
#[derive(Debug, Clone)]
pub struct PackFetcher(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    context: PackContext,
    footers: Shared<PackPlace, Arc<Footer>>,
    blocks: Shared<(PackPlace, u64), Bytes>,
}

impl PackFetcher {
    /// A fetcher that keeps at most about `cache_bytes` of footers, and a quarter of that of blocks of map packs.
    #[must_use]
    pub fn new(context: PackContext, cache_bytes: usize) -> Self {
        Self(Arc::new(Inner {
            context,
            footers: Mutex::new(Cache::new(cache_bytes)),
            blocks: Mutex::new(Cache::new(cache_bytes / 4)),
        }))
    }

    /// The footer of a pack. Of many who ask at once, one reads.
    ///
    /// # Errors
    /// As [`read_footer`].
    pub async fn footer(&self, place: PackPlace) -> Result<Arc<Footer>, PackError> {
        let cell = cell(&self.0.footers, place, 4096);
        if let Some(footer) = cell.get() {
            return Ok(Arc::clone(footer));
        }
        let footer = cell.get_or_try_init(|| async { self.sound_footer(place).await.map(Arc::new) }).await?;
        lock(&self.0.footers).insert(place, Arc::clone(&cell), footer.memory_bytes());
        Ok(Arc::clone(footer))
    }

    /// A footer that is damaged is read again for as long as the store knows another source.
    async fn sound_footer(&self, place: PackPlace) -> Result<Footer, PackError> {
        for _ in 0..MOST_SOURCES {
            match read_footer(&self.0.context, place).await {
                Err(error) if error.is_damage() && self.0.context.store.distrust(&place.name()) => {}
                answer => return answer,
            }
        }
        read_footer(&self.0.context, place).await
    }

    /// One entry.
    ///
    /// # Errors
    /// When there is no such entry, or the pack cannot be read.
    pub async fn entry(&self, place: PackPlace, number: u32) -> Result<Entry, PackError> {
        let mut entries = self.entries(place, &[number]).await?;
        Ok(entries.pop().expect("an entry that is not there is an error"))
    }

    /// Entries, in the order asked for, which must be ascending; those that lie near each other come with one request. The
    /// whole result is in memory: ask for a few MiB at a time.
    ///
    /// # Errors
    /// When one of them cannot be read, or is a delta: those need another pack too ([`Self::opened`]).
    pub async fn entries(&self, place: PackPlace, numbers: &[u32]) -> Result<Vec<Entry>, PackError> {
        let opened = self.opened(place, numbers).await?;
        opened.into_iter().map(Opened::whole).collect()
    }

    /// [`Self::entries`] of any type; what a delta needs besides is the caller's to fetch.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub async fn opened(&self, place: PackPlace, numbers: &[u32]) -> Result<Vec<Opened>, PackError> {
        for _ in 0..MOST_SOURCES {
            match self.opened_once(place, numbers).await {
                Err(error) if error.is_damage() && self.0.context.store.distrust(&place.name()) => {
                    // A footer holds the entries that came with it.
                    lock(&self.0.footers).remove(&place);
                    lock(&self.0.blocks).clear();
                }
                answer => return answer,
            }
        }
        self.opened_once(place, numbers).await
    }

    async fn opened_once(&self, place: PackPlace, numbers: &[u32]) -> Result<Vec<Opened>, PackError> {
        let footer = self.footer(place).await?;
        let rows: Vec<EntryRow> =
            numbers.iter().map(|number| footer.found(*number).copied()).collect::<Result<_, _>>()?;
        let mut entries = Vec::with_capacity(rows.len());
        for span in spans(&rows) {
            let (start, end) = (span[0].offset, span[span.len() - 1].end());
            let bytes = match footer.sealed(&span[0]) {
                Some(_) => None,
                None if place.kind == PackKind::Map => Some(self.by_blocks(place, start, end).await?),
                None => Some(read(&*self.0.context.store, place, start, end - start).await?),
            };
            for row in span {
                let sealed = match &bytes {
                    Some(bytes) => slice(bytes, row.offset - start, row.end() - start),
                    None => footer.sealed(row).unwrap_or_default(),
                };
                entries.push(Opened::of(&footer, row, &sealed)?);
            }
        }
        Ok(entries)
    }

    /// Bytes of a map pack, by way of cached blocks.
    async fn by_blocks(&self, place: PackPlace, start: u64, end: u64) -> Result<Bytes, PackError> {
        let (first, last) = (start / BLOCK_BYTES, (end - 1) / BLOCK_BYTES);
        if last - first > 4 {
            return read(&*self.0.context.store, place, start, end - start).await;
        }
        let mut gathered = Vec::new();
        for block in first..=last {
            let cell =
                cell(&self.0.blocks, (place, block), usize::try_from(BLOCK_BYTES).unwrap_or(usize::MAX));
            let from = block * BLOCK_BYTES;
            let length = BLOCK_BYTES.min(place.bytes.saturating_sub(from));
            let bytes = cell.get_or_try_init(|| read(&*self.0.context.store, place, from, length)).await?;
            let part = slice(bytes, start.max(from) - from, end.min(from + length) - from);
            if first == last {
                return Ok(part);
            }
            gathered.extend_from_slice(&part);
        }
        Ok(gathered.into())
    }
}

/// Groups of neighbours: each is read with one request.
pub(super) fn spans(rows: &[EntryRow]) -> impl Iterator<Item = &[EntryRow]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let first = rest.first()?;
        let count = 1 + rest
            .windows(2)
            .take_while(|pair| {
                pair[1].offset.checked_sub(pair[0].end()).is_some_and(|gap| gap <= GAP_BYTES)
                    && pair[1].end() - first.offset <= SPAN_BYTES
            })
            .count();
        let (span, after) = rest.split_at(count);
        rest = after;
        Some(span)
    })
}

/// A part of `bytes`; empty where it is not there, which no seal accepts.
pub(crate) fn slice(bytes: &Bytes, start: u64, end: u64) -> Bytes {
    match (usize::try_from(start), usize::try_from(end)) {
        (Ok(start), Ok(end)) if start <= end && end <= bytes.len() => bytes.slice(start..end),
        _ => Bytes::new(),
    }
}

fn cell<K: Copy + Eq + std::hash::Hash, T>(cache: &Shared<K, T>, key: K, cost: usize) -> Arc<OnceCell<T>> {
    let mut cache = lock(cache);
    cache.get(&key).unwrap_or_else(|| {
        let cell = Arc::new(OnceCell::new());
        cache.insert(key, Arc::clone(&cell), cost);
        cell
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A cache that a panic left behind is still a cache.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
