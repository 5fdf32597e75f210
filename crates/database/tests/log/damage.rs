//! Bytes that no server wrote: whatever they are, reading ends, with what was whole before.

use proptest::prelude::*;
use strongroom_database::Position;
use strongroom_database::postgres::{ReadError, Start, Version};

use crate::made::{steps, write};
use crate::{key, read};

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_at_all_end_without_a_panic(
        bytes in prop::collection::vec(prop_oneof![3 => Just(0_u8), 1 => any::<u8>()], 0..2000),
        at in prop_oneof![Just(0), Just(1 << 20), any::<u64>()], boundary in any::<bool>(), segment in any::<u32>(),
    ) {
        let at = Position::new(at);
        let start = if boundary { Start::Boundary(at) } else { Start::Anywhere(at) };
        let _ = read(start, &bytes, &[1, 50, 8192], segment, Version::of_major(15));
    }

    #[test]
    fn a_damaged_log_gives_what_was_whole_before_and_never_something_else(
        steps in steps(), major in 13..=17_u16, places in prop::collection::vec((0..1000_usize, any::<u8>()), 1..4),
    ) {
        let (mut writer, _) = write(major, &steps);
        let from = Start::Anywhere(Position::new(writer.from));
        let (whole, ..) = read(from, &writer.bytes, &[4096], 1 << 20, None);
        for (part, with) in places {
            let place = writer.bytes.len() * part / 1000;
            if let Some(byte) = writer.bytes.get_mut(place) {
                *byte ^= with;
            }
        }
        let (damaged, ..) = read(from, &writer.bytes, &[4096], 1 << 20, None);
        let whole: Vec<_> = whole.iter().map(key).collect();
        let damaged: Vec<_> = damaged.iter().map(key).collect();
        prop_assert!(whole.starts_with(&damaged), "{:?} of {:?}", damaged, whole);
    }

    #[test]
    fn a_log_that_was_not_written_to_its_end_ends_where_it_does(steps in steps(), major in 13..=17_u16, part in 0..1000_usize) {
        let (mut writer, _) = write(major, &steps);
        let from = Start::Anywhere(Position::new(writer.from));
        let cut = writer.bytes.len() * part / 1000;
        let (whole, ..) = read(from, &writer.bytes, &[4096], 1 << 20, None);
        let (before, reader, _) = read(from, &writer.bytes[..cut], &[4096], 1 << 20, None);
        writer.bytes.truncate(cut);
        // What follows was never written: zeros, as in a segment that is new.
        writer.bytes.resize(cut + 20_000, 0);
        let (entries, after, result) = read(from, &writer.bytes, &[4096], 1 << 20, None);
        let keys = |entries: &[strongroom_database::Entry]| entries.iter().map(key).collect::<Vec<_>>();
        // A record that ends with zeros is whole without them.
        prop_assert!(keys(&entries).starts_with(&keys(&before)) && keys(&whole).starts_with(&keys(&entries)));
        prop_assert!(after.whole_to() >= reader.whole_to());
        // Only in the zeros behind a switch nothing is amiss.
        if let Ok(()) = result {
            prop_assert!(before.is_empty() || after.position().number() % (1 << 20) != 0);
        }
    }
}

#[test]
fn bytes_that_do_not_follow_are_refused_and_change_nothing() {
    let (writer, _) = write(15, &[crate::made::Step::Big { bytes: 9000 }]);
    let mut reader = strongroom_database::postgres::LogReader::new(
        Start::Anywhere(Position::new(writer.from)),
        1,
        1 << 20,
        None,
    );
    let at = reader.position();
    reader.push(at, &writer.bytes[..5000], |_| ()).unwrap();
    let jump = reader.push(at.plus(5001), &writer.bytes[5001..], |_| ());
    assert_eq!(jump, Err(ReadError::Jump { given: at.plus(5001), expected: at.plus(5000) }));
    assert_eq!(reader.push(at.plus(5000), &writer.bytes[5000..], |_| ()), Ok(()));
}
