use crc32fast::Hasher;
use proptest::prelude::*;

use super::*;
use crate::{Changes, Entry, Index, LineageId, Position, Statements};

/// A file of a binary log, as a server writes it.
struct File {
    number: u32,
    bytes: Vec<u8>,
}

impl File {
    fn new(number: u32, before: &[Gtid]) -> Self {
        let mut file = Self { number, bytes: MAGIC.to_vec() };
        let mut body = vec![4, 0];
        body.extend(b"10.11.19-MariaDB-log");
        body.resize(2 + 50 + 4 + 1 + 30, 0);
        // Events have sums.
        body.push(1);
        file.event(kind::FORMAT_DESCRIPTION, 0, &body);
        let mut body = u32::try_from(before.len()).unwrap().to_le_bytes().to_vec();
        for gtid in before {
            body.extend(gtid.domain.to_le_bytes());
            body.extend(gtid.server.to_le_bytes());
            body.extend(gtid.sequence.to_le_bytes());
        }
        file.event(kind::GTID_LIST, 0, &body);
        file
    }

    fn end(&self) -> Position {
        place(self.number, u32::try_from(self.bytes.len()).unwrap())
    }

    fn event(&mut self, kind: u8, seconds: u32, body: &[u8]) -> &mut Self {
        let length = u32::try_from(HEADER_BYTES + body.len() + 4).unwrap();
        let end = u32::try_from(self.bytes.len()).unwrap() + length;
        let mut event = seconds.to_le_bytes().to_vec();
        event.push(kind);
        event.extend(7_u32.to_le_bytes());
        event.extend(length.to_le_bytes());
        event.extend(end.to_le_bytes());
        event.extend([0; 2]);
        event.extend(body);
        let mut sum = Hasher::new();
        sum.update(&event);
        event.extend(sum.finalize().to_le_bytes());
        self.bytes.extend(event);
        self
    }

    fn gtid(&mut self, sequence: u64, flags: u8) -> &mut Self {
        let mut body = sequence.to_le_bytes().to_vec();
        body.extend(0_u32.to_le_bytes());
        body.push(flags);
        body.extend([0; 6]);
        self.event(kind::GTID, 1_700_000_000 + u32::try_from(sequence).unwrap(), &body)
    }

    fn statement(&mut self, text: &str) -> &mut Self {
        let mut body = vec![0; 8];
        body.extend([4, 0, 0, 0, 0]);
        body.extend(b"shop\0");
        body.extend(text.as_bytes());
        self.event(kind::QUERY, 1_700_000_000, &body)
    }

    /// Rows of a table with one INT.
    fn rows(&mut self, which: u8, rows: u32) -> &mut Self {
        let mut map = vec![1, 0, 0, 0, 0, 0, 1, 0];
        map.extend(b"\x04shop\0\x01t\0\x01\x03\0\0");
        self.event(kind::TABLE_MAP, 1_700_000_000, &map);
        let mut body = vec![1, 0, 0, 0, 0, 0, 1, 0, 1, 0xFF];
        if which == 24 {
            body.push(0xFF);
        }
        for row in 0..rows * if which == 24 { 2 } else { 1 } {
            body.push(0);
            body.extend(row.to_le_bytes());
        }
        self.event(which, 1_700_000_000, &body)
    }

    fn transaction(&mut self, sequence: u64, inserted: u32) -> &mut Self {
        self.gtid(sequence, 4).rows(23, inserted).event(kind::XID, 1_700_000_000, &[0; 8])
    }
}

fn gtid(sequence: u64) -> Gtid {
    Gtid { domain: 0, server: 7, sequence }
}

/// Two files, with a bit of all.
fn log() -> Vec<File> {
    let mut first = File::new(17, &[gtid(4)]);
    first.transaction(5, 3);
    first.gtid(6, 1).statement("DROP TABLE t");
    first.gtid(7, 4).rows(24, 2).rows(25, 1).statement("COMMIT");
    first.event(kind::ROTATE, 0, b"\x04\0\0\0\0\0\0\0mysql-bin.000018");
    let mut second = File::new(18, &[gtid(7)]);
    second.gtid(8, 4).rows(23, 1).statement("ROLLBACK");
    second.transaction(9, 1);
    vec![first, second]
}

