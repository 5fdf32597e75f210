//! The dedup index: a cache that says where a chunk is stored already.
//!
//! It comes in immutable sorted *runs*. Each backup leaves the entries it stored as sealed objects `index/<run id>`; each
//! machine keeps what it has seen of them as files of its own ([`DedupIndex`]). All of it can be lost: footers alone make it
//! anew, restores never need it, and without it a chunk is stored a second time at worst. What it says is a hint: the
//! journal's pack table decides whether a pack exists.
//!
//! **Scale.** A row takes 25.2 bytes on the disk and 0.05 in memory, a pack 17 bytes of each: 100 TiB of unique chunks of
//! 64 KiB are 42 GB and 0.1 GB, and the filter that is wanted in the page cache has 1.7 GB more. A chunk that is not there
//! costs a read of 64 bytes in each of at most nine files, usually five; one that is there, of a page besides.
//! docs/decisions/0012-dedup-index.md has the measurements.
//!
//! A chunk is known by the first 16 bytes of its id. Ids are keyed hashes, so nobody without the key can look for a second
//! chunk with the same 16 bytes, and by chance there is none: among 2^36 chunks (4 PiB) with odds of 2^-57.

mod file;
mod filter;
mod folder;
mod local;
mod merge;
mod packs;
mod run;
mod view;

use std::path::PathBuf;

use strongroom_model::{Failure, PackId, Remedy};

pub use local::DedupIndex;
pub use run::IndexRun;

/// The id of a run: what follows `index/`.
pub type RunKey = [u8; 16];

/// Says whether a pack is in the journal's pack table.
pub type Listed<'a> = &'a dyn Fn(&PackId) -> bool;

/// Why the local index cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// A file or folder.
    #[error("the local index at {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
}

impl Failure for IndexError {
    fn code(&self) -> &'static str {
        "index.file"
    }

    fn remedy(&self) -> Remedy {
        Remedy::FixSurroundings
    }

    fn advice(&self) -> String {
        "Check the free space and the rights of the state folder. The index may be deleted: it is only a cache.".to_owned()
    }
}
