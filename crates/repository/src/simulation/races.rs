//! The races of section 5 of the protocol, one by one; the number in a name is the row.

use jiff::SignedDuration;
use strongroom_model::RecoveryPointId;

use super::store::Fault;
use super::world::{CHUNK, Trial, backup, capture, capture_changes, options, restore, volume};
use crate::Repository;
use crate::errors::{JournalError, OpenError, PublishError};
use crate::fold::{Fold, RuleError};
use crate::point::Point;
use crate::record::{Event, PackRewritten, Placed, SweepPlanned};
use crate::session::{Draft, DraftMap};
use crate::sweep::SweepOptions;

const ALL: SweepOptions = SweepOptions { min_hole_ratio: 0.0, max_rewrite_bytes: 1 << 40 };

async fn point(repository: &Repository, id: RecoveryPointId) -> Point {
    repository.fold().await.unwrap().points[&id].clone()
}

/// A plan that names all that no point needs, and is not executed.
async fn plan_only(repository: &Repository) -> u64 {
    let waiter = repository.open_session("makes the plan wait").await.unwrap();
    let report = repository.sweep(&ALL).await.unwrap();
    assert!(report.waits_for.contains(&waiter.id()), "{report:?}");
    repository.known_fold().plan.as_ref().unwrap().number
}

#[tokio::test]
async fn a_backup_is_read_back_and_an_unchanged_one_writes_two_records() {
    let (trial, repository) = Trial::begin(1).await;
    let content = vec![1, 2, 0, 3, 3, 1];
    let first = backup(&repository, "db", &content, None).await.unwrap();
    assert_eq!(restore(&repository, first.point).await.unwrap(), content);

    let parent = point(&repository, first.point).await;
    trial.store.take_log();
    let session = repository.open_session("db").await.unwrap();
    let draft = Draft {
        volume: volume("db"),
        map: DraftMap::SameAsParent,
        info: parent.info.clone(),
        parent: Some(parent),
    };
    let second = session.publish(draft, true).await.unwrap();
    let log = trial.store.take_log();
    let writes: Vec<_> = log.iter().filter(|request| !request.starts_with("GET")).collect();
    assert_eq!(writes.len(), 2, "{log:#?}");
    assert!(writes.iter().all(|write| write.starts_with("CREATE journal/")), "{log:#?}");
    assert_eq!(log.len(), 4, "each record: one look whether the number is free, one create: {log:#?}");
    assert_eq!(restore(&repository, second.point).await.unwrap(), content);
}

#[tokio::test]
async fn race_1_two_writers_of_one_volume_both_publish() {
    let (trial, one) = Trial::begin(1).await;
    let two = trial.open("two").await;
    let base = backup(&one, "db", &vec![1, 2], None).await.unwrap();
    let parent = point(&one, base.point).await;
    let parent_two = point(&two, base.point).await;
    let (first, second) = (one.open_session("db").await.unwrap(), two.open_session("db").await.unwrap());
    let first_draft = capture(&first, "db", &vec![1, 3], Some(&parent)).await.unwrap();
    let second_draft = capture(&second, "db", &vec![4, 2], Some(&parent_two)).await.unwrap();
    let a = first.publish(first_draft, true).await.unwrap();
    let b = second.publish(second_draft, true).await.unwrap();
    let fold = one.fold().await.unwrap();
    assert_eq!(fold.points_of(&volume("db")).len(), 3);
    assert!(fold.points[&a.point].parent == fold.points[&b.point].parent && a.number < b.number);
    assert_eq!(restore(&two, a.point).await.unwrap(), [1, 3]);
    assert_eq!(restore(&one, b.point).await.unwrap(), [4, 2]);
}

