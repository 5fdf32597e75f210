//! Logs of databases: what was put is found and read, also when nobody said so yet; what is needed stays; two writers notice
//! each other.

use std::path::Path;

use bytes::Bytes;
use jiff::Timestamp;
use strongroom_model::{Failure as _, LogId, chain};
use strongroom_repository::check::{CheckOptions, ReadData};
use strongroom_repository::copy::Chosen;
use strongroom_repository::entry_runs::EntryRuns;
use strongroom_repository::keys::{DataSeal, Grants, KeyFile, NewKey, Unlock};
use strongroom_repository::record::{
    BaseOfDatabase, BundleNote, CommitNote, CommitsNote, HeardNote, LogOpened,
};
use strongroom_repository::sweep::SweepOptions;
use strongroom_repository::{Bundle, InitOptions, LogError, Point, Repository};

use crate::{reader, world};

pub(crate) const LOG: LogId = LogId::from_bytes(*b"log of a test db");
const START: u64 = 16 << 20;

pub(crate) fn opened() -> LogOpened {
    LogOpened {
        log: LOG,
        database: "shop".into(),
        volume: Some(world::name("db")),
        engine: "postgresql".into(),
        identity: "7345678901234567890".into(),
        lineage: 2,
        start: START,
        parent: Some(1),
        fork: Some(START + 100),
        history: Some("1\t0/1000064\tno recovery target specified\n".into()),
        began_at: Timestamp::UNIX_EPOCH,
        facts: [("version".to_owned(), "15.18".to_owned())].into(),
    }
}

/// Bundle `number` of a log whose bundles have `STEP` bytes each.
pub(crate) fn bundle(number: u32) -> Bundle {
    const STEP: u64 = 1_300_000;
    let from = START + u64::from(number - 1) * STEP;
    let at = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(i64::from(number) * 10);
    let commit = CommitNote {
        start: from + 8,
        end: from + 40,
        at,
        transaction: 700 + u64::from(number),
        source: None,
    };
    let commits = CommitsNote { count: 1, first: commit, last: commit, earliest: at, latest: at };
    let note = BundleNote {
        bytes: 0,
        from,
        to: from + STEP,
        complete_until: at,
        last_record: Some(from + 8),
        commits: Some(commits),
        named_points: 0,
        whole_to: from + STEP,
    };
    let log = world::image(u64::from(number), usize::try_from(STEP).unwrap());
    Bundle { note, log: log.into(), index: Bytes::from_static(b"an index") }
}

async fn put(repository: &Repository, numbers: std::ops::RangeInclusive<u32>) -> Vec<BundleNote> {
    let mut notes = Vec::new();
    for number in numbers {
        notes.push(repository.put_bundle(LOG, number, bundle(number)).await.unwrap());
    }
    notes
}

/// The numbers of the bundles that lie in a repository.
fn bundles(folder: &Path) -> Vec<u64> {
    let names = world::objects(folder);
    let numbers = names.iter().filter_map(|name| name.strip_prefix("logs/")?.split_once('.'));
    numbers.map(|(_, number)| u64::from_str_radix(number, 16).unwrap()).collect()
}

