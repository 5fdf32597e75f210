//! What a history file of PostgreSQL tells: how a timeline came about.

use crate::{LineageId, Position};

/// The forks that a history file tells, oldest first: which timeline was left, and where. Lines are
/// `1<tab>0/3000148<tab>reason`; what is none is passed over, as the server does with comments.
#[must_use]
pub fn forks(history: &str) -> Vec<(LineageId, Position)> {
    let fork = |line: &str| {
        let mut fields = line.split('\t').map(str::trim);
        Some((LineageId(fields.next()?.parse().ok()?), fields.next()?.parse().ok()?))
    };
    history.lines().filter_map(fork).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forks_of_a_timeline_are_read_from_its_history() {
        let text =
            "# made by hand\n1\t0/3000148\tbefore 2026-11-20\n\n2\t0/5000000\tno recovery target specified\n";
        let at = |text: &str| text.parse::<Position>().unwrap();
        assert_eq!(forks(text), [(LineageId(1), at("0/3000148")), (LineageId(2), at("0/5000000"))]);
        assert_eq!(forks(""), []);
    }
}
