use proptest::prelude::*;

use super::*;

fn entries() -> impl Strategy<Value = (u64, Vec<Entry>)> {
    let transaction = prop_oneof![
        4 => any::<u64>().prop_map(TransactionId::Number),
        1 => (any::<u128>(), any::<u64>()).prop_map(|(source, sequence)| TransactionId::Global { source, sequence }),
    ];
    let count = prop_oneof![Just(0_u32), 0..100_u32, any::<u32>()];
    let changes = (count.clone(), count.clone(), count.clone(), count, 0..64_u8, any::<bool>()).prop_map(
        |(inserted, updated, deleted, files_dropped, bits, partial)| Changes {
            inserted,
            updated,
            deleted,
            files_dropped,
            statements: Statements::from_bits(bits).unwrap(),
            partial,
        },
    );
    let one = (
        0..6_u8,
        1..1_000_000_u64,
        1..2000_u64,
        any::<i64>(),
        transaction,
        changes,
        "[ -~é]{0,63}",
        any::<u32>(),
    );
    (1 << 20..1_u64 << 50, prop::collection::vec(one, 0..40)).prop_map(|(origin, drafts)| {
        let mut last = origin;
        let entries =
            drafts.into_iter().map(|(kind, further, bytes, at, transaction, changes, name, other)| {
                last += further;
                let (start, end) = (Position::new(last - bytes), Position::new(last));
                let at = Timestamp::from_microsecond(at % 100_000_000_000_000_000).unwrap();
                let ended = Ended { start, end, at, transaction };
                match kind {
                    0 => Entry::Commit(Commit { start, end, at, transaction, changes }),
                    1 => Entry::RolledBack(ended),
                    2 => Entry::Prepared(ended),
                    3 => Entry::Named(NamedPoint { name, start, end, at }),
                    4 => Entry::Checkpoint { start, end, at, redo: Position::new(u64::from(other)) },
                    _ => Entry::Began { start, end, at, lineage: LineageId(other), parent: LineageId(1) },
                }
            });
        let entries = entries.collect();
        (origin, entries)
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_and_has_one_form((origin, entries) in entries()) {
        let mut writer = IndexWriter::new(LineageId(3), Position::new(origin));
        entries.iter().for_each(|entry| writer.push(entry));
        let read = Index::read(writer.bytes()).unwrap();
        prop_assert_eq!(read, Index { lineage: LineageId(3), entries });
    }

    #[test]
    fn any_bytes_are_read_or_refused_and_what_is_read_is_written_the_same((origin, entries) in entries(), place in 0..200_usize, with in 1..=255_u8) {
        let mut writer = IndexWriter::new(LineageId(3), Position::new(origin));
        entries.iter().for_each(|entry| writer.push(entry));
        let mut bytes = writer.bytes().to_vec();
        let place = place % bytes.len();
        bytes[place] ^= with;
        if let Ok(read) = Index::read(&bytes) {
            let origin = u64::from_le_bytes(bytes[8..16].try_into().unwrap());
            let mut again = IndexWriter::new(read.lineage, Position::new(origin));
            read.entries.iter().for_each(|entry| again.push(entry));
            prop_assert_eq!(again.bytes(), &bytes);
        }
    }
}

/// The example of docs/format.md: it never changes.
#[test]
fn the_example_of_the_format() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let position = Position::new;
    let mut writer = IndexWriter::new(LineageId(1), position(0x0100_0000));
    let changes = Changes { inserted: 2, deleted: 300, statements: Statements::NONE, ..Changes::default() };
    for entry in [
        Entry::Commit(Commit {
            start: position(0x0100_0060),
            end: position(0x0100_0082),
            at: at("2026-11-21T18:04:57.981Z"),
            transaction: TransactionId::Number(9410),
            changes,
        }),
        Entry::Commit(Commit {
            start: position(0x0100_0100),
            end: position(0x0100_0180),
            at: at("2026-11-21T18:04:58.112Z"),
            transaction: TransactionId::Number(9411),
            changes: Changes { files_dropped: 3, statements: Statements::DROP, ..Changes::default() },
        }),
        Entry::Named(NamedPoint {
            name: "v2".into(),
            start: position(0x0100_0180),
            end: position(0x0100_01E2),
            at: at("2026-11-21T18:05:00Z"),
        }),
    ] {
        writer.push(&entry);
    }
    let hex: String = writer.bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let document = include_str!("../../../../docs/format.md");
    assert!(document.contains(&format!("`{hex}`")), "docs/format.md does not have {hex}");
}
