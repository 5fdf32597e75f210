//! Everybody at once: writers, sweepers, forgetters, holders, fencers and readers share a store that
//! misbehaves, and are killed at any moment. One seed is one history (as far as the machine's own threads
//! allow).
//!
//! Each point carries what its volume held as a label, so that it can be checked even when its writer died
//! before it knew of it.
//!
//! * I1 every entry a current point needs is readable: every current point is read back at many moments.
//! * I2 no acknowledged publish is lost or doubled: at the end, against the journal.
//! * I3 an ended session never publishes, I4 nothing held is lost: the fold refuses such records, and the
//!   journal is folded from 1.
//! * I5 with all actors gone, one fencer and one sweeper leave exactly the needed objects.
//! * I6 no reader of a current point fails for good.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use jiff::SignedDuration;
use strongroom_model::RecoveryPointId;
use tokio::task::JoinHandle;

use super::store::Faults;
use super::world::{Content, Trial, capture, capture_changes, options, restore, volume};
use crate::Repository;
use crate::errors::PublishError;
use crate::fold::Fold;
use crate::record::Event;
use crate::sweep::SweepOptions;

const SWEEP: SweepOptions = SweepOptions { min_hole_ratio: 0.2, max_rewrite_bytes: 1 << 40 };
const FAULTS: Faults = Faults { lost_answer: 15, late: 10, twice: 10, failed: 15, hidden: 50, pauses: 400 };
const CHUNKS: usize = 5;
const STEPS: usize = 100;

/// What the actors share beside the store.
#[derive(Debug, Clone)]
struct Stage {
    trial: Trial,
    acknowledged: Arc<Mutex<BTreeSet<RecoveryPointId>>>,
}

impl Stage {
    fn random(&self, below: usize) -> usize {
        usize::try_from(self.trial.store.random(below as u64)).unwrap()
    }

    fn chance(&self, percent: usize) -> bool {
        self.random(100) < percent
    }

    fn pick<T: Copy>(&self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.random(from.len())])
    }
}

#[derive(Debug, Clone)]
enum Role {
    Writer(String, Option<PathBuf>),
    Sweeper,
    Forgetter,
    Holder,
    Fencer,
    Reader,
}

fn content_of(fold: &Fold, point: RecoveryPointId) -> Content {
    hex::decode(&fold.points[&point].info.labels["content"]).unwrap()
}

