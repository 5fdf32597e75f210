//! Test vectors: `tests/vectors/v1.json` holds every random draw, every input and every byte that comes out, so that another
//! implementation can compare step by step. Our own writer must make the same bytes again, and our reader must read the
//! committed ones.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use strongroom_model::{Entropy, PackId, RepositoryId, World};
use strongroom_object_store::memory::MemoryStore;
use strongroom_repository::chunk::{Compressor, chunk_id};
use strongroom_repository::keys::{KeyFile, KeySlot, Keyring, Passphrase, Unlock};
use strongroom_repository::layout::{ObjectName, PackKind};
use strongroom_repository::map::{MapBase, MapReader, MapRoot, MapSpec, MapWriter};
use strongroom_repository::pack::{
    Entry, EntryRef, EntrySource, EntryType, FetchError, PackContext, PackFetcher, PackPlace, PackSettings,
    PackWriter, Receipts,
};
use strongroom_repository::record::RestoreTested;
use strongroom_repository::seal::{BlobKind, Cipher, open, seal};
use strongroom_repository::store::ObjectStore;
use strongroom_repository::{InitOptions, Repository};

use crate::world::{self, SeededEntropy};

const PASSPHRASE: &str = "correct horse battery staple";
const CREATED_AT: &str = "2026-11-21T09:00:00Z";

/// Randomness that notes what it gave.
#[derive(Debug)]
struct Noted {
    inner: SeededEntropy,
    draws: Mutex<Vec<String>>,
}

impl Noted {
    fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self { inner: SeededEntropy::new(seed), draws: Mutex::default() })
    }

    /// What was drawn since the last time.
    fn draws(&self) -> Vec<String> {
        std::mem::take(&mut self.draws.lock().unwrap())
    }
}

impl Entropy for Noted {
    fn fill(&self, bytes: &mut [u8]) {
        self.inner.fill(bytes);
        self.draws.lock().unwrap().push(hex::encode(bytes));
    }
}

fn repository() -> RepositoryId {
    RepositoryId::from_bytes([0xa5; 16])
}

fn path() -> PathBuf {
    world::tests_folder().join("vectors/v1.json")
}

/// The journal of a repository whose key slots have key pairs (version 2), as they are made since there is rotation. The journal
/// in `v1.json` has a slot of version 1: it is read for ever, and made no more.
fn path_of_key_pairs() -> PathBuf {
    world::tests_folder().join("vectors/v1-key-pairs.json")
}

/// The secrets that all vectors are made with.
struct Secrets {
    key: KeyFile,
    ring: Keyring,
    vectors: Value,
}

fn secrets() -> Secrets {
    let entropy = Noted::new(100);
    let key = KeyFile::generate(&*entropy);
    let secret = entropy.draws();
    let ring = Keyring::generate(&*entropy).with_cipher(Cipher::Aes256Gcm);
    let drawn = entropy.draws();
    let ids: Vec<Value> = [(0, "content"), (1, "content"), (0, "")]
        .into_iter()
        .map(|(domain, content)| {
            let id = chunk_id(&ring, domain, content.as_bytes()).to_string();
            json!({ "domain": domain, "content": content, "id": id })
        })
        .collect();
    let vectors = json!({
        "repository": repository().to_string(),
        "key_file": { "secret": secret[0], "text": *key.text() },
        "keyring": { "identity": drawn[0], "masters": { "1": drawn[1] } },
        "chunk_ids": ids,
    });
    Secrets { key, ring, vectors }
}

