//! MariaDB by the real agent: every transaction of its binary log can be gone back to, and what is restored is exactly the prefix.

#[path = "../../../crates/mariadb/tests/real/server.rs"]
#[allow(dead_code, reason = "it serves other tests as well")]
mod server;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;
use strongroom_database::Position;
use strongroom_database::mariadb::{file_number, place};

use self::server::Server;
use super::{assert_nothing_of_a_test_is_left, listed, position, servers_below, wait_until};
use crate::call::Running;
use crate::ground::{Ground, text};
use crate::kernel::is_root;

fn database(server: &Server) -> String {
    let target = server.target();
    format!(
        "[[database]]\nname = \"shop\"\nengine = \"mariadb\"\nvolume = \"db\"\nhost = \"{}\"\nuser = \"strongroom\"\npassword_file = \"{}\"\n",
        server.folder().display(),
        target.password_file.expect("a password").display(),
    )
}

/// A server on a volume, whose agent archives it: `then` goes on once there is a window.
fn on_a_volume(test: &str, then: impl FnOnce(&Ground, &mut Server, &Path, Running)) {
    if !is_root(test) {
        return;
    }
    let mut ground = Ground::new();
    ground.init();
    ground.start_driver("3GiB");
    let mount = ground.mounted_volume("db", "512MiB");
    if let Some(mut server) = Server::start_on(Some(&mount), &[]) {
        server.sql("create database shop; create table shop.ledger (id bigint primary key auto_increment, what varchar(200)) engine=innodb; create table shop.plain (a int) engine=myisam");
        let config = ground.config(&database(&server));
        let agent = ground.call(["agent", "--config", text(&config)]).start();
        wait_until("a window", || windows(&ground) == 1);
        then(&ground, &mut server, &config, agent);
        drop(server);
    }
    ground.run(["volume", "unmount", "db"]).ok();
    ground.stop_driver();
    ground.assert_nothing_leaks();
}

fn windows(ground: &Ground) -> usize {
    listed(ground)["windows"].as_array().map_or(0, Vec::len)
}

/// Where the server's binary log ends.
fn end(server: &Server) -> Position {
    let told = server.sql("show master status");
    let mut fields = told.split('\t');
    let number = file_number(fields.next().expect("a file")).expect("its number");
    place(number, fields.next().and_then(|offset| offset.parse().ok()).expect("an offset"))
}

fn wait_for_all(ground: &Ground, server: &Server) {
    let end = end(server);
    wait_until("the log", || {
        let log = listed(ground);
        let windows = log["windows"].as_array();
        windows
            .and_then(|windows| windows.last()?["latest"]["position"].as_str().map(position))
            .is_some_and(|at| at >= end)
    });
}

/// Commits one row, and tells its transaction.
fn commit(server: &Server, format: &str, number: u32) -> String {
    let sql = format!(
        "set binlog_format={format}; insert into shop.ledger (what) values (repeat('{number},', 20)); select @@last_gtid"
    );
    server.sql(&sql)
}

