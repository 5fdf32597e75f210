//! The agent as a service: looks, decides, starts what is due, keeps house.
//!
//! ```text
//! every half a minute, and whenever a backup ends:
//!   look    volumes of the driver, points of the repository
//!   decide  who is due and not running and not resting after a failure      (pure: decide.rs)
//!   start   as many as may run side by side, the longest overdue first
//! after each backup: retention of its volume. When something is new: second copies.   Now and then, when nothing runs: fence, retention of all, sweep.
//! ```
//! It remembers nothing that matters: who is due follows from the points. What fails is tried again after a pause that grows up to
//! half an hour, and until then `status` shows the age of the newest point; what this process believes is never shown as truth.

mod copying;
mod decide;
mod health;
mod housekeeping;
mod picture;
mod proving;
mod verifying;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use strongroom_console::Progress;
use strongroom_model::{Failure, VolumeName, chain};
use strongroom_repository::Fold;
use strongroom_repository::store::ObjectStore;
use strongroom_settings::{AgentConfig, CheckConfig};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::control::Places;
use crate::copies::Copy;
use crate::databases::proving::Prover;
use crate::driver::{Driver, DriverError, Volume};
use crate::policy::Policies;
use crate::run::{Agent, BackupError, BackupReport, Target, back_up};

use copying::Copying;
use housekeeping::Housekeeping;
use proving::Proving;

/// Forgets what the policies no longer retain of a volume.
pub(crate) async fn retain_volume(agent: &Agent, policies: &Policies, volume: &VolumeName) {
    housekeeping::retain(agent, policies, Some(volume)).await;
}

pub use decide::{Decision, Resting, decide, missed};
pub use health::{Health, SocketError};
pub use picture::Picture;

/// How long it sleeps at most: a new volume is noticed, and a clock that was set, within this.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// How often the bundles of databases' logs are counted: a request for a thousand of them. A lost one is noticed within this.
const LOGS_EVERY: Duration = Duration::from_secs(15 * 60);

/// How long running backups may take to stop in good order.
const GRACE: Duration = Duration::from_secs(30);

/// The agent as a service.
#[derive(Debug)]
pub struct Daemon {
    /// What all backups share.
    pub agent: Arc<Agent>,
    /// Who is backed up when.
    pub policies: Arc<Policies>,
    /// The driver's socket.
    pub endpoint: Option<String>,
    /// How many side by side, how often to sweep.
    pub config: AgentConfig,
    /// How often to read how much of what is stored again.
    pub check: Option<CheckConfig>,
    /// What others are told.
    pub health: Health,
    /// Shared with the backups that are asked for on the socket.
    pub places: Places,
    /// What those who watch see.
    pub picture: Picture,
    /// Second copies, to be kept up to date.
    pub copies: Vec<Copy>,
    /// How restore tests of databases are started; `None`: nobody knows.
    pub prover: Option<Prover>,
    /// Where the repository lies.
    pub store: Arc<dyn ObjectStore>,
}

/// Why nothing can be backed up at all.
type Trouble = Box<dyn Failure + Send + Sync>;

type Ended = (VolumeName, Result<BackupReport, BackupError>);

/// How often locks are prolonged: four times in the shortest span, so that three failures in a row cost nothing.
fn locks_every(stores: &[Arc<dyn ObjectStore>]) -> Duration {
    let shortest = stores.iter().filter_map(|store| store.lock_span()).min();
    shortest.map_or(Duration::MAX, |span| span / 4)
}

#[derive(Debug, Default)]
struct State {
    jobs: JoinSet<Ended>,
    running: BTreeSet<VolumeName>,
    resting: BTreeMap<VolumeName, Resting>,
    driver: Option<Driver>,
    copying: Copying,
    /// Runs whose window closed, as they were told.
    missed: BTreeMap<VolumeName, Timestamp>,
    /// Small things beside backups; they end with the agent.
    chores: JoinSet<()>,
    /// Housekeeping under way.
    chore: Option<JoinHandle<()>>,
    /// Stored data that is being read again.
    verifying: Option<JoinHandle<()>>,
    /// A restore test of a database that goes on, and when each was last begun.
    proving: Proving,
    /// What is wrong with the surroundings; told once, when it changes.
    trouble: Option<String>,
}

impl State {
    fn is_keeping_house(&self) -> bool {
        self.chore.as_ref().is_some_and(|chore| !chore.is_finished())
    }
}

