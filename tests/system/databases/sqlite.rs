//! SQLite in a volume: the agent follows its log through kills, notices what it could not see, and any commit comes back.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::{listed, unmount, wait_until};
use crate::ground::{Ground, text};
use crate::kernel::is_root;

/// In a process of its own, which is gone afterwards.
fn sql(database: &Path, statement: &str) -> String {
    let mut line = Command::new("sqlite3");
    let done = line.arg(database).arg(".timeout 5000").arg(statement).stdin(Stdio::null()).output();
    let done = done.expect("sqlite3 can be started");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

/// Somebody who has it open: whoever closes it last removes the log file.
struct Application(Child);

impl Application {
    fn start(database: &Path) -> Self {
        let mut line = Command::new("sqlite3");
        let mut child =
            line.arg(database).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("sqlite3");
        let stdin = child.stdin.as_mut().expect("it is piped");
        stdin.write_all(b"SELECT count(*) FROM ledger;\n").expect("it reads");
        Self(child)
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Commits of one row each, numbered on.
fn write(database: &Path, count: usize) {
    let one = "INSERT INTO ledger (filler) VALUES (randomblob(3000));";
    sql(database, &one.repeat(count));
}

fn windows(ground: &Ground) -> usize {
    listed(ground)["windows"].as_array().map_or(0, Vec::len)
}

/// Until the newest commit that can be restored is this one's.
fn wait_for_commits(ground: &Ground, rows: &str) {
    wait_until("the log", || {
        let plan = ground.run(["db", "restore", "db", "--latest", "--plan"]);
        plan.code == Some(0) && plan.json()["last_kept"]["transaction"] == rows
    });
}

/// The rows of the ledger in a volume that was restored to something.
fn restored(ground: &Ground, target: &[&str], volume: &str, ask: &str) -> String {
    let more = ["--to-volume", volume, "--yes"];
    let done = ground.run(["db", "restore", "db"].iter().chain(target).chain(&more).copied()).ok().json();
    let mount = ground.path(&format!("mnt-{volume}"));
    fs::create_dir_all(&mount).expect("a mount point can be made");
    ground.run(["volume", "mount", volume, text(&mount)]).ok();
    let file = done["data_directory"].as_str().expect("where it is").trim_start_matches('/').to_owned();
    let answer = sql(&mount.join(file), ask);
    unmount(ground, volume);
    ground.run(["volume", "delete", volume, "--yes"]).ok();
    answer
}

#[test]
fn a_sqlite_database_comes_back_at_any_commit_and_what_went_unseen_is_a_gap_with_a_new_base() {
    let test = "a_sqlite_database_comes_back_at_any_commit_and_what_went_unseen_is_a_gap_with_a_new_base";
    if !is_root(test) {
        return;
    }
    let mut ground = Ground::new();
    ground.init();
    ground.start_driver("3GiB");
    let mount = ground.mounted_volume("db", "256MiB");
    fs::create_dir(mount.join("data")).expect("a folder");
    let database = mount.join("data/shop.db");
    sql(&database, "PRAGMA journal_mode=WAL; CREATE TABLE ledger (id INTEGER PRIMARY KEY, filler BLOB);");
    let application = Application::start(&database);
    let config = ground.config(
        "[[database]]\nname = \"shop\"\nvolume = \"db\"\nengine = \"sqlite\"\npath = \"data/shop.db\"\n",
    );
    let line = ["agent", "--config", text(&config)];
    let agent = ground.call(line).start();
    // There is a window as soon as something was written behind the base.
    wait_until("a base", || {
        let log = listed(&ground);
        log["engine"] == "sqlite" && log["problems"].as_array().is_some_and(Vec::is_empty)
    });
    // From here on every commit is one of the log, counted from 1.
    write(&database, 100);
    wait_until("a window", || windows(&ground) == 1);
    sql(&database, "DROP TABLE ledger");
    // Commits have the time at which they were read: twenty times a second.
    thread::sleep(Duration::from_millis(300));
    sql(&database, "CREATE TABLE regrets (id INTEGER)");
    wait_for_commits(&ground, "102");
    let timeline = ground.run(["db", "timeline", "db", "--around", "now"]).ok().json();
    let is_drop = |event: &&Value| {
        event["changes"]["statements"].as_array().is_some_and(|kinds| kinds.contains(&Value::from("drop")))
    };
    let dropping = timeline["events"].as_array().and_then(|events| events.iter().find(is_drop).cloned());
    let dropping = dropping.unwrap_or_else(|| panic!("no drop in {timeline}"));
    assert_eq!(dropping["transaction"], Value::from("101"), "{timeline}");
    let rows = "SELECT count(*) || '|' || max(id) FROM ledger";
    assert_eq!(restored(&ground, &["--transaction", "101"], "before-drop", rows), "100|100");
    assert_eq!(restored(&ground, &["--transaction", "37", "--after"], "some", rows), "37|37");
    let at = dropping["at"].as_str().expect("a time").to_owned();
    let tables = "SELECT group_concat(name) FROM sqlite_schema";
    assert!(!restored(&ground, &["--at", &at], "second", tables).contains("ledger"));

    // Killed, it goes on where it was: what was only appended meanwhile is not lost.
    agent.kill();
    sql(&database, "CREATE TABLE ledger (id INTEGER PRIMARY KEY, filler BLOB)");
    write(&database, 20);
    let agent = ground.call(line).start();
    wait_for_commits(&ground, "123");
    assert_eq!(windows(&ground), 1, "{}", listed(&ground));
    agent.kill();

    // Nobody looks, and the log file is begun anew.
    write(&database, 10);
    sql(&database, "PRAGMA wal_checkpoint(TRUNCATE)");
    write(&database, 10);
    let agent = ground.call(line).start();
    wait_until("the second window", || windows(&ground) == 2);
    write(&database, 5);
    let log = listed(&ground);
    assert!(log["windows"][1]["gap_before"].is_object(), "{log}");
    let until = |windows: &Value| windows["windows"][1]["latest"]["position"].as_str().map(str::to_owned);
    let begun = until(&log);
    wait_until("the log behind the gap", || until(&listed(&ground)) > begun);
    assert_eq!(restored(&ground, &["--latest"], "newest", rows), "45|45");
    assert_eq!(restored(&ground, &["--transaction", "110", "--after"], "older", rows), "7|7");

    drop(application);
    // The volume's own mount goes although the agent follows, and the agent's goes by itself.
    unmount(&ground, "db");
    let answer = agent.terminate();
    assert_eq!(answer.code, Some(0), "{answer}");
    assert!(answer.stderr.contains("GAP"), "{answer}");
    ground.stop_driver();
    ground.assert_nothing_leaks();
}
