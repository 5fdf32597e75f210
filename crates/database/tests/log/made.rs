//! Logs that are made here: what was written is what is read, whatever the version, the pieces and the place.

use proptest::prelude::*;
use strongroom_database::postgres::{Start, Version};
use strongroom_database::{
    Changes, Commit, Entry, Index, Indexer, LineageId, Position, Statements, TransactionId,
};

use crate::writer::{Draft, SEGMENT, Writer};
use crate::{key, read};

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Rows { transaction: u32, file: u32, kind: u8, bytes: usize },
    Commit { transaction: u32, at: i64, subtransactions: Vec<u32>, files: u32, prepared: bool },
    Rollback { transaction: u32, at: i64 },
    Name { name: String, at: i64 },
    Big { bytes: usize },
    Switch,
    Crash { bytes: usize },
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let transaction = 700..760_u32;
    let at = -1_000_000..900_000_000_000_000_i64;
    let step = prop_oneof![
        8 => (transaction.clone(), prop_oneof![Just(1259_u32), Just(1249), 16384..16390_u32], 0..4_u8, 0..300_usize)
            .prop_map(|(transaction, file, kind, bytes)| Step::Rows { transaction, file, kind, bytes }),
        6 => (transaction.clone(), at.clone(), prop::collection::vec(700..760_u32, 0..5), 0..3_u32, any::<bool>())
            .prop_map(|(transaction, at, subtransactions, files, prepared)| Step::Commit { transaction, at, subtransactions, files, prepared }),
        2 => (transaction, at.clone()).prop_map(|(transaction, at)| Step::Rollback { transaction, at }),
        1 => ("[a-zé ]{0,20}", at).prop_map(|(name, at)| Step::Name { name, at }),
        1 => (0..30_000_usize).prop_map(|bytes| Step::Big { bytes }),
        1 => Just(Step::Switch),
        1 => (0..9000_usize).prop_map(|bytes| Step::Crash { bytes }),
    ];
    prop::collection::vec(step, 1..60)
}

const YEAR_2000: i64 = 946_684_800_000_000;

fn time(at: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_microsecond(at + YEAR_2000).unwrap()
}

