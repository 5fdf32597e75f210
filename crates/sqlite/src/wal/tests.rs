use proptest::prelude::*;

use super::*;
use crate::{Cursor, Reader, Record, Shared};

#[test]
fn the_log_file_that_sqlite_writes_is_understood_frame_by_frame() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let database = rusqlite::Connection::open(&path).unwrap();
    database
        .execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t (a); INSERT INTO t VALUES (1); INSERT INTO t VALUES (2);")
        .unwrap();
    let log = std::fs::read(folder.path().join("a.db-wal")).unwrap();
    let index = std::fs::read(folder.path().join("a.db-shm")).unwrap();
    let header = WalHeader::parse(&log).unwrap();
    let shared = Shared::parse(&index).unwrap();
    assert_eq!((header.page_bytes, header.salts), (4096, shared.salts));
    let (mut sum, mut commits) = (header.sum, 0);
    for number in 1..=shared.frames {
        let at = usize::try_from(header.offset(number)).unwrap();
        let frame = Frame::parse(&log[at..], &header, number, sum).unwrap();
        sum = frame.sum;
        commits += u32::from(frame.pages_after > 0);
    }
    assert_eq!((sum, commits), (shared.sum, 3));
    let at = usize::try_from(header.offset(1)).unwrap();
    for damaged in [at, at + 30, at + 16] {
        let mut log = log.clone();
        log[damaged] ^= 1;
        assert_eq!(Frame::parse(&log[at..], &header, 1, header.sum), Err(WalError::Sum { frame: 1 }));
    }
    let mut other = log.clone();
    other[at + 8] ^= 1;
    assert_eq!(Frame::parse(&other[at..], &header, 1, header.sum), Err(WalError::Salts { frame: 1 }));
    assert_eq!(Frame::parse(&log[at..at + 99], &header, 1, header.sum), Err(WalError::Short { frame: 1 }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn hostile_bytes_are_refused_and_never_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..9000),
        looks_right in any::<bool>(),
        cut in 0_usize..9000,
    ) {
        if looks_right && bytes.len() > 64 {
            bytes[..12].copy_from_slice(&[0x37, 0x7f, 0x06, 0x82, 0, 0x2d, 0xe2, 0x18, 0, 0, 2, 0]);
            let sum = Sum::default().over(&bytes[..24], false);
            bytes[24..28].copy_from_slice(&sum.0.to_be_bytes());
            bytes[28..32].copy_from_slice(&sum.1.to_be_bytes());
        }
        let header = WalHeader::parse(&bytes);
        if let Ok(header) = header {
            let _ = Frame::parse(&bytes[bytes.len().min(32)..], &header, u32::MAX, header.sum);
            let _ = header.offset(u32::MAX);
        }
        let _ = Shared::parse(&bytes);
        let mut reader = Reader::new(strongroom_database::Position::new(u64::MAX - 5), strongroom_database::LineageId(1));
        let (first, second) = bytes.split_at(cut.min(bytes.len()));
        let at = strongroom_database::Position::new(u64::MAX - 5);
        if reader.push(at, first).is_ok() {
            let _ = reader.push(at.plus(first.len() as u64), second);
        }
        reader.cut();
        let _ = Record::take(&bytes);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cursor");
        std::fs::write(&path, &bytes).unwrap();
        prop_assert_eq!(Cursor::read(&path), None);
    }

    #[test]
    fn a_record_is_read_as_it_was_written(page in 1_u32.., pages_after: u32, commit: u64, at in 0_i64..4_000_000_000_000_000, power in 9_u32..17) {
        let content = vec![7; 1 << power];
        let record = Record {
            page, pages_after, commit,
            received_at: jiff::Timestamp::from_microsecond(at).unwrap(),
            frame: 9, salts: *b"saltsalt", sum: Sum(1, 2), content: &content,
        };
        let mut bytes = Vec::new();
        record.put(&mut bytes);
        let (read, rest) = Record::take(&bytes).unwrap().unwrap();
        prop_assert_eq!(read, record);
        prop_assert!(rest.is_empty());
        prop_assert_eq!(Record::take(&bytes[..bytes.len() - 1]).unwrap(), None);
    }
}
