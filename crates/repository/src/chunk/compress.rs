//! zstd, with a cheap look first whether it can help.

use std::cell::RefCell;
use std::fmt;

use bytes::Bytes;
use zstd::bulk;

/// How an entry's plain bytes were coded before sealing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// As they are.
    Stored = 0,
    /// One zstd frame.
    Zstd = 1,
}

impl Codec {
    pub(crate) const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Stored),
            1 => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Plain bytes, coded and ready for sealing.
#[derive(Debug, Clone)]
pub struct Compressed {
    /// How `bytes` are coded.
    pub codec: Codec,
    /// How many plain bytes there are.
    pub plain_bytes: u32,
    /// The coded bytes.
    pub bytes: Bytes,
}

impl Compressed {
    /// As they are.
    ///
    /// # Panics
    /// When there are 4 GiB or more.
    #[must_use]
    pub fn stored(plain: Bytes) -> Self {
        Self { codec: Codec::Stored, plain_bytes: length(&plain), bytes: plain }
    }
}

/// Compresses chunk after chunk with contexts that are used again. One per worker.
pub struct Compressor {
    real: bulk::Compressor<'static>,
    level: i32,
    probe: bulk::Compressor<'static>,
    buffer: Vec<u8>,
}

/// Below this the look would cost as much as the work.
const PROBE_FROM: usize = 16 << 10;
/// Four pieces of this many bytes, spread over the chunk, are looked at.
const PIECE: usize = 1 << 10;
/// Random bytes show 7.8 bits a byte or more in a sample of 4 KiB; text shows 4 to 5, machine code about 6.
const SUSPICIOUS_BITS: f64 = 7.6;

impl Compressor {
    /// zstd's level 3: for what is small, such as maps.
    pub const DEFAULT_LEVEL: i32 = 3;
    /// For volumes' content, level 4. On chunks of 64 KiB of mixed data 3 needs 0.8 % more space and a fifth less time; 5 and more
    /// take twice the time and save 0.2 to 0.7 % (`docs/performance.md`).
    pub const DATA_LEVEL: i32 = 4;
    /// What idle processors may be used for: three times the time, 0.8 % less space.
    pub const HIGHEST_LEVEL: i32 = 6;

    /// A compressor of this zstd level; what is outside of zstd's range is moved to its ends.
    ///
    /// # Panics
    /// When there is no memory for a zstd context.
    #[must_use]
    pub fn new(level: i32) -> Self {
        let context = |level| bulk::Compressor::new(level).expect("a zstd context needs memory only");
        let level = level.clamp(-50, 22);
        Self { real: context(level), level, probe: context(1), buffer: Vec::new() }
    }

    /// Goes on with another level. What was compressed before stays as it is: any level is read alike.
    pub fn set_level(&mut self, level: i32) {
        // zstd takes every level in its range, and what is outside is moved to its ends here.
        let level = level.clamp(-50, 22);
        if self.level != level && self.real.set_compression_level(level).is_ok() {
            self.level = level;
        }
    }

    /// Compresses one chunk. What does not shrink by a 32nd is stored as it is: reading it back is then for free.
    ///
    /// # Panics
    /// When there are 4 GiB or more.
    pub fn compress(&mut self, plain: Bytes) -> Compressed {
        let most = plain.len() - plain.len() / 32;
        if plain.is_empty() || (plain.len() >= PROBE_FROM && self.looks_incompressible(&plain)) {
            return Compressed::stored(plain);
        }
        self.buffer.clear();
        self.buffer.reserve(zstd::zstd_safe::compress_bound(plain.len()));
        match self.real.compress_to_buffer(&plain[..], &mut self.buffer) {
            Ok(coded) if coded < most => Compressed {
                codec: Codec::Zstd,
                plain_bytes: length(&plain),
                bytes: Bytes::copy_from_slice(&self.buffer),
            },
            _ => Compressed::stored(plain),
        }
    }

