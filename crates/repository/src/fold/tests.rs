//! Every rule of the protocol's table, broken; and the stored forms of records and fold.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use proptest::prelude::*;
use strongroom_model::{PackId, RecoveryPointId, RunId, SnapshotId, VolumeId};

use super::{Fold, MAX_TEXT, RuleError};
use crate::cbor::{CborError, from_bytes, to_bytes};
use crate::entry_runs::EntryRuns;
use crate::layout::{PackKind, PackObject};
use crate::map::MapRoot;
use crate::pack::EntryRef;
use crate::point::{PointInfo, Source};
use crate::record::{
    Closed, Event, Fenced, Forgotten, GENESIS, Hold, KeyAdded, KeyRemoved, NewPack, Opened, PackRewritten,
    Placed, Published, Record, RestoreTested, Restored, RollbackAccepted, SweepDone, SweepPlanned,
};

mod logs;
mod verified;

fn pack(id: u8) -> PackId {
    PackId::from_bytes([id; 16])
}

fn point(id: u8) -> RecoveryPointId {
    RecoveryPointId::from_bytes([id; 16])
}

fn placed(kind: PackKind, id: u8) -> Placed {
    Placed { kind, object: PackObject { pack: pack(id), suffix: [id; 8] } }
}

fn new(id: u8) -> NewPack {
    NewPack { place: placed(PackKind::Data, id), bytes: 1000 + u64::from(id), entries: 10 }
}

fn info() -> PointInfo {
    PointInfo {
        taken_at: Timestamp::UNIX_EPOCH,
        published_at: Timestamp::UNIX_EPOCH,
        volume_bytes: 1 << 30,
        source: Source::Image { path: "/dev/vdb".into() },
        fs: Some("ext4".into()),
        labels: BTreeMap::from([("app".into(), "db".into())]),
        agent: "agent".into(),
        scanned_bytes: 5,
        changed_bytes: 4,
        new_bytes: 3,
        sent_bytes: 2,
        duration_ms: 1,
        requests: 9,
        database: None,
    }
}

fn record(fold: &Fold, event: Event) -> Record {
    Record {
        number: fold.number + 1,
        previous: fold.hash,
        checkpoint: 0,
        author: "agent".into(),
        time: Timestamp::UNIX_EPOCH,
        single_writer: false,
        event,
    }
}

fn try_say(fold: &mut Fold, event: Event) -> Result<(), RuleError> {
    let before = fold.clone();
    let record = record(fold, event);
    let hash = *blake3::hash(&to_bytes(&record)).as_bytes();
    let answer = fold.apply(&record, hash);
    if answer.is_err() {
        assert_eq!(*fold, before, "a refused record changes nothing");
    }
    answer
}

fn say(fold: &mut Fold, event: Event) -> u64 {
    try_say(fold, event).unwrap();
    fold.number
}

fn opened() -> Event {
    Event::Opened(Opened { agent: "agent".into(), purpose: "backup".into() })
}

fn published(session: u64, id: u8, packs: &[u8]) -> Published {
    Published {
        session,
        point: point(id),
        volume: "db".parse().unwrap(),
        parent: None,
        map: MapRoot { at: EntryRef { pack: pack(packs.first().copied().unwrap_or(1)), entry: 3 } },
        packs: packs.iter().copied().map(new).collect(),
        revives: BTreeSet::new(),
        last: false,
        info: info(),
    }
}

fn publish(published: Published) -> Event {
    Event::Published(Box::new(published))
}

fn planned(objects: &[u8], holes: &[(u8, EntryRuns)], waits_for: &[u64]) -> Event {
    Event::SweepPlanned(SweepPlanned {
        objects: objects.iter().map(|id| placed(PackKind::Data, *id)).collect(),
        holes: holes.iter().map(|(id, holes)| (pack(*id), holes.clone())).collect(),
        waits_for: waits_for.iter().copied().collect(),
    })
}

/// Session 1 open; point 1 in pack 1; pack 2 in the table and needed by no root.
fn start() -> Fold {
    let mut fold = Fold::default();
    let session = say(&mut fold, opened());
    say(&mut fold, publish(published(session, 1, &[1, 2])));
    fold
}

