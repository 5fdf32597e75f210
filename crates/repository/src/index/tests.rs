use strongroom_model::PackId;

use super::*;

const REPOSITORY: RepositoryId = RepositoryId::from_bytes([1; 16]);

fn id(number: u64) -> ChunkId {
    ChunkId::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

fn place(number: u64) -> EntryRef {
    let mut pack = [0; 16];
    pack[..8].copy_from_slice(&(number / 100).to_le_bytes());
    EntryRef { pack: PackId::from_bytes(pack), entry: u32::try_from(number % 100).unwrap() }
}

fn key(number: u64) -> RunKey {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&number.to_le_bytes());
    key
}

fn run(numbers: std::ops::Range<u64>) -> IndexRun {
    IndexRun::take_from(&mut numbers.map(|number| (id(number), place(number))).collect())
}

/// 60 runs of 1 to 700 rows: enough for merges of merges, and for rows on every place of a page.
fn filled(dir: &Path) -> (DedupIndex, u64) {
    let index = DedupIndex::open(dir, REPOSITORY).unwrap();
    let mut next = 0;
    for number in 0..60 {
        let rows = 1 + number * 37 % 700;
        index.add_run(key(number), &run(next..next + rows)).unwrap();
        next += rows;
    }
    (index, next)
}

#[test]
fn every_row_is_found_through_merges_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (index, rows) = filled(dir.path());
    let reopened = DedupIndex::open(dir.path(), REPOSITORY).unwrap();
    for index in [&index, &reopened] {
        assert!((0..rows).all(|number| index.lookup(&id(number)) == Some(place(number))));
        assert!((rows..rows + 1000).all(|number| index.lookup(&id(number)).is_none()));
        assert_eq!(index.known_runs(), (0..60).map(key).collect());
    }
    let files = std::fs::read_dir(dir.path()).unwrap().count();
    assert!(files < 24, "{files} files for 60 runs");
}

#[test]
fn the_newest_place_is_answered_first() {
    let dir = tempfile::tempdir().unwrap();
    for index in [DedupIndex::open(dir.path(), REPOSITORY).unwrap(), DedupIndex::in_memory(REPOSITORY, 1000)] {
        index.add_run(key(1), &IndexRun::take_from(&mut vec![(id(5), place(1))])).unwrap();
        index.add_run(key(2), &IndexRun::take_from(&mut vec![(id(5), place(2))])).unwrap();
        assert_eq!(index.lookup(&id(5)), Some(place(2)));
        assert_eq!(index.lookup_all(&id(5)), [place(2), place(1)]);
    }
}

#[test]
fn a_damaged_file_never_answers_wrong() {
    let dir = tempfile::tempdir().unwrap();
    DedupIndex::open(dir.path(), REPOSITORY).unwrap().add_run(key(1), &run(0..400)).unwrap();
    let path = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let sound = std::fs::read(&path).unwrap();
    for at in (0..sound.len()).step_by(97) {
        let mut damaged = sound.clone();
        damaged[at] ^= 4;
        std::fs::write(&path, &damaged).unwrap();
        let index = DedupIndex::open(dir.path(), REPOSITORY).unwrap();
        for number in 0..400 {
            assert!(index.lookup(&id(number)).is_none_or(|found| found == place(number)), "byte {at}");
        }
    }
    for length in [0, 1, 95, 96, 4096, sound.len() - 1] {
        std::fs::write(&path, &sound[..length]).unwrap();
        assert!(DedupIndex::open(dir.path(), REPOSITORY).unwrap().is_empty(), "cut to {length}");
    }
}

#[test]
fn an_index_of_another_repository_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    assert!(DedupIndex::open(dir.path(), RepositoryId::from_bytes([2; 16])).unwrap().is_empty());
}

#[test]
fn the_index_in_memory_forgets_its_oldest_runs() {
    let index = DedupIndex::in_memory(REPOSITORY, 100);
    index.add_run(key(1), &run(0..60)).unwrap();
    index.add_run(key(2), &run(60..120)).unwrap();
    assert_eq!((index.lookup(&id(3)), index.lookup(&id(70))), (None, Some(place(70))));
}

#[test]
fn what_is_cleared_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (index, _) = filled(dir.path());
    index.clear().unwrap();
    assert!(index.is_empty() && std::fs::read_dir(dir.path()).unwrap().next().is_none());
}
