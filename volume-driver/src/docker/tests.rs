//! The plugin on real loop devices and mounts, asked as Docker asks.

use std::fs;
use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::http::{self, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{Docker, plugin};
use crate::mount_table::MountTable;
use crate::testing::{Scratch, can_mount, settings, volume_request, world};
use crate::{Access, BeginRestore, Points, StageRequest, Volume, VolumeKind, Volumes, loop_device};

/// A driver with its plugin, on a scratch pool.
struct Engine {
    volumes: Volumes,
    report: Vec<String>,
    scratch: Scratch,
}

impl Engine {
    async fn new() -> Option<Self> {
        if !can_mount() {
            return None;
        }
        Some(Self::on(Scratch::new()).await)
    }

    async fn on(scratch: Scratch) -> Self {
        let opened = Volumes::open(settings(&scratch), world()).await.unwrap();
        Self { volumes: opened.volumes, report: opened.report, scratch }
    }

    /// The driver ends and starts again; nothing is unmounted.
    async fn restart(self) -> Self {
        let Self { volumes, scratch, .. } = self;
        drop(volumes);
        Self::on(scratch).await
    }

    async fn raw(&self, method: http::Method, call: &str, body: impl Into<Body>) -> (StatusCode, Value) {
        let docker = Docker::new(self.volumes.clone(), Points::default(), self.scratch.path("docker"));
        let request =
            http::Request::builder().method(method).uri(format!("/{call}")).body(body.into()).unwrap();
        let answer = plugin::router(docker).oneshot(request).await.unwrap();
        let status = answer.status();
        assert_eq!(answer.headers()["content-type"], "application/vnd.docker.plugins.v1.1+json");
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    /// A call that must succeed.
    async fn ask(&self, call: &str, body: Value) -> Value {
        let (status, answer) = self.raw(http::Method::POST, call, body.to_string()).await;
        assert_eq!((status, &answer["Err"]), (StatusCode::OK, &json!("")), "{call} {body}: {answer}");
        answer
    }

    /// A call that must fail; answers why.
    async fn refused(&self, call: &str, body: Value) -> String {
        let (status, answer) = self.raw(http::Method::POST, call, body.to_string()).await;
        assert_ne!(status, StatusCode::OK, "{call} {body}: {answer}");
        let error = answer["Err"].as_str().unwrap().to_owned();
        assert!(!error.is_empty(), "{call} {body}: {answer}");
        error
    }

    async fn create(&self, name: &str) {
        self.ask("VolumeDriver.Create", json!({"Name": name, "Opts": {"size": "64MiB"}})).await;
    }

    async fn mount(&self, name: &str, id: &str) -> PathBuf {
        let answer = self.ask("VolumeDriver.Mount", json!({"Name": name, "ID": id})).await;
        PathBuf::from(answer["Mountpoint"].as_str().unwrap())
    }

    async fn unmount(&self, name: &str, id: &str) {
        self.ask("VolumeDriver.Unmount", json!({"Name": name, "ID": id})).await;
    }

    async fn named(&self, name: &str) -> Volume {
        self.volumes.volume_named(&name.parse().unwrap()).await.unwrap().unwrap()
    }

    async fn names(&self) -> Vec<String> {
        let answer = self.ask("VolumeDriver.List", json!({})).await;
        let volumes = answer["Volumes"].as_array().unwrap();
        volumes.iter().map(|volume| volume["Name"].as_str().unwrap().to_owned()).collect()
    }

    fn loops(&self) -> usize {
        loop_device::below(&self.scratch.path("pool"))
            .iter()
            .filter(|(_, path)| !path.ends_with("pool.img"))
            .count()
    }
}

fn mounted(path: &Path) -> bool {
    MountTable::read().unwrap().at(path).is_some()
}

#[tokio::test]
async fn docker_finds_a_local_volume_driver() {
    let Some(engine) = Engine::new().await else { return };
    let (_, answer) = engine.raw(http::Method::POST, "Plugin.Activate", "").await;
    assert_eq!(answer["Implements"], json!(["VolumeDriver"]));
    let answer = engine.ask("VolumeDriver.Capabilities", Value::Null).await;
    assert_eq!(answer["Capabilities"]["Scope"], "local");
}

#[tokio::test]
async fn containers_share_one_mount_and_the_last_one_takes_it_away() {
    let Some(engine) = Engine::new().await else { return };
    engine.create("db").await;
    assert_eq!(engine.ask("VolumeDriver.Path", json!({"Name": "db"})).await["Mountpoint"], "");
    let first = engine.mount("db", "one").await;
    assert_eq!(fs::read_dir(&first).unwrap().count(), 0, "Docker fills a volume only when it is empty");
    fs::write(first.join("file"), "precious").unwrap();
    assert_eq!(engine.mount("db", "two").await, first);
    assert_eq!(engine.mount("db", "two").await, first, "asked again");
    assert_eq!(engine.ask("VolumeDriver.Path", json!({"Name": "db"})).await["Mountpoint"], json!(first));

    engine.unmount("db", "two").await;
    engine.unmount("db", "two").await;
    engine.unmount("db", "never mounted").await;
    assert!(mounted(&first), "one container is left");
    engine.unmount("db", "one").await;
    assert!(!mounted(&first) && !first.exists());
    assert_eq!(engine.loops(), 0);

    let again = engine.mount("db", "three").await;
    assert_eq!(fs::read_to_string(again.join("file")).unwrap(), "precious");
    engine.unmount("db", "three").await;
    engine.unmount("no such volume", "three").await;
    engine.refused("VolumeDriver.Mount", json!({"Name": "no such volume", "ID": "x"})).await;
}

#[tokio::test]
async fn what_is_in_use_is_not_removed_and_says_by_whom() {
    let Some(engine) = Engine::new().await else { return };
    engine.create("db").await;
    engine.mount("db", "container-7").await;
    let error = engine.refused("VolumeDriver.Remove", json!({"Name": "db"})).await;
    assert!(error.contains("container-7") && error.contains("driver.in-use"), "{error}");
    engine.unmount("db", "container-7").await;
    engine.ask("VolumeDriver.Remove", json!({"Name": "db"})).await;
    engine.ask("VolumeDriver.Remove", json!({"Name": "db"})).await;
    assert!(engine.names().await.is_empty());
}

#[tokio::test]
async fn a_driver_that_starts_again_goes_on_counting() {
    let Some(engine) = Engine::new().await else { return };
    engine.create("db").await;
    let path = engine.mount("db", "one").await;
    engine.mount("db", "two").await;
    // An open file, as of a container that keeps writing.
    let mut file = fs::File::create(path.join("log")).unwrap();
    let engine = engine.restart().await;
    std::io::Write::write_all(&mut file, b"goes on").unwrap();
    file.sync_all().unwrap();
    drop(file);
    assert_eq!(engine.names().await, ["db"]);
    assert_eq!(engine.ask("VolumeDriver.Path", json!({"Name": "db"})).await["Mountpoint"], json!(path));
    engine.unmount("db", "one").await;
    assert!(mounted(&path));
    let engine = engine.restart().await;
    engine.unmount("db", "two").await;
    assert!(!mounted(&path));
    assert_eq!(engine.loops(), 0);
}

#[tokio::test]
async fn a_mount_that_was_lost_is_made_again_for_the_containers_that_run() {
    let Some(engine) = Engine::new().await else { return };
    engine.create("db").await;
    let path = engine.mount("db", "one").await;
    fs::write(path.join("file"), "precious").unwrap();
    rustix::mount::unmount(&path, rustix::mount::UnmountFlags::empty()).unwrap();
    let engine = engine.restart().await;
    assert!(engine.report.iter().any(|line| line.contains("mounted again")), "{:?}", engine.report);
    assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "precious");
    engine.unmount("db", "one").await;
    assert_eq!(engine.loops(), 0);
}

#[tokio::test]
async fn containers_of_an_earlier_run_of_the_machine_count_for_nothing() {
    let Some(engine) = Engine::new().await else { return };
    engine.create("db").await;
    let path = engine.mount("db", "before").await;
    let id = engine.named("db").await.id;
    // The machine goes down: mounts and devices are gone, the registry is as it was.
    let Engine { volumes, scratch, .. } = engine;
    drop(volumes);
    rustix::mount::unmount(&path, rustix::mount::UnmountFlags::empty()).unwrap();
    let (device, _) = loop_device::below(&scratch.path("pool"))
        .into_iter()
        .find(|(_, image)| !image.ends_with("pool.img"))
        .unwrap();
    let ended = std::process::Command::new("losetup").arg("-d").arg(device.path()).status().unwrap();
    assert!(ended.success());
    let registry = scratch.path("state").join("driver.sqlite");
    let registry = rusqlite::Connection::open(registry).unwrap();
    registry.execute("UPDATE docker_references SET boot = 'another'", []).unwrap();
    drop(registry);

    let engine = Engine::on(scratch).await;
    assert!(engine.report.iter().any(|line| line.contains("before the machine")), "{:?}", engine.report);
    // Docker puts away what it still knew of the dead container, and starts it anew, maybe by the same id.
    engine.unmount("db", "before").await;
    assert_eq!(engine.mount("db", "before").await, path);
    assert_eq!(engine.named("db").await.id, id);
    engine.unmount("db", "before").await;
    engine.ask("VolumeDriver.Remove", json!({"Name": "db"})).await;
}

#[tokio::test]
async fn one_manager_of_a_volume_at_a_time() {
    let Some(engine) = Engine::new().await else { return };
    engine.create("db").await;
    let volume = engine.named("db").await.id;
    let stage = StageRequest {
        volume,
        path: engine.scratch.path("staging"),
        access: Access::Mount,
        filesystem: None,
        options: Vec::new(),
    };
    engine.volumes.stage(stage.clone()).await.unwrap();
    let error = engine.refused("VolumeDriver.Mount", json!({"Name": "db", "ID": "one"})).await;
    assert!(error.contains("an orchestrator has staged it at"), "{error}");
    engine.volumes.unstage(volume, &stage.path).await.unwrap();
    engine.mount("db", "one").await;
    let error = engine.volumes.stage(stage).await.unwrap_err();
    assert!(error.to_string().contains("containers of Docker"), "{error}");
    engine.unmount("db", "one").await;
}

#[tokio::test]
async fn a_person_can_take_away_what_docker_has_forgotten() {
    let Some(engine) = Engine::new().await else { return };
    engine.create("db").await;
    let path = engine.mount("db", "forgotten").await;
    let volume = engine.named("db").await.id;
    assert!(engine.volumes.unmount(volume, None).await.unwrap().is_empty(), "only when its folder is named");
    assert_eq!(engine.volumes.unmount(volume, Some(&path)).await.unwrap(), std::slice::from_ref(&path));
    assert!(!mounted(&path));
    engine.ask("VolumeDriver.Remove", json!({"Name": "db"})).await;
}

#[tokio::test]
async fn docker_sees_every_volume_that_its_containers_can_mount_and_no_other() {
    let Some(engine) = Engine::new().await else { return };
    engine.volumes.create(volume_request("by-hand", 64, VolumeKind::Ext4)).await.unwrap();
    engine.volumes.create(volume_request("raw", 64, VolumeKind::Block)).await.unwrap();
    let begin = BeginRestore {
        name: "coming".parse().unwrap(),
        kind: VolumeKind::Ext4,
        size: crate::SizeRange::of(64 << 20),
        labels: [].into(),
        from_snapshot: None,
        point: None,
        only: None,
    };
    engine.volumes.begin_restore(begin).await.unwrap();
    assert_eq!(engine.names().await, ["by-hand"]);
    for (name, reason) in
        [("raw", "raw device"), ("coming", "a restore is still writing"), ("none", "there is no")]
    {
        let error = engine.refused("VolumeDriver.Get", json!({"Name": name})).await;
        assert!(error.contains(reason), "{error}");
        engine.refused("VolumeDriver.Mount", json!({"Name": name, "ID": "x"})).await;
    }
}

#[tokio::test]
async fn a_volume_is_made_as_its_options_say_and_its_status_tells() {
    let Some(engine) = Engine::new().await else { return };
    let opts = json!({"size": "320MiB", "fs": "xfs", "policy": "hourly", "label.app": "shop"});
    engine.ask("VolumeDriver.Create", json!({"Name": "db", "Opts": opts})).await;
    engine.ask("VolumeDriver.Create", json!({"Name": "db", "Opts": opts})).await;
    let error = engine.refused("VolumeDriver.Create", json!({"Name": "db", "Opts": {"fs": "ext4"}})).await;
    assert!(error.contains("exists and is different"), "{error}");
    let path = engine.mount("db", "one").await;
    fs::write(path.join("file"), vec![1_u8; 1 << 20]).unwrap();
    let volume = engine.ask("VolumeDriver.Get", json!({"Name": "db"})).await["Volume"].clone();
    assert_eq!(volume["Mountpoint"], json!(path));
    let status = &volume["Status"];
    assert_eq!(status["SizeBytes"], 320 << 20);
    assert!(status["UsedBytes"].as_u64() >= Some(1 << 20), "{status}");
    assert_eq!(status["Policy"], "hourly");
    assert_eq!(status["Labels"], json!({"app": "shop", "policy": "hourly"}));
    assert_eq!(status["Health"], "healthy");
    assert_eq!(status["Snapshots"], 0);

    // A clone of the volume, and a volume that cannot be.
    engine.ask("VolumeDriver.Create", json!({"Name": "copy", "Opts": {"from-volume": "db"}})).await;
    let copy = engine.mount("copy", "two").await;
    assert_eq!(fs::metadata(copy.join("file")).unwrap().len(), 1 << 20);
    for (opts, reason) in [
        (json!({"sise": "1GiB"}), "\"sise\" is none of"),
        (json!({"fs": "block"}), "raw volume"),
        (json!({"from-volume": "nothing"}), "there is no volume"),
        (json!({"from-snapshot": "../../etc"}), "there is no snapshot"),
        (json!({"from-point": "db@latest"}), "knows no backup agent"),
    ] {
        let error = engine.refused("VolumeDriver.Create", json!({"Name": "new", "Opts": opts})).await;
        assert!(error.contains(reason), "{error}");
    }
    assert_eq!(engine.names().await, ["copy", "db"]);
    engine.unmount("db", "one").await;
    engine.unmount("copy", "two").await;
}

#[tokio::test]
async fn names_and_ids_never_become_paths() {
    let Some(engine) = Engine::new().await else { return };
    let outside = engine.scratch.folder("outside");
    let long = "x".repeat(129);
    let names = [
        "../outside",
        "/etc",
        "a/../../b",
        "..",
        ".",
        "-rf",
        "a\u{202e}b",
        "ü",
        long.as_str(),
        "a\nb",
        "\0",
        "",
    ];
    for name in names {
        let (status, _) = engine
            .raw(http::Method::POST, "VolumeDriver.Create", json!({"Name": name, "Opts": null}).to_string())
            .await;
        if status != StatusCode::OK {
            continue;
        }
        let path = engine.mount(name, name).await;
        let folder = engine.scratch.path("docker/mounts");
        assert_eq!(path.parent(), Some(folder.as_path()), "{name:?}");
        assert!(path.file_name().unwrap().to_str().unwrap().starts_with("vol-"), "{path:?}");
        engine.unmount(name, name).await;
        engine.ask("VolumeDriver.Remove", json!({"Name": name})).await;
    }
    assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
    assert!(engine.names().await.is_empty());
    engine.create("db").await;
    for id in ["", long.as_str()] {
        engine.refused("VolumeDriver.Mount", json!({"Name": "db", "ID": id})).await;
    }
}

#[tokio::test]
async fn what_is_not_the_protocol_is_refused() {
    let Some(engine) = Engine::new().await else { return };
    let error = |answer: Value| answer["Err"].as_str().unwrap().to_owned();
    let (status, answer) = engine.raw(http::Method::GET, "VolumeDriver.List", "").await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(error(answer).contains("[request.protocol]"));
    let (status, answer) = engine.raw(http::Method::POST, "VolumeDriver.Format", "{}").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(error(answer).contains("VolumeDriver.Format"));
    for body in ["[", "[1]", "\"x\"", "{\"Name\": 1}"] {
        let (status, _) = engine.raw(http::Method::POST, "VolumeDriver.Get", body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    }
    let huge = json!({"Name": "x".repeat(100_000)}).to_string();
    let (status, _) = engine.raw(http::Method::POST, "VolumeDriver.Get", huge).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_mount_that_has_stopped_is_not_given_to_the_next_container() {
    let Some(engine) = Engine::new().await else { return };
    let opts = json!({"size": "320MiB", "fs": "xfs"});
    engine.ask("VolumeDriver.Create", json!({"Name": "db", "Opts": opts})).await;
    let path = engine.mount("db", "one").await;
    fs::write(path.join("file"), "precious").unwrap();
    fs::File::open(path.join("file")).unwrap().sync_all().unwrap();
    let stopped =
        std::process::Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(&path).output().unwrap();
    assert!(stopped.status.success(), "{stopped:?}");
    let error = engine.refused("VolumeDriver.Mount", json!({"Name": "db", "ID": "two"})).await;
    assert!(error.contains("driver.filesystem"), "{error}");
    let status = engine.ask("VolumeDriver.Get", json!({"Name": "db"})).await["Volume"]["Status"].clone();
    assert_eq!(status["Health"], "abnormal", "{status}");
    engine.unmount("db", "one").await;
    let path = engine.mount("db", "two").await;
    assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "precious");
    engine.unmount("db", "two").await;
}
