//! Packs: many sealed entries in one object.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use strongroom_model::{Entropy, Failure, PackId, Remedy, RepositoryId};

use crate::chunk::{ChunkId, Codec, Compressed};
use crate::keys::Keyring;
use crate::layout::{PackKind, PackObject};
use crate::store::{ObjectStore, StoreError};

/// Where something lies, for ever: a logical pack and a number in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryRef {
    /// The logical pack.
    pub pack: PackId,
    /// The number of the entry.
    pub entry: u32,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EntryType {
    /// A chunk of a volume.
    Chunk = 1,
    /// Reserved: a chunk as a difference to another. Refused on reading.
    Delta = 2,
    /// A leaf of a map.
    MapLeaf = 3,
    /// An inner node of a map.
    MapNode = 4,
    /// The root of a map.
    MapRoot = 5,
}

/// What packs are made with and read with.
#[derive(Debug, Clone)]
pub struct PackContext {
    /// Where objects lie.
    pub store: Arc<dyn ObjectStore>,
    /// The secrets.
    pub keyring: Arc<Keyring>,
    /// Part of what every seal authenticates.
    pub repository: RepositoryId,
    /// For salts, pack ids and suffixes.
    pub entropy: Arc<dyn Entropy>,
}

/// How packs are written.
#[derive(Debug, Clone, Copy)]
pub struct PackSettings {
    /// A pack is closed when it has this many bytes. 64 MiB.
    pub target_bytes: u64,
    /// How many parts of 8 MiB may be on the way beside the one that is being filled. 3.
    pub parts_in_flight: usize,
    /// The dedup domain of the chunks.
    pub domain: u32,
}

impl Default for PackSettings {
    fn default() -> Self {
        Self { target_bytes: 64 << 20, parts_in_flight: 3, domain: 0 }
    }
}

/// A receipt: this pack is durable. Only a finished upload makes one (or a note that was kept of one).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPack {
    pub(crate) pack: PackId,
    pub(crate) object: PackObject,
    pub(crate) kind: PackKind,
    pub(crate) bytes: u64,
    pub(crate) entry_count: u32,
    pub(crate) plain_bytes: u64,
    pub(crate) entries: Vec<ChunkId>,
}

impl StoredPack {
    /// The logical pack.
    #[must_use]
    pub const fn pack(&self) -> PackId {
        self.pack
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
    /// The ids of its entries, in order of their numbers; empty in what [`Receipts`] keep.
    #[must_use]
    pub fn entries(&self) -> &[ChunkId] {
        &self.entries
    }
    /// Where the object lies.
    #[must_use]
    pub const fn place(&self) -> PackPlace {
        PackPlace { kind: self.kind, object: self.object, bytes: self.bytes }
    }
    /// A note to keep on disk, for a writer that continues its session after a restart (without the entries' ids).
    #[must_use]
    pub fn to_note(&self) -> Vec<u8> {
        todo!()
    }
    /// Reads a note. Only a note of one's own, kept since the upload was acknowledged, is a receipt.
    ///
    /// # Errors
    /// When it is not what [`Self::to_note`] made.
    pub fn from_note(_note: &[u8]) -> Result<Self, PackError> {
        todo!()
    }
}

/// What a session uploads: packs under way and receipts. Shared by its writers; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Receipts {}

impl Receipts {
    /// Nothing uploaded yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// Goes on from receipts that were kept.
    pub fn from_kept(_kept: impl IntoIterator<Item = StoredPack>) -> Self {
        todo!()
    }
    /// The receipt of `pack` (without the ids of its entries), when it is stored.
    #[must_use]
    pub fn get(&self, _pack: &PackId) -> Option<StoredPack> {
        todo!()
    }
    /// Whether `pack` is one of ours and not yet stored.
    #[must_use]
    pub fn is_under_way(&self, _pack: &PackId) -> bool {
        todo!()
    }
    /// All receipts, without the ids of their entries, in order of pack id.
    #[must_use]
    pub fn stored(&self) -> Vec<StoredPack> {
        todo!()
    }
    /// Receipts since the last call, with the ids of their entries, to feed the index. To be called now and then: they
    /// are held in memory until then.
    #[must_use]
    pub fn take_fresh(&self) -> Vec<StoredPack> {
        todo!()
    }
    /// Forgets these receipts, once a record names their packs.
    pub fn forget(&self, _packs: &BTreeSet<PackId>) {
        todo!()
    }
}

/// Writes packs, one after another, as entries are pushed.
pub struct PackWriter {}

impl fmt::Debug for PackWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PackWriter")
    }
}

