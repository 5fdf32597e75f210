//! Promises of packs: what was pushed comes back, in bounded memory, and whatever is damaged is noticed.

mod damage;
mod rewriting;
mod writing;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use strongroom_model::RepositoryId;

use super::*;
use crate::chunk::{ChunkHasher, ChunkId, Compressor};
use crate::keys::Keyring;
use crate::seal::Cipher;
use crate::testing::{MemoryStore, SeededEntropy};

pub(super) fn context(store: &MemoryStore, seed: u64) -> PackContext {
    PackContext {
        store: Arc::new(store.clone()),
        keyring: Arc::new(Keyring::generate(&SeededEntropy::new(1)).with_cipher(Cipher::Aes256Gcm)),
        repository: RepositoryId::from_bytes([0x5a; 16]),
        entropy: Arc::new(SeededEntropy::new(seed)),
    }
}

/// Some bytes of length `bytes`, half of them compressible.
pub(super) fn content(seed: u64, bytes: usize) -> Bytes {
    let mut content = vec![0; bytes];
    let half = bytes / 2;
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut content[..half]);
    content[half..].fill(b'=');
    content.into()
}

/// Writes packs of these chunks; answers where each lies, and the receipts.
pub(super) async fn write(
    context: &PackContext,
    settings: PackSettings,
    chunks: &[Bytes],
) -> Result<(Vec<EntryRef>, Vec<StoredPack>), WriteError> {
    let receipts = Receipts::new();
    let mut writer = PackWriter::new(context.clone(), PackKind::Data, settings, receipts.clone());
    let hasher = ChunkHasher::new(&context.keyring, settings.domain);
    let mut compressor = Compressor::default();
    let mut places = Vec::new();
    for chunk in chunks {
        let at = writer.push(hasher.id(chunk), EntryType::Chunk, compressor.compress(chunk.clone())).await?;
        places.push(at);
    }
    writer.finish().await?;
    Ok((places, receipts.take_fresh()))
}

/// Reads every chunk back and compares.
pub(super) async fn read_all(
    context: &PackContext,
    packs: &[StoredPack],
    expected: &[(EntryRef, Bytes)],
) -> Result<(), PackError> {
    let fetcher = PackFetcher::new(context.clone(), 1 << 20);
    let mut by_pack: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (at, plain) in expected {
        by_pack.entry(at.pack).or_default().push((at.entry, plain));
    }
    for (pack, mut wanted) in by_pack {
        let place = packs.iter().find(|stored| stored.pack() == pack).unwrap().place();
        wanted.sort_by_key(|(entry, _)| *entry);
        let numbers: Vec<u32> = wanted.iter().map(|(entry, _)| *entry).collect();
        let entries = fetcher.entries(place, &numbers).await?;
        assert_eq!(entries.len(), wanted.len());
        for (entry, (number, plain)) in entries.iter().zip(wanted) {
            assert_eq!((entry.row.number, &entry.plain), (number, plain));
            assert_eq!(fetcher.entry(place, number).await?.plain, plain);
        }
    }
    Ok(())
}

pub(super) fn id_of(context: &PackContext, chunk: &Bytes) -> ChunkId {
    ChunkHasher::new(&context.keyring, 0).id(chunk)
}
