//! The ground a test stands on: a driver with a pool in a temporary folder, a client, and a cleaner that leaves neither
//! mounts nor loop devices behind, however the test ends.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strongroom_driver::{DriverSettings, Limits, Points, Socket, Volumes, WatchdogCommand};
use strongroom_model::{Clock, Entropy, World};
use strongroom_proto::Clients;
use strongroom_proto::csi::volume_capability::access_mode::Mode;
use strongroom_proto::csi::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use strongroom_proto::csi::{
    CapacityRange, CreateSnapshotRequest, CreateVolumeRequest, NodePublishVolumeRequest,
    NodeStageVolumeRequest, NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest, Snapshot, Volume,
    VolumeCapability,
};
use tokio::task::JoinHandle;

use crate::kernel;

pub(crate) const MIB: u64 = 1 << 20;

#[derive(Debug)]
struct Now;

impl Clock for Now {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }
}

#[derive(Debug)]
struct Dice;

impl Entropy for Dice {
    fn fill(&self, bytes: &mut [u8]) {
        std::fs::File::open("/dev/urandom").unwrap().read_exact(bytes).unwrap();
    }
}

pub(crate) fn world() -> World {
    World { clock: Arc::new(Now), entropy: Arc::new(Dice) }
}

/// A driver at work.
pub(crate) struct Ground {
    pub(crate) clients: Clients,
    pub(crate) endpoint: String,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
    folder: Folder,
}

/// The folder of a test. Whatever is mounted or attached below it goes away with it.
struct Folder(tempfile::TempDir);

impl Ground {
    /// A driver with a pool of 1 GiB; `None`, said loudly, where that is not possible.
    pub(crate) async fn new(test: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() || !Path::new("/dev/loop-control").exists() {
            println!("SKIPPED: {test} needs root and loop devices");
            return None;
        }
        let folder = Folder(tempfile::tempdir().unwrap());
        let endpoint = format!("unix://{}", folder.0.path().join("run/csi.sock").display());
        let (clients, stop, serving) = Self::start(&folder, &endpoint, false).await;
        Some(Self { clients, endpoint, stop: Some(stop), serving: Some(serving), folder })
    }

    async fn start(
        folder: &Folder,
        endpoint: &str,
        grow_on_node: bool,
    ) -> (Clients, tokio::sync::oneshot::Sender<()>, JoinHandle<()>) {
        let watchdog = WatchdogCommand {
            program: std::env::current_exe().unwrap(),
            arguments: ["--exact", "thaw_watchdog_process", "--nocapture"].map(str::to_owned).into(),
        };
        let settings = DriverSettings {
            pool: folder.0.path().join("pool"),
            pool_bytes: Some(1024 * MIB),
            state_dir: folder.0.path().join("state"),
            node: "node-1".to_owned(),
            mount_roots: vec![folder.0.path().to_owned()],
            limits: Limits::default(),
            watchdog,
            cgroup_root: folder.0.path().join("no-cgroups"),
            boot_id: None,
        };
        std::fs::create_dir_all(&settings.pool).unwrap();
        let socket = Socket::bind(endpoint).await.unwrap().growing_on_node(grow_on_node);
        let opened = Volumes::open(settings, world()).await.unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let serving = tokio::spawn(async move {
            let stop = async {
                let _ = stopped.await;
            };
            socket.serve(opened.volumes, Points::default(), opened.report, stop).await.unwrap();
        });
        (strongroom_proto::connect(endpoint).await.unwrap(), stop, serving)
    }

    /// Stops the driver as SIGTERM does, and waits until it has ended.
    pub(crate) async fn stop(&mut self) {
        if let (Some(stop), Some(serving)) = (self.stop.take(), self.serving.take()) {
            let _ = stop.send(());
            serving.await.unwrap();
        }
    }

    /// Stops the driver and starts another on the same pool and state.
    pub(crate) async fn restart(&mut self) {
        self.restart_growing_on_node(false).await;
    }

    /// The same, and whether the new driver runs with `--grow-on-node`.
    pub(crate) async fn restart_growing_on_node(&mut self, grow_on_node: bool) {
        self.stop().await;
        let (clients, stop, serving) = Self::start(&self.folder, &self.endpoint.clone(), grow_on_node).await;
        self.clients = clients;
        self.stop = Some(stop);
        self.serving = Some(serving);
    }

