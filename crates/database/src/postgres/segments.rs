//! Which segment files a recovery reads, and from which bytes of the archive each is put together.
//!
//! A server asks for whole files by name. For each segment it asks for that of the newest timeline which began in it or
//! before it; what lies there before the fork are the bytes of the parent. The last file is filled up with zeros, in which a
//! server sees the end of the log.

use crate::{LineageId, Plan, Position};

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its name, such as `00000001000000000000002A`.
    pub name: String,
    /// The position of its first byte.
    pub at: Position,
    /// Its bytes, in order and without a hole from its beginning on; what is not there is zero.
    pub parts: Vec<Part>,
}

/// Bytes of a piece of the plan's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Which piece of [`Plan::log`].
    pub piece: usize,
    /// From here.
    pub from: Position,
    /// To here.
    pub to: Position,
}

/// The beginning of a segment that is needed is not in the plan's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log from {from} on is needed, as a segment begins there, and the plan has it only from {to} on")]
pub struct Missing {
    /// Where the segment begins.
    pub from: Position,
    /// Where the log begins.
    pub to: Position,
}

/// The name of the file of a segment.
#[must_use]
pub fn segment_name(timeline: LineageId, at: Position, segment_bytes: u64) -> String {
    let number = at.number() / segment_bytes.max(1);
    let in_a_log = (1 << 32) / segment_bytes.max(1);
    format!("{:08X}{:08X}{:08X}", timeline.0, number / in_a_log.max(1), number % in_a_log.max(1))
}

/// The name of the file that says from which timelines one comes.
#[must_use]
pub fn history_name(timeline: LineageId) -> String {
    format!("{:08X}.history", timeline.0)
}

/// What the name of a file says that a server hands to its `archive_command`, or asks its `restore_command` for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileName {
    /// A whole segment: of which timeline, and its number in the log.
    Segment {
        /// The timeline in whose name it is.
        timeline: LineageId,
        /// Its number, for [`Self::position`].
        place: (u32, u32),
    },
    /// From which timelines one comes.
    History(LineageId),
    /// The end of a timeline that was left, in a segment that was not filled (`….partial`).
    Partial,
    /// What a backup of the server's own says of itself (`….backup`).
    Label,
}

impl FileName {
    /// `None`: no file of a log has such a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let hex = |digits: &str| {
            let right = digits.len() == 8
                && digits.bytes().all(|digit| digit.is_ascii_digit() || (b'A'..=b'F').contains(&digit));
            if right { u32::from_str_radix(digits, 16).ok() } else { None }
        };
        let segment = |name: &str| {
            let timeline = LineageId(hex(name.get(..8)?)?);
            let place = (hex(name.get(8..16)?)?, hex(name.get(16..)?)?);
            Some(Self::Segment { timeline, place })
        };
        if let Some(timeline) = name.strip_suffix(".history") {
            return Some(Self::History(LineageId(hex(timeline)?)));
        }
        if let Some(name) = name.strip_suffix(".partial") {
            return segment(name).map(|_| Self::Partial);
        }
        if let Some(name) = name.strip_suffix(".backup") {
            let (name, offset) = name.split_once('.')?;
            return segment(name).and(hex(offset)).map(|_| Self::Label);
        }
        segment(name)
    }

    /// Where a segment begins; `None`: it is none, or a server with such segments has none of this name.
    #[must_use]
    pub fn position(self, segment_bytes: u64) -> Option<Position> {
        let Self::Segment { place: (upper, lower), .. } = self else { return None };
        let start = u64::from(lower).checked_mul(segment_bytes)?;
        (segment_bytes > 0 && start < 1 << 32).then(|| Position::new(u64::from(upper) << 32 | start))
    }
}

