//! Making a repository, and opening one.
//!
//! `init` writes the key slots, then the head object: that one create-only write decides. The records that name
//! the first slots are the first of the journal; whoever opens a repository whose maker was interrupted before
//! them writes them.

use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use strongroom_model::{RepositoryId, World};

use super::keys::create_owned;
use super::{FOOTER_CACHE_BYTES, InitOptions, Inner, OpenOptions, Repository};
use crate::copy::Promoted;
use crate::errors::{InitError, JournalError, OpenError};
use crate::fold::Fold;
use crate::head::{self, FORMAT_VERSION, Head, MAGIC};
use crate::index::DedupIndex;
use crate::index_sync::Covered;
use crate::journal::state::StateDir;
use crate::journal::{CopyLimit, Journal, opening::Opening};
use crate::keys::{self, Grants, KeySlot, Keyring, NewKey, RecipientKey, Unlock};
use crate::layout::{ObjectKind, ObjectName};
use crate::pack::{PackContext, PackFetcher};
use crate::record::{Event, KeyAdded};
use crate::store::{ObjectStore, StoreError};

/// How many key slots are looked at. Two for each domain of a shared repository, and its keys: of more than a thousand domains
/// the last would no longer be found.
const MOST_SLOTS: usize = 4096;

/// How many of them are fetched side by side.
const SLOTS_AT_ONCE: usize = 16;

/// The index of a machine that keeps nothing: about 60 MB at most.
const MEMORY_INDEX_ENTRIES: usize = 1 << 20;

impl Repository {
    /// Makes a repository: its head object, a key slot for each of `unlock`, and the first records.
    ///
    /// # Errors
    /// When there is one already, the chunk size is none, or the store fails.
    pub async fn init(
        store: Arc<dyn ObjectStore>,
        world: World,
        options: InitOptions,
        unlock: &[Unlock],
    ) -> Result<Self, InitError> {
        let location = store.location();
        if !head::is_chunk_size(options.chunk_bytes) {
            return Err(InitError::ChunkBytes { bytes: options.chunk_bytes });
        }
        let first = unlock.first().ok_or(InitError::NoKey)?;
        match store.get(&ObjectName::head()).await {
            Err(StoreError::NotFound { .. }) => {}
            Ok(_) => return Err(InitError::Exists { location }),
            Err(cause) => return Err(InitError::Store { location, cause }),
        }
        let repository = RepositoryId::random(&*world.entropy);
        let slots = wrap_all(&world, &options, repository, unlock).await?;
        for slot in &slots {
            create_owned(store.as_ref(), &ObjectName::key_slot(slot.id()), slot.encode())
                .await
                .map_err(|cause| InitError::Store { location: location.clone(), cause })?;
        }
        let mut owner = [0; 16];
        world.entropy.fill(&mut owner);
        let single_writer = !options.abilities.several_writers();
        let head = Head {
            magic: MAGIC.to_owned(),
            format: FORMAT_VERSION,
            repository,
            chunk_bytes: options.chunk_bytes,
            created_at: world.clock.now(),
            abilities: options.abilities,
            single_writer: single_writer.then(|| options.open.agent.clone()),
            copy: None,
            first_slots: slots.iter().map(|slot| hex::encode(slot.id())).collect(),
            owner: hex::encode(owner),
            checksum: String::new(),
        };
        if let Err(cause) = create_owned(store.as_ref(), &ObjectName::head(), head.encode().into()).await {
            for slot in &slots {
                // The names were drawn a moment ago, and no head of ours says that they matter.
                let _ = store.delete(&ObjectName::key_slot(slot.id())).await;
            }
            return Err(match cause {
                StoreError::Exists { .. } => InitError::Exists { location },
                cause => InitError::Store { location, cause },
            });
        }
        if single_writer && let Some(base) = &options.open.state_dir {
            StateDir::open(base, repository, None)?.may_write_at_once()?;
        }
        Self::open(store, world, first, options.open).await.map_err(|error| InitError::Open(Box::new(error)))
    }