#[test]
fn a_record_must_have_the_next_number_and_follow_the_one_before() {
    let mut fold = start();
    let good = record(&fold, opened());
    let late = Record { number: 9, ..good.clone() };
    assert_eq!(fold.apply(&late, [1; 32]), Err(RuleError::Number { expected: 3, found: 9 }));
    let other = Record { previous: GENESIS, ..good.clone() };
    assert_eq!(fold.apply(&other, [1; 32]), Err(RuleError::Chain));
    assert_eq!(fold.apply(&good, [1; 32]), Ok(()));
}

#[test]
fn only_an_open_session_ends_and_only_once() {
    let mut fold = start();
    let (closed, fenced) =
        (Event::Closed(Closed { session: 1 }), Event::Fenced(Fenced { session: 1, reason: "test".into() }));
    assert_eq!(try_say(&mut fold, Event::Closed(Closed { session: 2 })), Err(RuleError::NotOpen(2)));
    say(&mut fold, closed.clone());
    assert_eq!(try_say(&mut fold, closed), Err(RuleError::NotOpen(1)));
    assert_eq!(try_say(&mut fold, fenced), Err(RuleError::NotOpen(1)));
}

#[test]
fn an_ended_session_does_not_publish() {
    let mut fold = start();
    say(&mut fold, Event::Fenced(Fenced { session: 1, reason: "test".into() }));
    assert_eq!(try_say(&mut fold, publish(published(1, 2, &[3]))), Err(RuleError::NotOpen(1)));
    let mut fold = start();
    say(&mut fold, publish(Published { last: true, ..published(1, 2, &[3]) }));
    assert_eq!(try_say(&mut fold, publish(published(1, 3, &[4]))), Err(RuleError::NotOpen(1)));
}

#[test]
fn a_point_is_published_once_and_its_packs_are_new() {
    let mut fold = start();
    assert_eq!(try_say(&mut fold, publish(published(1, 1, &[3]))), Err(RuleError::PublishedTwice(point(1))));
    assert_eq!(try_say(&mut fold, publish(published(1, 2, &[1]))), Err(RuleError::NotNew(pack(1))));
    assert_eq!(try_say(&mut fold, publish(published(1, 2, &[3, 3]))), Err(RuleError::NotNew(pack(3))));
}

#[test]
fn a_map_root_must_exist() {
    let mut fold = start();
    let at = EntryRef { pack: pack(9), entry: 0 };
    let nowhere = Published { map: MapRoot { at }, ..published(1, 2, &[3]) };
    assert_eq!(try_say(&mut fold, publish(nowhere)), Err(RuleError::NotAlive(at)));
}

#[test]
fn what_dies_and_is_needed_must_be_revived_by_who_is_waited_for() {
    let mut fold = start();
    say(&mut fold, Event::Forgotten(Forgotten { point: point(1), reason: "test".into() }));
    say(&mut fold, planned(&[1, 7], &[(2, EntryRuns::run(0, 4))], &[1]));
    // The root of the forgotten point, taken up again.
    let again = published(1, 2, &[]);
    assert_eq!(try_say(&mut fold, publish(again.clone())), Err(RuleError::NotRevived(pack(1))));
    // The session's own upload, which the plan took for an orphan.
    assert_eq!(try_say(&mut fold, publish(published(1, 2, &[7]))), Err(RuleError::NotRevived(pack(7))));
    // What no plan names.
    let revives = |packs: &[u8]| packs.iter().copied().map(pack).collect::<BTreeSet<_>>();
    let wrong = Published { revives: revives(&[5]), ..published(1, 2, &[5]) };
    assert_eq!(try_say(&mut fold, publish(wrong)), Err(RuleError::NothingToRevive(pack(5))));
    // A session that the plan does not wait for.
    let late = say(&mut fold, opened());
    let stranger = Published { session: late, revives: revives(&[1]), ..again.clone() };
    assert_eq!(try_say(&mut fold, publish(stranger)), Err(RuleError::MayNotRevive(late)));
    say(&mut fold, publish(Published { revives: revives(&[1, 2]), ..again }));
    assert_eq!(fold.plan.as_ref().unwrap().revived, revives(&[1, 2]));
    assert!(fold.to_rewrite().is_empty());
    assert_eq!(fold.deletable(), BTreeSet::from([placed(PackKind::Data, 7)]));
}

