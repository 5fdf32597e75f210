//! The filter in front of a file of rows: it says "not here" without a read for all but about one stranger in fifty.
//!
//! A Bloom filter with 8 bits a row and 5 probes: a gigabyte of memory for a thousand million rows, which is 64 TiB of
//! unique data in 64 KiB chunks. Its hash functions are slices of the id's prefix, which is a keyed hash already.

use super::run::Prefix;

const BITS_PER_ROW: u64 = 8;
const PROBES: u64 = 5;

/// A set of prefixes that may claim to hold what it does not, never the other way round.
#[derive(Debug)]
pub(super) struct Filter {
    words: Vec<u64>,
}

impl Filter {
    /// An empty filter for `rows` rows.
    pub(super) fn for_rows(rows: u64) -> Self {
        let words = (rows * BITS_PER_ROW).div_ceil(64).max(1);
        Self { words: vec![0; usize::try_from(words).expect("memory holds the filter")] }
    }

    /// The filter whose words these are.
    pub(super) const fn from_words(words: Vec<u64>) -> Self {
        Self { words }
    }

    /// Its words, to be written down.
    pub(super) fn words(&self) -> &[u64] {
        &self.words
    }

    /// Adds a prefix.
    pub(super) fn add(&mut self, prefix: &Prefix) {
        let bits = self.words.len() as u64 * 64;
        for bit in probes(prefix, bits) {
            self.words[usize::try_from(bit / 64).expect("below the number of words")] |= 1 << (bit % 64);
        }
    }

    /// Whether the prefix may be in.
    pub(super) fn may_hold(&self, prefix: &Prefix) -> bool {
        let bits = self.words.len() as u64 * 64;
        probes(prefix, bits).all(|bit| {
            self.words[usize::try_from(bit / 64).expect("below the number of words")] >> (bit % 64) & 1 == 1
        })
    }
}

/// Double hashing: probe i is first + i * step, which is as good as independent functions.
fn probes(prefix: &Prefix, bits: u64) -> impl Iterator<Item = u64> {
    let (first, second) = prefix.split_at(8);
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("half of 16 bytes"));
    let (first, step) = (number(first), number(second) | 1);
    (0..PROBES).map(move |probe| first.wrapping_add(probe.wrapping_mul(step)) % bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(number: u64) -> Prefix {
        let mut prefix = [0; 16];
        prefix.copy_from_slice(&blake3::hash(&number.to_le_bytes()).as_bytes()[..16]);
        prefix
    }

    #[test]
    fn it_holds_what_was_added_and_few_strangers() {
        let mut filter = Filter::for_rows(10_000);
        (0..10_000).for_each(|number| filter.add(&numbered(number)));
        assert!((0..10_000).all(|number| filter.may_hold(&numbered(number))));
        let strangers = (10_000..20_000).filter(|number| filter.may_hold(&numbered(*number))).count();
        assert!(strangers < 400, "{strangers} of 10,000 strangers were let in");
    }
}