#[tokio::test]
async fn race_2_a_publish_after_the_plan_revives_what_it_needs() {
    let (trial, writer) = Trial::begin(2).await;
    let sweeper = trial.open("sweeper").await;
    let old = backup(&writer, "db", &vec![1, 2], None).await.unwrap();
    let session = writer.open_session("other").await.unwrap();
    // The writer finds its chunks in a pack that dies before it publishes.
    let draft = capture(&session, "other", &vec![2, 1], None).await.unwrap();
    sweeper.forget(old.point, "test").await.unwrap();
    let report = sweeper.sweep(&ALL).await.unwrap();
    assert_eq!(report.waits_for, [session.id()].into());
    let new = session.publish(draft, true).await.unwrap();
    let fold = writer.fold().await.unwrap();
    assert!(!fold.plan.as_ref().unwrap().revived.is_empty());
    sweeper.sweep(&ALL).await.unwrap();
    assert_eq!(restore(&writer, new.point).await.unwrap(), [2, 1]);
    assert!(writer.check(true, &|_, _| ()).await.unwrap().is_whole());
}

#[tokio::test]
async fn race_2_a_plan_after_the_publish_leaves_out_what_that_needs() {
    let (trial, writer) = Trial::begin(2).await;
    let old = backup(&writer, "db", &vec![1, 2], None).await.unwrap();
    let session = writer.open_session("other").await.unwrap();
    let draft = capture(&session, "other", &vec![2, 1], None).await.unwrap();
    writer.forget(old.point, "test").await.unwrap();
    let sweeper = trial.open("sweeper").await;
    let mut candidates = crate::sweep::candidates_for_tests(&sweeper, &ALL).await;
    let new = session.publish(draft, true).await.unwrap();
    // What was computed before the publish is looked at again on the fold that the plan is decided on.
    sweeper.append_plan_for_tests(&mut candidates).await.unwrap();
    sweeper.sweep(&ALL).await.unwrap();
    assert_eq!(restore(&writer, new.point).await.unwrap(), [2, 1]);
}

#[tokio::test]
async fn race_3_a_fenced_writer_does_not_publish_and_keeps_its_uploads() {
    let (trial, writer) = Trial::begin(3).await;
    let other = trial.open("other").await;
    let session = writer.open_session("db").await.unwrap();
    let draft = capture(&session, "db", &vec![1, 2, 3], None).await.unwrap();
    other.fence(session.id(), "a person said so").await.unwrap();
    let Err(PublishError::Fenced { session: fenced }) = session.publish(draft.clone(), true).await else {
        panic!("an ended session published");
    };
    assert_eq!(fenced, session.id());
    trial.store.take_log();
    let again = session.reopen().await.unwrap();
    let published = again.publish(draft, true).await.unwrap();
    assert_eq!(restore(&other, published.point).await.unwrap(), [1, 2, 3]);
    assert!(!trial.store.take_log().iter().any(|request| request.starts_with("PUT packs/")));
}

#[tokio::test]
async fn race_3_a_late_publish_of_a_fenced_writer_finds_its_number_taken() {
    let (trial, writer) = Trial::begin(3).await;
    let other = trial.open("other").await;
    let session = writer.open_session("db").await.unwrap();
    let draft = capture(&session, "db", &vec![1], None).await.unwrap();
    trial.store.plan("CREATE", "journal/", Fault::Late);
    let publishing = session.publish(draft, true);
    {
        // The writer dies right after sending.
        tokio::pin!(publishing);
        while trial.store.take_log().iter().all(|request| !request.starts_with("CREATE journal/")) {
            let _ = futures::poll!(&mut publishing);
        }
    }
    other.fence(session.id(), "gone").await.unwrap();
    assert!(trial.store.arrive());
    let fold = other.fold().await.unwrap();
    assert!(fold.points.is_empty() && fold.sessions.is_empty());
}

#[tokio::test]
async fn race_4_a_parent_forgotten_during_the_run_does_not_matter() {
    let (trial, writer) = Trial::begin(4).await;
    let sweeper = trial.open("sweeper").await;
    let old = backup(&writer, "db", &vec![1, 2, 3, 4], None).await.unwrap();
    let session = writer.open_session("db").await.unwrap();
    let parent = point(&writer, old.point).await;
    // Only the change is looked at: the other references come with the parent's map.
    let (before, after) = (vec![1, 2, 3, 4], vec![1, 2, 3, 9]);
    let draft = capture_changes(&session, "db", &before, &after, &parent).await.unwrap();
    sweeper.forget(old.point, "retention").await.unwrap();
    sweeper.sweep(&ALL).await.unwrap();
    let new = session.publish(draft, true).await.unwrap();
    sweeper.sweep(&ALL).await.unwrap();
    assert_eq!(restore(&writer, new.point).await.unwrap(), [1, 2, 3, 9]);
    assert!(writer.check(true, &|_, _| ()).await.unwrap().is_whole());
}

