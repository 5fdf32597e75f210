//! Receipts: the proof that a pack is durable, and the list of those that a session holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use strongroom_model::PackId;

use super::{EntryRef, PackError, PackPlace};
use crate::chunk::ChunkId;
use crate::layout::{PackKind, PackObject};

/// A receipt: this pack is durable. Only a finished upload makes one (or a note that was kept of one).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPack {
    pub(super) object: PackObject,
    pub(super) kind: PackKind,
    pub(super) bytes: u64,
    pub(super) entry_count: u32,
    pub(super) plain_bytes: u64,
    pub(super) entries: Vec<(u32, ChunkId)>,
}

impl StoredPack {
    /// The logical pack.
    #[must_use]
    pub const fn pack(&self) -> PackId {
        self.object.pack
    }

    /// The object that holds its bytes.
    #[must_use]
    pub const fn object(&self) -> PackObject {
        self.object
    }

    /// Data or map.
    #[must_use]
    pub const fn kind(&self) -> PackKind {
        self.kind
    }

    /// The object's size.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many entries it has.
    #[must_use]
    pub const fn entry_count(&self) -> u32 {
        self.entry_count
    }

    /// How many plain bytes its entries have together.
    #[must_use]
    pub const fn plain_bytes(&self) -> u64 {
        self.plain_bytes
    }

    /// Where the object lies.
    #[must_use]
    pub const fn place(&self) -> PackPlace {
        PackPlace { kind: self.kind, object: self.object, bytes: self.bytes }
    }

    /// Its entries but for deltas, for the index; none in what [`Receipts`] keep and in what was read from a note.
    pub fn entries(&self) -> impl Iterator<Item = (ChunkId, EntryRef)> + '_ {
        let pack = self.pack();
        self.entries.iter().map(move |(entry, id)| (*id, EntryRef { pack, entry: *entry }))
    }

    /// A note to keep on disk, for a writer that continues its session after a restart: 60 bytes, without the entries.
    #[must_use]
    pub fn to_note(&self) -> [u8; NOTE_BYTES] {
        let mut note = [0; NOTE_BYTES];
        note[..4].copy_from_slice(b"SRN1");
        note[4] = super::header::flags(self.kind);
        note[8..24].copy_from_slice(self.object.pack.bytes());
        note[24..32].copy_from_slice(&self.object.suffix);
        note[32..40].copy_from_slice(&self.bytes.to_le_bytes());
        note[40..48].copy_from_slice(&self.plain_bytes.to_le_bytes());
        note[48..52].copy_from_slice(&self.entry_count.to_le_bytes());
        let sum = blake3::hash(&note[..52]);
        note[52..].copy_from_slice(&sum.as_bytes()[..8]);
        note
    }

    /// Reads a note. Only a note of one's own, kept since the upload was acknowledged, is a receipt.
    ///
    /// # Errors
    /// When it is not what [`Self::to_note`] made.
    pub fn from_note(note: &[u8]) -> Result<Self, PackError> {
        let damaged =
            || PackError::Damaged { object: "a kept receipt".to_owned(), what: "it is torn".to_owned() };
        let note: &[u8; NOTE_BYTES] = note.try_into().map_err(|_| damaged())?;
        let kind = match note[4] {
            1 => PackKind::Data,
            2 => PackKind::Map,
            // Bundles of logs are put whole, and have no receipts.
            _ => return Err(damaged()),
        };
        let word = |at: usize| u64::from_le_bytes(note[at..at + 8].try_into().expect("8 bytes"));
        let read = Self {
            object: PackObject {
                pack: PackId::from_bytes(note[8..24].try_into().expect("16 bytes")),
                suffix: note[24..32].try_into().expect("8 bytes"),
            },
            kind,
            bytes: word(32),
            plain_bytes: word(40),
            entry_count: u32::from_le_bytes(note[48..52].try_into().expect("4 bytes")),
            entries: Vec::new(),
        };
        if read.to_note() == *note { Ok(read) } else { Err(damaged()) }
    }

    fn without_entries(&self) -> Self {
        Self { entries: Vec::new(), ..*self }
    }
}

/// The length of a note.
const NOTE_BYTES: usize = 60;

/// What a session uploads: the packs under way, and the receipts. Shared by its writers; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Receipts(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    under_way: BTreeSet<PackId>,
    stored: BTreeMap<PackId, StoredPack>,
    fresh: Vec<StoredPack>,
    /// How many packs were begun.
    begun: u64,
    /// How many of them have receipts.
    acknowledged: u64,
    /// Packs begun up to this count should be closed soon, however small.
    close_until: u64,
}

impl Receipts {
    /// Nothing uploaded yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on from receipts that were kept.
    pub fn from_kept(kept: impl IntoIterator<Item = StoredPack>) -> Self {
        let receipts = Self::default();
        receipts.inner().stored.extend(kept.into_iter().map(|receipt| (receipt.pack(), receipt)));
        receipts
    }

    /// The receipt of `pack`, without its entries, when it is stored.
    #[must_use]
    pub fn get(&self, pack: &PackId) -> Option<StoredPack> {
        self.inner().stored.get(pack).cloned()
    }

    /// Whether `pack` is one of ours and not (yet) stored.
    #[must_use]
    pub fn is_under_way(&self, pack: &PackId) -> bool {
        self.inner().under_way.contains(pack)
    }

    /// All receipts, without their entries, in order of pack id.
    #[must_use]
    pub fn stored(&self) -> Vec<StoredPack> {
        self.inner().stored.values().cloned().collect()
    }

    /// The receipts since the last call, with their entries, to feed the index. To be called now and then: 36 bytes an
    /// entry are held in memory until it is.
    #[must_use]
    pub fn take_fresh(&self) -> Vec<StoredPack> {
        std::mem::take(&mut self.inner().fresh)
    }

    /// Forgets these receipts, once a journal record names their packs.
    pub fn forget(&self, packs: &BTreeSet<PackId>) {
        self.inner().stored.retain(|pack, _| !packs.contains(pack));
    }

    /// A writer begins a pack; the answer is its turn.
    pub(super) fn begin(&self, pack: PackId) -> u64 {
        let mut inner = self.inner();
        inner.under_way.insert(pack);
        inner.begun += 1;
        inner.begun
    }

    pub(crate) fn add(&self, receipt: StoredPack) {
        let mut inner = self.inner();
        inner.under_way.remove(&receipt.pack());
        inner.acknowledged += 1;
        inner.stored.insert(receipt.pack(), receipt.without_entries());
        inner.fresh.push(receipt);
    }

    /// How many packs were stored so far: a change says that something new can be named.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.inner().acknowledged
    }

    /// Somebody holds memory until the packs under way are stored: asks their writers to close them at the next entry.
    pub(crate) fn ask_to_close(&self) {
        let mut inner = self.inner();
        inner.close_until = inner.begun;
    }

    pub(super) fn should_close(&self, turn: u64) -> bool {
        turn <= self.inner().close_until
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Every change is one insert or remove: a panic elsewhere leaves nothing half done here.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
