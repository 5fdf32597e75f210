//! Backup and restore through the objects of an orchestrator alone: snapshots of type backup, and volumes that begin with a recovery
//! point, on another node that has nothing but the repository in common with the first.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use strongroom_proto::csi::volume_capability::{
    AccessMode, AccessType, BlockVolume, MountVolume, access_mode,
};
use strongroom_proto::csi::volume_content_source::{SnapshotSource, Type};
use strongroom_proto::csi::{
    CapacityRange, CreateSnapshotRequest, CreateVolumeRequest, CreateVolumeResponse, DeleteSnapshotRequest,
    DeleteVolumeRequest, GetSnapshotRequest, ListSnapshotsRequest, NodePublishVolumeRequest,
    NodeStageVolumeRequest, NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest, Snapshot, Volume,
    VolumeCapability, VolumeContentSource,
};
use strongroom_proto::{Clients, connect};
use tonic::{Code, Status};

use crate::call::Running;
use crate::content::{change_blocks, checksums, write_files, write_image};
use crate::ground::{Ground, text};
use crate::kernel::{is_root, sh};

const MIB: i64 = 1 << 20;

/// A machine of a cluster: a driver and an agent with folders of their own.
struct Node<'a> {
    ground: &'a Ground,
    name: &'static str,
    runtime: tokio::runtime::Runtime,
    driver: Option<Running>,
    agent: Option<Running>,
    /// Where the repository has a second copy.
    copy: Option<String>,
}

