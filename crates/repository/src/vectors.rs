//! Test vectors of format version 1: `tests/vectors/format-1.json`.
//!
//! Each value there was made by this module from a seed, and must come out the same for ever: whoever changes a stored
//! byte changes this file, and must not. It is also what a reader in another language is tried with (docs/format.md).
//! To add vectors, delete the file and run this test; then look at the difference: what was there may not change. (Another
//! version of zstd may compress to other bytes. Then this one test says so; that the old bytes are still read, the other does.)

mod deltas;
mod rings;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use strongroom_model::RepositoryId;

use crate::chunk::{ChunkHasher, Compressor, chunk_id};
use crate::index::IndexRun;
use crate::keys::{KeyFile, KeySlot, Keyring, Passphrase, PassphraseCost, Unlock};
use crate::layout::{ObjectName, PackKind};
use crate::map::{MapBase, MapReader, MapRoot, MapSpec, MapWriter};
use crate::pack::{
    Entry, EntryRef, EntrySource, EntryType, FetchError, PackContext, PackFetcher, PackPlace, PackSettings,
    PackWriter, Receipts,
};
use crate::seal::{self, BlobKind, Cipher};
use crate::testing::{MemoryStore, SeededEntropy};

const REPOSITORY: RepositoryId = RepositoryId::from_bytes(*b"vectors of fmt 1");
const PASSPHRASE: &str = "correct horse battery staple";

fn path() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/format-1.json")
}

/// Two epochs: what is sealed first lies under the first.
fn keyrings() -> (Keyring, Keyring) {
    let entropy = SeededEntropy::new(100);
    let first = Keyring::generate(&entropy).with_cipher(Cipher::Aes256Gcm);
    let second = first.rotated(&entropy);
    (first, second)
}

fn keys() -> Value {
    let (_, ring) = keyrings();
    let key = KeyFile::generate(&SeededEntropy::new(101));
    let at = "2026-11-21T08:00:00Z".parse().unwrap();
    let unlocks =
        [Unlock::KeyFile(key.clone()), Unlock::Passphrase(Passphrase::new(PASSPHRASE.to_owned()).unwrap())];
    let entropy = SeededEntropy::new(102);
    let slots: Vec<Value> = unlocks
        .iter()
        .map(|unlock| {
            let cost = PassphraseCost { memory_kib: 256, passes: 2, lanes: 1 };
            let slot = KeySlot::wrap(REPOSITORY, &ring, unlock, "the säfe", at, cost, &entropy).unwrap();
            assert!(slot.open(REPOSITORY, unlock).is_ok());
            json!({
                "object": ObjectName::key_slot(slot.id()).as_str(),
                "text": String::from_utf8(slot.encode().to_vec()).unwrap(),
            })
        })
        .collect();
    json!({
        "key_file": key.text().as_str(),
        "passphrase": PASSPHRASE,
        "identity": hex::encode(ring.identity()),
        "masters": { "1": hex::encode(ring.master(1).unwrap()), "2": hex::encode(ring.master(2).unwrap()) },
        "slots": slots,
    })
}

fn chunk_ids() -> Vec<Value> {
    let (ring, _) = keyrings();
    let ids = [(0, &b""[..]), (0, b"content"), (1, b"content")].map(|(domain, plain)| {
        json!({ "domain": domain, "plain": hex::encode(plain), "id": chunk_id(&ring, domain, plain).to_string() })
    });
    let node = ChunkHasher::of_maps(&ring).id(b"content").to_string();
    ids.into_iter().chain([json!({ "map": true, "plain": hex::encode(b"content"), "id": node })]).collect()
}

fn blobs() -> Vec<Value> {
    let (first, second) = keyrings();
    let long = "a line that repeats; ".repeat(40);
    [
        (&first, BlobKind::JournalRecord, 1_u64.to_le_bytes().to_vec(), b"short".to_vec()),
        (&second, BlobKind::Checkpoint, 256_u64.to_le_bytes().to_vec(), long.into_bytes()),
        (
            &first.clone().with_cipher(Cipher::ChaCha20Poly1305),
            BlobKind::JournalRecord,
            vec![7; 8],
            Vec::new(),
        ),
    ]
    .into_iter()
    .map(|(ring, kind, binding, plain)| {
        let sealed = seal::seal(ring, REPOSITORY, kind, &binding, &plain, &SeededEntropy::new(103)).unwrap();
        assert_eq!(seal::open(&second, REPOSITORY, kind, &binding, &sealed).unwrap(), plain);
        json!({
            "kind": kind as u8,
            "binding": hex::encode(binding),
            "plain": hex::encode(plain),
            "sealed": hex::encode(sealed),
        })
    })
    .collect()
}