#[tokio::test]
async fn what_is_put_is_read_back_and_what_nobody_said_yet_is_found() {
    let (folder, keys, world) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), world::world(70));
    let key = KeyFile::generate(&*world.entropy);
    key.write_new(&keys.path().join("key")).unwrap();
    let repository = world::init(folder.path(), &world, &[Unlock::KeyFile(key.clone())]).await;
    repository.open_log(opened()).await.unwrap();
    repository.open_log(opened()).await.unwrap();
    let notes = put(&repository, 1..=3).await;
    let heard = HeardNote { position: notes[2].to, at: Timestamp::UNIX_EPOCH };
    repository.note_archived(LOG, 1, &notes, Some(heard)).await.unwrap();
    let records = repository.fold().await.unwrap().number;
    repository.note_archived(LOG, 1, &notes, Some(heard)).await.unwrap();
    assert_eq!(repository.fold().await.unwrap().number, records, "what is known is not said again");
    // The writer is killed here: nobody says that there are two more.
    let beyond = put(&repository, 4..=5).await;

    let later = world::open(folder.path(), &world, &key).await.unwrap();
    let fold = later.fold().await.unwrap();
    let log = &fold.logs[&LOG];
    assert_eq!((log.opened.clone(), log.next, log.end, log.heard), (opened(), 4, notes[2].to, Some(heard)));
    assert_eq!(log.kept().map(|(_, note)| note.clone()).collect::<Vec<_>>(), notes);
    assert_eq!(later.bundles_beyond(LOG, log.next, log.end).await.unwrap(), beyond);
    let mut bytes = Vec::new();
    for (number, note) in (1..).zip(notes.iter().chain(&beyond)) {
        let read = later.read_bundle(LOG, number, note.bytes).await.unwrap();
        let written = bundle(number);
        assert!((&read.log, &read.index, &read.note) == (&written.log, &written.index, note));
        bytes.extend_from_slice(&read.log);
    }

    // From the document alone.
    let target = keys.path().join("log");
    let (folder, key) = (folder.path().to_str().unwrap(), keys.path().join("key"));
    let arguments = ["log", folder, key.to_str().unwrap(), &LOG.to_string(), target.to_str().unwrap()];
    let Some(output) = reader::reader(&arguments) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(std::fs::read(target).unwrap() == bytes, "the independent reader read other bytes");
    assert!(reader::reader(&["scrub", folder]).unwrap().status.success());
}

#[tokio::test]
async fn a_second_writer_of_a_log_is_noticed_and_a_second_try_of_the_first_is_none() {
    let (folder, world) = (tempfile::tempdir().unwrap(), world::world(71));
    let key = KeyFile::generate(&*world.entropy);
    let first = world::init(folder.path(), &world, &[Unlock::KeyFile(key.clone())]).await;
    first.open_log(opened()).await.unwrap();
    let notes = put(&first, 1..=2).await;
    let second = world::open(folder.path(), &world, &key).await.unwrap();
    let other = Bundle { log: Bytes::from(vec![7; 1_300_000]), ..bundle(2) };
    let taken = second.put_bundle(LOG, 2, other).await.unwrap_err();
    assert_eq!(taken.code(), "log.taken");
    first.note_archived(LOG, 1, &notes, None).await.unwrap();
    let wrong = second.note_archived(LOG, 4, &notes[1..], None).await.unwrap_err();
    assert!(chain(&wrong).contains("does not follow"), "{}", chain(&wrong));
}

#[tokio::test]
async fn what_is_trimmed_is_swept_and_nothing_else_and_copies_have_the_rest() {
    let (folder, copied, world) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), world::world(72));
    let key = KeyFile::generate(&*world.entropy);
    let repository = world::init(folder.path(), &world, &[Unlock::KeyFile(key.clone())]).await;
    repository.open_log(opened()).await.unwrap();
    let notes = put(&repository, 1..=6).await;
    repository.note_archived(LOG, 1, &notes, None).await.unwrap();
    put(&repository, 7..=7).await;
    let target = world::store(copied.path());
    repository.copy_to(&target, Some(world::abilities()), None, &|_, _| {}).await.unwrap();
    assert_eq!(bundles(copied.path()), [1, 2, 3, 4, 5, 6], "the seventh is not in the journal yet");

    let mut gone = EntryRuns::run(1, 2);
    gone.insert_run(5, 1);
    repository.trim_log(LOG, gone, "retention").await.unwrap();
    for wrong in [EntryRuns::run(1, 1), EntryRuns::run(6, 2), EntryRuns::run(9, 1), EntryRuns::default()] {
        assert!(repository.trim_log(LOG, wrong.clone(), "again").await.is_err(), "{wrong:?}");
    }
    let report = repository.sweep(&SweepOptions::default()).await.unwrap();
    assert_eq!(report.deleted_objects, 3);
    assert!(report.freed_bytes >= 3 << 18, "{report:?}");
    assert_eq!(bundles(folder.path()), [3, 4, 6, 7]);
    let report = repository.sweep(&SweepOptions::default()).await.unwrap();
    assert_eq!(report.deleted_objects, 0, "nobody trimmed the rest");
    repository.copy_to(&target, None, None, &|_, _| {}).await.unwrap();
    assert_eq!(bundles(copied.path()), [3, 4, 6]);

    let later = world::open(folder.path(), &world, &key).await.unwrap();
    let fold = later.fold().await.unwrap();
    assert_eq!(fold.logs[&LOG].kept().map(|(number, _)| number).collect::<Vec<_>>(), [3, 4, 6]);
    let whole = later.check_with(&CheckOptions::default(), &|_, _| {}).await.unwrap();
    assert!(whole.damages.is_empty(), "{:?}", whole.damages);
    let name = world::objects(folder.path()).into_iter().find(|name| name.starts_with("logs/")).unwrap();
    std::fs::remove_file(folder.path().join(&name)).unwrap();
    let checked = later.check_with(&CheckOptions::default(), &|_, _| {}).await.unwrap();
    assert!(checked.damages.iter().any(|damage| damage.object == name), "{:?}", checked.damages);
}

