//! SQLite in a volume: the agent follows its log through kills, notices what it could not see, and any commit comes back; copies
//! are proved, looked into, moved forward, searched, dumped, kept and promoted.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::{listed, unmount, wait_until};
use crate::call::Running;
use crate::ground::{Ground, text};
use crate::kernel::is_root;

const ROWS: &str = "SELECT count(*) || '|' || max(id) FROM ledger";

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

/// Mounts the live volume where it was.
fn mount_again(ground: &Ground) {
    ground.run(["volume", "mount", "db", text(&ground.path("mnt-db"))]).ok();
}

/// What a database in a volume answers, which goes then.
fn ask_volume(ground: &Ground, volume: &str, file: &Value, ask: &str) -> String {
    let mount = ground.path(&format!("mnt-{volume}"));
    fs::create_dir_all(&mount).expect("a mount point can be made");
    ground.run(["volume", "mount", volume, text(&mount)]).ok();
    let file = file.as_str().expect("where it is").trim_start_matches('/').to_owned();
    let answer = sql(&mount.join(file), ask);
    unmount(ground, volume);
    ground.run(["volume", "delete", volume]).ok();
    answer
}

/// The rows of the ledger in a volume that was restored to something.
fn restored(ground: &Ground, target: &[&str], volume: &str, ask: &str) -> String {
    let more = ["--to-volume", volume, "--yes"];
    let done = ground.run(["db", "restore", "db"].iter().chain(target).chain(&more).copied()).ok().json();
    ask_volume(ground, volume, &done["data_directory"], ask)
}

/// A database that an application has open and an agent follows: `then` goes on once it can be restored.
fn followed(test: &str, more: &str, then: impl FnOnce(&mut Ground, &Path, &Path, Application, Running)) {
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
    let work = ground.path("work");
    fs::create_dir(&work).expect("a folder");
    let config = ground.config(
        &format!("[[database]]\nname = \"shop\"\nvolume = \"db\"\nengine = \"sqlite\"\npath = \"data/shop.db\"\n{more}")
            .replace("WORK", text(&work)),
    );
    let agent = ground.call(["agent", "--config", text(&config)]).start();
    // Nothing is written to it: the base alone is a window, as soon as it is there. Each commit from here on is one of the log,
    // counted from 1.
    wait_until("a window without a commit", || windows(&ground) == 1);
    assert_eq!(listed(&ground)["problems"], Value::Array(Vec::new()));
    then(&mut ground, &database, &config, application, agent);
    // The volume's own mount goes although the agent followed in it.
    unmount(&ground, "db");
    ground.stop_driver();
    ground.assert_nothing_leaks();
}

#[test]
fn a_sqlite_database_comes_back_at_any_commit_and_what_went_unseen_is_a_gap_with_a_new_base() {
    let test = "a_sqlite_database_comes_back_at_any_commit_and_what_went_unseen_is_a_gap_with_a_new_base";
    followed(test, "", |ground, database, config, application, agent| {
        let line = ["agent", "--config", text(config)];
        // A writer with checkpoints of its own, too.
        write(database, 60);
        sql(database, "PRAGMA wal_checkpoint(PASSIVE)");
        write(database, 40);
        sql(database, "DROP TABLE ledger");
        // Commits have the time at which they were read: twenty times a second.
        thread::sleep(Duration::from_millis(300));
        sql(database, "CREATE TABLE regrets (id INTEGER)");
        wait_for_commits(ground, "102");
        let timeline = ground.run(["db", "timeline", "db", "--around", "now"]).ok().json();
        let is_drop = |event: &&Value| {
            event["changes"]["statements"]
                .as_array()
                .is_some_and(|kinds| kinds.contains(&Value::from("drop")))
        };
        let dropping = timeline["events"].as_array().and_then(|events| events.iter().find(is_drop).cloned());
        let dropping = dropping.unwrap_or_else(|| panic!("no drop in {timeline}"));
        assert_eq!(dropping["transaction"], Value::from("101"), "{timeline}");
        assert_eq!(restored(ground, &["--transaction", "101"], "before-drop", ROWS), "100|100");
        assert_eq!(restored(ground, &["--transaction", "37", "--after"], "some", ROWS), "37|37");
        let at = dropping["at"].as_str().expect("a time").to_owned();
        let tables = "SELECT group_concat(name) FROM sqlite_schema";
        assert!(!restored(ground, &["--at", &at], "second", tables).contains("ledger"));

        // Killed, it goes on where it was: what was only appended meanwhile is not lost.
        agent.kill();
        sql(database, "CREATE TABLE ledger (id INTEGER PRIMARY KEY, filler BLOB)");
        write(database, 20);
        let agent = ground.call(line).start();
        wait_for_commits(ground, "123");
        assert_eq!(windows(ground), 1, "{}", listed(ground));
        agent.kill();

        // Nobody looks, and the log file is begun anew.
        write(database, 10);
        sql(database, "PRAGMA wal_checkpoint(TRUNCATE)");
        let unseen = Timestamp::now().to_string();
        write(database, 10);
        let agent = ground.call(line).start();
        // A new base at once, and nothing has to be written for it.
        wait_until("the second window", || windows(ground) == 2);
        let log = listed(ground);
        assert!(log["windows"][1]["gap_before"].is_object(), "{log}");
        let first = log["windows"][1]["earliest"]["position"].as_str().expect("a position").to_owned();
        assert_eq!(restored(ground, &["--position", &first], "behind", ROWS), "40|40");
        ground.run(["db", "restore", "db", "--at", &unseen, "--plan"]).refused(1, "database.in-gap");
        write(database, 5);
        wait_for_commits(ground, "128");
        assert_eq!(restored(ground, &["--latest"], "newest", ROWS), "45|45");
        assert_eq!(restored(ground, &["--transaction", "126", "--after"], "newer", ROWS), "43|43");
        assert_eq!(restored(ground, &["--transaction", "123", "--after"], "last", ROWS), "20|20");
        assert_eq!(restored(ground, &["--transaction", "110", "--after"], "older", ROWS), "7|7");

        drop(application);
        let answer = agent.terminate();
        assert_eq!(answer.code, Some(0), "{answer}");
        assert!(answer.stderr.contains("GAP"), "{answer}");
    });
}

