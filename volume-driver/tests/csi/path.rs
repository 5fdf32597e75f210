//! The whole way of a volume, as an orchestrator walks it.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use strongroom_proto::csi::volume_content_source::{SnapshotSource, Type, VolumeSource};
use strongroom_proto::csi::volume_usage::Unit;
use strongroom_proto::csi::{
    ControllerExpandVolumeRequest, CreateVolumeRequest, DeleteSnapshotRequest, DeleteVolumeRequest,
    NodeExpandVolumeRequest, NodeGetVolumeStatsRequest, VolumeContentSource,
};
use tonic::Code;

use crate::ground::{Ground, MIB, block, may_grow_online, mount, new_volume, range};
use crate::kernel::{loops_below, mounts_below};

fn write(path: &Path, text: &str) {
    let mut file = fs::File::create(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.sync_all().unwrap();
}

fn from(name: &str, source: Type) -> CreateVolumeRequest {
    CreateVolumeRequest {
        capacity_range: None,
        volume_content_source: Some(VolumeContentSource { r#type: Some(source) }),
        ..new_volume(name, 0)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_walks_the_whole_way_and_leaves_nothing_behind() {
    let Some(mut ground) = Ground::new("the whole way of a volume").await else { return };
    let volume = ground.volume("db", 64).await;
    assert_eq!(volume.capacity_bytes, i64::try_from(64 * MIB).unwrap());
    assert_eq!(volume.accessible_topology[0].segments["strongroom.io/node"], "node-1");
    let id = volume.volume_id;
    let target = ground.publish(&id, "db").await;
    write(&target.join("file"), "before");

    let snapshot = ground.snapshot(&id, "snap").await;
    assert!(snapshot.ready_to_use && snapshot.source_volume_id == id && snapshot.creation_time.is_some());
    write(&target.join("file"), "after");

    // Beside it: what the snapshot holds, and what the volume holds now.
    let source = Type::Snapshot(SnapshotSource { snapshot_id: snapshot.snapshot_id.clone() });
    let restored = ground.clients.controller.create_volume(from("restored", source)).await.unwrap();
    let restored = restored.into_inner().volume.unwrap();
    assert!(restored.content_source.is_some(), "CSI wants to hear where it came from");
    let source = Type::Volume(VolumeSource { volume_id: id.clone() });
    let cloned = ground.clients.controller.create_volume(from("cloned", source)).await.unwrap();
    let cloned = cloned.into_inner().volume.unwrap();
    let at = ground.publish(&restored.volume_id, "restored").await;
    assert_eq!(fs::read_to_string(at.join("file")).unwrap(), "before");
    let at = ground.publish(&cloned.volume_id, "cloned").await;
    assert_eq!(fs::read_to_string(at.join("file")).unwrap(), "after");

    for (id, name) in [(&restored.volume_id, "restored"), (&cloned.volume_id, "cloned"), (&id, "db")] {
        ground.unpublish(id, name).await;
        assert!(!ground.path("pods").join(name).exists(), "the target is removed");
        let request = DeleteVolumeRequest { volume_id: id.clone(), ..Default::default() };
        ground.clients.controller.delete_volume(request).await.unwrap();
    }
    // Snapshots do not depend on their volume, nor volumes on their snapshot.
    let request = DeleteSnapshotRequest { snapshot_id: snapshot.snapshot_id, ..Default::default() };
    ground.clients.controller.delete_snapshot(request).await.unwrap();
    ground.stop().await;
    let below = |name: &str| mounts_below(&ground.path(name)).len();
    assert_eq!((below("stage"), below("pods")), (0, 0));
    assert!(loops_below(&ground.path("pool")).len() <= 1, "at most the pool's own");
}

async fn stats(ground: &mut Ground, id: &str, path: &Path) -> (i64, i64, usize) {
    let request = NodeGetVolumeStatsRequest {
        volume_id: id.into(),
        volume_path: path.to_str().unwrap().into(),
        ..Default::default()
    };
    let answer = ground.clients.node.node_get_volume_stats(request).await.unwrap().into_inner();
    assert!(!answer.volume_condition.unwrap().abnormal);
    let bytes = answer.usage.iter().find(|row| row.unit() == Unit::Bytes).unwrap();
    (bytes.total, bytes.available, answer.usage.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_is_as_large_as_it_says_and_grows_while_it_is_used() {
    let Some(mut ground) = Ground::new("growing in use").await else { return };
    for (fs_type, small, large) in [("ext4", 64, 128), ("xfs", 304, 400)] {
        let name = format!("v-{fs_type}");
        let mut request = new_volume(&name, small);
        request.volume_capabilities = vec![mount(fs_type)];
        let id = ground.clients.controller.create_volume(request).await.unwrap();
        let id = id.into_inner().volume.unwrap().volume_id;
        fs::create_dir_all(ground.path("stage").join(&name)).unwrap();
        fs::create_dir_all(ground.path("pods")).unwrap();
        let mut request = ground.stage_request(&id, &name);
        request.volume_capability = Some(mount(fs_type));
        ground.clients.node.node_stage_volume(request).await.unwrap();
        let mut request = ground.publish_request(&id, &name);
        request.volume_capability = Some(mount(fs_type));
        let target = ground.path(&format!("pods/{name}"));
        ground.clients.node.node_publish_volume(request).await.unwrap();

        let (total, available, units) = stats(&mut ground, &id, &target).await;
        let limit = i64::try_from(small * MIB).unwrap();
        assert!(
            total <= limit && total > limit / 2 && available < total,
            "{fs_type}: {total}, the volume and not the host"
        );
        assert_eq!(units, 2, "bytes and inodes");
        let full =
            fs::write(target.join("too-much"), vec![1_u8; usize::try_from((small + 1) * MIB).unwrap()]);
        assert_eq!(full.unwrap_err().kind(), std::io::ErrorKind::StorageFull, "{fs_type}");
        fs::remove_file(target.join("too-much")).unwrap();

        let request = ControllerExpandVolumeRequest {
            volume_id: id.clone(),
            capacity_range: Some(range(large)),
            ..Default::default()
        };
        for _ in 0..2 {
            let grown = ground.clients.controller.controller_expand_volume(request.clone()).await;
            let grown = grown.unwrap().into_inner();
            assert_eq!(
                grown.capacity_bytes,
                i64::try_from(large * MIB).unwrap(),
                "exactly what was asked for"
            );
            if grown.node_expansion_required {
                let request = NodeExpandVolumeRequest {
                    volume_id: id.clone(),
                    volume_path: target.to_str().unwrap().into(),
                    capacity_range: Some(range(large)),
                    ..Default::default()
                };
                let answer = ground.clients.node.node_expand_volume(request).await;
                if fs_type == "ext4" && !may_grow_online() {
                    // The volume has grown; its filesystem follows at the next stage.
                    assert_eq!(answer.unwrap_err().code(), Code::FailedPrecondition);
                    ground.unpublish(&id, &name).await;
                    ground.publish(&id, &name).await;
                } else {
                    assert_eq!(
                        answer.unwrap().into_inner().capacity_bytes,
                        i64::try_from(large * MIB).unwrap()
                    );
                }
            }
        }
        let (after, _, _) = stats(&mut ground, &id, &target).await;
        assert!(after > total, "{fs_type}: {after}");
        ground.unpublish(&id, &name).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raw_volume_is_a_device_of_its_size() {
    let Some(mut ground) = Ground::new("raw volumes").await else { return };
    let mut request = new_volume("raw", 8);
    request.volume_capabilities = vec![block()];
    let id = ground
        .clients
        .controller
        .create_volume(request)
        .await
        .unwrap()
        .into_inner()
        .volume
        .unwrap()
        .volume_id;
    fs::create_dir_all(ground.path("stage/raw")).unwrap();
    fs::create_dir_all(ground.path("pods")).unwrap();
    let mut stage = ground.stage_request(&id, "raw");
    stage.volume_capability = Some(block());
    ground.clients.node.node_stage_volume(stage).await.unwrap();
    let mut publish = ground.publish_request(&id, "raw");
    publish.volume_capability = Some(block());
    let target = std::path::PathBuf::from(&publish.target_path);
    ground.clients.node.node_publish_volume(publish).await.unwrap();
    let mut device = fs::OpenOptions::new().read(true).write(true).open(&target).unwrap();
    assert_eq!(std::io::Seek::seek(&mut device, std::io::SeekFrom::End(0)).unwrap(), 8 * MIB);
    let (total, _, units) = stats(&mut ground, &id, &target).await;
    assert_eq!((total, units), (i64::try_from(8 * MIB).unwrap(), 1));
    drop(device);
    ground.unpublish(&id, "raw").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workloads_go_on_while_the_driver_is_away() {
    let Some(mut ground) = Ground::new("a restarted driver").await else { return };
    let id = ground.volume("db", 64).await.volume_id;
    let target = ground.publish(&id, "db").await;
    ground.stop().await;
    write(&target.join("file"), "written while nobody served");
    assert!(strongroom_proto::connect(&ground.endpoint).await.is_err(), "the socket is gone");
    ground.restart().await;
    // The orchestrator asks for everything again, and everything is there.
    assert_eq!(ground.volume("db", 64).await.volume_id, id);
    assert_eq!(ground.publish(&id, "db").await, target);
    assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "written while nobody served");
    ground.unpublish(&id, "db").await;
}
