use std::io::Cursor;

use serde_json::{Value, json};
use strongroom_model::{Failure, Remedy};

use super::*;
use crate::ConfirmError;

#[derive(Debug)]
struct Cause;

impl Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("connection refused\u{1b}[2J")
    }
}

impl std::error::Error for Cause {}

#[derive(Debug)]
struct Unreachable(Cause);

impl Display for Unreachable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("opening the repository")
    }
}

impl std::error::Error for Unreachable {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

impl Failure for Unreachable {
    fn code(&self) -> &'static str {
        "store.unreachable"
    }

    fn remedy(&self) -> Remedy {
        Remedy::Retry
    }

    fn advice(&self) -> String {
        "see whether the server is up".to_owned()
    }
}

fn last_line(text: &str) -> Value {
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

#[test]
fn a_result_is_one_object_with_the_common_fields_first() {
    let (console, captured) = Console::captured(Output::Json);
    console.named("volume list").result(&json!({ "volumes": ["a"] }), |_| panic!("no text was asked for"));
    assert_eq!(
        captured.stdout(),
        "{\"type\":\"result\",\"version\":1,\"command\":\"volume list\",\"volumes\":[\"a\"]}\n"
    );
    assert_eq!(captured.stderr(), "");
}

#[test]
fn a_result_that_is_no_object_is_put_under_a_name() {
    let (console, captured) = Console::captured(Output::Json);
    console.result(&[1, 2], |_| {});
    assert_eq!(last_line(&captured.stdout())["value"], json!([1, 2]));
}

#[test]
fn text_goes_to_standard_output_and_talk_to_standard_error() {
    let (console, captured) = Console::captured(Output::Text);
    console.talk("looking around");
    console.result(&json!({}), |page| {
        page.line("3 volumes");
    });
    assert_eq!(captured.stdout(), "3 volumes\n");
    assert_eq!(captured.stderr(), "looking around\n");
}

#[test]
fn a_failure_says_what_why_its_code_and_the_next_step() {
    let (console, captured) = Console::captured(Output::Text);
    assert_eq!(console.fail(&Unreachable(Cause).into()), Exit::TryAgain);
    assert_eq!(
        captured.stderr(),
        "error: opening the repository: connection refused\\u{1b}[2J\n  code: store.unreachable\n  next: see whether the server is up\n"
    );
}

#[test]
fn a_failure_in_json_takes_the_place_of_the_result() {
    let (console, captured) = Console::captured(Output::Json);
    console.fail(&Failed::with_exit(Unreachable(Cause), Exit::Unprotected));
    let object = last_line(&captured.stdout());
    assert_eq!(object["type"], "error");
    assert_eq!(object["code"], "store.unreachable");
    assert_eq!(object["remedy"], "retry");
    assert_eq!(object["exit"], 2);
}

#[test]
fn without_a_terminal_nothing_is_confirmed_but_by_yes() {
    let (console, _) = Console::captured(Output::Text);
    assert!(matches!(ask(&console, "Overwrite?", false, &mut Cursor::new("y\n")), Err(ConfirmError::Nobody)));
    assert!(ask(&console, "Overwrite?", true, &mut Cursor::new("")).is_ok());
}

#[test]
fn on_a_terminal_only_a_yes_is_a_yes() {
    let (mut console, _) = Console::captured(Output::Text);
    console.terminal = Arc::new(Terminal { stdin: true, stderr: true, ..Terminal::none() });
    assert!(ask(&console, "Overwrite?", false, &mut Cursor::new("Yes\n")).is_ok());
    for answer in ["\n", "", "n\n", "yess\n"] {
        assert!(matches!(
            ask(&console, "Overwrite?", false, &mut Cursor::new(answer)),
            Err(ConfirmError::Declined)
        ));
    }
}
