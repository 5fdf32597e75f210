//! A small world for the tests of this crate: a repository in memory, volumes that are vectors, and counted requests.

pub(crate) mod fake_driver;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use jiff::Timestamp;
use strongroom_console::{Captured, Console, Failed, Output};
use strongroom_model::{Clock, Entropy, RecoveryPointId, VolumeName, World};
use strongroom_object_store::faulty::Faulty;
use strongroom_object_store::memory::MemoryStore;
use strongroom_object_store::record::Record;
use strongroom_object_store::{Counts, Verb};
use strongroom_repository::abilities::{Abilities, Claims, CreateOnly};
use strongroom_repository::chunk::{Blocks, Compressor, is_zero};
use strongroom_repository::keys::{KeyFile, Unlock};
use strongroom_repository::layout::PackKind;
use strongroom_repository::map::{ChunkPlace, DeltaOf, MapBase, MapSpec};
use strongroom_repository::pack::{Delta, EntryType};
use strongroom_repository::store::ObjectStore;
use strongroom_repository::{
    Draft, DraftMap, InitOptions, OpenOptions, Patience, PointInfo, Repository, Source,
};
use strongroom_settings::Choice;

use crate::hydrate::Bounds;
use crate::report::Report;
use crate::request::{Request, TargetRequest};
use crate::restore::{Prepared, Restore};

/// The grid of the tests: small, so that small volumes have many chunks; too small for deltas.
pub(crate) const CHUNK: usize = 16 << 10;

#[derive(Debug)]
struct Dice(AtomicU64);

impl Entropy for Dice {
    fn fill(&self, bytes: &mut [u8]) {
        let call = self.0.fetch_add(1, Ordering::Relaxed);
        blake3::Hasher::new().update(&call.to_le_bytes()).finalize_xof().fill(bytes);
    }
}

/// A clock that goes on by a minute at each look.
#[derive(Debug, Default)]
struct Minutes(Mutex<i64>);

impl Clock for Minutes {
    fn now(&self) -> Timestamp {
        let mut minutes = self.0.lock().unwrap();
        *minutes += 1;
        Timestamp::from_second(1_800_000_000 + *minutes * 60).unwrap()
    }
}

/// Bytes that nobody can compress, the same for the same seed.
pub(crate) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    blake3::Hasher::new().update(b"noise").update(&seed.to_le_bytes()).finalize_xof().fill(&mut noise);
    noise
}

