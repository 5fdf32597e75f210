//! Examples on a calendar, and what holds for all of them.
#![expect(clippy::cast_possible_truncation, reason = "the volumes of these tests fit into memory")]

use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;

fn point(number: u64, taken_at: &str, held: bool) -> Candidate {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    Candidate { id: RecoveryPointId::from_bytes(id), taken_at: taken_at.parse().unwrap(), number, held }
}

fn rules(last: u32, hourly: u32, daily: u32, weekly: u32, monthly: u32) -> RetainConfig {
    RetainConfig {
        last,
        hourly,
        daily,
        weekly,
        monthly,
        min_good: NonZeroU32::MIN,
        ..RetainConfig::default()
    }
}

fn numbers(points: &[Candidate], rules: &RetainConfig, zone: &TimeZone) -> Vec<u64> {
    let kept = keep(points, rules, zone);
    points.iter().filter(|point| kept.contains_key(&point.id)).map(|point| point.number).collect()
}

#[test]
fn each_rule_keeps_the_newest_of_its_period() {
    let points = [
        point(1, "2026-10-31T23:30:00Z", false),
        point(2, "2026-11-19T10:00:00Z", false),
        point(3, "2026-11-20T10:00:00Z", false),
        point(4, "2026-11-20T22:00:00Z", false),
        point(5, "2026-11-21T10:00:00Z", false),
        point(6, "2026-11-21T10:30:00Z", false),
    ];
    assert_eq!(numbers(&points, &rules(2, 0, 0, 0, 0), &TimeZone::UTC), [5, 6]);
    assert_eq!(numbers(&points, &rules(0, 2, 0, 0, 0), &TimeZone::UTC), [4, 6]);
    assert_eq!(numbers(&points, &rules(0, 0, 3, 0, 0), &TimeZone::UTC), [2, 4, 6]);
    assert_eq!(numbers(&points, &rules(0, 0, 0, 0, 2), &TimeZone::UTC), [1, 6]);
    // In Berlin the first point lies in November: one month, and the oldest day.
    let berlin = TimeZone::get("Europe/Berlin").unwrap();
    assert_eq!(numbers(&points, &rules(0, 0, 0, 0, 2), &berlin), [6]);
    assert_eq!(numbers(&points, &rules(0, 0, 9, 0, 0), &berlin), [1, 2, 4, 6]);
}

#[test]
fn days_without_points_do_not_use_up_what_is_kept() {
    let points = [point(1, "2020-01-01T00:00:00Z", false), point(2, "2026-11-21T00:00:00Z", false)];
    assert_eq!(numbers(&points, &rules(0, 0, 2, 0, 0), &TimeZone::UTC), [1, 2]);
}

#[test]
fn weeks_begin_on_monday_and_belong_to_one_year() {
    // Thursday 31 December 2026 and Friday 1 January 2027 share a week; Monday 4 January begins the next.
    let points = [
        point(1, "2026-12-31T10:00:00Z", false),
        point(2, "2027-01-01T10:00:00Z", false),
        point(3, "2027-01-03T23:59:00Z", false),
        point(4, "2027-01-04T00:00:00Z", false),
    ];
    assert_eq!(numbers(&points, &rules(0, 0, 0, 5, 0), &TimeZone::UTC), [3, 4]);
}

#[test]
fn no_rule_at_all_keeps_the_floor() {
    let points = [
        point(1, "2026-01-01T00:00:00Z", false),
        point(2, "2026-01-02T00:00:00Z", false),
        point(3, "2026-01-03T00:00:00Z", false),
    ];
    let floor = RetainConfig { min_good: NonZeroU32::new(2).unwrap(), ..RetainConfig::default() };
    assert_eq!(numbers(&points, &floor, &TimeZone::UTC), [2, 3]);
    assert_eq!(forget(&points, &floor, &TimeZone::UTC), [points[0].id]);
}

