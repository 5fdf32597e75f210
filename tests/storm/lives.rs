//! The life of one volume as an orchestrator leads it: made, staged, published, written, snapshotted, cloned, read back,
//! and taken away again. Every call is asked until it is answered, as an orchestrator does, and some are given up half
//! way first.

use std::fs;
use std::future::Future;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use strongroom_proto::Clients;
use strongroom_proto::csi::volume_capability::access_mode::Mode;
use strongroom_proto::csi::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use strongroom_proto::csi::volume_content_source::{SnapshotSource, Type, VolumeSource};
use strongroom_proto::csi::{
    CapacityRange, CreateSnapshotRequest, CreateVolumeRequest, DeleteSnapshotRequest, DeleteVolumeRequest,
    NodePublishVolumeRequest, NodeStageVolumeRequest, NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest,
    VolumeCapability, VolumeContentSource,
};
use tonic::{Code, Request, Response, Status};

use crate::random::Random;

const MIB: i64 = 1 << 20;

/// An orchestrator gives up after minutes; a call that is not answered by then hangs.
const PATIENCE: Duration = Duration::from_secs(200);

/// What all callers count together.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) answered: AtomicU64,
    pub(crate) given_up: AtomicU64,
    pub(crate) asked_again: AtomicU64,
}

/// One caller.
#[derive(Debug)]
pub(crate) struct Caller<'a> {
    pub(crate) clients: Clients,
    pub(crate) random: Random,
    pub(crate) folder: PathBuf,
    pub(crate) counts: &'a Counts,
}

/// How a volume is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Folder,
    Device,
}

/// Whether a call that failed so may succeed when it is asked again, without anything else being done.
fn passes(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Aborted | Code::Cancelled | Code::DeadlineExceeded | Code::Unknown
    )
}

