//! What a store can really do, as it was seen at `init`; the head object keeps it.
//!
//! Six servers that speak S3 gave six different sets of semantics, and silence was the usual failure: a condition
//! header is ignored and the answer is 200. So nothing is believed that was not tried. The trying is done by the
//! probe in the object-store crate; this is only its result, and what follows from it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The answer to a question that not every store can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// It could not be found out.
    #[default]
    Unknown,
}

impl From<bool> for Answer {
    fn from(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

/// What a store does with "create this name, but only if it is free".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CreateOnly {
    /// Of many racing writers exactly one wins: several agents can share the repository.
    Atomic,
    /// One after the other it refuses, but racing writers overwrite one another.
    Racy,
    /// It overwrites and answers that all is well.
    Ignored,
    /// It refuses the condition itself.
    Unsupported,
}

/// What only the adapter can find out, because the verbs of the trait do not show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Claims {
    /// A body that does not fit the checksum sent with it is refused, and not stored either.
    #[serde(default)]
    pub wrong_checksum_refused: Answer,
    /// A checksum that follows the body as a trailer is understood.
    #[serde(default)]
    pub trailer_checksums: Answer,
    /// Old versions of an object are kept.
    #[serde(default)]
    pub versioning: Answer,
    /// Objects can be locked against deleting.
    #[serde(default)]
    pub object_lock: Answer,
}

/// What a store can really do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Abilities {
    /// When it was tried.
    pub probed_at: Timestamp,
    /// What became of create-only writes.
    pub create_only: CreateOnly,
    /// The most winners that one name had among sixteen racing writers; 1 is right.
    pub most_winners: u32,
    /// GET, HEAD and LIST show an object at once after its PUT.
    pub read_after_write: bool,
    /// LIST shows an object at once after its PUT. Nothing rests on it but finding garbage soon.
    pub list_after_write: bool,
    /// A deleted object is gone from GET, HEAD and LIST at once.
    pub delete_is_seen: bool,
    /// What the adapter found out.
    #[serde(flatten)]
    pub claims: Claims,
    /// How far the store's clock is ahead of ours, in milliseconds; S3 tells it to the second only.
    pub clock_ahead_ms: Option<i64>,
}

/// Clocks further apart than this are worth a word: S3 itself refuses requests at fifteen minutes.
pub const MAX_CLOCK_SKEW_MS: i64 = 300_000;

impl Abilities {
    /// Whether more than one agent may write to a repository in this store.
    #[must_use]
    pub const fn several_writers(&self) -> bool {
        matches!(self.create_only, CreateOnly::Atomic)
    }

    /// What a person should know before trusting the store: one sentence each, worst first.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        match self.create_only {
            CreateOnly::Atomic => {}
            CreateOnly::Racy => warnings.push(format!(
                "the store lets {} of 16 racing writers win one name: only ONE agent at a time may write to this repository",
                self.most_winners
            )),
            CreateOnly::Ignored => warnings.push(
                "the store ignores create-only writes and overwrites: only ONE agent at a time may write to this repository"
                    .to_owned(),
            ),
            CreateOnly::Unsupported => warnings.push(
                "the store does not support create-only writes: only ONE agent at a time may write to this repository"
                    .to_owned(),
            ),
        }
        if !self.read_after_write {
            warnings.push(
                "the store does not show a new object at once: reading may need another try".to_owned(),
            );
        }
        if !self.list_after_write || !self.delete_is_seen {
            warnings.push("the store's listing is late: garbage is found later than it could be".to_owned());
        }
        if let Some(ahead) = self.clock_ahead_ms.filter(|ahead| ahead.abs() > MAX_CLOCK_SKEW_MS) {
            let (seconds, side) = (ahead.abs() / 1000, if ahead > 0 { "ahead of" } else { "behind" });
            warnings.push(format!("the store's clock is {seconds} s {side} this machine's"));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fine() -> Abilities {
        Abilities {
            probed_at: Timestamp::UNIX_EPOCH,
            create_only: CreateOnly::Atomic,
            most_winners: 1,
            read_after_write: true,
            list_after_write: true,
            delete_is_seen: true,
            claims: Claims { versioning: Answer::No, ..Claims::default() },
            clock_ahead_ms: Some(-12),
        }
    }

    #[test]
    fn the_stored_form_is_flat_and_read_back() {
        let json = serde_json::to_value(fine()).unwrap();
        assert_eq!(json["create-only"], "atomic");
        assert_eq!(json["versioning"], "no");
        assert_eq!(json["object-lock"], "unknown");
        assert_eq!(serde_json::from_value::<Abilities>(json).unwrap(), fine());
    }

    #[test]
    fn only_an_atomic_store_takes_several_writers_and_the_others_are_told_so() {
        assert!(fine().several_writers() && fine().warnings().is_empty());
        for lie in [CreateOnly::Racy, CreateOnly::Ignored, CreateOnly::Unsupported] {
            let abilities = Abilities { create_only: lie, most_winners: 16, ..fine() };
            assert!(!abilities.several_writers());
            assert!(abilities.warnings()[0].contains("ONE agent"));
        }
    }

    #[test]
    fn a_clock_that_is_far_off_is_named() {
        let abilities = Abilities { clock_ahead_ms: Some(-400_000), ..fine() };
        assert_eq!(abilities.warnings(), ["the store's clock is 400 s behind this machine's"]);
    }
}
