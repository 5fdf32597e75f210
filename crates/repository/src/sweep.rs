//! Freeing what no point needs: plan, wait, rewrite, delete.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

/// How to sweep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SweepOptions {
    /// A pack is rewritten when at least this share of its bytes is needed by nobody. 0.25.
    pub min_hole_ratio: f64,
    /// At most this many bytes are read and written again in one sweep. 4 GiB.
    pub max_rewrite_bytes: u64,
}

impl Default for SweepOptions {
    fn default() -> Self {
        Self { min_hole_ratio: 0.25, max_rewrite_bytes: 4 << 30 }
    }
}

/// What a sweep would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct SweepPlan {
    /// Objects to delete, with their sizes.
    pub delete: BTreeMap<String, u64>,
    /// Packs to rewrite, with the bytes that become free.
    pub rewrite: BTreeMap<String, u64>,
    /// Sessions that it would wait for.
    pub waits_for: BTreeSet<u64>,
    /// The record of a pending plan, which comes first.
    pub pending: Option<u64>,
}

/// What a sweep did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct SweepReport {
    /// Objects deleted.
    pub deleted_objects: u64,
    /// Packs rewritten.
    pub rewritten_packs: u64,
    /// Bytes that became free, as far as they are known.
    pub freed_bytes: u64,
    /// Objects that the store keeps for now: a retention lock is on them.
    pub retained_objects: u64,
    /// Packs that could not be rewritten.
    pub not_rewritten: Vec<String>,
    /// The sessions that a plan still waits for; the next sweep goes on.
    pub waits_for: BTreeSet<u64>,
}

impl crate::Repository {
    /// What a sweep would do now. Reads only.
    ///
    /// # Errors
    /// When a map cannot be read: then nobody can know what is needed.
    pub async fn plan_sweep(&self, _options: &SweepOptions) -> Result<SweepPlan, crate::SweepError> {
        todo!()
    }

    /// Sweeps: finishes the pending plan, whosever it is, then plans, and executes as far as no session is in the way.
    ///
    /// # Errors
    /// When a map cannot be read, or the store or the journal fails. What was planned stays pending.
    pub async fn sweep(&self, _options: &SweepOptions) -> Result<SweepReport, crate::SweepError> {
        todo!()
    }

    /// Shuts out every writer whose sign of life is older than a day by the store's own clock. Answers whom.
    ///
    /// # Errors
    /// When the store or the journal fails.
    pub async fn fence_stale(&self) -> Result<Vec<u64>, crate::SweepError> {
        todo!()
    }
}