/// A repository and everything around it.
pub(crate) struct Bench {
    pub(crate) store: MemoryStore,
    pub(crate) faulty: Faulty,
    pub(crate) counts: Arc<Counts>,
    pub(crate) repository: Repository,
    pub(crate) world: World,
    pub(crate) folder: tempfile::TempDir,
    key: KeyFile,
    counted: Arc<dyn ObjectStore>,
    images: Mutex<BTreeMap<RecoveryPointId, Vec<u8>>>,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::of_chunks(CHUNK).await
    }

    /// With a grid of its own. Where chunks are large enough, what changed a little is published as deltas.
    pub(crate) async fn of_chunks(chunk_bytes: usize) -> Self {
        let world = World { clock: Arc::new(Minutes::default()), entropy: Arc::new(Dice(AtomicU64::new(0))) };
        let store = MemoryStore::new(Arc::clone(&world.clock));
        let faulty = Faulty::new(Arc::new(store.clone()));
        let record = Record::new(Arc::new(faulty.clone()));
        let counts = record.counts();
        let counted: Arc<dyn ObjectStore> = Arc::new(record);
        let key = KeyFile::generate(&*world.entropy);
        let abilities = Abilities {
            probed_at: world.clock.now(),
            create_only: CreateOnly::Atomic,
            most_winners: 1,
            read_after_write: true,
            list_after_write: true,
            delete_is_seen: true,
            claims: Claims::default(),
            clock_ahead_ms: None,
        };
        let mut options = InitOptions::new(
            abilities,
            OpenOptions { agent: "bench".into(), patience: Patience::NO_PAUSE, ..OpenOptions::default() },
        );
        options.chunk_bytes = u32::try_from(chunk_bytes).unwrap();
        let unlock = [Unlock::KeyFile(key.clone())];
        let repository =
            Repository::init(Arc::clone(&counted), world.clone(), options, &unlock).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        Self { store, faulty, counts, repository, world, folder, key, counted, images: Mutex::default() }
    }

    /// Opens the repository as another machine: nothing is cached.
    pub(crate) async fn elsewhere(&self) -> Repository {
        let options =
            OpenOptions { agent: "elsewhere".into(), patience: Patience::NO_PAUSE, ..OpenOptions::default() };
        let unlock = Unlock::KeyFile(self.key.clone());
        Repository::open(Arc::clone(&self.counted), self.world.clone(), &unlock, options).await.unwrap()
    }

    /// Publishes a point with this content, written against the newest point of the volume.
    pub(crate) async fn publish(&self, volume: &str, image: &[u8]) -> RecoveryPointId {
        let source = Source::Image { path: "/image".into() };
        self.publish_from(volume, image, source).await
    }

    pub(crate) async fn publish_from(&self, volume: &str, image: &[u8], source: Source) -> RecoveryPointId {
        let volume: VolumeName = volume.parse().unwrap();
        let session = self.repository.open_session("test").await.unwrap();
        let fold = session.fold();
        let parent = fold
            .points
            .values()
            .filter(|point| point.volume == volume)
            .max_by_key(|point| point.number)
            .cloned();
        let base = match &parent {
            Some(parent) => MapBase::Full(Some(self.repository.map(parent).await.unwrap())),
            None => MapBase::Full(None),
        };
        let before =
            parent.as_ref().map(|parent| self.images.lock().unwrap()[&parent.id].clone()).unwrap_or_default();
        let chunk_bytes = self.repository.chunk_bytes();
        let spec = MapSpec { volume_bytes: image.len() as u64, chunk_bytes };
        let chunk_bytes = usize::try_from(chunk_bytes).unwrap();
        let hasher = self.repository.chunk_hasher();
        let mut packs = session.pack_writer(PackKind::Data);
        let mut compressor = Compressor::default();
        let mut set = Vec::new();
        let old = match &parent {
            Some(parent) => Some(self.repository.map(parent).await.unwrap()),
            None => None,
        };
        for (number, chunk) in (0_u64..).zip(image.chunks(chunk_bytes)) {
            if is_zero(chunk) {
                continue;
            }
            let start = usize::try_from(number).unwrap() * chunk_bytes;
            let same = before.get(start..start + chunk.len()) == Some(chunk) && before.len() == image.len();
            let place = match &old {
                Some(old) => old.place(number).await.unwrap(),
                None => None,
            };
            let of = place.and_then(|place| delta_of(place, &before[start.min(before.len())..], chunk));
            let place = match (place, of) {
                (Some(place), _) if same => place,
                (_, Some(of)) => {
                    let entry = compressor.compress(Delta::encode(of.base, &of.blocks, chunk));
                    let at = packs.push(hasher.id(chunk), EntryType::Delta, entry).await.unwrap();
                    ChunkPlace { at, delta_of: Some(of) }
                }
                _ => {
                    let entry = compressor.compress(Bytes::copy_from_slice(chunk));
                    packs.push(hasher.id(chunk), EntryType::Chunk, entry).await.unwrap().into()
                }
            };
            set.push((number, place));
        }
        packs.finish().await.unwrap();
        let mut map = session.map_writer(spec, base).unwrap();
        for (number, place) in set {
            map.place(number, Some(place)).await.unwrap();
        }
        let map = map.finish().await.unwrap();
        let info = PointInfo {
            taken_at: self.world.clock.now(),
            published_at: self.world.clock.now(),
            volume_bytes: image.len() as u64,
            source,
            fs: Some("ext4".into()),
            labels: BTreeMap::new(),
            agent: "bench".into(),
            scanned_bytes: 0,
            changed_bytes: 0,
            new_bytes: 0,
            sent_bytes: 0,
            duration_ms: 0,
            requests: 0,
            database: None,
        };
        let draft = Draft { volume, parent, map: DraftMap::Written(map), info };
        let published = session.publish(draft, true).await.unwrap();
        self.images.lock().unwrap().insert(published.point, image.to_vec());
        published.point
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A restore on a machine that has only bucket and key.
    pub(crate) async fn restore(&self) -> (Restore, Captured) {
        let (console, captured) = Console::captured(Output::Text);
        let restore = Restore {
            repository: self.elsewhere().await,
            store: Arc::clone(&self.counted),
            console,
            world: self.world.clone(),
            state_dir: Some(self.path("state")),
            endpoint: None,
            watch: None,
            bounds: Bounds { budget_bytes: 1 << 20, workers: 2, sync_bytes: 100_000 },
        };
        (restore, captured)
    }

    /// Restores a point to a file.
    pub(crate) async fn to_file(&self, point: RecoveryPointId, path: &Path) -> Result<Report, Failed> {
        self.run(&to_file(point, path)).await.map(|(_, report)| report)
    }

    pub(crate) async fn run(&self, request: &Request) -> Result<(Prepared, Report), Failed> {
        let (restore, _) = self.restore().await;
        let mut prepared = restore.plan(request).await?;
        let report = restore.execute(&mut prepared).await?;
        Ok((prepared, report))
    }

    /// Bytes that were read so far.
    pub(crate) fn ranges_read(&self) -> u64 {
        self.counts.requests(Verb::GetRange)
    }

    /// The names of the objects of data packs.
    pub(crate) fn data_packs(&self) -> Vec<String> {
        let names = self.store.contents().into_iter().map(|(name, _)| name);
        names.filter(|name| name.starts_with("packs/")).collect()
    }

    /// Changes an object behind everyone's back.
    pub(crate) fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut body = self.store.contents().into_iter().find(|(other, _)| other == name).unwrap().1.to_vec();
        change(&mut body);
        self.store.damage(name, Some(body.into()));
    }
}

/// What a delta of a chunk is built on, where little of it changed since the parent.
fn delta_of(parent: ChunkPlace, before: &[u8], chunk: &[u8]) -> Option<DeltaOf> {
    let before = before.get(..chunk.len())?;
    let of = parent.delta_of.unwrap_or(DeltaOf { base: parent.at, blocks: Blocks::NONE });
    let mut blocks = of.blocks;
    for (block, (old, new)) in (0..).zip(before.chunks(4096).zip(chunk.chunks(4096))) {
        if old != new {
            blocks.insert(block);
        }
    }
    Delta::is_worth_it(&blocks, chunk.len()).then_some(DeltaOf { blocks, ..of })
}

pub(crate) fn to_file(point: RecoveryPointId, path: &Path) -> Request {
    Request {
        volume: None,
        choice: Choice::Id(point.to_string()),
        target: TargetRequest::File { path: path.into(), overwrite: false },
        verify: None,
        keep_going: false,
        start_over: false,
    }
}
