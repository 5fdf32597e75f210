//! What the agent shows to those who watch: how every volume is protected, and what it does about it.
//!
//! The verdicts are computed for each scrape from what the agent last saw, by the very function that `strongroom status` uses. So
//! an agent that is stuck shows ages that grow, never a success that it remembers; how long ago it looked is shown too.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use strongroom_model::{Clock, VolumeName};
use strongroom_monitoring::{Page, Watched, collected};
use strongroom_repository::Fold;
use strongroom_repository::check::Proof;

use crate::copies::behind;
use crate::databases::proving::{self, stale_after};
use crate::databases::view::is_unproven;
use crate::databases::{Database, Databases, Now};
use crate::driver::Volume;
use crate::policy::Policies;
use crate::status::{Health, VolumeStatus, assess};

/// How many volumes are listed one by one: a bound for what a scrape costs, far above what one repository is used for.
const MOST: usize = 5000;

/// How a backup ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ending {
    outcome: &'static str,
}

/// What the agent saw when it last looked.
#[derive(Debug, Clone)]
struct Seen {
    fold: Arc<Fold>,
    /// The driver's node and volumes, where there is a driver.
    driver: Option<(String, Vec<Volume>)>,
    /// How far the stored data is proved, as the journal says it.
    proof: Proof,
    at: Timestamp,
}

/// What those who watch can see. Clones share it.
#[derive(Debug, Clone)]
pub struct Picture {
    clock: Arc<dyn Clock>,
    policies: Arc<Policies>,
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    seen: Mutex<Option<Seen>>,
    /// Why nothing can be backed up; `None`: it can.
    trouble: Mutex<Option<String>>,
    /// Failures in a row of each volume.
    failures: Mutex<BTreeMap<VolumeName, u32>>,
    /// How far each copy goes, and how long a point may be missing in it.
    copies: Mutex<BTreeMap<String, (u64, Duration)>>,
    databases: Mutex<Databases>,
    running: AtomicU64,
    ended: Family<Ending, Counter>,
    sent_bytes: Counter,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Picture {
    /// Nothing was seen yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, policies: Arc<Policies>) -> Self {
        let inner = Inner {
            trouble: Mutex::new(Some("the repository was not reached yet".to_owned())),
            ..Inner::default()
        };
        for outcome in ["published", "failed"] {
            // A counter that is there at 0 from the start can be compared with later.
            inner.ended.get_or_create(&Ending { outcome }).inc_by(0);
        }
        Self { clock, policies, inner: Arc::new(inner) }
    }

    pub(super) fn saw(&self, fold: &Arc<Fold>, driver: Option<(&str, &[Volume])>, at: Timestamp) {
        let driver = driver.map(|(node, volumes)| (node.to_owned(), volumes.to_vec()));
        let proof = Proof::of(fold);
        *locked(&self.inner.seen) = Some(Seen { fold: Arc::clone(fold), driver, proof, at });
    }

    /// Why nothing can be backed up; `None`: it can.
    pub(crate) fn trouble(&self, trouble: Option<String>) {
        *locked(&self.inner.trouble) = trouble;
    }

    pub(super) fn running(&self, backups: usize) {
        self.inner.running.store(backups as u64, Ordering::Relaxed);
    }

    /// Whose log is archived.
    pub(crate) fn databases(&self, databases: Databases) {
        *locked(&self.inner.databases) = databases;
    }

    /// How far a copy goes, as its own head said last; `None`: a copying failed, and it goes as far as it did.
    pub(super) fn copied(&self, copy: &str, until: Option<u64>, max_lag: Duration) {
        let mut copies = locked(&self.inner.copies);
        let known = copies.entry(copy.to_owned()).or_insert((0, max_lag));
        known.0 = until.unwrap_or(known.0);
    }

    /// A backup ended: with the bytes that were sent, or as the `failures`-th failure in a row.
    pub(super) fn ended(&self, volume: &VolumeName, done: Result<u64, u32>) {
        let mut failures = locked(&self.inner.failures);
        let outcome = match done {
            Ok(sent) => {
                failures.remove(volume);
                self.inner.sent_bytes.inc_by(sent);
                "published"
            }
            Err(in_a_row) => {
                failures.insert(volume.clone(), in_a_row);
                "failed"
            }
        };
        self.inner.ended.get_or_create(&Ending { outcome }).inc();
    }

    fn agent(&self, page: &mut Page<'_>) -> fmt::Result {
        page.gauges(
            "strongroom_agent_info",
            "Always 1; its label says which agent this is",
            [(vec![("version", env!("CARGO_PKG_VERSION"))], 1.0)],
        )?;
        page.gauge(
            "strongroom_agent_up",
            "1: driver and repository answer; 0: nothing can be backed up",
            truth(locked(&self.inner.trouble).is_none()),
        )?;
        page.gauge(
            "strongroom_agent_backups_running",
            "Backups that are going on",
            self.inner.running.load(Ordering::Relaxed) as f64,
        )
    }

