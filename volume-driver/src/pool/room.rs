//! How much room a pool has, and what that means.

use crate::limits::{Limits, WhenFull};

/// Room in the pool, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    pub(crate) total: u64,
    pub(crate) used: u64,
}

/// How full a pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fullness {
    Roomy,
    /// Above 80 percent.
    Filling,
    /// Nothing new is taken in.
    AboveMark,
    /// What is written to volumes finds no space, or is about to.
    Full,
}

/// From here on a person should look.
const FILLING_PERCENT: u32 = 80;

/// Less than this is never left to writers: it is what they write while the driver looks and freezes.
const LEAST_MARGIN: u64 = 16 << 20;

impl Room {
    /// What is not taken.
    pub(crate) const fn free(self) -> u64 {
        self.total - self.used
    }

    /// How much must be free; with less the pool is full.
    ///
    /// As much as the reserve: a hundredth of a pool is what a fast disk writes in the moments that freezing takes.
    pub(crate) fn margin(self, limits: &Limits) -> u64 {
        limits.reserve.bytes(self.total).clamp(LEAST_MARGIN, (self.total / 8).max(LEAST_MARGIN))
    }

    /// Above this many used bytes nothing new is taken in.
    pub(crate) fn high_water(self, limits: &Limits) -> u64 {
        percent(self.total, limits.high_water_percent.into())
    }

    pub(crate) fn fullness(self, limits: &Limits) -> Fullness {
        if self.free() < self.margin(limits) {
            Fullness::Full
        } else if self.used > self.high_water(limits) {
            Fullness::AboveMark
        } else if self.used > percent(self.total, FILLING_PERCENT) {
            Fullness::Filling
        } else {
            Fullness::Roomy
        }
    }

    /// What a person should know about it; `None`: nothing.
    pub(crate) fn sentence(self, limits: &Limits) -> Option<String> {
        let Self { total, used } = self;
        let taken = format!("{used} of {total} bytes are used");
        let mark = self.high_water(limits);
        let then = match limits.when_full {
            WhenFull::Wait => "writers wait until space is freed",
            WhenFull::Fail => "writes fail until space is freed",
        };
        match self.fullness(limits) {
            Fullness::Roomy => None,
            Fullness::Filling => {
                Some(format!("the pool is filling: {taken}; nothing new is taken in above {mark}"))
            }
            Fullness::AboveMark => Some(format!(
                "the pool is nearly full: {taken}; nothing new is taken in above {mark}, and when it is full {then}"
            )),
            Fullness::Full => Some(format!("the pool is full: {taken}; {then}")),
        }
    }
}

pub(super) fn percent(bytes: u64, percent: u32) -> u64 {
    let share = u128::from(bytes) * u128::from(percent) / 100;
    u64::try_from(share).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_told_to_be_full_before_it_is() {
        let limits = Limits::default();
        let at = |used_percent: u64| Room { total: 1 << 40, used: (1 << 40) / 1000 * used_percent };
        assert_eq!(at(800).fullness(&limits), Fullness::Roomy);
        assert_eq!(at(801).fullness(&limits), Fullness::Filling);
        assert_eq!(at(901).fullness(&limits), Fullness::AboveMark);
        assert_eq!(at(1000).fullness(&limits), Fullness::Full);
        let full = Room { total: 1 << 40, used: (1 << 40) - (1 << 30) + 1 };
        assert_eq!(full.fullness(&limits), Fullness::Full);
        assert!(full.sentence(&limits).unwrap().contains("writers wait"));
        assert!(at(800).sentence(&limits).is_none());
    }
}
