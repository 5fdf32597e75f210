//! A writer's session: from `opened` to `closed`, and the publishing in between (section 4 of the protocol,
//! Writer).
//!
//! What always holds: nothing is uploaded before `opened` is in the journal; a chunk is referred to only where
//! it is alive and not dying, or dying under a plan that waits for this very session, or uploaded by the
//! session itself; and a writer never deletes anything. What was stored is noted on disk, so that a run after a
//! kill goes on with it.

mod background;
mod notes;
mod opening;
mod publish;
mod source;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use strongroom_model::{PackId, RecoveryPointId, VolumeName};

use crate::chunk::ChunkId;
use crate::entry_runs::EntryRuns;
use crate::errors::SessionError;
use crate::fold::Fold;
use crate::index::IndexRun;
use crate::layout::PackKind;
use crate::map::{MapBase, MapError, MapRoot, MapSpec, MapWriter, WrittenMap};
use crate::pack::{EntryRef, PackWriter, Receipts};
use crate::point::{Point, PointInfo};
use crate::record::{Closed, Event, RecordHash};
use crate::repository::Repository;
use background::Background;
use notes::Notes;

/// So many entries are kept in memory before they go to the index: 2 GiB of 64 KiB chunks, about 4 MB.
const RECENT_ENTRIES: usize = 32_768;

/// An open session. Share it by reference or in an `Arc`. Dropping it without [`Session::close`] leaves it
/// open, to be taken up again by the next run of the same agent for the same purpose.
#[derive(Debug)]
pub struct Session {
    repository: Repository,
    id: u64,
    purpose: String,
    receipts: Receipts,
    /// After a fence nothing inherited is trusted: every reference of a draft is looked at.
    check_all: bool,
    lists: Mutex<Lists>,
    background: Background,
}

#[derive(Debug)]
struct Lists {
    /// What was stored since the last run of the index.
    recent: HashMap<ChunkId, EntryRef>,
    /// What [`Session::lookup`] and [`Session::refers_to`] answered from other packs.
    referred: HashMap<PackId, EntryRuns>,
    /// On disk, where there is a state folder.
    notes: Option<Notes>,
    /// A draft whose publishing had no clear outcome: the same draft gets the same point again.
    unclear: Option<(DraftKey, RecoveryPointId)>,
}

/// What makes a draft the same draft.
type DraftKey = (VolumeName, MapRoot, jiff::Timestamp);

/// What becomes a recovery point.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Of which volume.
    pub volume: VolumeName,
    /// The point that the map was written against, as it was in the fold of this session.
    pub parent: Option<Point>,
    /// Its map.
    pub map: DraftMap,
    /// What the writer says about it. `published_at` and `agent` are set by the publishing.
    pub info: PointInfo,
}

/// The map of a draft.
#[derive(Debug, Clone)]
pub enum DraftMap {
    /// Nothing changed: the very map of the parent.
    SameAsParent,
    /// A map that was written in this session.
    Written(WrittenMap),
}

/// A point that is in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The point.
    pub point: RecoveryPointId,
    /// Its record.
    pub number: u64,
    /// The hash of that record.
    pub hash: RecordHash,
}

impl Session {
    /// Its id: the number of its `opened`.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// The repository.
    #[must_use]
    pub const fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The newest fold that is known: at or after the session's `opened`. Parents are chosen from it.
    #[must_use]
    pub fn fold(&self) -> Arc<Fold> {
        self.repository.known_fold()
    }

    /// A writer of packs. Several can be used side by side; what they store is kept by the session.
    #[must_use]
    pub fn pack_writer(&self, kind: PackKind) -> PackWriter {
        let context = self.repository.inner.context.clone();
        PackWriter::new(context, kind, self.repository.pack_settings(), self.receipts.clone())
    }

    /// A writer of a map in this session.
    ///
    /// # Errors
    /// When the volume is too large for the grid, or the base has another grid.
    pub fn map_writer(&self, spec: MapSpec, base: MapBase) -> Result<MapWriter, MapError> {
        let context = self.repository.inner.context.clone();
        MapWriter::new(context, self.repository.pack_settings(), self.receipts.clone(), spec, base)
    }

