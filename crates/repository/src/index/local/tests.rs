use proptest::prelude::*;
use strongroom_model::PackId;

use super::*;

const REPOSITORY: RepositoryId = RepositoryId::from_bytes([0x5a; 16]);

fn id(n: u64) -> ChunkId {
    ChunkId::from_bytes(*blake3::hash(&n.to_le_bytes()).as_bytes())
}

fn at(n: u64) -> EntryRef {
    let pack = PackId::from_bytes(u128::from(n / 100).to_be_bytes());
    EntryRef { pack, entry: u32::try_from(n % 100).unwrap() }
}

fn run(numbers: impl IntoIterator<Item = u64>) -> IndexRun {
    IndexRun::take_from(&mut numbers.into_iter().map(|n| (id(n), at(n))).collect())
}

fn key(n: u8) -> RunKey {
    [n; 16]
}

fn files(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn what_was_added_is_found_also_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let index = DedupIndex::open(dir.path(), REPOSITORY).unwrap();
    index.add_run(key(1), &run(0..1000)).unwrap();
    index.add_run(key(2), &run(1000..1001)).unwrap();
    index.add_run(key(2), &run(5000..5001)).unwrap();
    for index in [index, DedupIndex::open(dir.path(), REPOSITORY).unwrap()] {
        assert!((0..1001).all(|n| index.lookup(&id(n)) == Some(at(n))));
        assert!((1001..6000).all(|n| index.lookup(&id(n)).is_none()));
        assert_eq!(index.known_runs(), [key(1), key(2)].into());
    }
    let stranger = DedupIndex::open(dir.path(), RepositoryId::from_bytes([1; 16])).unwrap();
    assert!(stranger.known_runs().is_empty(), "another repository's index is not ours");
}

#[test]
fn many_runs_are_merged_into_few_files_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let index = DedupIndex::open(dir.path(), REPOSITORY).unwrap();
    for n in 0..60 {
        index.add_run(key(n), &run(u64::from(n) * 300..u64::from(n) * 300 + 301)).unwrap();
        assert!(files(dir.path()).len() <= MOST_FILES, "after {n}");
    }
    assert!((0..60 * 300).all(|n| index.lookup(&id(n)) == Some(at(n))));
    assert_eq!(index.known_runs().len(), 60);
    index.clear().unwrap();
    assert!(files(dir.path()).is_empty() && index.lookup(&id(1)).is_none());
}

#[test]
fn the_newest_place_comes_first_and_older_ones_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let index = DedupIndex::open(dir.path(), REPOSITORY).unwrap();
    let again = EntryRef { pack: PackId::from_bytes([0xff; 16]), entry: 7 };
    index.add_run(key(1), &run(0..10)).unwrap();
    index.add_run(key(2), &IndexRun::take_from(&mut vec![(id(3), again)])).unwrap();
    assert_eq!(index.lookup_all(&id(3)), [again, at(3)]);
    for n in 3..40 {
        index.add_run(key(n), &run([1000 + u64::from(n)])).unwrap();
    }
    let places: BTreeSet<_> = index.lookup_all(&id(3)).into_iter().collect();
    assert_eq!(places, [again, at(3)].into());
}

#[test]
fn a_flipped_cut_or_foreign_file_is_dropped_and_never_gives_a_wrong_place() {
    let dir = tempfile::tempdir().unwrap();
    DedupIndex::open(dir.path(), REPOSITORY).unwrap().add_run(key(1), &run(0..600)).unwrap();
    let path = files(dir.path()).pop().unwrap();
    let good = std::fs::read(&path).unwrap();
    for byte in (0..good.len()).step_by(307).chain((good.len() - 100..good.len()).step_by(7)) {
        let mut bad = good.clone();
        bad[byte] ^= 0x10;
        std::fs::write(&path, &bad).unwrap();
        let index = DedupIndex::open(dir.path(), REPOSITORY).unwrap();
        for n in 0..600 {
            assert!(index.lookup(&id(n)).is_none_or(|found| found == at(n)), "byte {byte}");
        }
        assert!(files(dir.path()).is_empty() && index.known_runs().is_empty(), "byte {byte}");
        index.add_run(key(1), &run(0..600)).unwrap();
        assert_eq!(index.lookup(&id(5)), Some(at(5)));
    }
    for cut in [0, 1, 47, 48, 1000, good.len() - 1] {
        std::fs::write(&path, &good[..cut]).unwrap();
        std::fs::write(dir.path().join("x.draft"), b"half").unwrap();
        assert!(DedupIndex::open(dir.path(), REPOSITORY).unwrap().known_runs().is_empty());
        assert!(files(dir.path()).is_empty());
    }
}

#[test]
fn in_memory_the_oldest_runs_are_forgotten_beyond_the_bound() {
    let index = DedupIndex::in_memory(REPOSITORY, 25);
    for n in 0..3 {
        index.add_run(key(n), &run(u64::from(n) * 10..u64::from(n) * 10 + 10)).unwrap();
    }
    assert_eq!(index.known_runs(), [key(1), key(2)].into());
    assert_eq!((index.lookup(&id(5)), index.lookup(&id(15))), (None, Some(at(15))));
    index.add_run(key(9), &run(100..200)).unwrap();
    assert!(index.known_runs().is_empty(), "a run that alone is over the bound is not kept");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_runs_are_found(runs in prop::collection::vec(prop::collection::vec(0_u64..400, 0..80), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let index = DedupIndex::open(dir.path(), REPOSITORY).unwrap();
        let mut known: BTreeSet<u64> = BTreeSet::new();
        for (n, numbers) in runs.iter().enumerate() {
            index.add_run(key(u8::try_from(n).unwrap()), &run(numbers.iter().copied())).unwrap();
            known.extend(numbers);
        }
        for n in 0..400 {
            prop_assert_eq!(index.lookup(&id(n)), known.contains(&n).then(|| at(n)));
        }
    }
}
