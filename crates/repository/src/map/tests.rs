//! Promises of maps, held against a plain list of chunks as the model.

mod properties;
mod sharing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use strongroom_model::{PackId, RepositoryId};

use super::*;
use crate::keys::Keyring;
use crate::layout::PackKind;
use crate::pack::{Entry, EntrySource, FetchError, PackContext, PackFetcher, PackSettings, Receipts};
use crate::seal::Cipher;
use crate::testing::{MemoryStore, SeededEntropy};

/// Reads from the packs that have receipts.
#[derive(Debug, Clone)]
pub(super) struct Source {
    fetcher: PackFetcher,
    receipts: Receipts,
}

#[async_trait]
impl EntrySource for Source {
    async fn entry(&self, _: PackKind, at: EntryRef) -> Result<Entry, FetchError> {
        let receipt = self.receipts.get(&at.pack).ok_or(FetchError::NotListed { pack: at.pack })?;
        Ok(self.fetcher.entry(receipt.place(), at.entry).await?)
    }
}

pub(super) struct World {
    pub(super) store: MemoryStore,
    pub(super) context: PackContext,
    pub(super) receipts: Receipts,
}

pub(super) const CHUNK_BYTES: u32 = 65_536;

impl World {
    pub(super) fn new() -> Self {
        let store = MemoryStore::default();
        let context = PackContext {
            store: Arc::new(store.clone()),
            keyring: Arc::new(Keyring::generate(&SeededEntropy::new(1)).with_cipher(Cipher::Aes256Gcm)),
            repository: RepositoryId::from_bytes([0x5a; 16]),
            entropy: Arc::new(SeededEntropy::new(2)),
        };
        Self { store, context, receipts: Receipts::new() }
    }

    pub(super) fn writer(&self, chunks: u64, base: MapBase) -> MapWriter {
        let spec = MapSpec { volume_bytes: chunks * u64::from(CHUNK_BYTES), chunk_bytes: CHUNK_BYTES };
        MapWriter::new(self.context.clone(), PackSettings::default(), self.receipts.clone(), spec, base)
            .unwrap()
    }

    pub(super) async fn write(
        &self,
        chunks: u64,
        base: MapBase,
        changes: impl IntoIterator<Item = (u64, Option<EntryRef>)>,
    ) -> MapReader {
        let changes = changes.into_iter().map(|(chunk, at)| (chunk, at.map(ChunkPlace::from)));
        self.write_places(chunks, base, changes).await
    }

    pub(super) async fn write_places(
        &self,
        chunks: u64,
        base: MapBase,
        changes: impl IntoIterator<Item = (u64, Option<ChunkPlace>)>,
    ) -> MapReader {
        let mut writer = self.writer(chunks, base);
        for (chunk, place) in changes {
            writer.place(chunk, place).await.unwrap();
        }
        let written = writer.finish().await.unwrap();
        let reader = self.open(written.root).await;
        assert_eq!(*reader.head(), *written.head);
        reader
    }

    pub(super) async fn open(&self, root: MapRoot) -> MapReader {
        let source = Source {
            fetcher: PackFetcher::new(self.context.clone(), 1 << 20),
            receipts: self.receipts.clone(),
        };
        MapReader::open(Arc::new(source), root).await.unwrap()
    }
}

pub(super) fn at(pack: u8, entry: u32) -> EntryRef {
    EntryRef { pack: PackId::from_bytes([pack; 16]), entry }
}

/// What the map says, chunk by chunk.
pub(super) async fn cells(reader: &MapReader) -> BTreeMap<u64, EntryRef> {
    let mut cells = BTreeMap::new();
    for run in reader.runs(0..u64::MAX).await.unwrap() {
        for step in 0..run.count {
            let entry = run.first_entry + u32::try_from(step).unwrap();
            assert_eq!(cells.insert(run.start + step, EntryRef { pack: run.pack, entry }), None);
        }
    }
    cells
}

/// That the head's lists are exact: nothing missing, nothing too much, every count right.
pub(super) async fn assert_exact(reader: &MapReader) {
    let mut data: BTreeMap<PackId, u64> = BTreeMap::new();
    for at in cells(reader).await.values() {
        *data.entry(at.pack).or_default() += 1;
    }
    for delta in reader.deltas(0..u64::MAX).await.unwrap() {
        *data.entry(delta.of.base.pack).or_default() += 1;
    }
    let mut maps: BTreeMap<PackId, u64> = BTreeMap::from([(reader.root().at.pack, 1)]);
    for at in reader.nodes().values() {
        *maps.entry(at.pack).or_default() += 1;
        for at in reader.node(*at).await.unwrap().leaves.values() {
            *maps.entry(at.pack).or_default() += 1;
        }
    }
    let list = |needed: &[NeededPack]| needed.iter().map(|needed| (needed.pack, needed.references)).collect();
    let head = reader.head();
    assert_eq!((list(&head.data_packs), list(&head.map_packs)), (data.clone(), maps.clone()));

    let mut needed = EntrySet::new();
    reader.walk(&mut needed).await.unwrap();
    let walked: BTreeSet<PackId> = needed.packs().collect();
    assert_eq!(walked, data.keys().chain(maps.keys()).copied().collect());
    assert_eq!(head.packs(), walked.into_iter().collect::<Vec<_>>());
}