#[tokio::test]
async fn race_5_a_writer_that_opens_after_the_plan_stores_the_same_content_again() {
    let (trial, writer) = Trial::begin(5).await;
    let sweeper = trial.open("sweeper").await;
    let old = backup(&writer, "db", &vec![1, 2], None).await.unwrap();
    writer.forget(old.point, "test").await.unwrap();
    let waiter = sweeper.open_session("waits").await.unwrap();
    sweeper.sweep(&ALL).await.unwrap();
    let new = backup(&writer, "db", &vec![1, 2], None).await.unwrap();
    waiter.close().await.unwrap();
    sweeper.sweep(&ALL).await.unwrap();
    assert_eq!(restore(&writer, new.point).await.unwrap(), [1, 2]);
    let fold = writer.fold().await.unwrap();
    assert_eq!(fold.packs.len(), 2, "one data and one map pack are left");
}

#[tokio::test]
async fn race_6_an_upload_that_lands_after_its_session_is_swept_by_the_next() {
    let (trial, writer) = Trial::begin(6).await;
    let session = writer.open_session("db").await.unwrap();
    trial.store.plan("PUT", "packs/", Fault::Late);
    let _ = capture(&session, "db", &vec![1, 2], None).await;
    writer.fence(session.id(), "gone").await.unwrap();
    writer.sweep(&ALL).await.unwrap();
    assert!(trial.store.arrive());
    assert!(!trial.store.names("packs/").is_empty());
    writer.sweep(&ALL).await.unwrap();
    assert!(trial.store.names("packs/").is_empty() && trial.store.names("maps/").is_empty());
}

#[tokio::test]
async fn race_7_orphans_of_crashed_writers_go_and_those_of_live_ones_are_revived() {
    let (trial, writer) = Trial::begin(7).await;
    let crashed = writer.open_session("crashed").await.unwrap();
    drop(capture(&crashed, "a", &vec![1, 2], None).await.unwrap());
    let live = writer.open_session("live").await.unwrap();
    let draft = capture(&live, "b", &vec![3, 4], None).await.unwrap();
    writer.fence(crashed.id(), "crashed").await.unwrap();
    let sweeper = trial.open("sweeper").await;
    assert_eq!(sweeper.sweep(&ALL).await.unwrap().waits_for, [live.id()].into());
    let published = live.publish(draft, true).await.unwrap();
    sweeper.sweep(&ALL).await.unwrap();
    assert_eq!(restore(&writer, published.point).await.unwrap(), [3, 4]);
    assert_eq!((trial.store.names("packs/").len(), trial.store.names("maps/").len()), (1, 1));
}

#[tokio::test]
async fn race_8_a_delete_that_lands_late_or_twice_hits_nothing_that_lives() {
    let (trial, writer) = Trial::begin(8).await;
    let old = backup(&writer, "db", &vec![1, 2], None).await.unwrap();
    writer.forget(old.point, "test").await.unwrap();
    trial.store.plan("DELETE", "packs/", Fault::Twice);
    trial.store.plan("DELETE", "maps/", Fault::Late);
    writer.sweep(&ALL).await.unwrap();
    let new = backup(&writer, "db", &vec![1, 2], None).await.unwrap();
    while trial.store.arrive() {}
    assert_eq!(restore(&writer, new.point).await.unwrap(), [1, 2]);
}