impl PackWriter {
    /// A writer of packs of `kind`.
    #[must_use]
    pub fn new(_context: PackContext, _kind: PackKind, _settings: PackSettings, _receipts: Receipts) -> Self {
        todo!()
    }
    /// Where the next entry will lie.
    pub fn next_at(&mut self) -> EntryRef {
        todo!()
    }
    /// Seals an entry and says where it lies. Waits only while too many parts are on the way.
    ///
    /// # Errors
    /// When the store failed, now or earlier, or the entry is too large. The writer is of no use after that.
    pub async fn push(
        &mut self,
        _id: ChunkId,
        _entry_type: EntryType,
        _entry: Compressed,
    ) -> Result<EntryRef, WriteError> {
        todo!()
    }
    /// Where a chunk lies that was pushed into a pack that has no receipt yet.
    #[must_use]
    pub fn pending(&self, _id: &ChunkId) -> Option<EntryRef> {
        todo!()
    }
    /// Closes the pack under way and waits until all packs have receipts.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn flush(&mut self) -> Result<(), WriteError> {
        todo!()
    }
    /// [`Self::flush`], and the end. The receipts are in the [`Receipts`].
    ///
    /// # Errors
    /// When the store failed.
    pub async fn finish(mut self) -> Result<(), WriteError> {
        self.flush().await
    }
}

/// Why a pack could not be written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// The store failed.
    #[error("storing {object}")]
    Store {
        /// Which object.
        object: String,
        /// Why.
        #[source]
        cause: Arc<StoreError>,
    },
}

impl Failure for WriteError {
    fn code(&self) -> &'static str {
        "pack.not-stored"
    }
    fn remedy(&self) -> Remedy {
        Remedy::Retry
    }
    fn advice(&self) -> String {
        String::new()
    }
}

/// Which object to read a pack from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PackPlace {
    /// Data or map.
    pub kind: PackKind,
    /// The object.
    pub object: PackObject,
    /// Its size, as the journal or a receipt has it.
    pub bytes: u64,
}

/// One row of a footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryRow {
    /// The number of the entry.
    pub number: u32,
    /// Where its sealed bytes begin in the object.
    pub offset: u64,
    /// How many sealed bytes there are, tag included.
    pub stored_bytes: u32,
    /// How many plain bytes come out.
    pub plain_bytes: u32,
    /// What it is.
    pub entry_type: EntryType,
    /// How it is coded.
    pub codec: Codec,
    /// The id that the plain bytes have.
    pub id: ChunkId,
}

/// The table of a pack's entries, opened, and the means to open them.
pub struct Footer {}

impl fmt::Debug for Footer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Footer")
    }
}

impl Footer {
    /// Which object it is of.
    #[must_use]
    pub fn place(&self) -> PackPlace {
        todo!()
    }
    /// All rows, in order of number and of offset.
    #[must_use]
    pub fn rows(&self) -> &[EntryRow] {
        todo!()
    }
    /// The row of an entry; `None` is a hole.
    #[must_use]
    pub fn row(&self, _number: u32) -> Option<&EntryRow> {
        todo!()
    }
}

/// Reads the footer of a pack: one request for nearly every pack, two for one of very many entries.
///
/// # Errors
/// When the object is missing, damaged, or not that pack.
pub async fn read_footer(_context: &PackContext, _place: PackPlace) -> Result<Footer, PackError> {
    todo!()
}

/// Opens one entry: checks the seal, decompresses within bounds, and computes the id again.
///
/// # Errors
/// When the bytes are not those of this row.
pub fn open_entry(_footer: &Footer, _row: &EntryRow, _sealed: &[u8]) -> Result<Bytes, PackError> {
    todo!()
}

/// An opened entry.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its row.
    pub row: EntryRow,
    /// The plain bytes.
    pub plain: Bytes,
}

/// Reads footers (cached by object) and entries (neighbours in one request).
#[derive(Debug, Clone)]
pub struct PackFetcher {}

impl PackFetcher {
    /// A fetcher that keeps at most `cache_bytes` of footers.
    #[must_use]
    pub fn new(_context: PackContext, _cache_bytes: usize) -> Self {
        todo!()
    }
    /// The footer of a pack.
    ///
    /// # Errors
    /// As [`read_footer`].
    pub async fn footer(&self, _place: PackPlace) -> Result<Arc<Footer>, PackError> {
        todo!()
    }
    /// One entry.
    ///
    /// # Errors
    /// When there is no such entry, or the pack cannot be read.
    pub async fn entry(&self, _place: PackPlace, _number: u32) -> Result<Entry, PackError> {
        todo!()
    }
    /// Entries in ascending order of number; those that lie near each other come with one request. The whole result is
    /// in memory: ask for a few MiB at a time.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub async fn entries(&self, _place: PackPlace, _numbers: &[u32]) -> Result<Vec<Entry>, PackError> {
        todo!()
    }
}

