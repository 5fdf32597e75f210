//! Reads maps that are not published yet: from the session's own packs as well as from the pack table.

use async_trait::async_trait;

use crate::layout::PackKind;
use crate::pack::{Entry, EntryRef, EntrySource, FetchError, PackFetcher, Receipts};
use crate::reader::PackReader;

#[derive(Debug)]
pub(super) struct SessionSource {
    pub(super) reader: PackReader,
    pub(super) fetcher: PackFetcher,
    pub(super) receipts: Receipts,
}

#[async_trait]
impl EntrySource for SessionSource {
    async fn entry(&self, kind: PackKind, at: EntryRef) -> Result<Entry, FetchError> {
        match self.receipts.get(&at.pack) {
            Some(receipt) => Ok(self.fetcher.entry(receipt.place(), at.entry).await?),
            None => self.reader.entry(kind, at).await,
        }
    }
}
