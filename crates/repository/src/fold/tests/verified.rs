//! What a check saw: kept by pack, for the object that was read and no other.

use std::collections::BTreeMap;

use super::*;
use crate::fold::VerifiedPacks;
use crate::record::{Objects, Verified};

fn object(id: u8) -> PackObject {
    new(id).place.object
}

fn seen(whole: &[PackObject], damaged: &[(PackObject, EntryRuns)]) -> Event {
    Event::Verified(Verified {
        whole: Objects(whole.iter().copied().collect()),
        damaged: damaged.iter().cloned().collect(),
    })
}

fn at(fold: &Fold, event: Event, second: i64) -> Record {
    Record { time: Timestamp::from_second(second).unwrap(), ..record(fold, event) }
}

#[test]
fn a_pack_was_verified_when_its_object_was_last_read_whole() {
    let mut fold = start();
    assert_eq!(fold.verified.at(&pack(1)), None);
    for second in [100, 90] {
        let record = at(&fold, seen(&[object(1)], &[]), second);
        fold.apply(&record, [7; 32]).unwrap();
        assert_eq!(fold.verified.at(&pack(1)), Timestamp::from_second(second).ok());
    }
    let before_1970 = at(&fold, seen(&[object(2)], &[]), -5);
    fold.apply(&before_1970, [1; 32]).unwrap();
    assert_eq!(fold.verified.at(&pack(2)), Some(Timestamp::UNIX_EPOCH));
    assert_eq!(from_bytes::<Fold>(&to_bytes(&fold)), Ok(fold));
}

#[test]
fn what_was_seen_of_another_object_of_the_pack_or_of_no_pack_says_nothing() {
    let mut fold = start();
    let old = PackObject { suffix: [99; 8], ..object(1) };
    say(
        &mut fold,
        seen(&[old, object(9)], &[(PackObject { suffix: [98; 8], ..object(2) }, EntryRuns::run(0, 1))]),
    );
    assert_eq!(fold.verified, VerifiedPacks::default());
}

#[test]
fn dedup_refers_to_no_damaged_entry_until_a_later_check_finds_it_right() {
    let mut fold = start();
    let (bad, good) = (EntryRef { pack: pack(2), entry: 4 }, EntryRef { pack: pack(2), entry: 5 });
    assert!(fold.is_usable(1, bad));
    say(&mut fold, seen(&[object(1)], &[(object(2), EntryRuns::run(4, 1))]));
    assert!(fold.is_alive(bad) && !fold.is_usable(1, bad) && fold.is_usable(1, good));
    assert_eq!(fold.verified.damaged(), &BTreeMap::from([(pack(2), EntryRuns::run(4, 1))]));
    assert_eq!(from_bytes::<Fold>(&to_bytes(&fold)).as_ref(), Ok(&fold));
    say(&mut fold, seen(&[object(2)], &[]));
    assert!(fold.is_usable(1, bad) && fold.verified.damaged().is_empty());
}

#[test]
fn a_pack_whose_hash_alone_is_wrong_loses_no_entry() {
    let mut fold = start();
    say(&mut fold, seen(&[], &[(object(2), EntryRuns::default())]));
    assert!(fold.verified.at(&pack(2)).is_some() && fold.verified.damaged().is_empty());
}

#[test]
fn a_rewritten_or_swept_pack_is_no_longer_verified() {
    let mut fold = start();
    say(&mut fold, Event::Closed(Closed { session: 1 }));
    say(&mut fold, seen(&[object(1)], &[(object(2), EntryRuns::run(7, 1))]));
    let plan = say(&mut fold, planned(&[], &[(2, EntryRuns::run(0, 2))], &[]));
    let fresh = PackObject { pack: pack(2), suffix: [7; 8] };
    say(&mut fold, Event::PackRewritten(PackRewritten { plan, object: fresh, old: object(2), bytes: 5 }));
    assert_eq!((fold.verified.at(&pack(2)), fold.verified.damaged().len()), (None, 0));
    say(&mut fold, Event::SweepDone(SweepDone { plan, skipped: BTreeSet::new() }));
    say(&mut fold, seen(&[fresh], &[]));
    let swept = Placed { kind: PackKind::Data, object: fresh };
    let planned =
        SweepPlanned { objects: [swept].into(), holes: BTreeMap::new(), waits_for: BTreeSet::new() };
    let plan = say(&mut fold, Event::SweepPlanned(planned));
    say(&mut fold, Event::SweepDone(SweepDone { plan, skipped: BTreeSet::new() }));
    assert!(fold.verified.at(&pack(2)).is_none() && fold.verified.at(&pack(1)).is_some());
}

#[test]
fn it_names_some_objects_each_as_one_thing() {
    let mut fold = start();
    assert_eq!(try_say(&mut fold, seen(&[], &[])), Err(RuleError::VerifiedSize(0)));
    let both = seen(&[object(1)], &[(object(1), EntryRuns::run(0, 1))]);
    assert_eq!(try_say(&mut fold, both), Err(RuleError::VerifiedSize(2)));
}

#[test]
fn the_stored_form_of_what_was_verified_does_not_change() {
    let mut fold = start();
    let record =
        at(&fold, seen(&[object(1)], &[(object(2), EntryRuns::from_iter([4, 5, 9]))]), 1_790_000_000);
    fold.apply(&record, [9; 32]).unwrap();
    let event = to_bytes(&record.event);
    assert_eq!(hex::encode(&event), EVENT);
    assert_eq!(from_bytes::<Event>(&event).as_ref(), Ok(&record.event));
    assert!(hex::encode(to_bytes(&fold)).ends_with(END_OF_FOLD), "{}", hex::encode(to_bytes(&fold)));
    // Rows that do not ascend, or end within one.
    for wrong in [[[2; 24], [1; 24]].concat(), vec![1; 23], [[1; 24], [1; 24]].concat()] {
        let mut e = minicbor::Encoder::new(Vec::new());
        e.map(2).unwrap().u32(0).unwrap().bytes(&wrong).unwrap().u32(1).unwrap().map(0).unwrap();
        assert!(from_bytes::<Verified>(&e.into_writer()).is_err(), "{wrong:?}");
    }
}

const EVENT: &str = "a2001001a200581801010101010101010101010101010101010101010101010101a158180202020202020202020202020202020202020202020202028404020901";
const END_OF_FOLD: &str = "09583001010101010101010101010101010101803bb16a0000000002020202020202020202020202020202803bb16a000000000aa150020202020202020202020202020202028404020901";
