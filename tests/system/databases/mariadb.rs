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
use super::{listed, position, wait_until};
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
fn on_a_volume(test: &str, then: impl FnOnce(&Ground, &Server, &Path, Running)) {
    if !is_root(test) {
        return;
    }
    let mut ground = Ground::new();
    ground.init();
    ground.start_driver("3GiB");
    let mount = ground.mounted_volume("db", "512MiB");
    if let Some(server) = Server::start_on(Some(&mount), &[]) {
        server.sql("create database shop; create table shop.ledger (id bigint primary key auto_increment, what varchar(200)) engine=innodb; create table shop.plain (a int) engine=myisam");
        let config = ground.config(&database(&server));
        let agent = ground.call(["agent", "--config", text(&config)]).start();
        wait_until("a window", || windows(&ground) == 1);
        then(&ground, &server, &config, agent);
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
