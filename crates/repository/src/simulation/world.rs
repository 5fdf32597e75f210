//! Repositories, volumes and points of the simulation: small packs, small volumes, real bytes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use strongroom_model::{Clock, RecoveryPointId, VolumeName, World};

use super::store::{Faults, FaultyStore};
use crate::abilities::{Abilities, Claims, CreateOnly};
use crate::chunk::Compressor;
use crate::errors::PublishError;
use crate::keys::{KeyFile, PassphraseCost, Unlock};
use crate::layout::PackKind;
use crate::map::{MapBase, MapSpec};
use crate::pack::{EntryRef, EntryType, PackWriter, Receipts};
use crate::patience::Patience;
use crate::point::{Point, PointInfo, Source};
use crate::rules::{Rule, holds};
use crate::session::{Draft, DraftMap, Published, Session};
use crate::testing::{SeededEntropy, next_content};
use crate::{InitOptions, OpenOptions, Repository};

pub(crate) const CHUNK: usize = 16 << 10;

/// What a volume holds: a byte that fills each chunk; 0 is a hole.
pub(crate) type Content = Vec<u8>;

#[derive(Debug)]
struct StoreClock(FaultyStore, SignedDuration);

impl Clock for StoreClock {
    fn now(&self) -> Timestamp {
        self.0.now() + self.1
    }
}

/// A repository in a faulty store, and what opens it.
#[derive(Debug, Clone)]
pub(crate) struct Trial {
    pub(crate) store: FaultyStore,
    pub(crate) world: World,
    pub(crate) unlock: Unlock,
}

