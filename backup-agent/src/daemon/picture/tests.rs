use std::path::Path;

use jiff::ToSpan as _;
use jiff::tz::TimeZone;
use strongroom_model::{PackId, RecoveryPointId, SnapshotId, VolumeId};
use strongroom_repository::map::MapRoot;
use strongroom_repository::pack::EntryRef;
use strongroom_repository::{Point, Source};
use strongroom_settings::Config;

use super::*;
use crate::testing::info;

#[derive(Debug)]
struct StoppedClock(Timestamp);

impl Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        self.0
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn picture(now: Timestamp) -> Picture {
    let text = "[[policy]]\nname = \"hourly\"\nvolumes = [\"db*\"]\nschedule = \"15 * * * *\"\ntime_zone = \"UTC\"\nrpo = \"2h\"\n";
    let path = Path::new("s.toml");
    let policies = Policies::new(&Config::parse(text, path).unwrap(), path, &TimeZone::UTC, now).unwrap();
    Picture::new(Arc::new(StoppedClock(now)), Arc::new(policies))
}

fn volume(name: &str) -> Volume {
    let (id, labels) = (VolumeId::from_bytes([1; 16]), [].into());
    Volume {
        id,
        name: name.parse().unwrap(),
        fs: Some("ext4".into()),
        bytes: 1000,
        labels,
        mounts: Vec::new(),
        trouble: None,
    }
}

/// One point of `db`, taken at that moment.
fn fold(taken_at: Timestamp) -> Arc<Fold> {
    let mut fold = Fold::default();
    let mut info = info(1000);
    info.taken_at = taken_at;
    let (of, snapshot) = (VolumeId::from_bytes([1; 16]), SnapshotId::from_bytes([1; 16]));
    info.source = Source::Driver { node: "n1".into(), volume: of, snapshot };
    let id = RecoveryPointId::from_bytes([1; 16]);
    let map = MapRoot { at: EntryRef { pack: PackId::from_bytes([0; 16]), entry: 0 } };
    let (volume, held) = ("db".parse().unwrap(), [].into());
    fold.points.insert(id, Point { id, volume, map, parent: None, number: 1, held, info });
    Arc::new(fold)
}

#[tokio::test]
async fn an_agent_that_is_stuck_shows_ages_that_grow_and_the_verdict_of_status() {
    let looked = at("2026-11-21T12:00:00Z");
    // It looked, all was well, and three hours later it has not looked again.
    let picture = picture(looked.checked_add(3.hours()).unwrap());
    let volumes = [volume("db"), volume("scratch")];
    picture.saw(&fold(looked), Some(("n1", &volumes)), looked);
    let text = picture.metrics().await;
    for line in [
        "strongroom_agent_look_age_seconds 10800.0",
        "strongroom_agent_volumes{health=\"at-risk\"} 1.0",
        "strongroom_agent_volumes{health=\"unprotected\"} 1.0",
        "strongroom_backup_at_risk{volume=\"db\"} 1.0",
        "strongroom_backup_unprotected{volume=\"scratch\"} 1.0",
        "strongroom_backup_rpo_seconds{volume=\"db\"} 10800.0",
        "strongroom_backup_rpo_objective_seconds{volume=\"db\"} 7200.0",
        "strongroom_backup_points{volume=\"db\"} 1.0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(
        !text.contains("last_success_timestamp_seconds{volume=\"scratch\"}"),
        "it never succeeded\n{text}"
    );
}

#[tokio::test]
async fn what_ended_is_counted_and_what_fails_in_a_row_is_shown_until_it_succeeds() {
    let now = at("2026-11-21T12:00:00Z");
    let picture = picture(now);
    assert!(picture.ready().await.is_err(), "the repository was not reached yet");
    picture.trouble(None);
    assert_eq!(picture.ready().await, Ok(()));
    let volumes = [volume("db")];
    picture.saw(&fold(now), Some(("n1", &volumes)), now);
    let db: VolumeName = "db".parse().unwrap();
    picture.ended(&db, Err(1));
    picture.ended(&db, Err(2));
    let text = picture.metrics().await;
    assert!(text.contains("strongroom_backup_failures_in_a_row{volume=\"db\"} 2.0"), "{text}");
    picture.ended(&db, Ok(500));
    let text = picture.metrics().await;
    for line in [
        "strongroom_backup_failures_in_a_row{volume=\"db\"} 0.0",
        "strongroom_agent_backups_total{outcome=\"failed\"} 2",
        "strongroom_agent_backups_total{outcome=\"published\"} 1",
        "strongroom_agent_sent_bytes_total 500",
        "strongroom_agent_up 1.0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}