#[test]
fn a_mariadb_comes_back_at_any_transaction_with_the_exact_prefix() {
    on_a_volume(
        "a_mariadb_comes_back_at_any_transaction_with_the_exact_prefix",
        |ground, server, config, agent| {
            // What is committed after how many rows: in all ways of logging, over files, with accounts and tables without transactions.
            let mut committed: Vec<(String, u32)> = Vec::new();
            let mut write = |count: u32| {
                for _ in 0..count {
                    let number = u32::try_from(committed.len()).unwrap() + 1;
                    let format = ["row", "statement", "mixed"][number as usize % 3];
                    committed.push((commit(server, format, number), number));
                }
            };
            write(12);
            server.sql("insert into shop.plain values (1), (2); create user later@localhost identified by 'x'; grant select on shop.* to later@localhost; flush binary logs");
            write(12);
            // Another base in the middle of commits.
            let is_over = AtomicBool::new(false);
            thread::scope(|scope| {
                let backup = scope.spawn(|| {
                    let answer = ground.run(["backup", "run", "--volume", "db", "--config", text(config)]);
                    is_over.store(true, Ordering::Relaxed);
                    answer.ok();
                });
                while !is_over.load(Ordering::Relaxed) {
                    write(1);
                }
                backup.join().expect("the backup");
            });
            write(6);
            server.sql("drop table shop.ledger");
            let dropping = server.sql("select @@gtid_binlog_pos");
            server.sql("create table shop.regrets (id int)");
            wait_for_all(ground, server);

            let timeline = ground.run(["db", "timeline", "db", "--around", "now"]).ok().json();
            let events = timeline["events"].as_array().expect("events").clone();
            let told = events.iter().find(|event| event["transaction"] == dropping.as_str());
            let kinds = told.and_then(|event| event["changes"]["statements"].as_array()).expect("the drop");
            assert_eq!(kinds, &[Value::from("drop")], "{timeline}");
            let plan = ground.run(["db", "restore", "db", "--transaction", &dropping, "--plan"]).ok().json();
            assert_eq!(plan["dropped_commits"], Value::from(2), "{plan}");
            assert_eq!(
                plan["last_kept"]["transaction"],
                Value::from(committed.last().expect("one").0.as_str())
            );

            // The drop, one before the second base, and one behind it, by chance.
            let mut random = [0; 2];
            fs::File::open("/dev/urandom")
                .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut random))
                .unwrap();
            let last = committed.len() - 1;
            let (early, late) = (usize::from(random[0]) % 24, last - usize::from(random[1]) % 5);
            eprintln!("targets: {early} and {late} of {last}");
            let all = u32::try_from(committed.len()).unwrap();
            let targets = [
                (dropping.as_str(), false, all),
                (committed[early].0.as_str(), true, committed[early].1),
                (committed[late].0.as_str(), true, committed[late].1),
            ];
            for (number, (transaction, is_after, rows)) in targets.into_iter().enumerate() {
                let name = format!("back{number}");
                let mut line = vec![
                    "db",
                    "restore",
                    "db",
                    "--transaction",
                    transaction,
                    "--to-volume",
                    name.as_str(),
                    "--yes",
                ];
                if is_after {
                    line.push("--after");
                }
                let done = ground.run(line).ok().json();
                let back = ground.path(&format!("mnt-{name}"));
                fs::create_dir_all(&back).expect("a mount point can be made");
                ground.run(["volume", "mount", &name, text(&back)]).ok();
                let folder =
                    done["data_directory"].as_str().expect("where it is").trim_start_matches('/').to_owned();
                let asked = "select count(*), max(id), (select count(*) from shop.plain), (select count(*) from mysql.global_priv where user = 'later') from shop.ledger; select @@gtid_binlog_state; show tables in shop like 'regrets'";
                let answer = server.ask_restored(&back.join(folder), asked);
                let others = if rows > 12 { "2\t1" } else { "0\t0" };
                let state = if is_after { transaction } else { committed[last].0.as_str() };
                assert_eq!(answer, format!("{rows}\t{rows}\t{others}\n{state}"), "{transaction}: {done}");
                ground.run(["volume", "unmount", &name]).ok();
            }

            // The live one knows nothing of it, and its archive goes on in its own history.
            assert_eq!(server.sql("show tables in shop like 'regrets'"), "regrets");
            let log = listed(ground);
            assert_eq!((&log["lineage"], windows(ground)), (&Value::from(1), 1), "{log}");
            let answer = agent.terminate();
            assert!(!answer.stderr.contains(server::PASSWORD), "the password is nowhere");
        },
    );
}