pub(crate) fn able() -> Abilities {
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

pub(crate) fn options(agent: &str, state_dir: Option<PathBuf>) -> OpenOptions {
    OpenOptions { agent: agent.to_owned(), patience: Patience::NO_PAUSE, state_dir, ..OpenOptions::default() }
}

impl Trial {
    pub(crate) async fn begin(seed: u64) -> (Self, Repository) {
        Self::begin_with(seed, able(), None).await
    }

    pub(crate) async fn begin_with(
        seed: u64,
        abilities: Abilities,
        state: Option<PathBuf>,
    ) -> (Self, Repository) {
        Self::begin_as(seed, abilities, state, false).await
    }

    /// One that key domains can share.
    pub(crate) async fn begin_shared(seed: u64) -> (Self, Repository) {
        Self::begin_as(seed, able(), None, true).await
    }

    async fn begin_as(
        seed: u64,
        abilities: Abilities,
        state: Option<PathBuf>,
        shared: bool,
    ) -> (Self, Repository) {
        let store = FaultyStore::new(seed, Faults::default());
        let entropy = Arc::new(SeededEntropy::new(seed));
        let unlock = Unlock::KeyFile(KeyFile::generate(&*entropy));
        let world = World { clock: Arc::new(StoreClock(store.clone(), SignedDuration::ZERO)), entropy };
        let trial = Self { store, world, unlock };
        let init = InitOptions {
            chunk_bytes: u32::try_from(CHUNK).unwrap(),
            cost: PassphraseCost::TEST,
            shared,
            ..InitOptions::new(abilities, options("first", state))
        };
        let store = Arc::new(trial.store.clone());
        let repository =
            Repository::init(store, trial.world.clone(), init, std::slice::from_ref(&trial.unlock))
                .await
                .unwrap();
        (trial, repository)
    }

    /// The same repository, for one who meets no faults.
    pub(crate) fn quiet(&self) -> Self {
        Self { store: self.store.quiet(), ..self.clone() }
    }

    /// The same repository, for one whose clock is wrong.
    pub(crate) fn with_clock_off_by(&self, days: i64) -> Self {
        let clock = Arc::new(StoreClock(self.store.clone(), SignedDuration::from_hours(24 * days)));
        Self { world: World { clock, ..self.world.clone() }, ..self.clone() }
    }

    pub(crate) async fn open(&self, agent: &str) -> Repository {
        self.try_open(options(agent, None)).await.unwrap()
    }

    pub(crate) async fn try_open(&self, options: OpenOptions) -> Result<Repository, crate::OpenError> {
        Repository::open(Arc::new(self.store.clone()), self.world.clone(), &self.unlock, options).await
    }
}

pub(crate) fn volume(name: &str) -> VolumeName {
    name.parse().unwrap()
}

/// Not compressible to nothing, and the same for the same fill.
pub(crate) fn chunk(fill: u8) -> bytes::Bytes {
    static CHUNKS: std::sync::OnceLock<Vec<bytes::Bytes>> = std::sync::OnceLock::new();
    let make = |fill| {
        let mut bytes = vec![0; CHUNK];
        blake3::Hasher::new().update(&[fill]).finalize_xof().fill(&mut bytes);
        bytes.into()
    };
    CHUNKS.get_or_init(|| (0..=255).map(make).collect())[usize::from(fill)].clone()
}

/// Which fill has these bytes.
fn known() -> &'static BTreeMap<bytes::Bytes, u8> {
    static KNOWN: std::sync::OnceLock<BTreeMap<bytes::Bytes, u8>> = std::sync::OnceLock::new();
    KNOWN.get_or_init(|| (1..=255).map(|fill| (chunk(fill), fill)).collect())
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Uploads what is new of `content` and writes its map: everything of a backup but the publishing.
pub(crate) async fn capture(
    session: &Session,
    name: &str,
    content: &Content,
    parent: Option<&Point>,
) -> Result<Draft, Failed> {
    let all: Vec<usize> = (0..content.len()).collect();
    let places = store(session, content, &all).await?;
    let base = match parent {
        Some(parent) => Some(session.repository().map(parent).await?),
        None => None,
    };
    draft(session, name, content, parent, MapBase::Full(base), places).await
}

/// As [`capture`], but only what differs from the parent's content is looked at: the rest comes with the
/// parent's map.
pub(crate) async fn capture_changes(
    session: &Session,
    name: &str,
    before: &Content,
    content: &Content,
    parent: &Point,
) -> Result<Draft, Failed> {
    let changed: Vec<usize> = (0..content.len()).filter(|at| before[*at] != content[*at]).collect();
    let places = store(session, content, &changed).await?;
    let base = MapBase::Delta(session.repository().map(parent).await?);
    draft(session, name, content, Some(parent), base, places).await
}

/// Says where each of these chunks lies, and uploads those that lie nowhere.
async fn store(
    session: &Session,
    content: &Content,
    chunks: &[usize],
) -> Result<Vec<(u64, Option<EntryRef>)>, Failed> {
    let hasher = session.repository().chunk_hasher();
    let mut writer = session.pack_writer(PackKind::Data);
    let mut compressor = Compressor::default();
    let mut places = Vec::new();
    name_by_content(session, content, chunks);
    for number in chunks {
        let fill = content[*number];
        if fill == 0 {
            places.push((*number as u64, None));
            continue;
        }
        let bytes = chunk(fill);
        let id = hasher.id(&bytes);
        let at = match writer.pending(&id).or_else(|| session.lookup(&id)) {
            Some(at) => at,
            None => writer.push(id, EntryType::Chunk, compressor.compress(bytes)).await?,
        };
        places.push((*number as u64, Some(at)));
    }
    writer.finish().await?;
    Ok(places)
}

/// Where a test takes the rule of fresh names away: the pack will be named by what it will hold.
fn name_by_content(session: &Session, content: &Content, chunks: &[usize]) {
    if !holds(Rule::FreshPackNames) {
        let hasher = session.repository().chunk_hasher();
        let fills = chunks.iter().map(|number| content[*number]).filter(|fill| *fill != 0);
        let new: Vec<u8> = fills.filter(|fill| session.lookup(&hasher.id(&chunk(*fill))).is_none()).collect();
        next_content(&new);
    }
}

/// Uploads the chunks of `content` without any session: what nobody may do.
pub(crate) async fn upload_before(repository: &Repository, content: &Content) -> Receipts {
    let receipts = Receipts::new();
    let context = repository.inner.context.clone();
    let mut writer = PackWriter::new(context, PackKind::Data, repository.pack_settings(), receipts.clone());
    let mut compressor = Compressor::default();
    for fill in content.iter().copied().filter(|fill| *fill != 0) {
        let id = repository.chunk_hasher().id(&chunk(fill));
        if writer.pending(&id).is_none() {
            let _ = writer.push(id, EntryType::Chunk, compressor.compress(chunk(fill))).await;
        }
    }
    let _ = writer.finish().await;
    receipts
}

async fn draft(
    session: &Session,
    name: &str,
    content: &Content,
    parent: Option<&Point>,
    base: MapBase,
    places: Vec<(u64, Option<EntryRef>)>,
) -> Result<Draft, Failed> {
    let volume_bytes = (content.len() * CHUNK) as u64;
    let spec = MapSpec { volume_bytes, chunk_bytes: u32::try_from(CHUNK)? };
    let mut map = session.map_writer(spec, base)?;
    for (number, at) in places {
        map.set(number, at).await?;
    }
    let written = map.finish().await?;
    Ok(Draft {
        volume: volume(name),
        parent: parent.cloned(),
        map: DraftMap::Written(written),
        info: info(session.repository(), volume_bytes),
    })
}

pub(crate) fn info(repository: &Repository, volume_bytes: u64) -> PointInfo {
    let now = repository.inner.world.clock.now();
    PointInfo {
        taken_at: now,
        published_at: now,
        volume_bytes,
        source: Source::Image { path: "/simulation".to_owned() },
        fs: None,
        labels: BTreeMap::new(),
        agent: String::new(),
        scanned_bytes: volume_bytes,
        changed_bytes: 0,
        new_bytes: 0,
        sent_bytes: 0,
        duration_ms: 0,
        requests: 0,
        database: None,
    }
}

/// A whole backup in a session of its own.
pub(crate) async fn backup(
    repository: &Repository,
    name: &str,
    content: &Content,
    parent: Option<&Point>,
) -> Result<Published, PublishError> {
    let session = repository.open_session(name).await.unwrap();
    let draft = capture(&session, name, content, parent).await.unwrap();
    session.publish(draft, true).await
}

/// Reads a whole point back.
pub(crate) async fn restore(
    repository: &Repository,
    point: RecoveryPointId,
) -> Result<Content, Box<dyn std::error::Error + Send + Sync>> {
    let fold = repository.fold().await?;
    let point = fold.points.get(&point).ok_or("the point is not current")?;
    restore_known(repository, point).await
}

/// Reads a whole point back, by what is known already of where packs lie.
pub(crate) async fn restore_known(
    repository: &Repository,
    point: &Point,
) -> Result<Content, Box<dyn std::error::Error + Send + Sync>> {
    let map = repository.map(point).await?;
    let reader = repository.reader().of_point(point.id);
    let mut content = vec![0; usize::try_from(map.head().chunks())?];
    for run in map.runs(0..map.head().chunks()).await? {
        let count = u32::try_from(run.count)?;
        let numbers: Vec<u32> = (run.first_entry..run.first_entry + count).collect();
        let entries = reader.entries(run.pack, &numbers).await?;
        for (at, entry) in (usize::try_from(run.start)?..).zip(entries) {
            content[at] = *known().get(&entry.plain).ok_or("wrong bytes")?;
        }
    }
    Ok(content)
}
