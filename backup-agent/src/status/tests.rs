//! The table of the module's introduction, row by row.

use std::path::Path;

use jiff::tz::TimeZone;
use strongroom_model::{PackId, SnapshotId, VolumeId};
use strongroom_repository::map::MapRoot;
use strongroom_repository::pack::EntryRef;
use strongroom_settings::Config;

use super::*;
use crate::testing::info;

const NOW: &str = "2026-11-21T12:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn policies() -> Policies {
    let text = "[[policy]]\nname = \"hourly\"\nvolumes = [\"db*\", \"env=prod\"]\nschedule = \"15 * * * *\"\ntime_zone = \"UTC\"\nrpo = \"2h\"\n";
    let path = Path::new("s.toml");
    Policies::new(&Config::parse(text, path).unwrap(), path, &TimeZone::UTC, at(NOW)).unwrap()
}

fn fold(points: &[(&str, &str, Source)]) -> Fold {
    let mut fold = Fold::default();
    for (number, (volume, taken_at, source)) in (1..).zip(points) {
        let mut info = info(100);
        info.taken_at = at(taken_at);
        info.source = source.clone();
        info.sent_bytes = 10;
        let id = RecoveryPointId::from_bytes([number; 16]);
        let map = MapRoot { at: EntryRef { pack: PackId::from_bytes([0; 16]), entry: 0 } };
        let (volume, held) = (volume.parse().unwrap(), [].into());
        fold.points.insert(id, Point { id, volume, map, parent: None, number: number.into(), held, info });
    }
    fold
}