impl Caller<'_> {
    /// Asks until it is answered. Once in four the first asking is given up after a moment: the call is dropped.
    async fn ask<T: Clone, A, F>(
        &mut self,
        what: &str,
        request: T,
        call: impl Fn(Clients, Request<T>) -> F,
    ) -> A
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let begun = Instant::now();
        let mut cancel = self.random.once_in(4);
        loop {
            let mut asked = Request::new(request.clone());
            let moment = Duration::from_millis(self.random.below(40));
            if self.random.once_in(8) {
                asked.set_timeout(Duration::from_millis(1 + self.random.below(30)));
            }
            let calling = call(self.clients.clone(), asked);
            let answer = if std::mem::take(&mut cancel) {
                let Ok(answer) = tokio::time::timeout(moment, calling).await else {
                    self.counts.given_up.fetch_add(1, Ordering::Relaxed);
                    continue;
                };
                answer
            } else {
                calling.await
            };
            match answer {
                Ok(answer) => {
                    self.counts.answered.fetch_add(1, Ordering::Relaxed);
                    return answer.into_inner();
                }
                Err(status) if passes(&status) && begun.elapsed() < PATIENCE => {
                    self.counts.asked_again.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(10 + self.random.below(60))).await;
                }
                Err(status) => panic!("{what}: {status}"),
            }
        }
    }

    pub(crate) async fn create(&mut self, name: &str, way: Way, source: Option<Type>) -> String {
        let request = CreateVolumeRequest {
            name: name.to_owned(),
            capacity_range: Some(CapacityRange { required_bytes: 32 * MIB, limit_bytes: 0 }),
            volume_capabilities: vec![capability(way)],
            volume_content_source: source.map(|source| VolumeContentSource { r#type: Some(source) }),
            ..Default::default()
        };
        let call =
            |mut clients: Clients, request| async move { clients.controller.create_volume(request).await };
        let answer = self.ask(&format!("creating {name}"), request, call).await;
        answer.volume.expect("a volume was created").volume_id
    }

    pub(crate) async fn stage(&mut self, volume: &str, name: &str, way: Way) {
        fs::create_dir_all(self.folder.join("stage").join(name)).expect("a staging folder");
        fs::create_dir_all(self.folder.join("pods")).expect("a folder for targets");
        let request = NodeStageVolumeRequest {
            volume_id: volume.to_owned(),
            staging_target_path: self.text("stage", name),
            volume_capability: Some(capability(way)),
            ..Default::default()
        };
        let call =
            |mut clients: Clients, request| async move { clients.node.node_stage_volume(request).await };
        self.ask(&format!("staging {name}"), request, call).await;
    }

    pub(crate) async fn publish(&mut self, volume: &str, name: &str, way: Way) -> PathBuf {
        let request = NodePublishVolumeRequest {
            volume_id: volume.to_owned(),
            staging_target_path: self.text("stage", name),
            target_path: self.text("pods", name),
            volume_capability: Some(capability(way)),
            ..Default::default()
        };
        let call =
            |mut clients: Clients, request| async move { clients.node.node_publish_volume(request).await };
        self.ask(&format!("publishing {name}"), request, call).await;
        self.folder.join("pods").join(name)
    }

    pub(crate) async fn unpublish(&mut self, volume: &str, name: &str) {
        let request =
            NodeUnpublishVolumeRequest { volume_id: volume.to_owned(), target_path: self.text("pods", name) };
        let call =
            |mut clients: Clients, request| async move { clients.node.node_unpublish_volume(request).await };
        self.ask(&format!("unpublishing {name}"), request, call).await;
    }

    pub(crate) async fn unstage(&mut self, volume: &str, name: &str) {
        let request = NodeUnstageVolumeRequest {
            volume_id: volume.to_owned(),
            staging_target_path: self.text("stage", name),
        };
        let call =
            |mut clients: Clients, request| async move { clients.node.node_unstage_volume(request).await };
        self.ask(&format!("unstaging {name}"), request, call).await;
    }

    pub(crate) async fn delete(&mut self, volume: &str) {
        let request = DeleteVolumeRequest { volume_id: volume.to_owned(), ..Default::default() };
        let call =
            |mut clients: Clients, request| async move { clients.controller.delete_volume(request).await };
        self.ask(&format!("deleting {volume}"), request, call).await;
    }

    async fn snapshot(&mut self, volume: &str, name: &str) -> String {
        let request = CreateSnapshotRequest {
            source_volume_id: volume.to_owned(),
            name: name.to_owned(),
            ..Default::default()
        };
        let call =
            |mut clients: Clients, request| async move { clients.controller.create_snapshot(request).await };
        let answer = self.ask(&format!("the snapshot {name}"), request, call).await;
        answer.snapshot.expect("a snapshot was taken").snapshot_id
    }

    pub(crate) async fn delete_snapshot(&mut self, snapshot: &str) {
        let request = DeleteSnapshotRequest { snapshot_id: snapshot.to_owned(), ..Default::default() };
        let call =
            |mut clients: Clients, request| async move { clients.controller.delete_snapshot(request).await };
        self.ask(&format!("deleting {snapshot}"), request, call).await;
    }

    fn text(&self, folder: &str, name: &str) -> String {
        self.folder.join(folder).join(name).to_str().expect("the paths of tests are plain text").to_owned()
    }

    /// One life. Once in eight it is left at a step of chance, for whoever cleans up at the end.
    pub(crate) async fn live(&mut self, number: u64) {
        let way = if self.random.once_in(4) { Way::Device } else { Way::Folder };
        let leave = if self.random.once_in(8) { self.random.below(10) } else { u64::MAX };
        let (name, clone) = (format!("storm-{number}"), format!("clone-{number}"));
        let mut content = vec![0; 64 << 10];
        self.random.fill(&mut content);

        let volume = self.create(&name, way, None).await;
        if leave == 0 {
            return;
        }
        self.stage(&volume, &name, way).await;
        if leave == 1 {
            return;
        }
        let target = self.publish(&volume, &name, way).await;
        if leave == 2 {
            return;
        }
        write(&target, way, &content);
        let snapshot = self.snapshot(&volume, &format!("snap-{number}")).await;
        if leave == 3 {
            return;
        }
        let from_volume = self.random.once_in(3);
        let source = if from_volume {
            Type::Volume(VolumeSource { volume_id: volume.clone() })
        } else {
            write(&target, way, &vec![0xdb; content.len()]);
            Type::Snapshot(SnapshotSource { snapshot_id: snapshot.clone() })
        };
        let copy = self.create(&clone, way, Some(source)).await;
        if leave == 4 {
            return;
        }
        // Of the three none depends on another: any may go first.
        if self.random.once_in(2) {
            self.delete_snapshot(&snapshot).await;
        }
        self.stage(&copy, &clone, way).await;
        let copied = self.publish(&copy, &clone, way).await;
        if leave == 5 {
            return;
        }
        assert!(read(&copied, way, content.len()) == content, "{clone} does not hold what {name} held");
        self.unpublish(&volume, &name).await;
        if leave == 6 {
            return;
        }
        self.unstage(&volume, &name).await;
        self.delete(&volume).await;
        if leave == 7 {
            return;
        }
        assert!(read(&copied, way, content.len()) == content, "{clone} lost its content with {name}");
        self.unpublish(&copy, &clone).await;
        if leave == 8 {
            return;
        }
        self.unstage(&copy, &clone).await;
        self.delete(&copy).await;
        if leave == 9 {
            return;
        }
        self.delete_snapshot(&snapshot).await;
    }
}

pub(crate) fn capability(way: Way) -> VolumeCapability {
    VolumeCapability {
        access_type: Some(match way {
            Way::Folder => AccessType::Mount(MountVolume { fs_type: "ext4".into(), ..Default::default() }),
            Way::Device => AccessType::Block(BlockVolume {}),
        }),
        access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter.into() }),
    }
}

/// Writes and makes durable, as a workload would.
fn write(target: &Path, way: Way, content: &[u8]) {
    match way {
        Way::Folder => {
            let mut file = fs::File::create(target.join("file")).expect("the volume can be written");
            file.write_all(content).expect("the volume takes what is written");
            file.sync_all().expect("the volume keeps what is written");
        }
        Way::Device => {
            let device = fs::OpenOptions::new().write(true).open(target).expect("the device can be opened");
            device.write_all_at(content, 8192).expect("the device takes what is written");
            device.sync_all().expect("the device keeps what is written");
        }
    }
}

fn read(target: &Path, way: Way, bytes: usize) -> Vec<u8> {
    match way {
        Way::Folder => fs::read(target.join("file")).expect("the clone can be read"),
        Way::Device => {
            let mut content = vec![0; bytes];
            let device = fs::File::open(target).expect("the device can be opened");
            device.read_exact_at(&mut content, 8192).expect("the device can be read");
            content
        }
    }
}
