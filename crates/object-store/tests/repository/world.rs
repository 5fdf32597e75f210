//! A world of its own for each test, from a seed: clock, randomness, volumes, and a backup in a few lines.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use strongroom_model::{Clock, Entropy, RecoveryPointId, VolumeName, World};
use strongroom_object_store::directory::DirectoryStore;
use strongroom_repository::abilities::{Abilities, Claims, CreateOnly};
use strongroom_repository::chunk::{Compressor, is_zero};
use strongroom_repository::keys::{KeyFile, PassphraseCost, Unlock};
use strongroom_repository::layout::PackKind;
use strongroom_repository::map::{MapBase, MapSpec};
use strongroom_repository::pack::EntryType;
use strongroom_repository::record::BaseOfDatabase;
use strongroom_repository::store::ObjectStore;
use strongroom_repository::{
    Draft, DraftMap, InitOptions, OpenError, OpenOptions, Patience, Point, PointInfo, Repository, Source,
};

/// Small, so that a volume of many chunks is a small file.
pub(crate) const CHUNK_BYTES: u32 = 16 << 10;

/// The same bytes for the same seed.
#[derive(Debug)]
pub(crate) struct SeededEntropy {
    seed: u64,
    calls: AtomicU64,
}

impl SeededEntropy {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { seed, calls: AtomicU64::new(0) }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"strongroom test entropy");
        hasher.update(&self.seed.to_le_bytes());
        hasher.update(&self.calls.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        hasher.finalize_xof().fill(bytes);
    }
}

/// A clock that moves on by a second each time it is asked.
#[derive(Debug)]
pub(crate) struct TickingClock(AtomicI64);

impl Clock for TickingClock {
    fn now(&self) -> Timestamp {
        let second = self.0.fetch_add(1, Ordering::Relaxed);
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_790_000_000 + second)
    }
}

pub(crate) fn world(seed: u64) -> World {
    World { clock: Arc::new(TickingClock(AtomicI64::new(0))), entropy: Arc::new(SeededEntropy::new(seed)) }
}

pub(crate) fn abilities() -> Abilities {
    Abilities {
        probed_at: Timestamp::UNIX_EPOCH,
        create_only: CreateOnly::Atomic,
        most_winners: 1,
        read_after_write: true,
        list_after_write: true,
        delete_is_seen: true,
        claims: Claims::default(),
        clock_ahead_ms: None,
    }
}

pub(crate) fn options() -> OpenOptions {
    OpenOptions { agent: "test".to_owned(), patience: Patience::NO_PAUSE, ..OpenOptions::default() }
}

pub(crate) fn store(folder: &Path) -> Arc<dyn ObjectStore> {
    Arc::new(DirectoryStore::new(folder))
}

/// Argon2id at a price that tests can pay.
pub(crate) const CHEAP: PassphraseCost = PassphraseCost { memory_kib: 8 << 10, passes: 1, lanes: 1 };

pub(crate) async fn init(folder: &Path, world: &World, unlock: &[Unlock]) -> Repository {
    init_in(store(folder), world, unlock).await
}

pub(crate) async fn init_in(store: Arc<dyn ObjectStore>, world: &World, unlock: &[Unlock]) -> Repository {
    Repository::init(store, world.clone(), init_options(), unlock).await.unwrap()
}

pub(crate) fn init_options() -> InitOptions {
    InitOptions { chunk_bytes: CHUNK_BYTES, cost: CHEAP, ..InitOptions::new(abilities(), options()) }
}

pub(crate) async fn open(folder: &Path, world: &World, key: &KeyFile) -> Result<Repository, OpenError> {
    Repository::open(store(folder), world.clone(), &Unlock::KeyFile(key.clone()), options()).await
}

pub(crate) fn name(volume: &str) -> VolumeName {
    volume.parse().unwrap()
}

/// Backs up `image`, against the newest point of the volume if there is one. In one session.
pub(crate) async fn back_up(
    repository: &Repository,
    world: &World,
    volume: &str,
    image: &[u8],
) -> RecoveryPointId {
    back_up_base(repository, world, volume, image, None).await
}

