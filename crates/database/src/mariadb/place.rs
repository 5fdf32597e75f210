//! Places in a binary log: the number of a file and an offset in it, as one position.

use crate::{LogPiece, Position};

/// The offset of the first event of a file: what is before it says that it is one.
pub const FIRST_EVENT: u32 = 4;

/// The position of an offset in a file.
#[must_use]
pub const fn place(file: u32, offset: u32) -> Position {
    Position::new((file as u64) << 32 | offset as u64)
}

/// The number of the file.
#[must_use]
pub const fn file(at: Position) -> u32 {
    // Fits: it is the upper half.
    (at.number() >> 32) as u32
}

/// The offset in the file.
#[must_use]
pub const fn offset(at: Position) -> u32 {
    (at.number() & 0xFFFF_FFFF) as u32
}

/// How many bytes of log these pieces have up to `cut`: a piece lies in one file, or has all its bytes in its last.
#[must_use]
pub fn bytes(pieces: &[LogPiece], cut: Position) -> u64 {
    let of = |piece: &LogPiece| {
        let to = piece.to.min(cut.max(piece.from));
        if file(piece.from) == file(to) { to.since(piece.from) } else { offset(to).into() }
    };
    pieces.iter().map(of).sum()
}

/// The number in the name of a file, such as 17 in `mysql-bin.000017`.
#[must_use]
pub fn file_number(name: &str) -> Option<u32> {
    let (_, digits) = name.rsplit_once('.')?;
    let plain = digits.len() >= 6 && digits.bytes().all(|digit| digit.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_numbered_by_their_names() {
        assert_eq!((file(place(17, 4)), offset(place(17, 4))), (17, 4));
        assert_eq!(file_number("mysql-bin.000017"), Some(17));
        assert_eq!(file_number("a.b.1000000"), Some(1_000_000));
        for name in ["mysql-bin", "mysql-bin.17", "mysql-bin.index", "mysql-bin.00001x", "x.99999999999"] {
            assert_eq!(file_number(name), None, "{name}");
        }
    }
}
