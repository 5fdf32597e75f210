//! What is refused, with the code that CSI gives it; and what may come twice.

use strongroom_model::Failure as _;
use strongroom_proto::CallError;
use strongroom_proto::csi::volume_capability::access_mode::Mode;
use strongroom_proto::csi::volume_capability::{AccessMode, AccessType, MountVolume};
use strongroom_proto::csi::volume_content_source::{SnapshotSource, Type, VolumeSource};
use strongroom_proto::csi::{
    CapacityRange, ControllerExpandVolumeRequest, CreateVolumeRequest, DeleteSnapshotRequest,
    DeleteVolumeRequest, NodeGetVolumeStatsRequest, NodePublishVolumeRequest, NodeStageVolumeRequest,
    Topology, TopologyRequirement, ValidateVolumeCapabilitiesRequest, VolumeCapability, VolumeContentSource,
};
use tonic::{Code, Status};

use crate::ground::{Ground, MIB, block, mount, new_snapshot, new_volume, range};

const UNKNOWN: &str = "vol-00000000000000000000000000000000";

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, case: &str) {
    let status = answer.expect_err(case);
    assert_eq!(status.code(), code, "{case}: {status}");
    assert!(!status.message().is_empty() && status.details().is_empty(), "{case}: as CSI wants it");
    let error = CallError::from(status);
    assert!(!error.code().is_empty() && !error.advice().is_empty(), "{case}");
}

fn with(change: impl FnOnce(&mut CreateVolumeRequest)) -> CreateVolumeRequest {
    let mut request = new_volume("new", 64);
    change(&mut request);
    request
}