/// Where maps read their nodes from: something that knows which object holds a pack now.
#[async_trait]
pub trait EntrySource: fmt::Debug + Send + Sync {
    /// One entry of a logical pack.
    async fn entry(&self, kind: PackKind, at: EntryRef) -> Result<Entry, FetchError>;
}

/// Why an [`EntrySource`] has no entry. `Pack` and `Other` speak with the words of what they hold.
#[derive(Debug)]
pub enum FetchError {
    /// The pack table has no such pack.
    NotListed {
        /// Which pack.
        pack: PackId,
    },
    /// The pack cannot be read.
    Pack(PackError),
    /// What the source itself met.
    Other(Box<dyn Failure + Send + Sync>),
}

impl From<PackError> for FetchError {
    fn from(cause: PackError) -> Self {
        Self::Pack(cause)
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotListed { pack } => write!(f, "the journal names no {pack}"),
            Self::Pack(cause) => cause.fmt(f),
            Self::Other(cause) => cause.fmt(f),
        }
    }
}

impl std::error::Error for FetchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotListed { .. } => None,
            Self::Pack(cause) => cause.source(),
            Self::Other(cause) => cause.source(),
        }
    }
}

impl Failure for FetchError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotListed { .. } => "pack.not-listed",
            Self::Pack(cause) => cause.code(),
            Self::Other(cause) => cause.code(),
        }
    }
    fn remedy(&self) -> Remedy {
        match self {
            Self::NotListed { .. } => Remedy::FixData,
            Self::Pack(cause) => cause.remedy(),
            Self::Other(cause) => cause.remedy(),
        }
    }
    fn advice(&self) -> String {
        match self {
            Self::NotListed { .. } => {
                "Run `strongroom repository check` to see which recovery points are touched.".to_owned()
            }
            Self::Pack(cause) => cause.advice(),
            Self::Other(cause) => cause.advice(),
        }
    }
}

/// Why a pack or an entry cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// There is no such object.
    #[error("{object} is missing")]
    Missing {
        /// Which object.
        object: String,
    },
    /// The store failed.
    #[error("reading {object}")]
    Store {
        /// Which object.
        object: String,
        /// Why.
        #[source]
        cause: StoreError,
    },
    /// The bytes are not what was written.
    #[error("{object} is damaged: {what}")]
    Damaged {
        /// Which object.
        object: String,
        /// What was seen.
        what: String,
    },
    /// The entry is a hole: it was swept.
    #[error("entry {entry} is no longer in {object}")]
    Hole {
        /// Which object.
        object: String,
        /// Which entry.
        entry: u32,
    },
}

impl PackError {
    /// Whether the journal may know a newer place: the object is gone, or the entry is a hole.
    #[must_use]
    pub const fn may_have_moved(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::Hole { .. })
    }
}

impl Failure for PackError {
    fn code(&self) -> &'static str {
        "pack.damaged"
    }
    fn remedy(&self) -> Remedy {
        Remedy::FixData
    }
    fn advice(&self) -> String {
        String::new()
    }
}

/// Copies the entries of a pack but `holes` to a fresh object of the same pack: sealed bytes, salt and numbers unchanged,
/// a footer sealed anew. Every copied entry is opened and checked on the way, so that damage is not given a fresh hash.
///
/// # Errors
/// When the old object cannot be read or is damaged (nothing appears then), or the new one cannot be written.
pub async fn rewrite(
    _context: &PackContext,
    _old: PackPlace,
    _holes: &BTreeSet<u32>,
) -> Result<StoredPack, RewriteError> {
    todo!()
}

/// Why a pack could not be rewritten.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    /// The old object.
    #[error(transparent)]
    Read(#[from] PackError),
    /// The new object.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Failure for RewriteError {
    fn code(&self) -> &'static str {
        match self {
            Self::Read(cause) => cause.code(),
            Self::Write(cause) => cause.code(),
        }
    }
    fn remedy(&self) -> Remedy {
        match self {
            Self::Read(cause) => cause.remedy(),
            Self::Write(cause) => cause.remedy(),
        }
    }
    fn advice(&self) -> String {
        match self {
            Self::Read(cause) => cause.advice(),
            Self::Write(cause) => cause.advice(),
        }
    }
}

/// What a scrub saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scrubbed {
    /// How many bytes were read.
    pub bytes: u64,
    /// How many entries the trailer counts.
    pub entries: u32,
}

/// Reads a whole pack and compares the BLAKE3 of its bytes with its trailer. Needs no key. `bytes`: its size, where known.
///
/// # Errors
/// When the object is missing, cannot be read, or is not what was written.
pub async fn scrub(
    _store: &dyn ObjectStore,
    _kind: PackKind,
    _object: PackObject,
    _bytes: u64,
) -> Result<Scrubbed, PackError> {
    todo!()
}