    /// Opens a repository: its head, a slot that `unlock` opens, and its journal.
    ///
    /// # Errors
    /// When there is none, the key is wrong, or the journal cannot be read, is damaged or was rolled back.
    pub async fn open(
        store: Arc<dyn ObjectStore>,
        world: World,
        unlock: &Unlock,
        options: OpenOptions,
    ) -> Result<Self, OpenError> {
        Self::open_history(store, world, unlock, options, false).await
    }

    /// Opens a copy so that its journal can be put in order before it is promoted.
    pub(crate) async fn open_to_promote(
        store: Arc<dyn ObjectStore>,
        world: World,
        unlock: &Unlock,
        options: OpenOptions,
    ) -> Result<Self, OpenError> {
        Self::open_history(store, world, unlock, options, true).await
    }

    async fn open_history(
        store: Arc<dyn ObjectStore>,
        world: World,
        unlock: &Unlock,
        options: OpenOptions,
        to_promote: bool,
    ) -> Result<Self, OpenError> {
        let location = store.location();
        let bytes = match store.get(&ObjectName::head()).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. }) => return Err(OpenError::NoRepository { location }),
            Err(cause) => return Err(OpenError::Store { location, cause }),
        };
        let head =
            Head::parse(&bytes).map_err(|cause| OpenError::Head { location: location.clone(), cause })?;
        let (store_of_keys, domain) = (Arc::clone(&store), options.domain);
        let renewal = Renewal { store: store_of_keys, head: head.clone(), unlock: unlock.clone(), domain };
        let rings = renewal.renew().await.map_err(|error| match error {
            RenewalError::Store(cause) => OpenError::Store { location: location.clone(), cause },
            RenewalError::Key(cause) => OpenError::Key { location: location.clone(), cause },
        })?;
        let history = if to_promote { History::default() } else { History::of(&*store, &head).await? };
        Self::open_unlocked(store, world, head, history, rings, renewal, options).await
    }

    async fn open_unlocked(
        store: Arc<dyn ObjectStore>,
        world: World,
        head: Head,
        history: History,
        rings: Rings,
        renewal: Renewal,
        options: OpenOptions,
    ) -> Result<Self, OpenError> {
        let repository = head.repository;
        let Rings { own: keyring, journal } = rings;
        let keyring = Arc::new(keyring);
        // What one domain's key taught this machine is not shown to another's.
        let name = match (history.name, keyring.domain()) {
            (name, 0) => name,
            (None, domain) => Some(format!("domain-{domain}")),
            (Some(name), domain) => Some(format!("{name}-domain-{domain}")),
        };
        let own = name.as_deref();
        let state =
            options.state_dir.as_deref().map(|base| StateDir::open(base, repository, own)).transpose()?;
        let index = open_index(state.as_ref().map(StateDir::path), repository)?;
        let journal = Journal::open(Opening {
            store: Arc::clone(&store),
            world: world.clone(),
            keyring: Arc::new(journal),
            own: Arc::clone(&keyring),
            repository,
            agent: options.agent,
            patience: options.patience,
            single_writer: head.single_writer.clone(),
            state,
            renewal: Some(Arc::new(renewal)),
            accept_rollback: options.accept_rollback,
            copy: history.copy,
        })
        .await?;
        let context = PackContext { store, keyring, repository, entropy: Arc::clone(&world.entropy) };
        let fetcher = PackFetcher::new(context.clone(), FOOTER_CACHE_BYTES);
        let covered = Mutex::new(Covered::default());
        let index = Arc::new(index);
        let opened =
            Self { inner: Arc::new(Inner { head, world, context, fetcher, journal, index, covered }) };
        opened.name_first_slots().await?;
        Ok(opened)
    }

    /// Records 1 to k of a journal name the k slots that `init` made.
    async fn name_first_slots(&self) -> Result<(), JournalError> {
        for (already, slot) in (0..).zip(&self.head().first_slots) {
            let mut id = [0; 8];
            if self.known_fold().number > already || hex::decode_to_slice(slot, &mut id).is_err() {
                continue;
            }
            let Ok(bytes) = self.journal().get(&ObjectName::key_slot(id)).await else { continue };
            let Ok(slot) = KeySlot::parse(id, &bytes) else { continue };
            let (kind, hash) = (slot.kind_in_journal(), *blake3::hash(&bytes).as_bytes());
            let event = Event::KeyAdded(KeyAdded { slot: id, kind, hash, domain: None });
            let decide = |fold: &Fold| (fold.number == already).then(|| event.clone());
            match self.journal().append(decide).await {
                // Who may only read leaves it to the next who may write.
                Err(
                    JournalError::OnlyReader { .. }
                    | JournalError::NeedsState
                    | JournalError::TooSoon { .. }
                    | JournalError::IsCopy { .. },
                ) => return Ok(()),
                Err(JournalError::Store { cause: StoreError::Refused { .. }, .. }) => return Ok(()),
                other => drop(other?),
            }
        }
        Ok(())
    }
}