#[test]
fn a_sqlite_copy_is_proved_looked_into_moved_forward_searched_dumped_and_kept() {
    let test = "a_sqlite_copy_is_proved_looked_into_moved_forward_searched_dumped_and_kept";
    let proving =
        "[database.test]\nwork_dir = \"WORK\"\nsql = [\"select count(*) >= 0 from sqlite_schema\"]\n";
    followed(test, proving, |ground, database, config, application, agent| {
        // The agent proves its base by itself.
        wait_until("a proof", || listed(ground)["last_proven_restore"].is_object());
        let checks = listed(ground)["last_proven_restore"]["checks"].to_string();
        assert!(checks.contains("integrity_check") && checks.contains("it holds"), "{checks}");

        write(database, 30);
        sql(database, "DELETE FROM ledger WHERE id > 10");
        sql(database, "DROP TABLE ledger");
        wait_for_commits(ground, "32");
        let config = text(config);
        let prove = |more: &[&str]| ground.run([&["db", "test", "db", "--config", config], more].concat());
        let proof =
            prove(&["--latest", "--sql", "select not exists (select 1 from sqlite_schema)"]).ok().json();
        let checks = proof["checks"].to_string();
        assert!(checks.contains("transaction 32 of") && checks.contains("pages read back"), "{checks}");
        let wrong = prove(&["--latest", "--sql", "select count(*) from sqlite_schema where name = 'ledger'"]);
        assert_eq!(wrong.code, Some(1), "{wrong}");
        assert_eq!(wrong.json()["failure"]["code"], Value::from("database.test-assertion"), "{wrong}");
        prove(&[]).ok();

        let look = |more: &[&str]| ground.run([&["db", "restore", "db"], more].concat());
        let behind = |transaction: &str| {
            let plan = look(&["--transaction", transaction, "--after", "--plan"]).ok().json();
            plan["cut"].as_str().expect("a position").to_owned()
        };
        let (thirtieth, deleted) = (behind("30"), behind("31"));
        let seen =
            ["--transaction", "7", "--after", "--sql", ROWS, "--advance", &thirtieth, "--advance", &deleted];
        let seen = look(&seen).ok().json();
        let answers: Vec<_> =
            seen["seen"].as_array().expect("answers").iter().map(|seen| seen["answer"].clone()).collect();
        assert_eq!(answers, ["7|7", "30|30", "10|10"], "{seen}");
        look(&["--latest", "--sql", ROWS]).refused(1, "database.question");
        look(&["--latest", "--sql", "CREATE TABLE t (a)"]).refused(1, "database.question");

        // A table that is not there does not hold either.
        let found = look(&["--bisect", "select count(*) >= 0 from ledger"]).ok().json();
        assert_eq!(found["first_not"]["transaction"], Value::from("32"), "{found}");
        assert_eq!(found["commits"], Value::from(32), "{found}");
        look(&["--bisect", "select count(*) from ledger"]).refused(1, "database.never-held");

        let file = ground.path("ledger.sql");
        let line = ["db", "dump", "db", "--transaction", "31", "--table", "ledger"];
        let dumped = ground.call(line).run().ok();
        ground.run(line.into_iter().chain(["--to-file", text(&file)])).ok();
        assert_eq!(fs::read_to_string(&file).expect("the dump"), dumped.stdout);
        let again = ground.path("again.db");
        sql(&again, &format!(".read {}", text(&file)));
        assert_eq!(sql(&again, ROWS), "30|30");
        ground.run(["db", "dump", "db", "--latest", "--table", "ledger"]).refused(1, "sqlite.not-dumped");

        let kept = look(&["--transaction", "31", "--sql", ROWS, "--keep", "--to-volume", "kept"]).ok().json();
        assert_eq!(ask_volume(ground, "kept", &kept["data_directory"], ROWS), "30|30", "{kept}");

        // A person at a terminal: the copy, a step that is none, a step forward, and away.
        let typed = ground.path("typed");
        let ask = "SELECT 'rows=' || count(*) FROM ledger;\n.quit\n";
        fs::write(&typed, format!("{ask}yesterday soon\n{thirtieth}\nq\n")).expect("a file");
        let shell = ["db", "restore", "db", "--transaction", "8", "--shell"];
        let said = ground.call(shell).at_a_terminal(&typed).run().ok();
        assert!(said.stdout.contains("rows=7") && said.stdout.contains("is no step"), "{said}");
        assert!(said.stdout.contains(&format!("position {thirtieth} of lineage 1")), "{said}");

        let volumes = ground.run(["volume", "list"]).ok().json();
        assert_eq!(volumes["volumes"].as_array().map(Vec::len), Some(1), "{volumes}");
        assert_eq!(fs::read_dir(ground.path("work")).expect("the folder").count(), 0);
        drop(application);
        agent.terminate().ok();
    });
}

