//! Which recovery point a person means: pure, no I/O.
//!
//! A time chooses the newest point that was taken at or before it, never a later one: a later point may hold the very
//! damage the person wants to go back behind. Every refusal names what lies nearest, since whoever reads it is looking
//! for a point and not for an error.

use jiff::Timestamp;
use strongroom_model::{Failure, RecoveryPointId, Remedy, VolumeName};
use strongroom_repository::Point;

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// The newest point.
    Latest,
    /// The newest point taken at or before this moment.
    At(Timestamp),
    /// The point with this id, or the only one whose id begins like this. The prefix `rp-` may be left out.
    Id(String),
}

/// As much of a recovery point as choosing needs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Candidate {
    /// The point.
    pub id: RecoveryPointId,
    /// Whose content it is.
    pub volume: VolumeName,
    /// The moment of the content.
    pub taken_at: Timestamp,
    /// Its journal record: decides between points of the same moment.
    pub number: u64,
}

impl From<&Point> for Candidate {
    fn from(point: &Point) -> Self {
        Self {
            id: point.id,
            volume: point.volume.clone(),
            taken_at: point.info.taken_at,
            number: point.number,
        }
    }
}

/// Why no point was chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// The repository has no point of that volume.
    #[error("the repository holds no recovery point of volume {volume}")]
    NoSuchVolume {
        /// What was asked for.
        volume: String,
        /// The volumes that have points, at most 16.
        known: Vec<String>,
    },
    /// Every point of the volume is younger than the moment asked for.
    #[error(
        "no recovery point of volume {volume} was taken at or before {at}; the first after it is {after} of {after_at}"
    )]
    NothingBefore {
        /// The volume.
        volume: VolumeName,
        /// The moment asked for.
        at: Timestamp,
        /// The nearest point after it.
        after: RecoveryPointId,
        /// When that was taken.
        after_at: Timestamp,
    },
    /// No id begins like that.
    #[error("there is no recovery point {text}{}", of(.volume.as_ref()))]
    NoSuchPoint {
        /// What was asked for, cut to 64 characters.
        text: String,
        /// The volume it was asked of.
        volume: Option<VolumeName>,
        /// The newest points there are, at most 3.
        newest: Vec<(RecoveryPointId, Timestamp)>,
    },
    /// More than one id begins like that.
    #[error("{count} recovery points begin with {text}")]
    Ambiguous {
        /// What was asked for.
        text: String,
        /// How many begin like that.
        count: usize,
        /// The first of them, at most 4.
        matches: Vec<(RecoveryPointId, Timestamp)>,
    },
    /// The point belongs to another volume.
    #[error("recovery point {point} is of volume {owner}, not of {volume}")]
    OfOtherVolume {
        /// The point.
        point: RecoveryPointId,
        /// Whose it is.
        owner: VolumeName,
        /// Whose it should have been.
        volume: VolumeName,
    },
    /// Neither a volume nor a point was named.
    #[error("no volume was named, and without one only --point can choose")]
    NoVolumeNamed,
}

fn of(volume: Option<&VolumeName>) -> String {
    volume.map(|volume| format!(" of volume {volume}")).unwrap_or_default()
}

fn list(points: &[(RecoveryPointId, Timestamp)]) -> String {
    points.iter().map(|(id, at)| format!("{id} ({at})")).collect::<Vec<_>>().join(", ")
}