fn slots(secrets: &Secrets) -> Value {
    let entropy = Noted::new(101);
    let passphrase = Unlock::Passphrase(Passphrase::new(PASSPHRASE.to_owned()).unwrap());
    let wrap = |unlock: &Unlock, label: &str| {
        let created_at = CREATED_AT.parse().unwrap();
        let ring = &secrets.ring;
        let slot =
            KeySlot::wrap(repository(), ring, unlock, label, created_at, world::CHEAP, &*entropy).unwrap();
        let object = String::from_utf8(slot.encode().to_vec()).unwrap();
        json!({ "name": format!("keys/{}", hex::encode(slot.id())), "draws": entropy.draws(), "object": object })
    };
    let by_file = wrap(&Unlock::KeyFile(secrets.key.clone()), "first key");
    let mut by_passphrase = wrap(&passphrase, "Büro");
    by_passphrase["passphrase"] = json!(PASSPHRASE);
    json!({ "key_file": by_file, "passphrase": by_passphrase })
}

/// Short enough to stay as it is, long enough to be compressed, and with the other cipher.
fn blobs(secrets: &Secrets) -> Value {
    let entropy = Noted::new(102);
    let long = "a record of many words that repeat; ".repeat(20);
    let blobs =
        [("short", Cipher::Aes256Gcm), (&long, Cipher::Aes256Gcm), ("short", Cipher::ChaCha20Poly1305)];
    let sealed = blobs.into_iter().map(|(plain, cipher)| {
        let ring = secrets.ring.clone().with_cipher(cipher);
        let binding = 7_u64.to_le_bytes();
        let sealed =
            seal(&ring, repository(), BlobKind::JournalRecord, &binding, plain.as_bytes(), &*entropy)
                .unwrap();
        json!({
            "kind": 2,
            "binding": hex::encode(binding),
            "plain": plain,
            "draws": entropy.draws(),
            "sealed": hex::encode(sealed),
        })
    });
    Value::Array(sealed.collect())
}

fn context(secrets: &Secrets, store: &MemoryStore, entropy: &Arc<Noted>) -> PackContext {
    PackContext {
        store: Arc::new(store.clone()),
        keyring: Arc::new(secrets.ring.clone()),
        repository: repository(),
        entropy: Arc::clone(entropy) as Arc<dyn Entropy>,
    }
}

fn contents() -> Vec<Vec<u8>> {
    let mut noise = vec![0; 300];
    SeededEntropy::new(103).fill(&mut noise);
    vec![noise, b"text that repeats, ".repeat(40), b"x".to_vec()]
}

/// A data pack of three chunks and the map of a volume that holds them.
async fn packs(secrets: &Secrets) -> Value {
    let (entropy, store) = (Noted::new(104), MemoryStore::default());
    let (context, settings, receipts) =
        (context(secrets, &store, &entropy), PackSettings::default(), Receipts::new());
    let mut data = PackWriter::new(context.clone(), PackKind::Data, settings, receipts.clone());
    let mut entries = Vec::new();
    let mut places = Vec::new();
    for content in contents() {
        let id = chunk_id(&secrets.ring, 0, &content);
        let coded = Compressor::default().compress(Bytes::from(content.clone()));
        entries.push(
            json!({ "plain": hex::encode(&content), "id": id.to_string(), "codec": coded.codec as u8 }),
        );
        places.push(data.push(id, EntryType::Chunk, coded).await.unwrap());
    }
    data.finish().await.unwrap();
    let (data_name, data_object) = store.contents().remove(0);
    let data_draws = entropy.draws();

    let spec = MapSpec { volume_bytes: 3000 * 65_536 - 5, chunk_bytes: 65_536 };
    let mut map = MapWriter::new(context, settings, receipts, spec, MapBase::Full(None)).unwrap();
    let chunks = [0, 1, 2_999];
    for (chunk, place) in chunks.into_iter().zip(&places) {
        map.set(chunk, Some(*place)).await.unwrap();
    }
    let root = map.finish().await.unwrap().root;
    let (map_name, map_object) = store.contents().remove(0);
    json!({
        "data": {
            "name": data_name,
            "draws": data_draws,
            "entries": entries,
            "object": hex::encode(data_object),
        },
        "map": {
            "name": map_name,
            "draws": entropy.draws(),
            "volume_bytes": spec.volume_bytes,
            "chunk_bytes": spec.chunk_bytes,
            "chunks": chunks,
            "root": { "pack": root.at.pack.to_string(), "entry": root.at.entry },
            "object": hex::encode(map_object),
        },
    })
}

