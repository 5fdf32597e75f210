//! The traps that others met, one by one: each gave somebody a wrong database, or none.

use jiff::Timestamp;
use strongroom_database::{
    LineageId, Plan, PlanError, Position, Rates, Refusal, Side, Stop, Target, TransactionId, Wanted, newest,
    plan, rpo, windows,
};
use strongroom_model::Failure;

use crate::history::{Event, World, live, number};

fn commit() -> Event {
    Event::Commit { bytes: 34, early_ms: 0 }
}

fn idle(seconds: i64) -> Event {
    Event::Idle { ms: seconds * 1000 }
}

fn base() -> Event {
    Event::Base { behind: 0, late_ms: 0 }
}

fn other() -> Event {
    Event::Other { bytes: 20 }
}

fn bundle() -> Event {
    Event::Bundle { inside: 0, lost: false, overlap: 0 }
}

fn lost() -> Event {
    Event::Bundle { inside: 0, lost: true, overlap: 0 }
}

fn at(text: &str) -> Timestamp {
    format!("2026-11-21T{text}Z").parse().unwrap()
}

fn planned(world: &World, wanted: Wanted) -> Result<Plan, Refusal> {
    plan(&world.catalogue, world, &wanted, &Rates::default()).map_err(|error| match error {
        PlanError::Refused(refusal) => *refusal,
        PlanError::Index(never) => match never {},
    })
}

fn restored(world: &World, time: &str) -> Result<Vec<u64>, Refusal> {
    planned(world, Wanted::new(Target::Time(at(time)))).map(|plan| world.execute(&plan))
}

#[test]
fn a_time_before_the_base_on_a_quiet_database_goes_to_the_base_before() {
    let world =
        live(&[base(), commit(), idle(60), commit(), idle(60), base(), idle(600), commit(), Event::Hear]);
    // PostgreSQL itself gives both commits from the second base, and no error.
    let plan = planned(&world, Wanted::new(Target::Time(at("12:00:30")))).unwrap();
    assert_eq!(world.execute(&plan), [1]);
    assert_eq!(plan.base.end, world.catalogue.bases[0].end);
    assert_eq!((plan.dropped_commits, plan.first_dropped.unwrap().at), (2, at("12:01:00.000001")));
}

#[test]
fn a_time_before_the_only_base_is_refused_with_the_first_moment_that_there_is() {
    let world = live(&[
        commit(),
        idle(60),
        commit(),
        lost(),
        other(),
        idle(60),
        base(),
        idle(600),
        commit(),
        Event::Hear,
    ]);
    let refusal = restored(&world, "12:00:30").unwrap_err();
    assert_eq!(refusal.code(), "database.before-window");
    assert_eq!(
        refusal.advice(),
        "The oldest that can be restored is 2026-11-21T12:02:00.000003Z (position 0/440 of lineage 1)."
    );
    // Quiet between the base and the next commit: every second of it is the base.
    assert_eq!(restored(&world, "12:02:01").unwrap(), [1, 2]);
    assert_eq!(restored(&world, "12:11:59").unwrap(), [1, 2]);
}

#[test]
fn a_time_after_the_last_commit_of_an_idle_database_is_the_end_of_its_log() {
    let world = live(&[base(), commit(), Event::Other { bytes: 50 }, bundle(), idle(86_400), Event::Hear]);
    let plan = planned(&world, Wanted::new(Target::Time(at("23:59:59")))).unwrap();
    assert_eq!(world.execute(&plan), [1]);
    // The engine is told a record that exists, and no time: of a time it says that it was never reached.
    assert_eq!((plan.stop, plan.first_dropped), (Stop::After(Position::new(1034)), None));
}

#[test]
fn a_database_without_any_commit_since_its_base_is_that_base() {
    let world = live(&[commit(), base(), bundle(), idle(3600), Event::Hear]);
    let plan = planned(&world, Wanted::new(Target::Time(at("12:30:00")))).unwrap();
    assert_eq!((world.execute(&plan), plan.stop, plan.replay_bytes), (vec![1], Stop::Consistent, 34));
}

#[test]
fn a_log_in_which_nothing_was_written_yet_is_its_base_for_as_long_as_it_was_heard_to_be_empty() {
    let fresh = live(&[base(), idle(3600), Event::Hear]);
    let plan = planned(&fresh, Wanted::new(Target::Time(at("12:30:00")))).unwrap();
    assert_eq!((fresh.execute(&plan), plan.log.len(), plan.stop), (vec![], 0, Stop::Consistent));
    assert_eq!(newest(&fresh.catalogue).unwrap().at, at("13:00:00"));
    // Nobody said that nothing was written since.
    assert_eq!(restored(&fresh, "13:00:01").unwrap_err().code(), "database.not-archived");

    let after_gap = [base(), commit(), bundle(), Event::Hear, idle(60), commit(), lost(), base()];
    let mut world = live(&[&after_gap[..], &[idle(60), Event::Hear]].concat());
    // One that needs nothing of the log before it.
    world.catalogue.bases[1].start = world.catalogue.bases[1].end;
    assert_eq!(restored(&world, "12:01:30").unwrap(), [1, 2]);
    assert_eq!(
        planned(&world, Wanted::new(Target::Latest)).map(|plan| world.execute(&plan)).unwrap(),
        [1, 2]
    );
    let windows = windows(&world.catalogue, LineageId(1));
    assert_eq!((windows.len(), windows[1].gap_before.unwrap().from), (2, Position::new(1034)));
    assert_eq!(restored(&world, "12:00:30").unwrap_err().code(), "database.in-gap");
    // Before something was heard that is later than the base it could be held against nothing.
    world.catalogue.heard.pop();
    assert_eq!(restored(&world, "12:01:30").unwrap_err().code(), "database.not-archived");
}

