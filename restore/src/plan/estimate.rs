//! How long it will take, roughly: so that a person can decide whether to wait or to take a nearer point.

use super::Totals;

/// A modest line and a modest disk. A faster one is a nice surprise.
const FETCH_BYTES_PER_SECOND: u64 = 100 << 20;
const LOCAL_BYTES_PER_SECOND: u64 = 300 << 20;
/// Requests answered in a second: sixteen in flight, 50 ms each.
const REQUESTS_PER_SECOND: u64 = 320;

/// Seconds, at least 1: the slowest of the line, the round trips and the disk, and the reading back.
#[must_use]
pub fn estimated_seconds(totals: &Totals, verify: bool, compared_bytes: u64) -> u64 {
    let line = totals.fetch_bytes.div_ceil(FETCH_BYTES_PER_SECOND);
    let trips = totals.requests.div_ceil(REQUESTS_PER_SECOND);
    let disk = (totals.write_bytes + totals.copy_bytes).div_ceil(LOCAL_BYTES_PER_SECOND);
    let written = totals.write_bytes + totals.copy_bytes + totals.present_bytes + totals.done_bytes;
    let reading = if verify { written.div_ceil(LOCAL_BYTES_PER_SECOND) } else { 0 };
    line.max(trips).max(disk) + reading + compared_bytes / LOCAL_BYTES_PER_SECOND + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_to_do_never_takes_less_time() {
        let mut totals = Totals::default();
        let mut before = estimated_seconds(&totals, false, 0);
        for _ in 0..20 {
            totals.fetch_bytes = totals.fetch_bytes * 3 + (1 << 20);
            totals.requests = totals.requests * 2 + 5;
            totals.write_bytes = totals.fetch_bytes * 2;
            let now = estimated_seconds(&totals, false, 0);
            assert!(now >= before && estimated_seconds(&totals, true, 0) >= now);
            before = now;
        }
    }
}
