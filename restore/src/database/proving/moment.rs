//! Which moment is brought back: any of the window is as likely as any other, so that in time all of it is proved.

use jiff::Timestamp;
use strongroom_model::Entropy;

/// A random moment of a stretch of time, both ends included; its beginning where it ends before it begins.
pub(super) fn between(from: Timestamp, to: Timestamp, entropy: &dyn Entropy) -> Timestamp {
    let mut random = [0; 16];
    entropy.fill(&mut random);
    let (first, last) = (from.as_nanosecond(), to.as_nanosecond());
    let span = u128::try_from(last - first).unwrap_or(0) + 1;
    // 2^128 is so much more than any span of nanoseconds that nothing is favoured.
    let step = i128::try_from(u128::from_le_bytes(random) % span).unwrap_or(0);
    Timestamp::from_nanosecond(first + step).unwrap_or(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Fixed(u8);

    impl Entropy for Fixed {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.fill(self.0);
        }
    }

    #[test]
    fn a_random_moment_lies_in_its_stretch_of_time() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (from, to) = (at("2026-11-20T02:00:00Z"), at("2026-11-27T02:00:00Z"));
        for random in [0, 1, 77, 128, 255] {
            let drawn = between(from, to, &Fixed(random));
            assert!(from <= drawn && drawn <= to, "{drawn}");
        }
        assert_eq!(between(from, to, &Fixed(0)), from);
        assert_eq!(between(from, from, &Fixed(99)), from);
        assert_eq!(between(to, from, &Fixed(99)), to, "a window that is none begins where it begins");
    }
}