    /// A path in the folder of the test.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.0.path().join(name)
    }

    /// The same as text.
    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// An ext4 volume of `mib` MiB.
    pub(crate) async fn volume(&mut self, name: &str, mib: u64) -> Volume {
        self.clients
            .controller
            .create_volume(new_volume(name, mib))
            .await
            .unwrap()
            .into_inner()
            .volume
            .unwrap()
    }

    /// Stages and publishes a volume; answers where.
    pub(crate) async fn publish(&mut self, volume: &str, name: &str) -> PathBuf {
        std::fs::create_dir_all(self.path("stage").join(name)).unwrap();
        std::fs::create_dir_all(self.path("pods")).unwrap();
        let request = self.stage_request(volume, name);
        self.clients.node.node_stage_volume(request).await.unwrap();
        let request = self.publish_request(volume, name);
        let target = PathBuf::from(&request.target_path);
        self.clients.node.node_publish_volume(request).await.unwrap();
        target
    }

    pub(crate) fn stage_request(&self, volume: &str, name: &str) -> NodeStageVolumeRequest {
        NodeStageVolumeRequest {
            volume_id: volume.to_owned(),
            staging_target_path: self.text(&format!("stage/{name}")),
            volume_capability: Some(mount("ext4")),
            ..Default::default()
        }
    }

    pub(crate) fn publish_request(&self, volume: &str, name: &str) -> NodePublishVolumeRequest {
        NodePublishVolumeRequest {
            volume_id: volume.to_owned(),
            staging_target_path: self.text(&format!("stage/{name}")),
            target_path: self.text(&format!("pods/{name}")),
            volume_capability: Some(mount("ext4")),
            ..Default::default()
        }
    }

    pub(crate) async fn unpublish(&mut self, volume: &str, name: &str) {
        let target_path = self.text(&format!("pods/{name}"));
        let request = NodeUnpublishVolumeRequest { volume_id: volume.to_owned(), target_path };
        self.clients.node.node_unpublish_volume(request).await.unwrap();
        let staging_target_path = self.text(&format!("stage/{name}"));
        let request = NodeUnstageVolumeRequest { volume_id: volume.to_owned(), staging_target_path };
        self.clients.node.node_unstage_volume(request).await.unwrap();
    }

    pub(crate) async fn snapshot(&mut self, volume: &str, name: &str) -> Snapshot {
        let request = new_snapshot(volume, name);
        self.clients.controller.create_snapshot(request).await.unwrap().into_inner().snapshot.unwrap()
    }
}

pub(crate) fn mount(fs: &str) -> VolumeCapability {
    VolumeCapability {
        access_type: Some(AccessType::Mount(MountVolume { fs_type: fs.into(), ..Default::default() })),
        access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter.into() }),
    }
}

pub(crate) fn block() -> VolumeCapability {
    VolumeCapability { access_type: Some(AccessType::Block(BlockVolume {})), ..mount("") }
}

pub(crate) fn range(required_mib: u64) -> CapacityRange {
    CapacityRange { required_bytes: i64::try_from(required_mib * MIB).unwrap(), limit_bytes: 0 }
}

pub(crate) fn new_volume(name: &str, mib: u64) -> CreateVolumeRequest {
    CreateVolumeRequest {
        name: name.to_owned(),
        capacity_range: Some(range(mib)),
        volume_capabilities: vec![mount("ext4")],
        ..Default::default()
    }
}

pub(crate) fn new_snapshot(volume: &str, name: &str) -> CreateSnapshotRequest {
    CreateSnapshotRequest { source_volume_id: volume.to_owned(), name: name.to_owned(), ..Default::default() }
}

impl Drop for Folder {
    fn drop(&mut self) {
        kernel::take_down(&self.0.path().canonicalize().unwrap_or_else(|_| self.0.path().to_owned()));
    }
}

/// Whether ext4 may grow while it is mounted: the kernel wants CAP_SYS_RESOURCE for it, which containers often lack.
pub(crate) fn may_grow_online() -> bool {
    const CAP_SYS_RESOURCE: u32 = 24;
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
    u64::from_str_radix(effective, 16).unwrap() >> CAP_SYS_RESOURCE & 1 == 1
}
