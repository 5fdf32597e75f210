//! The actors of a history: what each of them does, again and again, until it is killed.
//!
//! Each point carries what its volume held as a label, so that it can be checked even when its writer died
//! before it knew of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use strongroom_model::RecoveryPointId;
use tokio::time::{Duration, sleep};

use super::world::{Content, Trial, capture, capture_changes, options, restore_known, upload_before, volume};
use crate::Repository;
use crate::errors::PublishError;
use crate::fold::Fold;
use crate::rules::{Rule, all_hold, holds};
use crate::session::{Draft, Session};
use crate::sweep::SweepOptions;

const CHUNKS: usize = 5;

/// So many kinds of chunk there are: few, so that volumes share some of them.
const FILLS: usize = 24;

/// What the actors share beside the store.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    pub(super) trial: Trial,
    /// In this world packs are rewritten for the sake of any hole, or only of many.
    pub(super) min_hole_ratio: f64,
}

impl Stage {
    pub(super) fn below(&self, below: usize) -> usize {
        usize::try_from(self.trial.store.random(below as u64)).unwrap()
    }

    pub(super) fn chance(&self, percent: u64) -> bool {
        self.trial.store.random(100) < percent
    }

    pub(super) fn pick<'a, T>(&self, from: &'a [T]) -> Option<&'a T> {
        (!from.is_empty()).then(|| &from[self.below(from.len())])
    }

    pub(super) fn report(&self, what: String) {
        self.trial.store.with_oracle(|oracle| oracle.report(what));
    }

    pub(super) fn is_over(&self) -> bool {
        self.trial.store.with_oracle(|oracle| oracle.violation().is_some())
    }

    pub(super) fn is_current(&self, point: &RecoveryPointId) -> bool {
        self.trial.store.with_oracle(|oracle| oracle.is_current(point))
    }

    pub(super) fn current_points(&self) -> usize {
        self.trial.store.with_oracle(|oracle| oracle.current_points())
    }

    async fn rest(&self, ms: u64) {
        sleep(Duration::from_millis(1 + self.trial.store.random(ms))).await;
    }
}

#[derive(Debug, Clone)]
pub(super) enum Role {
    Writer(String, Option<PathBuf>),
    Sweeper,
    Forgetter,
    Holder,
    Fencer,
    Reader,
    Checkpointer,
    /// Deletes old records of the journal: nobody does, while all rules hold.
    Compacter,
}

pub(super) fn content_of(fold: &Fold, point: RecoveryPointId) -> Content {
    hex::decode(&fold.points[&point].info.labels["content"]).unwrap()
}

/// Opens the repository, does something a few times, and opens it again.
pub(super) async fn act(stage: Stage, role: Role) {
    loop {
        let (name, state) = match &role {
            Role::Writer(name, state) => (name.clone(), state.clone()),
            other => (format!("{other:?}"), None),
        };
        // Nobody's clock is right.
        let days = [0, 0, 0, 3, -3, 400][stage.below(6)];
        let Ok(repository) = stage.trial.with_clock_off_by(days).try_open(options(&name, state)).await else {
            stage.rest(5).await;
            continue;
        };
        for _ in 0..stage.below(12) + 1 {
            match &role {
                Role::Writer(..) => write(&stage, &repository).await,
                Role::Sweeper => {
                    let min_hole_ratio = stage.min_hole_ratio;
                    let options = SweepOptions { min_hole_ratio, max_rewrite_bytes: 1 << 40 };
                    drop(repository.sweep(&options).await);
                }
                Role::Forgetter => forget(&stage, &repository).await,
                Role::Holder => hold(&stage, &repository).await,
                Role::Fencer => fence(&stage, &repository).await,
                Role::Reader => read(&stage, &repository).await,
                Role::Checkpointer => checkpoint(&stage, &repository).await,
                Role::Compacter => compact(&stage, &repository).await,
            }
            stage.rest(if matches!(role, Role::Writer(..) | Role::Sweeper) { 20 } else { 50 }).await;
        }
    }
}

async fn forget(stage: &Stage, repository: &Repository) {
    let Ok(fold) = repository.fold().await else { return };
    if stage.chance(30) {
        // "Keep the newest 2 of each volume", decided anew on each fold.
        let rule = |fold: &Fold| {
            let of_volume = |name: &str| {
                let mut ids: Vec<_> = fold.points_of(&volume(name)).iter().map(|point| point.id).collect();
                ids.truncate(ids.len().saturating_sub(2));
                ids
            };
            ["a", "b"].into_iter().flat_map(of_volume).collect()
        };
        let _ = repository.forget_by(rule, "keep 2").await;
    } else if fold.points.len() > 2 {
        let ids: Vec<_> = fold.points.keys().copied().collect();
        if let Some(id) = stage.pick(&ids) {
            let _ = repository.forget(*id, "a whim").await;
        }
    }
}

async fn hold(stage: &Stage, repository: &Repository) {
    let Ok(fold) = repository.fold().await else { return };
    let ids: Vec<_> = fold.points.keys().copied().collect();
    if let Some(id) = stage.pick(&ids) {
        let there: Vec<String> = fold.points[id].held.iter().cloned().collect();
        let hold = format!("hold {}", stage.below(2));
        let _ = match stage.pick(&there).filter(|_| stage.chance(60)) {
            Some(hold) => repository.release(*id, hold).await,
            None => repository.hold(*id, &hold).await,
        };
    }
}

