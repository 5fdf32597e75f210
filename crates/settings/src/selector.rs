//! Which volumes a policy means: names with wildcards, or labels.
//!
//! ```text
//! "db"            the volume of that name          "*"               every volume
//! "shop-*"        names that begin with shop-      "shop-?"          one more character
//! "env=prod"      the label env is prod            "env=prod,tier=*" both: env is prod, and there is a label tier
//! ```
//! A text with `=` is about labels, every other is a name. Names and values may hold `*` (any characters) and `?` (one
//! character); a `\` takes the special meaning from the character after it. Upper and lower case differ.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// One entry of a policy's `volumes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// A name with wildcards.
    Name(Pattern),
    /// All of these labels: key and the pattern of its value.
    Labels(Vec<(String, Pattern)>),
}

/// The text selects nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// No characters.
    #[error("a selector of volumes cannot be empty: write a name, \"*\", or a label like \"env=prod\"")]
    Empty,
    /// A label without a key.
    #[error("{text:?} names no label before the \"=\": write it like \"env=prod\"")]
    NoKey {
        /// What was given.
        text: String,
    },
    /// Part of a list of labels has no `=`.
    #[error("{part:?} in {text:?} is no label: write each like \"env=prod\"")]
    NotALabel {
        /// The part.
        part: String,
        /// What was given.
        text: String,
    },
}

impl Selector {
    /// Whether the volume of this name and these labels is meant.
    #[must_use]
    pub fn matches(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Name(pattern) => pattern.matches(name),
            Self::Labels(wanted) => wanted
                .iter()
                .all(|(key, pattern)| labels.get(key).is_some_and(|value| pattern.matches(value))),
        }
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        if text.is_empty() {
            return Err(SelectorError::Empty);
        }
        if !text.contains('=') {
            return Ok(Self::Name(Pattern::new(text)));
        }
        let labels = text.split(',').map(|part| match part.trim().split_once('=') {
            None => Err(SelectorError::NotALabel { part: part.trim().to_owned(), text: text.to_owned() }),
            Some(("", _)) => Err(SelectorError::NoKey { text: text.to_owned() }),
            Some((key, value)) => Ok((key.to_owned(), Pattern::new(value))),
        });
        Ok(Self::Labels(labels.collect::<Result<_, _>>()?))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(pattern) => f.write_str(&pattern.text),
            Self::Labels(labels) => {
                for (at, (key, pattern)) in labels.iter().enumerate() {
                    write!(f, "{}{key}={}", if at == 0 { "" } else { "," }, pattern.text)?;
                }
                Ok(())
            }
        }
    }
}

impl<'de> serde::Deserialize<'de> for Selector {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Selector;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a volume, \"*\", or a label like \"env=prod\"")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Selector, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A text with wildcards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Is(char),
    One,
    Any,
}

impl Pattern {
    fn new(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            pieces.push(match character {
                '*' => Piece::Any,
                '?' => Piece::One,
                '\\' => Piece::Is(characters.next().unwrap_or('\\')),
                other => Piece::Is(other),
            });
        }
        Self { text: text.to_owned(), pieces }
    }

    /// Goes back only to the last `*`, so the time is at most the product of both lengths, whatever the pattern.
    fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        let (mut at, mut piece) = (0, 0);
        let mut last_any: Option<(usize, usize)> = None;
        while at < text.len() {
            match self.pieces.get(piece) {
                Some(Piece::Any) => {
                    last_any = Some((piece, at));
                    piece += 1;
                }
                Some(Piece::One) => (at, piece) = (at + 1, piece + 1),
                Some(Piece::Is(character)) if *character == text[at] => (at, piece) = (at + 1, piece + 1),
                _ => match &mut last_any {
                    Some((any, from)) => {
                        *from += 1;
                        (at, piece) = (*from, *any + 1);
                    }
                    None => return false,
                },
            }
        }
        self.pieces[piece..].iter().all(|rest| *rest == Piece::Any)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(selector: &str, name: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        selector.parse::<Selector>().unwrap().matches(name, &labels)
    }

    #[test]
    fn names_match_with_wildcards() {
        for (selector, name, expected) in [
            ("*", "anything", true),
            ("db", "db", true),
            ("db", "db2", false),
            ("shop-*", "shop-media", true),
            ("shop-*", "workshop-media", false),
            ("*-db-*", "a-db-b-db-c", true),
            ("gr?ße", "größe", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("a*b*c", "abbbcb", false),
        ] {
            assert_eq!(matches(selector, name, &[]), expected, "{selector} {name}");
        }
    }

    #[test]
    fn labels_match_all_together() {
        let labels = [("env", "prod"), ("tier", "db")];
        assert!(matches("env=prod", "x", &labels));
        assert!(matches("env=prod,tier=*", "x", &labels));
        assert!(!matches("env=prod,tier=web", "x", &labels));
        assert!(!matches("owner=*", "x", &labels));
        assert!(!matches("env=", "x", &labels));
    }

    #[test]
    fn what_selects_nothing_is_refused() {
        for text in ["", "=prod", "env=prod,db", "env=prod,,"] {
            assert!(text.parse::<Selector>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_matches_itself_and_whatever_is_cut_out_of_it(text in "[a-c]{0,12}", from in 0_usize..12, to in 0_usize..12) {
            let (from, to) = (from.min(text.len()), to.min(text.len()));
            prop_assert!(Pattern::new(&text).matches(&text));
            if from <= to {
                let cut = format!("{}*{}", &text[..from], &text[to..]);
                prop_assert!(Pattern::new(&cut).matches(&text));
            }
        }
    }
}
