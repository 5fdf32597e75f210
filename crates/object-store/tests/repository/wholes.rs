//! Test vectors that are whole repositories: every object, the keys, and what each key restores. `v1-sealed.json` has sealed packs
//! and keyrings of version 2, `v1-domains.json` a shared repository of an operator and two domains, `v1-logs.json` the log of a
//! database and a point that is a base of it, `v1-tests.json` a log with restore tests.
//!
//! They are read, not made again: what is sealed in the background draws in no fixed order.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use strongroom_model::World;
use strongroom_object_store::memory::MemoryStore;
use strongroom_repository::keys::{DataSeal, Grants, KeyFile, NewKey, Unlock};
use strongroom_repository::layout::ObjectName;
use strongroom_repository::record::{BaseOfDatabase, DatabaseTested, HeardNote, TestFailure};
use strongroom_repository::store::ObjectStore;
use strongroom_repository::{Bundle, InitOptions, Repository, Rotation};

use crate::{logs, world};

fn path(name: &str) -> PathBuf {
    world::tests_folder().join("vectors").join(name)
}

/// Text, so that the vectors stay small; of each volume another.
fn image(seed: u64) -> Vec<u8> {
    format!("volume {seed} says again and again what it is; ").into_bytes().repeat(900)
}

struct Making {
    store: Arc<MemoryStore>,
    world: World,
    keys: Map<String, Value>,
    points: Vec<Value>,
    logs: Vec<Value>,
}

impl Making {
    fn begin(seed: u64) -> Self {
        let (store, world) = (Arc::new(MemoryStore::default()), world::world(seed));
        Self { store, world, keys: Map::new(), points: Vec::new(), logs: Vec::new() }
    }

    fn key(&mut self, name: &str) -> KeyFile {
        let key = KeyFile::generate(&*self.world.entropy);
        self.keys.insert(name.to_owned(), json!(*key.text()));
        key
    }

    async fn init(&self, key: &KeyFile, shared: bool) -> Repository {
        let options = InitOptions {
            chunk_bytes: world::CHUNK_BYTES,
            cost: world::CHEAP,
            data_seal: DataSeal::Split,
            shared,
            ..InitOptions::new(world::abilities(), world::options())
        };
        let keys = [Unlock::KeyFile(key.clone())];
        Repository::init(Arc::clone(&self.store) as _, self.world.clone(), options, &keys).await.unwrap()
    }

    async fn open(&self, key: &KeyFile) -> Repository {
        let key = Unlock::KeyFile(key.clone());
        let store = Arc::clone(&self.store) as _;
        Repository::open(store, self.world.clone(), &key, world::options()).await.unwrap()
    }

    /// A backup through `by`, which `key` restores.
    async fn back_up(&mut self, by: &Repository, key: &str, volume: &str, seed: u64) {
        let image = image(seed);
        let point = world::back_up(by, &self.world, volume, &image).await.to_string();
        let hash = blake3::hash(&image).to_hex().to_string();
        self.points.push(json!({
            "key": key, "point": point, "volume": volume, "volume_bytes": image.len(), "blake3": hash,
        }));
    }

    fn write(self, name: &str) {
        let objects: Map<_, _> =
            self.store.contents().into_iter().map(|(name, body)| (name, json!(hex::encode(body)))).collect();
        let mut vectors = json!({
            "about": "Made by crates/object-store/tests/repository/wholes.rs; see README.md beside this file.",
            "keys": self.keys, "points": self.points, "objects": objects,
        });
        if !self.logs.is_empty() {
            vectors["logs"] = self.logs.into();
        }
        let text = serde_json::to_string_pretty(&vectors).unwrap();
        std::fs::write(path(name), format!("{text}\n")).unwrap();
    }
}

#[tokio::test]
#[ignore = "writes tests/vectors/v1-sealed.json; what is committed is never written again"]
async fn write_the_sealed_repository() {
    let mut making = Making::begin(110);
    let (owner, agent) = (making.key("owner"), making.key("agent"));
    let repository = making.init(&owner, false).await;
    let to = NewKey::Holder(Unlock::KeyFile(agent.clone()));
    repository.add_slot(&to, Grants::WriteOnly, "host 7", world::CHEAP).await.unwrap();
    let at_host = making.open(&agent).await;
    making.back_up(&at_host, "owner", "db", 1).await;
    repository.rotate_keys(Rotation::default()).await.unwrap();
    making.back_up(&at_host, "owner", "db", 2).await;
    making.back_up(&repository, "owner", "web", 3).await;
    making.write("v1-sealed.json");
}

