//! The repository as its users see it: one cheap handle through which everything goes.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use strongroom_model::{RecoveryPointId, RepositoryId, World};

use crate::abilities::Abilities;
use crate::check::{AuditReport, CheckReport, Progress, RebuildReport, Stats};
use crate::chunk::ChunkHasher;
use crate::errors::{InitError, JournalError, KeysError, OpenError, SessionError, SweepError};
use crate::fold::Fold;
use crate::head::Head;
use crate::keys::{KeySlot, PassphraseCost, Unlock};
use crate::map::{MapError, MapReader, MapRoot};
use crate::patience::Patience;
use crate::point::Point;
use crate::reader::PackReader;
use crate::record::{RecordHash, RestoreTested, Restored};
use crate::session::Session;
use crate::store::ObjectStore;
use crate::sweep::{SweepOptions, SweepPlan, SweepReport};

/// How a repository is made.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// The size of a chunk: a power of two from 16 KiB to 1 MiB.
    pub chunk_bytes: u32,
    /// What the probe saw. A store without create-only writes is used in single-writer mode, by `open.agent` alone.
    pub abilities: Abilities,
    /// What argon2id costs, for slots with a passphrase.
    pub cost: PassphraseCost,
    /// How it is opened afterwards.
    pub open: OpenOptions,
}

impl InitOptions {
    /// 64 KiB chunks, and the usual cost.
    #[must_use]
    pub const fn new(abilities: Abilities, open: OpenOptions) -> Self {
        Self { chunk_bytes: 64 << 10, abilities, cost: PassphraseCost::DEFAULT, open }
    }
}

/// How a repository is opened.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// Where this machine keeps what it remembers of repositories (one folder each below it): the highest record it saw,
    /// the dedup index, receipts of open sessions. `None`: nothing is remembered.
    pub state_dir: Option<PathBuf>,
    /// Who this is. Sessions can be taken up again only by the agent of the same name.
    pub agent: String,
    /// How long the journal is tried.
    pub patience: Patience,
}

/// An open repository. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Repository {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) head: Head,
}

impl Repository {
    /// Makes a repository: its head object, a key slot for each of `unlock`, and the first records.
    ///
    /// # Errors
    /// When there is one already, the chunk size is none, or the store fails.
    pub async fn init(
        _store: Arc<dyn ObjectStore>,
        _world: World,
        _options: InitOptions,
        _unlock: &[Unlock],
    ) -> Result<Self, InitError> {
        todo!()
    }

    /// Opens a repository: its head, a slot that `unlock` opens, and its journal.
    ///
    /// # Errors
    /// When there is none, the key is wrong, or the journal cannot be read, is damaged or was rolled back.
    pub async fn open(
        _store: Arc<dyn ObjectStore>,
        _world: World,
        _unlock: &Unlock,
        _options: OpenOptions,
    ) -> Result<Self, OpenError> {
        todo!()
    }

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

    /// Where it lies, for people: a URL without secrets.
    #[must_use]
    pub fn location(&self) -> String {
        todo!()
    }

    /// Makes the ids of chunks.
    #[must_use]
    pub fn chunk_hasher(&self) -> ChunkHasher {
        todo!()
    }

    /// Reads the journal forward, usually one request, then answers.
    ///
    /// # Errors
    /// When the journal cannot be read or is not what it should be.
    pub async fn fold(&self) -> Result<Arc<Fold>, JournalError> {
        todo!()
    }

    /// The fold as it was last read; no request.
    #[must_use]
    pub fn known_fold(&self) -> Arc<Fold> {
        todo!()
    }

    /// Begins a session, or takes up one that this agent had open for the same purpose on this machine when it was killed:
    /// what that one stored is not sent again.
    ///
    /// # Errors
    /// When `opened` cannot be appended.
    pub async fn open_session(&self, _purpose: &str) -> Result<Session, SessionError> {
        todo!()
    }

    /// Reads packs, wherever they lie now.
    #[must_use]
    pub fn reader(&self) -> PackReader {
        todo!()
    }

    /// The map of a point.
    ///
    /// # Errors
    /// When its root cannot be read.
    pub async fn map(&self, point: &Point) -> Result<MapReader, MapError> {
        self.map_at(point.map).await
    }

    /// The map with this root.
    ///
    /// # Errors
    /// When the root cannot be read.
    pub async fn map_at(&self, _root: MapRoot) -> Result<MapReader, MapError> {
        todo!()
    }

    /// Puts a hold on a point; while it is there nobody can forget the point. Nothing happens when it is there already.
    ///
    /// # Errors
    /// When the point is not current, or the journal fails.
    pub async fn hold(&self, _point: RecoveryPointId, _hold: &str) -> Result<(), JournalError> {
        todo!()
    }