fn index(files: &[File], piece: usize) -> Result<(Vec<Entry>, Indexer), ReadError> {
    let mut indexer = Indexer::new(place(files[0].number, 0), LineageId(1));
    for file in files {
        for (part, bytes) in file.bytes.chunks(piece).enumerate() {
            indexer.push(place(file.number, u32::try_from(part * piece).unwrap()), bytes)?;
        }
    }
    Ok((Index::read(&indexer.cut().index).unwrap().entries, indexer))
}

#[test]
fn what_transactions_did_is_told_however_their_bytes_are_cut() {
    let files = log();
    let (told, indexer) = index(&files, usize::MAX).unwrap();
    let of = |changes: &Changes| (changes.inserted, changes.updated, changes.deleted, changes.statements);
    let commits: Vec<_> = told
        .iter()
        .filter_map(|entry| match entry {
            Entry::Commit(commit) => Some((commit.transaction.to_string(), of(&commit.changes))),
            _ => None,
        })
        .collect();
    let none = Statements::NONE;
    assert_eq!(
        commits,
        [
            ("0-7-5".to_owned(), (3, 0, 0, none)),
            ("0-7-6".to_owned(), (0, 0, 0, Statements::DROP)),
            ("0-7-7".to_owned(), (0, 2, 1, none)),
            ("0-7-9".to_owned(), (1, 0, 0, none)),
        ]
    );
    assert!(matches!(told[3], Entry::RolledBack(_)));
    assert_eq!(indexer.whole_to(), files[1].end());
    for piece in [1, 2, 3, 7, 100] {
        assert_eq!(index(&files, piece).unwrap().0, told, "pieces of {piece}");
    }
}

