//! What a restore asks of a repository: footers of packs, and ranges of their bytes.
//!
//! The trait is narrow so that hydration can be tried against a handful of packs, without a journal. Whoever
//! implements it knows where a pack's bytes lie now.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use strongroom_model::{PackId, RecoveryPointId};
use strongroom_repository::Repository;
use strongroom_repository::layout::ObjectName;
use strongroom_repository::pack::{FetchError, Footer, PackError, PackPlace};
use strongroom_repository::reader::{Forgotten, PackReader};
use strongroom_repository::store::{ObjectStore, StoreError};

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

    /// What came of this object is not what was stored: where there is a copy, the next bytes of it come from there.
    fn distrust(&self, place: PackPlace) {
        let _ = place;
    }
}

/// The packs of a repository, read for the sake of one point.
#[derive(Debug)]
pub struct RepositorySupply {
    repository: Repository,
    reader: PackReader,
    store: Arc<dyn ObjectStore>,
    point: RecoveryPointId,
}

impl RepositorySupply {
    /// Reads for `point`; `store` is the one that the repository lies in.
    #[must_use]
    pub fn new(repository: Repository, store: Arc<dyn ObjectStore>, point: RecoveryPointId) -> Self {
        Self { reader: repository.reader().of_point(point), repository, store, point }
    }
}

#[async_trait]
impl Supply for RepositorySupply {
    async fn footer(&self, pack: PackId) -> Result<Arc<Footer>, FetchError> {
        self.reader.footer(pack).await
    }

    async fn footer_again(&self, pack: PackId) -> Result<Arc<Footer>, FetchError> {
        let fold = self.repository.fold().await.map_err(|cause| FetchError::Other(Box::new(cause)))?;
        if !fold.points.contains_key(&self.point) {
            return Err(FetchError::Other(Box::new(Forgotten { point: self.point, record: None })));
        }
        self.reader.footer(pack).await
    }

    async fn bytes(&self, place: PackPlace, offset: u64, bytes: u64) -> Result<Bytes, FetchError> {
        let name = ObjectName::pack(place.kind, place.object);
        let object = || name.to_string();
        self.store.get_range(&name, offset, bytes).await.map_err(|cause| match cause {
            StoreError::NotFound { .. } => PackError::Missing { object: object() }.into(),
            cause => PackError::Store { object: object(), cause }.into(),
        })
    }

    fn distrust(&self, place: PackPlace) {
        self.store.distrust(&place.name());
    }
}
