use std::path::{Path, PathBuf};

use jiff::Timestamp;
use strongroom_database::postgres::segment_name;
use strongroom_database::{LineageId, Position};
use strongroom_log_spool::Spool;

use super::*;
use crate::System;

const BYTES: u64 = 1 << 20;

/// A server's folder with segments of 1 MiB, and the one through which it hands them over.
struct Ground {
    _folder: tempfile::TempDir,
    server: PathBuf,
    handover: PathBuf,
    taker: Taker,
    spool: Spool,
}

fn ground(limit_bytes: u64) -> Ground {
    let folder = tempfile::tempdir().unwrap();
    let [server, handover] = ["server", "handover"].map(|name| folder.path().join(name));
    std::fs::create_dir(&server).unwrap();
    std::fs::create_dir(&handover).unwrap();
    let taker = Taker::open(&handover).unwrap();
    let system = System {
        identifier: 77,
        timeline: LineageId(1),
        flushed: Position::START,
        version: "15.18".into(),
        segment_bytes: BYTES,
    };
    taker.say(&system, limit_bytes).unwrap();
    let spool = Spool::open(&folder.path().join("spool")).unwrap();
    Ground { _folder: folder, server, handover, taker, spool }
}

fn at(number: u64) -> Position {
    Position::new(number * BYTES)
}

impl Ground {
    fn segment(&self, timeline: u32, number: u64) -> PathBuf {
        let mut bytes = vec![u8::try_from(number).unwrap(); usize::try_from(BYTES).unwrap()];
        bytes[..40].fill(0);
        bytes[..2].copy_from_slice(&0xD110_u16.to_le_bytes());
        bytes[2] = 2;
        bytes[4..8].copy_from_slice(&timeline.to_le_bytes());
        bytes[8..16].copy_from_slice(&at(number).number().to_le_bytes());
        bytes[24..32].copy_from_slice(&77_u64.to_le_bytes());
        bytes[32..36].copy_from_slice(&u32::try_from(BYTES).unwrap().to_le_bytes());
        bytes[36..40].copy_from_slice(&8192_u32.to_le_bytes());
        let path = self.server.join(segment_name(LineageId(timeline), at(number), BYTES));
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn give(&self, path: &Path) -> Result<Given, HandoverError> {
        give(path, &self.handover)
    }

    fn take(&self, number: u64) -> Taken {
        let found = self.taker.find(LineageId(1), at(number)).unwrap().expect("it waits");
        self.taker.take(found, at(number), Timestamp::UNIX_EPOCH, &self.spool).unwrap()
    }
}

#[test]
fn what_is_handed_over_is_taken_with_the_time_at_which_it_was_written_and_only_its_end_has_that() {
    let ground = ground(0);
    let path = ground.segment(1, 1);
    let written = std::fs::metadata(&path).unwrap().modified().unwrap();
    assert_eq!(ground.give(&path).unwrap(), Given::Kept);
    assert_eq!(ground.take(1).written_at, Timestamp::try_from(written).unwrap());
    assert_eq!(ground.spool.range(), Some((at(1), at(2))));
    assert!(ground.taker.waiting().unwrap().segments.is_empty());
    assert_eq!(ground.give(&path).unwrap(), Given::Known);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[5000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert!(matches!(ground.give(&path), Err(HandoverError::Differs { .. })));
}

#[test]
fn a_take_that_was_cut_off_goes_on_where_the_spool_ends() {
    let ground = ground(0);
    let path = ground.segment(1, 1);
    let bytes = std::fs::read(&path).unwrap();
    ground.give(&path).unwrap();
    ground.spool.append(at(1), Timestamp::UNIX_EPOCH, &bytes[..5000]).unwrap();
    let found = ground.taker.find(LineageId(1), at(1)).unwrap().unwrap();
    let taken = ground.taker.take(found, at(1).plus(5000), Timestamp::UNIX_EPOCH, &ground.spool).unwrap();
    assert_eq!(taken.end, at(2));
    assert_eq!(ground.spool.read(at(1), 2 << 20).unwrap().unwrap().bytes, bytes);
}

#[test]
fn no_more_waits_than_may_but_what_is_taken_next_is_let_in_and_what_was_let_go_is_forgotten() {
    let ground = ground(0);
    ground.taker.want(LineageId(1), at(1)).unwrap();
    for number in 2..6 {
        assert_eq!(ground.give(&ground.segment(1, number)).unwrap(), Given::Kept);
    }
    assert!(matches!(ground.give(&ground.segment(1, 6)), Err(HandoverError::Full { .. })));
    assert_eq!(ground.give(&ground.segment(1, 1)).unwrap(), Given::Kept);
    ground.taker.let_go(at(8)).unwrap();
    assert_eq!(ground.give(&ground.segment(1, 7)).unwrap(), Given::LetGo);
    assert!(matches!(ground.give(&ground.segment(1, 8)), Err(HandoverError::Full { .. })));
}

#[test]
fn a_segment_of_a_new_timeline_brings_along_how_that_came_about() {
    let ground = ground(0);
    let history = "1\t0/180000\tno recovery target specified\n";
    std::fs::write(ground.server.join("00000002.history"), history).unwrap();
    ground.give(&ground.segment(2, 1)).unwrap();
    assert_eq!(ground.taker.history(LineageId(2)).as_deref(), Some(history));
    std::fs::write(ground.server.join("00000002.history"), "1\t0/190000\tanother\n").unwrap();
    assert!(matches!(ground.give(&ground.segment(2, 2)), Err(HandoverError::Differs { .. })));
}

#[test]
fn no_link_is_followed_and_no_second_agent_takes() {
    let ground = ground(0);
    let secret = ground.server.join("secret");
    std::fs::write(&secret, "not of the log").unwrap();
    let name = segment_name(LineageId(1), at(1), BYTES);
    std::os::unix::fs::symlink(&secret, ground.handover.join(&name)).unwrap();
    assert!(matches!(ground.taker.find(LineageId(1), at(1)), Err(HandoverError::File { .. })));
    std::os::unix::fs::symlink(&secret, ground.handover.join(".agent.note")).unwrap();
    ground.taker.want(LineageId(1), at(3)).unwrap();
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "not of the log");
    assert!(matches!(Taker::open(&ground.handover), Err(HandoverError::OtherAgent { .. })));
    assert!(is_taken_from(&ground.handover));
    drop(ground.taker);
    assert!(!is_taken_from(&ground.handover));
}
