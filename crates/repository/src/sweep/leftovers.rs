//! Small things beside the packs that nobody needs any more: signs of life of ended sessions, old probes, old
//! checkpoints, index runs of gone packs.
//!
//! Nothing rests on any of them, so nothing here is an error and no plan is needed.

use jiff::{SignedDuration, Timestamp};

use super::SweepReport;
use crate::fold::Fold;
use crate::journal::opening::CHECKPOINTS_KEPT;
use crate::layout::{ObjectKind, ObjectName};
use crate::repository::Repository;
use crate::store::Listed;

/// Younger objects are left alone: a probe or a session may be at work.
const OLD: SignedDuration = SignedDuration::from_hours(24);

/// At most so many bytes of index runs are read in one sweep, to see whether their packs are gone.
const MOST_RUN_BYTES: u64 = 64 << 20;

impl Repository {
    pub(super) async fn remove_leftovers(&self, report: &mut SweepReport) {
        let fold = self.known_fold();
        let now = self.inner.world.clock.now();
        for prefix in ["sessions/", "probe/"] {
            for object in self.listed(prefix).await {
                if is_leftover(&fold, &object, now) {
                    self.remove_leftover(&object.name, report).await;
                }
            }
        }
        self.remove_old_checkpoints(&fold, report).await;
        // A sweep that freed nothing made no run useless; and a writer's newest runs name packs that it has not
        // published yet.
        if report.deleted_objects > 0 && fold.sessions.is_empty() {
            self.remove_dead_runs(&fold, report).await;
        }
    }

    /// The newest few are what opening tries; it takes the journal itself before an older one. What claims to be
    /// newer than the journal is left for a person to look at.
    async fn remove_old_checkpoints(&self, fold: &Fold, report: &mut SweepReport) {
        let numbers = self.journal().listed_checkpoints().await;
        let known = numbers.partition_point(|number| *number <= fold.number);
        for number in &numbers[..known.saturating_sub(CHECKPOINTS_KEPT)] {
            self.remove_leftover(ObjectName::checkpoint(*number).as_str(), report).await;
        }
    }

    async fn remove_dead_runs(&self, fold: &Fold, report: &mut SweepReport) {
        let mut runs = self.listed("index/").await;
        // Somewhere else each time, so that all are looked at in the end.
        let mut random = [0; 8];
        self.inner.world.entropy.fill(&mut random);
        let at = u64::from_le_bytes(random) % (runs.len() as u64).max(1);
        runs.rotate_left(usize::try_from(at).unwrap_or(0));
        let mut budget = MOST_RUN_BYTES;
        for object in runs {
            let Some((_, ObjectKind::IndexRun(key))) = ObjectName::parse(&object.name) else { continue };
            let Some(left) = budget.checked_sub(object.bytes) else { return };
            budget = left;
            let is_dead = match self.open_run(key).await {
                Some(run) => run.packs().iter().all(|pack| !fold.packs.contains_key(pack)),
                None => false,
            };
            if is_dead {
                self.remove_leftover(&object.name, report).await;
            }
        }
    }

    async fn remove_leftover(&self, name: &str, report: &mut SweepReport) {
        let Some((name, _)) = ObjectName::parse(name) else { return };
        if self.store().delete(&name).await.is_ok() {
            report.leftovers += 1;
        }
    }

    async fn listed(&self, prefix: &str) -> Vec<Listed> {
        let mut listed = Vec::new();
        loop {
            let after = listed.last().map(|object: &Listed| object.name.clone());
            let Ok(page) = self.store().list(prefix, after.as_deref()).await else { return listed };
            let is_last = !page.more || page.objects.is_empty();
            listed.extend(page.objects);
            if is_last {
                return listed;
            }
        }
    }
}

fn is_leftover(fold: &Fold, object: &Listed, now: Timestamp) -> bool {
    let is_old = now.duration_since(object.last_modified) > OLD;
    match ObjectName::parse(&object.name) {
        Some((_, ObjectKind::Session(session))) => {
            !fold.sessions.contains_key(&session) && session <= fold.number
        }
        Some((_, ObjectKind::Probe)) => is_old,
        _ => false,
    }
}
