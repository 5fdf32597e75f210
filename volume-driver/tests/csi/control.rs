//! The control service: volumes by hand, restores into new volumes and in place.

use std::fs;
use std::os::unix::fs::FileExt as _;

use strongroom_proto::control::{
    BeginRestoreRequest, CreateSnapshotRequest, CreateVolumeRequest, DiscardRestoreRequest,
    ExchangeContentRequest, Filesystem, FinishRestoreRequest, GetDriverRequest, GetVolumeRequest,
    ListSnapshotsRequest, ListVolumesRequest, MountRequest, UnmountRequest, VolumeRef, VolumeState,
    volume_ref,
};
use tonic::Code;

use crate::ground::{Ground, MIB};

fn named(name: &str) -> Option<VolumeRef> {
    Some(VolumeRef { by: Some(volume_ref::By::Name(name.into())) })
}

fn new(name: &str, fs: Filesystem, mib: u64) -> CreateVolumeRequest {
    CreateVolumeRequest {
        name: name.into(),
        fs: fs.into(),
        bytes: mib * MIB,
        labels: [("team".to_owned(), "a".to_owned())].into(),
        source: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_uses_a_volume_without_an_orchestrator() {
    let Some(ground) = Ground::new("volumes by hand").await else { return };
    let driver = &mut ground.clients.driver.clone();
    let made = driver.create_volume(new("db", Filesystem::Ext4, 64)).await.unwrap().into_inner();
    assert!(!made.existed);
    assert!(driver.create_volume(new("db", Filesystem::Ext4, 64)).await.unwrap().into_inner().existed);
    fs::create_dir(ground.path("mnt")).unwrap();
    let path = ground.text("mnt");
    let mount = MountRequest { volume: named("db"), path: path.clone(), mount_flags: vec![] };
    assert!(driver.mount(mount.clone()).await.unwrap().into_inner().device.starts_with("/dev/loop"));
    driver.mount(mount).await.expect("the same again changes nothing");
    fs::write(ground.path("mnt/file"), "by hand").unwrap();
    let shown = driver.get_volume(GetVolumeRequest { volume: named("db") }).await.unwrap();
    let shown = shown.into_inner().volume.unwrap();
    assert_eq!((shown.state(), shown.mounts.len(), shown.extents.is_some()), (VolumeState::Ready, 1, true));
    assert_eq!(shown.labels["team"], "a");

    let request = CreateSnapshotRequest {
        volume: named("db"),
        label: "before".into(),
        owner: "agent".into(),
        labels: [("run".to_owned(), "1".to_owned())].into(),
    };
    let snapshot = driver.create_snapshot(request.clone()).await.unwrap().into_inner();
    assert!(!snapshot.existed && snapshot.snapshot.as_ref().unwrap().quiesced);
    let again = driver.create_snapshot(request).await.unwrap().into_inner();
    assert!(again.existed && again.snapshot == snapshot.snapshot);
    let by = |owner: &str| ListSnapshotsRequest { volume: named("db"), owner: owner.into() };
    assert_eq!(driver.list_snapshots(by("agent")).await.unwrap().into_inner().snapshots.len(), 1);
    assert_eq!(driver.list_snapshots(by("user")).await.unwrap().into_inner().snapshots.len(), 0);

    let wanted = |value: &str| ListVolumesRequest { labels: [("team".to_owned(), value.to_owned())].into() };
    assert_eq!(driver.list_volumes(wanted("a")).await.unwrap().into_inner().volumes.len(), 1);
    assert_eq!(driver.list_volumes(wanted("b")).await.unwrap().into_inner().volumes.len(), 0);
    let all = driver.get_driver(GetDriverRequest {}).await.unwrap().into_inner();
    assert_eq!((all.node_id.as_str(), all.volumes, all.snapshots), ("node-1", 1, 1));
    assert!(all.pool_bytes > 500 * MIB && all.pool_used_bytes < all.pool_bytes);

    let unmount = UnmountRequest { volume: named("db"), path: String::new() };
    assert_eq!(driver.unmount(unmount.clone()).await.unwrap().into_inner().paths, [path]);
    assert!(driver.unmount(unmount).await.unwrap().into_inner().paths.is_empty());
    let nobody = driver.get_volume(GetVolumeRequest { volume: named("nobody") }).await.unwrap_err();
    assert_eq!(nobody.code(), Code::NotFound);
    let request = CreateSnapshotRequest {
        volume: named("db"),
        label: "x".into(),
        owner: "csi".into(),
        ..Default::default()
    };
    assert_eq!(driver.create_snapshot(request).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_fills_a_new_volume_and_then_takes_the_place_of_an_old_one() {
    let Some(ground) = Ground::new("restores").await else { return };
    let driver = &mut ground.clients.driver.clone();
    driver.create_volume(new("raw", Filesystem::Block, 8)).await.unwrap();
    let begin = BeginRestoreRequest {
        name: "raw-restored".into(),
        fs: Filesystem::Block.into(),
        bytes: 8 * MIB,
        ..Default::default()
    };
    let begun = driver.begin_restore(begin.clone()).await.unwrap().into_inner();
    assert!(!begun.resumed);
    assert!(driver.begin_restore(begin).await.unwrap().into_inner().resumed);
    let device = fs::OpenOptions::new().write(true).open(&begun.path).unwrap();
    device.write_all_at(&[9; 4096], 4096).unwrap();
    device.sync_all().unwrap();
    drop(device);
    let get = |name: &str| GetVolumeRequest { volume: named(name) };
    let state = driver.get_volume(get("raw-restored")).await.unwrap().into_inner().volume.unwrap().state();
    assert_eq!(state, VolumeState::Hydrating);

    let exchange = ExchangeContentRequest {
        volume: named("raw"),
        staged_volume_id: begun.volume_id.clone(),
        safety_label: "before restore".into(),
        safety_labels: [("run".to_owned(), "run-1".to_owned())].into(),
        remount: false,
        run: "run-1".into(),
    };
    let exchanged = driver.exchange_content(exchange.clone()).await.unwrap().into_inner();
    let safety = exchanged.safety.unwrap();
    assert_eq!((safety.label.as_str(), safety.owner.as_str()), ("before restore", "restore"));
    let again = driver.exchange_content(exchange).await.unwrap().into_inner();
    assert_eq!(again.safety.unwrap().id, safety.id, "the same run gets the same answer");
    assert_eq!(driver.get_volume(get("raw-restored")).await.unwrap_err().code(), Code::NotFound);

    let request = CreateSnapshotRequest {
        volume: named("raw"),
        label: "now".into(),
        owner: "user".into(),
        ..Default::default()
    };
    let now = driver.create_snapshot(request).await.unwrap().into_inner().snapshot.unwrap();
    for (snapshot, expected) in [(now.id, 9), (safety.id, 0)] {
        let request = strongroom_proto::control::OpenSnapshotRequest { snapshot_id: snapshot };
        let opened = driver.open_snapshot(request).await.unwrap().into_inner();
        let mut bytes = [1; 4096];
        fs::File::open(opened.path).unwrap().read_exact_at(&mut bytes, 4096).unwrap();
        assert!(bytes.iter().all(|byte| *byte == expected));
    }

    let begin = BeginRestoreRequest {
        name: "given-up".into(),
        fs: Filesystem::Block.into(),
        bytes: MIB,
        ..Default::default()
    };
    let begun = driver.begin_restore(begin).await.unwrap().into_inner();
    for _ in 0..2 {
        driver.discard_restore(DiscardRestoreRequest { volume_id: begun.volume_id.clone() }).await.unwrap();
    }
    let begin = BeginRestoreRequest {
        name: "kept".into(),
        fs: Filesystem::Block.into(),
        bytes: MIB,
        ..Default::default()
    };
    let begun = driver.begin_restore(begin).await.unwrap().into_inner();
    let finish = FinishRestoreRequest { volume_id: begun.volume_id };
    let kept = driver.finish_restore(finish).await.unwrap().into_inner().volume.unwrap();
    assert_eq!((kept.name.as_str(), kept.state()), ("kept", VolumeState::Ready));
}
