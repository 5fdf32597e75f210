//! The nouns that every part of Strongroom shares.
//!
//! Only words live here: identifiers, ranges, the world that is handed in (clock, randomness), and what every
//! error answers. There is no I/O, no format on disk and no wire.

mod day_window;
mod failure;
mod id;
mod name;
mod range;
mod world;

pub use day_window::DayWindow;
pub use failure::{Failure, Remedy, chain};
pub use id::{
    GroupId, IdError, LogId, NodeId, PackId, RecoveryPointId, RepositoryId, RunId, SnapshotId, VolumeId,
};
pub use name::{NameError, VolumeName, is_forbidden_in_names};
pub use range::{ByteRange, EmptyRange};
pub use world::{Clock, Entropy, World};