#[tokio::test]
async fn race_9_a_sweep_cut_short_is_finished_by_another() {
    for steps in 0..60 {
        let (trial, writer) = Trial::begin(9).await;
        let old = backup(&writer, "db", &vec![1, 2, 3, 4], None).await.unwrap();
        let parent = point(&writer, old.point).await;
        let kept = backup(&writer, "db", &vec![1, 9, 9, 9], Some(&parent)).await.unwrap();
        writer.forget(old.point, "test").await.unwrap();
        {
            let options = ALL;
            let sweep = writer.sweep(&options);
            tokio::pin!(sweep);
            for _ in 0..steps {
                if futures::poll!(&mut sweep).is_ready() {
                    break;
                }
            }
        }
        let other = trial.open("other").await;
        other.sweep(&ALL).await.unwrap();
        other.sweep(&ALL).await.unwrap();
        assert_eq!(restore(&writer, kept.point).await.unwrap(), [1, 9, 9, 9], "after {steps} steps");
        let fold = other.fold().await.unwrap();
        assert!(fold.plan.is_none());
        let objects = trial.store.names("packs/").len() + trial.store.names("maps/").len();
        assert_eq!(objects, fold.packs.len(), "exactly the needed objects are left after {steps} steps");
    }
}

#[tokio::test]
async fn races_10_and_11_only_one_rewrite_under_its_plan_counts() {
    let (trial, writer) = Trial::begin(10).await;
    let old = backup(&writer, "db", &vec![1, 2, 3, 4], None).await.unwrap();
    let parent = point(&writer, old.point).await;
    let kept = backup(&writer, "db", &vec![1, 9, 9, 9], Some(&parent)).await.unwrap();
    writer.forget(old.point, "test").await.unwrap();
    let waiter = writer.open_session("waits").await.unwrap();
    writer.sweep(&ALL).await.unwrap();
    let before = writer.fold().await.unwrap();
    let plan = before.plan.as_ref().unwrap();
    let pack = *plan.holes.keys().next().unwrap();
    let old_object = before.packs[&pack].place.object;
    let late = |suffix: u8| {
        let object = crate::layout::PackObject { pack, suffix: [suffix; 8] };
        Event::PackRewritten(PackRewritten { plan: plan.number, object, old: old_object, bytes: 1 })
    };
    assert!(
        matches!(before.permits(&late(1)), Err(RuleError::Waits(_))),
        "nobody rewrites while the plan waits"
    );
    waiter.close().await.unwrap();
    let (one, two) = (trial.open("one").await, trial.open("two").await);
    let (first, second) = futures::join!(one.sweep(&ALL), two.sweep(&ALL));
    assert!(first.unwrap().rewritten_packs + second.unwrap().rewritten_packs >= 1);
    let after = writer.fold().await.unwrap();
    assert_ne!(after.packs[&pack].place.object, old_object);
    assert_eq!(after.permits(&late(2)), Err(RuleError::NoSuchPlan(plan.number)), "its plan is done");
    assert_eq!(restore(&writer, kept.point).await.unwrap(), [1, 9, 9, 9]);
    assert_eq!(restore(&trial.open("new").await, kept.point).await.unwrap(), [1, 9, 9, 9]);
}

#[tokio::test]
async fn race_12_a_reference_to_an_entry_that_becomes_a_hole_revives_its_pack() {
    let (trial, writer) = Trial::begin(12).await;
    let old = backup(&writer, "db", &vec![1, 2, 3, 4], None).await.unwrap();
    let parent = point(&writer, old.point).await;
    backup(&writer, "db", &vec![1, 9, 9, 9], Some(&parent)).await.unwrap();
    writer.forget(old.point, "test").await.unwrap();
    let session = writer.open_session("other").await.unwrap();
    let draft = capture(&session, "other", &vec![3, 4], None).await.unwrap();
    let sweeper = trial.open("sweeper").await;
    sweeper.sweep(&ALL).await.unwrap();
    assert!(!sweeper.known_fold().plan.as_ref().unwrap().holes.is_empty());
    let new = session.publish(draft, true).await.unwrap();
    sweeper.sweep(&ALL).await.unwrap();
    assert_eq!(restore(&writer, new.point).await.unwrap(), [3, 4]);
    assert!(writer.check(true, &|_, _| ()).await.unwrap().is_whole());
}

