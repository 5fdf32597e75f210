//! The configuration file as issue 2 fixed it, and what a person gets to see who mistypes it.

use std::path::Path;

use super::*;

const ISSUE: &str = r#"
[repository]
url = "file:///var/lib/strongroom/repository"
key_file = "/etc/strongroom/key"
[driver]
endpoint = "unix:///run/strongroom/csi.sock"
[agent]
state_dir = "/var/lib/strongroom/agent"
socket = "/run/strongroom/agent.sock"
memory_budget = "128MiB"
[[policy]]
name = "hourly"
volumes = ["*"]
schedule = "15 * * * *"
time_zone = "Europe/Berlin"
jitter = "5m"
rpo = "2h"
retain = { last = 3, hourly = 24, daily = 7, weekly = 4, monthly = 12, min_good = 2 }
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("strongroom.toml"))
}

fn refusal(text: &str) -> (String, String) {
    let error = parse(text).expect_err("this configuration is wrong");
    (error.to_string(), error.advice())
}

#[test]
fn the_configuration_of_the_issue_is_understood() {
    let config = parse(ISSUE).unwrap();
    assert_eq!(config.repository.url.as_deref(), Some("file:///var/lib/strongroom/repository"));
    assert_eq!(config.agent.memory_budget.bytes(), 128 << 20);
    let policy = &config.policies[0];
    assert_eq!((policy.name.value.as_str(), policy.schedule.line), ("hourly", 14));
    assert_eq!(policy.time_zone.as_ref().unwrap().get().iana_name(), Some("Europe/Berlin"));
    assert_eq!(policy.rpo.unwrap().to_string(), "2h");
    assert_eq!((policy.retain.hourly, policy.retain.yearly, policy.retain.min_good.get()), (24, 0, 2));
}

#[test]
fn an_empty_configuration_has_sensible_defaults() {
    let config = parse("").unwrap();
    assert!(config.policies.is_empty() && config.driver.is_none());
    assert_eq!(config.agent.memory_budget.to_string(), "128MiB");
}

#[test]
fn a_policy_without_retain_keeps_the_usual_and_one_with_it_keeps_what_it_says() {
    let policy = "[[policy]]\nname = \"a\"\nvolumes = [\"*\"]\nschedule = \"@daily\"\n";
    assert_eq!(parse(policy).unwrap().policies[0].retain, RetainConfig::usual());
    let five = parse(&format!("{policy}retain = {{ last = 5 }}")).unwrap().policies[0].retain;
    assert_eq!(five, RetainConfig { last: 5, ..RetainConfig::default() });
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_the_nearest_right_one() {
    let (text, advice) = refusal("[agent]\nstate_dir = \"/x\"\nmemory_buget = \"1MiB\"\n");
    assert_eq!(text, "strongroom.toml:3:1: there is no key \"memory_buget\" here");
    assert_eq!(advice, "Did you mean \"memory_budget\"?");
    let (text, advice) = refusal(&ISSUE.replace("hourly = 24", "hourley = 24"));
    assert_eq!(text, "strongroom.toml:18:22: there is no key \"hourley\" here");
    assert_eq!(advice, "Did you mean \"hourly\"?");
    let (_, advice) = refusal("[polcy]\n");
    assert_eq!(advice, "Did you mean \"policy\"?");
    let (text, advice) = refusal("[driver]\nxyz = 1\nendpoint = \"\"\n");
    assert_eq!(
        (text.as_str(), advice.as_str()),
        ("strongroom.toml:2:1: there is no key \"xyz\" here", "The keys here are endpoint.")
    );
}

#[test]
fn a_wrong_value_is_refused_with_its_place() {
    for (from, to, expected) in [
        ("\"5m\"", "\"5\"", "strongroom.toml:16:10: \"5\" has no unit"),
        ("\"5m\"", "\"0m\"", "strongroom.toml:16:10: \"0m\" is not more than zero"),
        (
            "\"5m\"",
            "300",
            "strongroom.toml:16:10: invalid type: integer `300`, expected a length of time with its unit",
        ),
        ("\"128MiB\"", "\"128\"", "strongroom.toml:10:17: \"128\" has no unit"),
        ("Europe/Berlin", "Europe/Berlinn", "strongroom.toml:15:13: \"Europe/Berlinn\" is no time zone"),
        ("last = 3", "last = -3", "strongroom.toml:18:19: invalid value: integer `-3`"),
        ("[\"*\"]", "[]", "strongroom.toml:12:8: policy \"hourly\" selects no volumes"),
        ("\"*\"", "\"=x\"", "strongroom.toml:13:12: \"=x\" names no label"),
        ("name = \"hourly\"", "", "strongroom.toml:11:1: missing field `name`"),
        ("[agent]", "[agent", "strongroom.toml:7:7: "),
    ] {
        let (text, _) = refusal(&ISSUE.replacen(from, to, 1));
        assert!(text.starts_with(expected), "{text}\n{expected}");
    }
}

#[test]
fn two_policies_of_one_name_are_refused() {
    let (text, _) = refusal(&format!("{ISSUE}\n{}", &ISSUE[ISSUE.find("[[policy]]").unwrap()..]));
    assert!(text.contains("there is a policy \"hourly\" already, in line 12"), "{text}");
}

#[test]
fn the_place_of_an_error_counts_characters() {
    assert_eq!(position("äö\nüx", 7), (2, 2));
    assert_eq!(position("", 99), (1, 1));
}
