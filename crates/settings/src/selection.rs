//! What somebody writes to choose a recovery point, in one word: an id or the beginning of one, `NAME@latest`, or `NAME@TIME`.
//!
//! The same choices as `restore run --point`, `--latest` and `--at`, for places that have only one string. The last `@` divides, so the name
//! of a volume may hold one.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use strongroom_model::VolumeName;

use crate::{Choice, Moment};

/// A choice, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Whose points; not needed where an id chooses.
    pub volume: Option<VolumeName>,
    /// Which of them.
    pub choice: Choice,
}

/// A name of 128 bytes and a time fit in.
const LONGEST_BYTES: usize = 256;

impl Selection {
    /// Understands one word; `now` and `zone` are those of whoever wrote it.
    ///
    /// # Errors
    /// When it has no such form, in words.
    pub fn parse(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Self, String> {
        if text.len() > LONGEST_BYTES {
            return Err(format!("it has more than {LONGEST_BYTES} bytes"));
        }
        let Some((volume, when)) = text.rsplit_once('@') else {
            return Ok(Self { volume: None, choice: Choice::Id(text.to_owned()) });
        };
        let volume: VolumeName = volume.parse().map_err(|error| format!("{error}"))?;
        let choice = match when {
            "latest" => Choice::Latest,
            time => Choice::At(Moment::parse(time, now, zone).map_err(|error| error.to_string())?.at),
        };
        Ok(Self { volume: Some(volume), choice })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Selection, String> {
        Selection::parse(text, "2026-11-21T12:00:00Z".parse().unwrap(), &TimeZone::UTC)
    }

    #[test]
    fn one_word_says_what_the_three_flags_of_restore_say() {
        let id = parse("rp-00ff").unwrap();
        assert_eq!(id, Selection { volume: None, choice: Choice::Id("rp-00ff".into()) });
        let latest = parse("team@db@latest").unwrap();
        assert_eq!((latest.volume.unwrap().as_str(), latest.choice), ("team@db", Choice::Latest));
        let at = parse("db@2026-11-20T23:00:00Z").unwrap();
        assert_eq!(at.choice, Choice::At("2026-11-20T23:00:00Z".parse().unwrap()));
        assert_eq!(parse("db@yesterday 23:00").unwrap().choice, at.choice);
        for wrong in ["@latest", "db@", "db@soon", &"x".repeat(300)] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