#[test]
fn a_binary_log_that_is_purged_or_begins_anew_is_a_gap_and_a_new_base_is_taken() {
    let test = "a_binary_log_that_is_purged_or_begins_anew_is_a_gap_and_a_new_base_is_taken";
    on_a_volume(test, |ground, server, config, agent| {
        let line = ["agent", "--config", text(config)];
        let row = |number| commit(server, "row", number);
        row(1);
        wait_for_all(ground, server);
        agent.kill();
        let streams = "select count(*) from information_schema.processlist where command = 'Binlog Dump'";
        wait_until("the server to notice", || server.sql(streams) == "0");
        // While nobody looks files go which were not received.
        row(2);
        server.sql("flush binary logs");
        row(3);
        server.sql("flush binary logs");
        let number = end(server).number() >> 32;
        server.sql(&format!("purge binary logs to 'mysql-bin.{number:06}'"));
        let agent = ground.call(line).start();
        wait_until("the second window", || windows(ground) == 2);
        let log = listed(ground);
        assert!(log["windows"][1]["gap_before"].is_object(), "{log}");
        assert_eq!(log["lineage"], Value::from(1), "the same history, with a hole: {log}");
        row(4);
        wait_for_all(ground, server);
        assert!(agent.terminate().stderr.contains("GAP"));

        // The names of the files come again, and even their numbers of bytes: what is in them is of another history.
        server.sql("reset master");
        for number in 0..8 {
            row(number);
            server.sql("flush binary logs");
        }
        for number in 0..30 {
            row(number);
        }
        let agent = ground.call(line).start();
        wait_until("the next history", || {
            let log = listed(ground);
            log["lineage"] == 2 && log["windows"].as_array().is_some_and(|windows| windows.len() == 1)
        });
        // And once more, under the eyes of the agent.
        server.sql("reset master");
        row(5);
        wait_until("the history after it", || {
            let log = listed(ground);
            log["lineage"] == 3 && log["windows"].as_array().is_some_and(|windows| windows.len() == 1)
        });
        wait_for_all(ground, server);
        let answer = agent.terminate();
        assert!(answer.stderr.contains("GAP"), "{answer}");
    });
}

/// The copy's answer, started as a server of its own.
fn ask_copy(ground: &Ground, server: &Server, volume: &str, data: &str, sql: &str) -> String {
    let mount = ground.path(&format!("mnt-{volume}"));
    fs::create_dir_all(&mount).expect("a mount point can be made");
    ground.run(["volume", "mount", volume, text(&mount)]).ok();
    let answer = server.ask_restored(&mount.join(data.trim_start_matches('/')), sql);
    ground.run(["volume", "unmount", volume]).ok();
    answer
}

