//! Small things beside the packs that nobody needs any more: signs of life of ended sessions, old probes, old
//! checkpoints, index runs of gone packs.
//!
//! Nothing rests on any of them, so nothing here is an error and no plan is needed.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use strongroom_model::PackId;

use super::SweepReport;
use crate::fold::Fold;
use crate::index::IndexRun;
use crate::journal::opening::CHECKPOINTS_KEPT;
use crate::keys::domain_of;
use crate::layout::{ObjectKind, ObjectName};
use crate::repository::Repository;
use crate::store::Listed;

/// Younger objects are left alone: a probe or a session may be at work.
const OLD: SignedDuration = SignedDuration::from_hours(24);

/// At most so many bytes of index runs are read in one sweep, to see whether their packs are gone.
const MOST_RUN_BYTES: u64 = 64 << 20;

/// A run of half the size that one may have stays as it is.
const LARGE_RUN_BYTES: u64 = 12 << 20;

/// More small runs than this are joined: each costs a request on a machine without an index.
const MOST_SMALL_RUNS: usize = 32;

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
        self.join_runs(report).await;
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

    /// Joins small index runs, so that a machine without an index fetches as many as there is data, not as many as
    /// there were backups. Whoever knows the old ones fetches rows that it has, once, and drops them.
    async fn join_runs(&self, report: &mut SweepReport) {
        let mut small = self.listed("index/").await;
        small.retain(|object| object.bytes < LARGE_RUN_BYTES);
        if small.len() <= MOST_SMALL_RUNS {
            return;
        }
        if !self.is_shared() {
            return self.join_runs_of(small, None, report).await;
        }
        // Rows of different domains never come into one run.
        let mut by_domain: BTreeMap<u32, Vec<Listed>> = BTreeMap::new();
        for object in small {
            let Some((_, ObjectKind::IndexRun(key))) = ObjectName::parse(&object.name) else { continue };
            if let Some(epoch) = self.epoch_of_run(key).await {
                by_domain.entry(domain_of(epoch)).or_default().push(object);
            }
        }
        for (domain, small) in by_domain {
            if small.len() > MOST_SMALL_RUNS {
                self.join_runs_of(small, Some(domain), report).await;
            }
        }
    }

    async fn join_runs_of(&self, mut small: Vec<Listed>, domain: Option<u32>, report: &mut SweepReport) {
        small.sort_by_key(|object| object.bytes);
        // Read after LIST: with no session open, every listed run is of a session that has ended, so packs that are
        // not in the table are gone.
        let Ok(fold) = self.fold().await else { return };
        let stays = |pack: &PackId| !fold.sessions.is_empty() || fold.packs.contains_key(pack);
        let (mut runs, mut names, mut rows) = (Vec::new(), Vec::new(), 0);
        for object in small {
            let Some((name, ObjectKind::IndexRun(key))) = ObjectName::parse(&object.name) else { continue };
            let Some(run) = self.open_run(key).await else { continue };
            if rows + run.len() > IndexRun::MAX_ENTRIES {
                break;
            }
            rows += run.len();
            runs.push(run);
            names.push(name);
        }
        let joined = IndexRun::join(&runs, stays);
        if !joined.is_empty() {
            let key = self.new_run_key();
            let of = domain.filter(|domain| *domain != self.domain());
            let epoch = of.and_then(|domain| Some(self.known_fold().domains.get(&domain)?.epoch));
            if (of.is_some() && epoch.is_none()) || self.leave_run_under(epoch, key, &joined).await.is_err() {
                return;
            }
            if of.is_none() {
                self.add_run(key, joined).await;
            }
        }
        for name in names {
            self.remove_leftover(name.as_str(), report).await;
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
