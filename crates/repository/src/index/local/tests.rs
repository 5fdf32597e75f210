use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

const REPOSITORY: RepositoryId = RepositoryId::from_bytes([0x5a; 16]);

/// Everything happens with some hundred rows.
const SMALL: Sizes = Sizes { fresh_files: 2, settle_rows: 200, settle_share: 4, part_rows: 100 };

fn id(n: u64) -> ChunkId {
    ChunkId::from_bytes(*blake3::hash(&n.to_le_bytes()).as_bytes())
}

fn pack(n: u64) -> PackId {
    PackId::from_bytes(u128::from(n / 100).to_be_bytes())
}

fn at(n: u64) -> EntryRef {
    EntryRef { pack: pack(n), entry: u32::try_from(n % 100).unwrap() }
}

fn run(numbers: impl IntoIterator<Item = u64>) -> IndexRun {
    IndexRun::take_from(&mut numbers.into_iter().map(|n| (id(n), at(n))).collect())
}

fn key(n: u64) -> RunKey {
    u128::from(n).to_be_bytes()
}

fn all(_: &PackId) -> bool {
    true
}

fn small(dir: &Path) -> DedupIndex {
    DedupIndex::open_with(dir, REPOSITORY, SMALL).unwrap()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some());
    paths.sort();
    paths
}

fn of_kind(dir: &Path, kind: &str) -> Vec<PathBuf> {
    files(dir)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == kind))
        .collect()
}

/// Copies what a killed process would leave.
fn copy(from: &Path, to: &Path) {
    for path in files(from) {
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[test]
fn what_was_added_is_found_also_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let index = DedupIndex::open(dir.path(), REPOSITORY).unwrap();
    index.add_run(key(1), &run(0..1000), &all).unwrap();
    index.add_run(key(2), &run(1000..1001), &all).unwrap();
    index.add_run(key(2), &run(5000..5001), &all).unwrap();
    for index in [index, DedupIndex::open(dir.path(), REPOSITORY).unwrap()] {
        assert!((0..1001).all(|n| index.lookup(&id(n)) == Some(at(n))));
        assert!((1001..6000).all(|n| index.lookup(&id(n)).is_none()));
        assert_eq!(index.known_runs(), [key(1), key(2)].into());
        assert!(index.knows_pack(&pack(999)) && !index.knows_pack(&pack(5000)));
    }
    let stranger = DedupIndex::open(dir.path(), RepositoryId::from_bytes([1; 16])).unwrap();
    assert!(stranger.known_runs().is_empty(), "another repository's index is not ours");
}

#[test]
fn many_runs_settle_into_parts_and_few_fresh_files_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let index = small(dir.path());
    let mut most_parts = 0;
    for n in 0..60 {
        index.add_run(key(n), &run(n * 30..n * 30 + 31), &all).unwrap();
        let fresh = of_kind(dir.path(), "run").len();
        assert!(fresh <= 2 * SMALL.fresh_files, "{fresh} fresh files after {n}");
        assert!(of_kind(dir.path(), "packs").len() <= 2, "after {n}");
        most_parts = most_parts.max(of_kind(dir.path(), "part").len());
        assert!((0..=n * 30 + 30).step_by(7).all(|row| index.lookup(&id(row)) == Some(at(row))), "after {n}");
    }
    assert!(most_parts > 8, "1,800 rows are more than one part: {most_parts}");
    assert!((0..60 * 30).all(|n| index.lookup(&id(n)) == Some(at(n))));
    assert!((1801..3000).all(|n| index.lookup(&id(n)).is_none()));
    assert_eq!(index.known_runs().len(), 60);
    index.clear().unwrap();
    assert!(files(dir.path()).is_empty() && index.lookup(&id(1)).is_none());
}

#[test]
fn a_process_killed_after_any_step_leaves_an_index_that_knows_all_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let index = small(dir.path());
    for n in 0..40 {
        index.add_run(key(n), &run(n * 30..n * 30 + 30), &all).unwrap();
        let left = tempfile::tempdir().unwrap();
        copy(dir.path(), left.path());
        std::fs::write(left.path().join("0.draft"), b"half a file").unwrap();
        let after = small(left.path());
        assert_eq!(after.known_runs(), index.known_runs());
        assert!((0..n * 30 + 30).all(|row| after.lookup(&id(row)) == Some(at(row))), "after {n}");
        for more in 100..110 {
            after.add_run(key(more), &run(more * 30..more * 30 + 30), &all).unwrap();
        }
        assert!((0..n * 30 + 30).all(|row| after.lookup(&id(row)) == Some(at(row))), "after {n} and more");
        assert_eq!(after.known_runs().len() as u64, n + 11);
        assert!(of_kind(left.path(), "draft").is_empty());
    }
}