#[test]
fn a_time_of_which_nothing_was_heard_yet_is_refused_even_if_it_has_passed() {
    let world = live(&[base(), commit(), bundle(), Event::Hear, idle(60), commit(), lost(), idle(600)]);
    let refusal = restored(&world, "12:00:30").unwrap_err();
    assert_eq!(refusal.code(), "database.not-archived");
    assert_eq!(planned(&world, Wanted::new(Target::Latest)).map(|plan| world.execute(&plan)).unwrap(), [1]);
    let lag = rpo(&world.catalogue, world.clock).unwrap();
    assert_eq!((newest(&world.catalogue).unwrap().at, lag.as_secs()), (at("12:00:00.000001"), 660));
}

#[test]
fn a_time_inside_a_gap_names_the_last_moment_before_and_the_first_behind() {
    let world = live(&[
        base(),
        commit(),
        bundle(),
        Event::Hear,
        idle(60),
        commit(),
        lost(),
        other(),
        idle(60),
        base(),
        idle(60),
        commit(),
        bundle(),
        Event::Hear,
    ]);
    let refusal = restored(&world, "12:01:30").unwrap_err();
    let Refusal::InGap { gap, nearest } = &refusal else { panic!("{refusal:?}") };
    assert_eq!((gap.from, gap.to), (Position::new(1034), Position::new(1068)));
    assert_eq!(nearest.before.unwrap().at, at("12:00:00.000001"));
    assert_eq!(nearest.after.unwrap().at, at("12:02:00.000003"));
    assert_eq!(restored(&world, "12:02:30").unwrap(), [1, 2], "behind the gap the new base serves");
    assert_eq!(restored(&world, "12:03:00.000003").unwrap(), [1, 2, 3]);
}

#[test]
fn a_base_whose_log_has_a_gap_before_it_is_consistent_is_no_base() {
    let world = live(&[
        base(),
        commit(),
        bundle(),
        commit(),
        lost(),
        commit(),
        Event::Base { behind: 1, late_ms: 0 },
        commit(),
        bundle(),
        Event::Hear,
    ]);
    let refusal = restored(&world, "12:00:00.000004").unwrap_err();
    assert!(matches!(refusal, Refusal::NotArchived { .. } | Refusal::InGap { .. }), "{refusal:?}");
}

/// Restored to one o'clock, and promoted two minutes later: between the two the old history goes on.
fn restored_once() -> World {
    let mut events =
        vec![base(), commit(), idle(1800), commit(), idle(1800), commit(), idle(40), Event::Hear, bundle()];
    events.extend([Event::Promote { back: 1 }, commit(), idle(1800), commit(), Event::Hear]);
    live(&events)
}

#[test]
fn a_time_between_two_histories_is_that_of_the_one_that_lived_then() {
    let world = restored_once();
    assert_eq!(restored(&world, "12:15:00").unwrap(), [1]);
    assert_eq!(restored(&world, "13:00:30").unwrap(), [1, 2, 3], "what was undone later was there then");
    assert_eq!(restored(&world, "13:02:00").unwrap(), [1, 2, 4], "the promoted one");
    let old = Wanted::new(Target::Time(at("12:45:00"))).in_lineage(LineageId(2));
    assert_eq!(planned(&world, old).map(|plan| world.execute(&plan)).unwrap(), [1, 2]);
    let never = Wanted::new(Target::Latest).in_lineage(LineageId(7));
    assert_eq!(planned(&world, never).unwrap_err().code(), "database.unknown-lineage");
}

#[test]
fn a_position_that_two_histories_have_is_refused_until_one_is_named() {
    let world = restored_once();
    let behind = Position::new(1000 + 34 + 34 + 20);
    assert_eq!(
        planned(&world, Wanted::new(Target::Position(behind))).unwrap_err().code(),
        "database.several-lineages"
    );
    let before = Wanted::new(Target::Position(Position::new(1034)));
    assert_eq!(planned(&world, before).map(|plan| world.execute(&plan)).unwrap(), [1]);
}

