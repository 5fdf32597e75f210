//! Test vectors of deltas: `tests/vectors/format-1-deltas.json`. What is said of the vectors beside it holds here too.
//!
//! A volume of three chunks of 32 KiB and one of 10 000 bytes, and what changed in it: a block of the second chunk, and the short
//! last block of the last one, each stored as a delta.

use super::*;
use crate::chunk::Blocks;
use crate::map::{ChunkPlace, DeltaOf};
use crate::pack::Delta;

const CHUNK_BYTES: u32 = 32_768;
const VOLUME_BYTES: u64 = 3 * 32_768 + 10_000;

fn path() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/format-1-deltas.json")
}

fn context(store: &MemoryStore, seed: u64) -> PackContext {
    PackContext {
        store: Arc::new(store.clone()),
        keyring: Arc::new(keyrings().0),
        repository: REPOSITORY,
        entropy: Arc::new(SeededEntropy::new(seed)),
    }
}

fn text(seed: usize, bytes: usize) -> Vec<u8> {
    format!("line {seed} of a vector; ").bytes().cycle().take(bytes).collect()
}

async fn made() -> Value {
    let store = MemoryStore::default();
    let context = context(&store, 110);
    let spec = MapSpec { volume_bytes: VOLUME_BYTES, chunk_bytes: CHUNK_BYTES };
    let settings = PackSettings::default();
    let receipts = Receipts::new();
    let hasher = ChunkHasher::new(&context.keyring, settings.domain);
    let mut compressor = Compressor::default();
    let mut chunks: Vec<Vec<u8>> = (0..4).map(|n| text(n, if n == 3 { 10_000 } else { 32_768 })).collect();
    let mut places: Vec<EntryRef> = Vec::new();
    let mut points = Vec::new();
    let mut base = MapBase::Full(None);
    for changed in [&[][..], &[(1_usize, 5_u32), (3, 2)]] {
        let mut data = PackWriter::new(context.clone(), PackKind::Data, settings, receipts.clone());
        let mut map = MapWriter::new(context.clone(), settings, receipts.clone(), spec, base).unwrap();
        if places.is_empty() {
            for (number, chunk) in (0..).zip(&chunks) {
                let coded = compressor.compress(Bytes::from(chunk.clone()));
                let at = data.push(hasher.id(chunk), EntryType::Chunk, coded).await.unwrap();
                map.set(number, Some(at)).await.unwrap();
                places.push(at);
            }
        }
        for (number, block) in changed {
            let chunk = &mut chunks[*number];
            let start = (*block * 4096) as usize;
            let end = chunk.len().min(start + 4096);
            chunk[start..end].copy_from_slice(&text(100 + number, end - start));
            let mut blocks = Blocks::NONE;
            blocks.insert(*block);
            let of = DeltaOf { base: places[*number], blocks };
            let coded = compressor.compress(Delta::encode(of.base, &of.blocks, chunk));
            let at = data.push(hasher.id(chunk), EntryType::Delta, coded).await.unwrap();
            map.place(*number as u64, Some(ChunkPlace { at, delta_of: Some(of) })).await.unwrap();
        }
        data.finish().await.unwrap();
        let written = map.finish().await.unwrap();
        let places = receipts.stored().iter().map(crate::pack::StoredPack::place).collect();
        let source = Arc::new(Placed(PackFetcher::new(context.clone(), 1 << 20), places));
        let reader = MapReader::open(source, written.root).await.unwrap();
        let deltas = reader.deltas(0..4).await.unwrap();
        let deltas: Vec<Value> = deltas
            .iter()
            .map(|delta| json!({ "chunk": delta.chunk, "base": place(delta.of.base), "blocks": delta.of.blocks.iter().collect::<Vec<_>>() }))
            .collect();
        points.push(json!({
            "root": place(written.root.at),
            "deltas": deltas,
            "chunks": chunks.iter().map(|chunk| blake3::hash(chunk).to_hex().to_string()).collect::<Vec<_>>(),
        }));
        base = MapBase::Delta(reader);
    }
    let objects: serde_json::Map<String, Value> =
        store.objects().iter().map(|(name, bytes)| (name.clone(), hex::encode(bytes).into())).collect();
    let ring = &context.keyring;
    json!({
        "about": "Test vectors of deltas in Strongroom's repository format, version 1. See docs/format.md. Byte strings are hexadecimal.",
        "repository": REPOSITORY.hex(),
        "identity": hex::encode(ring.identity()),
        "masters": { "1": hex::encode(ring.master(1).unwrap()) },
        "chunk_bytes": CHUNK_BYTES,
        "volume_bytes": VOLUME_BYTES,
        "objects": objects,
        "maps": points,
    })
}

#[tokio::test]
async fn every_stored_byte_of_deltas_comes_out_as_it_was_written_down() {
    let text = serde_json::to_string_pretty(&made().await).unwrap() + "\n";
    if !path().exists() {
        std::fs::write(path(), &text).unwrap();
        panic!("{} was missing and is now written: look at it and run again", path().display());
    }
    assert!(std::fs::read_to_string(path()).unwrap() == text, "the format of stored bytes has changed");
}

#[tokio::test]
async fn deltas_that_were_written_down_are_read_from_the_objects_alone() {
    let kept: Value = serde_json::from_slice(&std::fs::read(path()).unwrap()).unwrap();
    let store = MemoryStore::default();
    let mut places = Vec::new();
    for (name, object) in kept["objects"].as_object().unwrap() {
        let (name, kind) = ObjectName::parse(name).unwrap();
        let crate::layout::ObjectKind::Pack(kind, object_of) = kind else { panic!("{name} is no pack") };
        let object = bytes(object);
        places.push(PackPlace { kind, object: object_of, bytes: object.len() as u64 });
        store.damage(&name, object);
    }
    let fetcher = PackFetcher::new(context(&store, 0), 1 << 20);
    let place_of = |at: EntryRef| *places.iter().find(|place| place.object.pack == at.pack).unwrap();
    for map in kept["maps"].as_array().unwrap() {
        let source = Arc::new(Placed(fetcher.clone(), places.clone()));
        let reader = MapReader::open(source, MapRoot { at: reference(&map["root"]) }).await.unwrap();
        let deltas = reader.deltas(0..4).await.unwrap();
        assert_eq!(deltas.len(), map["deltas"].as_array().unwrap().len());
        for (delta, expected) in deltas.iter().zip(map["deltas"].as_array().unwrap()) {
            assert_eq!(
                (delta.chunk, delta.of.base),
                (expected["chunk"].as_u64().unwrap(), reference(&expected["base"]))
            );
            assert_eq!(json!(delta.of.blocks.iter().collect::<Vec<_>>()), expected["blocks"]);
        }
        for (number, expected) in (0..).zip(map["chunks"].as_array().unwrap()) {
            let at = reader.get(number).await.unwrap().unwrap();
            let opened = fetcher.opened(place_of(at), &[at.entry]).await.unwrap().pop().unwrap();
            let plain = match opened.base() {
                None => opened.whole().unwrap().plain,
                Some(base) => {
                    let base = fetcher.entry(place_of(base), base.entry).await.unwrap().plain;
                    opened.onto(&base).unwrap().plain
                }
            };
            assert_eq!(blake3::hash(&plain).to_hex().as_str(), expected.as_str().unwrap());
        }
    }
}
