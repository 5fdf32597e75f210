//! A real Docker engine with real containers on our volumes, through every restart that there is.

mod engine;
mod island;

use std::thread;
use std::time::{Duration, Instant};

use engine::{Engine, PLUGIN};
use island::on_an_island;

use crate::ground::{Ground, text};
use crate::kernel;

/// What these tests need of the machine.
const PROGRAMS: [&str; 6] = ["dockerd", "docker", "docker-init", "busybox", "unshare", "setpriv"];

struct Machine {
    engine: Engine,
    ground: Ground,
}

impl Machine {
    /// A driver that serves Docker, and an engine.
    fn new() -> Self {
        island::own_folders();
        let mut ground = Ground::new();
        ground.init();
        start_driver(&mut ground);
        let engine = Engine::start(&ground);
        Self { engine, ground }
    }

    fn restart_driver(&mut self) {
        self.ground.kill_driver();
        start_driver(&mut self.ground);
    }

    /// Everything in good order, and nothing is left.
    fn end(self) {
        let Self { mut engine, mut ground } = self;
        engine.stop_daemon();
        drop(engine);
        ground.stop_driver();
        ground.assert_nothing_leaks();
    }
}

fn start_driver(ground: &mut Ground) {
    let agent = ground.path("agent.sock");
    ground.start_driver_with("2GiB", &["--docker-socket", PLUGIN, "--agent-endpoint", text(&agent)]);
}