fn place(at: EntryRef) -> Value {
    json!({ "pack": at.pack.hex(), "entry": at.entry })
}

/// A volume of 5000 chunks of 16 KiB, and what changed in it: two data packs, a rewritten one, two maps, an index run.
async fn volume() -> Value {
    let store = MemoryStore::default();
    let context = PackContext {
        store: Arc::new(store.clone()),
        keyring: Arc::new(keyrings().0),
        repository: REPOSITORY,
        entropy: Arc::new(SeededEntropy::new(104)),
    };
    let spec = MapSpec { volume_bytes: 5000 * 16_384 - 1000, chunk_bytes: 16_384 };
    let settings = PackSettings { domain: 3, ..PackSettings::default() };
    let receipts = Receipts::new();
    let hasher = ChunkHasher::new(&context.keyring, settings.domain);
    let mut compressor = Compressor::default();
    let mut chunks = Vec::new();
    let mut index = Vec::new();
    let mut maps: Vec<MapReader> = Vec::new();
    for numbers in [vec![0_u64, 1, 2, 1023, 1024, 4999], vec![1, 3000]] {
        let mut data = PackWriter::new(context.clone(), PackKind::Data, settings, receipts.clone());
        let base = maps.last().map_or(MapBase::Full(None), |last| MapBase::Delta(last.clone()));
        let mut map = MapWriter::new(context.clone(), settings, receipts.clone(), spec, base).unwrap();
        for number in numbers {
            // Even ones compress, odd ones do not.
            let mut plain = vec![b'0' + u8::try_from(maps.len()).unwrap(); 100];
            plain.extend_from_slice(&number.to_le_bytes());
            if number % 2 == 1 {
                blake3::Hasher::new().update(&plain).finalize_xof().fill(&mut plain);
            }
            let plain = Bytes::from(plain);
            let id = hasher.id(&plain);
            let at = data.push(id, EntryType::Chunk, compressor.compress(plain.clone())).await.unwrap();
            map.set(number, Some(at)).await.unwrap();
            chunks.push(json!({ "at": place(at), "id": id.to_string(), "plain": hex::encode(plain) }));
            index.push((id, at));
        }
        data.finish().await.unwrap();
        let written = map.finish().await.unwrap();
        let places = receipts.stored().iter().map(crate::pack::StoredPack::place).collect();
        let source = Arc::new(Placed(PackFetcher::new(context.clone(), 1 << 20), places));
        maps.push(MapReader::open(source, written.root).await.unwrap());
    }
    let mut described = Vec::new();
    for map in &maps {
        let runs = map.runs(0..5000).await.unwrap();
        let runs: Vec<Value> =
            runs.iter().map(|run| json!([run.start, run.count, run.pack.hex(), run.first_entry])).collect();
        described.push(json!({
            "root": place(map.root().at),
            "volume_bytes": map.head().volume_bytes,
            "chunk_bytes": map.head().chunk_bytes,
            "packs": map.head().packs().iter().map(|pack| pack.hex()).collect::<Vec<_>>(),
            "runs": runs,
        }));
    }
    let first = receipts
        .stored()
        .into_iter()
        .find(|receipt| receipt.entry_count() == 6 && receipt.kind() == PackKind::Data);
    let rewritten = crate::pack::rewrite(&context, first.unwrap().place(), &[1, 3].into()).await.unwrap();
    let run = IndexRun::take_from(&mut index);
    let key = [0x11; 16];
    let sealed = run.seal(&context.keyring, REPOSITORY, key, &SeededEntropy::new(105)).unwrap();
    let objects: serde_json::Map<String, Value> =
        store.objects().iter().map(|(name, bytes)| (name.clone(), hex::encode(bytes).into())).collect();
    json!({
        "chunks": chunks,
        "objects": objects,
        "rewritten": { "object": rewritten.place().name().as_str(), "holes": [1, 3] },
        "maps": described,
        "index_run": { "object": ObjectName::index_run(key).as_str(), "sealed": hex::encode(sealed) },
    })
}

#[tokio::test]
async fn every_stored_byte_of_format_1_comes_out_as_it_was_written_down() {
    let made = json!({
        "about": "Test vectors of Strongroom's repository format, version 1. See docs/format.md. Byte strings are hexadecimal.",
        "repository": REPOSITORY.hex(),
        "keys": keys(),
        "chunk_ids": chunk_ids(),
        "blobs": blobs(),
        "volume": volume().await,
    });
    let text = serde_json::to_string_pretty(&made).unwrap() + "\n";
    if !path().exists() {
        std::fs::write(path(), &text).unwrap();
        panic!("{} was missing and is now written: look at it and run again", path().display());
    }
    let kept = std::fs::read_to_string(path()).unwrap();
    assert!(kept == text, "the format of stored bytes has changed");
}

