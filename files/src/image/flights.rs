//! Who fetches what just now, so that of many who want one chunk only one fetches it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

/// The chunks that are being fetched.
#[derive(Debug, Default)]
pub(super) struct Flights {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    under_way: Mutex<BTreeSet<u64>>,
    landed: Arc<Notify>,
}

/// Chunks that this reader fetches. When it goes, whatever came of it, the others are told to look again.
#[derive(Debug)]
pub(super) struct Claim {
    inner: Arc<Inner>,
    chunks: Vec<u64>,
}

/// Somebody else fetches some of what was wanted.
pub(super) struct Others(OwnedNotified);

impl Flights {
    /// Takes those of `wanted` that nobody fetches. Whether others fetch some of them, and the right to wait for these.
    pub(super) fn claim(&self, wanted: &[u64]) -> (Claim, Option<Others>) {
        let mut under_way = self.inner.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let chunks: Vec<u64> = wanted.iter().copied().filter(|chunk| under_way.insert(*chunk)).collect();
        // Made under the lock: a landing after this moment is not missed.
        let others =
            (chunks.len() < wanted.len()).then(|| Others(Arc::clone(&self.inner.landed).notified_owned()));
        (Claim { inner: Arc::clone(&self.inner), chunks }, others)
    }
}

impl Claim {
    pub(super) fn chunks(&self) -> &[u64] {
        &self.chunks
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.chunks.is_empty() {
            return;
        }
        let mut under_way = self.inner.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in &self.chunks {
            under_way.remove(chunk);
        }
        drop(under_way);
        self.inner.landed.notify_waiters();
    }
}

impl Others {
    /// Returns when somebody's fetch has ended.
    pub(super) async fn wait(self) {
        self.0.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_many_who_want_one_chunk_one_fetches_and_the_others_are_told() {
        let flights = Flights::default();
        let (first, others) = flights.claim(&[1, 2]);
        assert_eq!((first.chunks(), others.is_none()), (&[1, 2][..], true));
        let (second, others) = flights.claim(&[2, 3]);
        assert_eq!(second.chunks(), [3]);
        // It fails, or its reader is gone: whoever waits looks again and may fetch it.
        drop(first);
        others.unwrap().wait().await;
        let (third, others) = flights.claim(&[2, 3]);
        assert_eq!((third.chunks(), others.is_some()), (&[2][..], true));
    }
}