#[test]
fn a_sqlite_copy_takes_the_live_ones_place_and_what_was_there_comes_back_by_undo() {
    let test = "a_sqlite_copy_takes_the_live_ones_place_and_what_was_there_comes_back_by_undo";
    followed(test, "", |ground, database, _, application, agent| {
        write(database, 10);
        sql(database, "DELETE FROM ledger");
        wait_for_commits(ground, "11");
        let clone =
            ground.run(["db", "clone", "db", "--to-volume", "play", "--transaction", "11"]).ok().json();
        ground.run(["db", "restore", "db", "--transaction", "11", "--yes"]).ok();
        drop(application);
        unmount(ground, "db");
        ground
            .run(["db", "promote", "db", "--restored", "play", "--yes"])
            .refused(1, "database.copy-is-clone");
        assert_eq!(ask_volume(ground, "play", &clone["data_directory"], ROWS), "10|10");
        mount_again(ground);
        ground.run(["db", "promote", "db", "--yes"]).refused(1, "database.volume-in-use");
        unmount(ground, "db");
        let plan = ground.run(["db", "promote", "db", "--plan"]).ok().json();
        let done = ground.run(["db", "promote", "db", "--yes"]).ok().json();
        mount_again(ground);
        assert_eq!(
            plan["run"],
            done["swapped"]["undo"].as_str().and_then(|undo| undo.rsplit(' ').next()).unwrap_or_default()
        );
        let application = Application::start(database);
        assert_eq!(sql(database, ROWS), "10|10");
        // The agent tells the one content of the file from the other: a new log, and a new base at once.
        wait_until("the second window", || windows(ground) == 2);
        write(database, 1);
        wait_for_commits(ground, "12");
        assert_eq!(restored(ground, &["--latest"], "new", ROWS), "11|11");
        assert_eq!(
            restored(ground, &["--transaction", "11", "--after"], "old", "SELECT count(*) FROM ledger"),
            "0"
        );

        drop(application);
        unmount(ground, "db");
        let run = plan["run"].as_str().expect("a run");
        wait_until("the agent to let go", || ground.run(["restore", "undo", run, "--yes"]).code == Some(0));
        mount_again(ground);
        assert_eq!(sql(database, "SELECT count(*) FROM ledger"), "0");
        wait_until("the third window", || windows(ground) == 3);
        agent.terminate().ok();
    });
}