#[test]
fn only_volumes_whose_newest_point_this_agent_took_and_a_policy_covers_lose_points() {
    let mut fold = Fold::default();
    let mut number: u8 = 0;
    for (volume, agent) in [("mine", "me"), ("theirs", "them"), ("uncovered", "me"), ("moved", "them")] {
        for _ in 0..3 {
            number += 1;
            let mut info = crate::testing::info(1);
            info.taken_at = Timestamp::from_second(number.into()).unwrap();
            info.agent = if volume == "moved" && number == 12 { "me" } else { agent }.into();
            let id = RecoveryPointId::from_bytes([number; 16]);
            let at = strongroom_repository::pack::EntryRef {
                pack: strongroom_model::PackId::from_bytes([0; 16]),
                entry: 0,
            };
            let map = strongroom_repository::map::MapRoot { at };
            let (volume, number) = (volume.parse().unwrap(), number.into());
            fold.points.insert(id, Point { id, volume, map, parent: None, number, held: [].into(), info });
        }
    }
    let text = "[[policy]]\nname = \"p\"\nvolumes = [\"m*\", \"theirs\"]\nschedule = \"@daily\"\nretain = { last = 1, min_good = 1 }\n";
    let path = std::path::Path::new("s.toml");
    let config = strongroom_settings::Config::parse(text, path).unwrap();
    let policies = Policies::new(&config, path, &TimeZone::UTC, Timestamp::UNIX_EPOCH).unwrap();
    let gone: Vec<String> =
        expired(&fold, &policies, "me").iter().map(|id| fold.points[id].volume.to_string()).collect();
    assert_eq!(gone, ["mine", "mine", "moved", "moved"]);
}

fn any_points() -> impl Strategy<Value = Vec<Candidate>> {
    prop::collection::vec((1_700_000_000_i64..1_800_000_000, prop::bool::weighted(0.1)), 0..60).prop_map(
        |points| {
            let number = |(at, (second, held)): (usize, (i64, bool))| {
                point(at as u64, &Timestamp::from_second(second).unwrap().to_string(), held)
            };
            points.into_iter().enumerate().map(number).collect()
        },
    )
}

fn any_rules() -> impl Strategy<Value = RetainConfig> {
    (0_u32..4, 0_u32..5, 0_u32..5, 0_u32..5, 0_u32..5, 0_u32..3, 1_u32..4).prop_map(
        |(last, hourly, daily, weekly, monthly, yearly, good)| RetainConfig {
            last,
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
            min_good: NonZeroU32::new(good).unwrap(),
        },
    )
}

proptest! {
    #[test]
    fn the_newest_the_held_and_the_floor_are_always_kept(points in any_points(), rules in any_rules()) {
        let kept = keep(&points, &rules, &TimeZone::UTC);
        if let Some(newest) = points.iter().max_by_key(|point| (point.taken_at, point.number)) {
            prop_assert!(kept.contains_key(&newest.id));
        }
        prop_assert!(points.iter().filter(|point| point.held).all(|point| kept.contains_key(&point.id)));
        prop_assert!(kept.len() >= points.len().min(rules.min_good.get() as usize));
    }

    #[test]
    fn no_rule_keeps_more_than_it_says(points in any_points(), rules in any_rules()) {
        let kept = keep(&points, &rules, &TimeZone::UTC);
        let by = |reason| kept.values().filter(|reasons| reasons.contains(&reason)).count() as u32;
        prop_assert!(by(Reason::Last) <= rules.last && by(Reason::Hourly) <= rules.hourly && by(Reason::Daily) <= rules.daily);
        prop_assert!(by(Reason::Weekly) <= rules.weekly && by(Reason::Monthly) <= rules.monthly && by(Reason::Yearly) <= rules.yearly);
    }

    #[test]
    fn what_was_kept_is_kept_again(points in any_points(), rules in any_rules()) {
        let kept = keep(&points, &rules, &TimeZone::UTC);
        let survivors: Vec<Candidate> = points.into_iter().filter(|point| kept.contains_key(&point.id)).collect();
        prop_assert_eq!(keep(&survivors, &rules, &TimeZone::UTC), kept);
        prop_assert_eq!(forget(&survivors, &rules, &TimeZone::UTC), vec![]);
    }

    #[test]
    fn forgetting_and_keeping_share_all_points_between_them(points in any_points(), rules in any_rules()) {
        let kept = keep(&points, &rules, &TimeZone::UTC);
        let gone = forget(&points, &rules, &TimeZone::UTC);
        prop_assert_eq!(kept.len() + gone.len(), points.len());
        prop_assert!(gone.iter().all(|id| !kept.contains_key(id)));
    }
}