#[test]
fn two_histories_written_at_the_same_time_are_told_apart_by_a_person() {
    let mut world = restored_once();
    // The copy was promoted while the old server went on: it has commits after the promotion.
    let old = world.catalogue.lineages.get(LineageId(1)).copied().unwrap();
    let new = world.catalogue.lineages.get(LineageId(2)).copied().unwrap();
    world.catalogue.lineages = strongroom_database::LineageTree::default();
    world.catalogue.lineages.add(old).unwrap();
    let early = strongroom_database::Lineage { began_at: at("12:40:00"), ..new };
    world.catalogue.lineages.add(early).unwrap();
    let refusal = restored(&world, "12:50:00").unwrap_err();
    assert_eq!(refusal, Refusal::SeveralLineages { lineages: vec![LineageId(1), LineageId(2)] });
}

#[test]
fn two_restores_in_a_row_leave_three_histories_that_can_all_be_restored() {
    let mut events = vec![base(), commit(), idle(600), commit(), Event::Hear];
    events.extend([Event::Promote { back: 0 }, commit(), idle(600), commit(), Event::Hear]);
    events.extend([Event::Promote { back: 0 }, commit(), idle(600), commit(), Event::Hear]);
    let world = live(&events);
    let all = |lineage| {
        planned(&world, Wanted::new(Target::Latest).in_lineage(LineageId(lineage)))
            .map(|plan| world.execute(&plan))
    };
    assert_eq!((all(1), all(2), all(3)), (Ok(vec![1, 2]), Ok(vec![1, 2, 3, 4]), Ok(vec![1, 2, 3, 4, 5, 6])));
}

#[test]
fn a_clock_that_was_set_back_over_the_time_is_told_with_both_places() {
    let world = live(&[
        base(),
        commit(),
        idle(1800),
        commit(),
        idle(1800),
        commit(),
        Event::Step { seconds: -3600 },
        commit(),
        idle(2400),
        commit(),
        Event::Hear,
    ]);
    let refusal = restored(&world, "12:15:00").unwrap_err();
    let Refusal::TimeIsAmbiguous { candidates } = &refusal else { panic!("{refusal:?}") };
    let states: Vec<_> = candidates
        .iter()
        .map(|candidate| {
            let plan = planned(&world, Wanted::new(Target::Position(candidate.position))).unwrap();
            world.execute(&plan)
        })
        .collect();
    assert_eq!(states, [vec![1], vec![1, 2, 3, 4]]);
    assert_eq!(restored(&world, "12:40:01").unwrap(), [1, 2], "the clock came by here only once");
}

#[test]
fn sessions_that_overtake_each_other_are_no_clock_that_was_set() {
    let world = live(&[
        base(),
        idle(60),
        commit(),
        Event::Commit { bytes: 34, early_ms: 900 },
        idle(60),
        commit(),
        Event::Hear,
    ]);
    let plan = planned(&world, Wanted::new(Target::Time(at("12:00:59.5")))).unwrap();
    assert_eq!((world.execute(&plan), plan.stragglers), (vec![], 1));
}

#[test]
fn before_and_after_a_transaction_is_exact_and_an_unknown_one_is_said_to_be() {
    let world = live(&[base(), commit(), commit(), commit(), Event::Hear]);
    let side =
        |side| planned(&world, Wanted::new(Target::Transaction(TransactionId::Number(2), side))).unwrap();
    assert_eq!(world.execute(&side(Side::Before)), [1]);
    assert_eq!(world.execute(&side(Side::After)), [1, 2]);
    assert_eq!(number(side(Side::Before).first_dropped.unwrap().transaction), 2);
    let unknown = planned(&world, Wanted::new(Target::Transaction(TransactionId::Number(9), Side::Before)));
    assert_eq!(unknown.unwrap_err().code(), "database.unknown-transaction");
}

#[test]
fn a_name_that_was_given_twice_is_refused_with_both_places() {
    let name = |name| Event::Name { name };
    let world = live(&[base(), commit(), name(1), commit(), name(2), commit(), name(1), Event::Hear]);
    let named = |name: &str| planned(&world, Wanted::new(Target::Named(name.into())));
    assert_eq!(world.execute(&named("p2").unwrap()), [1, 2]);
    let Refusal::NameIsAmbiguous { candidates, .. } = named("p1").unwrap_err() else {
        panic!("p1 is there twice")
    };
    assert_eq!(candidates.len(), 2);
    assert_eq!(
        named("p3").unwrap_err(),
        Refusal::UnknownName { name: "p3".into(), known: vec!["p2".into(), "p1".into()] }
    );
}

#[test]
fn a_base_in_the_pool_is_taken_before_one_that_has_to_be_fetched() {
    let mut world = live(&[base(), commit(), idle(60), commit(), Event::Hear]);
    world.catalogue.bases[0].bytes = 1 << 40;
    let local = strongroom_model::SnapshotId::from_bytes([9; 16]);
    let base = strongroom_database::Base {
        stands_on: strongroom_database::StandsOn::Snapshot(local),
        lineage: LineageId(1),
        start: Position::new(1000),
        end: Position::new(1000),
        ready_at: at("12:00:00"),
        bytes: 0,
    };
    world.catalogue.bases.push(base.clone());
    let plan = planned(&world, Wanted::new(Target::Latest)).unwrap();
    assert_eq!((plan.base, plan.estimated.as_secs()), (base, 10));
}
