//! First match wins; nobody is forgotten; a missed run is made up for once.

use super::*;

const CONFIG: &str = r#"
[[policy]]
name = "databases"
volumes = ["env=prod,tier=db", "orders"]
schedule = "15 * * * *"
time_zone = "UTC"
jitter = "5m"
rpo = "2h"
[[policy]]
name = "shop"
volumes = ["shop-*"]
schedule = "@daily"
time_zone = "UTC"
"#;

fn policies(text: &str) -> Result<Policies, PolicyError> {
    let path = Path::new("s.toml");
    Policies::new(&Config::parse(text, path).unwrap(), path, &TimeZone::UTC, at("2026-11-21T12:00:00Z"))
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn covering(policies: &Policies, name: &str, labels: &[(&str, &str)]) -> Option<String> {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    policies.covering(name, &labels).map(|policy| policy.name.clone())
}

#[test]
fn the_first_policy_that_matches_covers_a_volume_and_what_none_matches_is_not_protected() {
    let policies = policies(CONFIG).unwrap();
    assert_eq!(covering(&policies, "shop-media", &[]).as_deref(), Some("shop"));
    assert_eq!(
        covering(&policies, "shop-db", &[("env", "prod"), ("tier", "db")]).as_deref(),
        Some("databases")
    );
    assert_eq!(covering(&policies, "orders", &[]).as_deref(), Some("databases"));
    assert_eq!(covering(&policies, "cache", &[("env", "prod")]), None);
}

#[test]
fn a_volume_that_names_its_policy_gets_it_whatever_selects_it() {
    let policies = policies(CONFIG).unwrap();
    assert_eq!(covering(&policies, "shop-media", &[("policy", "databases")]).as_deref(), Some("databases"));
    assert_eq!(covering(&policies, "cache", &[("policy", "shop")]).as_deref(), Some("shop"));
    assert_eq!(covering(&policies, "shop-media", &[("policy", "no such")]).as_deref(), Some("shop"));
    assert_eq!(covering(&policies, "cache", &[("policy", "no such")]), None);
}

#[test]
fn without_any_policy_every_volume_is_protected_daily() {
    let policies = policies("").unwrap();
    assert_eq!(covering(&policies, "anything", &[]).as_deref(), Some("daily (built in)"));
    assert_eq!(policies.all()[0].rpo, Duration::from_secs(25 * 3600 + 30 * 60));
}

#[test]
fn a_goal_that_nobody_set_follows_from_the_schedule() {
    let policies = policies(CONFIG).unwrap();
    assert_eq!(policies.all()[0].rpo, Duration::from_secs(2 * 3600));
    assert_eq!(policies.all()[1].rpo, Duration::from_secs(25 * 3600));
}

#[test]
fn a_wrong_schedule_is_refused_with_its_place() {
    let error = policies(&CONFIG.replace("15 * * * *", "15 * * *")).unwrap_err();
    assert_eq!(
        strongroom_model::chain(&error),
        "s.toml:5:12: policy \"databases\": \"15 * * *\" has 4 fields, a schedule has five: minute hour day month weekday"
    );
}

#[test]
fn a_volume_without_a_point_is_due_at_once() {
    let now = at("2026-11-21T12:00:00Z");
    assert_eq!(policies(CONFIG).unwrap().all()[0].due("orders", None, now), Some(now));
}

#[test]
fn a_missed_slot_is_made_up_for_once() {
    let policies = policies(CONFIG).unwrap();
    let hourly = &policies.all()[0];
    let now = at("2026-11-21T12:00:00Z");
    // A point of three hours ago: the slot of 11:15 is due, with its jitter, and already passed.
    let due = hourly.due("orders", Some(at("2026-11-21T09:00:00Z")), now).unwrap();
    assert!(due >= at("2026-11-21T11:15:00Z") && due < at("2026-11-21T11:20:00Z"), "{due}");
    // A point since then: the next is due at 12:15 and a bit.
    let next = hourly.due("orders", Some(at("2026-11-21T11:16:00Z")), now).unwrap();
    assert!(next >= at("2026-11-21T12:15:00Z") && next < at("2026-11-21T12:20:00Z"), "{next}");
}

/// Every hour in Berlin, and begun only at night, from 22:00 to 06:00 and from 12:00 to 12:30.
const WINDOWS: &str = r#"
[[policy]]
name = "nightly"
volumes = ["*"]
schedule = "0 * * * *"
time_zone = "Europe/Berlin"
windows = [{ from = "22:00", to = "06:00" }, { from = "12:00", to = "12:30" }]
"#;

#[test]
fn a_run_begins_only_inside_of_a_window_and_what_is_due_outside_waits_for_the_next() {
    let policies = policies(WINDOWS).unwrap();
    let policy = &policies.all()[0];
    for (last, now, due) in [
        // Inside: at its slot.
        ("2026-07-01T21:00:30Z", "2026-07-01T21:30:00Z", "2026-07-01T22:00:00Z"),
        // The slot of 06:00 in Berlin is outside already: at noon.
        ("2026-07-02T03:00:30Z", "2026-07-02T03:30:00Z", "2026-07-02T10:00:00Z"),
        // Overdue in the afternoon: in the evening.
        ("2026-07-02T10:00:30Z", "2026-07-02T15:00:00Z", "2026-07-02T20:00:00Z"),
        // Overdue inside of a window: now, as overdue as it is.
        ("2026-07-02T20:00:30Z", "2026-07-02T23:10:00Z", "2026-07-02T23:00:00Z"),
    ] {
        assert_eq!(policy.due("v", Some(at(last)), at(now)), Some(at(due)), "{now}");
    }
    assert_eq!(
        policy.due("v", None, at("2026-07-02T15:00:00Z")),
        Some(at("2026-07-02T20:00:00Z")),
        "the first, too"
    );
    assert_eq!(policy.due("v", None, at("2026-07-02T22:00:00Z")), Some(at("2026-07-02T22:00:00Z")));
    // The goal has room for the day: 9 h 30 min without a window, the hour of the schedule, an hour for the run.
    assert_eq!(policy.rpo, Duration::from_secs((9 * 60 + 30 + 120) * 60));
}

#[test]
fn a_run_whose_window_has_closed_is_missed_and_told_and_one_that_waits_for_its_window_is_not() {
    let text = WINDOWS.replace("0 * * * *", "0 23 * * *");
    let night = policies(&text).unwrap();
    let policy = &night.all()[0];
    let last = Some(at("2026-07-01T21:00:30Z"));
    // 23:00 in Berlin on the 2nd is 21:00Z; its window closes at 04:00Z.
    assert_eq!(policy.missed("v", last, at("2026-07-03T03:59:59Z")), None, "it can still begin");
    assert_eq!(policy.missed("v", last, at("2026-07-03T04:00:00Z")), Some(at("2026-07-02T21:00:00Z")));
    assert_eq!(
        policy.due("v", last, at("2026-07-03T04:00:00Z")),
        Some(at("2026-07-03T10:00:00Z")),
        "made up for at noon"
    );
    assert_eq!(policy.missed("v", Some(at("2026-07-02T21:10:00Z")), at("2026-07-03T09:00:00Z")), None);
    // A slot outside of every window belongs to the next one.
    let text = WINDOWS.replace("0 * * * *", "0 8 * * *");
    let others = policies(&text).unwrap();
    let policy = &others.all()[0];
    let last = Some(at("2026-07-01T10:05:00Z"));
    assert_eq!(policy.missed("v", last, at("2026-07-02T09:59:00Z")), None, "it waits");
    assert_eq!(policy.missed("v", last, at("2026-07-02T10:30:00Z")), Some(at("2026-07-02T06:00:00Z")));
}

#[test]
fn points_go_to_the_copies_that_their_policy_names_and_to_all_where_it_names_none() {
    let text = "[repository]\nurl = \"/r\"\n[[repository.copies]]\nname = \"near\"\nurl = \"/n\"\n[[repository.copies]]\nname = \"far\"\n\
                url = \"/f\"\n[[policy]]\nname = \"db\"\nvolumes = [\"db-*\"]\nschedule = \"@daily\"\n[[policy]]\nname = \"scratch\"\n\
                volumes = [\"tmp-*\"]\nschedule = \"@daily\"\ncopies = [\"near\"]\n";
    let config = Config::parse(text, Path::new("x.toml")).unwrap();
    let policies =
        Policies::new(&config, Path::new("x.toml"), &TimeZone::UTC, Timestamp::UNIX_EPOCH).unwrap();
    let goes = |copy: &str, name: &str| policies.goes_to(copy, name, &BTreeMap::new());
    assert!(
        goes("near", "tmp-1") && goes("near", "db-1") && goes("far", "db-1") && goes("far", "of-no-policy")
    );
    assert!(!goes("far", "tmp-1"));
    assert_eq!(policies.rule_of("near"), None, "all go there");
    assert!(policies.rule_of("far").is_some_and(|rule| rule.contains("tmp-*")));
    let wrong = text.replace("[\"near\"]", "[\"neer\"]");
    assert!(Config::parse(&wrong, Path::new("x.toml")).is_err(), "a copy that nobody has");
}
