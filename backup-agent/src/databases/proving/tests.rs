//! When a restore test is due, and of what.

use strongroom_database::{Position, RestorablePoint};

use super::*;

fn at(hour: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + hour * 3600).unwrap()
}

fn window(from: i64, to: i64) -> Window {
    let point = |hour| RestorablePoint { lineage: LineageId(1), position: Position::new(1), at: at(hour) };
    Window { earliest: point(from), latest: point(to), bases: 1, gap_before: None }
}

fn evidence(last: Option<Last>) -> Evidence {
    Evidence { last, newest_base: Some(10), windows: vec![window(-48, 0)] }
}

fn tested(hours_ago: i64, passed: bool, wanted_at: Option<i64>) -> Option<Last> {
    Some(Last { number: 20, at: at(-hours_ago), passed, wanted_at: wanted_at.map(at) })
}

fn due_now(evidence: &Evidence) -> Option<Aim> {
    due(evidence, &RestoreTestConfig::default(), at(0))
}

#[test]
fn a_database_that_was_never_tested_is_tested_as_soon_as_it_can_be_restored() {
    assert_eq!(due_now(&Evidence { windows: Vec::new(), ..evidence(None) }), None);
    assert_eq!(due_now(&evidence(None)), Some(Aim::NewestBase));
}

#[test]
fn a_random_second_is_tested_once_a_day() {
    assert_eq!(due_now(&evidence(tested(23, true, Some(-30)))), None);
    assert_eq!(due_now(&evidence(tested(24, true, Some(-30)))), Some(Aim::Window));
    assert_eq!(
        due_now(&evidence(tested(-5, true, Some(-30)))),
        Some(Aim::Window),
        "by a clock that was wrong"
    );
}

#[test]
fn a_new_base_is_tested_but_not_more_often_than_told() {
    let newer = |hours| Evidence { newest_base: Some(21), ..evidence(tested(hours, true, Some(-30))) };
    assert_eq!(due_now(&newer(5)), None);
    assert_eq!(due_now(&newer(6)), Some(Aim::NewestBase));
    let rules = RestoreTestConfig { after_base: false, ..RestoreTestConfig::default() };
    assert_eq!(due(&newer(6), &rules, at(0)), None);
    assert_eq!(due(&newer(24), &rules, at(0)), Some(Aim::Window));
}

#[test]
fn what_failed_is_tested_again_and_nothing_in_its_place() {
    assert_eq!(due_now(&evidence(tested(5, false, Some(-30)))), None);
    assert_eq!(due_now(&evidence(tested(6, false, Some(-30)))), Some(Aim::At(at(-30))));
    assert_eq!(due_now(&evidence(tested(6, false, None))), Some(Aim::Latest));
    assert_eq!(due_now(&evidence(tested(6, false, Some(-50)))), Some(Aim::Window), "it is out of the window");
}

#[test]
fn two_rounds_without_a_proof_are_a_problem() {
    assert_eq!(stale_after(&RestoreTestConfig::default()), SignedDuration::from_hours(54));
}
