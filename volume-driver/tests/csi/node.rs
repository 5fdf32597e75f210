//! The Node service, beyond the usual way: access modes, groups, inline volumes, places where nothing may be.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use strongroom_proto::csi::volume_capability::AccessType;
use strongroom_proto::csi::volume_capability::access_mode::Mode;
use strongroom_proto::csi::{
    ControllerExpandVolumeRequest, NodeExpandVolumeRequest, NodeGetVolumeStatsRequest,
    NodePublishVolumeRequest, NodeUnpublishVolumeRequest, VolumeCapability,
};
use tonic::Code;

use crate::ground::{Ground, MIB, block, mount, new_volume, range};
use crate::kernel::mounts_below;

fn with_mode(mut capability: VolumeCapability, mode: Mode) -> VolumeCapability {
    capability.access_mode.as_mut().unwrap().mode = mode.into();
    capability
}

fn with_group(group: &str) -> VolumeCapability {
    let mut capability = mount("ext4");
    if let Some(AccessType::Mount(mount)) = &mut capability.access_type {
        mount.volume_mount_group = group.to_owned();
    }
    capability
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_access_mode_lets_as_many_targets_write_as_it_says() {
    let Some(mut ground) = Ground::new("access modes").await else { return };
    for (name, mode, second, writes) in [
        ("writer", Mode::SingleNodeWriter, false, true),
        ("single", Mode::SingleNodeSingleWriter, false, true),
        ("multi", Mode::SingleNodeMultiWriter, true, true),
        ("reader", Mode::SingleNodeReaderOnly, false, false),
    ] {
        let id = ground.volume(name, 16).await.volume_id;
        fs::create_dir_all(ground.path("pods")).unwrap();
        fs::create_dir_all(ground.path("stage")).unwrap();
        let mut stage = ground.stage_request(&id, name);
        stage.volume_capability = Some(with_mode(mount("ext4"), mode));
        ground.clients.node.node_stage_volume(stage).await.unwrap();
        let mut publish = ground.publish_request(&id, name);
        publish.volume_capability = Some(with_mode(mount("ext4"), mode));
        ground.clients.node.node_publish_volume(publish.clone()).await.unwrap();
        assert_eq!(fs::write(Path::new(&publish.target_path).join("file"), b"x").is_ok(), writes, "{name}");
        publish.target_path += "-second";
        let answer = ground.clients.node.node_publish_volume(publish).await;
        match answer {
            Ok(_) => assert!(second, "{name}"),
            Err(status) => assert!(!second && status.code() == Code::FailedPrecondition, "{name}: {status}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_shares_the_volume_from_its_root_folder_on() {
    let Some(mut ground) = Ground::new("a volume's group").await else { return };
    let id = ground.volume("db", 16).await.volume_id;
    for wrong in ["users", "-1", "4294967295", "1 "] {
        let mut stage = ground.stage_request(&id, "db");
        stage.volume_capability = Some(with_group(wrong));
        let refused = ground.clients.node.node_stage_volume(stage).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{wrong:?}");
    }
    fs::create_dir_all(ground.path("stage")).unwrap();
    fs::create_dir_all(ground.path("pods")).unwrap();
    let mut stage = ground.stage_request(&id, "db");
    stage.volume_capability = Some(with_group("2345"));
    let mut publish = ground.publish_request(&id, "db");
    publish.volume_capability = Some(with_group("2345"));
    for _ in 0..2 {
        ground.clients.node.node_stage_volume(stage.clone()).await.unwrap();
        ground.clients.node.node_publish_volume(publish.clone()).await.unwrap();
    }
    let target = PathBuf::from(&publish.target_path);
    let root = target.metadata().unwrap();
    assert_eq!((root.gid(), root.mode() & 0o2070), (2345, 0o2070));
    fs::create_dir(target.join("made")).unwrap();
    let made = target.join("made").metadata().unwrap();
    assert_eq!((made.gid(), made.mode() & 0o2000), (2345, 0o2000), "it is handed on");
}

fn inline(id: &str, target: &Path) -> NodePublishVolumeRequest {
    NodePublishVolumeRequest {
        volume_id: id.to_owned(),
        target_path: target.to_str().unwrap().to_owned(),
        volume_capability: Some(mount("")),
        volume_context: [("csi.storage.k8s.io/ephemeral", "true"), ("size", "16Mi"), ("fs", "ext4")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inline_volume_needs_nothing_but_publish_and_unpublish() {
    let Some(mut ground) = Ground::new("inline volumes").await else { return };
    fs::create_dir_all(ground.path("pods")).unwrap();
    let (id, target) = (format!("csi-{}", "0a".repeat(32)), ground.path("pods/mount"));
    let request = inline(&id, &target);
    for _ in 0..2 {
        ground.clients.node.node_publish_volume(request.clone()).await.unwrap();
    }
    fs::write(target.join("file"), b"x").unwrap();
    let stats = NodeGetVolumeStatsRequest {
        volume_id: id.clone(),
        volume_path: request.target_path.clone(),
        ..Default::default()
    };
    let stats = ground.clients.node.node_get_volume_stats(stats).await.unwrap().into_inner();
    assert!(stats.usage[0].total < i64::try_from(16 * MIB).unwrap());

    let mut other = inline(&id, &target);
    other.readonly = true;
    let refused = ground.clients.node.node_publish_volume(other).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    for (key, value) in [("size", "0"), ("path", "/etc"), ("fs", "zfs")] {
        let mut wrong = inline("csi-other", &ground.path("pods/other"));
        wrong.volume_context.insert(key.to_owned(), value.to_owned());
        let refused = ground.clients.node.node_publish_volume(wrong).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{key}={value}");
    }
    let mut ours = inline("vol-07070707070707070707070707070707", &ground.path("pods/other"));
    ours.volume_capability = Some(mount(""));
    let refused = ground.clients.node.node_publish_volume(ours).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);

    let unpublish = NodeUnpublishVolumeRequest { volume_id: id, target_path: request.target_path };
    for _ in 0..2 {
        ground.clients.node.node_unpublish_volume(unpublish.clone()).await.unwrap();
        assert!(!target.exists() && mounts_below(&ground.path("pods")).is_empty());
    }
    let unknown = NodeUnpublishVolumeRequest { volume_id: "csi-other".into(), ..unpublish };
    let refused = ground.clients.node.node_unpublish_volume(unknown).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_that_belong_to_nobody_here_are_left_alone() {
    let Some(mut ground) = Ground::new("hostile places").await else { return };
    let outside = tempfile::tempdir().unwrap();
    let id = ground.volume("db", 16).await.volume_id;
    ground.publish(&id, "db").await;
    std::os::unix::fs::symlink(outside.path(), ground.path("pods/link")).unwrap();
    let long = format!("{}/{}", ground.text("pods"), "x/".repeat(2100));
    let hostile = [
        format!("{}/a", outside.path().display()),
        ground.text("pods/link"),
        ground.text("pods/link/a"),
        ground.text("pods/../../etc"),
        ground.text("pods/a\0b"),
        ground.text("pods/a\nb"),
        "relative".to_owned(),
        "/".to_owned(),
        "/proc/self/root/tmp/a".to_owned(),
        long,
    ];
    for path in &hostile {
        let mut request = ground.publish_request(&id, "db");
        request.target_path.clone_from(path);
        request.volume_capability = Some(with_mode(mount("ext4"), Mode::SingleNodeMultiWriter));
        let refused = ground.clients.node.node_publish_volume(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{path:?}: {refused}");
        let mut request = ground.stage_request(&id, "db");
        request.staging_target_path.clone_from(path);
        let refused = ground.clients.node.node_stage_volume(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{path:?}: {refused}");
        let request = NodeUnpublishVolumeRequest { volume_id: id.clone(), target_path: path.clone() };
        let _ = ground.clients.node.node_unpublish_volume(request).await;
    }
    assert!(fs::read_dir(outside.path()).unwrap().next().is_none());
    assert!(ground.path("pods/link").is_symlink());

    // Strange, but in its place; with one spelling, however it is written.
    for name in ["-rf", "\\040", "a b", "ü", "x/"] {
        let mut request = ground.publish_request(&id, "db");
        request.target_path = format!("{}//{name}", ground.text("pods"));
        request.volume_capability = Some(with_mode(mount("ext4"), Mode::SingleNodeMultiWriter));
        ground.clients.node.node_publish_volume(request.clone()).await.unwrap();
        let target = ground.path("pods").join(name.trim_end_matches('/'));
        assert!(target.join("lost+found").is_dir(), "{name}");
        let request = NodeUnpublishVolumeRequest {
            volume_id: id.clone(),
            target_path: target.to_str().unwrap().to_owned(),
        };
        ground.clients.node.node_unpublish_volume(request).await.unwrap();
        assert!(!target.exists(), "{name}");
    }
    // Somebody else's mount is not covered.
    fs::create_dir(ground.path("pods/taken")).unwrap();
    rustix::mount::mount("none", ground.path("pods/taken"), "tmpfs", rustix::mount::MountFlags::empty(), c"")
        .unwrap();
    let mut request = ground.publish_request(&id, "db");
    request.target_path = ground.text("pods/taken");
    request.volume_capability = Some(with_mode(mount("ext4"), Mode::SingleNodeMultiWriter));
    let refused = ground.clients.node.node_publish_volume(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn growing_answers_exactly_the_size_at_either_place() {
    let Some(mut ground) = Ground::new("growing").await else { return };
    let mut request = new_volume("raw", 16);
    request.volume_capabilities = vec![block()];
    let raw = ground.clients.controller.create_volume(request).await.unwrap().into_inner().volume.unwrap();
    let mut request = new_volume("fs", 256);
    request.volume_capabilities = vec![mount("btrfs")];
    let fs = ground.clients.controller.create_volume(request).await.unwrap().into_inner().volume.unwrap();
    for (id, name, capability, mib) in
        [(raw.volume_id, "raw", block(), 20), (fs.volume_id, "fs", mount("btrfs"), 300)]
    {
        fs::create_dir_all(ground.path("stage").join(name)).unwrap();
        fs::create_dir_all(ground.path("pods")).unwrap();
        let mut stage = ground.stage_request(&id, name);
        stage.volume_capability = Some(capability.clone());
        ground.clients.node.node_stage_volume(stage.clone()).await.unwrap();
        let mut publish = ground.publish_request(&id, name);
        publish.volume_capability = Some(capability.clone());
        ground.clients.node.node_publish_volume(publish.clone()).await.unwrap();
        let request = ControllerExpandVolumeRequest {
            volume_id: id.clone(),
            capacity_range: Some(range(mib)),
            ..Default::default()
        };
        ground.clients.controller.controller_expand_volume(request).await.unwrap();
        for place in [&stage.staging_target_path, &publish.target_path] {
            let request = NodeExpandVolumeRequest {
                volume_id: id.clone(),
                volume_path: place.clone(),
                capacity_range: Some(range(mib)),
                volume_capability: Some(capability.clone()),
                ..Default::default()
            };
            let grown = ground.clients.node.node_expand_volume(request).await.unwrap().into_inner();
            assert_eq!(grown.capacity_bytes, i64::try_from(mib * MIB).unwrap(), "{name}");
        }
        let request = NodeExpandVolumeRequest {
            volume_id: id.clone(),
            volume_path: ground.text("pods/elsewhere"),
            ..Default::default()
        };
        let refused = ground.clients.node.node_expand_volume(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
        ground.unpublish(&id, name).await;
    }
}
