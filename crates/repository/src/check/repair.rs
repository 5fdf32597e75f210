//! Mending what follows from something else that is whole: the index from footers, checkpoints from the journal; and, for
//! what follows from nothing, saying exactly who loses which bytes.
//!
//! The plan is made without side effects. A damaged record of the journal cannot be mended: it is an error, and named.
//!
//! Packs that a second copy has whole are put back from there. Other content comes back without anything here: a check that
//! read the data has noted what is damaged, so the next backup of a volume that still holds it stores it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use strongroom_model::{ByteRange, RecoveryPointId, VolumeName};

use super::losses::sealed_volume;
use super::{CheckOptions, Damage, Findings, Progress, PutBack, RebuildReport};
use crate::errors::SweepError;
use crate::journal::CHECKPOINT_EVERY;
use crate::layout::ObjectName;
use crate::repository::Repository;
use crate::store::ObjectStore;

/// What a repair would do, and what nobody can mend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct RepairPlan {
    /// What is wrong with the index, by run: it is made again from the footers.
    pub index: BTreeMap<String, String>,
    /// Checkpoints that do not say what the journal says: they are removed.
    pub wrong_checkpoints: Vec<u64>,
    /// Whether a checkpoint is written, of the journal as it was read from its first record.
    pub write_checkpoint: bool,
    /// Packs that are damaged or missing, and that a copy has whole: they are put back.
    pub put_back: Vec<PutBack>,
    /// What cannot be made again.
    pub damages: Vec<Damage>,
    /// The same by point, for people: who loses what. In the order of volumes and moments.
    pub losses: Vec<PointLoss>,
}

/// What one point loses, by all damage together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PointLoss {
    /// Which point.
    pub point: RecoveryPointId,
    /// Of which volume.
    pub volume: VolumeName,
    /// The moment of its content.
    pub taken_at: Timestamp,
    /// Which bytes of the volume, neighbours joined.
    pub ranges: Vec<ByteRange>,
    /// How many bytes these are.
    pub lost_bytes: u64,
}

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct RepairReport {
    /// Packs that were put back.
    pub put_back: u64,
    /// Packs that could not be, and why.
    pub not_put_back: BTreeMap<String, String>,
    /// The index that was made again.
    pub index: Option<RebuildReport>,
    /// Checkpoints that were removed.
    pub removed_checkpoints: u64,
    /// The record of the checkpoint that was written.
    pub checkpoint: Option<u64>,
}

impl RepairPlan {
    /// Whether a repair would do anything.
    #[must_use]
    pub fn does_nothing(&self) -> bool {
        self.index.is_empty()
            && self.wrong_checkpoints.is_empty()
            && !self.write_checkpoint
            && self.put_back.is_empty()
    }

    /// Whether something is damaged that nobody can make again here.
    #[must_use]
    pub const fn leaves_damage(&self) -> bool {
        !self.damages.is_empty()
    }
}

impl Repository {
    /// What a repair would do. Reads the whole journal, all maps, footers and index runs, and no data; of data it knows what
    /// checks noted. What is damaged is then looked for in `copies`, in their order.
    ///
    /// # Errors
    /// When a record of the journal is damaged or missing, or the store fails.
    pub async fn plan_repair(
        &self,
        copies: &[Arc<dyn ObjectStore>],
        progress: Progress<'_>,
    ) -> Result<RepairPlan, SweepError> {
        let (audit, _) = self.audit_fold(progress).await?;
        let mut findings = Findings::default();
        self.check_index_runs(&mut findings).await;
        let index = findings.damages.into_iter().map(|(object, damage)| (object, damage.what)).collect();
        let mut checked = self.check_with(&CheckOptions::default(), progress).await?;
        let put_back = self.whole_elsewhere(&checked.damages, copies, progress).await;
        let comes_back: BTreeSet<&str> = put_back.iter().map(|pack| pack.object.as_str()).collect();
        checked.damages.retain(|damage| !comes_back.contains(damage.object.as_str()));
        let is_long = audit.records.saturating_sub(audit.newest_checkpoint) > *CHECKPOINT_EVERY.end();
        Ok(RepairPlan {
            index,
            write_checkpoint: is_long || !audit.wrong_checkpoints.is_empty(),
            wrong_checkpoints: audit.wrong_checkpoints,
            losses: self.losses_by_point(&checked.damages),
            damages: checked.damages,
            put_back,
        })
    }

    /// Carries out a plan that was made with the same `copies`.
    ///
    /// # Errors
    /// When the journal or the store fails. What was done until then stays done.
    pub async fn repair(
        &self,
        plan: &RepairPlan,
        copies: &[Arc<dyn ObjectStore>],
        progress: Progress<'_>,
    ) -> Result<RepairReport, SweepError> {
        let mut report = RepairReport::default();
        let put_back = self.put_back(&plan.put_back, copies, progress).await?;
        (report.put_back, report.not_put_back) = (put_back.done, put_back.failed);
        if plan.write_checkpoint {
            // Not the fold that this process opened with: that may have come from a wrong checkpoint.
            let (audit, fold) = self.audit_fold(progress).await?;
            self.journal().write_checkpoint(&fold).await?;
            report.checkpoint = Some(fold.number);
            for number in audit.wrong_checkpoints.into_iter().filter(|number| *number != fold.number) {
                let name = ObjectName::checkpoint(number);
                self.store()
                    .delete(&name)
                    .await
                    .map_err(|cause| SweepError::Store { object: name.to_string(), cause })?;
                report.removed_checkpoints += 1;
            }
        }
        if !plan.index.is_empty() {
            report.index = Some(self.rebuild_index(progress).await?);
        }
        Ok(report)
    }

    fn losses_by_point(&self, damages: &[Damage]) -> Vec<PointLoss> {
        let fold = self.known_fold();
        let mut by_point: BTreeMap<RecoveryPointId, Vec<ByteRange>> = BTreeMap::new();
        for loss in damages.iter().flat_map(|damage| &damage.loses) {
            by_point.entry(loss.point).or_default().extend(&loss.ranges);
        }
        let mut losses: Vec<PointLoss> = by_point
            .into_iter()
            .filter_map(|(id, ranges)| {
                let own = fold.points.get(&id).map(|point| (point.volume.clone(), point.info.taken_at));
                let sealed = || fold.sealed.get(&id).map(|point| (sealed_volume(point.domain), point.at));
                let (volume, taken_at) = own.or_else(sealed)?;
                let ranges = joined(ranges);
                Some(PointLoss {
                    point: id,
                    volume,
                    taken_at,
                    lost_bytes: ranges.iter().map(ByteRange::len).sum(),
                    ranges,
                })
            })
            .collect();
        losses.sort_by(|one, other| (&one.volume, one.taken_at).cmp(&(&other.volume, other.taken_at)));
        losses
    }
}

/// Sorted, neighbours and overlaps joined: two damaged objects may lose the same bytes.
fn joined(mut ranges: Vec<ByteRange>) -> Vec<ByteRange> {
    ranges.sort_by_key(|range| range.start());
    let mut joined: Vec<ByteRange> = Vec::new();
    for range in ranges {
        let grown = joined
            .last()
            .filter(|last| range.start() <= last.end())
            .and_then(|last| ByteRange::new(last.start(), last.end().max(range.end())).ok());
        match (grown, joined.last_mut()) {
            (Some(grown), Some(last)) => *last = grown,
            _ => joined.push(range),
        }
    }
    joined
}
