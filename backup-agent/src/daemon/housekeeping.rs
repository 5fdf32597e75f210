//! What is done besides backups: retention, shutting out writers that died, freeing space.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use strongroom_model::{Failure, VolumeName, chain};
use strongroom_repository::store::ObjectStore;
use strongroom_repository::sweep::{SweepOptions, USUAL_GRACE};

use crate::policy::Policies;
use crate::retention;
use crate::run::Agent;

/// When something was last done that is done now and then. A note in the state folder, so that an agent that is restarted
/// often does not sweep often; losing it costs one sweep.
#[derive(Debug)]
pub(super) struct Housekeeping {
    note: Option<PathBuf>,
    every: SignedDuration,
    last: Option<Timestamp>,
}

impl Housekeeping {
    /// `done` names the note: `swept`, `locked`, `verified`.
    pub(super) fn new(agent: &Agent, done: &str, every: Duration) -> Self {
        let note = agent.state_dir.as_ref().map(|dir| dir.join(format!("{done}-{}", agent.repository.id())));
        let last = note.as_ref().and_then(|note| std::fs::read_to_string(note).ok()?.trim().parse().ok());
        Self { note, every: SignedDuration::try_from(every).unwrap_or(SignedDuration::MAX), last }
    }

    /// What costs little: it is done at every start as well.
    pub(super) fn from_now_on(every: Duration) -> Self {
        Self { note: None, every: SignedDuration::try_from(every).unwrap_or(SignedDuration::MAX), last: None }
    }

    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        // A note from the future is that of a clock that was wrong.
        self.last.is_none_or(|last| last > now || now.duration_since(last) >= self.every)
    }

    /// Notes that it is done now.
    pub(super) fn begin(&mut self, now: Timestamp) {
        self.last = Some(now);
        if let Some(note) = &self.note {
            // Lost with the disk it is on, and then written again.
            let _ = std::fs::write(note, format!("{now}\n"));
        }
    }
}

/// Fences, retains, sweeps. What fails is logged and tried again next time; to be stopped at any moment does no harm.
pub(super) async fn keep(agent: &Agent, policies: &Policies) {
    match agent.repository.fence_stale().await {
        Ok(fenced) if fenced.is_empty() => {}
        Ok(fenced) => {
            tracing::warn!(sessions = ?fenced, "fenced writers that gave no sign of life for a day")
        }
        Err(error) => failed("fencing", &error),
    }
    retain(agent, policies, None).await;
    if let Err(error) = agent.databases.trim(agent).await {
        failed("trimming the logs of databases", &error);
    }
    if !agent.repository.sweeps() {
        // In a shared repository the operator frees what no domain needs.
        return;
    }
    match agent.repository.sweep_with_grace(&SweepOptions::default(), USUAL_GRACE).await {
        Ok(swept) => {
            tracing::info!(
                deleted_objects = swept.deleted_objects, rewritten_packs = swept.rewritten_packs,
                freed_bytes = swept.freed_bytes, retained_objects = swept.retained_objects,
                no_delete_right = swept.no_delete_right, waits_for = ?swept.waits_for, "swept"
            );
            for (point, why) in &swept.unreadable {
                tracing::error!(
                    point,
                    why,
                    "a recovery point cannot be read, so all that it may need stays; run `strongroom repository check`"
                );
            }
        }
        Err(error) => failed("sweeping", &error),
    }
}

/// Looks that no bundle of a database's log is missing. What is found is in the journal then: the window is split, and the volume of
/// the database is due for a new base.
pub(super) async fn survey_logs(agent: &Agent) {
    match agent.repository.survey_logs().await {
        Ok(damages) => {
            for damage in damages {
                tracing::error!(
                    object = damage.object,
                    what = damage.what,
                    advice = "`strongroom db list` shows what can still be restored, and `strongroom repository repair --from` puts back what a copy has",
                    "a part of a database's log is lost"
                );
            }
            agent.databases.begin_anew_where_spoiled(&agent.repository.known_fold());
        }
        Err(error) => failed("looking at the logs of databases", &error),
    }
}

/// Prolongs the locks of what is needed, in the repository and in its copies.
pub(super) async fn prolong_locks(agent: &Agent, stores: &[Arc<dyn ObjectStore>]) {
    for store in stores {
        match agent.repository.prolong_locks(store, &|_, _| {}).await {
            Ok(report) if report.failed == 0 => tracing::info!(
                location = store.location(), packs = report.prolonged, locked_until = ?report.locked_until,
                "extended the retention locks"
            ),
            Ok(report) => tracing::error!(
                location = store.location(), packs = report.prolonged, failed = report.failed,
                first = ?report.failures.iter().next(),
                "retention locks could not be extended: they end, and then whoever may delete can"
            ),
            Err(error) => failed("extending locks", &error),
        }
    }
}

/// Forgets what the policies no longer retain, of one volume or of all.
pub(super) async fn retain(agent: &Agent, policies: &Policies, volume: Option<&VolumeName>) {
    let rule = |fold: &strongroom_repository::Fold| {
        let mut expired = retention::expired(fold, policies, &agent.name);
        let anchors = agent.databases.anchors(fold);
        expired.retain(|id| !anchors.contains(id));
        expired.retain(|id| {
            volume.is_none_or(|name| fold.points.get(id).is_some_and(|point| point.volume == *name))
        });
        expired
    };
    match agent.repository.forget_by(rule, "retention").await {
        Ok(forgotten) if forgotten.is_empty() => {}
        Ok(forgotten) => {
            tracing::info!(points = forgotten.len(), "forgot what the policies no longer retain")
        }
        Err(error) => failed("retention", &error),
    }
}

fn failed(what: &str, error: &dyn Failure) {
    tracing::error!(
        what,
        code = error.code(),
        error = chain(error),
        advice = error.advice(),
        "housekeeping failed"
    );
}
