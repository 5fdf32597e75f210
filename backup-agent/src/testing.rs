//! A repository in memory and volumes to fill it with, for the tests of this crate.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use strongroom_model::World;
use strongroom_object_store::faulty::Faulty;
use strongroom_object_store::memory::MemoryStore;
use strongroom_object_store::record::Record;
use strongroom_object_store::{Counts, probe};
use strongroom_repository::keys::{KeyFile, Unlock};
use strongroom_repository::map::MapReader;
use strongroom_repository::store::ObjectStore;
use strongroom_repository::{InitOptions, OpenOptions, Patience, Point, PointInfo, Repository, Source};
use strongroom_settings::system_world;

pub(crate) const CHUNK: usize = 65_536;

pub(crate) struct Bench {
    pub(crate) repository: Repository,
    /// What stands between the repository and its memory.
    pub(crate) store: Faulty,
    /// Where the bytes lie, without anything in between.
    pub(crate) memory: MemoryStore,
    pub(crate) counts: Arc<Counts>,
    pub(crate) world: World,
    pub(crate) dir: tempfile::TempDir,
    key: KeyFile,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let world = system_world();
        let dir = tempfile::tempdir().unwrap();
        let memory = MemoryStore::new(Arc::clone(&world.clock));
        let store = Faulty::new(Arc::new(memory.clone()));
        let counted = Record::new(Arc::new(store.clone()));
        let counts = counted.counts();
        let counted: Arc<dyn ObjectStore> = Arc::new(counted);
        let key = KeyFile::generate(&*world.entropy);
        let abilities = probe::probe(&*counted, &world).await.unwrap();
        let options = InitOptions::new(abilities, open_options(dir.path().into()));
        let repository =
            Repository::init(counted, world.clone(), options, &[Unlock::KeyFile(key.clone())]).await.unwrap();
        Self { repository, store, memory, counts, world, dir, key }
    }

    /// As a new process of the same machine sees it.
    pub(crate) async fn reopen(&mut self) {
        let counted = Record::new(Arc::new(self.store.clone()));
        self.counts = counted.counts();
        let unlock = Unlock::KeyFile(self.key.clone());
        let options = open_options(self.dir.path().into());
        self.repository =
            Repository::open(Arc::new(counted), self.world.clone(), &unlock, options).await.unwrap();
    }

    /// All bytes of a point, read back through the repository.
    pub(crate) async fn restore(&self, map: &MapReader) -> Vec<u8> {
        let reader = self.repository.reader();
        let mut bytes = vec![0; usize::try_from(map.head().volume_bytes).unwrap()];
        for run in map.runs(0..map.head().chunks()).await.unwrap() {
            let numbers: Vec<u32> =
                (0..run.count).map(|step| run.first_entry + u32::try_from(step).unwrap()).collect();
            let entries = reader.entries(run.pack, &numbers).await.unwrap();
            for (chunk, entry) in (run.start..).zip(entries) {
                let from = usize::try_from(chunk).unwrap() * CHUNK;
                bytes[from..from + entry.plain.len()].copy_from_slice(&entry.plain);
            }
        }
        bytes
    }

    pub(crate) async fn restore_point(&self, point: &Point) -> Vec<u8> {
        self.restore(&self.repository.map(point).await.unwrap()).await
    }
}

fn open_options(state_dir: PathBuf) -> OpenOptions {
    OpenOptions {
        state_dir: Some(state_dir),
        agent: "bench".into(),
        patience: Patience::NO_PAUSE,
        ..OpenOptions::default()
    }
}

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// What a point says of itself, where a test does not care.
pub(crate) fn info(volume_bytes: u64) -> PointInfo {
    PointInfo {
        taken_at: Timestamp::now(),
        published_at: Timestamp::now(),
        volume_bytes,
        source: Source::Image { path: "/test".into() },
        fs: None,
        labels: [].into(),
        agent: "bench".into(),
        scanned_bytes: 0,
        changed_bytes: 0,
        new_bytes: 0,
        sent_bytes: 0,
        duration_ms: 0,
        requests: 0,
        database: None,
    }
}
