//! Every documented code of every call, provoked.
//!
//! [`DOCUMENTED`] is what the standard's tables say. A row that a driver of one node cannot give has its reason in
//! [`NEVER`]; all others have a case in the files below, and the test fails when one has not.

mod aborted;
mod attach;
mod controller;
mod group;
mod hydrating;
mod metadata;
mod node;
mod scene;
mod snapshots;
mod unhealthy;

use std::collections::BTreeSet;

use tonic::Code;

use crate::call::{Call, PATHS, name_of};
use crate::machine::Machine;
use scene::Scene;

use Code::{
    Aborted, AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, OutOfRange, ResourceExhausted,
};

/// The codes that the standard gives a meaning, call by call; the general ones included where they can arise at all.
const DOCUMENTED: &[(&str, &[Code])] = &[
    ("GetPluginInfo", &[]),
    ("GetPluginCapabilities", &[]),
    ("Probe", &[FailedPrecondition]),
    ("CreateVolume", &[InvalidArgument, NotFound, AlreadyExists, ResourceExhausted, Aborted, OutOfRange]),
    ("DeleteVolume", &[InvalidArgument, FailedPrecondition, Aborted]),
    (
        "ControllerPublishVolume",
        &[InvalidArgument, NotFound, AlreadyExists, FailedPrecondition, ResourceExhausted, Aborted],
    ),
    ("ControllerUnpublishVolume", &[InvalidArgument, NotFound, Aborted]),
    ("ValidateVolumeCapabilities", &[InvalidArgument, NotFound]),
    ("ListVolumes", &[InvalidArgument, Aborted]),
    ("GetCapacity", &[InvalidArgument]),
    ("ControllerGetCapabilities", &[]),
    ("CreateSnapshot", &[InvalidArgument, NotFound, AlreadyExists, ResourceExhausted, Aborted]),
    ("DeleteSnapshot", &[InvalidArgument, FailedPrecondition, Aborted]),
    ("ListSnapshots", &[InvalidArgument, Aborted]),
    ("GetSnapshot", &[InvalidArgument, NotFound]),
    (
        "ControllerExpandVolume",
        &[InvalidArgument, NotFound, FailedPrecondition, ResourceExhausted, OutOfRange, Aborted],
    ),
    ("ControllerGetVolume", &[InvalidArgument, NotFound]),
    ("ControllerModifyVolume", &[InvalidArgument, NotFound, Aborted]),
    ("GroupControllerGetCapabilities", &[]),
    (
        "CreateVolumeGroupSnapshot",
        &[InvalidArgument, NotFound, AlreadyExists, FailedPrecondition, ResourceExhausted, Aborted],
    ),
    ("DeleteVolumeGroupSnapshot", &[InvalidArgument, FailedPrecondition, Aborted]),
    ("GetVolumeGroupSnapshot", &[InvalidArgument, NotFound]),
    ("GetMetadataAllocated", &[InvalidArgument, NotFound, FailedPrecondition, OutOfRange]),
    ("GetMetadataDelta", &[InvalidArgument, NotFound, FailedPrecondition, OutOfRange]),
    ("NodeStageVolume", &[InvalidArgument, NotFound, AlreadyExists, FailedPrecondition, Aborted]),
    ("NodeUnstageVolume", &[InvalidArgument, NotFound, FailedPrecondition, Aborted]),
    ("NodePublishVolume", &[InvalidArgument, NotFound, AlreadyExists, FailedPrecondition, Aborted]),
    ("NodeUnpublishVolume", &[InvalidArgument, NotFound, FailedPrecondition, Aborted]),
    ("NodeGetVolumeStats", &[InvalidArgument, NotFound]),
    ("NodeExpandVolume", &[InvalidArgument, NotFound, FailedPrecondition, OutOfRange, Aborted]),
    ("NodeGetCapabilities", &[]),
    ("NodeGetInfo", &[]),
];