/// The files that the plan's recovery reads.
///
/// # Errors
/// When the log does not reach back to the beginning of the first segment.
pub fn segments(plan: &Plan, segment_bytes: u64) -> Result<Vec<Segment>, Missing> {
    let segment_bytes = segment_bytes.max(1);
    let mut segments: Vec<Segment> = Vec::new();
    for (piece, log) in plan.log.iter().enumerate() {
        let mut from = log.from;
        if piece == 0 {
            // A server looks at the beginning of a file before it believes the rest.
            let begins = from.segment_start(segment_bytes);
            if log.range.from > begins {
                return Err(Missing { from: begins, to: log.range.from });
            }
            from = begins;
        }
        while from < log.to {
            let at = from.segment_start(segment_bytes);
            let ends = at.plus(segment_bytes);
            let to = log.to.min(ends);
            let part = Part { piece, from, to };
            match segments.last_mut() {
                Some(last) if last.at == at => last.parts.push(part),
                _ => segments.push(Segment { name: String::new(), at, parts: vec![part] }),
            }
            from = to;
        }
    }
    for segment in &mut segments {
        let ends = segment.at.plus(segment_bytes);
        let timeline =
            plan.path.iter().rfind(|step| step.from < ends).map_or(plan.lineage, |step| step.lineage);
        segment.name = segment_name(timeline, segment.at, segment_bytes);
    }
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::{Base, LogPiece, LogRange, PathStep, StandsOn, Stop};

    fn plan(pieces: &[(u32, u64, u64, u64)], fork: u64) -> Plan {
        let piece = |&(lineage, range_from, from, to): &(u32, u64, u64, u64)| LogPiece {
            range: LogRange {
                place: String::new(),
                lineage: LineageId(lineage),
                from: Position::new(range_from),
                to: Position::new(to),
                stored_bytes: 0,
                complete_until: Timestamp::UNIX_EPOCH,
                whole_to: Position::new(to),
                last_record: None,
                commits: None,
                named_points: 0,
            },
            from: Position::new(from),
            to: Position::new(to),
        };
        let step = |lineage, from, to| PathStep {
            lineage: LineageId(lineage),
            from: Position::new(from),
            to: Position::new(to),
        };
        Plan {
            base: Base {
                stands_on: StandsOn::Point(strongroom_model::RecoveryPointId::from_bytes([0; 16])),
                lineage: LineageId(1),
                start: Position::new(pieces[0].2),
                end: Position::new(pieces[0].2),
                ready_at: Timestamp::UNIX_EPOCH,
                bytes: 0,
            },
            lineage: LineageId(2),
            path: vec![step(1, 0, fork), step(2, fork, u64::MAX)],
            log: pieces.iter().map(piece).collect(),
            cut: Position::START,
            stop: Stop::Consistent,
            last_kept: None,
            first_dropped: None,
            dropped_commits: 0,
            stragglers: 0,
            known_until: Timestamp::UNIX_EPOCH,
            log_bytes: 0,
            replay_bytes: 0,
            estimated: Duration::ZERO,
        }
    }

    #[test]
    fn the_segment_of_a_fork_is_that_of_the_new_timeline_with_the_parents_bytes_before_it() {
        let found = segments(&plan(&[(1, 100, 130, 250), (2, 200, 250, 420)], 250), 100).unwrap();
        let told: Vec<_> = found
            .iter()
            .map(|segment| {
                let parts: Vec<_> = segment
                    .parts
                    .iter()
                    .map(|part| (part.piece, part.from.number(), part.to.number()))
                    .collect();
                (segment.name.as_str(), parts)
            })
            .collect();
        assert_eq!(
            told,
            [
                ("000000010000000000000001", vec![(0, 100, 200)]),
                ("000000020000000000000002", vec![(0, 200, 250), (1, 250, 300)]),
                ("000000020000000000000003", vec![(1, 300, 400)]),
                ("000000020000000000000004", vec![(1, 400, 420)]),
            ]
        );
    }

    #[test]
    fn log_that_does_not_reach_back_to_its_segment_is_refused() {
        let missing = segments(&plan(&[(1, 120, 130, 250)], 250), 100).unwrap_err();
        assert_eq!((missing.from, missing.to), (Position::new(100), Position::new(120)));
    }

    #[test]
    fn names_say_what_is_in_a_file_and_nothing_else_is_one() {
        let of = |name: &str| FileName::parse(name);
        let segment = of("00000002000000010000000F").unwrap();
        assert_eq!(segment, FileName::Segment { timeline: LineageId(2), place: (1, 15) });
        assert_eq!(segment.position(16 << 20), Some(Position::new(0x1_0F00_0000)));
        assert_eq!(segment.position(1 << 30), None, "a log of 4 GiB has four of them");
        assert_eq!(of("00000003.history"), Some(FileName::History(LineageId(3))));
        assert_eq!(of("00000002000000010000000F.partial"), Some(FileName::Partial));
        assert_eq!(of("00000002000000010000000F.00000028.backup"), Some(FileName::Label));
        for wrong in [
            "",
            "x",
            "00000002000000010000000f",
            "00000002000000010000000F.tmp",
            "3.history",
            "é0000002000000010000000F",
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn names_are_those_of_the_server() {
        let name = |at| segment_name(LineageId(1), Position::new(at), 16 << 20);
        assert_eq!(name(0x1_0000_0000), "000000010000000100000000");
        assert_eq!(name(0x2_FF00_0123), "0000000100000002000000FF");
        assert_eq!(
            segment_name(LineageId(0x1A), Position::new(0x1_0010_0000), 1 << 20),
            "0000001A0000000100000001"
        );
        let of_three = |at, bytes| segment_name(LineageId(3), Position::new(at), bytes);
        assert_eq!(of_three(0x1_0200_0010, 16 << 20), "000000030000000100000002");
        assert_eq!(of_three(0x1_8000_0000, 1 << 30), "000000030000000100000002");
        assert_eq!(history_name(LineageId(3)), "00000003.history");
    }
}
