//! A set of chunk numbers: one bit each, in pages that exist only where something was put in.
//!
//! It holds what a journal says is done and what already lies at the target. At 64 KiB chunks it costs 2 MiB for each
//! TiB of volume, however scattered its members are.

use std::collections::BTreeMap;
use std::ops::Range;

const WORDS: usize = 512;
/// Members a page stands for: 32 Ki chunks, 2 GiB of a volume of 64 KiB chunks, in 4 KiB.
const PAGE: u64 = WORDS as u64 * 64;

/// A set of chunk numbers.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ChunkSet {
    pages: BTreeMap<u64, Box<[u64; WORDS]>>,
    count: u64,
}

impl std::fmt::Debug for ChunkSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ChunkSet({} chunks)", self.count)
    }
}

impl ChunkSet {
    /// The empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many members.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether `chunk` is a member.
    #[must_use]
    pub fn contains(&self, chunk: u64) -> bool {
        let (word, bit) = place(chunk);
        self.pages.get(&(chunk / PAGE)).is_some_and(|page| page[word] & bit != 0)
    }

    /// Puts `chunk` in.
    pub fn insert(&mut self, chunk: u64) {
        let (word, bit) = place(chunk);
        let page = self.pages.entry(chunk / PAGE).or_insert_with(|| Box::new([0; WORDS]));
        if page[word] & bit == 0 {
            page[word] |= bit;
            self.count += 1;
        }
    }

    /// Puts a range in.
    pub fn insert_range(&mut self, chunks: Range<u64>) {
        for chunk in chunks {
            self.insert(chunk);
        }
    }

    /// Takes `chunk` out.
    pub fn remove(&mut self, chunk: u64) {
        let (word, bit) = place(chunk);
        if let Some(page) = self.pages.get_mut(&(chunk / PAGE))
            && page[word] & bit != 0
        {
            page[word] &= !bit;
            self.count -= 1;
        }
    }

    /// Takes a range out.
    pub fn remove_range(&mut self, chunks: Range<u64>) {
        for chunk in self.present(chunks).into_iter().flatten() {
            self.remove(chunk);
        }
    }

    /// The parts of `chunks` that are not in the set, in order.
    #[must_use]
    pub fn missing(&self, chunks: Range<u64>) -> Vec<Range<u64>> {
        self.split(chunks, false)
    }

    /// The parts of `chunks` that are in the set, in order.
    #[must_use]
    pub fn present(&self, chunks: Range<u64>) -> Vec<Range<u64>> {
        self.split(chunks, true)
    }

    /// How many of `chunks` are in the set.
    #[must_use]
    pub fn count_in(&self, chunks: Range<u64>) -> u64 {
        self.present(chunks).iter().map(|range| range.end - range.start).sum()
    }

    fn split(&self, chunks: Range<u64>, wanted: bool) -> Vec<Range<u64>> {
        let mut found: Vec<Range<u64>> = Vec::new();
        let mut at = chunks.start;
        while at < chunks.end {
            // A page that does not exist is skipped or taken in one step: a sparse TiB costs nothing.
            let (next, is_member) = match self.pages.get(&(at / PAGE)) {
                None => ((at / PAGE + 1).saturating_mul(PAGE).min(chunks.end), false),
                Some(page) => (at + 1, page[place(at).0] & place(at).1 != 0),
            };
            if is_member == wanted {
                match found.last_mut() {
                    Some(last) if last.end == at => last.end = next,
                    _ => found.push(at..next),
                }
            }
            at = next;
        }
        found
    }
}

const fn place(chunk: u64) -> (usize, u64) {
    let within = chunk % PAGE;
    ((within / 64) as usize, 1 << (within % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_exactly_what_was_put_in(members in prop::collection::btree_set(0_u64..100_000, 0..200), taken in prop::collection::vec(0_u64..100_000, 0..20)) {
            let mut set = ChunkSet::new();
            let mut truth: BTreeSet<u64> = members.clone();
            members.iter().for_each(|&chunk| set.insert(chunk));
            for chunk in taken { set.remove(chunk); truth.remove(&chunk); }
            prop_assert_eq!(set.count(), truth.len() as u64);
            let present: BTreeSet<u64> = set.present(0..100_000).into_iter().flatten().collect();
            prop_assert_eq!(&present, &truth);
            let missing: u64 = set.missing(0..100_000).iter().map(|range| range.end - range.start).sum();
            prop_assert_eq!(missing, 100_000 - truth.len() as u64);
            prop_assert!(set.present(0..100_000).windows(2).all(|pair| pair[0].end < pair[1].start));
        }
    }
}
