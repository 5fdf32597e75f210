//! Keeping second copies up to date: after backups, one run at a time, beside everything else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use strongroom_model::{Failure as _, chain};
use strongroom_repository::Fold;
use tokio::task::JoinHandle;

use super::Picture;
use crate::copies::Copy;
use crate::run::Agent;

/// While backups run one after the other, a copy is brought up to date this often, not after each.
const WHILE_BUSY: SignedDuration = SignedDuration::from_mins(15);

/// The first pause after a failure, and the longest.
const FIRST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// What this process knows of its copying; losing it costs one small request a copy.
#[derive(Debug, Default)]
pub(super) struct Copying {
    job: Option<JoinHandle<Vec<Ended>>>,
    /// When the last run began.
    last: Option<Timestamp>,
    known: BTreeMap<String, Known>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Known {
    /// How far the copy went when a run last ended well.
    until: u64,
    /// Packs that it lacks: worth another look when something is new.
    failures: u32,
    not_before: Timestamp,
}

/// How the copying to one place ended: the record up to which it went.
#[derive(Debug)]
struct Ended {
    copy: String,
    until: Option<u64>,
}

impl Copying {
    /// Starts a run where something is new and nothing stands in the way.
    pub(super) async fn keep(
        &mut self,
        copies: &[Copy],
        agent: &Arc<Agent>,
        picture: &Picture,
        fold: &Fold,
        busy: bool,
        now: Timestamp,
    ) {
        if let Some(job) = self.job.take_if(|job| job.is_finished()) {
            let ended = job.await.unwrap_or_default();
            for copy in copies {
                if let Some(one) = ended.iter().find(|one| one.copy == copy.name) {
                    picture.copied(&copy.name, one.until, copy.max_lag);
                }
            }
            self.ended(ended, now);
        }
        let early =
            busy && self.last.is_some_and(|last| last <= now && now.duration_since(last) < WHILE_BUSY);
        if self.job.is_some() || early {
            return;
        }
        let is_due = |copy: &&Copy| {
            let known = self.known.get(&copy.name).copied().unwrap_or_default();
            fold.number > known.until && known.not_before <= now
        };
        let due: Vec<Copy> = copies.iter().filter(is_due).cloned().collect();
        if due.is_empty() {
            return;
        }
        self.last = Some(now);
        let agent = Arc::clone(agent);
        self.job = Some(tokio::spawn(async move {
            let mut ended = Vec::new();
            for copy in due {
                ended.push(bring(&copy, &agent).await);
            }
            ended
        }));
    }

    fn ended(&mut self, ended: Vec<Ended>, now: Timestamp) {
        for Ended { copy, until } in ended {
            let known = self.known.entry(copy).or_default();
            match until {
                Some(until) => *known = Known { until, ..Known::default() },
                None => {
                    known.failures += 1;
                    let pause = FIRST.saturating_mul(1 << (known.failures - 1).min(10)).min(LONGEST);
                    let pause = SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX);
                    known.not_before = now.checked_add(pause).unwrap_or(Timestamp::MAX);
                }
            }
        }
    }

    pub(super) fn stop(&self) {
        if let Some(job) = &self.job {
            // What was copied until now stays; the head of the copy says how far it goes.
            job.abort();
        }
    }
}

async fn bring(copy: &Copy, agent: &Agent) -> Ended {
    let name = copy.name.clone();
    match copy.bring_up_to_date(&agent.repository, &agent.world, &|_, _| {}).await {
        Ok(report) => {
            if report.records > 0 {
                tracing::info!(
                    copy = name,
                    until = report.until,
                    packs = report.packs,
                    copied_bytes = report.copied_bytes,
                    deleted_objects = report.deleted_objects,
                    "copied"
                );
            }
            for (object, why) in &report.lacks {
                tracing::error!(
                    copy = name,
                    object,
                    why,
                    "a pack could not be copied: run `strongroom repository check`"
                );
            }
            Ended { copy: name, until: Some(report.until) }
        }
        Err(error) => {
            tracing::error!(
                copy = name,
                code = error.code(),
                error = chain(&error),
                advice = error.advice(),
                "the copy is not brought up to date"
            );
            Ended { copy: name, until: None }
        }
    }
}