/// The same, of a volume on which a database lies.
pub(crate) async fn back_up_base(
    repository: &Repository,
    world: &World,
    volume: &str,
    image: &[u8],
    database: Option<BaseOfDatabase>,
) -> RecoveryPointId {
    let session = repository.open_session(&format!("backup of {volume}")).await.unwrap();
    let fold = session.fold();
    let parent: Option<Point> = fold
        .points
        .values()
        .filter(|point| point.volume == name(volume))
        .max_by_key(|point| point.number)
        .cloned();
    drop(fold);
    let base = match &parent {
        Some(parent) => MapBase::Full(Some(repository.map(parent).await.unwrap())),
        None => MapBase::Full(None),
    };
    let spec = MapSpec { volume_bytes: image.len() as u64, chunk_bytes: CHUNK_BYTES };
    let (hasher, mut compressor) = (repository.chunk_hasher(), Compressor::default());
    let mut data = session.pack_writer(PackKind::Data);
    let mut places = Vec::new();
    for chunk in image.chunks(CHUNK_BYTES as usize) {
        let id = hasher.id(chunk);
        let known = data.pending(&id).or_else(|| session.lookup(&id));
        places.push(match known {
            _ if is_zero(chunk) => None,
            Some(at) => Some(at),
            None => {
                let coded = compressor.compress(Bytes::copy_from_slice(chunk));
                Some(data.push(id, EntryType::Chunk, coded).await.unwrap())
            }
        });
    }
    data.finish().await.unwrap();
    let mut map = session.map_writer(spec, base).unwrap();
    for (chunk, at) in places.into_iter().enumerate() {
        map.set(chunk as u64, at).await.unwrap();
    }
    let map = map.finish().await.unwrap();
    let info = PointInfo { database, ..info(world, image.len() as u64) };
    let draft = Draft { volume: name(volume), parent, map: DraftMap::Written(map), info };
    session.publish(draft, true).await.unwrap().point
}

fn info(world: &World, volume_bytes: u64) -> PointInfo {
    PointInfo {
        taken_at: world.clock.now(),
        published_at: world.clock.now(),
        volume_bytes,
        source: Source::Image { path: "/dev/test".to_owned() },
        fs: Some("ext4".to_owned()),
        labels: [("app".to_owned(), "grüße".to_owned())].into(),
        agent: "test".to_owned(),
        scanned_bytes: volume_bytes,
        changed_bytes: volume_bytes,
        new_bytes: volume_bytes,
        sent_bytes: volume_bytes,
        duration_ms: 7,
        requests: 9,
        database: None,
    }
}

/// The whole volume as of a point, or the whole chain of the error that stopped it.
pub(crate) async fn restore(repository: &Repository, point: RecoveryPointId) -> Result<Vec<u8>, String> {
    let fold = repository.fold().await.map_err(|error| strongroom_model::chain(&error))?;
    let point = fold.points.get(&point).ok_or("there is no such point")?;
    let map = repository.map(point).await.map_err(|error| strongroom_model::chain(&error))?;
    let head = map.head().clone();
    let mut image = vec![0; usize::try_from(head.volume_bytes).unwrap()];
    let reader = repository.reader().of_point(point.id);
    for run in map.runs(0..head.chunks()).await.map_err(|error| strongroom_model::chain(&error))? {
        let numbers: Vec<u32> = (0..u32::try_from(run.count).unwrap()).map(|n| run.first_entry + n).collect();
        let entries =
            reader.entries(run.pack, &numbers).await.map_err(|error| strongroom_model::chain(&error))?;
        for (chunk, entry) in (run.start..).zip(entries) {
            let at = usize::try_from(chunk * u64::from(CHUNK_BYTES)).unwrap();
            image[at..at + entry.plain.len()].copy_from_slice(&entry.plain);
        }
    }
    Ok(image)
}

/// A volume's content that compresses in part: text, noise and zeros in turn, by the seed.
pub(crate) fn image(seed: u64, bytes: usize) -> Vec<u8> {
    let entropy = SeededEntropy::new(seed);
    let mut image = vec![0; bytes];
    for (number, chunk) in image.chunks_mut(CHUNK_BYTES as usize).enumerate() {
        match (number + usize::try_from(seed % 3).unwrap()) % 3 {
            0 => entropy.fill(chunk),
            1 => {
                let text = format!("chunk {number} of volume {seed}, as plain as text can be; ");
                for (to, from) in chunk.iter_mut().zip(text.bytes().cycle()) {
                    *to = from;
                }
            }
            _ => {}
        }
    }
    image
}

/// Every object of a repository folder, by name.
pub(crate) fn objects(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(below) = folders.pop() {
        for entry in std::fs::read_dir(folder.join(&below)).unwrap() {
            let entry = entry.unwrap();
            let path = below.join(entry.file_name());
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                folders.push(path)
            } else {
                found.push(path.to_str().unwrap().to_owned())
            }
        }
    }
    found.sort_unstable();
    found
}

/// Copies a repository folder, so that a test can do with it what it likes.
pub(crate) fn copy(from: &Path, to: &Path) {
    for object in objects(from) {
        let to = to.join(&object);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from.join(&object), to).unwrap();
    }
}

/// A folder of the workspace's tests.
pub(crate) fn tests_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests")
}
