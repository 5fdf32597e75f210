//! Weeks of schedules in a moment.

use std::path::Path;

use jiff::tz::TimeZone;
use strongroom_model::{Failure as _, PackId, RecoveryPointId, SnapshotId, VolumeId};
use strongroom_repository::map::MapRoot;
use strongroom_repository::pack::EntryRef;
use strongroom_repository::{Point, Source};
use strongroom_settings::Config;

use super::*;
use crate::capture::CaptureError;
use crate::testing::info;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn policies(schedule: &str) -> Policies {
    let text = format!(
        "[[policy]]\nname = \"p\"\nvolumes = [\"v*\"]\nschedule = \"{schedule}\"\ntime_zone = \"Europe/Berlin\"\njitter = \"5m\"\n"
    );
    let path = Path::new("s.toml");
    Policies::new(&Config::parse(&text, path).unwrap(), path, &TimeZone::UTC, at("2026-01-01T00:00:00Z"))
        .unwrap()
}

fn volume(number: u8) -> Volume {
    let (id, name) = (VolumeId::from_bytes([number; 16]), format!("v{number}").parse().unwrap());
    Volume { id, name, fs: None, bytes: 1, labels: [].into(), mounts: Vec::new(), trouble: None }
}

fn publish(fold: &mut Fold, volume: &Volume, taken_at: Timestamp) {
    let number = fold.points.len() as u64 + 1;
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    let id = RecoveryPointId::from_bytes(id);
    let mut info = info(1);
    info.taken_at = taken_at;
    info.source =
        Source::Driver { node: "n".into(), volume: volume.id, snapshot: SnapshotId::from_bytes([0; 16]) };
    let map = MapRoot { at: EntryRef { pack: PackId::from_bytes([0; 16]), entry: 0 } };
    fold.points.insert(
        id,
        Point { id, volume: volume.name.clone(), map, parent: None, number, held: [].into(), info },
    );
}

#[test]
fn a_week_of_hourly_backups_has_one_in_every_hour_also_when_the_clocks_change() {
    let (policies, volumes) = (policies("15 * * * *"), [volume(1), volume(2), volume(3)]);
    let mut fold = Fold::default();
    let (mut now, end) = (at("2026-10-22T00:00:00Z"), at("2026-10-29T00:00:00Z"));
    while now < end {
        let decision = decide(&volumes, &fold, &policies, &[].into(), &[].into(), 8, now);
        for volume in &decision.start {
            publish(&mut fold, volume, now);
        }
        now = decision.wake.filter(|_| decision.start.is_empty()).unwrap_or(now);
    }
    for volume in &volumes {
        let mut moments: Vec<Timestamp> = fold
            .points
            .values()
            .filter(|point| point.volume == volume.name)
            .map(|point| point.info.taken_at)
            .collect();
        moments.sort_unstable();
        assert_eq!(moments.len(), 1 + 7 * 24, "one at once, then one an hour");
        assert!(
            moments[1..]
                .windows(2)
                .all(|pair| (55 * 60..=65 * 60).contains(&(pair[1].as_second() - pair[0].as_second())))
        );
    }
}

#[test]
fn after_a_long_sleep_each_volume_is_backed_up_once_the_longest_overdue_first() {
    let policies = policies("0 3 * * *");
    let volumes = [volume(1), volume(2)];
    let mut fold = Fold::default();
    publish(&mut fold, &volumes[0], at("2026-11-01T03:00:00Z"));
    publish(&mut fold, &volumes[1], at("2026-11-02T03:00:00Z"));
    let now = at("2026-11-21T12:00:00Z");
    let decision = decide(&volumes, &fold, &policies, &[].into(), &[].into(), 8, now);
    assert_eq!(decision.start.len(), 2);
    for volume in &decision.start {
        publish(&mut fold, volume, now);
    }
    let after = decide(&volumes, &fold, &policies, &[].into(), &[].into(), 8, now);
    assert!(after.start.is_empty());
    assert!(
        after.wake.is_some_and(|wake| wake > at("2026-11-22T01:59:00Z") && wake < at("2026-11-22T02:06:00Z"))
    );
}

#[test]
fn who_runs_or_rests_or_is_broken_is_not_started_and_places_are_limited() {
    let (policies, now) = (policies("@daily"), at("2026-11-21T12:00:00Z"));
    let broken = Volume { trouble: Some("no".into()), ..volume(4) };
    let volumes = [volume(1), volume(2), volume(3), broken];
    let resting = Resting { failures: 1, until: at("2026-11-21T12:00:30Z") };
    let decision = decide(
        &volumes,
        &Fold::default(),
        &policies,
        &[volumes[0].name.clone()].into(),
        &[(volumes[1].name.clone(), resting)].into(),
        1,
        now,
    );
    assert_eq!(decision, Decision { start: vec![volumes[2].clone()], wake: Some(resting.until) });
    let full = decide(&volumes, &Fold::default(), &policies, &[].into(), &[].into(), 0, now);
    assert_eq!(full, Decision { start: vec![], wake: None });
}

#[test]
fn a_volume_that_no_policy_covers_is_never_started() {
    let other = Volume { name: "other".parse().unwrap(), ..volume(1) };
    let decision = decide(
        &[other],
        &Fold::default(),
        &policies("@daily"),
        &[].into(),
        &[].into(),
        8,
        at("2026-11-21T12:00:00Z"),
    );
    assert_eq!(decision, Decision { start: vec![], wake: None });
}

#[test]
fn pauses_after_failures_double_up_to_half_an_hour() {
    let now = at("2026-11-21T12:00:00Z");
    let mut resting = Resting::default();
    let error = BackupError::Capture(CaptureError::Cancelled);
    assert_eq!(error.code(), "backup.stopped");
    let pauses: Vec<i64> = (0..8)
        .map(|_| {
            resting.failed(now, &error);
            resting.until.as_second() - now.as_second()
        })
        .collect();
    assert_eq!(pauses, [60, 120, 240, 480, 960, 1800, 1800, 1800]);
    let busy = BackupError::Busy { volume: "v".parse().unwrap() };
    let mut waiting = Resting::default();
    waiting.failed(now, &busy);
    assert_eq!((waiting.failures, waiting.until.as_second() - now.as_second()), (0, 60));
}
