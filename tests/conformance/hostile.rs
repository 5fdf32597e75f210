//! Hostile callers: every string and every number of every call, made as nasty as strings and numbers get.
//!
//! The fields are found in the descriptors of the protocol, so that one added tomorrow is tried without anybody thinking
//! of it. Whatever is asked, the answer is a code that means something to its caller, the driver goes on, and nothing
//! outside its folders is touched.

mod bases;
mod corpus;
mod fields;
mod paths;
mod yard;

use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use strongroom_proto::csi;
use tonic::{Code, Status};

use crate::call::{self, PATHS, name_of};
use crate::machine::Machine;
pub(crate) use bases::Bases;
pub(crate) use corpus::{places, strings};
pub(crate) use fields::message;
use fields::{Leaf, Sort};
pub(crate) use yard::Yard;

/// What a caller can act on. UNKNOWN, INTERNAL and the like mean that nobody thought of it.
pub(crate) const PROPER: [Code; 8] = [
    Code::InvalidArgument,
    Code::NotFound,
    Code::AlreadyExists,
    Code::FailedPrecondition,
    Code::Aborted,
    Code::OutOfRange,
    Code::ResourceExhausted,
    Code::Unimplemented,
];

pub(crate) fn descriptors() -> DescriptorPool {
    DescriptorPool::decode(strongroom_proto::DESCRIPTORS).unwrap()
}

/// Tries every value on every leaf of one sort, of all calls; answers how many calls that were.
fn try_all(machine: &mut Machine, values: impl Fn(&Leaf, &Machine) -> Vec<prost_reflect::Value>, sort: Sort) {
    let pool = descriptors();
    let bases = Bases::new(machine);
    let yard = Yard::look(machine);
    let (mut tried, mut accepted, mut leaves) = (0, 0, 0);
    let mut wrong = Vec::new();
    for path in PATHS {
        for leaf in fields::leaves(&pool, path, sort) {
            leaves += 1;
            let mut last = None;
            for value in values(&leaf, machine) {
                let printed = format!("{} {leaf}: {value:?}", name_of(path));
                let mut message = bases.message(&pool, path, &leaf);
                leaf.put(&mut message, value);
                let bytes = message.encode_to_vec();
                tried += 1;
                match machine.run(call::call_raw(machine.channel(), path, bytes.clone())) {
                    Ok(answers) => {
                        accepted += 1;
                        if leaf.is_kept() {
                            bases.undo(machine, path, &bytes, &answers, &printed);
                        } else {
                            last = Some((bytes, answers, printed.clone()));
                        }
                    }
                    Err(status) if PROPER.contains(&status.code()) => {}
                    Err(status) => {
                        wrong.push(format!("{printed}: {:?}, {}", status.code(), status.message()))
                    }
                }
                if !machine.is_alive() {
                    panic!("{printed} killed the driver");
                }
            }
            if let Some((bytes, answers, printed)) = last {
                bases.undo(machine, path, &bytes, &answers, &printed);
            }
            // Where a look is cheap, the culprit is named.
            if let Some(difference) = yard.differs(machine) {
                panic!("{} {leaf} changed what is not the driver's: {difference}", name_of(path));
            }
        }
    }
    println!("{tried} calls with {leaves} fields, {accepted} of them accepted");
    assert!(wrong.is_empty(), "{} without a proper code: {wrong:#?}", wrong.len());
    bases.take_down(machine);
}

#[test]
fn no_string_of_any_call_leads_out_of_the_drivers_folders() {
    let Some(mut machine) = Machine::new("hostile strings") else { return };
    let texts = strings();
    assert!(texts.len() >= 60, "{}", texts.len());
    let values = |leaf: &Leaf, machine: &Machine| {
        let mut all = texts.clone();
        all.extend(places(machine));
        if leaf.is_path() {
            let root = machine.text("yard/mounts/pods");
            all.extend(texts.iter().map(|text| format!("{root}/{text}")));
        }
        all.into_iter().map(prost_reflect::Value::String).collect()
    };
    try_all(&mut machine, values, Sort::Text);
    machine.finish();
}