impl Failure for SelectError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoSuchVolume { .. } => "restore.no-such-volume",
            Self::NothingBefore { .. } => "restore.nothing-before",
            Self::NoSuchPoint { .. } => "restore.no-such-point",
            Self::Ambiguous { .. } => "restore.ambiguous-point",
            Self::OfOtherVolume { .. } => "restore.other-volume",
            Self::NoVolumeNamed => "restore.no-volume-named",
        }
    }

    fn remedy(&self) -> Remedy {
        Remedy::FixRequest
    }

    fn advice(&self) -> String {
        match self {
            Self::NoSuchVolume { known, .. } if known.is_empty() => {
                "The repository holds no recovery points at all: check that it is the right one.".into()
            }
            Self::NoSuchVolume { known, .. } => format!("It holds points of: {}.", known.join(", ")),
            Self::NothingBefore { after, .. } => {
                format!("Use --point {after} for the nearest point, or a later --at.")
            }
            Self::NoSuchPoint { newest, .. } if newest.is_empty() => {
                "`strongroom points list` shows every point.".into()
            }
            Self::NoSuchPoint { newest, .. } => {
                format!("The newest are {}; `strongroom points list` shows every point.", list(newest))
            }
            Self::Ambiguous { matches, .. } => format!("Give more digits: {}.", list(matches)),
            Self::OfOtherVolume { owner, .. } => format!("Use --volume {owner}, or choose another point."),
            Self::NoVolumeNamed => "Add --volume NAME.".into(),
        }
    }
}

/// Chooses among `points`, which may be of any volumes and in any order.
///
/// # Errors
/// When nothing fits, or more than one thing does.
pub fn select<'a>(
    points: &'a [Candidate],
    volume: Option<&VolumeName>,
    choice: &Choice,
) -> Result<&'a Candidate, SelectError> {
    let age = |point: &&Candidate| (point.taken_at, point.number);
    if let Choice::Id(text) = choice {
        return by_id(points, volume, text);
    }
    let volume = volume.ok_or(SelectError::NoVolumeNamed)?;
    let own = || points.iter().filter(|point| point.volume == *volume);
    let newest = own().max_by_key(age).ok_or_else(|| no_such_volume(points, volume))?;
    match choice {
        Choice::At(at) => own().filter(|point| point.taken_at <= *at).max_by_key(age).ok_or_else(|| {
            let after = own().min_by_key(age).unwrap_or(newest);
            SelectError::NothingBefore {
                volume: volume.clone(),
                at: *at,
                after: after.id,
                after_at: after.taken_at,
            }
        }),
        Choice::Latest | Choice::Id(_) => Ok(newest),
    }
}

/// The point after the chosen one, when there is one: what a person compares with.
#[must_use]
pub fn next_after<'a>(points: &'a [Candidate], chosen: &Candidate) -> Option<&'a Candidate> {
    points
        .iter()
        .filter(|point| {
            point.volume == chosen.volume && (point.taken_at, point.number) > (chosen.taken_at, chosen.number)
        })
        .min_by_key(|point| (point.taken_at, point.number))
}

fn by_id<'a>(
    points: &'a [Candidate],
    volume: Option<&VolumeName>,
    text: &str,
) -> Result<&'a Candidate, SelectError> {
    let digits = text.strip_prefix(RecoveryPointId::PREFIX).unwrap_or(text);
    // An empty prefix would mean "any point"; nobody who typed nothing meant that.
    let fits = |point: &&Candidate| !digits.is_empty() && point.id.hex().starts_with(digits);
    let own = |point: &&Candidate| volume.is_none_or(|volume| point.volume == *volume);
    let mut matches: Vec<&Candidate> = points.iter().filter(own).filter(fits).collect();
    matches.sort_by_key(|point| (point.taken_at, point.number));
    match matches[..] {
        [only] => Ok(only),
        [] => Err(match (volume, points.iter().find(fits)) {
            (Some(volume), Some(other)) => SelectError::OfOtherVolume {
                point: other.id,
                owner: other.volume.clone(),
                volume: volume.clone(),
            },
            _ => no_such_point(points, volume, text),
        }),
        _ => Err(SelectError::Ambiguous {
            text: text.chars().take(64).collect(),
            count: matches.len(),
            matches: matches.iter().take(4).map(|point| (point.id, point.taken_at)).collect(),
        }),
    }
}