#[test]
fn what_has_no_stamp_is_not_earlier_than_what_is_before_it() {
    let mut file = File::new(3, &[]);
    file.transaction(7, 1);
    let mut body = 8_u64.to_le_bytes().to_vec();
    body.extend([0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    // As a server that starts after a crash writes it.
    file.event(kind::GTID, 0, &body).statement("DROP TABLE shop.t");
    let (entries, _) = index(&[file], 1000).unwrap();
    let times: Vec<_> = entries
        .iter()
        .map(|entry| match entry {
            Entry::Commit(commit) => commit.at.as_second(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(times.len() == 2 && times[1] >= times[0], "{times:?}");
}

#[test]
fn a_transaction_under_way_is_what_a_stretch_is_whole_up_to() {
    let mut file = File::new(17, &[]);
    file.transaction(1, 1);
    let begins = file.end();
    file.gtid(2, 4).rows(23, 2);
    let (_, mut indexer) = index(std::slice::from_ref(&file), usize::MAX).unwrap();
    assert_eq!(indexer.whole_to(), begins);
    let at = file.end();
    let from = file.bytes.len();
    file.event(kind::XID, 0, &[0; 8]);
    indexer.push(at, &file.bytes[from..]).unwrap();
    let stretch = indexer.cut();
    assert_eq!((stretch.whole_to, stretch.last_record), (file.end(), Some(begins)));
    assert_eq!(stretch.commits.unwrap().first.start, begins);
}

#[test]
fn a_log_that_is_begun_anywhere_is_read_from_the_next_transaction_on() {
    let files = log();
    let (told, _) = index(&files, usize::MAX).unwrap();
    for from in 1..files[0].bytes.len() {
        for piece in [5, usize::MAX] {
            let at = |from: usize| place(17, u32::try_from(from).unwrap());
            let mut indexer = Indexer::anywhere(at(from), LineageId(1));
            for (part, bytes) in files[0].bytes[from..].chunks(piece).enumerate() {
                indexer.push(at(from + part * piece.min(1 << 20)), bytes).unwrap();
            }
            indexer.push(place(18, 0), &files[1].bytes).unwrap();
            let found = Index::read(&indexer.cut().index).unwrap().entries;
            let wanted: Vec<_> = told.iter().filter(|entry| entry.start() >= at(from)).cloned().collect();
            assert_eq!(found, wanted, "from byte {from}");
        }
    }
}

#[test]
fn damage_is_an_error_with_its_place_and_files_follow_one_another() {
    let files = log();
    for at in 0..files[0].bytes.len() {
        let mut damaged = log();
        damaged[0].bytes[at] ^= 0x40;
        // The flag "in use" of a description is no part of its sum; this is another bit.
        assert!(index(&damaged, usize::MAX).is_err(), "byte {at}");
    }
    let mut jump = log();
    jump[1].number = 19;
    assert!(matches!(index(&jump, usize::MAX), Err(ReadError::Jump { .. })));
    let mut incident = log();
    incident[1].event(kind::INCIDENT, 0, &[1, 0, 0]);
    assert!(matches!(index(&incident, usize::MAX), Err(ReadError::Incident { .. })));
}

#[test]
fn a_replay_is_told_from_what_the_copy_has_and_ends_with_the_transaction_before_the_cut() {
    let files = log();
    let scan = |mut scan: ReplayScan| {
        let mut reader = LogReader::new(place(17, 0));
        for file in &files {
            let push = reader.push(place(file.number, 0), &file.bytes, |event| {
                scan.event(event);
                Ok(())
            });
            push.unwrap();
        }
        scan.finish()
    };
    let (told, _) = index(&files, usize::MAX).unwrap();
    let state = |text: &str| text.parse::<GtidState>().unwrap();
    let cut = told[2].end();
    let behind = scan(ReplayScan::behind(state("0-7-5"), cut)).unwrap();
    assert_eq!((behind.from, behind.to, behind.transactions), (told[0].end(), cut, 2));
    assert_eq!((behind.before, behind.after), (state("0-7-5"), state("0-7-7")));
    let from = scan(ReplayScan::from(told[0].end(), cut)).unwrap();
    assert_eq!((from.before, from.after, from.transactions), (state("0-7-5"), state("0-7-7"), 2));
    // Within a transaction: whoever begins before the cut is in.
    let within = scan(ReplayScan::from(told[0].end(), told[1].start().plus(1))).unwrap();
    assert_eq!((within.to, within.after), (told[1].end(), state("0-7-6")));
    let nothing = scan(ReplayScan::behind(state("0-7-4"), told[0].start())).unwrap();
    assert_eq!((nothing.transactions, nothing.after), (0, state("0-7-4")));
    // A copy that is further than the target, or of another history.
    for has in ["0-7-9", "0-7-3", "0-8-5"] {
        let refused = scan(ReplayScan::behind(state(has), cut));
        assert!(matches!(refused, Err(Unreplayable::NotThere { .. })), "{has}");
    }
    let inside = scan(ReplayScan::from(told[0].start().plus(50), cut));
    assert!(matches!(inside, Err(Unreplayable::WithinTransaction { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn hostile_bytes_are_refused_or_read_and_never_more(
        events in prop::collection::vec((0_u8..200, prop::collection::vec(any::<u8>(), 0..80)), 0..12),
        tail in prop::collection::vec(any::<u8>(), 0..60),
        piece in 1_usize..50,
    ) {
        let mut file = File::new(1, &[]);
        for (kind, body) in events {
            // With right sums, so that what is in them is looked at.
            file.event(if kind < 60 { 162 } else { kind % 60 }, u32::from(kind), &body);
        }
        file.bytes.extend(tail);
        let _ = index(&[file], piece);
    }

    #[test]
    fn hostile_rows_are_counted_or_not_and_never_more(
        map in prop::collection::vec(any::<u8>(), 0..80),
        rows in prop::collection::vec(any::<u8>(), 0..80),
        which in 23_u8..33,
    ) {
        let mut file = File::new(1, &[]);
        file.gtid(1, 4);
        file.event(kind::TABLE_MAP, 0, &[&[1, 0, 0, 0, 0, 0, 1, 0, 1, b's', 0, 1, b't', 0][..], &map].concat());
        file.event(which, 0, &[&[1, 0, 0, 0, 0, 0, 1, 0][..], &rows].concat());
        file.event(kind::XID, 0, &[0; 8]);
        let told = index(&[file], usize::MAX);
        prop_assert!(told.is_ok() || matches!(which, 26 | 27));
    }
}
