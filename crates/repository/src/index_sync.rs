//! Keeping the local dedup index in step with the runs in the store.
//!
//! Each session leaves runs of what it stored under `index/`. Another agent fetches those that it lacks when a
//! session begins and the journal names packs that it has not looked for yet; so an agent that is alone, or has
//! seen all, sends no request for it. A sweep joins small runs, so their number grows with the data, not with
//! the age of the repository. All of this is a cache: what fails is logged, and chunks are stored twice.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};

use futures::StreamExt;
use strongroom_model::PackId;

use crate::fold::Fold;
use crate::index::{IndexRun, RunKey};
use crate::keys::domain_of;
use crate::layout::{ObjectKind, ObjectName, PackKind};
use crate::repository::Repository;
use crate::seal;
use crate::store::StoreError;

/// How many runs are fetched side by side; each has at most 24 MB.
const RUNS_AT_ONCE: usize = 2;

/// The data packs that the local index was asked to know, so that nobody looks for them again.
#[derive(Debug, Default)]
pub(crate) struct Covered(HashSet<PackId>);

impl Repository {
    /// Fetches what the local index lacks.
    pub(crate) async fn refresh_index(&self, fold: &Fold) {
        let data = |fold: &Fold| -> Vec<PackId> {
            fold.packs
                .iter()
                .filter(|(_, pack)| pack.place.kind == PackKind::Data)
                .map(|(id, _)| *id)
                .collect()
        };
        let packs = data(fold);
        if self.covers(&packs) {
            return;
        }
        match self.list_runs().await {
            Ok(keys) => {
                let known = self.inner.index.known_runs();
                let missing = keys.into_iter().filter(|key| !known.contains(key));
                futures::stream::iter(missing)
                    .for_each_concurrent(RUNS_AT_ONCE, |key| self.fetch_run(key))
                    .await;
                self.cover(packs);
            }
            Err(error) => {
                let cause = strongroom_model::chain(&error);
                tracing::warn!(
                    cause,
                    "the dedup index could not be brought up to date; some chunks may be stored twice"
                );
            }
        }
    }

    fn covers(&self, packs: &[PackId]) -> bool {
        let covered = self.inner.covered.lock().unwrap_or_else(PoisonError::into_inner);
        packs.iter().all(|pack| covered.0.contains(pack) || self.inner.index.knows_pack(pack))
    }

    pub(crate) fn cover(&self, packs: impl IntoIterator<Item = PackId>) {
        self.inner.covered.lock().unwrap_or_else(PoisonError::into_inner).0.extend(packs);
    }

    /// The runs in the store, as LIST shows them.
    pub(crate) async fn list_runs(&self) -> Result<Vec<RunKey>, StoreError> {
        let mut keys = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.store().list("index/", after.as_deref()).await?;
            keys.extend(page.objects.iter().filter_map(|object| match ObjectName::parse(&object.name)?.1 {
                ObjectKind::IndexRun(key) => Some(key),
                _ => None,
            }));
            after = page.objects.last().map(|object| object.name.clone());
            if !page.more || after.is_none() {
                return Ok(keys);
            }
        }
    }

    /// A run of the store, opened; `None` when it is gone or not sound.
    pub(crate) async fn open_run(&self, key: RunKey) -> Option<IndexRun> {
        let sealed = self.journal().get(&ObjectName::index_run(key)).await.ok()?;
        match IndexRun::open(&self.inner.context.keyring, self.id(), key, &sealed) {
            Ok(run) => Some(run),
            Err(error) => {
                let cause = strongroom_model::chain(&error);
                tracing::warn!(object = %ObjectName::index_run(key), cause, "a run of the dedup index is not used");
                None
            }
        }
    }

    /// The epoch under which a run is sealed.
    pub(crate) async fn epoch_of_run(&self, key: RunKey) -> Option<u32> {
        let name = ObjectName::index_run(key);
        let header = self.store().get_range(&name, 0, seal::HEADER_BYTES as u64).await.ok()?;
        seal::epoch_of(&header).ok()
    }

    async fn fetch_run(&self, key: RunKey) {
        // Another domain's runs do not open, or name chunks that this one never has.
        if self.is_shared()
            && self.epoch_of_run(key).await.is_none_or(|epoch| domain_of(epoch) != self.domain())
        {
            return;
        }
        if let Some(run) = self.open_run(key).await {
            self.add_run(key, run).await;
        }
    }

    /// Adds a run to the local index.
    pub(crate) async fn add_run(&self, key: RunKey, run: IndexRun) {
        let (index, fold) = (Arc::clone(&self.inner.index), self.known_fold());
        let listed = move |pack: &PackId| fold.packs.contains_key(pack);
        let added = crate::off_thread::run(move || index.add_run(key, &run, &listed)).await;
        if let Ok(Err(error)) = added {
            let cause = strongroom_model::chain(&error);
            tracing::warn!(
                cause,
                "the local dedup index does not take a run; some chunks may be stored twice"
            );
        }
    }

    /// Leaves a run in the store, for other agents and for the next machine.
    pub(crate) async fn leave_run(&self, key: RunKey, run: &IndexRun) -> Result<(), StoreError> {
        self.leave_run_under(None, key, run).await
    }

    /// [`Self::leave_run`], for the domain that seals under this epoch.
    pub(crate) async fn leave_run_under(
        &self,
        epoch: Option<u32>,
        key: RunKey,
        run: &IndexRun,
    ) -> Result<(), StoreError> {
        let context = &self.inner.context;
        let ring = &context.keyring;
        let (epoch, master) = epoch.map_or_else(|| ring.sealing(), |epoch| ring.sealing_for(epoch));
        match run.seal_under(&master, epoch, ring.cipher(), self.id(), key, &*context.entropy) {
            Ok(sealed) => self.store().put(&ObjectName::index_run(key), sealed).await,
            // Larger than a run may be: it was not made by `take_from`.
            Err(_) => Ok(()),
        }
    }

    /// A key for a new run.
    pub(crate) fn new_run_key(&self) -> RunKey {
        let mut key = [0; 16];
        self.inner.world.entropy.fill(&mut key);
        key
    }
}