impl<'a> Node<'a> {
    fn new(ground: &'a Ground, name: &'static str) -> Self {
        fs::create_dir_all(ground.path(name)).expect("a folder can be made");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { ground, name, runtime, driver: None, agent: None, copy: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.ground.path(self.name).join(name)
    }

    fn endpoint(&self) -> String {
        format!("unix://{}", self.path("csi.sock").display())
    }

    /// Starts the driver. Without an agent's endpoint it knows no recovery points.
    fn start_driver(&mut self, knows_agent: bool) {
        let (pool, state, root) = (self.path("pool"), self.path("state"), self.path("mounts"));
        fs::create_dir_all(&root).expect("a folder can be made");
        let mut call = self.ground.call([
            "driver",
            "--pool",
            text(&pool),
            "--pool-size",
            "4GiB",
            "--node-id",
            self.name,
            "--endpoint",
            &self.endpoint(),
            "--state-dir",
            text(&state),
            "--mount-root",
            text(&root),
        ]);
        if knows_agent {
            call = call.env("STRONGROOM_AGENT_ENDPOINT", self.path("agent.sock"));
        }
        self.driver = Some(call.start());
        let begun = Instant::now();
        while self.ground.call(["volume", "list", "--endpoint", &self.endpoint()]).run().code != Some(0) {
            let driver = self.driver.as_mut().expect("it was set above");
            assert!(!driver.ended() && begun.elapsed() < Duration::from_secs(60), "{}", driver.stderr());
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn kill_driver(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.kill();
        }
    }

    /// Starts the agent: it backs up nothing by itself.
    fn start_agent(&mut self) {
        let config = self.path("strongroom.toml");
        let copy = self
            .copy
            .as_ref()
            .map(|url| format!("[[repository.copies]]\nname = \"offsite\"\nurl = \"{url}\"\n"));
        let words = format!(
            "[repository]\nurl = \"{}\"\nkey_file = \"{}\"\n{}[driver]\nendpoint = \"{}\"\n[agent]\nstate_dir = \"{}\"\nsocket = \"{}\"\n\
             [[policy]]\nname = \"none\"\nvolumes = [\"no-such-volume\"]\nschedule = \"@yearly\"\n",
            self.ground.repository(),
            self.ground.key().display(),
            copy.unwrap_or_default(),
            self.endpoint(),
            self.path("agent-state").display(),
            self.path("agent.sock").display(),
        );
        fs::write(&config, words).expect("the configuration can be written");
        self.agent = Some(self.ground.call(["agent", "--config", text(&config)]).start());
    }

    fn kill_agent(&mut self) {
        if let Some(agent) = self.agent.take() {
            agent.kill();
        }
    }

    fn clients(&self) -> Clients {
        self.runtime.block_on(connect(&self.endpoint())).expect("the driver answers")
    }

    fn create(&self, request: CreateVolumeRequest) -> Result<Volume, Status> {
        let mut clients = self.clients();
        let answer = self.runtime.block_on(clients.controller.create_volume(request))?;
        Ok(volume_of(answer.into_inner()))
    }

    /// Asks again for as long as the answer is "not yet": the way of every provisioner.
    #[track_caller]
    fn provision(&self, request: &CreateVolumeRequest) -> Volume {
        let begun = Instant::now();
        loop {
            match self.create(request.clone()) {
                Ok(volume) => return volume,
                Err(status) if matches!(status.code(), Code::Aborted | Code::Unavailable) => {
                    assert!(begun.elapsed() < Duration::from_secs(120), "{status}");
                    thread::sleep(Duration::from_millis(100));
                }
                Err(status) => panic!("{status}"),
            }
        }
    }

    fn snap(&self, name: &str, volume: &str, kind: &str) -> Result<Snapshot, Status> {
        let request = CreateSnapshotRequest {
            name: name.into(),
            source_volume_id: volume.into(),
            parameters: [("type".to_owned(), kind.to_owned())].into(),
            ..Default::default()
        };
        let mut clients = self.clients();
        let answer = self.runtime.block_on(clients.controller.create_snapshot(request))?;
        Ok(answer.into_inner().snapshot.expect("an answer has a snapshot"))
    }

    /// Asks for a snapshot of type backup until it is ready, as the snapshotter does.
    #[track_caller]
    fn backed_up(&self, name: &str, volume: &str) -> Snapshot {
        let begun = Instant::now();
        loop {
            match self.snap(name, volume, "backup") {
                Ok(snapshot) if snapshot.ready_to_use => return snapshot,
                Err(status) if !matches!(status.code(), Code::Unavailable | Code::Aborted) => {
                    panic!("{status}")
                }
                _ => assert!(begun.elapsed() < Duration::from_secs(120), "it never becomes ready"),
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn get(&self, id: &str) -> Result<Snapshot, Status> {
        let request = GetSnapshotRequest { snapshot_id: id.into(), ..Default::default() };
        let answer = self.runtime.block_on(self.clients().controller.get_snapshot(request))?;
        Ok(answer.into_inner().snapshot.expect("an answer has a snapshot"))
    }

    fn delete_snapshot(&self, id: &str) -> Result<(), Status> {
        let request = DeleteSnapshotRequest { snapshot_id: id.into(), ..Default::default() };
        self.runtime.block_on(self.clients().controller.delete_snapshot(request)).map(drop)
    }

    fn delete_volume(&self, id: &str) -> Result<(), Status> {
        let request = DeleteVolumeRequest { volume_id: id.into(), ..Default::default() };
        self.runtime.block_on(self.clients().controller.delete_volume(request)).map(drop)
    }

    /// All snapshots, page by page.
    fn list(&self, page: i32, volume: &str) -> Result<Vec<String>, Status> {
        let (mut clients, mut token, mut found) = (self.clients(), String::new(), Vec::new());
        loop {
            let request = ListSnapshotsRequest {
                max_entries: page,
                starting_token: token,
                source_volume_id: volume.into(),
                ..Default::default()
            };
            let answer = self.runtime.block_on(clients.controller.list_snapshots(request))?.into_inner();
            assert!(page == 0 || answer.entries.len() <= usize::try_from(page).expect("it is small"));
            found.extend(answer.entries.into_iter().filter_map(|entry| Some(entry.snapshot?.snapshot_id)));
            token = answer.next_token;
            if token.is_empty() {
                return Ok(found);
            }
        }
    }

    /// Stages and publishes a volume; answers where it is to be seen.
    #[track_caller]
    fn publish(&self, volume: &str, capability: &VolumeCapability) -> PathBuf {
        let (staging, target) = self.places(volume);
        fs::create_dir_all(&staging).expect("a folder can be made");
        let stage = NodeStageVolumeRequest {
            volume_id: volume.into(),
            staging_target_path: text(&staging).into(),
            volume_capability: Some(capability.clone()),
            ..Default::default()
        };
        let publish = NodePublishVolumeRequest {
            volume_id: volume.into(),
            staging_target_path: text(&staging).into(),
            target_path: text(&target).into(),
            volume_capability: Some(capability.clone()),
            ..Default::default()
        };
        let mut clients = self.clients();
        self.runtime.block_on(clients.node.node_stage_volume(stage)).expect("it can be staged");
        self.runtime.block_on(clients.node.node_publish_volume(publish)).expect("it can be published");
        target
    }

    #[track_caller]
    fn unpublish(&self, volume: &str) {
        let (staging, target) = self.places(volume);
        let mut clients = self.clients();
        let unpublish =
            NodeUnpublishVolumeRequest { volume_id: volume.into(), target_path: text(&target).into() };
        let unstage =
            NodeUnstageVolumeRequest { volume_id: volume.into(), staging_target_path: text(&staging).into() };
        self.runtime.block_on(clients.node.node_unpublish_volume(unpublish)).expect("it can be unpublished");
        self.runtime.block_on(clients.node.node_unstage_volume(unstage)).expect("it can be unstaged");
    }

    fn places(&self, volume: &str) -> (PathBuf, PathBuf) {
        (self.path("mounts").join(format!("{volume}-staged")), self.path("mounts").join(volume))
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        for running in [self.agent.take(), self.driver.take()].into_iter().flatten() {
            let said = running.kill();
            if thread::panicking() {
                eprintln!("--- {} said\n{}", said.words, said.stderr);
            }
        }
    }
}

fn volume_of(answer: CreateVolumeResponse) -> Volume {
    answer.volume.expect("an answer has a volume")
}

fn capability(access: AccessType) -> VolumeCapability {
    let mode = AccessMode { mode: access_mode::Mode::SingleNodeWriter.into() };
    VolumeCapability { access_mode: Some(mode), access_type: Some(access) }
}

fn mounted(fs: &str) -> VolumeCapability {
    capability(AccessType::Mount(MountVolume { fs_type: fs.into(), ..Default::default() }))
}

fn wish(name: &str, mib: i64, capability: &VolumeCapability) -> CreateVolumeRequest {
    CreateVolumeRequest {
        name: name.into(),
        capacity_range: (mib > 0).then_some(CapacityRange { required_bytes: mib * MIB, limit_bytes: 0 }),
        volume_capabilities: vec![capability.clone()],
        ..Default::default()
    }
}

fn from(id: &str) -> Option<VolumeContentSource> {
    Some(VolumeContentSource { r#type: Some(Type::Snapshot(SnapshotSource { snapshot_id: id.into() })) })
}

fn hash_of(path: &Path, bytes: u64) -> String {
    sh("sh", &["-c", &format!("head -c {bytes} '{}' | sha256sum", text(path))])
}

#[test]
fn snapshots_of_type_backup_come_back_as_volumes_of_another_node() {
    if !is_root("snapshots_of_type_backup_come_back_as_volumes_of_another_node") {
        return;
    }
    let ground = Ground::new();
    ground.init();
    let mut one = Node::new(&ground, "node-1");
    one.start_driver(true);
    one.start_agent();
    let (xfs, block) = (mounted("xfs"), capability(AccessType::Block(BlockVolume {})));
    let db = one.provision(&wish("db", 320, &xfs)).volume_id;
    let raw = one.provision(&wish("raw", 24, &block)).volume_id;
    let seen = one.publish(&db, &xfs);
    write_files(&seen, 12, 700_000, 1);
    let device = one.publish(&raw, &block);
    let image = ground.path("raw.img");
    write_image(&image, 24 << 20, 6 << 20, 3);
    sh(
        "dd",
        &[
            &format!("if={}", text(&image)),
            &format!("of={}", text(&device)),
            "bs=1M",
            "conv=fsync",
            "status=none",
        ],
    );

    // The answer comes at once, and the id with it; what is written afterwards does not belong to it.
    let then = checksums(&seen);
    let first = one.snap("first", &db, "backup").expect("the cut is taken");
    assert!(first.snapshot_id.starts_with("point:rp-") && first.source_volume_id == db, "{first:?}");
    change_blocks(&seen.join("folder-0/file-0"), 10, 2);
    let again = one.backed_up("first", &db);
    assert_eq!(
        (again.snapshot_id.as_str(), again.creation_time),
        (first.snapshot_id.as_str(), first.creation_time)
    );
    assert_eq!(one.snap("first", &raw, "backup").unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(one.snap("first", &db, "snapshot").unwrap_err().code(), Code::AlreadyExists);

    // kill -9 of the agent and of the driver in the middle of others.
    let of_raw = one.snap("of-raw", &raw, "backup").expect("the cut is taken");
    one.kill_agent();
    one.kill_driver();
    one.start_driver(true);
    // The agent is away: it waits, and says why.
    assert!(!one.get_with_patience(&of_raw.snapshot_id).ready_to_use);
    one.start_agent();
    assert_eq!(one.backed_up("of-raw", &raw).snapshot_id, of_raw.snapshot_id);
    let now = checksums(&seen);
    let second = one.backed_up("second", &db);
    assert!(one.get(&second.snapshot_id).expect("it is there").ready_to_use);

    // Both kinds in one list, whatever the pages; only the base of the agent's next run is left of the cuts.
    let local = one.snap("local", &db, "snapshot").expect("a snapshot").snapshot_id;
    let all = one.list(0, "").expect("a list");
    assert_eq!(one.list(1, "").expect("a list"), all);
    assert_eq!(one.list(2, "").expect("a list"), all);
    for id in [&first.snapshot_id, &second.snapshot_id, &of_raw.snapshot_id, &local] {
        assert_eq!(all.iter().filter(|one| *one == id).count(), 1, "{id} in {all:?}");
    }
    let points_of_raw: Vec<_> =
        one.list(0, &raw).expect("a list").into_iter().filter(|id| id.starts_with("point:")).collect();
    assert_eq!(points_of_raw, std::slice::from_ref(&of_raw.snapshot_id));
    let mine = ground
        .call(["snapshot", "list", "--output", "json", "--endpoint", &one.endpoint()])
        .run()
        .ok()
        .json();
    let owners: Vec<_> =
        mine["snapshots"].as_array().expect("a list").iter().map(|one| one["owner"].to_string()).collect();
    assert_eq!(owners.iter().filter(|owner| *owner == "\"backup\"").count(), 0, "{mine}");

    // The first node is no more.
    one.unpublish(&db);
    one.unpublish(&raw);
    drop(one);

    // Another node. Asked before its agent runs, it says so, and nothing is lost.
    let mut two = Node::new(&ground, "node-2");
    two.start_driver(true);
    let plain = CreateVolumeRequest {
        volume_content_source: from(&first.snapshot_id),
        ..wish("plain", 0, &mounted(""))
    };
    assert_eq!(two.create(plain.clone()).unwrap_err().code(), Code::Unavailable);
    assert_eq!(two.list(0, "").unwrap_err().code(), Code::Unavailable, "half a list is none");
    two.start_agent();
    let restored = two.provision(&plain);
    assert_eq!(restored.content_source, from(&first.snapshot_id));
    assert_eq!(restored.capacity_bytes, 320 * MIB);
    let seen = two.publish(&restored.volume_id, &xfs);
    assert_eq!(checksums(&seen), then, "the volume is as it was at the cut");
    two.unpublish(&restored.volume_id);

    // Larger, chosen by words; both killed in the middle.
    let parameters: HashMap<String, String> = [("from-point".to_owned(), "db@latest".to_owned())].into();
    let larger = CreateVolumeRequest { parameters, ..wish("larger", 480, &xfs) };
    let early = two.create_within(larger.clone(), Duration::from_millis(300));
    two.kill_agent();
    two.kill_driver();
    two.start_driver(true);
    two.start_agent();
    let larger = two.provision(&larger);
    println!("the first call was answered {early:?}");
    assert_eq!((larger.content_source.clone(), larger.capacity_bytes), (None, 480 * MIB));
    let seen = two.publish(&larger.volume_id, &xfs);
    assert_eq!(checksums(&seen), now);
    let room = rustix::fs::statvfs(&seen).expect("it is mounted");
    assert!(room.f_blocks * room.f_frsize > 400 << 20, "its filesystem has grown");
    two.unpublish(&larger.volume_id);

    // A raw one.
    let raw = two.provision(&CreateVolumeRequest {
        volume_content_source: from(&of_raw.snapshot_id),
        ..wish("raw", 32, &block)
    });
    let device = two.publish(&raw.volume_id, &block);
    assert_eq!(hash_of(&device, 24 << 20), hash_of(&image, 24 << 20));
    two.unpublish(&raw.volume_id);

    // What cannot be.
    let refused = |request: CreateVolumeRequest| two.create(request).unwrap_err().code();
    let none = format!("point:rp-{}", "0".repeat(32));
    let source =
        |id: &str, wish: CreateVolumeRequest| CreateVolumeRequest { volume_content_source: from(id), ..wish };
    assert_eq!(refused(source(&none, wish("x", 0, &xfs))), Code::NotFound);
    assert_eq!(refused(source("point:../../etc", wish("x", 0, &xfs))), Code::NotFound);
    assert_eq!(refused(source(&of_raw.snapshot_id, wish("x", 0, &xfs))), Code::InvalidArgument);
    assert_eq!(refused(source(&first.snapshot_id, wish("x", 0, &mounted("ext4")))), Code::InvalidArgument);
    let small = CapacityRange { required_bytes: 0, limit_bytes: 310 * MIB };
    let small = CreateVolumeRequest { capacity_range: Some(small), ..wish("x", 0, &xfs) };
    assert_eq!(refused(source(&first.snapshot_id, small)), Code::OutOfRange);
    assert_eq!(refused(source(&second.snapshot_id, wish("plain", 0, &mounted("")))), Code::AlreadyExists);
    assert_eq!(refused(wish("plain", 0, &mounted(""))), Code::AlreadyExists);
    let words = |words: &str| CreateVolumeRequest {
        parameters: [("from-point".to_owned(), words.to_owned())].into(),
        ..wish("x", 0, &xfs)
    };
    assert_eq!(refused(words("nobody@latest")), Code::NotFound);
    assert_eq!(refused(words("db@2001-01-01T00:00:00Z")), Code::NotFound);
    assert_eq!(refused(words("db@soon")), Code::InvalidArgument);
    let list =
        ground.call(["volume", "list", "--output", "json", "--endpoint", &two.endpoint()]).run().ok().json();
    assert_eq!(list["volumes"].as_array().map(Vec::len), Some(3), "what was refused left nothing: {list}");

    // By hand, the same way.
    ground
        .call(["volume", "create", "by-hand", "--from-point", "raw@latest", "--endpoint", &two.endpoint()])
        .run()
        .ok();

    // Points go when their snapshots are deleted, on any node; what somebody holds does not.
    let held = first.snapshot_id.trim_start_matches("point:").to_owned();
    ground.run(["points", "hold", &held, "--name", "audit"]).ok();
    assert_eq!(two.delete_snapshot(&first.snapshot_id).unwrap_err().code(), Code::FailedPrecondition);
    two.delete_snapshot(&second.snapshot_id).expect("it goes");
    two.delete_snapshot(&second.snapshot_id).expect("it is gone, which is as good");
    two.delete_snapshot(&none).expect("it never was");
    assert_eq!(two.get(&second.snapshot_id).unwrap_err().code(), Code::NotFound);
    assert_eq!(ground.points("db"), [held]);
    for volume in [&restored.volume_id, &larger.volume_id, &raw.volume_id] {
        two.delete_volume(volume).expect("it is not in use");
    }
    ground.run(["repository", "check", "--read-data"]).ok();
}

#[test]
fn a_backup_or_a_restore_that_nobody_wants_any_more_leaves_nothing() {
    if !is_root("a_backup_or_a_restore_that_nobody_wants_any_more_leaves_nothing") {
        return;
    }
    let ground = Ground::new();
    ground.init();
    let mut node = Node::new(&ground, "node-1");
    node.start_driver(false);
    let block = capability(AccessType::Block(BlockVolume {}));
    let raw = node.provision(&wish("raw", 96, &block)).volume_id;
    let device = node.publish(&raw, &block);
    sh(
        "dd",
        &[
            "if=/dev/urandom",
            &format!("of={}", text(&device)),
            "bs=1M",
            "count=96",
            "conv=fsync",
            "status=none",
        ],
    );

    // Without an agent there are no recovery points, and the answer says what to do.
    let refused = node.snap("s", &raw, "backup").unwrap_err();
    assert!(
        refused.code() == Code::FailedPrecondition && refused.message().contains("--agent-endpoint"),
        "{refused}"
    );
    node.kill_driver();
    node.start_driver(true);

    // The agent is away: the cut is kept, and is not ready; deleting it needs the agent, since the point may be there already.
    let cut = node.snap("s", &raw, "backup").expect("the cut is taken").snapshot_id;
    assert!(!node.get(&cut).expect("it is known").ready_to_use);
    assert_eq!(node.delete_snapshot(&cut).unwrap_err().code(), Code::Unavailable);
    node.start_agent();
    let begun = Instant::now();
    while node.delete_snapshot(&cut).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it cannot be deleted");
        thread::sleep(Duration::from_millis(100));
    }
    assert!(ground.points("raw").is_empty(), "nobody wants it");
    let left = ground
        .call(["snapshot", "list", "--output", "json", "--endpoint", &node.endpoint()])
        .run()
        .ok()
        .json();
    assert_eq!(left["snapshots"].as_array().map(Vec::len), Some(0), "{left}");

    // A restore that is given up in its middle.
    let point = node.backed_up("kept", &raw).snapshot_id;
    let request = CreateVolumeRequest { volume_content_source: from(&point), ..wish("new", 0, &block) };
    let early = node.create_within(request, Duration::from_millis(200));
    let list =
        ground.call(["volume", "list", "--output", "json", "--endpoint", &node.endpoint()]).run().ok().json();
    let new = list["volumes"].as_array().expect("a list").iter().find(|one| one["name"] == "new").cloned();
    println!("the first call was answered {early:?}, and there is {new:?}");
    if let Some(new) = new {
        let begun = Instant::now();
        while let Err(status) = node.delete_volume(new["id"].as_str().expect("an id")) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{status}");
            thread::sleep(Duration::from_millis(100));
        }
    }
    let list =
        ground.call(["volume", "list", "--output", "json", "--endpoint", &node.endpoint()]).run().ok().json();
    assert_eq!(list["volumes"].as_array().map(Vec::len), Some(1), "{list}");
    node.unpublish(&raw);
}

impl Node<'_> {
    /// Gives up waiting for the answer, as a provisioner with a short deadline does.
    fn create_within(&self, request: CreateVolumeRequest, deadline: Duration) -> Result<(), Code> {
        let mut request = tonic::Request::new(request);
        request.set_timeout(deadline);
        let mut clients = self.clients();
        let answer = self.runtime.block_on(clients.controller.create_volume(request));
        answer.map(drop).map_err(|status| status.code())
    }

    /// A snapshot that is known here, even while the agent is away.
    #[track_caller]
    fn get_with_patience(&self, id: &str) -> Snapshot {
        self.get(id).unwrap_or_else(|status| panic!("{status}"))
    }
}

#[test]
fn a_volume_is_filled_from_a_copy_where_the_repository_is_damaged_or_gone() {
    if !is_root("a_volume_is_filled_from_a_copy_where_the_repository_is_damaged_or_gone") {
        return;
    }
    let ground = Ground::new();
    ground.init();
    let image = ground.path("disk.img");
    write_image(&image, 24 << 20, 6 << 20, 5);
    ground.back_up_image("disk", &image).ok();
    let copy = format!("file://{}", ground.path("second").display());
    ground.run(["repository", "copy", "--to", &copy]).ok();
    let mut node = Node::new(&ground, "node-1");
    node.copy = Some(copy);
    node.start_driver(true);
    node.start_agent();
    let point = format!("point:{}", ground.points("disk")[0]);
    let block = capability(AccessType::Block(BlockVolume {}));
    let wanted = hash_of(&image, 24 << 20);
    let filled = |name: &str| {
        let request = CreateVolumeRequest { volume_content_source: from(&point), ..wish(name, 0, &block) };
        let volume = node.provision(&request).volume_id;
        let device = node.publish(&volume, &block);
        assert_eq!(hash_of(&device, 24 << 20), wanted, "{name}");
        node.unpublish(&volume);
        node.delete_volume(&volume).expect("it can be deleted");
    };
    let repository = ground.path("repository");
    for folder in ["packs", "maps"] {
        fs::remove_dir_all(repository.join(folder)).expect("the packs can be removed");
    }
    filled("from-packs-of-the-copy");
    fs::rename(&repository, ground.path("away")).expect("the repository can be moved");
    filled("from-the-copy-alone");
}