/// Which history of a repository this is: its own, that of a copy, or the one that a promoted copy has for itself.
#[derive(Debug, Default)]
struct History {
    /// How far a copy goes.
    copy: Option<CopyLimit>,
    /// A promoted copy: what this machine remembers of the first history is not true of this one.
    name: Option<String>,
}

impl History {
    async fn of(store: &dyn ObjectStore, head: &Head) -> Result<Self, OpenError> {
        let location = store.location();
        let Some(mark) = &head.copy else { return Ok(Self::default()) };
        match store.get(&ObjectName::promoted()).await {
            Ok(bytes) => match Promoted::parse(&bytes) {
                Ok(promoted) => Ok(Self { copy: None, name: Some(promoted.owner) }),
                Err(cause) => Err(OpenError::Head { location, cause }),
            },
            Err(StoreError::NotFound { .. }) => {
                Ok(Self { copy: Some(CopyLimit::new(mark.until)), name: None })
            }
            Err(cause) => Err(OpenError::Store { location, cause }),
        }
    }
}

async fn wrap_all(
    world: &World,
    options: &InitOptions,
    repository: RepositoryId,
    unlock: &[Unlock],
) -> Result<Vec<KeySlot>, InitError> {
    let (entropy, now, cost) = (Arc::clone(&world.entropy), world.clock.now(), options.cost);
    let (data_seal, shared) = (options.data_seal, options.shared);
    let unlock = unlock.to_vec();
    // argon2id takes a second or so on purpose.
    let wrapped = crate::off_thread::run(move || {
        let keyring = if shared {
            Keyring::fresh_operator(data_seal, &*entropy)
        } else {
            Keyring::fresh(data_seal, &*entropy)
        };
        let make = |unlock| {
            let (key, grants) = (NewKey::Holder(unlock), Grants::Everything);
            KeySlot::make(repository, &keyring, &key, grants, "init", now, cost, &*entropy)
        };
        unlock.into_iter().map(make).collect::<Result<Vec<_>, _>>()
    });
    wrapped.await.expect("wrapping a key does not panic").map_err(InitError::Key)
}

/// Where the keys come from: once to open the repository, and again when somebody rotated them.
#[derive(Debug)]
pub(crate) struct Renewal {
    store: Arc<dyn ObjectStore>,
    head: Head,
    unlock: Unlock,
    /// Which domain is meant, where one was named.
    domain: Option<u32>,
}

/// What a key gives: the same ring twice, unless the repository is shared.
#[derive(Debug)]
pub(crate) struct Rings {
    /// What seals all but the journal.
    pub(crate) own: Keyring,
    /// What seals the journal.
    pub(crate) journal: Keyring,
}

