//! Slots, days on which the clocks change among them.

use proptest::prelude::*;

use super::*;

fn schedule(text: &str, zone: &str) -> Schedule {
    Schedule::parse(text, TimeZone::get(zone).unwrap()).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The next `count` slots, in local time.
fn slots(text: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
    let schedule = schedule(text, zone);
    let mut now = at(from);
    (0..count)
        .map(|_| {
            now = schedule.next(now).unwrap();
            now.to_zoned(schedule.zone().clone()).strftime("%a %F %R %:z").to_string()
        })
        .collect()
}

#[test]
fn the_five_fields_mean_what_they_mean_in_cron() {
    let from = "2026-11-21T12:00:00Z"; // a Saturday
    for (text, expected) in [
        ("15 * * * *", "Sat 2026-11-21 12:15 +00:00"),
        ("0 12 * * *", "Sun 2026-11-22 12:00 +00:00"),
        ("0 3 * * 0", "Sun 2026-11-22 03:00 +00:00"),
        ("0 3 * * 7", "Sun 2026-11-22 03:00 +00:00"),
        ("0 3 * * sun", "Sun 2026-11-22 03:00 +00:00"),
        ("0 3 * * 1", "Mon 2026-11-23 03:00 +00:00"),
        ("0 3 * * MON-FRI", "Mon 2026-11-23 03:00 +00:00"),
        ("0 3 * * 5-7", "Sun 2026-11-22 03:00 +00:00"),
        ("0 3 * * 6", "Sat 2026-11-28 03:00 +00:00"),
        ("0 3 29 2 *", "Tue 2028-02-29 03:00 +00:00"),
        ("0 3 1 JAN *", "Fri 2027-01-01 03:00 +00:00"),
        ("*/20 13-14 * * *", "Sat 2026-11-21 13:00 +00:00"),
        ("@hourly", "Sat 2026-11-21 13:00 +00:00"),
        ("@daily", "Sun 2026-11-22 00:00 +00:00"),
        ("@midnight", "Sun 2026-11-22 00:00 +00:00"),
        ("@weekly", "Sun 2026-11-22 00:00 +00:00"),
        ("@monthly", "Tue 2026-12-01 00:00 +00:00"),
        ("@yearly", "Fri 2027-01-01 00:00 +00:00"),
        ("@annually", "Fri 2027-01-01 00:00 +00:00"),
        (" 5  4 * * * ", "Sun 2026-11-22 04:05 +00:00"),
    ] {
        assert_eq!(slots(text, "UTC", from, 1), [expected], "{text}");
    }
}

#[test]
fn a_day_of_the_month_and_a_day_of_the_week_are_an_or() {
    assert_eq!(
        slots("0 0 13 * 5", "UTC", "2026-11-21T12:00:00Z", 4),
        [
            "Fri 2026-11-27 00:00 +00:00",
            "Fri 2026-12-04 00:00 +00:00",
            "Fri 2026-12-11 00:00 +00:00",
            "Sun 2026-12-13 00:00 +00:00"
        ]
    );
    // A field that begins with a star restricts nothing by itself: both must match.
    assert_eq!(
        slots("0 0 */2 * 5", "UTC", "2026-11-21T12:00:00Z", 2),
        ["Fri 2026-11-27 00:00 +00:00", "Fri 2026-12-11 00:00 +00:00"]
    );
}

#[test]
fn a_time_that_is_skipped_runs_right_after_the_gap() {
    assert_eq!(
        slots("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3),
        ["Sat 2026-03-28 02:30 +01:00", "Sun 2026-03-29 03:00 +02:00", "Mon 2026-03-30 02:30 +02:00"]
    );
    // Two skipped times are one run.
    assert_eq!(
        slots("10,40 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2),
        ["Sun 2026-03-29 03:00 +02:00", "Mon 2026-03-30 02:10 +02:00"]
    );
    // Samoa had no 30 December 2011 at all.
    assert_eq!(
        slots("0 12 * * *", "Pacific/Apia", "2011-12-29T00:00:00Z", 3),
        ["Thu 2011-12-29 12:00 -10:00", "Sat 2011-12-31 00:00 +14:00", "Sat 2011-12-31 12:00 +14:00"]
    );
}

#[test]
fn a_time_that_happens_twice_runs_once() {
    assert_eq!(
        slots("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
        ["Sun 2026-10-25 02:30 +02:00", "Mon 2026-10-26 02:30 +01:00"]
    );
}

#[test]
fn an_hourly_schedule_follows_the_hours_as_they_pass() {
    assert_eq!(
        slots("15 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", 4),
        [
            "Sun 2026-10-25 02:15 +02:00",
            "Sun 2026-10-25 02:15 +01:00",
            "Sun 2026-10-25 03:15 +01:00",
            "Sun 2026-10-25 04:15 +01:00"
        ]
    );
    assert_eq!(
        slots("15 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 3),
        ["Sun 2026-03-29 01:15 +01:00", "Sun 2026-03-29 03:15 +02:00", "Sun 2026-03-29 04:15 +02:00"]
    );
    assert_eq!(
        schedule("15 * * * *", "Europe/Berlin").longest_gap(at("2026-10-24T00:00:00Z")),
        Duration::from_secs(3600)
    );
}

#[test]
fn what_is_no_schedule_is_refused_with_the_field() {
    for (text, expected) in [
        ("* * * *", "\"* * * *\" has 4 fields, a schedule has five: minute hour day month weekday"),
        ("0 0 * * * *", "\"0 0 * * * *\" has 6 fields, a schedule has five: minute hour day month weekday"),
        ("60 * * * *", "the minute \"60\" is not understood: \"60\" is not a number from 0 to 59"),
        ("0 24 * * *", "the hour \"24\" is not understood: \"24\" is not a number from 0 to 23"),
        (
            "0 0 * foo *",
            "the month \"foo\" is not understood: \"foo\" is not a number from 1 to 12, or jan to dec",
        ),
        (
            "0 0 * * 8",
            "the day of the week \"8\" is not understood: \"8\" is not a number from 0 to 7, or sun to sat",
        ),
        (
            "5/10 * * * *",
            "the minute \"5/10\" is not understood: a step needs a range before it, like */10 or 10-40/10",
        ),
        ("*/0 * * * *", "the minute \"*/0\" is not understood: a step is a number above 0"),
        ("0 5-3 * * *", "the hour \"5-3\" is not understood: the range 5-3 runs backwards"),
        ("0 0 31 2 *", "\"0 0 31 2 *\" never comes"),
        (
            "@reboot",
            "\"@reboot\" is not known: there are @hourly, @daily, @midnight, @weekly, @monthly, @yearly and @annually",
        ),
        ("", "\"\" has 0 fields, a schedule has five: minute hour day month weekday"),
    ] {
        assert_eq!(Schedule::parse(text, TimeZone::UTC).unwrap_err().to_string(), expected);
    }
}

#[test]
fn every_second_weekday_has_one_sunday() {
    // Sunday, Tuesday, Thursday, Saturday.
    assert_eq!(
        slots("0 0 * * */2", "UTC", "2026-11-21T12:00:00Z", 5)
            .iter()
            .map(|slot| &slot[..3])
            .collect::<Vec<_>>(),
        ["Sun", "Tue", "Thu", "Sat", "Sun"]
    );
}

#[test]
fn jitter_is_the_same_for_the_same_volume_and_slot_and_spreads_volumes() {
    let slot = at("2026-11-21T12:00:00Z");
    let five = Duration::from_secs(300);
    assert_eq!(jitter_of("db", slot, five), jitter_of("db", slot, five));
    let drawn: Vec<Duration> = (0..200).map(|number| jitter_of(&format!("v{number}"), slot, five)).collect();
    assert!(drawn.iter().all(|drawn| *drawn < five));
    let mean = drawn.iter().sum::<Duration>() / 200;
    assert!((Duration::from_secs(120)..Duration::from_secs(180)).contains(&mean), "{mean:?}");
    assert_eq!(jitter_of("db", slot, Duration::ZERO), Duration::ZERO);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn next_and_previous_agree(
        text in prop::sample::select(vec!["15 * * * *", "30 2 * * *", "*/7 1-3 * * *", "0 0 13 * 5", "59 23 31 12 *", "0 */6 * * mon"]),
        zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"]),
        second in 1_230_000_000_i64..1_900_000_000,
    ) {
        let schedule = schedule(text, zone);
        let now = Timestamp::from_second(second).unwrap();
        let next = schedule.next(now).unwrap();
        prop_assert!(next > now);
        prop_assert_eq!(schedule.previous(next), Some(next));
        let previous = schedule.previous(now).unwrap();
        prop_assert!(previous <= now);
        prop_assert_eq!(schedule.next(previous), Some(next));
    }
}
