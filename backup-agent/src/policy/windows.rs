//! The windows of a policy, together: when a run may begin.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use strongroom_model::DayWindow;

/// When a run begins that should begin `at`: then, or when a window opens next. What is overdue and may begin stays as overdue
/// as it is, so that the longest overdue is the first.
pub(super) fn begin(
    windows: &[DayWindow],
    at: Timestamp,
    now: Timestamp,
    zone: &TimeZone,
) -> Option<Timestamp> {
    let earliest = at.max(now);
    if windows.is_empty() || windows.iter().any(|window| window.contains(earliest, zone)) {
        return Some(at);
    }
    windows.iter().filter_map(|window| window.next(earliest, zone)).min()
}

/// When all windows are closed again, of a moment that lies in one; `None`: never.
pub(super) fn end(windows: &[DayWindow], opened: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let mut at = opened;
    // Windows may overlap or follow one another: each step leaves at least one behind.
    for _ in 0..=windows.len() {
        let open: Vec<_> = windows.iter().filter(|window| window.contains(at, zone)).collect();
        if open.is_empty() {
            return Some(at);
        }
        for window in open {
            at = at.max(window.end(at, zone)?);
        }
    }
    None
}

/// For how long no run can begin at most, on a day without a change of the clocks.
pub(super) fn longest_closed(windows: &[DayWindow]) -> Duration {
    const MINUTES: usize = 24 * 60;
    if windows.is_empty() {
        return Duration::ZERO;
    }
    let midnight = Timestamp::UNIX_EPOCH;
    let is_open = |minute: usize| {
        let at = midnight + Duration::from_secs(minute as u64 * 60);
        windows.iter().any(|window| window.contains(at, &TimeZone::UTC))
    };
    let (mut longest, mut closed) = (0, 0);
    // Twice around, since what is closed may go over midnight.
    for minute in 0..2 * MINUTES {
        closed = if is_open(minute % MINUTES) { 0 } else { closed + 1 };
        longest = longest.max(closed.min(MINUTES));
    }
    Duration::from_secs(longest as u64 * 60)
}
