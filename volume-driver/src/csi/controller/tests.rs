use super::*;

const MIB: u64 = 1 << 20;

fn range(required_bytes: u64, limit_bytes: u64) -> SizeRange {
    SizeRange { required_bytes, limit_bytes }
}

#[test]
fn a_volume_grows_to_exactly_what_is_asked_for_when_that_is_whole_sectors() {
    assert_eq!(within(range(65 * MIB, 0), 64 * MIB), Ok(65 * MIB));
    assert_eq!(within(range(64 * MIB + 1, 0), 64 * MIB), Ok(64 * MIB + 4096));
}

#[test]
fn a_volume_never_shrinks_and_never_passes_the_limit() {
    assert_eq!(within(range(MIB, 0), 64 * MIB), Ok(64 * MIB));
    assert_eq!(within(range(0, 64 * MIB), 64 * MIB), Ok(64 * MIB));
    assert!(within(range(0, 63 * MIB), 64 * MIB).is_err());
    assert!(within(range(64 * MIB + 1, 64 * MIB + 2), 64 * MIB).is_err());
    assert!(within(range(u64::MAX, 0), 64 * MIB).is_err());
}