    fn volumes(&self, page: &mut Page<'_>) -> fmt::Result {
        let Some(seen) = locked(&self.inner.seen).clone() else { return Ok(()) };
        let now = self.clock.now();
        page.gauge(
            "strongroom_agent_look_age_seconds",
            "How long ago the agent last saw driver and repository; every half a minute it looks again",
            seconds(now.duration_since(seen.at).as_secs_f64()),
        )?;
        stored_data(page, &seen.proof)?;
        let driver = seen.driver.as_ref().map(|(node, volumes)| (node.as_str(), &volumes[..]));
        let mut all = assess(&seen.fold, driver, &self.policies, now);
        let counted = |health| all.iter().filter(|volume| volume.health == health).count() as f64;
        page.gauges(
            "strongroom_agent_volumes",
            "Volumes by how they are protected, as `strongroom status` says it",
            [
                (vec![("health", "healthy")], counted(Health::Healthy)),
                (vec![("health", "at-risk")], counted(Health::AtRisk)),
                (vec![("health", "unprotected")], counted(Health::Unprotected)),
            ],
        )?;
        // Where not all can be listed, those that need a person are.
        all.sort_by(|one, other| other.health.cmp(&one.health).then_with(|| one.volume.cmp(&other.volume)));
        all.truncate(MOST);
        self.each(page, &all, now)
    }

    fn copies(&self, page: &mut Page<'_>) -> fmt::Result {
        let Some(seen) = locked(&self.inner.seen).clone() else { return Ok(()) };
        let copies = locked(&self.inner.copies).clone();
        let now = self.clock.now();
        let lag = |until: &u64| behind(&seen.fold, *until, now);
        page.gauges(
            "strongroom_copy_points_behind",
            "Recovery points that the second copy lacks",
            copies.iter().map(|(name, (until, _))| (vec![("copy", name.as_str())], lag(until).0 as f64)),
        )?;
        page.gauges(
            "strongroom_copy_lag_seconds",
            "How long the oldest of them has been missing",
            copies.iter().map(|(name, (until, _))| (vec![("copy", name.as_str())], lag(until).1 as f64)),
        )?;
        page.gauges(
            "strongroom_copy_max_lag_seconds",
            "How long that may be",
            copies.iter().map(|(name, (_, most))| (vec![("copy", name.as_str())], most.as_secs_f64())),
        )
    }

    fn each_database(&self, page: &mut Page<'_>) -> fmt::Result {
        let databases = locked(&self.inner.databases).clone();
        let all: Vec<(&Database, Now)> =
            databases.iter().map(|database| (&**database, database.live.get())).collect();
        let clock = self.clock.now();
        let age = move |at: Option<Timestamp>| at.map(|at| seconds(clock.duration_since(at).as_secs_f64()));
        let mut family = |name: &str, help: &str, value: &dyn Fn(&Now) -> Option<f64>| {
            let samples = all.iter().filter_map(|(database, now)| {
                Some((vec![("database", database.name.as_str())], value(now)?))
            });
            page.gauges(name, help, samples)
        };
        family("strongroom_database_streaming", "1: the log of the database comes in", &|now| {
            Some(truth(now.streaming))
        })?;
        family(
            "strongroom_database_rpo_seconds",
            "How old the newest moment is up to which everything is on this machine's disk; not there until the first",
            &|now| age(now.current_at),
        )?;
        family(
            "strongroom_database_archived_rpo_seconds",
            "How old the newest moment is up to which everything is in the repository; not there until the first",
            &|now| age(now.archived_until),
        )?;
        family(
            "strongroom_database_lag_bytes",
            "Bytes of the log that the server has and this machine's disk has not",
            &|now| Some(now.server_end.since(now.flushed) as f64),
        )?;
        family(
            "strongroom_database_unarchived_bytes",
            "Bytes of the log that this machine's disk has and the repository has not",
            &|now| Some(now.flushed.since(now.archived) as f64),
        )?;
        family("strongroom_database_spool_bytes", "What they take of the disk", &|now| {
            Some(now.spool_bytes as f64)
        })?;
        family("strongroom_database_spool_budget_bytes", "What they may take", &|now| {
            Some(now.spool_budget_bytes as f64)
        })?;
        family(
            "strongroom_database_held_bytes",
            "How much of its log the server keeps for the agent, on its own disk",
            &|now| Some(now.held_bytes as f64),
        )?;
        family("strongroom_database_held_budget_bytes", "How much it may be made to keep", &|now| {
            Some(now.held_budget_bytes as f64)
        })?;
        family(
            "strongroom_database_gaps",
            "Gaps of the log since the agent started: nothing within one can be restored",
            &|now| Some(now.gaps as f64),
        )?;
        self.proofs(page, &databases)
    }

