//! The repository: THE FORMAT and the journal protocol.
//!
//! docs/format.md describes every byte. The store is a trait of ours ([`store::ObjectStore`]); nothing here can tell
//! S3 from memory.

pub mod abilities;
pub mod chunk;
pub mod index;
pub mod keys;
pub mod layout;
pub mod map;
pub mod pack;
pub mod seal;
pub mod store;

#[cfg(test)]
mod testing;