#[tokio::test]
async fn a_copy_with_a_rule_has_the_log_of_every_database_of_which_it_has_a_base() {
    let (folder, copied, world) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), world::world(73));
    let key = KeyFile::generate(&*world.entropy);
    let repository = world::init(folder.path(), &world, &[Unlock::KeyFile(key.clone())]).await;
    let other = LogId::from_bytes([5; 16]);
    repository.open_log(opened()).await.unwrap();
    let of_other = LogOpened { log: other, database: "wiki".into(), identity: "1".into(), ..opened() };
    repository.open_log(of_other).await.unwrap();
    let notes = put(&repository, 1..=2).await;
    repository.note_archived(LOG, 1, &notes, None).await.unwrap();
    let note = repository.put_bundle(other, 1, bundle(1)).await.unwrap();
    repository.note_archived(other, 1, &[note], None).await.unwrap();

    let target = world::store(copied.path());
    let takes = |point: &Point| point.volume.as_str() == "db";
    let chosen = Chosen { takes: &takes, rule: "db".to_owned() };
    let copy = || repository.copy_to(&target, Some(world::abilities()), Some(&chosen), &|_, _| {});
    copy().await.unwrap();
    assert_eq!(bundles(copied.path()), [] as [u64; 0], "no base, nothing to restore");
    let base =
        |log| Some(BaseOfDatabase { log, start: START, end: START + 8, ready_at: Timestamp::UNIX_EPOCH });
    let (db, wiki) = (world::image(1, 100_000), world::image(2, 100_000));
    world::back_up_base(&repository, &world, "wiki", &wiki, base(other)).await;
    let point = world::back_up_base(&repository, &world, "db", &db, base(LOG)).await;
    copy().await.unwrap();
    assert_eq!(bundles(copied.path()), [1, 2], "what was left out came along with the first base");

    let there = world::open(copied.path(), &world, &key).await.unwrap();
    assert!(world::restore(&there, point).await.unwrap() == db);
    for (number, note) in (1..).zip(&notes) {
        assert!(there.read_bundle(LOG, number, note.bytes).await.unwrap().log == bundle(number).log);
    }
    let lacking = there.fold().await.unwrap().logs[&other].bundles[&1].bytes;
    assert!(there.read_bundle(other, 1, lacking).await.is_err(), "the other database's log stays at home");
}

#[tokio::test]
async fn a_write_only_agent_archives_what_it_cannot_read_back() {
    let (folder, world) = (tempfile::tempdir().unwrap(), world::world(74));
    let (owner, agent) = (KeyFile::generate(&*world.entropy), KeyFile::generate(&*world.entropy));
    let init = InitOptions { data_seal: DataSeal::Split, ..world::init_options() };
    let unlock = [Unlock::KeyFile(owner.clone())];
    let repository =
        Repository::init(world::store(folder.path()), world.clone(), init, &unlock).await.unwrap();
    let to = NewKey::Holder(Unlock::KeyFile(agent.clone()));
    repository.add_slot(&to, Grants::WriteOnly, "host 7", world::CHEAP).await.unwrap();
    let at_host = world::open(folder.path(), &world, &agent).await.unwrap();
    at_host.open_log(opened()).await.unwrap();
    let notes = put(&at_host, 1..=3).await;
    at_host.note_archived(LOG, 1, &notes[..2], None).await.unwrap();

    // Killed here: it finds where it was, and what it wrote stays closed to it.
    let again = world::open(folder.path(), &world, &agent).await.unwrap();
    let fold = again.fold().await.unwrap();
    let log = &fold.logs[&LOG];
    assert_eq!(again.bundles_beyond(LOG, log.next, log.end).await.unwrap(), notes[2..]);
    let closed = again.read_bundle(LOG, 1, notes[0].bytes).await.unwrap_err();
    assert!(matches!(closed, LogError::Unreadable { .. }), "{}", chain(&closed));
    let whole = again.check_with(&CheckOptions::default(), &|_, _| {}).await.unwrap();
    assert!(whole.damages.is_empty(), "{:?}", whole.damages);
    let read = repository.read_bundle(LOG, 3, notes[2].bytes).await.unwrap();
    assert!(read.log == bundle(3).log);
}

