//! The repository: THE FORMAT and the journal protocol.
//!
//! docs/format.md describes every byte. The store is a trait of ours ([`store::ObjectStore`]); nothing here can tell
//! S3 from memory.

pub mod abilities;
pub mod layout;
pub mod store;
