//! The header of the shared index (`…-shm`): how much of the log file is committed. Words in the order of this machine.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | version, 3007000 |
//! | 12 | 1 | 1 when it is in use |
//! | 16 | 4 | the last committed frame |
//! | 24 | 8 | its sum |
//! | 32 | 8 | the salts, as in the log file |
//! | 40 | 8 | the sum of the 40 bytes before |
//!
//! It stands there twice, so that a reader sees that a writer is at it.

use crate::Sum;

/// Bytes of both.
pub(crate) const BYTES: usize = 96;

/// What is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shared {
    /// The last committed frame; 0: the log file is empty.
    pub frames: u32,
    /// Its sum.
    pub sum: Sum,
    /// The salts of the log file.
    pub salts: [u8; 8],
}

impl Shared {
    /// Reads both; `None`: somebody is writing them, or they are not in use.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; BYTES] = bytes.first_chunk()?;
        let (one, other) = bytes.split_at(48);
        let word = |at: usize| one[at..at + 4].try_into().map_or(0, u32::from_ne_bytes);
        let sum = Sum::default().over(&one[..40], cfg!(target_endian = "big"));
        let whole = one == other && word(0) == 3_007_000 && one[12] == 1 && sum == Sum(word(40), word(44));
        whole.then(|| Self {
            frames: word(16),
            sum: Sum(word(24), word(28)),
            salts: one[32..40].try_into().unwrap_or_default(),
        })
    }
}