#[tokio::test]
async fn a_repository_that_key_domains_share_archives_no_log() {
    let (folder, world) = (tempfile::tempdir().unwrap(), world::world(75));
    let key = Unlock::KeyFile(KeyFile::generate(&*world.entropy));
    let init = InitOptions { shared: true, ..world::init_options() };
    let repository =
        Repository::init(world::store(folder.path()), world.clone(), init, &[key]).await.unwrap();
    let refused = repository.open_log(opened()).await.unwrap_err();
    assert_eq!(refused.code(), "log.shared");
    assert!(repository.fold().await.unwrap().logs.is_empty());
}

#[tokio::test]
async fn bundles_that_were_lost_spoiled_or_exchanged_are_noted_and_no_longer_when_they_are_back() {
    let (folder, keys, world) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), world::world(77));
    let key = KeyFile::generate(&*world.entropy);
    key.write_new(&keys.path().join("key")).unwrap();
    let repository = world::init(folder.path(), &world, &[Unlock::KeyFile(key.clone())]).await;
    repository.open_log(opened()).await.unwrap();
    let notes = put(&repository, 1..=9).await;
    repository.note_archived(LOG, 1, &notes, None).await.unwrap();
    assert!(repository.survey_logs().await.unwrap().is_empty());
    let fold = repository.fold().await.unwrap();
    let path = |number: u32| folder.path().join(fold.logs[&LOG].place(number).unwrap().name().to_string());
    let original: Vec<Vec<u8>> = (1..=9).map(|number| std::fs::read(path(number)).unwrap()).collect();
    let bytes = |number: usize| original[number - 1].as_slice();

    std::fs::remove_file(path(2)).unwrap();
    std::fs::write(path(3), &bytes(3)[..bytes(3).len() - 1]).unwrap();
    let mut flipped = bytes(5).to_vec();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    std::fs::write(path(5), &flipped).unwrap();
    std::fs::write(path(7), bytes(8)).unwrap();
    std::fs::write(path(8), bytes(7)).unwrap();

    let damaged = |fold: &strongroom_repository::Fold| {
        (1..=9).filter(|number| fold.logs[&LOG].is_damaged(*number)).collect::<Vec<u32>>()
    };
    // By what there is alone: a missing one, and one of another size.
    let found = repository.survey_logs().await.unwrap();
    assert!(found.len() >= 2 && found.iter().any(|damage| damage.what.contains("missing")), "{found:?}");
    let seen = damaged(&repository.fold().await.unwrap());
    assert!(seen.starts_with(&[2, 3]), "{seen:?}");
    let records = repository.fold().await.unwrap().number;
    // By reading: the others.
    let read = CheckOptions { read: ReadData::All, record: true, ..CheckOptions::default() };
    let checked = repository.check_with(&read, &|_, _| {}).await.unwrap();
    let later = world::open(folder.path(), &world, &key).await.unwrap();
    let fold_later = later.fold().await.unwrap();
    assert_eq!(damaged(&fold_later), [2, 3, 5, 7, 8], "{:?}", checked.damages);
    assert!(fold_later.number > records);

    for number in 1..=9 {
        std::fs::write(path(number), bytes(number as usize)).unwrap();
    }
    // Those that were found damaged are read again by the smallest look.
    assert!(later.survey_logs().await.unwrap().is_empty());
    assert!(damaged(&later.fold().await.unwrap()).is_empty());
    // A part at a time comes round.
    let part = CheckOptions { read: ReadData::Share(0.3), record: true, ..CheckOptions::default() };
    std::fs::write(path(9), &flipped).unwrap();
    for _ in 0..4 {
        later.check_with(&part, &|_, _| {}).await.unwrap();
    }
    assert_eq!(damaged(&later.fold().await.unwrap()), [9]);
}