fn no_such_volume(points: &[Candidate], volume: &VolumeName) -> SelectError {
    let mut known: Vec<String> = points.iter().map(|point| point.volume.to_string()).collect();
    known.sort();
    known.dedup();
    known.truncate(16);
    SelectError::NoSuchVolume { volume: volume.to_string(), known }
}

fn no_such_point(points: &[Candidate], volume: Option<&VolumeName>, text: &str) -> SelectError {
    let mut own: Vec<&Candidate> =
        points.iter().filter(|point| volume.is_none_or(|volume| point.volume == *volume)).collect();
    own.sort_by_key(|point| std::cmp::Reverse((point.taken_at, point.number)));
    SelectError::NoSuchPoint {
        text: text.chars().take(64).collect(),
        volume: volume.cloned(),
        newest: own.iter().take(3).map(|point| (point.id, point.taken_at)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(name: &str) -> VolumeName {
        name.parse().unwrap()
    }

    fn point(first: u8, name: &str, second: i64) -> Candidate {
        let mut bytes = [0x11; 16];
        bytes[0] = first;
        Candidate {
            id: RecoveryPointId::from_bytes(bytes),
            volume: volume(name),
            taken_at: Timestamp::from_second(second).unwrap(),
            number: u64::from(first),
        }
    }

    fn some() -> Vec<Candidate> {
        vec![point(0xa0, "a", 100), point(0xa1, "a", 200), point(0xb0, "b", 150), point(0xa2, "a", 300)]
    }

    fn at(second: i64) -> Choice {
        Choice::At(Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn a_time_chooses_the_newest_point_at_or_before_it_and_never_a_later_one() {
        let points = some();
        for (second, expected) in [(100, 0), (199, 0), (200, 1), (299, 1), (300, 3), (9_999, 3)] {
            assert_eq!(select(&points, Some(&volume("a")), &at(second)), Ok(&points[expected]), "{second}");
        }
    }

    #[test]
    fn of_two_points_of_one_moment_the_later_record_is_the_newer() {
        let points = vec![point(2, "a", 100), point(1, "a", 100)];
        assert_eq!(select(&points, Some(&volume("a")), &Choice::Latest), Ok(&points[0]));
        assert_eq!(next_after(&points, &points[1]), Some(&points[0]));
    }

    #[test]
    fn a_time_before_the_first_point_names_that_point() {
        let points = some();
        let error = select(&points, Some(&volume("a")), &at(99)).unwrap_err();
        assert!(
            matches!(error, SelectError::NothingBefore { after, .. } if after == points[0].id),
            "{error}"
        );
        assert!(error.advice().contains(&points[0].id.to_string()));
    }

    #[test]
    fn an_id_may_be_cut_to_what_is_unique() {
        let points = some();
        for text in ["a1", "rp-a1", &points[1].id.to_string(), "a11"] {
            assert_eq!(
                select(&points, Some(&volume("a")), &Choice::Id(text.into())),
                Ok(&points[1]),
                "{text}"
            );
        }
        let several = select(&points, None, &Choice::Id("a".into())).unwrap_err();
        assert!(matches!(several, SelectError::Ambiguous { count: 3, .. }), "{several}");
    }

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        let points = some();
        let a = volume("a");
        let other = select(&points, Some(&a), &Choice::Id("b0".into())).unwrap_err();
        assert!(matches!(other, SelectError::OfOtherVolume { .. }), "{other}");
        for text in ["", "rp-", "ff", "../../etc/passwd", "ä"] {
            let none = select(&points, Some(&a), &Choice::Id(text.into())).unwrap_err();
            assert!(matches!(none, SelectError::NoSuchPoint { .. }), "{text}: {none}");
        }
        let volume = select(&points, Some(&volume("c")), &Choice::Latest).unwrap_err();
        assert_eq!(volume.advice(), "It holds points of: a, b.");
        assert_eq!(select(&points, None, &Choice::Latest), Err(SelectError::NoVolumeNamed));
    }
}