#[test]
fn only_a_current_point_that_is_not_held_is_forgotten() {
    let mut fold = start();
    let forget = |id| Event::Forgotten(Forgotten { point: point(id), reason: "test".into() });
    let hold = Hold { point: point(1), hold: "audit".into() };
    assert_eq!(try_say(&mut fold, forget(2)), Err(RuleError::NotCurrent(point(2))));
    assert!(matches!(try_say(&mut fold, Event::Released(hold.clone())), Err(RuleError::NoSuchHold { .. })));
    say(&mut fold, Event::Held(hold.clone()));
    assert!(matches!(try_say(&mut fold, forget(1)), Err(RuleError::IsHeld { .. })));
    say(&mut fold, Event::Released(hold.clone()));
    say(&mut fold, forget(1));
    assert_eq!(try_say(&mut fold, Event::Held(hold)), Err(RuleError::NotCurrent(point(1))));
}

#[test]
fn a_plan_is_one_waits_for_exactly_the_open_and_names_nothing_needed() {
    let mut fold = start();
    assert_eq!(try_say(&mut fold, planned(&[], &[], &[1])), Err(RuleError::PlanSize(0)));
    assert_eq!(try_say(&mut fold, planned(&[9], &[], &[])), Err(RuleError::WaitsForOthers));
    assert_eq!(try_say(&mut fold, planned(&[9], &[], &[1, 2])), Err(RuleError::WaitsForOthers));
    assert_eq!(try_say(&mut fold, planned(&[1], &[], &[1])), Err(RuleError::Needed(pack(1))));
    let root = EntryRuns::run(3, 1);
    assert_eq!(try_say(&mut fold, planned(&[], &[(1, root)], &[1])), Err(RuleError::Needed(pack(1))));
    let holes = EntryRuns::run(0, 2);
    assert_eq!(
        try_say(&mut fold, planned(&[], &[(9, holes.clone())], &[1])),
        Err(RuleError::NoSuchHoles(pack(9)))
    );
    assert_eq!(
        try_say(&mut fold, planned(&[2], &[(2, holes.clone())], &[1])),
        Err(RuleError::NoSuchHoles(pack(2)))
    );
    let empty = EntryRuns::default();
    assert_eq!(try_say(&mut fold, planned(&[], &[(2, empty)], &[1])), Err(RuleError::NoSuchHoles(pack(2))));
    let plan = say(&mut fold, planned(&[9], &[(2, holes)], &[1]));
    assert_eq!(try_say(&mut fold, planned(&[8], &[], &[1])), Err(RuleError::PlanPending(plan)));
}

#[test]
fn a_pack_is_rewritten_only_under_a_plan_that_waits_for_nobody_and_once() {
    let mut fold = start();
    let (one, two) = (new(1).place.object, new(2).place.object);
    let plan = say(&mut fold, planned(&[9], &[(2, EntryRuns::run(0, 4))], &[1]));
    let rewritten = |plan, old: PackObject, suffix: u8| {
        let object = PackObject { pack: old.pack, suffix: [suffix; 8] };
        Event::PackRewritten(PackRewritten { plan, object, old, bytes: 5 })
    };
    assert_eq!(try_say(&mut fold, rewritten(plan, two, 7)), Err(RuleError::Waits(1)));
    let done = |plan| Event::SweepDone(SweepDone { plan, skipped: BTreeSet::new() });
    assert_eq!(try_say(&mut fold, done(plan)), Err(RuleError::Waits(1)));
    say(&mut fold, Event::Closed(Closed { session: 1 }));
    assert_eq!(try_say(&mut fold, rewritten(plan + 1, two, 7)), Err(RuleError::NoSuchPlan(plan + 1)));
    assert_eq!(try_say(&mut fold, rewritten(plan, one, 7)), Err(RuleError::NotToRewrite(pack(1))));
    assert_eq!(try_say(&mut fold, rewritten(plan, two, 2)), Err(RuleError::NotToRewrite(pack(2))));
    let moved = PackObject { pack: pack(2), suffix: [6; 8] };
    assert_eq!(try_say(&mut fold, rewritten(plan, moved, 7)), Err(RuleError::NotToRewrite(pack(2))));
    say(&mut fold, rewritten(plan, two, 7));
    assert!(!fold.is_alive(EntryRef { pack: pack(2), entry: 3 }));
    assert!(fold.is_alive(EntryRef { pack: pack(2), entry: 4 }));
    assert_eq!(fold.deletable(), [placed(PackKind::Data, 9), placed(PackKind::Data, 2)].into());
    let again = PackObject { pack: pack(2), suffix: [7; 8] };
    assert_eq!(try_say(&mut fold, rewritten(plan, again, 8)), Err(RuleError::NotToRewrite(pack(2))));
    assert_eq!(try_say(&mut fold, done(plan + 1)), Err(RuleError::NoSuchPlan(plan + 1)));
    say(&mut fold, done(plan));
    assert_eq!(try_say(&mut fold, done(plan)), Err(RuleError::NoSuchPlan(plan)));
    assert_eq!(fold.packs[&pack(2)].place.object, again);
}

