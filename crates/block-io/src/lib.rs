//! The bytes of a volume, wherever they lie: an image file, a block device, memory.
//!
//! A [`BlockSource`] is read, a [`BlockTarget`] is also written. Both are blocking and can be used from many
//! threads at once; asynchronous callers put them on threads of their own. Ranges that hold nothing but zeros
//! are never data here: a source tells what is [allocated](BlockSource::allocated), a target keeps
//! [zeros](BlockTarget::zero) as holes. [`changed`] compares two snapshots by where their blocks lie, without
//! reading one of them.
//!
//! This crate does not know what a backup is, nor which file belongs to which volume.

mod direct;
mod error;
mod extent_map;
mod faulty;
mod file;
mod memory;
mod sys;
mod traits;

pub use direct::{Buffer, DirectFile};
pub use error::BlockIoError;
pub use extent_map::{ChangedRanges, Crowded, allocated_extents, changed, count_extents, crowded};
pub use faulty::{Fault, Faulty};
pub use file::{Caching, FileSource, FileTarget};
pub use memory::MemoryVolume;
pub use traits::{BlockSource, BlockTarget, Ranges};

/// Offsets and lengths that are multiples of this many bytes are the fast ones: the sector size of our volumes,
/// the page size of the machines, and what direct I/O asks for.
pub const BLOCK_BYTES: u64 = 4096;
