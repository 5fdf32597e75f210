use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn bytes(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|at| seed.wrapping_add(u8::try_from(at % 251).unwrap())).collect()
}

#[test]
fn what_was_appended_is_read_back_across_files_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let all = bytes(50 << 20, 1);
    let spool = Spool::open(folder.path()).unwrap();
    assert_eq!(spool.range(), None);
    let first = Position::new(0x1_0000_0100);
    for (number, chunk) in all.chunks(3_000_001).enumerate() {
        let start = first.plus((number * 3_000_001) as u64);
        spool.append(start, at(number.try_into().unwrap()), chunk).unwrap();
    }
    drop(spool);
    let spool = Spool::open(folder.path()).unwrap();
    assert_eq!(spool.range(), Some((first, first.plus(all.len() as u64))));
    let (mut read, mut from) = (Vec::new(), first);
    while let Some(piece) = spool.read(from, 8 << 20).unwrap() {
        assert!(piece.start == from && piece.bytes.len() <= 8 << 20);
        from = from.plus(piece.bytes.len() as u64);
        read.extend(piece.bytes);
    }
    assert!(read == all);
    let middle = spool.read(first.plus(7), 100).unwrap().unwrap();
    assert_eq!((middle.start, middle.bytes), (first.plus(7), all[7..107].to_vec()));
}

#[test]
fn what_is_archived_frees_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path()).unwrap();
    for number in 0..20 {
        spool.append(Position::new(number << 21), at(0), &bytes(2 << 20, 3)).unwrap();
    }
    let full = spool.disk_bytes();
    spool.release(Position::new(17 << 21)).unwrap();
    assert!(spool.disk_bytes() < full && spool.range().unwrap().0 <= Position::new(17 << 21));
    spool.release(Position::new(20 << 21)).unwrap();
    assert_eq!((spool.disk_bytes(), spool.range()), (0, None));
    spool.append(Position::new(20 << 21), at(0), b"goes on").unwrap();
    assert_eq!(spool.read(Position::new(20 << 21), 100).unwrap().unwrap().bytes, b"goes on");
}

#[test]
fn a_frame_that_a_crash_cut_short_is_taken_off_and_damage_before_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path()).unwrap();
    spool.append(Position::new(0), at(0), &bytes(1000, 1)).unwrap();
    let whole = spool.disk_bytes();
    spool.append(Position::new(1000), at(1), &bytes(1000, 2)).unwrap();
    let path = folder.path().join("0000000000000000.frames");
    let both = std::fs::read(&path).unwrap();
    drop(spool);
    let cut = usize::try_from(whole).unwrap();
    let zeroed = [&both[..cut + 100], &vec![0; both.len() - cut - 100]].concat();
    for torn in [&both[..cut + 1], &both[..cut + HEADER_BYTES], &both[..both.len() - 1], &zeroed] {
        std::fs::write(&path, torn).unwrap();
        let spool = Spool::open(folder.path()).unwrap();
        assert_eq!(spool.range(), Some((Position::new(0), Position::new(1000))));
        spool.append(Position::new(1000), at(1), &bytes(1000, 2)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), both);
    }
    // A file in the middle that is damaged, and one that is missing.
    std::fs::write(folder.path().join(format!("{:016x}.frames", 2000)), b"").unwrap();
    let mut hit = both;
    hit[500] ^= 1;
    std::fs::write(&path, &hit).unwrap();
    assert!(matches!(Spool::open(folder.path()), Err(SpoolError::Damaged { .. })));
}

#[test]
fn bytes_that_do_not_follow_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path()).unwrap();
    spool.append(Position::new(100), at(0), b"abc").unwrap();
    for wrong in [Position::new(100), Position::new(102), Position::new(104)] {
        assert!(matches!(spool.append(wrong, at(0), b"d"), Err(SpoolError::NotNext { .. })));
    }
    assert!(matches!(spool.read(Position::new(50), 10), Err(SpoolError::Damaged { .. })));
}

#[test]
fn in_a_log_of_files_the_next_one_follows_and_no_piece_has_bytes_of_two() {
    let place = |file: u64, offset: u64| Position::new(file << 32 | offset);
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path()).unwrap();
    spool.append(place(3, 100), at(0), b"the end of one").unwrap();
    for wrong in [place(5, 0), place(4, 4), place(3, 115)] {
        assert!(spool.append(wrong, at(0), b"elsewhere").is_err());
    }
    spool.append(place(4, 0), at(0), b"and the next").unwrap();
    drop(spool);
    let spool = Spool::open(folder.path()).unwrap();
    assert_eq!(spool.range(), Some((place(3, 100), place(4, 12))));
    let piece = |from| spool.read(from, 1000).unwrap().unwrap();
    assert_eq!(piece(place(3, 104)).bytes, b"end of one");
    let next = piece(place(3, 114));
    assert_eq!((next.start, &next.bytes[..]), (place(4, 0), &b"and the next"[..]));
    spool.release(place(3, 114)).unwrap();
    assert_eq!(piece(place(3, 114)).start, place(4, 0));
    assert_eq!(spool.read(place(4, 12), 1000).unwrap(), None);
}
