//! A bounded queue from one room to the next, with several takers.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

/// Where a room takes its work from. The takers share it.
#[derive(Debug)]
pub(super) struct Inbox<T>(Arc<Mutex<Receiver<T>>>);

impl<T> Clone for Inbox<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Inbox<T> {
    /// The next piece of work; `None` when no more can come. One taker waits in the queue, the others behind it.
    pub(super) fn next(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
    }
}

/// A queue of at most `waiting` pieces.
pub(super) fn queue<T>(waiting: usize) -> (SyncSender<T>, Inbox<T>) {
    let (sender, receiver) = sync_channel(waiting);
    (sender, Inbox(Arc::new(Mutex::new(receiver))))
}
