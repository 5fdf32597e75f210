//! The repository as its users see it: one cheap handle through which everything goes.

mod domains;
mod keys;
mod logs;
mod opening;
mod points;
mod rotation;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use strongroom_model::{RecoveryPointId, RepositoryId, World};

use crate::abilities::Abilities;
use crate::chunk::ChunkHasher;
use crate::errors::JournalError;
use crate::fold::Fold;
use crate::head::Head;
use crate::index::DedupIndex;
use crate::index_sync::Covered;
use crate::journal::Journal;
use crate::keys::{DataSeal, Grants, PassphraseCost};
use crate::map::{MapError, MapReader, MapRoot};
use crate::pack::{PackContext, PackFetcher, PackSettings};
use crate::patience::Patience;
use crate::point::Point;
use crate::reader::PackReader;
use crate::record::{Event, RecordHash, RestoreTested, Restored};
use crate::store::ObjectStore;

pub use domains::Domain;
pub(crate) use keys::create_owned;
pub use logs::{Bundle, LogError, MOST_BUNDLE_BYTES};
pub(crate) use opening::{Renewal, Rings};
pub use rotation::{Rotated, Rotation};

/// How many bytes of opened footers are kept in memory. A footer of a 64 MiB pack of 64 KiB chunks has about 80
/// KB, so this is about 200 packs: what a restore of a volume with a few old layers moves between.
const FOOTER_CACHE_BYTES: usize = 16 << 20;

/// How a repository is made.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// The size of a chunk: a power of two from 16 KiB to 1 MiB.
    pub chunk_bytes: u32,
    /// What the probe saw. A store without create-only writes is used in single-writer mode, by `open.agent`
    /// alone.
    pub abilities: Abilities,
    /// How data is sealed.
    pub data_seal: DataSeal,
    /// Whether key domains can share it.
    pub shared: bool,
    /// What argon2id costs, for slots with a passphrase.
    pub cost: PassphraseCost,
    /// How it is opened afterwards.
    pub open: OpenOptions,
}

impl InitOptions {
    /// 64 KiB chunks, and the usual cost.
    #[must_use]
    pub const fn new(abilities: Abilities, open: OpenOptions) -> Self {
        Self {
            chunk_bytes: 64 << 10,
            abilities,
            data_seal: DataSeal::Open,
            shared: false,
            cost: PassphraseCost::DEFAULT,
            open,
        }
    }
}

/// How a repository is opened.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// Where this machine keeps what it remembers of repositories (one folder each below it): the highest
    /// record it saw, the dedup index, receipts of open sessions. `None`: nothing is remembered.
    pub state_dir: Option<PathBuf>,
    /// Who this is. Sessions can be taken up again only by the agent of the same name.
    pub agent: String,
    /// How long the journal is tried.
    pub patience: Patience,
    /// Which key domain is meant; `None`: the one that the key opens.
    pub domain: Option<u32>,
    /// A person's reason to go on although the journal lost records that this machine saw. It is written down
    /// in the journal.
    pub accept_rollback: Option<String>,
}

/// An open repository. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Repository {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) head: Head,
    pub(crate) world: World,
    pub(crate) context: PackContext,
    pub(crate) fetcher: PackFetcher,
    pub(crate) journal: Journal,
    pub(crate) index: Arc<DedupIndex>,
    pub(crate) covered: Mutex<Covered>,
}

impl Repository {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> RepositoryId {
        self.inner.head.repository
    }

    /// The size of a chunk.
    #[must_use]
    pub fn chunk_bytes(&self) -> u32 {
        self.inner.head.chunk_bytes
    }

    /// The plain head object.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.inner.head
    }

    /// Whether it is a copy: nobody writes to it.
    #[must_use]
    pub fn is_copy(&self) -> bool {
        self.journal().copy.is_some()
    }

    /// Where it lies, for people: a URL without secrets.
    #[must_use]
    pub fn location(&self) -> String {
        self.store().location()
    }

    /// What the key that it was opened with grants.
    #[must_use]
    pub fn grants(&self) -> Grants {
        self.inner.context.keyring.grants()
    }

    /// How data is sealed from now on.
    #[must_use]
    pub fn data_seal(&self) -> DataSeal {
        self.inner.context.keyring.data_seal()
    }

    pub(crate) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.inner.context.store
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.inner.journal
    }

    /// How packs of this repository are written.
    pub(crate) fn pack_settings(&self) -> PackSettings {
        PackSettings { domain: self.domain(), ..PackSettings::default() }
    }

    /// Makes the ids of chunks.
    #[must_use]
    pub fn chunk_hasher(&self) -> ChunkHasher {
        ChunkHasher::new(&self.inner.context.keyring, self.domain())
    }

    /// Reads the journal forward, usually one request, then answers.
    ///
    /// # Errors
    /// When the journal cannot be read or is not what it should be.
    pub async fn fold(&self) -> Result<Arc<Fold>, JournalError> {
        self.journal().read().await
    }

    /// The fold as it was last read; no request.
    #[must_use]
    pub fn known_fold(&self) -> Arc<Fold> {
        self.journal().known()
    }

    /// The number and hash of the newest record known here: what a person compares on a machine that never saw
    /// the repository.
    #[must_use]
    pub fn high_water(&self) -> (u64, RecordHash) {
        let fold = self.known_fold();
        (fold.number, fold.hash)
    }

    /// Reads packs, wherever they lie now.
    #[must_use]
    pub fn reader(&self) -> PackReader {
        PackReader::new(self.clone())
    }

    /// The map of a point.
    ///
    /// # Errors
    /// When its root cannot be read.
    pub async fn map(&self, point: &Point) -> Result<MapReader, MapError> {
        MapReader::open(Arc::new(self.reader().of_point(point.id)), point.map).await
    }

    /// The map of a current point, of whatever domain.
    pub(crate) async fn map_of(&self, point: RecoveryPointId, root: MapRoot) -> Result<MapReader, MapError> {
        MapReader::open(Arc::new(self.reader().of_point(point)), root).await
    }

    /// The map with this root.
    ///
    /// # Errors
    /// When the root cannot be read.
    pub async fn map_at(&self, root: MapRoot) -> Result<MapReader, MapError> {
        MapReader::open(Arc::new(self.reader()), root).await
    }

    /// Notes in the journal that a point was restored.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn note_restored(&self, restored: Restored) -> Result<(), JournalError> {
        self.journal().say(Event::Restored(restored)).await.map(drop)
    }

    /// Notes in the journal that a restore was tried.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn note_restore_tested(&self, tested: RestoreTested) -> Result<(), JournalError> {
        self.journal().say(Event::RestoreTested(tested)).await.map(drop)
    }
}