#[test]
fn a_done_sweep_takes_off_what_was_planned_and_not_revived() {
    let mut fold = start();
    let plan = say(&mut fold, planned(&[2], &[], &[1]));
    let dying = EntryRef { pack: pack(2), entry: 0 };
    let late = say(&mut fold, opened());
    assert!(fold.is_dying(dying) && fold.is_usable(1, dying) && !fold.is_usable(late, dying));
    say(&mut fold, Event::Closed(Closed { session: 1 }));
    say(&mut fold, Event::SweepDone(SweepDone { plan, skipped: BTreeSet::new() }));
    assert!(!fold.packs.contains_key(&pack(2)) && fold.packs.contains_key(&pack(1)));
}

#[test]
fn the_last_key_is_not_removed() {
    let mut fold = Fold::default();
    let add = |slot| {
        Event::KeyAdded(KeyAdded { slot: [slot; 8], kind: "key-file".into(), hash: [slot; 32], domain: None })
    };
    let remove = |slot| Event::KeyRemoved(KeyRemoved { slot: [slot; 8] });
    say(&mut fold, add(1));
    assert!(matches!(try_say(&mut fold, add(1)), Err(RuleError::KeyTwice(_))));
    assert!(matches!(try_say(&mut fold, remove(1)), Err(RuleError::KeyNotRemovable(_))));
    say(&mut fold, add(2));
    say(&mut fold, remove(1));
    assert!(matches!(try_say(&mut fold, remove(1)), Err(RuleError::KeyNotRemovable(_))));
    assert!(matches!(try_say(&mut fold, remove(2)), Err(RuleError::KeyNotRemovable(_))));
}

#[test]
fn texts_are_bounded() {
    let mut fold = Fold::default();
    let event = Event::Opened(Opened { agent: "x".repeat(MAX_TEXT + 1), purpose: String::new() });
    assert!(matches!(try_say(&mut fold, event), Err(RuleError::TooLong { .. })));
}

#[test]
fn points_come_in_the_order_of_their_moments() {
    let mut fold = start();
    let taken = |at: i64| PointInfo { taken_at: Timestamp::from_second(at).unwrap(), ..info() };
    say(&mut fold, publish(Published { info: taken(20), ..published(1, 2, &[3]) }));
    say(&mut fold, publish(Published { info: taken(10), ..published(1, 3, &[4]) }));
    let ids: Vec<_> = fold.points_of(&"db".parse().unwrap()).iter().map(|point| point.id).collect();
    assert_eq!(ids, [point(1), point(3), point(2)]);
}

