//! Test vectors of keyrings of versions 2 and 3, of packs that are sealed to a data key, and of names in a shared repository:
//! `tests/vectors/format-1-rings.json`. What is said of the vectors beside it holds here too.

use strongroom_model::RecoveryPointId;

use super::*;
use crate::keys::DataSeal;
use crate::names;
use crate::pack::read_footer;

fn path() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/format-1-rings.json")
}

const POINT: RecoveryPointId = RecoveryPointId::from_bytes([0x22; 16]);

/// The rings that are given out, by name: each kind of versions 2 and 3.
fn rings() -> Vec<(&'static str, Keyring)> {
    let entropy = SeededEntropy::new(120);
    let owner = Keyring::fresh(DataSeal::Open, &entropy).next(DataSeal::Split, &entropy).unwrap();
    let operator = Keyring::fresh_operator(DataSeal::Split, &entropy);
    let domain = Keyring::fresh_domain(7, &entropy).next(DataSeal::Split, &entropy).unwrap();
    let rings = [
        ("owner", owner.clone()),
        ("write-only", owner.write_only().unwrap()),
        ("operator", operator.clone()),
        ("operator, write-only", operator.write_only().unwrap()),
        ("journal", operator.journal().unwrap()),
        ("domain", domain.clone()),
        ("domain, write-only", domain.write_only().unwrap()),
        ("structure", domain.structure().unwrap()),
    ];
    rings.map(|(name, ring)| (name, ring.with_cipher(Cipher::Aes256Gcm))).into()
}

fn ring(name: &str) -> Keyring {
    rings().into_iter().find(|(other, _)| *other == name).unwrap().1
}

/// A data pack of two chunks whose entries are sealed to the data key.
async fn pack(name: &str, seed: u64) -> Value {
    let store = MemoryStore::default();
    let keyring = Arc::new(ring(name));
    let domain = keyring.domain();
    let context = PackContext {
        store: Arc::new(store.clone()),
        keyring: Arc::clone(&keyring),
        repository: REPOSITORY,
        entropy: Arc::new(SeededEntropy::new(seed)),
    };
    let settings = PackSettings { domain, ..PackSettings::default() };
    let mut data = PackWriter::new(context, PackKind::Data, settings, Receipts::new());
    let hasher = ChunkHasher::new(&keyring, domain);
    let mut chunks = Vec::new();
    for plain in [&b"the first chunk"[..], &b"the second, ".repeat(40)] {
        let coded = Compressor::default().compress(Bytes::copy_from_slice(plain));
        data.push(hasher.id(plain), EntryType::Chunk, coded).await.unwrap();
        chunks.push(json!({ "plain": hex::encode(plain), "id": hasher.id(plain).to_string() }));
    }
    data.finish().await.unwrap();
    let (name_of, object) = store.objects().pop_first().unwrap();
    json!({ "ring": name, "object": name_of, "bytes": hex::encode(object), "chunks": chunks })
}

async fn made() -> Value {
    let encoded: serde_json::Map<_, _> = rings()
        .iter()
        .map(|(name, ring)| ((*name).to_owned(), json!(hex::encode(&*ring.encode()))))
        .collect();
    let (domain, operator) = (ring("domain"), ring("operator"));
    let epoch = domain.newest_epoch();
    let entropy = SeededEntropy::new(121);
    let seal = |binding: &[u8], plain: &[u8]| {
        let key = domain.names(epoch).unwrap();
        let cipher = Cipher::Aes256Gcm;
        seal::seal_under(&key, epoch, cipher, REPOSITORY, BlobKind::Names, binding, plain, &entropy).unwrap()
    };
    let binding = [&7_u32.to_le_bytes()[..], POINT.bytes()].concat();
    json!({
        "repository": hex::encode(REPOSITORY.bytes()),
        "rings": encoded,
        "journal_key": { "epoch": 1, "key": hex::encode(*ring("journal").master(1).unwrap()) },
        "names": {
            "epoch": epoch,
            "key": hex::encode(*domain.names(epoch).unwrap()),
            "point": hex::encode(POINT.bytes()),
            "plain": hex::encode(b"names of a point"),
            "sealed": hex::encode(seal(&binding, b"names of a point")),
        },
        "veiled": {
            "text": "held für den Prüfer",
            "veiled": names::veil(&domain, REPOSITORY, "held für den Prüfer", &entropy).unwrap(),
        },
        "domain_name": hex::encode(
            names::seal_domain_name(&operator, REPOSITORY, 7, "tenant", &entropy).unwrap()
        ),
        "packs": [pack("owner", 122).await, pack("domain", 123).await],
    })
}