    /// What the journal says of restore tests, of whichever agent.
    fn proofs(&self, page: &mut Page<'_>, databases: &Databases) -> fmt::Result {
        let Some(seen) = locked(&self.inner.seen).clone() else { return Ok(()) };
        let mut family = |name: &str, help: &str, value: &dyn Fn(&Database) -> Option<f64>| {
            let samples = databases
                .iter()
                .filter_map(|database| Some((vec![("database", database.name.as_str())], value(database)?)));
            page.gauges(name, help, samples)
        };
        let proven = |database: &Database| proving::tests(&seen.fold, &database.name).0;
        family(
            "strongroom_database_last_proven_restore_timestamp_seconds",
            "When a restore test of the database last passed; not there while none did",
            &|database| Some(proven(database)?.at.as_second() as f64),
        )?;
        family(
            "strongroom_database_measured_rto_seconds",
            "How long it took in that test until the database could have been used",
            &|database| Some(proven(database)?.tested.rto_ms? as f64 / 1000.0),
        )?;
        family(
            "strongroom_database_restore_unproven",
            "1: the newest restore test of the database failed",
            &|database| Some(truth(is_unproven(&seen.fold, &database.name))),
        )?;
        family(
            "strongroom_database_proof_overdue_seconds",
            "After how long without a proven restore this counts as a problem; not there where no tests are wanted",
            &|database| Some(stale_after(database.test.as_ref()?).as_secs_f64()),
        )
    }

    fn each(&self, page: &mut Page<'_>, all: &[VolumeStatus], now: Timestamp) -> fmt::Result {
        let failures = locked(&self.inner.failures).clone();
        let mut family = |name: &str, help: &str, value: &dyn Fn(&VolumeStatus) -> Option<f64>| {
            let samples =
                all.iter().filter_map(|one| Some((vec![("volume", one.volume.as_str())], value(one)?)));
            page.gauges(name, help, samples)
        };
        family(
            "strongroom_backup_at_risk",
            "1: the newest recovery point is too old, or there is none",
            &|volume| Some(truth(volume.health == Health::AtRisk)),
        )?;
        family("strongroom_backup_unprotected", "1: no policy covers the volume", &|volume| {
            Some(truth(volume.health == Health::Unprotected))
        })?;
        family(
            "strongroom_backup_last_success_timestamp_seconds",
            "The moment of the newest recovery point's content; not there while there is none",
            &|volume| volume.last_taken_at.map(|at| at.as_millisecond() as f64 / 1000.0),
        )?;
        family("strongroom_backup_rpo_seconds", "How old that is: what would be lost now", &|volume| {
            volume.last_taken_at.map(|at| seconds(now.duration_since(at).as_secs_f64()))
        })?;
        family(
            "strongroom_backup_rpo_objective_seconds",
            "How old it may become by the policy",
            &|volume| volume.rpo_goal_seconds.map(|goal| goal as f64),
        )?;
        family(
            "strongroom_backup_next_run_timestamp_seconds",
            "When the next backup begins; in the past when it is overdue",
            &|volume| volume.next_run_at.map(|at| at.as_second() as f64),
        )?;
        family("strongroom_backup_points", "Recovery points of the volume", &|volume| {
            Some(volume.points as f64)
        })?;
        family("strongroom_backup_stored_bytes", "What was sent to the store for those points", &|volume| {
            Some(volume.stored_bytes as f64)
        })?;
        family(
            "strongroom_backup_failures_in_a_row",
            "Failed backups since the last one that this agent brought to its end",
            &|volume| Some(f64::from(failures.get(&volume.volume).copied().unwrap_or(0))),
        )
    }
}

impl Watched for Picture {
    async fn metrics(&self) -> String {
        let mut registry = Registry::default();
        registry.register(
            "strongroom_agent_backups",
            "Backups that ended since the agent started, by outcome",
            self.inner.ended.clone(),
        );
        registry.register(
            "strongroom_agent_sent_bytes",
            "What backups sent to the store since the agent started",
            self.inner.sent_bytes.clone(),
        );
        let picture = self.clone();
        registry.register_collector(collected(move |page| {
            picture.agent(page)?;
            picture.copies(page)?;
            picture.each_database(page)?;
            picture.volumes(page)
        }));
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
        text
    }

    /// Ready is an agent that could back up now.
    async fn ready(&self) -> Result<(), String> {
        locked(&self.inner.trouble).clone().map_or(Ok(()), Err)
    }
}

/// How far the stored data is proved.
fn stored_data(page: &mut Page<'_>, proof: &Proof) -> fmt::Result {
    page.gauge(
        "strongroom_repository_damaged_packs",
        "Packs with entries that a check found damaged and that are still there",
        proof.damaged_packs as f64,
    )?;
    page.gauge("strongroom_repository_bytes", "Bytes of all packs", proof.total_bytes as f64)?;
    page.gauge(
        "strongroom_repository_never_verified_bytes",
        "Bytes of packs that no check with --read-data has read yet",
        proof.never_bytes as f64,
    )?;
    page.gauge(
        "strongroom_repository_oldest_verified_timestamp_seconds",
        "When that pack was read that was read longest ago, of those that ever were; 0 while none was",
        proof.oldest_at.map_or(0.0, |at| at.as_second() as f64),
    )
}

/// A moment of the future, by a clock that was wrong, is now.
const fn seconds(since: f64) -> f64 {
    since.max(0.0)
}

const fn truth(is: bool) -> f64 {
    if is { 1.0 } else { 0.0 }
}

#[cfg(test)]
mod tests;
