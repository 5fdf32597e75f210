//! One history from one seed: everybody at once shares a store that misbehaves, and is killed at any moment; then
//! all are gone, and one fencer and one sweeper alone must leave exactly what is needed.
//!
//! Nothing here depends on real time, on threads or on the order of a hash map: the runtime has one thread and a
//! clock that jumps to the next timer, and every choice comes from the seed. So the same seed is the same history,
//! request by request, and its trace says so.
//!
//! The seed also draws what kind of world it is (how many actors of each kind, which faults, how long pauses
//! are): worlds that are unlike find more than many of one kind.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;

use futures::FutureExt;
use jiff::SignedDuration;
use tokio::task::JoinHandle;
use tokio::time::{Duration, sleep};

use super::actors::{Role, Stage, act, content_of};
use super::oracle::Oracle;
use super::store::Faults;
use super::world::{Trial, restore};
use crate::Repository;
use crate::rules::{self, Rule, Taken, holds};
use crate::sweep::SweepOptions;

/// What one history was.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) requests: u64,
    pub(super) trace: [u8; 32],
    /// Which invariant broke, and how.
    pub(super) violation: Option<String>,
    /// How many records of each kind the journal got.
    pub(super) records: Vec<(&'static str, u64)>,
    /// Every request, when asked for.
    pub(super) log: Vec<String>,
}

/// Which actors there are, and what befalls them.
#[derive(Debug)]
struct Kind {
    roles: Vec<Role>,
    faults: Faults,
    steps: u64,
    step_ms: u64,
    /// Of a hundred steps, so many kill somebody.
    kills: u64,
    /// Of a hundred steps, so many let a request arrive that was thought lost.
    arrivals: u64,
    /// Of a hundred steps, so many let a day pass.
    days: u64,
    /// Of a hundred steps, so many lose a checkpoint.
    losses: u64,
}

fn draw(trial: &Trial, folder: &std::path::Path) -> Kind {
    let below = |most: u64| trial.store.random(most);
    let one_of = |from: &[u32]| from[usize::try_from(below(from.len() as u64)).unwrap()];
    let mut roles = vec![Role::Sweeper, Role::Forgetter];
    let writers = 1 + below(3);
    for number in 0..writers {
        let name = format!("writer{number}");
        let state: Option<PathBuf> = (below(2) == 0).then(|| folder.join(&name));
        roles.push(Role::Writer(name, state));
    }
    // Some worlds are full of sweepers that rewrite.
    let sweepers = if below(3) == 0 || !holds(Rule::FreshObjectNames) { 1 } else { 3 };
    let more = [
        (Role::Sweeper, sweepers),
        (Role::Sweeper, sweepers),
        (Role::Forgetter, 2),
        (Role::Holder, 2),
        (Role::Fencer, if holds(Rule::AdoptUnplannedOnly) { 2 } else { 1 }),
        (Role::Reader, 2),
        (Role::Reader, 2),
        (Role::Checkpointer, 3),
    ];
    roles.extend(more.into_iter().filter(|(_, odds)| below(*odds) == 0).map(|(role, _)| role));
    if !holds(Rule::KeepJournal) {
        roles.push(Role::Compacter);
    }
    let faults = Faults {
        // Without fresh names an upload whose answer is lost is what matters.
        lost_answer: if holds(Rule::FreshObjectNames) { one_of(&[0, 5, 20, 60]) } else { 120 },
        late: one_of(&[0, 5, 20, 60]),
        twice: one_of(&[0, 5, 20]),
        failed: one_of(&[0, 5, 20]),
        hidden: one_of(&[0, 50, 300]),
        pauses: one_of(&[5, 20, 60, 120]),
        pause_ms: u64::from(one_of(&[50, 300, 1500])),
        latency_ms: u64::from(one_of(&[2, 6, 20])),
    };
    Kind {
        roles,
        faults,
        steps: 20 + below(100),
        step_ms: 10 + below(40),
        kills: 1 + below(8),
        arrivals: 5 + below(25),
        days: below(4),
        losses: below(4),
    }
}

/// Lives through the history of a seed, with a rule taken away or with all of them.
pub(super) fn live(seed: u64, without: Option<Rule>, keep_log: bool) -> Told {
    let _taken = Taken::away(without);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (trial, first) = Trial::begin(seed).await;
        if !keep_log {
            trial.store.keep_no_log();
        }
        trial.store.set_oracle(Oracle::new(&first.inner.context, first.high_water().0));
        drop(first);
        let min_hole_ratio = if trial.store.random(3) == 0 { 0.3 } else { 0.0 };
        let stage = Stage { trial: trial.clone(), min_hole_ratio };
        // A panic of the code under test is a finding like any other.
        let lived = AssertUnwindSafe(everybody(&stage)).catch_unwind().await;
        if let Err(panic) = lived {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            stage.report(format!("a panic: {}", text.unwrap_or_default()));
        }
        let (requests, trace) = trial.store.trace();
        let (violation, records) = trial.store.with_oracle(|oracle| {
            (oracle.violation().map(str::to_owned), oracle.records().clone().into_iter().collect())
        });
        Told { requests, trace, violation, records, log: trial.store.take_log() }
    })
}