/// The bytes of a field.
fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn reference(value: &Value) -> EntryRef {
    let pack = strongroom_model::PackId::from_bytes(bytes(&value["pack"]).try_into().unwrap());
    EntryRef { pack, entry: u32::try_from(value["entry"].as_u64().unwrap()).unwrap() }
}

#[tokio::test]
async fn what_was_written_down_is_read_from_the_key_and_the_objects_alone() {
    let kept: Value = serde_json::from_slice(&std::fs::read(path()).unwrap()).unwrap();
    let keys = &kept["keys"];
    let unlocks = [
        Unlock::KeyFile(KeyFile::parse(keys["key_file"].as_str().unwrap()).unwrap()),
        Unlock::Passphrase(Passphrase::new(keys["passphrase"].as_str().unwrap().to_owned()).unwrap()),
    ];
    let mut ring = None;
    for (slot, unlock) in keys["slots"].as_array().unwrap().iter().zip(&unlocks) {
        let id = hex::decode(slot["object"].as_str().unwrap().strip_prefix("keys/").unwrap()).unwrap();
        let slot = KeySlot::parse(id.try_into().unwrap(), slot["text"].as_str().unwrap().as_bytes()).unwrap();
        ring = Some(slot.open(REPOSITORY, unlock).unwrap());
    }
    let ring = ring.unwrap();
    for blob in kept["blobs"].as_array().unwrap() {
        let kind = if blob["kind"] == 2 { BlobKind::JournalRecord } else { BlobKind::Checkpoint };
        let plain =
            seal::open(&ring, REPOSITORY, kind, &bytes(&blob["binding"]), &bytes(&blob["sealed"])).unwrap();
        assert_eq!(plain, bytes(&blob["plain"]));
    }

    let volume = &kept["volume"];
    let store = MemoryStore::default();
    let mut places = Vec::new();
    for (name, object) in volume["objects"].as_object().unwrap() {
        let (name, kind) = ObjectName::parse(name).unwrap();
        let crate::layout::ObjectKind::Pack(kind, object_of) = kind else { panic!("{name} is no pack") };
        let object = bytes(object);
        places.push(PackPlace { kind, object: object_of, bytes: object.len() as u64 });
        store.damage(&name, object);
    }
    let context = PackContext {
        store: Arc::new(store),
        keyring: Arc::new(ring),
        repository: REPOSITORY,
        entropy: Arc::new(SeededEntropy::new(0)),
    };
    let fetcher = PackFetcher::new(context.clone(), 1 << 20);
    for place in &places {
        crate::pack::scrub(&*context.store, place.kind, place.object, place.bytes).await.unwrap();
    }
    let rewritten = volume["rewritten"]["object"].as_str().unwrap();
    let (rewritten, places): (Vec<_>, Vec<_>) =
        places.into_iter().partition(|place| place.name().as_str() == rewritten);
    for chunk in volume["chunks"].as_array().unwrap() {
        let at = reference(&chunk["at"]);
        for place in places.iter().chain(&rewritten).filter(|place| place.object.pack == at.pack) {
            let entry = fetcher.entry(*place, at.entry).await;
            if rewritten.contains(place) && [1, 3].contains(&at.entry) {
                assert!(entry.unwrap_err().may_have_moved());
            } else {
                let entry = entry.unwrap();
                assert_eq!(
                    (entry.row.id.to_string(), &entry.plain[..]),
                    (chunk["id"].as_str().unwrap().to_owned(), &bytes(&chunk["plain"])[..])
                );
            }
        }
    }
    for map in volume["maps"].as_array().unwrap() {
        let source = Arc::new(Placed(fetcher.clone(), places.clone()));
        let reader = MapReader::open(source, MapRoot { at: reference(&map["root"]) }).await.unwrap();
        let runs: Vec<Value> = reader
            .runs(0..5000)
            .await
            .unwrap()
            .iter()
            .map(|run| json!([run.start, run.count, run.pack.hex(), run.first_entry]))
            .collect();
        assert_eq!(Value::from(runs), map["runs"]);
    }
    let run = bytes(&volume["index_run"]["sealed"]);
    assert_eq!(IndexRun::open(&context.keyring, REPOSITORY, [0x11; 16], &run).unwrap().len(), 8);
}

#[derive(Debug)]
struct Placed(PackFetcher, Vec<PackPlace>);

#[async_trait]
impl EntrySource for Placed {
    async fn entry(&self, _: PackKind, at: EntryRef) -> Result<Entry, FetchError> {
        let place = self.1.iter().find(|place| place.object.pack == at.pack);
        Ok(self.0.entry(*place.ok_or(FetchError::NotListed { pack: at.pack })?, at.entry).await?)
    }
}