#[test]
fn no_number_of_any_call_makes_the_driver_stumble() {
    let Some(mut machine) = Machine::new("hostile numbers") else { return };
    let values = |leaf: &Leaf, _: &Machine| leaf.extremes();
    try_all(&mut machine, values, Sort::Number);
    machine.finish();
}

#[test]
fn what_is_no_message_at_all_is_refused_and_hurts_nobody() {
    let Some(mut machine) = Machine::new("hostile bytes") else { return };
    for path in PATHS {
        for bytes in [
            vec![0xff; 64],
            vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f],
            vec![0x0a, 0x02, 0xc3, 0x28],
            b"{\"name\": \"json\"}".to_vec(),
            vec![0x0a; 1 << 20],
        ] {
            // The library below answers what cannot be decoded; some of it is a message of fields that nobody knows.
            let answer: Result<_, Status> = machine.run(call::call_raw(machine.channel(), path, bytes));
            drop(answer);
        }
        assert!(machine.is_alive(), "{path}");
    }
    // Five MiB are more than gRPC takes, and the next caller is served.
    let huge = csi::CreateVolumeRequest { name: "x".repeat(5 << 20), ..Default::default() };
    machine.call(huge).unwrap_err();
    machine.ok(csi::ProbeRequest {});
    machine.finish();
}

#[test]
fn strings_and_maps_over_the_limits_are_invalid_arguments() {
    let Some(mut machine) = Machine::new("limits of strings") else { return };
    let pool = descriptors();
    let bases = Bases::new(&machine);
    let mut wrong = Vec::new();
    for path in PATHS {
        for leaf in fields::leaves(&pool, path, Sort::Text) {
            let mut message: DynamicMessage = bases.message(&pool, path, &leaf);
            leaf.put(&mut message, prost_reflect::Value::String("x".repeat(leaf.limit() + 1)));
            let bytes = message.encode_to_vec();
            match machine.run(call::call_raw(machine.channel(), path, bytes.clone())) {
                Err(status) if status.code() == Code::InvalidArgument => {}
                Err(status) => wrong.push(format!("{} {leaf}: {:?}", name_of(path), status.code())),
                Ok(answers) => {
                    wrong.push(format!("{} {leaf}: OK", name_of(path)));
                    bases.undo(&machine, path, &bytes, &answers, "too long");
                }
            }
        }
    }
    assert!(machine.is_alive() && wrong.is_empty(), "{wrong:#?}");
    bases.take_down(&machine);
    machine.finish();
}

/// What is in the lists of this file is what is in the standard.
#[test]
fn every_string_of_the_standards_requests_is_tried() {
    let pool = descriptors();
    // The facts of the standard, one message a line; a request reaches the messages that its fields name.
    let facts = include_str!("../../proto/tests/csi-wire.txt");
    let strings_of = |message: &str| -> usize { strings_in(facts, message) };
    for path in PATHS {
        let request = format!("{}Request", name_of(path));
        let ours = fields::leaves(&pool, path, Sort::Text).len();
        assert_eq!(ours, strings_of(&request), "{request}");
    }
}

/// How many strings a message of the list has, with those of its parts; a map has keys and values.
fn strings_in(facts: &str, message: &str) -> usize {
    let line =
        facts.lines().find_map(|line| line.strip_prefix(&format!("message {message}: "))).unwrap_or("");
    let fields = line.split([';', '{', ',']).flat_map(|part| part.split_once(':').map(|(_, kind)| kind));
    fields
        .map(|kind| {
            let kind = kind.trim().trim_end_matches('}').trim_start_matches("repeated ");
            match kind {
                "string" => 1,
                "map<string" => 2,
                _ => {
                    // A part is named without the message that it is declared in.
                    let nested = format!("{message}.{kind}");
                    let has =
                        |name: &str| facts.lines().any(|line| line.starts_with(&format!("message {name}: ")));
                    if has(&nested) {
                        strings_in(facts, &nested)
                    } else if has(kind) {
                        strings_in(facts, kind)
                    } else {
                        0
                    }
                }
            }
        })
        .sum()
}
