#![expect(clippy::single_range_in_vec_init, reason = "lists of ranges are what a journal takes")]

use super::*;

fn header() -> Header {
    Header {
        version: Header::VERSION,
        run: RunId::from_bytes([1; 16]),
        repository: RepositoryId::from_bytes([2; 16]),
        point: RecoveryPointId::from_bytes([3; 16]),
        target: "file /x".into(),
        volume_bytes: 1000 << 16,
        chunk_bytes: 1 << 16,
        base: "nothing".into(),
        staged: None,
    }
}

fn durable(ranges: &[Range<u64>]) -> Durable {
    Durable::sync(ranges.to_vec(), || Ok::<_, io::Error>(())).unwrap()
}

fn open(path: &Path) -> Option<Box<Journal>> {
    match Journal::open(path).unwrap() {
        Found::Journal(journal) => Some(journal),
        Found::Nothing => None,
    }
}

#[test]
fn what_was_recorded_is_read_back_and_more_can_be_added() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.journal");
    assert!(open(&path).is_none());
    let mut journal = Journal::create(&path, header()).unwrap();
    journal.record(durable(&[5..7, 0..2, 2..3])).unwrap();
    drop(journal);
    let mut journal = open(&path).unwrap();
    assert_eq!(journal.header(), &header());
    assert_eq!(journal.done().present(0..1000), [0..3, 5..7]);
    journal.record(durable(&[3..5])).unwrap();
    journal.reach(Stage::Hydrated).unwrap();
    drop(journal);
    let mut journal = open(&path).unwrap();
    assert_eq!((journal.done().present(0..1000), journal.stage()), (vec![0..7], Stage::Hydrated));
    journal.retract(&[1..2, 6..7]).unwrap();
    drop(journal);
    let journal = open(&path).unwrap();
    assert_eq!(journal.done().present(0..1000), [0..1, 2..6]);
    journal.remove().unwrap();
    assert!(!path.exists());
}

#[test]
fn a_journal_cut_or_damaged_anywhere_never_claims_more_than_was_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.journal");
    let mut journal = Journal::create(&path, header()).unwrap();
    let mut ends = vec![std::fs::metadata(&path).unwrap().len()];
    for start in [0, 10, 20] {
        journal.record(durable(&[start..start + 3])).unwrap();
        ends.push(std::fs::metadata(&path).unwrap().len());
    }
    drop(journal);
    let whole = std::fs::read(&path).unwrap();
    for cut in 0..=whole.len() {
        for flip in [false, true] {
            let mut bytes = whole.clone();
            if flip {
                if cut == whole.len() {
                    continue;
                }
                bytes[cut] ^= 0x40;
            } else {
                bytes.truncate(cut);
            }
            std::fs::write(&path, &bytes).unwrap();
            let good = ends.iter().filter(|&&end| end <= cut as u64).count();
            match open(&path) {
                None => assert_eq!(good, 0, "cut {cut}"),
                Some(journal) => {
                    assert_eq!(journal.done().count(), (good as u64 - 1) * 3, "cut {cut} flip {flip}");
                }
            }
        }
    }
}

#[test]
fn what_is_recorded_after_a_torn_tail_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.journal");
    let mut journal = Journal::create(&path, header()).unwrap();
    journal.record(durable(&[1..2])).unwrap();
    drop(journal);
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(&[16, 0, 0, 0, 2, 9, 9]).unwrap();
    drop(file);
    open(&path).unwrap().record(durable(&[2..3])).unwrap();
    assert_eq!(open(&path).unwrap().done().present(0..1000), [1..3]);
}

#[test]
fn a_failed_sync_vouches_for_nothing() {
    assert!(Durable::sync(vec![0..1], || Err(io::Error::other("full"))).is_err());
}

#[test]
fn two_processes_cannot_work_on_one_target() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.journal");
    let _held = Journal::create(&path, header()).unwrap();
    assert!(matches!(Journal::open(&path), Err(JournalError::Locked { .. })));
    assert!(matches!(Journal::create(&path, header()), Err(JournalError::Locked { .. })));
    assert!(Journal::peek(&path).unwrap().is_some(), "a plan may look");
}

#[test]
fn another_point_or_target_does_not_continue_a_run() {
    let ours = header();
    assert!(ours.continues(&Header { run: RunId::from_bytes([9; 16]), ..header() }));
    assert!(!ours.continues(&Header { point: RecoveryPointId::from_bytes([9; 16]), ..header() }));
    assert!(!ours.continues(&Header { target: "file /y".into(), ..header() }));
    assert!(!ours.continues(&Header { base: "a clone".into(), ..header() }));
}
