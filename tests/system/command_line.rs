//! What scripts rely on: exit codes, streams, JSON shapes.

use std::process::{Command, Stdio};

use crate::call::binary;
use crate::ground::Ground;

#[test]
fn a_wrong_command_line_is_64_and_never_the_2_of_status() {
    let ground = Ground::new();
    for line in [vec!["no-such-command"], vec!["volume", "create"], vec!["status", "--no-such-flag"], vec![]]
    {
        let answer = ground.call(line).run();
        assert_eq!(answer.code, Some(64), "{answer}");
        assert_eq!(answer.stdout, "", "{answer}");
    }
}

#[test]
fn a_wrong_command_line_is_json_too_where_json_was_asked_for() {
    let answer = Ground::new().run(["volume", "no-such-verb"]);
    assert_eq!(answer.code, Some(64), "{answer}");
    assert_eq!(answer.json()["code"], "usage.wrong");
    assert_eq!(answer.json()["exit"], 64);
}

#[test]
fn help_and_version_are_answers() {
    let ground = Ground::new();
    assert!(ground.call(["--help"]).run().ok().stdout.contains("restore"));
    assert!(ground.call(["restore", "run", "--help"]).run().ok().stdout.contains("--in-place"));
    assert!(ground.call(["--version"]).run().ok().stdout.starts_with("strongroom "));
}

#[test]
fn a_json_result_names_its_version_and_its_command() {
    let ground = Ground::new();
    let result = ground.run(["version"]).ok().json();
    assert_eq!(result["type"], "result");
    assert_eq!(result["version"], 1);
    assert_eq!(result["command"], "version");
    assert_eq!(result["repository_format"], 1);
}

#[test]
fn a_failure_in_json_carries_code_remedy_and_advice() {
    let ground = Ground::new();
    let answer = ground.run(["points", "list"]);
    assert_ne!(answer.code, Some(0), "{answer}");
    let error = answer.json();
    assert_eq!(error["type"], "error", "{answer}");
    assert_eq!(error["command"], "points list");
    for field in ["code", "message", "remedy", "advice", "exit"] {
        assert!(!error[field].is_null(), "{field}: {error}");
    }
    assert_eq!(error["exit"].as_i64(), answer.code.map(i64::from));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = Command::new(binary())
        .args(["completion", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    drop(child.stdout.take());
    let answer = child.wait_with_output().expect("it ends");
    assert_eq!(answer.status.code(), Some(0), "{}", String::from_utf8_lossy(&answer.stderr));
    assert_eq!(String::from_utf8_lossy(&answer.stderr), "");
}

#[test]
fn a_result_that_cannot_be_written_is_a_failure() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has /dev/full");
    let answer =
        Command::new(binary()).args(["completion", "bash"]).stdout(full).output().expect("the binary starts");
    assert_eq!(answer.status.code(), Some(1), "{}", String::from_utf8_lossy(&answer.stderr));
}

#[test]
fn there_is_a_manual_page_for_every_command() {
    let ground = Ground::new();
    ground.call(["man", "--directory"]).args([ground.path("man")]).run().ok();
    for page in ["strongroom.1", "strongroom-volume-create.1", "strongroom-restore-run.1"] {
        assert!(ground.path("man").join(page).exists(), "{page}");
    }
}
