//! Volumes that live and die with a pod, and the group that a pod's files belong to.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use strongroom_proto::csi::volume_capability::AccessType;
use strongroom_proto::csi::{
    ListVolumesRequest, NodeGetVolumeStatsRequest, NodePublishVolumeRequest, NodeUnpublishVolumeRequest,
    VolumeCapability,
};
use tonic::Code;

use crate::content;
use crate::hostile;
use crate::kernel;
use crate::machine::Machine;
use crate::requests::{self, Kind};
use crate::volume;

/// As Kubernetes makes them.
fn handle(number: u8) -> String {
    format!("csi-{}", format!("{number:02x}").repeat(32))
}

fn context(more: &[(&str, &str)]) -> HashMap<String, String> {
    let from_kubernetes = [
        ("csi.storage.k8s.io/ephemeral", "true"),
        ("csi.storage.k8s.io/pod.name", "web-0"),
        ("csi.storage.k8s.io/pod.namespace", "default"),
        ("csi.storage.k8s.io/pod.uid", "11649fb1-ef45-4e2a-96bd-4da9d2b2d3e1"),
        ("csi.storage.k8s.io/serviceAccount.name", "default"),
    ];
    from_kubernetes.iter().chain(more).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn publish(machine: &Machine, id: &str, name: &str) -> NodePublishVolumeRequest {
    NodePublishVolumeRequest {
        volume_id: id.to_owned(),
        target_path: machine.pod_path(name),
        volume_capability: Some(requests::mount("ext4")),
        volume_context: context(&[("size", "32Mi")]),
        ..Default::default()
    }
}

fn unpublish(machine: &Machine, id: &str, name: &str) -> NodeUnpublishVolumeRequest {
    NodeUnpublishVolumeRequest { volume_id: id.to_owned(), target_path: machine.pod_path(name) }
}

fn is_mounted(path: &Path) -> bool {
    kernel::mounts_below(path).iter().any(|place| place == path)
}

#[test]
fn an_inline_volume_comes_with_its_pod_and_goes_with_it() {
    let Some(mut machine) = Machine::new("inline volumes") else { return };
    let (id, target) = (handle(1), PathBuf::from(machine.pod_path("pod")));
    for _ in 0..3 {
        machine.ok(publish(&machine, &id, "pod"));
    }
    assert!(is_mounted(&target));
    content::fill(&target, Kind::Ext4, 1);
    let before = content::read(&target, Kind::Ext4);
    // It has the size that was asked for.
    let stats = NodeGetVolumeStatsRequest {
        volume_id: id.clone(),
        volume_path: machine.pod_path("pod"),
        ..Default::default()
    };
    let total = machine.ok(stats).usage[0].total;
    assert!(total <= 32 << 20 && total > 16 << 20, "{total}");
    machine.restart();
    assert_eq!(content::read(&target, Kind::Ext4), before, "a pod goes on while the driver is away");
    machine.ok(publish(&machine, &id, "pod"));
    for _ in 0..3 {
        machine.ok(unpublish(&machine, &id, "pod"));
    }
    assert!(!target.exists());
    machine.restart();
    machine.ok(unpublish(&machine, &id, "pod"));
    assert!(machine.ok(ListVolumesRequest::default()).entries.is_empty(), "its data goes with it");
    // The next pod of that name finds nothing of it.
    machine.ok(publish(&machine, &id, "pod"));
    assert!(content::read(&target, Kind::Ext4).is_empty());
    machine.ok(unpublish(&machine, &id, "pod"));
    machine.finish();
}

#[test]
fn an_inline_volume_that_cannot_be_leaves_nothing_behind() {
    let Some(machine) = Machine::new("refused inline volumes") else { return };
    let change = |change: &dyn Fn(&mut NodePublishVolumeRequest)| {
        let mut request = publish(&machine, &handle(2), "pod");
        change(&mut request);
        request
    };
    for (code, request) in [
        (Code::InvalidArgument, change(&|one| one.volume_context = context(&[("size", "much")]))),
        (Code::InvalidArgument, change(&|one| one.volume_context = context(&[("color", "red")]))),
        (Code::InvalidArgument, change(&|one| one.volume_context = context(&[("fs", "ntfs")]))),
        (Code::InvalidArgument, change(&|one| one.volume_capability = Some(requests::block()))),
        (Code::InvalidArgument, change(&|one| one.volume_capability = None)),
        (
            Code::InvalidArgument,
            change(&|one| one.volume_capability = Some(requests::mount_with("ext4", &["loop"]))),
        ),
        (Code::ResourceExhausted, change(&|one| one.volume_context = context(&[("size", "100Ti")]))),
        (Code::OutOfRange, change(&|one| one.volume_context = context(&[("size", "1Ki")]))),
        (Code::InvalidArgument, change(&|one| one.target_path = "/etc/pod".into())),
    ] {
        machine.refused(code, request);
        assert!(machine.ok(ListVolumesRequest::default()).entries.is_empty());
        assert!(!Path::new(&machine.pod_path("pod")).exists(), "the target is not left behind");
    }
    // 64 callers with one wish make one.
    let answers = machine.together(vec![publish(&machine, &handle(3), "pod"); 64]);
    let good = answers.iter().filter(|answer| answer.is_ok()).count();
    let others = answers.iter().filter_map(|answer| answer.as_ref().err());
    others.for_each(|status| assert_eq!(status.code(), Code::Aborted, "{status:?}"));
    assert!(good > 0);
    machine.ok(unpublish(&machine, &handle(3), "pod"));
    machine.finish();
}

#[test]
fn hostile_words_about_inline_volumes_lead_nowhere() {
    let Some(mut machine) = Machine::new("hostile inline volumes") else { return };
    let yard = hostile::Yard::look(&machine);
    let mut texts = hostile::strings();
    texts.extend(hostile::places(&machine));
    type Put = fn(&mut NodePublishVolumeRequest, &str);
    let puts: [(&str, Put); 6] = [
        ("volume_id", |one, text| one.volume_id = text.to_owned()),
        ("target_path", |one, text| one.target_path = text.to_owned()),
        ("size", |one, text| _ = one.volume_context.insert("size".into(), text.to_owned())),
        ("fs", |one, text| _ = one.volume_context.insert("fs".into(), text.to_owned())),
        ("context", |one, text| _ = one.volume_context.insert(text.to_owned(), "a".into())),
        ("pod.name", |one, text| {
            _ = one.volume_context.insert("csi.storage.k8s.io/pod.name".into(), text.to_owned());
        }),
    ];
    for (what, put) in puts {
        for text in &texts {
            let mut request = publish(&machine, &handle(4), "pod");
            put(&mut request, text);
            let (volume_id, target_path) = (request.volume_id.clone(), request.target_path.clone());
            match machine.call(request) {
                Ok(_) => _ = machine.ok(NodeUnpublishVolumeRequest { volume_id, target_path }),
                Err(status) => {
                    assert!(hostile::PROPER.contains(&status.code()), "{what} {text:?}: {status:?}");
                }
            }
        }
        assert!(machine.is_alive());
        assert_eq!(yard.differs(&machine), None, "{what}");
        assert!(machine.ok(ListVolumesRequest::default()).entries.is_empty(), "{what}");
    }
    machine.finish();
}

fn shared_with(group: &str) -> VolumeCapability {
    let mut capability = requests::mount("ext4");
    if let Some(AccessType::Mount(mount)) = &mut capability.access_type {
        mount.volume_mount_group = group.to_owned();
    }
    capability
}

#[test]
fn what_a_pod_makes_belongs_to_its_group() {
    let Some(machine) = Machine::new("the group of a volume") else { return };
    let id = volume::small(&machine, "db", Kind::Ext4);
    for wrong in ["wheel", "-1", "4294967296", "1;2", " 1"] {
        let request = volume::stage_request(&machine, &id, "db", shared_with(wrong));
        let status = machine.call(request).unwrap_err();
        assert!(
            matches!(status.code(), Code::InvalidArgument | Code::FailedPrecondition),
            "{wrong}: {status:?}"
        );
    }
    machine.ok(volume::stage_request(&machine, &id, "db", shared_with("4711")));
    let request = volume::publish_request(&machine, &id, "db", shared_with("4711"));
    let target = PathBuf::from(&request.target_path);
    machine.ok(request);
    let root = fs::metadata(&target).unwrap();
    assert_eq!((root.gid(), root.mode() & 0o2070), (4711, 0o2070));
    fs::create_dir(target.join("folder")).unwrap();
    fs::write(target.join("folder/file"), "a").unwrap();
    assert_eq!(fs::metadata(target.join("folder/file")).unwrap().gid(), 4711);
    volume::unpublish(&machine, &id, "db");
    machine.finish();
}