/// The first records of a journal, with the head and the slot of its repository.
async fn journal() -> Value {
    let (entropy, store) = (Noted::new(105), MemoryStore::default());
    let world = World { clock: world::world(0).clock, entropy: Arc::clone(&entropy) as Arc<dyn Entropy> };
    let key = KeyFile::generate(&*entropy);
    let options =
        InitOptions { cost: world::CHEAP, ..InitOptions::new(world::abilities(), world::options()) };
    let unlock = [Unlock::KeyFile(key.clone())];
    let made = Repository::init(Arc::new(store.clone()), world, options, &unlock).await.unwrap();
    let point = "rp-000102030405060708090a0b0c0d0e0f".parse().unwrap();
    for passed in [true, false] {
        let detail = "every byte compared".to_owned();
        made.note_restore_tested(RestoreTested { point, passed, detail }).await.unwrap();
    }
    let objects: serde_json::Map<_, _> =
        store.contents().into_iter().map(|(name, body)| (name, Value::String(hex::encode(body)))).collect();
    json!({ "key_file": *key.text(), "draws": entropy.draws(), "objects": objects })
}

async fn vectors() -> Value {
    let secrets = secrets();
    json!({
        "about": "Made by crates/object-store/tests/repository/vectors.rs; see README.md beside this file.",
        "secrets": secrets.vectors,
        "slots": slots(&secrets),
        "blobs": blobs(&secrets),
        "packs": packs(&secrets).await,
    })
}

