//! What a restore asks of a repository: footers of packs, and ranges of their bytes.
//!
//! The trait is narrow so that hydration can be tried against a handful of packs, without a journal. Whoever
//! implements it knows where a pack's bytes lie now.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use strongroom_model::PackId;
use strongroom_repository::pack::{FetchError, Footer, PackPlace};

/// Footers and bytes of the packs that a point needs.
#[async_trait]
pub trait Supply: Debug + Send + Sync {
    /// The table of a pack's entries, at the object that holds the pack as far as is known.
    async fn footer(&self, pack: PackId) -> Result<Arc<Footer>, FetchError>;

    /// The same, after the journal was read again: for when an object is gone or an entry was not there. A sweep may
    /// have moved the pack.
    async fn footer_again(&self, pack: PackId) -> Result<Arc<Footer>, FetchError>;

    /// Exactly `bytes` bytes from `offset` of an object, sealed as they lie.
    async fn bytes(&self, place: PackPlace, offset: u64, bytes: u64) -> Result<Bytes, FetchError>;
}