impl Daemon {
    /// Runs until it is cancelled. Backups that run then are stopped in good order: what they stored is kept.
    pub async fn run(&self, cancel: &CancellationToken) {
        let mut state = State::default();
        let mut house = Housekeeping::new(&self.agent, "swept", self.config.sweep_every.get());
        let locking = self.locking();
        let mut locks = Housekeeping::new(&self.agent, "locked", locks_every(&locking));
        let mut verifying =
            self.check.map(|check| Housekeeping::new(&self.agent, "verified", check.every.get()));
        let mut logs = Housekeeping::from_now_on(LOGS_EVERY);
        tracing::info!(
            policies = self.policies.all().len(),
            repository = self.agent.repository.location(),
            "the agent runs"
        );
        while !cancel.is_cancelled() {
            let looked = self.look(&mut state).await;
            let now = self.agent.world.clock.now();
            let wake = match looked {
                Ok((driver, volumes, fold)) => {
                    let node = driver.as_ref().map(|driver| (driver.node(), &volumes[..]));
                    self.picture.saw(&fold, node, now);
                    self.trouble(&mut state, None).await;
                    state.proving.keep(self.prover.as_ref(), &self.agent, &fold, now, cancel).await;
                    let busy = !state.running.is_empty();
                    state.copying.keep(&self.copies, &self.agent, &self.picture, &fold, busy, now).await;
                    if self.is_alone() && state.is_keeping_house() {
                        None
                    } else {
                        self.start_what_is_due(&mut state, driver, &volumes, &fold, now, cancel)
                    }
                }
                Err(trouble) => {
                    self.trouble(&mut state, Some(trouble)).await;
                    None
                }
            };
            self.picture.running(state.running.len());
            self.keep_house(&mut state, &mut house, now);
            if !locking.is_empty() && locks.is_due(now) {
                locks.begin(now);
                let (agent, stores) = (Arc::clone(&self.agent), locking.clone());
                state.chores.spawn(async move { housekeeping::prolong_locks(&agent, &stores).await });
            }
            if self.agent.databases.iter().next().is_some() && logs.is_due(now) {
                logs.begin(now);
                let agent = Arc::clone(&self.agent);
                state.chores.spawn(async move { housekeeping::survey_logs(&agent).await });
            }
            while state.chores.try_join_next().is_some() {}
            self.verify_a_part(&mut state, verifying.as_mut(), now);
            let until = wake.and_then(|wake| Duration::try_from(wake.duration_since(now)).ok());
            let pause = until.unwrap_or(LOOK_EVERY).clamp(Duration::from_millis(100), LOOK_EVERY);
            tokio::select! {
                Some(ended) = state.jobs.join_next() => {
                    if let Ok(ended) = ended {
                        self.ended(&mut state, ended).await;
                    } else {
                        // A backup that panicked has said so in the log; nobody knows which it was, so all may be tried again.
                        state.running.clear();
                    }
                }
                () = self.agent.databases.stream_began() => {}
                () = tokio::time::sleep(pause) => {}
                () = cancel.cancelled() => {}
            }
        }
        tracing::info!(running = state.running.len(), "the agent stops");
        for chore in state.chore.iter().chain(&state.verifying) {
            chore.abort();
        }
        state.copying.stop();
        let rest = async {
            while state.jobs.join_next().await.is_some() {}
            state.proving.ended().await;
        };
        if tokio::time::timeout(GRACE, rest).await.is_err() {
            tracing::warn!("a backup did not stop in time; the next run goes on from what it stored");
        }
    }

    /// The stores whose packs are locked.
    fn locking(&self) -> Vec<Arc<dyn ObjectStore>> {
        let copies = self.copies.iter().map(|copy| &copy.store);
        std::iter::once(&self.store)
            .chain(copies)
            .filter(|store| store.lock_span().is_some())
            .cloned()
            .collect()
    }

    /// Where one agent alone may write, nothing is swept while a backup runs, and the other way round. Elsewhere both go on side
    /// by side: a long sweep must not hold up backups.
    fn is_alone(&self) -> bool {
        self.agent.repository.head().single_writer.is_some()
    }

    fn keep_house(&self, state: &mut State, house: &mut Housekeeping, now: Timestamp) {
        if !house.is_due(now) || state.is_keeping_house() || (self.is_alone() && !state.jobs.is_empty()) {
            return;
        }
        // Backups that are asked for hold it, where one agent alone may write.
        let Ok(quiet) = Arc::clone(&self.places.house).try_write_owned() else { return };
        let quiet = self.is_alone().then_some(quiet);
        house.begin(now);
        let (agent, policies) = (Arc::clone(&self.agent), Arc::clone(&self.policies));
        state.chore = Some(tokio::spawn(async move {
            let _quiet = quiet;
            housekeeping::keep(&agent, &policies).await;
        }));
    }

    /// Beside backups and sweeps: it only reads, and notes what it saw.
    fn verify_a_part(&self, state: &mut State, due: Option<&mut Housekeeping>, now: Timestamp) {
        let (Some(check), Some(due)) = (self.check, due) else { return };
        let is_busy = state.verifying.as_ref().is_some_and(|verifying| !verifying.is_finished());
        if is_busy || state.trouble.is_some() || !due.is_due(now) {
            return;
        }
        due.begin(now);
        let agent = Arc::clone(&self.agent);
        state.verifying = Some(tokio::spawn(async move { verifying::read_a_part(&agent, check).await }));
    }