fn committed() -> Value {
    read(&path())
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn bytes(value: &Value) -> Bytes {
    hex::decode(value.as_str().unwrap()).unwrap().into()
}

#[tokio::test]
async fn the_writer_makes_the_committed_vectors_byte_for_byte() {
    let (made, committed) = (vectors().await, committed());
    for part in ["about", "secrets", "slots", "blobs", "packs"] {
        assert_eq!(made[part], committed[part], "{part} differs");
    }
    assert_eq!(journal().await, read(&path_of_key_pairs())["journal"], "the journal differs");
}

#[tokio::test]
#[ignore = "writes tests/vectors/v1-key-pairs.json; what is committed is never written again"]
async fn write_the_vectors() {
    let vectors = json!({ "about": vectors().await["about"], "journal": journal().await });
    let text = serde_json::to_string_pretty(&vectors).unwrap();
    std::fs::write(path_of_key_pairs(), format!("{text}\n")).unwrap();
}

#[test]
fn the_committed_slots_open() {
    let committed = committed();
    let key = KeyFile::parse(committed["secrets"]["key_file"]["text"].as_str().unwrap()).unwrap();
    let passphrase = committed["slots"]["passphrase"]["passphrase"].as_str().unwrap();
    let passphrase = Unlock::Passphrase(Passphrase::new(passphrase.to_owned()).unwrap());
    for (slot, unlock) in [("key_file", Unlock::KeyFile(key)), ("passphrase", passphrase)] {
        let slot = &committed["slots"][slot];
        let id = slot["name"].as_str().unwrap().strip_prefix("keys/").unwrap();
        let id = hex::decode(id).unwrap().try_into().unwrap();
        let parsed = KeySlot::parse(id, slot["object"].as_str().unwrap().as_bytes()).unwrap();
        let ring = parsed.open(repository(), &unlock).unwrap();
        for chunk in committed["secrets"]["chunk_ids"].as_array().unwrap() {
            let domain = u32::try_from(chunk["domain"].as_u64().unwrap()).unwrap();
            let id = chunk_id(&ring, domain, chunk["content"].as_str().unwrap().as_bytes());
            assert_eq!(id.to_string(), chunk["id"].as_str().unwrap());
        }
    }
}

#[test]
fn the_committed_blobs_open() {
    let (committed, secrets) = (committed(), secrets());
    for blob in committed["blobs"].as_array().unwrap() {
        let (binding, sealed) = (bytes(&blob["binding"]), bytes(&blob["sealed"]));
        let plain = open(&secrets.ring, repository(), BlobKind::JournalRecord, &binding, &sealed).unwrap();
        assert_eq!(plain, blob["plain"].as_str().unwrap().as_bytes());
    }
}

/// The two packs of the vectors.
#[derive(Debug)]
struct TwoPacks {
    fetcher: PackFetcher,
    places: Vec<PackPlace>,
}

impl TwoPacks {
    fn place(&self, pack: PackId) -> PackPlace {
        *self.places.iter().find(|place| place.object.pack == pack).unwrap()
    }
}

#[async_trait]
impl EntrySource for TwoPacks {
    async fn entry(&self, _: PackKind, at: EntryRef) -> Result<Entry, FetchError> {
        Ok(self.fetcher.entry(self.place(at.pack), at.entry).await?)
    }
}

#[tokio::test]
async fn the_committed_packs_and_their_map_are_read() {
    let (committed, secrets, store) = (committed(), secrets(), MemoryStore::default());
    let mut places = Vec::new();
    for pack in ["data", "map"] {
        let (pack, object) = (&committed["packs"][pack], bytes(&committed["packs"][pack]["object"]));
        let (name, kind) = ObjectName::parse(pack["name"].as_str().unwrap()).unwrap();
        let strongroom_repository::layout::ObjectKind::Pack(kind, of) = kind else {
            panic!("{name} is no pack")
        };
        places.push(PackPlace { kind, object: of, bytes: object.len() as u64 });
        store.put(&name, object).await.unwrap();
    }
    let fetcher = PackFetcher::new(context(&secrets, &store, &Noted::new(0)), 1 << 20);
    let source = Arc::new(TwoPacks { fetcher, places });
    let map = &committed["packs"]["map"];
    let pack = map["root"]["pack"].as_str().unwrap().parse().unwrap();
    let entry = u32::try_from(map["root"]["entry"].as_u64().unwrap()).unwrap();
    let reader =
        MapReader::open(Arc::clone(&source) as _, MapRoot { at: EntryRef { pack, entry } }).await.unwrap();
    assert_eq!(reader.head().volume_bytes, map["volume_bytes"].as_u64().unwrap());
    for (chunk, entry) in map["chunks"]
        .as_array()
        .unwrap()
        .iter()
        .zip(committed["packs"]["data"]["entries"].as_array().unwrap())
    {
        let at = reader.get(chunk.as_u64().unwrap()).await.unwrap().unwrap();
        let read = source.entry(PackKind::Data, at).await.unwrap();
        assert_eq!(read.plain, bytes(&entry["plain"]));
        assert_eq!(read.row.id.to_string(), entry["id"].as_str().unwrap());
    }
    assert_eq!(reader.get(2).await.unwrap(), None);
}

#[tokio::test]
async fn the_committed_journals_are_read() {
    for path in [path(), path_of_key_pairs()] {
        let (committed, store) = (read(&path), MemoryStore::default());
        let objects = committed["journal"]["objects"].as_object().unwrap();
        for (name, object) in objects {
            let (name, _) = ObjectName::parse(name).unwrap();
            store.put(&name, bytes(object)).await.unwrap();
        }
        let key = KeyFile::parse(committed["journal"]["key_file"].as_str().unwrap()).unwrap();
        let opened =
            Repository::open(Arc::new(store), world::world(0), &Unlock::KeyFile(key), world::options())
                .await
                .unwrap();
        let records = objects.keys().filter(|name| name.starts_with("journal/")).count() as u64;
        assert_eq!((opened.fold().await.unwrap().number, opened.known_fold().keys.len()), (records, 1));
    }
}