async fn everybody(stage: &Stage) {
    let trial = &stage.trial;
    // In memory where there is such a place: thousands of small synced files.
    let memory = std::path::Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let quiet = trial.quiet().open("looks on").await;
    let kind = draw(trial, folder.path());
    trial.store.set_faults(kind.faults);
    let start = |role: &Role| tokio::spawn(act(stage.clone(), role.clone()));
    let mut actors: Vec<JoinHandle<()>> = kind.roles.iter().map(start).collect();
    for step in 0..kind.steps {
        sleep(Duration::from_millis(1 + trial.store.random(kind.step_ms))).await;
        if stage.chance(kind.arrivals) {
            trial.store.arrive();
        }
        let hours = if stage.chance(kind.days) { 25 } else { 0 };
        trial.store.pass(SignedDuration::from_mins(1 + hours * 60));
        if stage.chance(kind.losses) {
            let checkpoints = trial.store.names("journal/checkpoints/");
            stage.pick(&checkpoints).map(|name| trial.store.remove(name));
        }
        let chosen = stage.below(actors.len());
        if actors[chosen].is_finished() || stage.chance(kind.kills) {
            actors[chosen].abort();
            let old = std::mem::replace(&mut actors[chosen], start(&kind.roles[chosen]));
            finish(old).await;
        }
        if step % 16 == 15 {
            look(stage, &quiet).await;
        }
        if stage.is_over() {
            break;
        }
    }
    for actor in &actors {
        actor.abort();
    }
    for actor in actors {
        finish(actor).await;
    }
    look(stage, &quiet).await;
    trial.store.set_faults(Faults::default());
    // Without a rule the question is what breaks while everybody is at work.
    if rules::all_hold()
        && !stage.is_over()
        && let Err(cause) = settle(stage).await
    {
        stage.report(format!("I5: when all were gone: {cause}"));
    }
}

async fn finish(actor: JoinHandle<()>) {
    if let Err(error) = actor.await
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
}

/// I1, read by the real code: every current point can be read back, and is what was written.
async fn look(stage: &Stage, quiet: &Repository) {
    let fold = match quiet.fold().await {
        Ok(fold) => fold,
        Err(cause) => {
            return stage
                .report(format!("I1: the journal cannot be read: {}", strongroom_model::chain(&cause)));
        }
    };
    for id in fold.points.keys() {
        match restore(quiet, *id).await {
            Ok(content) if content == content_of(&fold, *id) => {}
            Ok(_) => stage.report(format!("I1: {id} is not what was written")),
            Err(cause) if stage.is_current(id) => stage.report(format!("I1: {id} cannot be read: {cause}")),
            Err(_) => {}
        }
    }
}

/// I2 to I5, when all is over: first without what is still under way, then with it.
async fn settle(stage: &Stage) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let trial = &stage.trial;
    let last = trial.open("last").await;
    for _ in 0..2 {
        for session in last.fold().await?.sessions.keys() {
            last.fence(*session, "all are gone").await?;
        }
        // The first finishes what was pending, the second takes what that left.
        let all = SweepOptions { min_hole_ratio: 0.0, max_rewrite_bytes: 1 << 40 };
        for _ in 0..3 {
            last.sweep(&all).await?;
        }
        trial.store.with_oracle(Oracle::judge_end);
        if stage.is_over() {
            return Ok(());
        }
        while trial.store.arrive() {}
    }
    // What arrived after all that may have left garbage, and has hurt nobody.
    let fresh = trial.open("afterwards").await;
    look(stage, &fresh).await;
    let report = fresh.check(true, &|_, _| ()).await?;
    if !report.is_whole() {
        stage.report(format!("I1: the check finds {:?}", report.damages));
    }
    let audit = fresh.audit(&|_, _| ()).await?;
    if !audit.wrong_checkpoints.is_empty() {
        stage.report(format!("I1: wrong checkpoints: {:?}", audit.wrong_checkpoints));
    }
    let points: BTreeSet<_> = fresh.fold().await?.points.keys().copied().collect();
    if !points.iter().all(|point| stage.is_current(point)) || points.len() != stage.current_points() {
        stage.report("I2: the fold and who looks on disagree on what is current".to_owned());
    }
    Ok(())
}