/// One of each kind, for round trips and golden bytes.
fn one_of_each() -> Vec<Event> {
    let hold = Hold { point: point(1), hold: "audit".into() };
    let driver = Source::Driver {
        node: "node 1".into(),
        volume: VolumeId::from_bytes([4; 16]),
        snapshot: SnapshotId::from_bytes([5; 16]),
    };
    let second = Published {
        parent: Some(point(1)),
        revives: [pack(1)].into(),
        last: true,
        info: PointInfo { source: driver, fs: None, labels: BTreeMap::new(), ..info() },
        ..published(7, 2, &[3])
    };
    vec![
        opened(),
        Event::Closed(Closed { session: 7 }),
        Event::Fenced(Fenced { session: 7, reason: "no sign of life".into() }),
        publish(published(7, 1, &[1, 2])),
        publish(second),
        Event::Forgotten(Forgotten { point: point(1), reason: "keep 7".into() }),
        Event::Held(hold.clone()),
        Event::Released(hold),
        planned(&[1, 2], &[(3, EntryRuns::from_iter([1, 2, 5]))], &[7, 9]),
        Event::PackRewritten(PackRewritten {
            plan: 300,
            object: PackObject { pack: pack(3), suffix: [4; 8] },
            old: PackObject { pack: pack(3), suffix: [3; 8] },
            bytes: 70_000,
        }),
        Event::SweepDone(SweepDone { plan: 300, skipped: [placed(PackKind::Map, 4)].into() }),
        Event::KeyAdded(KeyAdded { slot: [1; 8], kind: "passphrase".into(), hash: [2; 32], domain: None }),
        Event::KeyRemoved(KeyRemoved { slot: [1; 8] }),
        Event::Restored(Restored {
            run: RunId::from_bytes([6; 16]),
            point: point(1),
            volume: "db".parse().unwrap(),
            target: "/tmp/image".into(),
            bytes: 1 << 40,
        }),
        Event::RestoreTested(RestoreTested { point: point(1), passed: true, detail: "fsck clean".into() }),
        Event::RollbackAccepted(RollbackAccepted { number: 5, hash: [3; 32], reason: "tape".into() }),
    ]
}

#[test]
fn every_kind_is_read_back() {
    for event in one_of_each() {
        let record = record(&start(), event);
        assert_eq!(from_bytes::<Record>(&to_bytes(&record)), Ok(record));
    }
}

/// The bytes of version 1. This test is never edited: what a released version wrote, every later one reads.
#[test]
fn the_stored_forms_of_version_1_do_not_change() {
    let mut all = blake3::Hasher::new();
    for event in one_of_each() {
        all.update(&to_bytes(&record(&start(), event)));
    }
    let opened = to_bytes(&record(&Fold::default(), opened()));
    let fold = blake3::hash(&to_bytes(&busy()));
    assert_eq!(
        (hex::encode(&opened).as_str(), all.finalize().to_hex().as_str(), fold.to_hex().as_str()),
        (GOLDEN_OPENED, GOLDEN_RECORDS, GOLDEN_FOLD)
    );
}

const GOLDEN_OPENED: &str = "a700010158200000000000000000000000000000000000000000000000000000000000000000020003656167656e74040005f406a2000101a200656167656e7401666261636b7570";
const GOLDEN_RECORDS: &str = "c167bcffac579b508345fd5d64206b02e35c4cadb81b3a2674453150ee743a54";
const GOLDEN_FOLD: &str = "0203b918db4cad4ebda43218ff931fec5f7eb505ccc86fa968e273413472b0db";

/// A fold in which every field has something.
fn busy() -> Fold {
    let mut fold = start();
    say(
        &mut fold,
        Event::KeyAdded(KeyAdded { slot: [1; 8], kind: "key-file".into(), hash: [1; 32], domain: None }),
    );
    say(&mut fold, Event::Held(Hold { point: point(1), hold: "audit".into() }));
    let plan = say(&mut fold, planned(&[9], &[(2, EntryRuns::run(0, 4))], &[1]));
    say(&mut fold, Event::Closed(Closed { session: 1 }));
    let (old, object) = (new(2).place.object, PackObject { pack: pack(2), suffix: [7; 8] });
    say(&mut fold, Event::PackRewritten(PackRewritten { plan, object, old, bytes: 5 }));
    say(&mut fold, opened());
    fold
}

#[test]
fn a_fold_is_read_back() {
    let fold = busy();
    assert_eq!(from_bytes::<Fold>(&to_bytes(&fold)), Ok(fold));
    assert_eq!(from_bytes::<Fold>(&to_bytes(&Fold::default())), Ok(Fold::default()));
}

