//! Moments as people read them: in their own zone and, where it matters, in UTC too.

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};

/// `2026-11-21 14:03:20 CET`.
#[must_use]
pub fn local(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// `2026-11-21T13:03:20Z`, to the second.
#[must_use]
pub fn utc(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `2026-11-21 14:03:20 CET (2026-11-21T13:03:20Z)`; only one of them where both are the same.
#[must_use]
pub fn local_and_utc(at: Timestamp, zone: &TimeZone) -> String {
    if zone.to_offset(at) == Offset::UTC { utc(at) } else { format!("{} ({})", local(at, zone), utc(at)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_shown_in_both_zones() {
        let at: Timestamp = "2026-11-21T13:03:20.5Z".parse().unwrap();
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        assert_eq!(local_and_utc(at, &berlin), "2026-11-21 14:03:20 CET (2026-11-21T13:03:20Z)");
        assert_eq!(local_and_utc(at, &TimeZone::UTC), "2026-11-21T13:03:20Z");
        let named = TimeZone::posix("GMT0").unwrap();
        assert_eq!(local_and_utc(at, &named), "2026-11-21T13:03:20Z");
    }
}
