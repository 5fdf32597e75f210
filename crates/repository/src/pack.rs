//! Packs: many sealed entries in one object.
//!
//! A pack is a *logical* thing: maps name a pack and the number of an entry in it, for ever. Where its bytes lie now is
//! the journal's business: a sweep may copy what is still needed to a fresh object of the same pack, numbers unchanged.
//!
//! | bytes | what |
//! |---|---|
//! | 96 | header: [`crate::seal`]'s 80 bytes, magic `SRGMPACK`, flags = 1 data, 2 map; pack id |
//! | … | entries, one after another, each ciphertext and tag, in order of number |
//! | … | footer: a sealed blob under a salt of its own, holding the table of the entries |
//! | 64 | trailer: plain; says where the footer begins, and the BLAKE3-256 of every byte before that hash |
//!
//! What always holds:
//! * An entry is sealed once, under a key of its pack alone, with its number as nonce. A rewrite copies sealed bytes.
//! * The footer is bound to the name of its object, so an object that stands under another's name is noticed.
//! * A receipt ([`StoredPack`]) exists only when the store has acknowledged the whole object.
//! * The trailer's hash can be checked by anyone who can read the bucket, without any key.
//!
//! A reader with the key needs only the end of the object to know all of it; the header is repeated inside of the footer.

mod bundle;
mod cache;
mod delta;
mod entry;
mod error;
mod fetch;
mod footer;
mod header;
mod object;
mod receipts;
mod rewrite;
mod scrub;
mod trailer;
mod transfer;
mod whole;
mod writer;

use std::sync::Arc;

use strongroom_model::{Entropy, RepositoryId};

pub(crate) use bundle::{open_bundle, read_description, seal_bundle};
pub use cache::Cache;
pub use delta::Delta;
pub use entry::{Entry, EntryRef, EntryRow, EntryType};
pub use error::{FetchError, PackError, RewriteError, WriteError};
pub(crate) use fetch::slice;
pub use fetch::{EntrySource, Opened, PackFetcher, read_footer};
pub(crate) use footer::{Content, assemble, open_content};
pub use footer::{Footer, open_entry};
pub use receipts::{Receipts, StoredPack};
pub use rewrite::rewrite;
pub use scrub::{Scrubbed, scrub};
pub use transfer::{TransferError, transfer};
pub use whole::{WholeReader, read_range};
pub use writer::PackWriter;

use crate::keys::Keyring;
use crate::layout::{ObjectName, PackKind, PackObject};
use crate::store::ObjectStore;

/// The most plain bytes of one entry. Chunks have at most 1 MiB; the root of a map has 24 bytes for each pack that the
/// map needs, so this is enough for 2.8 million packs, or 170 TiB.
pub const MAX_ENTRY_BYTES: u32 = 64 << 20;

/// The most entries of one pack. Data that compresses to nearly nothing would else make a table too large for one read.
pub const MAX_ENTRIES: u32 = 16_384;

/// Numbers of entries are below this. More than any writer uses; it bounds what a bitmap of entries can cost.
pub const ENTRY_LIMIT: u32 = 1 << 20;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackSettings {
    /// A pack is closed when it has this many bytes. 64 MiB: few enough requests to cost nothing, small enough that
    /// a rewrite for the sake of a few holes is quick.
    pub target_bytes: u64,
    /// How many parts of 8 MiB may be on the way, beside the one that is being filled. 3: together 32 MiB.
    pub parts_in_flight: usize,
    /// The dedup domain of the chunks.
    pub domain: u32,
}

impl Default for PackSettings {
    fn default() -> Self {
        Self { target_bytes: 64 << 20, parts_in_flight: 3, domain: 0 }
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

impl PackPlace {
    /// The object's name.
    #[must_use]
    pub fn name(&self) -> ObjectName {
        ObjectName::pack(self.kind, self.object)
    }
}

#[cfg(test)]
mod tests;