#[tokio::test]
async fn the_vectors_of_rings_are_made_as_they_always_were() {
    let made = made().await;
    if !path().exists() {
        std::fs::write(path(), serde_json::to_string_pretty(&made).unwrap() + "\n").unwrap();
    }
    let kept: Value = serde_json::from_slice(&std::fs::read(path()).unwrap()).unwrap();
    assert_eq!(kept, made);
}

#[tokio::test]
async fn the_vectors_of_rings_are_read() {
    let kept: Value = serde_json::from_slice(&std::fs::read(path()).unwrap()).unwrap();
    let ring = |name: &str| Keyring::decode(&bytes(&kept["rings"][name])).unwrap();
    for name in kept["rings"].as_object().unwrap().keys() {
        assert_eq!(ring(name).encode()[..], bytes(&kept["rings"][name])[..], "{name}");
    }
    let domain = ring("domain");
    assert_eq!(ring("operator").journal().unwrap().master(1), ring("journal").master(1));
    assert_eq!(hex::encode(*ring("journal").master(1).unwrap()), kept["journal_key"]["key"]);
    let epoch = u32::try_from(kept["names"]["epoch"].as_u64().unwrap()).unwrap();
    assert_eq!(hex::encode(*domain.names(epoch).unwrap()), kept["names"]["key"]);
    let binding = [&7_u32.to_le_bytes()[..], &bytes(&kept["names"]["point"])].concat();
    let key = domain.names(epoch).unwrap();
    let sealed = bytes(&kept["names"]["sealed"]);
    let plain = seal::open_under(&key, REPOSITORY, BlobKind::Names, &binding, &sealed).unwrap();
    assert_eq!(plain[..], bytes(&kept["names"]["plain"])[..]);
    let veiled = kept["veiled"]["veiled"].as_str().unwrap();
    assert_eq!(names::unveil(&domain, REPOSITORY, veiled), kept["veiled"]["text"]);
    assert_eq!(names::unveil(&ring("structure"), REPOSITORY, veiled), "(sealed, domain 7)");
    let name = names::open_domain_name(&ring("operator"), REPOSITORY, 7, &bytes(&kept["domain_name"]));
    assert_eq!(name.as_deref(), Some("tenant"));
    for pack in kept["packs"].as_array().unwrap() {
        let (store, object) = (MemoryStore::default(), bytes(&pack["bytes"]));
        let (name, kind) = ObjectName::parse(pack["object"].as_str().unwrap()).unwrap();
        let crate::layout::ObjectKind::Pack(kind, object_of) = kind else { panic!("{name} is no pack") };
        let place = PackPlace { kind, object: object_of, bytes: object.len() as u64 };
        store.damage(&name, object.clone());
        let context = |name: &str| PackContext {
            store: Arc::new(store.clone()),
            keyring: Arc::new(ring(name)),
            repository: REPOSITORY,
            entropy: Arc::new(SeededEntropy::new(0)),
        };
        let footer = read_footer(&context(pack["ring"].as_str().unwrap()), place).await.unwrap();
        for (row, chunk) in footer.rows().iter().zip(pack["chunks"].as_array().unwrap()) {
            let range = usize::try_from(row.offset).unwrap()..usize::try_from(row.end()).unwrap();
            let plain = crate::pack::open_entry(&footer, row, &object[range]).unwrap();
            assert_eq!(row.id.to_string(), chunk["id"].as_str().unwrap());
            assert_eq!(plain, bytes(&chunk["plain"]));
        }
        // Whoever only writes, or only sweeps, reads the table and no entry.
        let less = if pack["ring"] == "owner" { "write-only" } else { "structure" };
        assert!(!read_footer(&context(less), place).await.unwrap().opens());
    }
}
