//! A writer's session: from `opened` to `closed`, and the publishing in between.

use std::sync::Arc;

use strongroom_model::{RecoveryPointId, VolumeName};

use crate::chunk::ChunkId;
use crate::errors::{PublishError, SessionError};
use crate::fold::Fold;
use crate::layout::PackKind;
use crate::map::{MapBase, MapError, MapSpec, MapWriter, WrittenMap};
use crate::pack::{EntryRef, PackWriter, Receipts};
use crate::point::{Point, PointInfo};
use crate::record::RecordHash;

/// An open session. Share it by reference or in an `Arc`; dropping it without [`Session::close`] leaves it open, to be taken up
/// again by the next run of the same agent.
#[derive(Debug)]
pub struct Session {}

/// What becomes a recovery point.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Of which volume.
    pub volume: VolumeName,
    /// The point that the map was written against, as it was in the fold of this session.
    pub parent: Option<Point>,
    /// Its map.
    pub map: DraftMap,
    /// What the writer says about it. `published_at` is set by the publishing.
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
    pub fn id(&self) -> u64 {
        todo!()
    }

    /// The fold that the session began on, or a later one: parents are chosen from it.
    #[must_use]
    pub fn fold(&self) -> Arc<Fold> {
        todo!()
    }

    /// A writer of packs. Several can be used side by side; what they store is kept by the session.
    #[must_use]
    pub fn pack_writer(&self, _kind: PackKind) -> PackWriter {
        todo!()
    }

    /// A writer of a map in this session.
    ///
    /// # Errors
    /// When the volume is too large for the grid, or the base has another grid.
    pub fn map_writer(&self, _spec: MapSpec, _base: MapBase) -> Result<MapWriter, MapError> {
        todo!()
    }

    /// What this session stored so far.
    #[must_use]
    pub fn receipts(&self) -> Receipts {
        todo!()
    }

    /// Where a chunk lies that this session may refer to: alive and not dying, or stored by this session. What it answers is
    /// remembered and checked again by [`Session::publish`]. Reads files: call it from a thread that may block.
    ///
    /// Chunks in packs that have no receipt yet are known to their [`PackWriter`] alone.
    #[must_use]
    pub fn lookup(&self, _id: &ChunkId) -> Option<EntryRef> {
        todo!()
    }

    /// Notes on disk what was stored since the last time, so that a run after a kill does not send it again. [`Session::lookup`]
    /// and [`Session::publish`] do it by the way.
    pub fn keep(&self) {
        todo!()
    }

    /// Makes the draft a recovery point. With `last` the same record ends the session.
    ///
    /// # Errors
    /// [`PublishError::Fenced`]: go on with [`Session::reopen`]. [`PublishError::Gone`]: what the map refers to was swept; back up again
    /// in this session. Otherwise the journal or the store failed.
    pub async fn publish(&self, _draft: Draft, _last: bool) -> Result<Published, PublishError> {
        todo!()
    }

    /// Goes on after having been fenced: a new session that keeps those uploads that no plan has named meanwhile. Drafts may be
    /// published in it; what they refer to is then checked entry by entry.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn reopen(self) -> Result<Self, SessionError> {
        todo!()
    }

    /// Ends the session. Nothing is deleted: what was stored and not published is found by a later sweep.
    ///
    /// # Errors
    /// When the journal fails; then the session stays open and can be taken up again.
    pub async fn close(self) -> Result<(), SessionError> {
        todo!()
    }
}