fn mode(mode: Mode) -> VolumeCapability {
    VolumeCapability { access_mode: Some(AccessMode { mode: mode.into() }), ..mount("") }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_cannot_be_is_refused_with_the_code_of_csi() {
    let Some(mut ground) = Ground::new("refused volumes").await else { return };
    let existing = ground.volume("existing", 64).await.volume_id;
    let source = |source| Some(VolumeContentSource { r#type: source });
    let elsewhere = Topology { segments: [("strongroom.io/node".into(), "node-2".into())].into() };
    let cases = [
        ("no name", with(|new| new.name.clear()), Code::InvalidArgument),
        ("a long name", with(|new| new.name = "x".repeat(129)), Code::InvalidArgument),
        ("a name with NUL", with(|new| new.name = "a\0b".into()), Code::InvalidArgument),
        ("no capability", with(|new| new.volume_capabilities.clear()), Code::InvalidArgument),
        (
            "many nodes",
            with(|new| new.volume_capabilities = vec![mode(Mode::MultiNodeMultiWriter)]),
            Code::InvalidArgument,
        ),
        (
            "a foreign filesystem",
            with(|new| new.volume_capabilities = vec![mount("ntfs")]),
            Code::InvalidArgument,
        ),
        (
            "raw and mounted",
            with(|new| new.volume_capabilities = vec![mount(""), block()]),
            Code::InvalidArgument,
        ),
        (
            "an unknown parameter",
            with(|new| _ = new.parameters.insert("path".into(), "/etc".into())),
            Code::InvalidArgument,
        ),
        (
            "a huge map",
            with(|new| _ = new.parameters.insert("label.a".into(), "x".repeat(5000))),
            Code::InvalidArgument,
        ),
        (
            "mutable parameters",
            with(|new| _ = new.mutable_parameters.insert("a".into(), "b".into())),
            Code::InvalidArgument,
        ),
        (
            "required above the limit",
            with(|new| {
                new.capacity_range = Some(CapacityRange { required_bytes: 2 << 30, limit_bytes: 1 << 30 })
            }),
            Code::OutOfRange,
        ),
        (
            "a limit too small to be",
            with(|new| new.capacity_range = Some(CapacityRange { required_bytes: 0, limit_bytes: 1 })),
            Code::OutOfRange,
        ),
        (
            "a negative size",
            with(|new| new.capacity_range = Some(CapacityRange { required_bytes: -1, limit_bytes: 0 })),
            Code::OutOfRange,
        ),
        (
            "more than the pool",
            with(|new| new.capacity_range = Some(range(1 << 20))),
            Code::ResourceExhausted,
        ),
        (
            "another node",
            with(|new| {
                new.accessibility_requirements =
                    Some(TopologyRequirement { requisite: vec![elsewhere.clone()], preferred: Vec::new() });
            }),
            Code::ResourceExhausted,
        ),
        (
            "an unknown volume as source",
            with(|new| {
                new.volume_content_source =
                    source(Some(Type::Volume(VolumeSource { volume_id: UNKNOWN.into() })))
            }),
            Code::NotFound,
        ),
        (
            "a snapshot that never was",
            with(|new| {
                new.volume_content_source =
                    source(Some(Type::Snapshot(SnapshotSource { snapshot_id: "x".into() })))
            }),
            Code::NotFound,
        ),
        (
            "a source that is none",
            with(|new| new.volume_content_source = source(None)),
            Code::InvalidArgument,
        ),
        (
            "a clone as something else",
            with(|new| {
                new.volume_capabilities = vec![block()];
                new.volume_content_source =
                    source(Some(Type::Volume(VolumeSource { volume_id: existing.clone() })));
            }),
            Code::InvalidArgument,
        ),
        (
            "the name of another",
            with(|new| {
                new.name = "existing".into();
                new.capacity_range = Some(range(128));
            }),
            Code::AlreadyExists,
        ),
    ];
    for (case, request, code) in cases {
        refused(ground.clients.controller.create_volume(request).await, code, case);
    }
    let left =
        ground.clients.controller.list_volumes(strongroom_proto::csi::ListVolumesRequest::default()).await;
    assert_eq!(left.unwrap().into_inner().entries.len(), 1, "nothing that was refused was made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_comes_twice_answers_the_same() {
    let Some(mut ground) = Ground::new("calls that come twice").await else { return };
    let id = ground.volume("db", 64).await.volume_id;
    for _ in 0..3 {
        assert_eq!(ground.volume("db", 64).await.volume_id, id);
        ground.publish(&id, "db").await;
    }
    let snapshot = ground.snapshot(&id, "snap").await;
    assert_eq!(ground.snapshot(&id, "snap").await, snapshot);
    let other = ground.volume("other", 64).await.volume_id;
    let taken = ground.clients.controller.create_snapshot(new_snapshot(&other, "snap")).await;
    refused(taken, Code::AlreadyExists, "the name of a snapshot of another volume");

    let mut otherwise = ground.stage_request(&id, "db");
    otherwise.staging_target_path = ground.text("stage/elsewhere");
    std::fs::create_dir_all(&otherwise.staging_target_path).unwrap();
    let answer = ground.clients.node.node_stage_volume(otherwise).await;
    assert!(answer.is_err(), "a volume is staged at one place");
    let mut otherwise = ground.publish_request(&id, "db");
    otherwise.readonly = true;
    refused(
        ground.clients.node.node_publish_volume(otherwise).await,
        Code::AlreadyExists,
        "the same target otherwise",
    );
    let mut second = ground.publish_request(&id, "db");
    second.target_path = ground.text("pods/second");
    refused(
        ground.clients.node.node_publish_volume(second.clone()).await,
        Code::FailedPrecondition,
        "a second target for one writer",
    );
    second.volume_capability = Some(mode(Mode::SingleNodeMultiWriter));
    let shared = ground.clients.node.node_publish_volume(second).await;
    shared.expect("a second target for many writers");

    let delete = DeleteVolumeRequest { volume_id: id.clone(), ..Default::default() };
    refused(
        ground.clients.controller.delete_volume(delete.clone()).await,
        Code::FailedPrecondition,
        "a volume in use",
    );
    ground.unpublish(&id, "second").await;
    for _ in 0..2 {
        ground.unpublish(&id, "db").await;
    }
    for _ in 0..2 {
        ground.clients.controller.delete_volume(delete.clone()).await.unwrap();
        let request =
            DeleteSnapshotRequest { snapshot_id: snapshot.snapshot_id.clone(), ..Default::default() };
        ground.clients.controller.delete_snapshot(request).await.unwrap();
    }
    for never in ["some-id", UNKNOWN] {
        let request = DeleteVolumeRequest { volume_id: never.into(), ..Default::default() };
        ground.clients.controller.delete_volume(request).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_is_not_found_and_what_is_missing_is_invalid() {
    let Some(mut ground) = Ground::new("what is not there").await else { return };
    let id = ground.volume("db", 64).await.volume_id;
    let node = ground.clients.node.clone();
    let stage = |change: fn(&mut NodeStageVolumeRequest)| {
        let mut request = ground.stage_request(&id, "db");
        change(&mut request);
        let mut node = node.clone();
        async move { node.node_stage_volume(request).await }
    };
    refused(stage(|stage| stage.volume_id.clear()).await, Code::InvalidArgument, "stage without volume");
    refused(
        stage(|stage| stage.staging_target_path.clear()).await,
        Code::InvalidArgument,
        "stage without path",
    );
    refused(
        stage(|stage| stage.volume_capability = None).await,
        Code::InvalidArgument,
        "stage without capability",
    );
    refused(stage(|stage| stage.volume_id = UNKNOWN.into()).await, Code::NotFound, "stage an unknown volume");
    refused(stage(|stage| stage.volume_id = "x".into()).await, Code::NotFound, "stage a foreign volume");
    refused(
        stage(|stage| stage.staging_target_path = "a/../b".into()).await,
        Code::InvalidArgument,
        "stage at a relative path",
    );
    refused(
        stage(|stage| stage.volume_capability = Some(block())).await,
        Code::FailedPrecondition,
        "stage a filesystem as a device",
    );
    refused(
        stage(|stage| {
            stage.volume_capability = Some(VolumeCapability {
                access_type: Some(AccessType::Mount(MountVolume {
                    mount_flags: vec!["suid,dev,bind,/etc".into()],
                    ..Default::default()
                })),
                ..mount("")
            });
        })
        .await,
        Code::InvalidArgument,
        "stage with hostile mount flags",
    );
    let publish = |change: fn(&mut NodePublishVolumeRequest)| {
        let mut request = ground.publish_request(&id, "db");
        change(&mut request);
        let mut node = node.clone();
        async move { node.node_publish_volume(request).await }
    };
    refused(
        publish(|publish| publish.volume_id.clear()).await,
        Code::InvalidArgument,
        "publish without volume",
    );
    refused(
        publish(|publish| publish.target_path.clear()).await,
        Code::InvalidArgument,
        "publish without target",
    );
    refused(
        publish(|publish| publish.volume_capability = None).await,
        Code::InvalidArgument,
        "publish without capability",
    );
    refused(
        publish(|publish| publish.volume_id = UNKNOWN.into()).await,
        Code::NotFound,
        "publish an unknown volume",
    );
    refused(
        publish(|publish| publish.staging_target_path.clear()).await,
        Code::FailedPrecondition,
        "publish without staging path",
    );
    refused(publish(|_| {}).await, Code::FailedPrecondition, "publish what is not staged");

    let stats = |volume_id: &str, volume_path: &str| {
        let request = NodeGetVolumeStatsRequest {
            volume_id: volume_id.into(),
            volume_path: volume_path.into(),
            ..Default::default()
        };
        let mut node = node.clone();
        async move { node.node_get_volume_stats(request).await }
    };
    refused(stats("", "/x").await, Code::InvalidArgument, "stats without volume");
    refused(stats(&id, "").await, Code::InvalidArgument, "stats without path");
    refused(stats(UNKNOWN, "/x").await, Code::NotFound, "stats of an unknown volume");
    refused(stats(&id, "/x").await, Code::NotFound, "stats where the volume is not");

    let expand = |volume_id: &str, range: Option<CapacityRange>| {
        let request = ControllerExpandVolumeRequest {
            volume_id: volume_id.into(),
            capacity_range: range,
            ..Default::default()
        };
        let mut controller = ground.clients.controller.clone();
        async move { controller.controller_expand_volume(request).await }
    };
    refused(expand("", Some(range(128))).await, Code::InvalidArgument, "expand without volume");
    refused(expand(&id, None).await, Code::InvalidArgument, "expand without size");
    refused(expand(UNKNOWN, Some(range(128))).await, Code::NotFound, "expand an unknown volume");
    let too_small = CapacityRange { required_bytes: 0, limit_bytes: 4096 };
    refused(expand(&id, Some(too_small)).await, Code::OutOfRange, "a volume does not shrink");

    let validate = |volume_id: &str, volume_capabilities: Vec<VolumeCapability>| {
        let request = ValidateVolumeCapabilitiesRequest {
            volume_id: volume_id.into(),
            volume_capabilities,
            ..Default::default()
        };
        let mut controller = ground.clients.controller.clone();
        async move { controller.validate_volume_capabilities(request).await }
    };
    refused(validate("", vec![mount("")]).await, Code::InvalidArgument, "validate without volume");
    refused(validate(&id, vec![]).await, Code::InvalidArgument, "validate nothing");
    refused(validate(UNKNOWN, vec![mount("")]).await, Code::NotFound, "validate an unknown volume");
    assert!(validate(&id, vec![mount("ext4")]).await.unwrap().into_inner().confirmed.is_some());
    let not = validate(&id, vec![mount("ext4"), mount("xfs")]).await.unwrap().into_inner();
    assert!(not.confirmed.is_none() && !not.message.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn parallel_calls_on_one_volume_succeed_or_are_aborted_and_nothing_is_made_twice() {
    let Some(mut ground) = Ground::new("parallel calls").await else { return };
    let calls: Vec<_> = (0..16)
        .map(|_| {
            let mut controller = ground.clients.controller.clone();
            tokio::spawn(async move { controller.create_volume(new_volume("db", 64)).await })
        })
        .collect();
    let mut ids = std::collections::BTreeSet::new();
    for call in calls {
        match call.await.unwrap() {
            Ok(answer) => _ = ids.insert(answer.into_inner().volume.unwrap().volume_id),
            Err(status) => assert_eq!(status.code(), Code::Aborted, "{status}"),
        }
    }
    assert_eq!(ids.len(), 1, "one volume: {ids:?}");
    let id = ids.pop_first().unwrap();
    let target = ground.publish(&id, "db").await;
    std::fs::write(target.join("file"), vec![7; usize::try_from(16 * MIB).unwrap()]).unwrap();
    let calls: Vec<_> = (0..8)
        .map(|number| {
            let (mut controller, id) = (ground.clients.controller.clone(), id.clone());
            tokio::spawn(async move {
                controller.create_snapshot(new_snapshot(&id, &format!("snap-{}", number % 2))).await
            })
        })
        .collect();
    for call in calls {
        match call.await.unwrap() {
            Ok(answer) => _ = ids.insert(answer.into_inner().snapshot.unwrap().snapshot_id),
            Err(status) => assert_eq!(status.code(), Code::Aborted, "{status}"),
        }
    }
    assert!(ids.len() <= 2 && !ids.is_empty(), "{ids:?}");
    ground.unpublish(&id, "db").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_names_make_volumes_and_no_paths() {
    let Some(mut ground) = Ground::new("hostile names").await else { return };
    let names = ["../../../etc/cron.d/x", "/", "..", "-rf", "a;b $(c) `d` |e", "größe 日本", "%s%n", "CON"];
    let mut ids = std::collections::BTreeSet::new();
    for name in names {
        let id = ground.volume(name, 16).await.volume_id;
        assert!(ids.insert(id.clone()), "{name}");
        let snapshot = ground.snapshot(&id, &format!("snap {name}")).await;
        assert_eq!(snapshot.source_volume_id, id);
    }
    let listed =
        ground.clients.driver.list_volumes(strongroom_proto::control::ListVolumesRequest::default()).await;
    let listed: Vec<String> =
        listed.unwrap().into_inner().volumes.into_iter().map(|volume| volume.name).collect();
    assert!(names.iter().all(|name| listed.iter().any(|listed| listed == name)), "{listed:?}");
    assert!(!std::path::Path::new("/etc/cron.d/x").exists());
}