#[test]
fn what_is_not_known_is_refused() {
    let good = to_bytes(&record(&Fold::default(), Event::Closed(Closed { session: 7 })));
    // The event is the last field: 06 a2 00 <kind> 01 …
    let at = good.windows(3).rposition(|bytes| bytes == [6, 0xa2, 0]).unwrap() + 3;
    let mut kind = good.clone();
    kind[at] = 0;
    assert_eq!(from_bytes::<Record>(&kind), Err(CborError::UnknownKind { what: "record", kind: 0 }));
    let mut field = good.clone();
    field[at + 3] = 9;
    assert!(matches!(from_bytes::<Record>(&field), Err(CborError::UnknownField { key: 9, .. })));
    let mut longer = good.clone();
    longer.push(0);
    assert_eq!(from_bytes::<Record>(&longer), Err(CborError::Trailing(1)));
    // The number 7 in two bytes.
    let last = good.len() - 1;
    let mut wide = good[..last].to_vec();
    wide.extend_from_slice(&[0x18, 7]);
    assert_eq!(from_bytes::<Record>(&wide), Err(CborError::Value("it is not in its one form".into())));
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = from_bytes::<Record>(&bytes);
        let _ = from_bytes::<Fold>(&bytes);
    }

    #[test]
    fn no_flipped_bit_makes_the_reader_panic_and_what_is_read_is_written_back(which in 0_usize..16, at in any::<prop::sample::Index>(), bit in 0_u32..8) {
        let mut bytes = to_bytes(&record(&start(), one_of_each()[which].clone()));
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        if let Ok(read) = from_bytes::<Record>(&bytes) {
            prop_assert_eq!(to_bytes(&read), bytes);
        }
    }

    /// Whatever is said in whatever order: a refused record changes nothing, and the fold is read back from its
    /// stored form.
    #[test]
    fn any_history_folds_the_same_from_its_checkpoint(steps in prop::collection::vec((0_usize..12, 1_u8..6, 1_u64..20), 0..40), at in any::<prop::sample::Index>()) {
        let mut fold = start();
        let cut = at.index(steps.len().max(1));
        let mut restored = None;
        for (step, (kind, id, number)) in steps.iter().enumerate() {
            if step == cut {
                restored = Some(from_bytes::<Fold>(&to_bytes(&fold)).unwrap());
            }
            let sessions: Vec<u64> = fold.sessions.keys().copied().collect();
            let event = match kind {
                0 => opened(),
                1 => Event::Closed(Closed { session: *number }),
                2 => publish(published(*number, *id, &[*id + 10])),
                3 => publish(published(*number, *id + 20, &[*id + 30, *id + 40])),
                4 => Event::Forgotten(Forgotten { point: point(*id), reason: String::new() }),
                5 => Event::Held(Hold { point: point(*id), hold: "x".into() }),
                6 => Event::Released(Hold { point: point(*id), hold: "x".into() }),
                7 => planned(&[*id + 10], &[(*id + 40, EntryRuns::run(4, 3))], &sessions),
                8 => planned(&[*id], &[], &sessions),
                9 => Event::SweepDone(SweepDone { plan: fold.plan.as_ref().map_or(0, |plan| plan.number), skipped: BTreeSet::new() }),
                10 => Event::Fenced(Fenced { session: sessions.first().copied().unwrap_or(0), reason: String::new() }),
                _ => {
                    let old = fold.packs.get(&pack(*id + 40)).map_or(PackObject { pack: pack(*id), suffix: [0; 8] }, |state| state.place.object);
                    let object = PackObject { pack: old.pack, suffix: number.to_le_bytes() };
                    let plan = fold.plan.as_ref().map_or(0, |plan| plan.number);
                    Event::PackRewritten(PackRewritten { plan, object, old, bytes: 1 })
                }
            };
            let answer = try_say(&mut fold, event.clone());
            if let Some(restored) = &mut restored {
                prop_assert_eq!(try_say(restored, event), answer);
                prop_assert_eq!(&*restored, &fold);
            }
        }
    }
}