    async fn look(&self, state: &mut State) -> Result<(Option<Driver>, Vec<Volume>, Arc<Fold>), Trouble> {
        let fold = self.agent.repository.fold().await.map_err(|error| Box::new(error) as Trouble)?;
        let Some(endpoint) = &self.endpoint else { return Ok((None, Vec::new(), fold)) };
        let asked = async {
            let driver = match &state.driver {
                Some(driver) => driver.clone(),
                None => Driver::connect(endpoint).await?,
            };
            let volumes = driver.volumes().await?;
            Ok::<_, DriverError>((driver, volumes))
        };
        match asked.await {
            Ok((driver, volumes)) => {
                state.driver = Some(driver.clone());
                Ok((Some(driver), volumes, fold))
            }
            Err(error) => {
                state.driver = None;
                Err(Box::new(error))
            }
        }
    }

    /// A run whose window closed before it could begin is told once.
    fn tell_missed(&self, state: &mut State, volumes: &[Volume], fold: &Fold, now: Timestamp) {
        for (volume, slot) in missed(volumes, fold, &self.policies, now) {
            if state.missed.insert(volume.clone(), slot) != Some(slot) {
                tracing::warn!(%volume, %slot, "a run missed its window; it is made up for in the next");
            }
        }
    }

    /// Answers when to look again.
    fn start_what_is_due(
        &self,
        state: &mut State,
        driver: Option<Driver>,
        volumes: &[Volume],
        fold: &Fold,
        now: Timestamp,
        cancel: &CancellationToken,
    ) -> Option<Timestamp> {
        let free =
            usize::try_from(self.config.jobs.get()).unwrap_or(usize::MAX).saturating_sub(state.running.len());
        self.tell_missed(state, volumes, fold, now);
        let decision = decide(volumes, fold, &self.policies, &state.running, &state.resting, free, now);
        let Some(driver) = driver else { return decision.wake };
        // A database whose log began anew has nothing to be restored from until there is a base.
        let lacking = self.agent.databases.lacking_base(fold, now);
        let rests = |name: &VolumeName| state.resting.get(name).is_some_and(|resting| resting.until > now);
        let bases: Vec<Volume> = volumes
            .iter()
            .filter(|volume| lacking.contains(&volume.name))
            .filter(|volume| !decision.start.iter().any(|due| due.name == volume.name))
            .filter(|volume| !state.running.contains(&volume.name) && !rests(&volume.name))
            .take(free.saturating_sub(decision.start.len()))
            .cloned()
            .collect();
        for volume in decision.start.into_iter().chain(bases) {
            // What is asked for on the socket takes places, too; the next look finds the volume still due.
            let Ok(place) = Arc::clone(&self.places.slots).try_acquire_owned() else { break };
            state.running.insert(volume.name.clone());
            let (agent, driver, cancel) = (Arc::clone(&self.agent), driver.clone(), cancel.clone());
            state.jobs.spawn(async move {
                let _place = place;
                let name = volume.name.clone();
                tracing::info!(volume = %name, "backing up");
                let done =
                    back_up(&agent, &Target::Volume(driver, volume), &Progress::silent(), &cancel).await;
                (name, done)
            });
        }
        decision.wake
    }

    async fn ended(&self, state: &mut State, (volume, done): Ended) {
        state.running.remove(&volume);
        let now = self.agent.world.clock.now();
        match done {
            Ok(report) => {
                state.resting.remove(&volume);
                self.picture.ended(&volume, Ok(report.sent_bytes));
                tracing::info!(
                    volume = %volume, point = %report.point, mode = ?report.mode,
                    scanned_bytes = report.tally.scanned_bytes, changed_bytes = report.tally.changed_bytes,
                    new_bytes = report.tally.new_bytes, sent_bytes = report.sent_bytes,
                    requests = report.requests, duration_ms = report.duration_ms, "backed up"
                );
                housekeeping::retain(&self.agent, &self.policies, Some(&volume)).await;
            }
            Err(error) => {
                let resting = state.resting.entry(volume.clone()).or_default();
                resting.failed(now, &error);
                self.picture.ended(&volume, Err(resting.failures));
                tracing::error!(
                    volume = %volume, code = error.code(), error = chain(&error), advice = error.advice(),
                    failures = resting.failures, again_at = %resting.until, "the backup failed"
                );
            }
        }
        self.health.tell(state.trouble.is_none() && state.resting.is_empty()).await;
    }

    async fn trouble(&self, state: &mut State, trouble: Option<Trouble>) {
        let text = trouble.as_ref().map(|trouble| chain(&**trouble));
        self.picture.trouble(text.clone());
        if text != state.trouble {
            match &trouble {
                Some(trouble) => tracing::error!(
                    code = trouble.code(),
                    error = text.as_deref(),
                    advice = trouble.advice(),
                    "nothing can be backed up"
                ),
                None => tracing::info!("driver and repository answer again"),
            }
            state.trouble = text;
            self.health.tell(state.trouble.is_none() && state.resting.is_empty()).await;
        }
    }
}
