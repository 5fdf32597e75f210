//! Object stores: S3, a directory, memory; and wrappers that retry, limit, record and fail.
//!
//! Every adapter and every wrapper stands behind the one trait of the repository
//! ([`ObjectStore`](strongroom_repository::store::ObjectStore)), so they stack in any order and all of them pass the
//! same [`conformance`] suite. [`open_store`] stacks what a program wants; [`probe`] finds out what a store can
//! really do, whatever it says of itself.

pub mod conformance;
pub mod copies;
pub mod directory;
pub mod faulty;
pub mod limit;
pub mod memory;
pub mod probe;
pub mod record;
pub mod retry;
pub mod s3;
pub mod settings;
pub mod spool;
pub mod throttle;

mod parts;
mod place;
mod range;

pub use place::{OpenedStore, PlaceError, StoreUrl, make_place, open_counted, open_store};
pub use record::{Counts, Verb};
pub use settings::{ChecksumMode, LockMode, S3Settings};
