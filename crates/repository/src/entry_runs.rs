//! A set of entry numbers of one pack, as sorted runs.
//!
//! Holes and needs of a pack are mostly long stretches, so runs are small where a bitmap or a list would not be.

use minicbor::Decoder;

use crate::cbor::{Cbor, CborError, Enc, definite, sure};

/// Entry numbers as runs `start..end`: ascending, never touching, never empty. So equal sets are equal values.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct EntryRuns(Vec<(u32, u32)>);

impl EntryRuns {
    /// The entries `start..start + count`, cut at the last number there is.
    #[must_use]
    pub fn run(start: u32, count: u32) -> Self {
        let mut set = Self::default();
        set.insert_run(start, count);
        set
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many entries.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.iter().map(|(start, end)| u64::from(end - start)).sum()
    }

    /// Whether `entry` is in it.
    #[must_use]
    pub fn contains(&self, entry: u32) -> bool {
        let after = self.0.partition_point(|run| run.0 <= entry);
        after > 0 && entry < self.0[after - 1].1
    }

    /// Whether it has an entry of `start..start + count`.
    #[must_use]
    pub fn intersects_run(&self, start: u32, count: u32) -> bool {
        let end = start.saturating_add(count);
        let from = self.0.partition_point(|run| run.1 <= start);
        self.0.get(from).is_some_and(|run| run.0 < end)
    }

    /// Whether the two have an entry in common.
    #[must_use]
    pub fn intersects(&self, other: &Self) -> bool {
        self.0.iter().any(|(start, end)| other.intersects_run(*start, end - start))
    }

    /// Adds the entries `start..start + count`.
    pub fn insert_run(&mut self, start: u32, count: u32) {
        let end = start.saturating_add(count);
        if start == end {
            return;
        }
        // The usual case: in ascending order.
        match self.0.last_mut() {
            None => return self.0.push((start, end)),
            Some(last) if start > last.1 => return self.0.push((start, end)),
            Some(last) if start >= last.0 => {
                last.1 = last.1.max(end);
                return;
            }
            Some(_) => {}
        }
        let from = self.0.partition_point(|run| run.1 < start);
        let to = self.0.partition_point(|run| run.0 <= end);
        let (mut start, mut end) = (start, end);
        if from < to {
            start = start.min(self.0[from].0);
            end = end.max(self.0[to - 1].1);
        }
        self.0.splice(from..to, [(start, end)]);
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: &Self) {
        for (start, end) in &other.0 {
            self.insert_run(*start, end - start);
        }
    }

    /// What is in it and not in `other`.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut left = Self::default();
        for &(mut start, end) in &self.0 {
            let from = other.0.partition_point(|run| run.1 <= start);
            for &(gap, resume) in &other.0[from..] {
                if gap >= end {
                    break;
                }
                if gap > start {
                    left.insert_run(start, gap - start);
                }
                start = resume.max(start).min(end);
            }
            if start < end {
                left.insert_run(start, end - start);
            }
        }
        left
    }

    /// The runs as `(start, end)`, ascending.
    pub fn runs(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.0.iter().copied()
    }

    /// The entries, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().flat_map(|(start, end)| *start..*end)
    }
}

impl FromIterator<u32> for EntryRuns {
    fn from_iter<I: IntoIterator<Item = u32>>(entries: I) -> Self {
        let mut set = Self::default();
        entries.into_iter().for_each(|entry| set.insert_run(entry, 1));
        set
    }
}

/// An array of starts and lengths in turn.
impl Cbor for EntryRuns {
    fn put(&self, e: &mut Enc) {
        sure(e.array(self.0.len() as u64 * 2));
        for (start, end) in &self.0 {
            sure(e.u32(*start).and_then(|e| e.u32(end - start)));
        }
    }

    fn take(d: &mut Decoder<'_>) -> Result<Self, CborError> {
        let numbers = definite(d.array()?)?;
        let wrong = || CborError::Value("a set of entries is not in its one form".into());
        let mut set = Self::default();
        if numbers % 2 != 0 {
            return Err(wrong());
        }
        for _ in 0..numbers / 2 {
            let start = d.u32()?;
            let end = start.checked_add(d.u32()?).filter(|end| *end > start).ok_or_else(wrong)?;
            if set.0.last().is_some_and(|last| start <= last.1) {
                return Err(wrong());
            }
            set.0.push((start, end));
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::cbor::{from_bytes, to_bytes};

    proptest! {
        #[test]
        fn it_is_the_set_it_says_it_is(
            runs in prop::collection::vec((0_u32..200, 0_u32..20), 0..20),
            others in prop::collection::vec((0_u32..200, 0_u32..20), 0..20),
        ) {
            let collect = |runs: &[(u32, u32)]| {
                let mut set = EntryRuns::default();
                let mut plain = BTreeSet::new();
                for (start, count) in runs {
                    set.insert_run(*start, *count);
                    plain.extend(*start..start + count);
                }
                (set, plain)
            };
            let (set, plain) = collect(&runs);
            let (other, other_plain) = collect(&others);
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), plain.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(set.len(), plain.len() as u64);
            prop_assert_eq!(&plain.iter().copied().collect::<EntryRuns>(), &set);
            prop_assert!((0..250).all(|entry| set.contains(entry) == plain.contains(&entry)));
            prop_assert_eq!(set.intersects(&other), !plain.is_disjoint(&other_plain));
            let rest = plain.difference(&other_plain).copied().collect::<EntryRuns>();
            prop_assert_eq!(set.without(&other), rest);
            prop_assert_eq!(from_bytes::<EntryRuns>(&to_bytes(&set)), Ok(set));
        }
    }

    #[test]
    fn another_form_of_the_same_set_is_refused() {
        for bytes in [&[0x84, 0, 1, 1, 1][..], &[0x82, 0, 0], &[0x81, 1], &[0x84, 5, 1, 0, 1]] {
            assert!(from_bytes::<EntryRuns>(bytes).is_err(), "{bytes:?}");
        }
    }
}