    /// A look at 4 KiB: their byte frequencies, and only if these look random, whether zstd's fastest level finds
    /// repetitions. A wrong yes costs space, a wrong no costs time; neither costs data.
    fn looks_incompressible(&mut self, plain: &[u8]) -> bool {
        let step = plain.len() / 4;
        let mut sample = [0; 4 * PIECE];
        for (at, piece) in sample.chunks_exact_mut(PIECE).enumerate() {
            piece.copy_from_slice(&plain[at * step..][..PIECE]);
        }
        if bits_per_byte(&sample) < SUSPICIOUS_BITS {
            return false;
        }
        self.buffer.clear();
        // Half of the chunk at level 1: repetitions of random-looking records are further apart than 4 KiB.
        let part = &plain[..plain.len() / 2];
        self.buffer.reserve(zstd::zstd_safe::compress_bound(part.len()));
        self.probe
            .compress_to_buffer(part, &mut self.buffer)
            .is_ok_and(|coded| coded > part.len() - part.len() / 32)
    }
}

impl Default for Compressor {
    fn default() -> Self {
        Self::new(Self::DEFAULT_LEVEL)
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Compressor")
    }
}

fn length(plain: &[u8]) -> u32 {
    u32::try_from(plain.len()).expect("an entry has less than 4 GiB")
}

/// The order-0 entropy.
fn bits_per_byte(sample: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in sample {
        counts[usize::from(*byte)] += 1;
    }
    let total = f64::from(u32::try_from(sample.len()).unwrap_or(u32::MAX));
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| f64::from(*count))
        .map(|n| n / total * (total / n).log2())
        .sum()
}

thread_local! {
    /// A decompression context is 150 KB; making one for each chunk would cost more than small chunks themselves.
    static DECOMPRESSOR: RefCell<Option<bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Exactly `plain_bytes` from `coded`, or nothing. The caller has bounded `plain_bytes`.
pub(crate) fn decompress(codec: Codec, coded: Vec<u8>, plain_bytes: usize) -> Option<Vec<u8>> {
    let plain = match codec {
        Codec::Stored => coded,
        Codec::Zstd => DECOMPRESSOR.with_borrow_mut(|context| {
            let context = match context {
                Some(context) => context,
                None => context.insert(bulk::Decompressor::new().ok()?),
            };
            let mut plain = Vec::with_capacity(plain_bytes);
            context.decompress_to_buffer(&coded, &mut plain).ok()?;
            Some(plain)
        })?,
    };
    (plain.len() == plain_bytes).then_some(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn text_is_compressed_and_noise_is_stored() {
        let mut compressor = Compressor::default();
        let text = "a recovery point exists only when all of it is durable; ".repeat(1200);
        let text = compressor.compress(Bytes::from(text.into_bytes()));
        assert_eq!(text.codec, Codec::Zstd);
        assert!(text.bytes.len() < 500);
        for length in [1, 100, 4096, PROBE_FROM - 1, PROBE_FROM, 65_536, 1 << 20] {
            assert_eq!(compressor.compress(Bytes::from(noise(length))).codec, Codec::Stored, "{length}");
        }
    }

    #[test]
    fn noise_that_repeats_is_not_taken_for_noise() {
        let records = Bytes::from(noise(8192).repeat(8));
        assert_eq!(Compressor::default().compress(records).codec, Codec::Zstd);
    }

    #[test]
    fn a_frame_of_another_length_than_promised_is_refused() {
        let frame = bulk::compress(&[7; 1000], 3).unwrap();
        assert_eq!(decompress(Codec::Zstd, frame.clone(), 1000), Some(vec![7; 1000]));
        assert_eq!(decompress(Codec::Zstd, frame.clone(), 999), None);
        assert_eq!(decompress(Codec::Zstd, frame.clone(), 1001), None);
        assert_eq!(decompress(Codec::Stored, vec![7; 10], 11), None);
        assert_eq!(decompress(Codec::Zstd, frame[..frame.len() - 1].to_vec(), 1000), None);
    }

    proptest! {
        #[test]
        fn what_was_compressed_comes_back(
            bytes in prop::collection::vec(any::<u8>(), 0..3000),
            repeat in 1_usize..30,
            level in -5..10,
        ) {
            let plain = bytes.repeat(repeat);
            let coded = Compressor::new(level).compress(Bytes::from(plain.clone()));
            prop_assert!(coded.bytes.len() <= plain.len());
            prop_assert_eq!(decompress(coded.codec, coded.bytes.to_vec(), plain.len()), Some(plain));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), length in 0_usize..5000) {
            let _ = decompress(Codec::Zstd, bytes, length);
        }
    }
}
