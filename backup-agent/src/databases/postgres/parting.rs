//! With which timeline a log goes on, where the server is not where it was left. Pure.
//!
//! A server that was promoted in the ordinary way left its old timeline where we had all of it, or later: the old one is
//! streamed to its end, and the server says what follows. A restored database that took the live one's place left it
//! *before* what is archived, and after an undo the old timeline goes on as if nothing had been. In both cases the server
//! refuses to stream on, so it has to be known beforehand. What is archived of the history that was left stays as it is.

use strongroom_database::{LineageId, Position};
use strongroom_postgres::PostgresError;

use crate::databases::engine::{Fork, Known, Onward};

/// How the log goes on at a server that is in `timeline`, where it came to through `forks`: which it left, and where.
///
/// The last of `known` is the log that was written last, which is on this disk and in the repository up to its end.
///
/// # Errors
/// When the server uses the number of a timeline that we know for another history.
pub(super) fn onward(
    timeline: LineageId,
    forks: &[(LineageId, Position)],
    known: &[Known],
) -> Result<Onward, PostgresError> {
    let steps: Vec<LineageId> = forks.iter().map(|(left, _)| *left).chain([timeline]).collect();
    let of = |step: usize| known.iter().rfind(|known| known.lineage == steps[step]);
    for (step, timeline) in steps.iter().enumerate() {
        let theirs = step.checked_sub(1).map(|before| forks[before]);
        if let Some(found) = of(step)
            && found.fork != theirs
        {
            return Err(PostgresError::OtherHistory { timeline: *timeline });
        }
    }
    let left = |step: usize| forks.get(step).map_or(Position::END, |(_, at)| *at);
    let is_behind_us = |ours: &Known| {
        steps.iter().position(|step| *step == ours.lineage).is_some_and(|step| left(step) >= ours.end)
    };
    if known.last().is_some_and(is_behind_us) {
        return Ok(Onward::Same);
    }
    let Some((step, found)) = (0..steps.len()).rev().find_map(|step| Some((step, of(step)?))) else {
        return Ok(Onward::Elsewhere);
    };
    Ok(Onward::With(if found.end < left(step) {
        Fork { next: found.lineage, parent: None, at: found.end }
    } else {
        Fork { next: steps[step + 1], parent: Some(found.lineage), at: left(step) }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: u64) -> Position {
        Position::new(number)
    }

    fn known(timeline: u32, fork: Option<(u32, u64)>, end: u64) -> Known {
        let fork = fork.map(|(parent, place)| (LineageId(parent), at(place)));
        Known { lineage: LineageId(timeline), fork, end: at(end) }
    }

    fn going(timeline: u32, forks: &[(u32, u64)], known: &[Known]) -> Onward {
        let forks: Vec<_> = forks.iter().map(|(left, place)| (LineageId(*left), at(*place))).collect();
        onward(LineageId(timeline), &forks, known).unwrap()
    }

    #[test]
    fn a_server_that_is_where_it_was_or_left_it_later_goes_on_with_the_log() {
        assert_eq!(going(1, &[], &[known(1, None, 100)]), Onward::Same);
        assert_eq!(going(2, &[(1, 100)], &[known(1, None, 100)]), Onward::Same);
        assert_eq!(going(3, &[(1, 120), (2, 130)], &[known(1, None, 100)]), Onward::Same);
    }

    #[test]
    fn a_restored_database_in_the_live_ones_place_begins_its_own_log_at_the_fork() {
        let new = |next, parent, place| {
            Onward::With(Fork { next: LineageId(next), parent: Some(LineageId(parent)), at: at(place) })
        };
        assert_eq!(going(2, &[(1, 80)], &[known(1, None, 100)]), new(2, 1, 80));
        // Restored again, to before the first fork, and to behind it.
        let both = [known(1, None, 100), known(2, Some((1, 80)), 150)];
        assert_eq!(going(3, &[(1, 70)], &both), new(3, 1, 70));
        assert_eq!(going(3, &[(1, 80), (2, 90)], &both), new(3, 2, 90));
        // Nobody saw the one between.
        assert_eq!(going(4, &[(1, 70), (3, 75)], &both), new(3, 1, 70));
    }

    #[test]
    fn an_undone_restore_goes_on_with_the_history_that_was_left() {
        let again =
            |timeline, place| Onward::With(Fork { next: LineageId(timeline), parent: None, at: at(place) });
        let both = [known(1, None, 100), known(2, Some((1, 80)), 150)];
        assert_eq!(going(1, &[], &both), again(1, 100));
        let three = [both[0], both[1], known(3, Some((1, 70)), 90)];
        assert_eq!(going(2, &[(1, 80)], &three), again(2, 150));
    }

    #[test]
    fn another_history_under_a_number_that_is_known_is_refused() {
        let both = [known(1, None, 100), known(2, Some((1, 80)), 150)];
        let forks = [(LineageId(1), at(90))];
        let refused = onward(LineageId(2), &forks, &both);
        assert!(matches!(refused, Err(PostgresError::OtherHistory { timeline: LineageId(2) })));
        let unknown = [known(2, Some((1, 80)), 150)];
        assert_eq!(going(1, &[], &unknown), Onward::Elsewhere);
    }
}
