//! A key on paper: four lines that a person can type, each with digits that find typing errors.
//!
//! ```text
//! K1  3fa2 9b1c 77de 0410   c1d2
//! ```
//! The number of the line, 16 of the key's 64 hexadecimal digits, and four check digits: the first 2 bytes of the BLAKE3 of
//! `strongroom kit line <number> <16 digits>`. Upper or lower case, white space and dashes do not matter, nor whether the
//! numbers are typed; `o` is read as 0, `l` and `i` as 1. A whole recovery kit is read as well: other lines are skipped.

use zeroize::Zeroizing;

const LINES: usize = 4;
const DIGITS: usize = 16;
const CHECK_DIGITS: usize = 4;

const MISTYPED: [&str; LINES] = [
    "line K1 is mistyped: its check digits do not fit",
    "line K2 is mistyped: its check digits do not fit",
    "line K3 is mistyped: its check digits do not fit",
    "line K4 is mistyped: its check digits do not fit",
];
const MISSING: [&str; LINES] =
    ["line K1 is missing", "line K2 is missing", "line K3 is missing", "line K4 is missing"];

/// The four lines.
pub(super) fn lines(secret: &[u8; 32]) -> [Zeroizing<String>; LINES] {
    let digits = Zeroizing::new(hex::encode(secret));
    std::array::from_fn(|line| {
        let digits = &digits[line * DIGITS..(line + 1) * DIGITS];
        let mut text = Zeroizing::new(String::with_capacity(64));
        text.push_str(["K1 ", "K2 ", "K3 ", "K4 "][line]);
        for at in (0..DIGITS).step_by(4) {
            text.push(' ');
            text.push_str(&digits[at..at + 4]);
        }
        text.push_str("   ");
        text.push_str(&check(line, digits));
        text
    })
}

fn check(line: usize, digits: &str) -> String {
    let text = Zeroizing::new(format!("strongroom kit line {} {digits}", line + 1));
    hex::encode(&blake3::hash(text.as_bytes()).as_bytes()[..CHECK_DIGITS / 2])
}

/// Whether it is such lines that a person typed, right or wrong.
pub(super) fn is_meant(text: &str) -> bool {
    let first = text.lines().find(|line| !line.trim().is_empty()).map(condensed);
    let of_digits = |line: Zeroizing<String>| {
        line.len() >= DIGITS && line.len() < 3 * DIGITS && line.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    text.lines().any(|line| split_label(line).is_some()) || first.is_some_and(of_digits)
}

/// Whether so much was typed that it is either the key or wrong.
pub(super) fn is_complete(text: &str) -> bool {
    text.lines().filter(|line| condensed(line).len() >= DIGITS).count() >= LINES
}

/// Reads the lines back.
pub(super) fn parse(text: &str) -> Result<Zeroizing<[u8; 32]>, &'static str> {
    let labelled = text.lines().any(|line| split_label(line).is_some());
    let mut found: [Option<Zeroizing<String>>; LINES] = Default::default();
    let mut next = 0;
    for line in text.lines() {
        let (number, rest) = match split_label(line) {
            Some(split) => split,
            None if labelled || line.trim().is_empty() => continue,
            None => (next, line),
        };
        next = number + 1;
        let slot = found.get_mut(number).ok_or("it has more than four lines")?;
        let typed = condensed(rest);
        let fits = typed.is_ascii()
            && typed.len() == DIGITS + CHECK_DIGITS
            && check(number, &typed[..DIGITS]) == typed[DIGITS..];
        if !fits {
            return Err(MISTYPED[number]);
        }
        *slot = Some(typed);
    }
    let mut secret = Zeroizing::new([0; 32]);
    for (number, typed) in found.iter().enumerate() {
        let typed = typed.as_ref().ok_or(MISSING[number])?;
        hex::decode_to_slice(&typed[..DIGITS], &mut secret[number * DIGITS / 2..(number + 1) * DIGITS / 2])
            .map_err(|_| MISTYPED[number])?;
    }
    Ok(secret)
}

/// The number of a line that begins with `K1` to `K4`, from 0, and what follows it.
fn split_label(line: &str) -> Option<(usize, &str)> {
    let rest = line.trim_start().strip_prefix(['K', 'k'])?;
    let (number, rest) = rest.split_at_checked(1)?;
    let number = number.parse::<usize>().ok().filter(|number| (1..=LINES).contains(number))?;
    let rest = rest.strip_prefix([':', '.', ')']).unwrap_or(rest);
    rest.starts_with(char::is_whitespace).then_some((number - 1, rest))
}

/// The digits alone, with letters that look like digits read as those.
fn condensed(text: &str) -> Zeroizing<String> {
    let mut digits = Zeroizing::new(String::with_capacity(text.len()));
    digits.extend(text.chars().filter(|letter| !letter.is_whitespace() && *letter != '-').map(|letter| {
        match letter.to_ascii_lowercase() {
            'o' => '0',
            'l' | 'i' => '1',
            other => other,
        }
    }));
    digits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: [u8; 32] = [0x1f; 32];

    fn written(secret: &[u8; 32]) -> String {
        lines(secret).iter().map(|line| format!("{}\n", **line)).collect()
    }

    #[test]
    fn the_lines_are_fixed() {
        assert_eq!(
            lines(&[0xab; 32])[1].as_str(),
            "K2  abab abab abab abab   ".to_owned() + &check(1, &"ab".repeat(8))
        );
        assert_eq!(written(&SECRET).lines().count(), 4);
    }

    #[test]
    fn a_key_is_read_however_it_was_typed() {
        let plain = written(&SECRET);
        for typed in [
            plain.clone(),
            plain.to_uppercase(),
            plain.replace(' ', "").replace("K1", "").replace("K2", "").replace("K3", "").replace("K4", ""),
            plain.replace("1f1f", "lf-IF"),
            format!("RECOVERY KIT\n\nkey slot 12\n{plain}\nK is for key\n1. strongroom points list\n"),
            plain.lines().rev().collect::<Vec<_>>().join("\n"),
        ] {
            let read = parse(&typed);
            assert_eq!(read.as_deref(), Ok(&SECRET), "{typed}");
        }
    }

    #[test]
    fn every_single_typing_error_is_found_and_its_line_named() {
        let plain = written(&[0x42; 32]);
        for (number, line) in plain.lines().enumerate() {
            for at in 4..line.len() {
                if line.as_bytes()[at] == b' ' {
                    continue;
                }
                let mut wrong: Vec<String> = plain.lines().map(str::to_owned).collect();
                let other = if line.as_bytes()[at] == b'7' { "8" } else { "7" };
                wrong[number].replace_range(at..=at, other);
                assert_eq!(parse(&wrong.join("\n")), Err(MISTYPED[number]));
            }
        }
        let three: Vec<&str> = plain.lines().take(3).collect();
        assert_eq!(parse(&three.join("\n")), Err(MISSING[3]));
        assert!(!is_complete(&three.join("\n")) && is_complete(&plain));
    }

    proptest! {
        #[test]
        fn any_key_comes_back_and_no_text_makes_the_parser_panic(secret: [u8; 32], text in "\\PC{0,200}") {
            let read = parse(&written(&secret));
            prop_assert_eq!(read.as_deref(), Ok(&secret));
            let _ = parse(&text);
            let _ = is_complete(&text);
        }
    }
}