#[test]
fn a_mariadb_is_proved_to_come_back_and_what_a_killed_test_leaves_goes_and_a_promoted_copy_begins_anew() {
    let test =
        "a_mariadb_is_proved_to_come_back_and_what_a_killed_test_leaves_goes_and_a_promoted_copy_begins_anew";
    on_a_volume(test, |ground, server, config, agent| {
        let work = ground.path("work");
        fs::create_dir(&work).expect("a folder can be made");
        // An account of the replayed log: from it on, the copy's server knows its accounts again.
        server.sql("create user later@localhost identified by 'x'; alter user root@localhost identified by 'secret'; flush binary logs; set password for root@localhost = ''");
        let mut names = Vec::new();
        for number in 1..=20 {
            names.push(commit(server, ["row", "statement", "mixed"][number as usize % 3], number));
        }
        wait_for_all(ground, server);
        let line = ["db", "test", "db", "--config", text(config), "--work-dir", text(&work)];
        let told = ["--latest", "--sql-database", "shop", "--sql", "select count(*) = 20 from ledger"];
        let proof = ground.run(line.into_iter().chain(told)).ok().json();
        assert_eq!(proof["proven"], Value::from(true), "{proof}");
        assert_eq!(proof["last_kept"]["transaction"], Value::from(names.last().expect("one").as_str()));
        let checks = proof["checks"].to_string();
        for check in ["exactly the transactions", "is in", "it holds", "CHECK TABLE"] {
            assert!(checks.contains(check), "{checks}");
        }
        assert_nothing_of_a_test_is_left(ground, &work);

        for (sql, code) in [
            ("select count(*) > 20 from shop.ledger", "database.test-assertion"),
            ("insert into shop.ledger (what) values ('x') returning id", "database.test-question"),
        ] {
            let answer = ground.run(line.into_iter().chain(["--latest", "--sql", sql]));
            assert_eq!(answer.code, Some(1), "{answer}");
            assert_eq!(answer.json()["failure"]["code"], Value::from(code), "{answer}");
        }
        assert_nothing_of_a_test_is_left(ground, &work);

        // Killed while its server waits for a long answer, and told to stop while it does.
        let slow = || ground.call(line.into_iter().chain(["--latest", "--sql", "select sleep(300)"])).start();
        let killed = slow();
        wait_until("the server of the test", || servers_below(&work).len() > 1);
        thread::sleep(std::time::Duration::from_secs(2));
        killed.kill();
        assert!(!servers_below(&work).is_empty(), "its server goes on");
        let proof = ground.run(line.into_iter().chain(["--newest-base"])).ok().json();
        assert_eq!(proof["proven"], Value::from(true), "{proof}");
        assert_nothing_of_a_test_is_left(ground, &work);
        let told = slow();
        wait_until("the server of the test", || servers_below(&work).len() > 1);
        assert_eq!(told.terminate().code, Some(5));
        assert_nothing_of_a_test_is_left(ground, &work);

        // Looked at, moved forward, searched and dumped; and accounts are replayed as well.
        let look = |more: &[&str]| {
            ground
                .run([&["db", "restore", "db", "--work-dir", text(&work), "--after"], more].concat())
                .ok()
                .json()
        };
        let plan = look(&["--transaction", &names[9], "--plan"]);
        let tenth = plan["cut"].as_str().expect("a position");
        let asked =
            "select count(*), (select count(*) from mysql.global_priv where user = 'later') from shop.ledger";
        let seen = look(&["--transaction", &names[4], "--sql", asked, "--advance", tenth]);
        let answers: Vec<_> =
            seen["seen"].as_array().expect("answers").iter().map(|seen| seen["answer"].clone()).collect();
        assert_eq!(answers, ["5|1", "10|1"], "{seen}");
        let line = ["db", "restore", "db", "--work-dir", text(&work), "--bisect"];
        let found = ground.run(line.into_iter().chain(["select count(*) < 12 from shop.ledger"])).ok().json();
        assert_eq!(found["first_not"]["transaction"], Value::from(names[11].as_str()), "{found}");
        let line = ["db", "dump", "db", "--work-dir", text(&work), "--transaction", &names[4], "--after"];
        let dumped = ground.run(line.into_iter().chain(["--table", "shop.ledger"])).ok().stdout;
        assert!(dumped.contains("CREATE TABLE `ledger`") && dumped.contains("'5,5,"), "{dumped}");
        assert!(!dumped.contains("'6,6,"), "{dumped}");
        assert_nothing_of_a_test_is_left(ground, &work);

        // A clone is for a look; a copy that is promoted takes the place of the live one, and what is archived of it stays.
        let done = ground.run(["db", "clone", "db", "--to-volume", "look"]).ok().json();
        let data = done["data_directory"].as_str().expect("where it is").to_owned();
        assert_eq!(ask_copy(ground, server, "look", &data, "select count(*) from shop.ledger"), "20");
        ground
            .run(["db", "promote", "db", "--restored", "look", "--plan"])
            .refused(1, "database.copy-is-clone");
        ground.run(["db", "restore", "db", "--transaction", &names[9], "--after", "--yes"]).ok();
        ground.run(["volume", "delete", "look"]).ok();
        stop(server);
        let done = ground.run(["db", "promote", "db", "--yes"]).ok().json();
        server.start_again();
        let asked = "select count(*), @@gtid_binlog_state from shop.ledger";
        assert_eq!(server.sql(asked), format!("10\t{}", names[9]));
        in_history(ground, 2);
        commit(server, "row", 11);
        wait_for_all(ground, server);
        // What was archived of the other history stays.
        let last =
            ["db", "restore", "db", "--transaction", &names[19], "--after", "--lineage", "1", "--plan"];
        let plan = ground.run(last).ok().json();
        assert_eq!(plan["last_kept"]["transaction"], Value::from(names[19].as_str()), "{plan}");
        stop(server);
        let run = done["swapped"]["undo"].as_str().and_then(|undo| undo.rsplit(' ').next()).expect("a run");
        ground.run(["restore", "undo", run, "--yes"]).ok();
        server.start_again();
        assert_eq!(server.sql(asked), format!("20\t{}", names[19]));
        in_history(ground, 3);
        agent.terminate();
    });
}

fn stop(server: &mut Server) {
    server.sql("shutdown");
    wait_until("the server to end", || server.has_ended());
}

/// The agent archives this history.
fn in_history(ground: &Ground, lineage: u64) {
    wait_until("the history", || {
        let log = listed(ground);
        log["lineage"] == lineage && log["windows"].as_array().is_some_and(|windows| !windows.is_empty())
    });
}
