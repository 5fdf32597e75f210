//! Little-endian values out of bytes that may be too short.

use jiff::Timestamp;

/// What is left to be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Microseconds since the year 2000, as PostgreSQL counts. What no calendar has becomes its end.
    pub(crate) fn time(&mut self) -> Option<Timestamp> {
        const YEAR_2000: i64 = 946_684_800_000_000;
        let since = self.array().map(i64::from_le_bytes)?.saturating_add(YEAR_2000);
        let end = if since < 0 { Timestamp::MIN } else { Timestamp::MAX };
        Some(Timestamp::from_microsecond(since).unwrap_or(end))
    }

    /// Seconds since 1970, as the control structures count.
    pub(crate) fn seconds(&mut self) -> Option<Timestamp> {
        let since = self.array().map(i64::from_le_bytes)?;
        let end = if since < 0 { Timestamp::MIN } else { Timestamp::MAX };
        Some(Timestamp::from_second(since).unwrap_or(end))
    }
}
