//! The agent as a service: what is due is backed up without anybody asking, and it stops in good order.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::content::write_files;
use crate::ground::{Ground, text};
use crate::kernel::is_root;

/// Waits until `done`, or ends the test.
#[track_caller]
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(120), "waiting for {what}");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn the_agent_backs_up_what_is_due_also_after_it_was_killed_and_stops_in_good_order() {
    if !is_root("the_agent_backs_up_what_is_due_also_after_it_was_killed_and_stops_in_good_order") {
        return;
    }
    let mut ground = Ground::new();
    ground.init();
    ground.start_driver("2GiB");
    let mount = ground.mounted_volume("db", "256MiB");
    write_files(&mount, 8, 1_000_000, 1);
    let config = ground.config("");
    // Every minute, and never more than two points.
    let often = fs::read_to_string(&config).expect("it was written");
    let often = often.replace("15 * * * *", "* * * * *").replace("last = 30", "last = 2");
    fs::write(&config, often).expect("it can be written");
    let socket = ground.path("agent.sock");
    let line = ["agent", "--config", text(&config)];

    // A volume without a point is due at once.
    let agent = ground.call(line).start();
    wait_until("the first point", || !ground.points("db").is_empty());
    assert!(socket.exists(), "the agent answers at its socket");
    let second = ground.call(line).run();
    second.refused(1, "agent.running");
    agent.kill();

    // What the killed agent left behind (its socket, perhaps a snapshot and a session) hinders nobody.
    let agent = ground.call(line).start();
    let first = ground.points("db");
    wait_until("the next point", || ground.points("db").last() != first.last());
    let answer = agent.terminate();
    assert_eq!(answer.code, Some(0), "{answer}");
    assert!(!socket.exists(), "the socket goes with the agent");

    assert!(ground.points("db").len() <= 2, "retention was applied");
    let snapshots = ground.run(["snapshot", "list", "db"]).ok().json()["snapshots"].clone();
    assert_eq!(
        snapshots.as_array().map(Vec::len),
        Some(1),
        "only the base of the next run is left: {snapshots}"
    );
    ground.run(["status", "--config", text(&config)]).ok();
    ground.run(["repository", "check", "--read-data"]).ok();
    ground.run(["volume", "unmount", "db"]).ok();
    ground.stop_driver();
    ground.assert_nothing_leaks();
}