    /// What this session stored so far and has not published.
    #[must_use]
    pub fn receipts(&self) -> Receipts {
        self.receipts.clone()
    }

    fn lists(&self) -> MutexGuard<'_, Lists> {
        // A note or a run that a panic cut short costs a chunk stored twice, never safety: publish checks all
        // again.
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a chunk lies that this session may refer to: alive and not dying, or stored by this session. What
    /// it answers is remembered and checked again by [`Session::publish`]. Reads files: call it from a thread
    /// that may block.
    ///
    /// Chunks in packs that have no receipt yet are known to their [`PackWriter`] alone.
    #[must_use]
    pub fn lookup(&self, id: &ChunkId) -> Option<EntryRef> {
        self.keep();
        if let Some(at) = self.lists().recent.get(id) {
            return Some(*at);
        }
        let fold = self.fold();
        let index = &self.repository.inner.index;
        let at = index.find(id, |at| fold.is_usable(self.id, at) || self.receipts.get(&at.pack).is_some())?;
        if fold.is_usable(self.id, at) {
            self.lists().referred.entry(at.pack).or_default().insert_run(at.entry, 1);
        }
        Some(at)
    }

    /// Whether this session may refer to an entry of the parent's map for something new, as what a delta is built on: it is alive
    /// and not dying. Remembered, and checked again by [`Session::publish`].
    #[must_use]
    pub fn refers_to(&self, at: EntryRef) -> bool {
        let usable = self.fold().is_usable(self.id, at);
        if usable {
            self.lists().referred.entry(at.pack).or_default().insert_run(at.entry, 1);
        }
        usable
    }

    /// Notes on disk what was stored since the last time, so that a run after a kill does not send it again.
    /// [`Session::lookup`] and [`Session::publish`] do it by the way.
    pub fn keep(&self) {
        let fresh = self.receipts.take_fresh();
        if fresh.is_empty() {
            return;
        }
        let mut lists = self.lists();
        if let Some(notes) = &mut lists.notes {
            notes.append(&fresh);
        }
        for receipt in fresh.iter().filter(|receipt| receipt.kind() == PackKind::Data) {
            lists.recent.extend(receipt.entries());
        }
        if lists.recent.len() >= RECENT_ENTRIES {
            self.spill(&mut lists);
        }
    }

    /// Moves what is in memory to the index, here and in the store.
    fn spill(&self, lists: &mut Lists) {
        let mut entries: Vec<_> = lists.recent.drain().collect();
        let fold = self.fold();
        let listed = |pack: &PackId| fold.packs.contains_key(pack) || self.receipts.get(pack).is_some();
        while !entries.is_empty() {
            let run = IndexRun::take_from(&mut entries);
            let key = self.repository.new_run_key();
            if let Err(error) = self.repository.inner.index.add_run(key, &run, &listed) {
                let cause = strongroom_model::chain(&error);
                tracing::warn!(
                    cause,
                    "the local dedup index does not take a run; some chunks may be stored twice"
                );
            }
            self.repository.cover(run.packs().iter().copied());
            self.background.leave_run(key, run);
        }
    }

    /// Ends the session. Nothing is deleted: what was stored and not published is found by a later sweep.
    ///
    /// # Errors
    /// When the journal fails; then the session stays open and can be taken up again.
    pub async fn close(self) -> Result<(), SessionError> {
        let event = Event::Closed(Closed { session: self.id });
        let is_open = |fold: &Fold| fold.sessions.contains_key(&self.id);
        self.repository.journal().append(|fold| is_open(fold).then(|| event.clone())).await?;
        self.ended().await;
        Ok(())
    }

    /// The session is over: nothing of it is to be taken up again.
    async fn ended(&self) {
        let notes = self.lists().notes.take();
        if let Some(notes) = notes {
            notes.remove();
        }
        self.background.finish().await;
    }
}
