//! Names as bytes: shown so that a terminal and a script take no harm, and matched against patterns.

use std::fmt::Write as _;

/// A name or path in one line of text: UTF-8 as it is, everything else escaped (`\n`, `\\`, `\xff`, `\u{202e}`).
#[must_use]
pub fn shown(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for letter in strongroom_console::plain(chunk.valid()).chars() {
            match letter {
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                letter => text.push(letter),
            }
        }
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// The bytes in hexadecimal where text cannot hold them: what a program needs to name the file exactly.
#[must_use]
pub fn exact(bytes: &[u8]) -> Option<String> {
    let simple = std::str::from_utf8(bytes).is_ok_and(|text| shown(bytes) == text);
    (!simple).then(|| bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}")))
}

/// A path and a name below it.
#[must_use]
pub fn joined(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = directory.to_vec();
    if path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// A pattern of a shell: `*`, `?`, `[a-z]`, `[!a-z]`, and `\` before a letter that is meant itself. It matches a whole name,
/// byte by byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Byte(u8),
    /// One letter: all bytes of a UTF-8 letter, or one byte that is not part of any.
    One,
    Any,
    Class {
        negated: bool,
        ranges: Vec<(u8, u8)>,
    },
}

impl Pattern {
    /// Understands a pattern of at most 1024 bytes. A bracket that is not closed is meant itself.
    #[must_use]
    pub fn new(text: &[u8]) -> Option<Self> {
        if text.len() > 1024 {
            return None;
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((first, after)) = rest.split_first() {
            rest = after;
            pieces.push(match first {
                b'*' => Piece::Any,
                b'?' => Piece::One,
                b'\\' if !rest.is_empty() => {
                    let byte = rest[0];
                    rest = &rest[1..];
                    Piece::Byte(byte)
                }
                b'[' => match class(rest) {
                    Some((piece, after)) => {
                        rest = after;
                        piece
                    }
                    None => Piece::Byte(b'['),
                },
                byte => Piece::Byte(*byte),
            });
        }
        pieces.dedup_by(|a, b| *a == Piece::Any && *b == Piece::Any);
        Some(Self(pieces))
    }

    /// Whether all of `name` fits. Takes at most pattern times name steps.
    #[must_use]
    pub fn matches(&self, name: &[u8]) -> bool {
        let (mut piece, mut at) = (0, 0);
        // Where to go on when a later star has to take one byte more.
        let mut again: Option<(usize, usize)> = None;
        while at < name.len() {
            let taken = match self.0.get(piece) {
                Some(Piece::Any) => {
                    again = Some((piece + 1, at));
                    piece += 1;
                    continue;
                }
                Some(Piece::Byte(byte)) => usize::from(*byte == name[at]),
                Some(Piece::One) => letter_bytes(&name[at..]),
                Some(Piece::Class { negated, ranges }) => {
                    let inside = ranges.iter().any(|(low, high)| (*low..=*high).contains(&name[at]));
                    usize::from(inside != *negated)
                }
                None => 0,
            };
            if taken > 0 {
                (piece, at) = (piece + 1, at + taken);
            } else if let Some((after_star, from)) = again {
                again = Some((after_star, from + 1));
                (piece, at) = (after_star, from + 1);
            } else {
                return false;
            }
        }
        self.0[piece..].iter().all(|piece| *piece == Piece::Any)
    }
}

fn letter_bytes(bytes: &[u8]) -> usize {
    let chunk = bytes.utf8_chunks().next();
    chunk.and_then(|chunk| chunk.valid().chars().next()).map_or(1, char::len_utf8)
}

fn class(text: &[u8]) -> Option<(Piece, &[u8])> {
    let negated = matches!(text.first(), Some(b'!' | b'^'));
    let body = &text[usize::from(negated)..];
    // A bracket in first place is one of the letters.
    let end = body.iter().enumerate().skip(1).find(|(_, byte)| **byte == b']')?.0;
    let (letters, after) = (&body[..end], &body[end + 1..]);
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < letters.len() {
        if letters.get(at + 1) == Some(&b'-') && at + 2 < letters.len() {
            ranges.push((letters[at], letters[at + 2]));
            at += 3;
        } else {
            ranges.push((letters[at], letters[at]));
            at += 1;
        }
    }
    Some((Piece::Class { negated, ranges }, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_on_one_line_whatever_it_holds() {
        for (bytes, text) in [
            (&b"plain.txt"[..], "plain.txt"),
            ("größe ✓".as_bytes(), "größe ✓"),
            (b"a\nb\tc", "a\\nb\\tc"),
            (b"\xff\xfe", "\\xff\\xfe"),
            (b"\x1b[2J", "\\u{1b}[2J"),
            ("a\u{202e}b".as_bytes(), "a\\u{202e}b"),
        ] {
            assert_eq!(shown(bytes), text);
            assert_eq!(exact(bytes).is_none(), text.as_bytes() == bytes);
        }
        assert_eq!(exact(b"\xff\n").as_deref(), Some("ff0a"));
    }

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.confx", false),
            ("gr??e", "größe", true),
            ("[a-c]*[!0-9]", "bx", true),
            ("[a-c]*[!0-9]", "b7", false),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("[", "[", true),
            ("[]]", "]", true),
            ("", "", true),
            ("*", "", true),
            ("a*b*c", "abbbcb", false),
        ] {
            assert_eq!(
                Pattern::new(pattern.as_bytes()).unwrap().matches(name.as_bytes()),
                expected,
                "{pattern} {name}"
            );
        }
        let slow = Pattern::new("a*".repeat(100).as_bytes()).unwrap();
        assert!(!slow.matches(&[b"a".repeat(99), b"b".to_vec()].concat()));
    }
}