#[tokio::test]
#[ignore = "writes tests/vectors/v1-domains.json; what is committed is never written again"]
async fn write_the_shared_repository() {
    let mut making = Making::begin(111);
    let key = making.key("operator");
    let operator = making.init(&key, true).await;
    let mut domains = Vec::new();
    for name in ["first", "second"] {
        let key = making.key(name);
        let to = (NewKey::Holder(Unlock::KeyFile(key.clone())), format!("{name} key"));
        operator.add_domain(name, &[to], world::CHEAP).await.unwrap();
        domains.push(making.open(&key).await);
    }
    making.back_up(&operator, "operator", "own", 1).await;
    // Equal content, and the same name.
    making.back_up(&domains[0], "first", "db", 2).await;
    making.back_up(&domains[1], "second", "db", 2).await;
    domains[0].rotate_keys(Rotation::default()).await.unwrap();
    operator.rotate_keys(Rotation::default()).await.unwrap();
    making.back_up(&domains[0], "first", "db", 3).await;
    let points = domains[0].fold().await.unwrap();
    let held = *points.points.keys().next().unwrap();
    domains[0].hold(held, "audit").await.unwrap();
    making.back_up(&domains[1], "second", "web", 4).await;
    making.write("v1-domains.json");
}

#[tokio::test]
#[ignore = "writes tests/vectors/v1-logs.json; what is committed is never written again"]
async fn write_the_repository_with_the_log_of_a_database() {
    let mut making = Making::begin(112);
    let (owner, agent) = (making.key("owner"), making.key("agent"));
    let repository = making.init(&owner, false).await;
    let to = NewKey::Holder(Unlock::KeyFile(agent.clone()));
    repository.add_slot(&to, Grants::WriteOnly, "host 7", world::CHEAP).await.unwrap();
    let at_host = making.open(&agent).await;
    at_host.open_log(logs::opened()).await.unwrap();
    let small = |number: u32| {
        let Bundle { note, index, .. } = logs::bundle(number);
        Bundle { note, log: image(u64::from(number)).into(), index }
    };
    let (mut notes, mut whole) = (Vec::new(), Vec::new());
    for number in 1..=4 {
        whole.extend_from_slice(&small(number).log);
        notes.push(at_host.put_bundle(logs::LOG, number, small(number)).await.unwrap());
        if number == 2 {
            let heard = HeardNote { position: notes[1].to, at: notes[1].complete_until };
            at_host.note_archived(logs::LOG, 1, &notes, Some(heard)).await.unwrap();
        }
    }
    at_host.note_archived(logs::LOG, 3, &notes[2..3], None).await.unwrap();
    let ready_at = notes[1].complete_until;
    let base = BaseOfDatabase { log: logs::LOG, start: notes[0].from, end: notes[1].to, ready_at };
    let content = image(9);
    let point = world::back_up_base(&at_host, &making.world, "db", &content, Some(base)).await.to_string();
    making.points.push(json!({
        "key": "owner", "point": point, "volume": "db", "volume_bytes": content.len(),
        "blake3": blake3::hash(&content).to_hex().to_string(),
    }));
    repository.rotate_keys(Rotation::default()).await.unwrap();
    let (log, hash) = (logs::LOG.to_string(), blake3::hash(&whole).to_hex().to_string());
    making.logs.push(json!({ "key": "owner", "log": log, "log_bytes": whole.len(), "blake3": hash }));
    making.write("v1-logs.json");
}

#[tokio::test]
#[ignore = "writes tests/vectors/v1-tests.json; what is committed is never written again"]
async fn write_the_repository_with_restore_tests() {
    let mut making = Making::begin(113);
    let owner = making.key("owner");
    let repository = making.init(&owner, false).await;
    repository.open_log(logs::opened()).await.unwrap();
    let Bundle { note, index, .. } = logs::bundle(1);
    let log = image(1);
    let bundle = Bundle { note, log: log.clone().into(), index };
    let note = repository.put_bundle(logs::LOG, 1, bundle).await.unwrap();
    repository.note_archived(logs::LOG, 1, std::slice::from_ref(&note), None).await.unwrap();
    let base =
        BaseOfDatabase { log: logs::LOG, start: note.from, end: note.to, ready_at: note.complete_until };
    let content = image(2);
    let point = world::back_up_base(&repository, &making.world, "db", &content, Some(base)).await;
    making.points.push(json!({
        "key": "owner", "point": point.to_string(), "volume": "db", "volume_bytes": content.len(),
        "blake3": blake3::hash(&content).to_hex().to_string(),
    }));
    let test = |rto_ms: u64, failure: Option<TestFailure>| DatabaseTested {
        log: logs::LOG,
        point: Some(point),
        wanted_at: failure.is_none().then_some(note.complete_until),
        cut: Some(note.to),
        last_kept_at: note.commits.map(|commits| commits.last.at),
        passed: failure.is_none(),
        rto_ms: failure.is_none().then_some(rto_ms),
        steps: [("base".to_owned(), 1200), ("replay".to_owned(), rto_ms - 1200)].into(),
        checks: vec!["it holds: select count(*) > 0 from orders".to_owned()],
        failure,
    };
    let failure = TestFailure { code: "database.test-assertion".into(), message: "it does not hold".into() };
    for tested in [test(41_000, None), test(5000, Some(failure)), test(38_000, None)] {
        repository.note_database_tested(tested).await.unwrap();
    }
    let proved = repository.fold().await.unwrap().number;
    repository.rotate_keys(Rotation::default()).await.unwrap();
    making.logs.push(json!({
        "key": "owner", "log": logs::LOG.to_string(), "log_bytes": log.len(),
        "blake3": blake3::hash(&log).to_hex().to_string(),
        "proved": [proved, 38_000], "failed": [proved - 1, "database.test-assertion"],
    }));
    making.write("v1-tests.json");
}