/// Waits until `done`, or ends the test.
#[track_caller]
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waiting for {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Counts up in a file, from where it was, for as long as it lives. What cannot be written is counted in another.
const COUNT: &str = "trap 'exit 0' TERM; n=$(cat /data/count 2>/dev/null || echo 0); while :; do n=$((n+1)); \
    { echo $n >/data/count.new && sync && mv /data/count.new /data/count; } || echo $n >>/data/broken; sleep 0.05; done";

/// How far the counting has come, seen from outside the container.
fn count(machine: &Machine) -> u64 {
    let mounts = machine.ground.run(["volume", "show", "db"]).ok().json()["volume"]["mounts"].clone();
    let path = mounts[0]["path"].as_str().unwrap_or_default();
    let text = std::fs::read_to_string(format!("{path}/count")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

#[track_caller]
fn wait_for_more(machine: &Machine) {
    let before = count(machine);
    wait_until("the container to go on writing", || count(machine) > before + 2);
}

/// When a container was started; another time is another life.
fn started(engine: &Engine) -> String {
    engine.docker(&["inspect", "-f", "{{.State.StartedAt}} {{.State.Running}}", "writer"])
}

fn every_restart() {
    let mut machine = Machine::new();
    let engine = &machine.engine;
    let options = ["-o", "size=64MiB", "-o", "policy=hourly", "-o", "label.app=shop"];
    engine.docker(&[&["volume", "create", "-d", "strongroom"], &options[..], &["db"]].concat());
    let error = engine.refused(&["volume", "create", "-d", "strongroom", "-o", "sise=1GiB", "typo"]);
    assert!(error.contains("\"sise\" is none of"), "{error}");
    let sum = "md5sum /data/precious";
    let written = engine.shell(
        "db",
        &format!("dd if=/dev/urandom of=/data/precious bs=1M count=20 2>/dev/null; sync; {sum}"),
    );
    assert_eq!(engine.shell("db", sum), written);

    // The size is the size.
    let full =
        engine.shell("db", "dd if=/dev/zero of=/data/large bs=1M count=80 2>&1; rm /data/large; ls /data");
    assert!(full.contains("No space left on device"), "{full}");
    assert!(full.ends_with("precious"), "nothing else lies in the volume: {full}");
    let volume = engine.volume("db");
    assert_eq!(volume["Status"]["SizeBytes"], 64 << 20, "{volume}");
    assert_eq!(
        (&volume["Status"]["Health"], &volume["Status"]["Policy"]),
        (&"healthy".into(), &"hourly".into())
    );
    assert_eq!(volume["Mountpoint"], "", "nobody uses it: {volume}");

    // Two containers have it. It cannot be removed, neither through Docker nor past it.
    engine.start_container("writer", "db", &["--restart", "always"], COUNT);
    engine.start_container(
        "reader",
        "db",
        &[],
        "trap 'exit 0' TERM; while :; do cat /data/count; sleep 0.1; done",
    );
    wait_for_more(&machine);
    machine.engine.refused(&["volume", "rm", "db"]);
    machine.ground.call(["volume", "delete", "db"]).run().refused(5, "driver.in-use");

    // The driver dies, and comes back. The container notices nothing, and the volume can still be mounted.
    let life = started(&machine.engine);
    machine.ground.kill_driver();
    let mountpoint = machine.ground.path("driver-state/docker/mounts");
    let mountpoint =
        std::fs::read_dir(mountpoint).expect("it is there").flatten().next().expect("the volume").path();
    let counted = || std::fs::read_to_string(mountpoint.join("count")).unwrap_or_default();
    let before = counted();
    wait_until("the container to write without a driver", || counted() != before);
    start_driver(&mut machine.ground);
    wait_for_more(&machine);
    assert_eq!(started(&machine.engine), life);
    machine.engine.docker(&["rm", "-f", "reader"]);
    assert_eq!(machine.engine.shell("db", sum), written);
    wait_for_more(&machine);

    // Docker is restarted: its containers are stopped, and it starts anew what shall always run.
    machine.engine.stop_daemon();
    assert_eq!(count(&machine), 0, "no container, no mount");
    machine.engine.run_daemon(&["--live-restore"]);
    wait_until("the container to be started again", || count(&machine) > 0);
    wait_for_more(&machine);

    // Both are restarted, Docker in the way that lets containers live on.
    let life = started(&machine.engine);
    machine.engine.stop_daemon();
    machine.restart_driver();
    wait_for_more(&machine);
    machine.engine.run_daemon(&["--live-restore"]);
    wait_for_more(&machine);
    assert_eq!(started(&machine.engine), life, "it was the same container all the time");
    assert_eq!(machine.engine.shell("db", sum), written);

    // Docker is killed, without a chance to put anything in order; then the driver too.
    machine.engine.kill_daemon();
    machine.restart_driver();
    machine.engine.run_daemon(&[]);
    assert_eq!(
        machine.engine.shell("db", &format!("cat /data/broken; {sum}")).trim(),
        written,
        "all was written"
    );
    machine.engine.docker(&["rm", "-f", "writer"]);
    assert_eq!(
        machine.engine.volume("db")["Mountpoint"],
        "",
        "no container is left, and nothing is counted for one"
    );
    machine.engine.docker(&["volume", "rm", "db"]);
    machine.ground.call(["volume", "show", "db"]).run().refused(1, "driver.not-found");
    machine.end();
}

#[test]
fn a_container_keeps_its_volume_through_every_restart() {
    on_an_island("a_container_keeps_its_volume_through_every_restart", &PROGRAMS, every_restart);
}

/// A machine that is itself a container may lack the right to grow ext4 while it is mounted; nobody can pass on what they lack.
fn only_rights_that_we_have(config: &std::path::Path) {
    const SYS_RESOURCE: u32 = 24;
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let bounding =
        status.lines().find_map(|line| line.strip_prefix("CapBnd:")).expect("the kernel says it").trim();
    if u64::from_str_radix(bounding, 16).expect("it is hexadecimal") >> SYS_RESOURCE & 1 == 1 {
        return;
    }
    println!("without CAP_SYS_RESOURCE, which this machine lacks");
    let text = std::fs::read_to_string(config).expect("it was just made");
    let less = text.replace(r#", "CAP_SYS_RESOURCE""#, "");
    assert_ne!(text, less, "{text}");
    std::fs::write(config, less).expect("it can be written");
}

/// The plugin as `deploy/swarm/build` makes it, run by the engine itself with the rights that its configuration asks for.
fn managed_plugin() {
    island::own_folders();
    let ground = Ground::new();
    let engine = Engine::start(&ground);
    let plugin = ground.path("plugin");
    let build = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/swarm/build");
    kernel::sh(build, &[text(&crate::call::binary()), text(&plugin)]);
    only_rights_that_we_have(&plugin.join("config.json"));
    for folder in ["own/agent", "own/state"] {
        std::fs::create_dir_all(ground.path(folder)).expect("the ground can be written to");
    }
    engine.docker(&["plugin", "create", "strongroom", text(&plugin)]);
    let source = |name: &str, folder: &str| format!("{name}.source={}", ground.path(folder).display());
    let settings = [source("strongroom", "own/state"), source("agent", "own/agent")];
    let more = ["STRONGROOM_NODE_ID=swarm-node", "STRONGROOM_POOL_SIZE=1GiB"];
    let words =
        ["plugin", "set", "strongroom"].into_iter().chain(settings.iter().map(String::as_str)).chain(more);
    engine.docker(&words.collect::<Vec<_>>());
    engine.docker(&["plugin", "enable", "strongroom"]);

    // Its socket is where the engine has it; the command line reaches it there.
    let id = engine.docker(&["plugin", "inspect", "-f", "{{.Id}}", "strongroom"]);
    let socket = std::path::PathBuf::from(format!("/run/docker/plugins/{id}/strongroom.sock"));
    let call = |words: &[&str]| ground.run(words.iter().chain(&["--endpoint", text(&socket)]));
    wait_until("the plugin to serve", || call(&["volume", "list"]).code == Some(0));
    call(&["volume", "create", "web", "--size", "64MiB"]).ok();
    // What is mounted where Swarm publishes is seen on the machine: `propagatedMount` of the configuration.
    let published = ground.path(&format!("docker/data/plugins/{id}/propagated-mount"));
    std::fs::create_dir(published.join("3k9x")).expect("the plugin's folder can be written to");
    call(&["volume", "mount", "web", "/data/published/3k9x"]).ok();
    std::fs::write(published.join("3k9x/file"), "precious").expect("a mounted volume can be written to");
    // A write that the volume itself bounds.
    std::fs::write(published.join("3k9x/large"), vec![1_u8; 80_000_000]).expect_err("it has 64 MiB");

    call(&["volume", "unmount", "web"]).ok();
    assert!(!published.join("3k9x/file").exists(), "the mount went, on the machine too");
    call(&["volume", "delete", "web"]).ok();
    engine.docker(&["plugin", "disable", "strongroom"]);
    engine.docker(&["plugin", "rm", "strongroom"]);
}

#[test]
fn the_engine_runs_the_plugin_for_swarm_with_the_rights_it_asks_for() {
    on_an_island(
        "the_engine_runs_the_plugin_for_swarm_with_the_rights_it_asks_for",
        &PROGRAMS,
        managed_plugin,
    );
}
fn recovery_point() {
    let machine = Machine::new();
    let engine = &machine.engine;
    engine.docker(&["volume", "create", "-d", "strongroom", "-o", "size=64MiB", "db"]);
    let sum = "md5sum /data/precious";
    let written = engine.shell(
        "db",
        &format!("dd if=/dev/urandom of=/data/precious bs=1M count=10 2>/dev/null; sync; {sum}"),
    );
    // While a container has it mounted.
    engine.start_container("writer", "db", &[], COUNT);
    wait_for_more(&machine);
    machine.ground.back_up_volume("db");
    let point = machine.ground.points("db").remove(0);
    let engine = &machine.engine;
    engine.shell("db", "rm /data/precious; sync");

    let config = machine.ground.config("");
    let agent = machine.ground.call(["agent", "--config", text(&config)]).start();
    wait_until("the agent to serve", || machine.ground.path("agent.sock").exists());
    let option = format!("from-point={point}");
    engine.docker(&["volume", "create", "-d", "strongroom", "-o", &option, "back"]);
    assert_eq!(engine.shell("back", sum), written, "the content of the point");
    engine.refused(&["run", "--rm", "-v", "db:/data", "--network", "none", "box", "cat", "/data/precious"]);
    let status = engine.volume("db")["Status"].clone();
    assert_eq!(status["LastBackupPoint"], point.as_str(), "{status}");
    let error =
        engine.refused(&["volume", "create", "-d", "strongroom", "-o", "from-point=nothing@latest", "none"]);
    assert!(error.contains("nothing"), "{error}");
    agent.terminate().ok();

    engine.docker(&["rm", "-f", "writer"]);
    engine.docker(&["volume", "rm", "db", "back"]);
    machine.end();
}

#[test]
fn docker_brings_back_a_recovery_point() {
    on_an_island("docker_brings_back_a_recovery_point", &PROGRAMS, recovery_point);
}
