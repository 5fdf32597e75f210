//! csi.proto says what the standard says: its descriptors, written in the notation of `tests/csi-wire.txt`, are
//! compared line by line with that list of facts.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeSet;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// All services, messages and enums of csi.v1, one line each.
fn facts() -> BTreeSet<String> {
    let descriptors = FileDescriptorSet::decode(strongroom_proto::DESCRIPTORS).unwrap();
    let file = descriptors.file.iter().find(|file| file.package() == "csi.v1").unwrap();
    let mut facts = BTreeSet::new();
    for service in &file.service {
        let calls = service.method.iter().map(|call| {
            assert_eq!(call.input_type(), format!(".csi.v1.{}Request", call.name()));
            assert_eq!(call.output_type(), format!(".csi.v1.{}Response", call.name()));
            assert!(!call.client_streaming());
            format!("{}{}", call.name(), if call.server_streaming() { "[stream]" } else { "" })
        });
        facts.insert(format!("service {}: {}", service.name(), calls.collect::<Vec<_>>().join("; ")));
    }
    file.enum_type.iter().for_each(|found| add_enum(found, "", &mut facts));
    file.message_type.iter().for_each(|found| add_message(found, "", &mut facts));
    facts
}

fn add_enum(found: &EnumDescriptorProto, parent: &str, facts: &mut BTreeSet<String>) {
    let values: Vec<_> =
        found.value.iter().map(|value| format!("{}={}", value.name(), value.number())).collect();
    facts.insert(format!("enum {parent}{}: {}", found.name(), values.join("; ")));
}

fn add_message(message: &DescriptorProto, parent: &str, facts: &mut BTreeSet<String>) {
    let mut parts: Vec<String> = Vec::new();
    let mut choices = BTreeSet::new();
    for field in &message.field {
        match field.oneof_index {
            None => parts.push(fact(message, field)),
            Some(choice) if choices.insert(choice) => {
                let of_choice: Vec<_> = message
                    .field
                    .iter()
                    .filter(|other| other.oneof_index == Some(choice))
                    .map(|other| fact(message, other))
                    .collect();
                let name = message.oneof_decl[usize::try_from(choice).unwrap()].name();
                parts.push(format!("oneof {name}{{{}}}", of_choice.join(", ")));
            }
            Some(_) => {}
        }
    }
    let body = if parts.is_empty() { "(empty)".to_owned() } else { parts.join("; ") };
    // A message that only holds others has no line of its own in the list, and none has to be made up.
    facts.insert(format!("message {parent}{}: {body}", message.name()));
    let inside = format!("{parent}{}.", message.name());
    message.enum_type.iter().for_each(|found| add_enum(found, &inside, facts));
    message
        .nested_type
        .iter()
        .filter(|nested| !nested.options.as_ref().is_some_and(|options| options.map_entry()))
        .for_each(|nested| add_message(nested, &inside, facts));
}

fn fact(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    format!("{}={}:{}", field.name(), field.number(), type_of(message, field))
}

fn type_of(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let named = field.type_name();
    let map = message.nested_type.iter().find(|nested| {
        nested.options.as_ref().is_some_and(|options| options.map_entry())
            && named.ends_with(&format!(".{}.{}", message.name(), nested.name()))
    });
    if let Some(entry) = map {
        return format!("map<{},{}>", type_of(entry, &entry.field[0]), type_of(entry, &entry.field[1]));
    }
    let one = match field.r#type() {
        Type::String => "string",
        Type::Bool => "bool",
        Type::Int32 => "int32",
        Type::Int64 => "int64",
        Type::Message | Type::Enum if named.starts_with(".google.") => named.trim_start_matches('.'),
        Type::Message | Type::Enum => named.rsplit('.').next().unwrap(),
        other => panic!("CSI has no fields of type {other:?}"),
    };
    if field.label() == Label::Repeated { format!("repeated {one}") } else { one.to_owned() }
}

#[test]
fn csi_proto_is_the_wire_of_the_standard() {
    let expected: BTreeSet<String> = include_str!("csi-wire.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    let found = facts();
    let missing: Vec<_> = expected.difference(&found).collect();
    let unexpected: Vec<_> = found.difference(&expected).collect();
    assert!(
        missing.is_empty() && unexpected.is_empty(),
        "missing: {missing:#?}\nunexpected: {unexpected:#?}"
    );
    assert!(expected.len() > 100, "the list of facts is whole: {}", expected.len());
}
