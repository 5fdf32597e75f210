use std::collections::BTreeSet;

use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorSet};

/// Reads a message of one type from the wire and prints it.
type Print = fn(&[u8]) -> String;

const HUNTER: &str = "hunter2";

fn print<M: Message + Default + std::fmt::Debug>(bytes: &[u8]) -> String {
    format!("{:?}", M::decode(bytes).unwrap())
}

/// Every message of both packages with the number of each field that may hold secrets, and whether it is a map.
fn secretive() -> Vec<(String, Vec<(u32, bool)>)> {
    fn visit(message: &DescriptorProto, parent: &str, found: &mut Vec<(String, Vec<(u32, bool)>)>) {
        let name = format!("{parent}.{}", message.name());
        let secret: Vec<(u32, bool)> = message
            .field
            .iter()
            .filter(|field| field.name().contains("secret") || field.name() == "mount_flags")
            .map(|field| (u32::try_from(field.number()).unwrap(), field.name() != "mount_flags"))
            .collect();
        if !secret.is_empty() {
            found.push((name.clone(), secret));
        }
        for nested in &message.nested_type {
            visit(nested, &name, found);
        }
    }
    let descriptors = FileDescriptorSet::decode(crate::DESCRIPTORS).unwrap();
    let mut found = Vec::new();
    for file in &descriptors.file {
        for message in &file.message_type {
            visit(message, file.package(), &mut found);
        }
    }
    found
}

/// A length-delimited field of the wire.
fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut wire);
    prost::encoding::encode_varint(bytes.len() as u64, &mut wire);
    wire.extend_from_slice(bytes);
    wire
}

#[test]
fn no_message_prints_the_secrets_it_holds() {
    let cases: Vec<(&str, Print)> = include!(concat!(env!("OUT_DIR"), "/redacted_cases.rs")).to_vec();
    let known: BTreeSet<&str> = cases.iter().map(|(name, _)| *name).collect();
    let secretive = secretive();
    assert_eq!(known, secretive.iter().map(|(name, _)| name.as_str()).collect(), "all of them are covered");
    assert!(secretive.len() >= 20, "19 requests of CSI, and the mount flags: {}", secretive.len());
    for (name, fields) in &secretive {
        let print = cases.iter().find(|(case, _)| case == name).unwrap().1;
        let mut wire = Vec::new();
        for (number, is_map) in fields {
            let value = if *is_map {
                [field(1, b"password"), field(2, HUNTER.as_bytes())].concat()
            } else {
                HUNTER.into()
            };
            wire.extend(field(*number, &value));
        }
        let printed = print(&wire);
        assert!(!printed.contains(HUNTER), "{name} prints its secrets: {printed}");
        assert!(printed.contains("<1 withheld>"), "{name}: {printed}");
    }
}

#[test]
fn what_is_not_secret_is_still_printed() {
    let request = crate::csi::NodeStageVolumeRequest {
        volume_id: "vol-1".into(),
        secrets: [("password".into(), HUNTER.into())].into(),
        volume_capability: Some(crate::csi::VolumeCapability {
            access_type: Some(crate::csi::volume_capability::AccessType::Mount(
                crate::csi::volume_capability::MountVolume {
                    mount_flags: vec![format!("password={HUNTER}")],
                    ..Default::default()
                },
            )),
            ..Default::default()
        }),
        ..Default::default()
    };
    let printed = format!("{request:?} {request:#?}");
    assert!(printed.contains("vol-1") && !printed.contains(HUNTER), "{printed}");
}