async fn fence(stage: &Stage, repository: &Repository) {
    if stage.chance(30) {
        let _ = repository.fence_stale().await;
        return;
    }
    let Ok(fold) = repository.fold().await else { return };
    let sessions: Vec<_> = fold.sessions.keys().copied().collect();
    if let Some(session) = stage.pick(&sessions).filter(|_| stage.chance(50)) {
        let _ = repository.fence(*session, "a whim").await;
    }
}

async fn checkpoint(stage: &Stage, repository: &Repository) {
    let Ok(fold) = repository.fold().await else { return };
    // It may be old by the time that it is written.
    stage.rest(200).await;
    let _ = repository.journal().write_checkpoint(&fold).await;
}

async fn compact(stage: &Stage, repository: &Repository) {
    let Ok(fold) = repository.fold().await else { return };
    if repository.journal().write_checkpoint(&fold).await.is_ok() {
        stage.rest(20).await;
        for number in 1..fold.number {
            let _ = repository.store().delete(&crate::layout::ObjectName::journal(number)).await;
        }
    }
}

/// One run of a writer: a changed volume, from a parent or without, with intermediate points now and then.
async fn write(stage: &Stage, repository: &Repository) {
    let name = ["a", "b"][stage.below(2)];
    let early = if holds(Rule::OpenBeforeUpload) { None } else { Some(early(stage, repository).await) };
    let Ok(mut session) = repository.open_session(name).await else { return };
    let mut was_reopened = false;
    for receipt in early.iter().flat_map(|(_, receipts)| receipts.take_fresh()) {
        session.receipts().add(receipt);
    }
    for _ in 0..stage.below(3) + 1 {
        let Some(draft) = draft(stage, &session, name, early.as_ref().map(|(content, _)| content)).await
        else {
            return;
        };
        if stage.chance(20) {
            // Long work between the last upload and the publishing.
            stage.rest(800).await;
        }
        let last = stage.chance(50);
        for _ in 0..4 {
            match session.publish(draft.clone(), last).await {
                Ok(published) => {
                    let (point, number) = (published.point, published.number);
                    stage.trial.store.with_oracle(|oracle| oracle.acknowledged(point, number));
                    if last {
                        return;
                    }
                    break;
                }
                Err(PublishError::Fenced { .. }) => {
                    let Ok(again) = session.reopen().await else { return };
                    (session, was_reopened) = (again, true);
                }
                // Swept meanwhile: another run captures it again. Only who was shut out may meet this: what an
                // open session refers to is waited for.
                Err(PublishError::Gone { pack }) => {
                    let id = session.id();
                    // The writer asks once more before it publishes. So this is all that can be seen without the
                    // rules for whom a plan waits; without any other rule a point must break.
                    let waits = holds(Rule::HolesArePlanned) && holds(Rule::WaitSetIsExact);
                    let counts = all_hold() || !waits;
                    if counts && !was_reopened && stage.trial.store.with_oracle(|oracle| oracle.is_open(id)) {
                        stage
                            .report(format!("I1: session {id} is open, and lost {pack}, to which it refers"));
                    }
                    break;
                }
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

/// Without the rule that nothing is uploaded before `opened`: uploads first.
async fn early(stage: &Stage, repository: &Repository) -> (Content, crate::pack::Receipts) {
    let content = any_content(stage);
    let receipts = upload_before(repository, &content).await;
    stage.rest(100).await;
    (content, receipts)
}

fn any_fill(stage: &Stage) -> u8 {
    u8::try_from(stage.below(FILLS)).unwrap()
}

fn any_content(stage: &Stage) -> Content {
    (0..CHUNKS).map(|_| any_fill(stage)).collect()
}

async fn draft(stage: &Stage, session: &Session, name: &str, early: Option<&Content>) -> Option<Draft> {
    let fold = session.fold();
    let points: Vec<_> = fold.points_of(&volume(name)).into_iter().map(|point| point.id).collect();
    let parent = stage.pick(&points).copied().filter(|_| stage.chance(80) && early.is_none());
    let before = parent.map_or_else(|| any_content(stage), |parent| content_of(&fold, parent));
    let mut content = early.unwrap_or(&before).clone();
    for _ in 0..stage.below(4) {
        let at = stage.below(CHUNKS);
        content[at] = any_fill(stage);
    }
    let parent = parent.map(|parent| fold.points[&parent].clone());
    let captured = match &parent {
        Some(parent) if stage.chance(70) => capture_changes(session, name, &before, &content, parent).await,
        _ => capture(session, name, &content, parent.as_ref()).await,
    };
    let mut draft = captured.ok()?;
    draft.info.labels = BTreeMap::from([("content".to_owned(), hex::encode(&content))]);
    Some(draft)
}

/// I6: a reader of a current point may meet silence and forgetting, and nothing else.
async fn read(stage: &Stage, repository: &Repository) {
    // Mostly by what was known before: the second look must find where the packs are now.
    let known = repository.known_fold();
    let fold = if stage.chance(70) { Ok(known) } else { repository.fold().await };
    let Ok(fold) = fold else { return };
    let ids: Vec<_> = fold.points.keys().copied().collect();
    let Some(id) = stage.pick(&ids).copied() else { return };
    match restore_known(repository, &fold.points[&id]).await {
        Ok(content) if content == content_of(&fold, id) => {}
        Ok(_) => stage.report(format!("I6: a reader of {id} got other bytes than were written")),
        Err(error) => {
            let text = strongroom_model::chain(&*error);
            if stage.is_current(&id) && !text.contains("did not answer") {
                stage.report(format!("I6: a reader of {id}, which is current, fails for good: {text}"));
            }
        }
    }
}