    /// Takes a hold off.
    ///
    /// # Errors
    /// When there is no such hold, or the journal fails.
    pub async fn release(&self, _point: RecoveryPointId, _hold: &str) -> Result<(), JournalError> {
        todo!()
    }

    /// Forgets a point. Its bytes go with a later sweep.
    ///
    /// # Errors
    /// When it is not current or is held, or the journal fails.
    pub async fn forget(&self, _point: RecoveryPointId, _reason: &str) -> Result<(), JournalError> {
        todo!()
    }

    /// Forgets what `rule` names, one record each. The rule is asked again on every fold that a record is decided on, so that it
    /// counts what others published or forgot meanwhile. Held points that it names are left alone. Answers what was forgotten.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn forget_by(
        &self,
        _rule: impl FnMut(&Fold) -> Vec<RecoveryPointId> + Send,
        _reason: &str,
    ) -> Result<Vec<RecoveryPointId>, JournalError> {
        todo!()
    }

    /// Shuts a writer out because a person says so. It costs the writer a new session, never data.
    ///
    /// # Errors
    /// When the session is not open, or the journal fails.
    pub async fn fence(&self, _session: u64, _reason: &str) -> Result<(), JournalError> {
        todo!()
    }

    /// Shuts out every writer whose sign of life is older than a day by the store's own clock. Answers whom.
    ///
    /// # Errors
    /// When the store or the journal fails.
    pub async fn fence_stale(&self) -> Result<Vec<u64>, SweepError> {
        todo!()
    }

    /// What a sweep would do now. Reads only.
    ///
    /// # Errors
    /// When a map cannot be read: then nobody can know what is needed.
    pub async fn plan_sweep(&self, _options: &SweepOptions) -> Result<SweepPlan, SweepError> {
        todo!()
    }

    /// Sweeps: finishes the pending plan, whosever it is, then plans, and executes as far as no session is in the way.
    ///
    /// # Errors
    /// When a map cannot be read, or the store or the journal fails. What was planned stays pending.
    pub async fn sweep(&self, _options: &SweepOptions) -> Result<SweepReport, SweepError> {
        todo!()
    }

    /// Checks that everything that current points need is there, and with `read_data` that every needed byte is what was
    /// stored. Damage is in the report, not an error.
    ///
    /// # Errors
    /// Only when the journal cannot be read.
    pub async fn check(
        &self,
        _read_data: bool,
        _progress: Progress<'_>,
    ) -> Result<CheckReport, JournalError> {
        todo!()
    }

    /// How much there is of what.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn stats(&self) -> Result<Stats, JournalError> {
        todo!()
    }

    /// Makes the dedup index again from the footers of all packs, here and in the store.
    ///
    /// # Errors
    /// When the journal or the store fails.
    pub async fn rebuild_index(&self, _progress: Progress<'_>) -> Result<RebuildReport, SweepError> {
        todo!()
    }

    /// Folds the journal from its first record and compares each checkpoint.
    ///
    /// # Errors
    /// When a record is missing, damaged, or breaks a rule.
    pub async fn audit(&self, _progress: Progress<'_>) -> Result<AuditReport, JournalError> {
        todo!()
    }

    /// Adds a way to unlock the repository.
    ///
    /// # Errors
    /// When the slot or its record cannot be written.
    pub async fn add_key(
        &self,
        _unlock: &Unlock,
        _label: &str,
        _cost: PassphraseCost,
    ) -> Result<KeySlot, KeysError> {
        todo!()
    }

    /// The key slots.
    ///
    /// # Errors
    /// When the store fails or a slot is malformed.
    pub async fn list_keys(&self) -> Result<Vec<KeySlot>, KeysError> {
        todo!()
    }

    /// Removes a key slot; never the last.
    ///
    /// # Errors
    /// When there is no such slot, it is the last, or the journal or the store fails.
    pub async fn remove_key(&self, _slot: [u8; 8]) -> Result<(), KeysError> {
        todo!()
    }

    /// Notes in the journal that a point was restored.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn note_restored(&self, _restored: Restored) -> Result<(), JournalError> {
        todo!()
    }

    /// Notes in the journal that a restore was tried.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn note_restore_tested(&self, _tested: RestoreTested) -> Result<(), JournalError> {
        todo!()
    }

    /// The number and hash of the newest record known here: what a person compares on a machine that never saw the repository.
    #[must_use]
    pub fn high_water(&self) -> (u64, RecordHash) {
        todo!()
    }

    /// The sessions whose sign of life is older than a day, with the moment of that sign.
    ///
    /// # Errors
    /// When the store or the journal fails.
    pub async fn stale_sessions(&self) -> Result<Vec<(u64, Option<Timestamp>)>, SweepError> {
        todo!()
    }

    /// The index runs that this repository's machine knows; for tests and `stats`.
    #[must_use]
    pub fn known_index_runs(&self) -> BTreeSet<[u8; 16]> {
        todo!()
    }
}
