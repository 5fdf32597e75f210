//! The rules of the records about logs, broken; and their stored forms.

use std::collections::BTreeMap;

use jiff::Timestamp;
use strongroom_model::LogId;

use super::{from_bytes, record, say, start, to_bytes, try_say};
use crate::entry_runs::EntryRuns;
use crate::fold::{Fold, RuleError};
use crate::layout::{PackKind, PackObject};
use crate::record::{
    BaseOfDatabase, BundleNote, DatabaseTested, Event, LogArchived, LogOpened, LogTrimmed, Placed, Record,
    SweepPlanned,
};

const LOG: LogId = LogId::from_bytes([9; 16]);

fn note(from: u64, to: u64) -> BundleNote {
    BundleNote {
        bytes: 100,
        from,
        to,
        complete_until: Timestamp::UNIX_EPOCH,
        last_record: None,
        commits: None,
        named_points: 0,
        whole_to: to,
    }
}

fn opened() -> Event {
    Event::LogOpened(Box::new(LogOpened {
        log: LOG,
        database: "db".into(),
        volume: None,
        engine: "postgresql".into(),
        identity: "1".into(),
        lineage: 1,
        start: 100,
        parent: None,
        fork: None,
        history: None,
        began_at: Timestamp::UNIX_EPOCH,
        facts: BTreeMap::new(),
    }))
}

fn archived(first: u32, bundles: Vec<BundleNote>) -> Event {
    Event::LogArchived(LogArchived { log: LOG, first, bundles, heard: None })
}

fn trimmed(start: u32, count: u32) -> Event {
    Event::LogTrimmed(LogTrimmed { log: LOG, bundles: EntryRuns::run(start, count), reason: "policy".into() })
}

fn tell(fold: &mut Fold, event: Event) -> Result<(), RuleError> {
    let record = record(fold, event.clone());
    assert_eq!(from_bytes::<Record>(&to_bytes(&record)), Ok(record));
    try_say(fold, event)
}

#[test]
fn bundles_follow_one_another_and_a_checkpoint_holds_them() {
    let mut fold = Fold::default();
    assert_eq!(tell(&mut fold, archived(1, vec![note(100, 200)])), Err(RuleError::NoSuchLog(LOG)));
    tell(&mut fold, opened()).unwrap();
    assert_eq!(tell(&mut fold, opened()), Err(RuleError::LogTwice(LOG)));
    tell(&mut fold, archived(1, vec![note(100, 200), note(200, 300)])).unwrap();
    let gap = archived(3, vec![note(301, 400)]);
    let wrong_number = archived(2, vec![note(300, 400)]);
    let empty = archived(3, vec![note(300, 300)]);
    for wrong in [gap, wrong_number, empty] {
        assert!(matches!(tell(&mut fold, wrong), Err(RuleError::BundleOrder { .. })));
    }
    tell(&mut fold, archived(3, vec![note(300, 400)])).unwrap();
    tell(&mut fold, trimmed(1, 1)).unwrap();
    let state = &fold.logs[&LOG];
    assert_eq!((state.next, state.end, state.kept().count()), (4, 400, 2));
    let again: Fold = from_bytes(&to_bytes(&fold)).unwrap();
    assert_eq!(again, fold);
}

#[test]
fn no_bundle_is_trimmed_that_a_point_needs_nor_swept_that_nobody_trimmed() {
    let mut fold = start();
    tell(&mut fold, opened()).unwrap();
    tell(&mut fold, archived(1, vec![note(100, 200), note(200, 300), note(300, 400)])).unwrap();
    let point = fold.points.values_mut().next().unwrap();
    let ready_at = Timestamp::UNIX_EPOCH;
    point.info.database = Some(BaseOfDatabase { log: LOG, start: 250, end: 300, ready_at });
    let point = point.id;
    assert_eq!(tell(&mut fold, trimmed(2, 1)), Err(RuleError::BundleNeeded { log: LOG, number: 2, point }));
    let placed = |number| Placed { kind: PackKind::Log, object: PackObject::bundle(LOG, number) };
    let plan = |fold: &Fold, number| {
        Event::SweepPlanned(SweepPlanned {
            objects: [placed(number)].into(),
            holes: BTreeMap::new(),
            waits_for: fold.sessions.keys().copied().collect(),
        })
    };
    let event = plan(&fold, 3);
    assert_eq!(tell(&mut fold, event), Err(RuleError::NotTrimmed { log: LOG, number: 3 }));
    tell(&mut fold, trimmed(3, 1)).unwrap();
    let event = plan(&fold, 3);
    say(&mut fold, event);
}

fn tested(passed: bool, rto_ms: u64) -> DatabaseTested {
    DatabaseTested {
        log: LOG,
        point: None,
        wanted_at: Some(Timestamp::UNIX_EPOCH),
        cut: Some(300),
        last_kept_at: None,
        passed,
        rto_ms: Some(rto_ms),
        steps: [("base".to_owned(), 40)].into(),
        checks: vec!["it holds: select true".to_owned()],
        failure: (!passed).then(|| crate::record::TestFailure { code: "a.b".into(), message: "c".into() }),
    }
}

#[test]
fn the_newest_passed_and_the_newest_failed_test_of_a_log_are_remembered_also_in_a_checkpoint() {
    let mut fold = Fold::default();
    let event = |tested| Event::DatabaseTested(Box::new(tested));
    assert_eq!(tell(&mut fold, event(tested(true, 1))), Err(RuleError::NoSuchLog(LOG)));
    tell(&mut fold, opened()).unwrap();
    let untested = to_bytes(&fold);
    for (passed, took) in [(true, 1), (false, 2), (true, 3), (false, 4), (true, 5)] {
        tell(&mut fold, event(tested(passed, took))).unwrap();
    }
    let state = &fold.logs[&LOG];
    let of = |note: &Option<Box<crate::fold::TestNote>>| {
        note.as_ref().map(|note| (note.number, note.tested.rto_ms, note.tested.passed))
    };
    assert_eq!(of(&state.proved), Some((6, Some(5), true)));
    assert_eq!(of(&state.failed), Some((5, Some(4), false)));
    assert_eq!(from_bytes::<Fold>(&to_bytes(&fold)).unwrap(), fold);
    let again: Fold = from_bytes(&untested).unwrap();
    assert_eq!(to_bytes(&again), untested, "without tests a checkpoint is as it was before there were any");

    let mut long = tested(true, 6);
    long.checks = vec![String::new(); 65];
    assert!(matches!(tell(&mut fold, event(long)), Err(RuleError::TooLong { .. })));
    let mut long = tested(true, 6);
    long.checks = vec!["x".repeat(4097)];
    assert!(matches!(tell(&mut fold, event(long)), Err(RuleError::TooLong { .. })));
}