async fn is_read(name: &str) {
    let committed: Value = serde_json::from_slice(&std::fs::read(path(name)).unwrap()).unwrap();
    let store = MemoryStore::default();
    for (name, object) in committed["objects"].as_object().unwrap() {
        let (name, _) = ObjectName::parse(name).unwrap();
        store.put(&name, hex::decode(object.as_str().unwrap()).unwrap().into()).await.unwrap();
    }
    for (name, key) in committed["keys"].as_object().unwrap() {
        let key = Unlock::KeyFile(KeyFile::parse(key.as_str().unwrap()).unwrap());
        let store = Arc::new(store.clone()) as Arc<dyn ObjectStore>;
        let opened = Repository::open(store, world::world(0), &key, world::options()).await.unwrap();
        assert!(opened.audit(&|_, _| {}).await.unwrap().wrong_checkpoints.is_empty());
        assert!(opened.check(false, &|_, _| {}).await.unwrap().is_whole());
        let own = committed["points"].as_array().unwrap().iter().filter(|point| point["key"] == *name);
        let mut count = 0;
        for point in own {
            let restored = world::restore(&opened, point["point"].as_str().unwrap().parse().unwrap()).await;
            assert_eq!(
                blake3::hash(&restored.unwrap()).to_hex().as_str(),
                point["blake3"],
                "{name}: {point}"
            );
            count += 1;
        }
        let logs = committed["logs"].as_array().into_iter().flatten().filter(|log| log["key"] == *name);
        for said in logs {
            let log = said["log"].as_str().unwrap().parse().unwrap();
            let fold = opened.fold().await.unwrap();
            let state = &fold.logs[&log];
            let beyond = opened.bundles_beyond(log, state.next, state.end).await.unwrap();
            let (mut whole, mut end) = (Vec::new(), state.opened.start);
            for (number, note) in (1..).zip(state.bundles.values().chain(&beyond)) {
                let bundle = opened.read_bundle(log, number, note.bytes).await.unwrap();
                assert!(bundle.note == *note && note.from == end, "bundle {number}");
                (whole, end) = ([whole, bundle.log.to_vec()].concat(), note.to);
            }
            assert_eq!(blake3::hash(&whole).to_hex().as_str(), said["blake3"], "{said}");
            if let Some(failed) = &state.failed {
                let proved = state.proved.as_ref().unwrap();
                let failure = failed.tested.failure.as_ref().unwrap();
                assert_eq!(json!([proved.number, proved.tested.rto_ms]), said["proved"]);
                assert_eq!(json!([failed.number, failure.code]), said["failed"]);
            } else {
                assert!(said.get("failed").is_none());
            }
            assert!(
                fold.points.values().any(|point| point
                    .info
                    .database
                    .as_ref()
                    .is_some_and(|base| base.log == log))
            );
        }
        if opened.is_shared() {
            assert_eq!(opened.fold().await.unwrap().points.len(), count, "{name} sees its own alone");
        }
    }
}

#[tokio::test]
async fn the_committed_sealed_repository_is_read() {
    is_read("v1-sealed.json").await;
}

#[tokio::test]
async fn the_committed_shared_repository_is_read_by_each_of_its_keys() {
    is_read("v1-domains.json").await;
}

#[tokio::test]
async fn the_committed_repository_with_the_log_of_a_database_is_read() {
    is_read("v1-logs.json").await;
}

#[tokio::test]
async fn the_committed_repository_with_restore_tests_is_read() {
    is_read("v1-tests.json").await;
}