/// What is never given, and why. Of every call besides: PERMISSION_DENIED and UNAUTHENTICATED, since whoever can open the
/// socket may do everything and no secret is asked for; UNIMPLEMENTED, since every call is offered.
const NEVER: &[(&str, Code, &str)] = &[
    ("ControllerUnpublishVolume", NotFound, "what is unknown here can be assumed to be detached: OK"),
    (
        "DeleteSnapshot",
        FailedPrecondition,
        "in use: nothing depends on a snapshot, and who reads it reads on",
    ),
    (
        "DeleteVolumeGroupSnapshot",
        FailedPrecondition,
        "in use: nothing depends on a snapshot, and who reads it reads on",
    ),
    ("GetMetadataAllocated", FailedPrecondition, "changed blocks not enabled: they always are"),
    ("GetMetadataDelta", FailedPrecondition, "changed blocks not enabled: they always are"),
];

/// What was provoked, and what was answered otherwise.
#[derive(Debug, Default)]
struct Findings {
    provoked: BTreeSet<(String, i32)>,
    wrong: Vec<String>,
    /// Calls that are not offered.
    missing: BTreeSet<String>,
}

impl Findings {
    /// The call must be refused with this code.
    fn refused<R: Call>(&mut self, machine: &Machine, code: Code, when: &str, request: R) {
        let answer = machine.stream(request).map(|_| ());
        self.was_refused::<R>(
            code,
            when,
            answer.map_err(|status| (status.code(), status.message().to_owned())),
        );
    }

    /// The same of an answer that is there.
    fn was_refused<R: Call>(&mut self, code: Code, when: &str, answer: Result<(), (Code, String)>) {
        let call = name_of(R::PATH);
        match answer {
            Err((given, _)) if given == code => {
                self.provoked.insert((call.to_owned(), code.into()));
            }
            Err((Code::Unimplemented, _)) => {
                self.missing.insert(call.to_owned());
            }
            other => self.wrong.push(format!("{call}, {when}: {code:?} expected, answered {other:?}")),
        }
    }
}

#[test]
fn every_documented_code_of_every_call_is_provoked() {
    let Some(mut scene) = Scene::new("codes") else { return };
    let mut findings = Findings::default();
    controller::provoke(&scene, &mut findings);
    attach::provoke(&scene, &mut findings);
    snapshots::provoke(&scene, &mut findings);
    group::provoke(&scene, &mut findings);
    metadata::provoke(&scene, &mut findings);
    node::provoke(&scene, &mut findings);
    aborted::provoke(&scene, &mut findings);
    hydrating::provoke(&scene, &mut findings);
    attach::provoke_elsewhere(&mut scene, &mut findings);
    let machine = scene.finish();
    unhealthy::provoke(machine, &mut findings);
    let missing: Vec<_> = DOCUMENTED
        .iter()
        .flat_map(|(call, codes)| codes.iter().map(move |code| (*call, *code)))
        .filter(|(call, code)| !NEVER.iter().any(|(never, no, _)| never == call && no == code))
        .filter(|(call, _)| !findings.missing.contains(*call))
        .filter(|(call, code)| !findings.provoked.contains(&((*call).to_owned(), (*code).into())))
        .collect();
    println!("not offered: {:?}", findings.missing);
    println!("{} codes of {} calls were provoked", findings.provoked.len(), DOCUMENTED.len());
    assert!(
        findings.wrong.is_empty() && missing.is_empty(),
        "{:#?}\nnot provoked: {missing:?}",
        findings.wrong
    );
    for (call, code, reason) in NEVER {
        let given = findings.provoked.contains(&((*call).to_owned(), (*code).into()));
        assert!(!given, "{call} gives {code:?} after all, though {reason}");
    }
}

#[test]
fn the_table_has_every_call_of_the_standard() {
    let mut table: Vec<&str> = DOCUMENTED.iter().map(|(call, _)| *call).collect();
    table.sort_unstable();
    let mut standard: Vec<&str> = PATHS.iter().map(|path| name_of(path)).collect();
    standard.sort_unstable();
    assert_eq!(table, standard);
    for (call, code, _) in NEVER {
        let row = DOCUMENTED.iter().find(|(other, _)| other == call).unwrap();
        assert!(row.1.contains(code), "{call} does not have {code:?}");
    }
}