#[tokio::test]
async fn race_13_forget_and_hold_are_decided_anew() {
    let (trial, one) = Trial::begin(13).await;
    let two = trial.open("two").await;
    let mut ids = Vec::new();
    for fill in 1..=4 {
        ids.push(backup(&one, "db", &vec![fill], None).await.unwrap().point);
    }
    one.hold(ids[0], "audit").await.unwrap();
    let refused = two.forget(ids[0], "test").await;
    assert!(
        matches!(refused, Err(JournalError::Refused { cause: RuleError::IsHeld { .. }, .. })),
        "{refused:?}"
    );
    // "Keep the last 2" by two agents at once leaves 2, not 1 or 0; the held one is left alone.
    let keep_two = |fold: &Fold| {
        let points = fold.points_of(&volume("db"));
        let mut ids: Vec<_> = points
            .iter()
            .filter(|point| point.held.is_empty())
            .map(|point| (point.number, point.id))
            .collect();
        ids.sort_unstable();
        ids.truncate(ids.len().saturating_sub(2));
        ids.into_iter().map(|(_, id)| id).collect()
    };
    let (a, b) = futures::join!(one.forget_by(keep_two, "keep 2"), two.forget_by(keep_two, "keep 2"));
    assert_eq!(a.unwrap().len() + b.unwrap().len(), 1);
    assert_eq!(one.fold().await.unwrap().points.len(), 3);
    two.release(ids[0], "audit").await.unwrap();
    one.forget(ids[0], "test").await.unwrap();
    let held = two.hold(ids[0], "too late").await;
    assert!(matches!(held, Err(JournalError::Refused { cause: RuleError::NotCurrent(_), .. })), "{held:?}");
}

#[tokio::test]
async fn race_14_a_removed_record_is_noticed_and_its_number_is_not_used_again() {
    let (trial, repository) = Trial::begin(14).await;
    for fill in 1..=4 {
        backup(&repository, "db", &vec![fill], None).await.unwrap();
    }
    trial.store.remove("journal/00000000000000000005").unwrap();
    let opened = trial.try_open(options("new", None)).await;
    let Err(OpenError::Journal(JournalError::Hole { missing: 5, .. })) = opened else { panic!("{opened:?}") };
    let audit = repository.audit(&|_, _| ()).await;
    assert!(matches!(audit, Err(JournalError::Hole { missing: 5, .. })), "{audit:?}");
}

#[tokio::test]
async fn race_15_an_index_that_names_a_swept_pack_is_not_believed() {
    let (trial, writer) = Trial::begin(15).await;
    let old = backup(&writer, "db", &vec![1, 2], None).await.unwrap();
    let other = trial.open("other").await;
    other.forget(old.point, "test").await.unwrap();
    other.sweep(&ALL).await.unwrap();
    // The writer's own index still names the pack.
    let new = backup(&writer, "db", &vec![1, 2], None).await.unwrap();
    assert_eq!(restore(&writer, new.point).await.unwrap(), [1, 2]);
}

#[tokio::test]
async fn race_16_an_older_bucket_in_the_place_of_the_known_one_is_noticed() {
    let (trial, first) = Trial::begin(16).await;
    let folder = tempfile::tempdir().unwrap();
    let state = Some(folder.path().to_owned());
    backup(&first, "db", &vec![1], None).await.unwrap();
    let image = trial.store.image();
    let agent = trial.try_open(options("agent", state.clone())).await.unwrap();
    backup(&agent, "db", &vec![2], None).await.unwrap();
    let seen = agent.high_water().0;
    drop(agent);
    trial.store.put_back(image);
    let opened = trial.try_open(options("agent", state.clone())).await;
    let Err(OpenError::Journal(JournalError::RolledBack { seen: told, .. })) = opened else {
        panic!("{opened:?}")
    };
    assert_eq!(told, seen);
    // Somebody goes on in the older bucket, past the number that was seen: still noticed.
    let stranger = trial.open("stranger").await;
    for fill in 3..9 {
        backup(&stranger, "db", &vec![fill], None).await.unwrap();
    }
    assert!(trial.try_open(options("agent", state.clone())).await.is_err());
    let accepting = crate::OpenOptions {
        accept_rollback: Some("restored from tape".into()),
        ..options("agent", state.clone())
    };
    trial.try_open(accepting).await.unwrap();
    trial.try_open(options("agent", state)).await.unwrap();
}

