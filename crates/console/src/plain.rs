//! Makes text from outside harmless on a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with control characters and those that reorder or hide text written as `\u{…}`.
///
/// Volume names, messages of object stores and file names come from outside; a terminal would obey what is in them.
/// Line breaks and tabs stay.
#[must_use]
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(is_treacherous) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_treacherous(character) {
            // Writing to a String cannot fail.
            let _ = write!(shown, "\\u{{{:x}}}", u32::from(character));
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

fn is_treacherous(character: char) -> bool {
    match character {
        '\n' | '\t' => false,
        // Directional overrides and isolates, zero-width characters, the byte order mark.
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' => true,
        _ => character.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_spelled_out() {
        assert_eq!(plain("größe\n"), "größe\n");
        assert_eq!(plain("a\u{1b}[31mb"), "a\\u{1b}[31mb");
        assert_eq!(plain("gpj\u{202e}.exe"), "gpj\\u{202e}.exe");
    }
}