/// Writes the steps, and says what is to be read of them.
pub(crate) fn write(major: u16, steps: &[Step]) -> (Writer, Vec<Entry>) {
    let mut writer = Writer::new(major, 5 * SEGMENT);
    let mut entries = Vec::new();
    let plain =
        |manager, info, transaction, data| Draft { manager, info, transaction, blocks: Vec::new(), data };
    for step in steps {
        match step {
            Step::Rows { transaction, file, kind, bytes } => {
                let info = [0x00, 0x10, 0x20, 0x40][usize::from(*kind)];
                let blocks = vec![(*file, *bytes)];
                writer.write(&Draft {
                    manager: 10,
                    info,
                    transaction: *transaction,
                    blocks,
                    data: vec![1; 3],
                });
            }
            Step::Commit { transaction, at, subtransactions, files, prepared } => {
                let mut data = at.to_le_bytes().to_vec();
                let mut flags = 2_u32 | 4;
                flags |= if *prepared { 16 } else { 0 };
                data.extend(flags.to_le_bytes());
                data.extend(u32::try_from(subtransactions.len()).unwrap().to_le_bytes());
                subtransactions.iter().for_each(|one| data.extend(one.to_le_bytes()));
                data.extend(files.to_le_bytes());
                data.extend(std::iter::repeat_n(9, usize::try_from(*files).unwrap() * 12));
                if *prepared {
                    data.extend(transaction.to_le_bytes());
                }
                let (info, by) = if *prepared { (0xB0, 0) } else { (0x80, *transaction) };
                let (start, end) = writer.write(&plain(1, info, by, data));
                entries.push(Entry::Commit(Commit {
                    start: Position::new(start),
                    end: Position::new(end),
                    at: time(*at),
                    transaction: TransactionId::Number(u64::from(*transaction)),
                    changes: Changes::default(),
                }));
            }
            Step::Rollback { transaction, at } => {
                let (start, end) = writer.write(&plain(1, 0x20, *transaction, at.to_le_bytes().to_vec()));
                entries.push(Entry::RolledBack(strongroom_database::Ended {
                    start: Position::new(start),
                    end: Position::new(end),
                    at: time(*at),
                    transaction: TransactionId::Number(u64::from(*transaction)),
                }));
            }
            Step::Name { name, at } => {
                let mut data = at.to_le_bytes().to_vec();
                data.extend(name.bytes());
                data.resize(72, 0);
                let (start, end) = writer.write(&plain(0, 0x70, 0, data));
                entries.push(Entry::Named(strongroom_database::NamedPoint {
                    name: name.clone(),
                    start: Position::new(start),
                    end: Position::new(end),
                    at: time(*at),
                }));
            }
            Step::Big { bytes } => {
                writer.write(&Draft {
                    manager: 11,
                    info: 0,
                    transaction: 0,
                    blocks: vec![(20_000, *bytes)],
                    data: vec![0; 400],
                });
            }
            Step::Switch => writer.switch(),
            Step::Crash { bytes } => {
                writer.crash_within(&plain(11, 0, 0, vec![7; *bytes]));
            }
        }
    }
    (writer, entries)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_is_read_in_pieces_of_any_size(
        steps in steps(), major in 13..=17_u16, sizes in prop::collection::vec(1..9000_usize, 1..6),
    ) {
        let (writer, written) = write(major, &steps);
        let start = Start::Anywhere(Position::new(writer.from));
        let (entries, reader, result) = read(start, &writer.bytes, &sizes, 1 << 20, None);
        prop_assert_eq!(result, Ok(()));
        prop_assert_eq!(entries.iter().map(key).collect::<Vec<_>>(), written.iter().map(key).collect::<Vec<_>>());
        prop_assert_eq!(reader.position(), Position::new(writer.at()));
        if !writer.bytes.is_empty() {
            prop_assert_eq!(reader.version().map(Version::major), Some(major));
            prop_assert_eq!(reader.system(), Some(7_654_321));
        }
    }

    #[test]
    fn reading_from_anywhere_and_from_a_boundary_gives_the_rest(
        steps in steps(), major in 13..=17_u16, part in 0..1000_usize,
    ) {
        let (writer, _) = write(major, &steps);
        let from = Start::Anywhere(Position::new(writer.from));
        let cut = writer.bytes.len() * part / 1000;
        let (all, ..) = read(from, &writer.bytes, &[4096], 1 << 20, None);
        let (before, first, result) = read(from, &writer.bytes[..cut], &[4096], 1 << 20, None);
        prop_assert_eq!(result, Ok(()));

        // A boundary: nothing is missing, nothing comes twice.
        let at = first.whole_to();
        let rest = &writer.bytes[usize::try_from(at.since(Position::new(writer.from))).unwrap().min(writer.bytes.len())..];
        let (after, _, result) = read(Start::Boundary(at), rest, &[777], 1 << 20, Version::of_major(major));
        prop_assert_eq!(result, Ok(()));
        let both = before.iter().chain(&after).map(key).collect::<Vec<_>>();
        prop_assert_eq!(both, all.iter().map(key).collect::<Vec<_>>());

        // Anywhere: what begins behind the next page.
        let at = Position::new(writer.from + cut as u64);
        let (after, _, result) = read(Start::Anywhere(at), &writer.bytes[cut..], &[777], 1 << 20, None);
        // In the zeros behind a switch there are no pages.
        if result.is_ok() {
            let all: Vec<_> = all.iter().map(key).collect();
            let after: Vec<_> = after.iter().map(key).collect();
            prop_assert!(all.ends_with(&after));
            let page = at.number().div_ceil(8192) * 8192;
            prop_assert!(all.iter().filter(|entry| entry.0.number() >= page).count() <= after.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn the_indexes_of_stretches_put_together_are_that_of_the_whole(
        steps in steps(), major in 13..=17_u16, size in 1..30_000_usize,
    ) {
        let (writer, written) = write(major, &steps);
        let start = Start::Anywhere(Position::new(writer.from));
        let mut indexer = Indexer::new(start, LineageId(1), 1 << 20, None);
        let mut entries = Vec::new();
        for piece in writer.bytes.chunks(size) {
            let from = indexer.reader().position();
            indexer.push(from, piece).unwrap();
            let said = indexer.cut();
            let index = Index::read(&said.index).unwrap();
            let to = indexer.reader().position();
            prop_assert!(said.whole_to <= to);
            prop_assert!(index.entries.iter().all(|entry| from < entry.end() && entry.end() <= to));
            prop_assert_eq!(said.commits.map_or(0, |commits| commits.count), index.commits().len() as u64);
            prop_assert_eq!(said.named_points as usize, index.named_points().len());
            entries.extend(index.entries);
        }
        prop_assert_eq!(entries.iter().map(key).collect::<Vec<_>>(), written.iter().map(key).collect::<Vec<_>>());
    }
}

#[test]
fn a_commit_says_what_its_transaction_and_subtransactions_did() {
    let rows = |transaction, file, kind| Step::Rows { transaction, file, kind, bytes: 10 };
    let commit = |transaction, subtransactions, files| Step::Commit {
        transaction,
        at: 1,
        subtransactions,
        files,
        prepared: false,
    };
    let steps = [
        commit(700, vec![], 0),
        rows(701, 16384, 0),
        rows(702, 16384, 1),
        rows(702, 16385, 3),
        rows(703, 1259, 1),
        commit(703, vec![], 2),
        Step::Rollback { transaction: 704, at: 1 },
        commit(701, vec![702], 0),
        rows(705, 16384, 0),
        Step::Rollback { transaction: 705, at: 1 },
        commit(705, vec![], 1),
    ];
    let (writer, _) = write(15, &steps);
    let (entries, ..) =
        read(Start::Anywhere(Position::new(writer.from)), &writer.bytes, &[100], 1 << 20, None);
    let changes: Vec<_> = entries
        .iter()
        .filter_map(|entry| if let Entry::Commit(commit) = entry { Some(commit.changes) } else { None })
        .collect();
    let none = Changes::default();
    assert_eq!(changes[1], Changes { files_dropped: 2, statements: Statements::DROP, ..none });
    assert_eq!(changes[2], Changes { inserted: 1, updated: 1, deleted: 1, ..none });
    assert_eq!(
        changes[3],
        Changes { files_dropped: 1, statements: Statements::REWRITE, ..none },
        "what was rolled back does not count"
    );
}