#[tokio::test]
async fn race_17_a_silent_upload_is_no_receipt() {
    let (trial, writer) = Trial::begin(17).await;
    let session = writer.open_session("db").await.unwrap();
    trial.store.plan("PUT", "packs/", Fault::Failed);
    // Whether the writer sends again or gives up: nothing is published that is not there.
    if let Ok(draft) = capture(&session, "db", &vec![1, 2], None).await {
        let published = session.publish(draft, true).await.unwrap();
        assert_eq!(restore(&writer, published.point).await.unwrap(), [1, 2]);
    }
    assert!(writer.check(true, &|_, _| ()).await.unwrap().is_whole());
}

#[tokio::test]
async fn a_lost_or_doubled_answer_publishes_once() {
    for fault in [Fault::LostAnswer, Fault::Twice, Fault::Failed, Fault::Late] {
        let (trial, repository) = Trial::begin(20).await;
        let session = repository.open_session("db").await.unwrap();
        let draft = capture(&session, "db", &vec![1, 2], None).await.unwrap();
        trial.store.plan("CREATE", "journal/", fault);
        session.publish(draft, true).await.unwrap();
        while trial.store.arrive() {}
        let fold = trial.open("new").await.fold().await.unwrap();
        assert_eq!(fold.points.len(), 1, "{fault:?}");
        assert!(fold.sessions.is_empty());
    }
}

#[tokio::test]
async fn a_run_after_a_kill_does_not_send_again_what_is_stored() {
    let (trial, _) = Trial::begin(21).await;
    let folder = tempfile::tempdir().unwrap();
    let state = Some(folder.path().to_owned());
    let content: Vec<u8> = (1..=200).collect();
    let agent = trial.try_open(options("agent", state.clone())).await.unwrap();
    let session = agent.open_session("db").await.unwrap();
    let id = session.id();
    drop(capture(&session, "db", &content, None).await.unwrap());
    session.keep();
    drop((session, agent));
    trial.store.pass(SignedDuration::from_hours(30));

    let agent = trial.try_open(options("agent", state)).await.unwrap();
    trial.store.take_log();
    let session = agent.open_session("db").await.unwrap();
    assert_eq!(session.id(), id, "the open session is taken up");
    assert!(agent.fence_stale().await.unwrap().is_empty(), "and is alive again");
    let draft = capture(&session, "db", &content, None).await.unwrap();
    let published = session.publish(draft, true).await.unwrap();
    let log = trial.store.take_log();
    assert!(!log.iter().any(|request| request.starts_with("PUT packs/")), "{log:#?}");
    assert_eq!(restore(&agent, published.point).await.unwrap(), content);
}

#[tokio::test]
async fn a_run_after_a_kill_and_a_fence_keeps_what_no_plan_named() {
    for swept in [false, true] {
        let (trial, other) = Trial::begin(22).await;
        let folder = tempfile::tempdir().unwrap();
        let state = Some(folder.path().to_owned());
        let agent = trial.try_open(options("agent", state.clone())).await.unwrap();
        let session = agent.open_session("db").await.unwrap();
        drop(capture(&session, "db", &vec![1, 2, 3], None).await.unwrap());
        session.keep();
        let id = session.id();
        drop((session, agent));
        other.fence(id, "killed").await.unwrap();
        if swept {
            // The plan is not executed, and the objects are still there: being named is enough.
            plan_only(&other).await;
        }
        let agent = trial.try_open(options("agent", state)).await.unwrap();
        trial.store.take_log();
        let point = backup(&agent, "db", &vec![1, 2, 3], None).await.unwrap();
        let sent_again = trial.store.take_log().iter().any(|request| request.starts_with("PUT packs/"));
        assert_eq!(sent_again, swept);
        assert_eq!(restore(&agent, point.point).await.unwrap(), [1, 2, 3]);
    }
}