/// Why the keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenewalError {
    #[error(transparent)]
    Store(StoreError),
    #[error(transparent)]
    Key(keys::KeyError),
}

impl Renewal {
    /// The rings that the slots hold now.
    pub(crate) async fn renew(&self) -> Result<Rings, RenewalError> {
        let slots = find_slots(self.store.as_ref(), &self.head).await.map_err(RenewalError::Store)?;
        let opened = unlock_any(self.head.repository, slots, self.unlock.clone(), self.domain).await;
        opened.map_err(RenewalError::Key)
    }

    /// What the repository was opened with.
    pub(crate) const fn unlock(&self) -> &Unlock {
        &self.unlock
    }
}

/// The slots that LIST shows and those that the head names; what is no slot is left out.
async fn find_slots(store: &dyn ObjectStore, head: &Head) -> Result<Vec<([u8; 8], Bytes)>, StoreError> {
    let mut ids = Vec::new();
    for slot in &head.first_slots {
        let mut id = [0; 8];
        if hex::decode_to_slice(slot, &mut id).is_ok() {
            ids.push(id);
        }
    }
    let mut after: Option<String> = None;
    while ids.len() < MOST_SLOTS {
        let Ok(page) = store.list("keys/", after.as_deref()).await else { break };
        for object in &page.objects {
            if let Some((_, ObjectKind::KeySlot(id))) = ObjectName::parse(&object.name)
                && !ids.contains(&id)
            {
                ids.push(id);
            }
        }
        after = page.objects.last().map(|object| object.name.clone());
        if !page.more || after.is_none() {
            break;
        }
    }
    ids.truncate(MOST_SLOTS);
    let get = |id| async move {
        match store.get(&ObjectName::key_slot(id)).await {
            Ok(bytes) => Ok(Some((id, bytes))),
            // Removed since, or never made.
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(cause) => Err(cause),
        }
    };
    let found: Vec<_> = futures::stream::iter(ids).map(get).buffered(SLOTS_AT_ONCE).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

async fn unlock_any(
    repository: RepositoryId,
    found: Vec<([u8; 8], Bytes)>,
    unlock: Unlock,
    domain: Option<u32>,
) -> Result<Rings, keys::KeyError> {
    let tried = crate::off_thread::run(move || {
        let mut slots = Vec::new();
        let mut broken = None;
        for (id, bytes) in found {
            match KeySlot::parse(id, &bytes) {
                Ok(slot) => slots.push(slot),
                Err(error) => broken = Some(error),
            }
        }
        match keys::open_any(repository, &slots, &unlock, domain) {
            Ok((own, _)) => with_journal(repository, &slots, own),
            // A slot that cannot be read may have been the right one: that is the better message.
            Err(error) => Err(broken.unwrap_or(error)),
        }
    });
    tried.await.expect("opening a slot does not panic")
}

/// Adds the journal's keys to a ring: its own, or those that the operator sent to its domain.
fn with_journal(repository: RepositoryId, slots: &[KeySlot], own: Keyring) -> Result<Rings, keys::KeyError> {
    let journal = match own.letters().filter(|_| own.domain() != 0) {
        None => own.journal().unwrap_or_else(|| own.clone()),
        Some(letters) => {
            let unlock = Unlock::Recipient(RecipientKey::of(letters.clone()));
            let domain = own.domain();
            let opened = keys::open_any(repository, slots, &unlock, None);
            opened.map_err(|_| keys::KeyError::NoJournal { domain })?.0
        }
    };
    Ok(Rings { own, journal })
}

fn open_index(state: Option<&Path>, repository: RepositoryId) -> Result<DedupIndex, OpenError> {
    match state {
        Some(dir) => DedupIndex::open(&dir.join("index"), repository).map_err(OpenError::Index),
        None => Ok(DedupIndex::in_memory(MEMORY_INDEX_ENTRIES)),
    }
}