#[test]
fn sources_that_a_kill_left_beside_what_was_made_of_them_do_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let index = small(dir.path());
    let before = tempfile::tempdir().unwrap();
    for n in 0..30 {
        index.add_run(key(n), &run(n * 30..n * 30 + 30), &all).unwrap();
        // Whatever was there at any time is there again, beside what there is now.
        let left = tempfile::tempdir().unwrap();
        copy(before.path(), left.path());
        copy(dir.path(), left.path());
        copy(dir.path(), before.path());
        let after = small(left.path());
        after.add_run(key(1000), &run([90_000]), &all).unwrap();
        assert!((0..n * 30 + 30).all(|row| after.lookup(&id(row)) == Some(at(row))), "after {n}");
        assert!(of_kind(left.path(), "packs").len() <= 2);
    }
}

#[test]
fn the_newest_place_comes_first_and_older_ones_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let index = small(dir.path());
    let again = EntryRef { pack: PackId::from_bytes([0xff; 16]), entry: 7 };
    index.add_run(key(1), &run(0..10), &all).unwrap();
    index.add_run(key(2), &IndexRun::take_from(&mut vec![(id(3), again)]), &all).unwrap();
    let places = || {
        let mut places = Vec::new();
        let refuse_all = |at| {
            places.push(at);
            false
        };
        assert_eq!(index.find(&id(3), refuse_all), None);
        places
    };
    assert_eq!(places(), [again, at(3)]);
    assert_eq!(index.find(&id(3), |place| place == at(3)), Some(at(3)));
    for n in 3..40 {
        index.add_run(key(n), &run(n * 100..n * 100 + 20), &all).unwrap();
    }
    let places: BTreeSet<_> = places().into_iter().collect();
    assert_eq!(places, [again, at(3)].into());
}

#[test]
fn rows_of_packs_that_have_left_the_table_are_dropped_and_those_of_a_backup_under_way_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let index = small(dir.path());
    let dead = |from: u64| move |pack: &PackId| u128::from_be_bytes(*pack.bytes()) >= u128::from(from);
    // Nothing is in the table yet: a backup is under way.
    for n in 0..20 {
        index.add_run(key(n), &run(n * 30..n * 30 + 30), &|_| false).unwrap();
    }
    assert!((0..600).all(|n| index.lookup(&id(n)).is_some()), "its chunks are known");
    for n in 20..40 {
        index.add_run(key(n), &run(n * 30..n * 30 + 30), &all).unwrap();
    }
    assert!((0..1200).all(|n| index.lookup(&id(n)).is_some()));
    for n in 40..80 {
        index.add_run(key(n), &run(n * 30..n * 30 + 30), &dead(3)).unwrap();
    }
    assert!((0..300).all(|n| index.lookup(&id(n)).is_none()), "packs 0 to 2 are gone");
    assert!((300..2400).all(|n| index.lookup(&id(n)) == Some(at(n))));
    // Another process finds most of it dead, and does not wait for more rows.
    drop(index);
    let index = small(dir.path());
    for n in 80..180 {
        index.add_run(key(n), &run([n * 1000]), &dead(22)).unwrap();
    }
    assert!(index.rows() < 600, "{} rows for 300 that live", index.rows());
}

#[test]
fn a_flipped_cut_or_foreign_file_is_dropped_and_never_gives_a_wrong_place() {
    let dir = tempfile::tempdir().unwrap();
    DedupIndex::open(dir.path(), REPOSITORY).unwrap().add_run(key(1), &run(0..600), &all).unwrap();
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
        // A wrong bit in the filter costs a chunk or a read; whatever else is wrong costs the file.
        let is_filter = byte < 4096;
        assert!(is_filter || index.known_runs().is_empty(), "byte {byte}");
        index.clear().unwrap();
        index.add_run(key(1), &run(0..600), &all).unwrap();
        assert_eq!(index.lookup(&id(5)), Some(at(5)));
    }
    for cut in [0, 1, 47, 48, 1000, good.len() - 1] {
        std::fs::write(&path, &good[..cut]).unwrap();
        let index = DedupIndex::open(dir.path(), REPOSITORY).unwrap();
        assert!(index.known_runs().is_empty());
        index.add_run(key(2), &run(7..8), &all).unwrap();
        assert_eq!(files(dir.path()).len(), 1, "what was cut is gone");
        index.clear().unwrap();
    }
}

#[test]
fn damage_in_the_settled_tier_drops_it_and_its_runs_are_asked_for_again() {
    let dir = tempfile::tempdir().unwrap();
    let index = small(dir.path());
    for n in 0..30 {
        index.add_run(key(n), &run(n * 30..n * 30 + 30), &all).unwrap();
    }
    drop(index);
    for kind in ["part", "packs"] {
        for at_byte in [0, 5000, usize::MAX] {
            let left = tempfile::tempdir().unwrap();
            copy(dir.path(), left.path());
            let path = of_kind(left.path(), kind).pop().unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            let byte = at_byte.min(bytes.len() - 1);
            let page = byte..bytes.len().min(byte + 4096);
            bytes[page].fill(0);
            std::fs::write(&path, bytes).unwrap();
            let index = small(left.path());
            assert!((0..900).all(|n| index.lookup(&id(n)).is_none_or(|found| found == at(n))));
            let known = index.known_runs();
            for n in (0..30).filter(|n| !known.contains(&key(*n))) {
                index.add_run(key(n), &run(n * 30..n * 30 + 30), &all).unwrap();
            }
            assert!((0..900).all(|n| index.lookup(&id(n)) == Some(at(n))), "{kind} at {byte}");
        }
    }
}

