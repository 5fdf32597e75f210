//! The repository: THE FORMAT and the journal protocol.
//!
//! docs/format.md describes every byte. The store is a trait of ours ([`store::ObjectStore`]); nothing here can
//! tell S3 from memory.
//!
//! What is stored: [`keys`], [`seal`], [`chunk`], [`pack`], [`map`], [`index`], and the journal's [`record`]
//! and [`fold`]. Who acts on it: [`session`] (writers), [`sweep`], [`reader`], [`check`]; all of it behind
//! [`Repository`].

pub mod abilities;
mod cbor;
pub mod check;
pub mod chunk;
pub mod copy;
pub mod entry_runs;
pub mod errors;
pub mod fold;
pub mod head;
pub mod index;
mod index_sync;
mod journal;
pub mod keys;
pub mod layout;
pub mod locks;
pub mod map;
mod names;
mod off_thread;
pub mod pack;
pub mod patience;
pub mod point;
pub mod reader;
pub mod record;
mod repository;
mod rules;
pub mod scrub;
pub mod seal;
pub mod session;
pub mod store;
pub mod sweep;

pub use cbor::CborError;
pub use errors::{
    DomainError, InitError, JournalError, KeysError, LeftBehind, OpenError, PublishError, SessionError,
    SweepError,
};
pub use fold::{DomainState, Fold, SealedPoint};
pub use patience::Patience;
pub use point::{Point, PointInfo, Source};
pub use repository::{
    Bundle, Domain, InitOptions, LogError, MOST_BUNDLE_BYTES, OpenOptions, Repository, Rotated, Rotation,
};
pub use session::{Draft, DraftMap, Published, Session};

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod vectors;