fn driver(node: &str) -> Source {
    Source::Driver {
        node: node.into(),
        volume: VolumeId::from_bytes([1; 16]),
        snapshot: SnapshotId::from_bytes([1; 16]),
    }
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

fn one(fold: &Fold, volumes: &[Volume]) -> VolumeStatus {
    let mut all = assess(fold, Some(("n1", volumes)), &policies(), at(NOW));
    assert_eq!(all.len(), 1);
    all.remove(0)
}

#[test]
fn a_covered_volume_with_a_young_point_is_healthy() {
    let status = one(
        &fold(&[("db", "2026-11-21T09:16:00Z", driver("n1")), ("db", "2026-11-21T11:16:00Z", driver("n1"))]),
        &[volume("db")],
    );
    assert_eq!((status.health, status.policy.as_deref()), (Health::Healthy, Some("hourly")));
    assert_eq!((status.rpo_now_seconds, status.rpo_goal_seconds), (Some(44 * 60), Some(7200)));
    assert_eq!((status.volume_bytes, status.stored_bytes, status.points), (1000, 20, 2));
    assert_eq!(status.next_run_at, Some(at("2026-11-21T12:15:00Z")));
    assert!(status.problems.is_empty());
}

#[test]
fn a_covered_volume_with_an_old_point_or_none_is_at_risk() {
    let old = one(&fold(&[("db", "2026-11-21T09:16:00Z", driver("n1"))]), &[volume("db")]);
    assert_eq!(
        (old.health, old.problems),
        (Health::AtRisk, vec!["its newest recovery point is older than its goal".to_owned()])
    );
    let never = one(&fold(&[]), &[volume("db")]);
    assert_eq!((never.health, never.next_run_at), (Health::AtRisk, Some(at(NOW))));
}

#[test]
fn a_volume_that_no_policy_covers_is_unprotected_even_with_a_young_point() {
    let status = one(&fold(&[("cache", "2026-11-21T11:59:00Z", driver("n1"))]), &[volume("cache")]);
    assert_eq!((status.health, status.policy, status.next_run_at), (Health::Unprotected, None, None));
}

#[test]
fn points_of_another_volume_of_the_same_name_do_not_protect_this_one() {
    let new = Volume { id: VolumeId::from_bytes([2; 16]), ..volume("db") };
    let status = one(&fold(&[("db", "2026-11-21T11:59:00Z", driver("n1"))]), &[new]);
    assert_eq!((status.health, status.last_taken_at, status.points), (Health::AtRisk, None, 1));
}

#[test]
fn a_volume_that_cannot_be_backed_up_is_at_risk() {
    let broken = Volume { trouble: Some("its image is missing".into()), ..volume("db") };
    let status = one(&fold(&[("db", "2026-11-21T11:59:00Z", driver("n1"))]), &[broken]);
    assert_eq!(
        (status.health, status.problems),
        (Health::AtRisk, vec!["it cannot be backed up now: its image is missing".to_owned()])
    );
}

#[test]
fn what_only_the_repository_knows_is_shown_and_judged_by_the_goal_of_a_policy_that_covers_it() {
    let image = Source::Image { path: "/x".into() };
    let young = one(&fold(&[("db-image", "2026-11-21T11:59:00Z", image.clone())]), &[]);
    assert_eq!((young.whereabouts, young.health), (Whereabouts::Image, Health::Healthy));
    let old = one(&fold(&[("db-image", "2026-11-20T11:59:00Z", image.clone())]), &[]);
    assert_eq!(old.health, Health::AtRisk);
    let nobody = one(&fold(&[("other", "2020-11-20T11:59:00Z", image)]), &[]);
    assert_eq!((nobody.health, nobody.policy), (Health::Healthy, None));
    let elsewhere = one(&fold(&[("db", "2026-11-21T01:59:00Z", driver("n2"))]), &[]);
    assert_eq!((elsewhere.whereabouts, elsewhere.health), (Whereabouts::Elsewhere, Health::AtRisk));
    let gone = one(&fold(&[("db", "2026-11-20T11:59:00Z", driver("n1"))]), &[]);
    assert_eq!((gone.whereabouts, gone.health), (Whereabouts::Gone, Health::Healthy));
}

#[test]
fn one_unprotected_volume_is_worse_than_many_at_risk() {
    let all = assess(&fold(&[]), Some(("n1", &[volume("db"), volume("cache")])), &policies(), at(NOW));
    assert_eq!(all.iter().map(|status| status.volume.as_str()).collect::<Vec<_>>(), ["cache", "db"]);
    assert_eq!(worst(&all), Health::Unprotected);
    assert_eq!(worst(&[]), Health::Healthy);
}

#[test]
fn a_point_from_the_future_is_as_good_as_new() {
    let status = one(&fold(&[("db", "2026-11-21T18:00:00Z", driver("n1"))]), &[volume("db")]);
    assert_eq!((status.health, status.rpo_now_seconds), (Health::Healthy, Some(0)));
}

#[test]
fn stored_data_is_a_problem_when_it_is_damaged_or_was_asked_for_and_not_verified_for_two_rounds() {
    let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
    let daily = CheckConfig::default();
    let days_ago = |days: i64| now.checked_sub(jiff::SignedDuration::from_hours(24 * days)).ok();
    let fold = Fold::default();
    let seen = |oldest_at| Proof { packs: 5, oldest_at, ..Proof::default() };
    // Three percent a day: a round is 34 days.
    for (proof, check, problems) in [
        (seen(None), None, 0),
        (seen(days_ago(400)), None, 0),
        (seen(days_ago(60)), Some(&daily), 0),
        (seen(days_ago(70)), Some(&daily), 1),
        (seen(None), Some(&daily), 0),
        (Proof { damaged_packs: 2, ..seen(days_ago(1)) }, None, 1),
        (Proof { damaged_packs: 2, ..seen(days_ago(70)) }, Some(&daily), 2),
    ] {
        let found = stored_data(&proof, &fold, check, now);
        assert_eq!(found.len(), problems, "{proof:?}: {found:?}");
    }
}

#[test]
fn locks_that_nobody_extends_are_a_risk_and_locks_that_cannot_be_seen_as_well() {
    let ends_at = "2026-11-21T12:00:00Z".parse().ok();
    let fine = LockState { packs: 16, late: 0, ends_at: None, trouble: None };
    assert_eq!(locks(&fine), None);
    assert!(
        locks(&LockState { late: 3, ends_at, ..fine.clone() })
            .is_some_and(|told| told.contains("2026-11-21"))
    );
    assert!(locks(&LockState { late: 3, ..fine.clone() }).is_some_and(|told| told.contains("without")));
    let blind = LockState { packs: 0, trouble: Some("refused".to_owned()), ..fine };
    assert!(locks(&blind).is_some_and(|told| told.contains("refused")));
}