#[tokio::test]
async fn a_writer_without_a_sign_of_life_for_a_day_is_fenced_and_others_are_not() {
    let (trial, repository) = Trial::begin(23).await;
    let silent = repository.open_session("silent").await.unwrap();
    trial.store.pass(SignedDuration::from_hours(23));
    let alive = repository.open_session("alive").await.unwrap();
    assert!(repository.fence_stale().await.unwrap().is_empty());
    trial.store.pass(SignedDuration::from_hours(2));
    assert_eq!(repository.fence_stale().await.unwrap(), [silent.id()]);
    let name = crate::layout::ObjectName::session(alive.id());
    trial.store.pass(SignedDuration::from_hours(30));
    trial.store.replace(name.as_str(), "alive");
    assert!(repository.fence_stale().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_long_restore_follows_a_rewritten_pack_and_is_told_of_a_forgotten_point() {
    let (trial, writer) = Trial::begin(24).await;
    let old = backup(&writer, "db", &vec![1, 2, 3, 4], None).await.unwrap();
    let parent = point(&writer, old.point).await;
    let kept = backup(&writer, "db", &vec![1, 9, 9, 9], Some(&parent)).await.unwrap();
    let reader = trial.open("reader").await;
    let kept_point = point(&reader, kept.point).await;
    let map = reader.map(&kept_point).await.unwrap();
    writer.forget(old.point, "test").await.unwrap();
    assert!(writer.sweep(&ALL).await.unwrap().rewritten_packs > 0);
    // The reader still knows the old object only.
    let first = map.get(0).await.unwrap().unwrap();
    let entries = reader.reader().of_point(kept.point).entries(first.pack, &[first.entry]).await.unwrap();
    assert_eq!(entries[0].plain.len(), CHUNK);

    let map = reader.map(&kept_point).await.unwrap();
    let at = map.get(1).await.unwrap().unwrap();
    writer.forget(kept.point, "test").await.unwrap();
    writer.sweep(&ALL).await.unwrap();
    let error = reader.reader().of_point(kept.point).entries(at.pack, &[at.entry]).await.unwrap_err();
    assert_eq!(strongroom_model::Failure::code(&error), "point.forgotten");
    assert!(error.to_string().contains("by journal record"), "{error}");
}

#[tokio::test]
async fn locked_objects_are_noted_as_skipped_and_swept_when_they_can_be() {
    let (trial, repository) = Trial::begin(25).await;
    let old = backup(&repository, "db", &vec![1, 2], None).await.unwrap();
    repository.forget(old.point, "test").await.unwrap();
    let name = trial.store.names("packs/")[0].clone();
    trial.store.lock_object(&name);
    let report = repository.sweep(&ALL).await.unwrap();
    assert_eq!((report.retained_objects, report.deleted_objects), (1, 1));
    assert!(repository.known_fold().packs.is_empty() && trial.store.object(&name).is_some());
    trial.store.unlock_objects();
    assert_eq!(repository.sweep(&ALL).await.unwrap().deleted_objects, 1);
    assert!(trial.store.object(&name).is_none());
}

#[tokio::test]
async fn a_plan_that_names_what_a_point_needs_is_refused() {
    let (_, repository) = Trial::begin(26).await;
    backup(&repository, "db", &vec![1], None).await.unwrap();
    let fold = repository.fold().await.unwrap();
    let objects = fold.packs.values().map(|state| Placed::from(state.place)).collect();
    let plan = SweepPlanned { objects, holes: [].into(), waits_for: [].into() };
    assert!(matches!(fold.permits(&Event::SweepPlanned(plan)), Err(RuleError::Needed(_))));
}

#[tokio::test]
async fn the_dry_run_says_what_the_sweep_then_does() {
    let (trial, repository) = Trial::begin(27).await;
    let old = backup(&repository, "db", &vec![1, 2, 3, 4], None).await.unwrap();
    let parent = point(&repository, old.point).await;
    backup(&repository, "db", &vec![1, 9, 9, 9], Some(&parent)).await.unwrap();
    repository.forget(old.point, "test").await.unwrap();
    trial.store.take_log();
    let plan = repository.plan_sweep(&ALL).await.unwrap();
    assert!(
        trial
            .store
            .take_log()
            .iter()
            .all(|request| request.starts_with("GET") || request.starts_with("LIST"))
    );
    let report = repository.sweep(&ALL).await.unwrap();
    assert_eq!(report.rewritten_packs, plan.rewrite.len() as u64);
    assert_eq!(report.deleted_objects, (plan.delete.len() + plan.rewrite.len()) as u64);
    assert!(report.freed_bytes > 0);
}
