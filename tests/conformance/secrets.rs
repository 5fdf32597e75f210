//! What is secret in a request is nowhere else: not in the log at its most talkative, not in a message.

use prost::Message as _;
use prost_reflect::{DynamicMessage, MapKey, Value};

use crate::call::{self, name_of};
use crate::hostile::{Bases, descriptors, message};
use crate::machine::{Machine, Options};

const CANARY: &str = "canary-5f3a9c";

#[test]
fn no_secret_of_any_call_is_logged_or_told() {
    let options = Options { log: "trace", ..Default::default() };
    let Some(machine) = Machine::with("secrets", options) else { return };
    let pool = descriptors();
    let bases = Bases::new(&machine);
    let mut calls = 0;
    for (path, bytes) in bases.requests() {
        let request = message(&pool, path);
        let Some(secrets) = request.get_field_by_name("secrets") else { continue };
        calls += 1;
        let good = DynamicMessage::decode(request.clone(), bytes.as_slice()).unwrap();
        // As it should be, and with all else missing: a refusal must not tell either.
        for (mut asked, accepted) in [(good, true), (DynamicMessage::new(request), false)] {
            let secret =
                [(MapKey::String(format!("{CANARY}-key")), Value::String(format!("{CANARY}-value")))];
            asked.set_field(&secrets, Value::Map(secret.into()));
            let bytes = asked.encode_to_vec();
            match machine.run(call::call_raw(machine.channel(), path, bytes.clone())) {
                Ok(answers) => {
                    let told = answers
                        .iter()
                        .any(|bytes| bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes()));
                    assert!(!told, "{} answers with the secret", name_of(path));
                    bases.undo(&machine, path, &bytes, &answers, "with a secret");
                }
                Err(status) => {
                    assert!(!format!("{status:?}").contains(CANARY), "{}: {status:?}", name_of(path));
                    assert!(
                        !accepted || status.code() != tonic::Code::Internal,
                        "{}: {status:?}",
                        name_of(path)
                    );
                }
            }
        }
    }
    assert_eq!(calls, 19, "that many requests of the standard have secrets");
    let log = machine.log();
    assert!(log.contains("TRACE"), "the log is at its most talkative");
    let told: Vec<&str> = log.lines().filter(|line| line.contains(CANARY)).collect();
    assert!(told.is_empty(), "{told:#?}");
    // Nor is it kept: not in the registry, not on a command line.
    for entry in std::fs::read_dir(machine.path("state")).unwrap() {
        let kept = std::fs::read(entry.unwrap().path()).unwrap_or_default();
        assert!(!kept.windows(CANARY.len()).any(|window| window == CANARY.as_bytes()));
    }
    bases.take_down(&machine);
    machine.finish();
}