async fn act(stage: Stage, role: Role) {
    loop {
        let (name, state) = match &role {
            Role::Writer(name, state) => (name.clone(), state.clone()),
            other => (format!("{other:?}"), None),
        };
        let Ok(repository) = stage.trial.try_open(options(&name, state)).await else { continue };
        for _ in 0..stage.random(6) + 1 {
            match &role {
                Role::Writer(..) => write(&stage, &repository).await,
                Role::Sweeper => drop(repository.sweep(&SWEEP).await),
                Role::Forgetter => {
                    let Ok(fold) = repository.fold().await else { continue };
                    if fold.points.len() > 2 {
                        let ids: Vec<_> = fold.points.keys().copied().collect();
                        let _ = repository.forget(stage.pick(&ids).unwrap(), "a whim").await;
                    }
                }
                Role::Holder => {
                    let Ok(fold) = repository.fold().await else { continue };
                    let ids: Vec<_> = fold.points.keys().copied().collect();
                    if let Some(id) = stage.pick(&ids) {
                        let hold = format!("hold {}", stage.random(2));
                        let _ = if stage.chance(40) {
                            repository.hold(id, &hold).await
                        } else {
                            repository.release(id, &hold).await
                        };
                    }
                }
                Role::Fencer => {
                    let Ok(fold) = repository.fold().await else { continue };
                    let sessions: Vec<_> = fold.sessions.keys().copied().collect();
                    if let Some(session) = stage.pick(&sessions).filter(|_| stage.chance(30)) {
                        let _ = repository.fence(session, "a whim").await;
                    }
                }
                Role::Reader => read(&stage, &repository).await,
            }
            for _ in 0..stage.random(20) {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// One run of a writer: a changed volume, from a parent or without, with intermediate points now and then.
async fn write(stage: &Stage, repository: &Repository) {
    let name = ["a", "b"][stage.random(2)];
    let Ok(mut session) = repository.open_session(name).await else { return };
    for _ in 0..stage.random(2) + 1 {
        let fold = session.fold();
        let points: Vec<_> = fold.points_of(&volume(name)).into_iter().map(|point| point.id).collect();
        let parent = stage.pick(&points).filter(|_| stage.chance(80));
        let before = parent.map_or_else(|| vec![1; CHUNKS], |parent| content_of(&fold, parent));
        let mut content = before.clone();
        for _ in 0..stage.random(4) {
            let at = stage.random(CHUNKS);
            content[at] = u8::try_from(stage.random(10)).unwrap();
        }
        let parent = parent.map(|parent| fold.points[&parent].clone());
        let captured = match &parent {
            Some(parent) if stage.chance(70) => {
                capture_changes(&session, name, &before, &content, parent).await
            }
            _ => capture(&session, name, &content, parent.as_ref()).await,
        };
        let Ok(mut draft) = captured else { return };
        draft.info.labels = BTreeMap::from([("content".to_owned(), hex::encode(&content))]);
        let last = stage.chance(50);
        for _ in 0..4 {
            match session.publish(draft.clone(), last).await {
                Ok(published) => {
                    stage.acknowledged.lock().unwrap().insert(published.point);
                    if last {
                        return;
                    }
                    break;
                }
                Err(PublishError::Fenced { .. }) => {
                    let Ok(again) = session.reopen().await else { return };
                    session = again;
                }
                // Swept meanwhile: another run captures it again.
                Err(PublishError::Gone { .. }) => break,
                // No clear answer: the same draft again, or give up as a killed process would.
                Err(_) if stage.chance(50) => {}
                Err(_) => return,
            }
        }
    }
    if stage.chance(70) {
        let _ = session.close().await;
    }
}

/// A reader of a current point may meet silence and forgetting, and nothing else.
async fn read(stage: &Stage, repository: &Repository) {
    let Ok(fold) = repository.fold().await else { return };
    let ids: Vec<_> = fold.points.keys().copied().collect();
    let Some(id) = stage.pick(&ids) else { return };
    match restore(repository, id).await {
        Ok(content) => assert_eq!(content, content_of(&fold, id)),
        Err(error) => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            let is_fine =
                ["did not answer", "was forgotten", "is not current"].iter().any(|fine| text.contains(fine));
            assert!(is_fine, "I6: a reader of {id} fails for good: {text}");
        }
    }
}

async fn history(seed: u64) {
    let (trial, _) = Trial::begin(seed).await;
    // In memory where there is such a place: thousands of small synced files.
    let memory = std::path::Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let quiet = trial.quiet().open("looks on").await;
    trial.store.set_faults(FAULTS);
    let stage = Stage { trial: trial.clone(), acknowledged: Arc::default() };
    let mut roles = vec![
        Role::Sweeper,
        Role::Sweeper,
        Role::Forgetter,
        Role::Holder,
        Role::Fencer,
        Role::Reader,
        Role::Reader,
    ];
    for number in 0..3 {
        let name = format!("writer{number}");
        let state = (number > 0).then(|| folder.path().join(&name));
        roles.push(Role::Writer(name, state));
    }
    let mut actors: Vec<JoinHandle<()>> =
        roles.iter().map(|role| tokio::spawn(act(stage.clone(), role.clone()))).collect();
    for step in 0..STEPS {
        for _ in 0..stage.random(60) {
            tokio::task::yield_now().await;
        }
        // Threads of the machine (opening key slots, index files) run beside us: give them a moment now and then.
        if stage.chance(20) {
            tokio::time::sleep(std::time::Duration::from_micros(200)).await;
        }
        if stage.chance(20) {
            trial.store.arrive();
        }
        trial.store.pass(SignedDuration::from_secs(60));
        let chosen = stage.random(actors.len());
        if actors[chosen].is_finished() || stage.chance(4) {
            actors[chosen].abort();
            let old = std::mem::replace(
                &mut actors[chosen],
                tokio::spawn(act(stage.clone(), roles[chosen].clone())),
            );
            if let Err(error) = old.await
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
        if step % 10 == 0 {
            look(&quiet, seed).await;
        }
    }
    for actor in actors {
        actor.abort();
        if let Err(error) = actor.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
    look(&quiet, seed).await;
    if stage.chance(50) {
        while trial.store.arrive() {}
    }
    trial.store.lose_what_is_under_way();
    trial.store.set_faults(Faults::default());
    settle(&trial, &stage, seed).await;
}

/// I1: every current point can be read back, and is what was written.
async fn look(quiet: &Repository, seed: u64) {
    let fold = quiet.fold().await.unwrap();
    for id in fold.points.keys() {
        match restore(quiet, *id).await {
            Ok(content) => assert_eq!(content, content_of(&fold, *id), "I1: seed {seed}"),
            Err(error) => {
                let is_current = quiet.fold().await.unwrap().points.contains_key(id);
                assert!(!is_current, "I1: seed {seed}: {id} cannot be read: {error}");
            }
        }
    }
}

/// I2 to I5, when all is over.
async fn settle(trial: &Trial, stage: &Stage, seed: u64) {
    let last = trial.open("last").await;
    for session in last.fold().await.unwrap().sessions.keys() {
        last.fence(*session, "all are gone").await.unwrap();
    }
    // The first finishes what was pending, the second takes what that left.
    let all = SweepOptions { min_hole_ratio: 0.0, ..SWEEP };
    for _ in 0..3 {
        last.sweep(&all).await.unwrap();
    }
    let fold = last.fold().await.unwrap();
    assert!(fold.plan.is_none(), "seed {seed}");
    let objects: BTreeSet<String> =
        trial.store.names("packs/").into_iter().chain(trial.store.names("maps/")).collect();
    let listed: BTreeSet<String> = fold.packs.values().map(|state| state.place.name().to_string()).collect();
    assert_eq!(objects, listed, "I5: seed {seed}");
    let idle = last.plan_sweep(&all).await.unwrap();
    assert!(idle.delete.is_empty() && idle.rewrite.is_empty(), "I5: seed {seed}: {idle:?}");
    look(&last, seed).await;
    let report = last.check(true, &|_, _| ()).await.unwrap();
    assert!(report.is_whole(), "seed {seed}: {report:#?}");
    let audit = last.audit(&|_, _| ()).await.unwrap();
    assert!(audit.wrong_checkpoints.is_empty(), "seed {seed}");

    let mut published = BTreeMap::new();
    for number in 1..=fold.number {
        let (record, _) = last.journal().fetch(number).await.unwrap().unwrap();
        if let Event::Published(point) = record.event {
            *published.entry(point.point).or_insert(0) += 1;
        }
    }
    assert!(published.values().all(|times| *times == 1), "I2: seed {seed}");
    let acknowledged = stage.acknowledged.lock().unwrap().clone();
    assert!(acknowledged.iter().all(|point| published.contains_key(point)), "I2: seed {seed}");
    assert!(!published.is_empty(), "seed {seed} did nothing");
}

/// `STRONGROOM_SEEDS=from..to` tries other seeds.
fn seeds(usual: std::ops::Range<u64>) -> std::ops::Range<u64> {
    let asked = std::env::var("STRONGROOM_SEEDS").ok();
    let range = asked.as_deref().and_then(|text| text.split_once(".."));
    range.and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?)).unwrap_or(usual)
}

async fn histories(usual: std::ops::Range<u64>) {
    for seed in seeds(usual) {
        history(seed).await;
    }
}

#[tokio::test]
async fn everybody_at_once_keeps_the_invariants_1() {
    histories(0..40).await;
}

#[tokio::test]
async fn everybody_at_once_keeps_the_invariants_2() {
    histories(1000..1040).await;
}

#[tokio::test]
async fn everybody_at_once_keeps_the_invariants_3() {
    histories(2000..2040).await;
}

#[tokio::test]
async fn everybody_at_once_keeps_the_invariants_4() {
    histories(3000..3040).await;
}