#[test]
fn two_processes_write_in_turn_and_one_that_must_not_keeps_its_own_to_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (small(dir.path()), small(dir.path()));
    first.add_run(key(1), &run(0..50), &all).unwrap();
    second.add_run(key(2), &run(50..100), &all).unwrap();
    assert!((0..100).all(|n| second.lookup(&id(n)) == Some(at(n))));
    // One goes on and takes the files away that the other has open.
    for n in 4..40 {
        first.add_run(key(n), &run(n * 30..n * 30 + 30), &all).unwrap();
    }
    assert!((0..100).all(|n| second.lookup(&id(n)) == Some(at(n))));
    assert!((0..1200).all(|n| first.lookup(&id(n)) == Some(at(n)) || (100..120).contains(&n)));
    // While a third is writing.
    let lock = std::fs::File::options().write(true).open(dir.path().join("lock")).unwrap();
    lock.lock().unwrap();
    second.add_run(key(3), &run(5000..5050), &all).unwrap();
    assert!((5000..5050).all(|n| second.lookup(&id(n)) == Some(at(n))));
    lock.unlock().unwrap();
    second.add_run(key(41), &run(6000..6001), &all).unwrap();
    assert!((0..100).chain(120..1200).all(|n| second.lookup(&id(n)) == Some(at(n))));
    assert_eq!(small(dir.path()).known_runs().len(), 39, "all but what was kept aside");
}

#[test]
fn in_memory_the_oldest_runs_are_forgotten_beyond_the_bound() {
    let index = DedupIndex::in_memory(25);
    for n in 0..3 {
        index.add_run(key(n), &run(n * 10..n * 10 + 10), &all).unwrap();
    }
    assert_eq!(index.known_runs(), [key(1), key(2)].into());
    assert_eq!((index.lookup(&id(5)), index.lookup(&id(15))), (None, Some(at(15))));
    index.add_run(key(9), &run(100..200), &all).unwrap();
    assert!(index.known_runs().is_empty(), "a run that alone is over the bound is not kept");
}

/// What happens to an index.
#[derive(Debug, Clone)]
enum Step {
    Add(Vec<u64>),
    Reopen,
    Die(u64),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn it_says_what_a_plain_table_says(steps in prop::collection::vec(prop_oneof![
        8 => prop::collection::vec(0_u64..4000, 0..120).prop_map(Step::Add),
        1 => Just(Step::Reopen),
        1 => (0_u64..40).prop_map(Step::Die),
    ], 1..50)) {
        let dir = tempfile::tempdir().unwrap();
        let mut index = small(dir.path());
        let (mut known, mut dead) = (BTreeSet::new(), BTreeSet::new());
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::Add(numbers) => {
                    // A pack that has left the table never comes back.
                    let alive: Vec<u64> = numbers.into_iter().filter(|n| !dead.contains(&pack(*n))).collect();
                    let listed = |pack: &PackId| !dead.contains(pack);
                    index.add_run(key(n as u64), &run(alive.iter().copied()), &listed).unwrap();
                    known.extend(alive);
                }
                Step::Reopen => {
                    drop(index);
                    index = small(dir.path());
                }
                Step::Die(number) => drop(dead.insert(pack(number * 100))),
            }
        }
        for n in 0..4000 {
            let found = index.lookup(&id(n));
            let is_dead = dead.contains(&pack(n));
            prop_assert!(found == known.contains(&n).then(|| at(n)) || (is_dead && found.is_none()), "{n}: {found:?}");
        }
    }

    #[test]
    fn no_file_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), good in any::<bool>(), kind in 0_usize..3) {
        let dir = tempfile::tempdir().unwrap();
        let name = ["00.run", "0000000000000001-0.packs", "0000000000000001-00.part"][kind];
        // With a tail that is right, so that what is inside is looked at.
        let mut file = bytes.clone();
        if good {
            file.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            file.extend_from_slice(blake3::hash(&bytes).as_bytes());
            file.extend_from_slice(b"SRGMIDX3");
        }
        std::fs::write(dir.path().join(name), file).unwrap();
        let index = small(dir.path());
        prop_assert!((0..10).all(|n| index.lookup(&id(n)).is_none()));
        index.add_run(key(1), &run(0..10), &all).unwrap();
        prop_assert!((0..10).all(|n| index.lookup(&id(n)) == Some(at(n))));
    }
}
