//! Databases whose log is archived, by the real agent from a real PostgreSQL: whatever is killed, nothing that was reported is
//! missing, and every byte is the server's own.

mod archive_command;
mod incident;
mod mariadb;
mod outage;
mod redis;
#[path = "../../crates/postgres/tests/real/server.rs"]
mod server;
mod sqlite;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use strongroom_database::postgres::segment_name;
use strongroom_database::{LineageId, Position};
use strongroom_log_spool::Spool;
use strongroom_object_store::directory::DirectoryStore;
use strongroom_repository::keys::{KeyFile, Unlock};
use strongroom_repository::{OpenOptions, Repository};

use self::server::Server;
use crate::call::Running;
use crate::ground::{Ground, text};
use crate::kernel::is_root;

const SEGMENT: usize = 16 << 20;

#[track_caller]
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(240), "waiting for {what}");
        thread::sleep(Duration::from_millis(200));
    }
}

fn database(server: &Server) -> String {
    format!(
        "[[database]]\nname = \"shop\"\nvolume = \"db\"\nhost = \"{}\"\nport = {}\nuser = \"strongroom\"\npassword_file = \"{}\"\n",
        server.socket().display(),
        server.port,
        server.password_file().display(),
    )
}

/// Without a driver: what is archived does not depend on one.
fn config_without_driver(ground: &Ground, server: &Server) -> PathBuf {
    let path = ground.config(&database(server));
    let config = fs::read_to_string(&path).expect("it was written");
    let driver = format!("[driver]\nendpoint = \"{}\"\n", ground.endpoint());
    fs::write(&path, config.replace(&driver, "")).expect("it can be written");
    path
}

fn listed(ground: &Ground) -> Value {
    let answer = ground.run(["db", "list"]).ok().json();
    answer["databases"][0].clone()
}

fn position(text: &str) -> Position {
    text.parse().expect("a position")
}

fn is_streaming(server: &Server) -> bool {
    server.sql("select count(*) from pg_replication_slots where active") == "1"
}

/// Every bundle of every log, put together: where each log begins, and its bytes.
fn archived(ground: &Ground) -> Vec<(LineageId, Position, Vec<u8>)> {
    let folder = PathBuf::from(ground.repository().strip_prefix("file://").expect("a folder"));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let key = KeyFile::read(&ground.key()).expect("the key");
        let options = OpenOptions { agent: "test".into(), ..OpenOptions::default() };
        let store = Arc::new(DirectoryStore::new(&folder));
        let world = strongroom_settings::system_world();
        let repository =
            Repository::open(store, world, &Unlock::KeyFile(key), options).await.expect("the repository");
        let fold = repository.fold().await.expect("the journal");
        let mut all = Vec::new();
        for log in fold.logs.values() {
            let id = log.opened.log;
            let beyond = repository.bundles_beyond(id, log.next, log.end).await.expect("the bundles");
            let stored = log.kept().map(|(number, note)| (number, note.clone()));
            let (mut bytes, mut end) = (Vec::new(), log.opened.start);
            for (number, note) in stored.chain((log.next..).zip(beyond)) {
                assert_eq!(note.from, end, "bundle {number} follows the one before it");
                end = note.to;
                let bundle = repository.read_bundle(id, number, note.bytes).await.expect("a bundle");
                bytes.extend_from_slice(&bundle.log);
            }
            assert_eq!(bytes.len() as u64, end - log.opened.start);
            all.push((LineageId(log.opened.lineage), Position::new(log.opened.start), bytes));
        }
        all
    })
}

/// What is archived equals what lies in the server's own folder.
fn assert_the_servers_own(server: &Server, logs: &[(LineageId, Position, Vec<u8>)]) -> u64 {
    let mut compared = 0;
    for (timeline, start, bytes) in logs {
        assert_eq!(start.number() % SEGMENT as u64, 0, "a log begins with a segment");
        for (number, part) in bytes.chunks(SEGMENT).enumerate() {
            let name = segment_name(*timeline, start.plus((number * SEGMENT) as u64), SEGMENT as u64);
            let theirs = fs::read(server.data().join("pg_wal").join(&name)).expect("the server keeps it");
            assert!(theirs[..part.len()] == *part, "{name} differs");
            compared += part.len() as u64;
        }
    }
    compared
}

/// What the agent had received and not stored when it was killed.
fn spooled(state: &Path) -> Option<Position> {
    let folder = state.join("databases/shop");
    let logs = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    logs.filter_map(|log| Some(Spool::open(&log).expect("a spool").range()?.1)).max()
}

#[test]
fn the_log_of_a_database_is_archived_through_kills_of_agent_and_server_without_a_byte_missing() {
    let ground = Ground::new();
    let Some(server) = Server::start("") else { return };
    ground.init();
    let config = config_without_driver(&ground, &server);
    let line = ["agent", "--config", text(&config)];
    server.sql("create table ledger (id bigserial primary key, filler text)");
    let write = || {
        server.try_sql("insert into ledger (filler) select repeat(md5(random()::text), 30) from generate_series(1, 3000)")
    };
    for life in 0..4 {
        let agent = ground.call(line).start();
        wait_until("the stream", || is_streaming(&server));
        for _ in 0..=life {
            let _ = write();
        }
        if life % 2 == 1 {
            server.kill();
            server.start_again();
            wait_until("the stream after the server's crash", || is_streaming(&server));
            let _ = write();
        }
        // In the middle of whatever it does.
        agent.kill();
        wait_until("the server to notice", || !is_streaming(&server));
        let reported = position(&server.sql("select restart_lsn from pg_replication_slots"));
        let log = listed(&ground);
        let stored = position(log["log_end"].as_str().expect("a position"));
        let kept = spooled(&ground.path("agent-state")).unwrap_or(stored).max(stored);
        assert!(kept >= reported, "life {life}: reported {reported}, kept until {kept}");
    }
    let agent = ground.call(line).start();
    wait_until("the stream", || is_streaming(&server));
    let end = position(&server.sql("select pg_current_wal_flush_lsn()"));
    wait_until("the last bundle", || {
        position(listed(&ground)["log_end"].as_str().expect("a position")) >= end
    });
    let answer = agent.terminate();
    assert_eq!(answer.code, Some(0), "{answer}");
    let logs = archived(&ground);
    assert_eq!(logs.len(), 1, "no crash made a gap");
    let compared = assert_the_servers_own(&server, &logs);
    assert!(compared > 4 << 20, "{compared} bytes were compared");
    assert!(!answer.stderr.contains(server::PASSWORD), "the password is nowhere");
    ground.run(["repository", "check", "--read-data"]).ok();
    ground.run(["repository", "scrub", "--share", "100%"]).ok();
}

/// Unmounts a volume of which the agent may be making a snapshot at this moment: then the driver says to wait.
fn unmount(ground: &Ground, volume: &str) {
    let since = Instant::now();
    loop {
        let answer = ground.run(["volume", "unmount", volume]);
        if answer.code != Some(5) || since.elapsed() > Duration::from_secs(60) {
            drop(answer.ok());
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// A database in a volume, with one table, whose agent archives it: `then` goes on once there is a window.
fn on_a_volume(test: &str, settings: &str, table: &str, then: impl FnOnce(&Ground, &Server, &Path, Running)) {
    if !is_root(test) {
        return;
    }
    let mut ground = Ground::new();
    ground.init();
    ground.start_driver("3GiB");
    let mount = ground.mounted_volume("db", "512MiB");
    if let Some(server) = Server::start_on(Some(&mount), settings) {
        server.sql(&format!("create table {table}"));
        let config = ground.config(&database(&server));
        let agent = ground.call(["agent", "--config", text(&config)]).start();
        // The first point may be older than the stream; then the agent takes another one for the database's sake.
        let since = Instant::now();
        while listed(&ground)["windows"].as_array().is_none_or(|windows| windows.len() != 1) {
            assert!(since.elapsed() < Duration::from_secs(180), "{}: {}", listed(&ground), agent.stderr());
            thread::sleep(Duration::from_millis(200));
        }
        then(&ground, &server, &config, agent);
        drop(server);
    }
    unmount(&ground, "db");
    ground.stop_driver();
    ground.assert_nothing_leaks();
}

#[test]
fn a_database_on_a_volume_gets_its_base_by_itself_and_another_after_a_gap() {
    let test = "a_database_on_a_volume_gets_its_base_by_itself_and_another_after_a_gap";
    let settings = "wal_keep_size = 0";
    on_a_volume(
        test,
        settings,
        "ledger (id bigserial primary key, filler text)",
        |ground, server, config, agent| {
            let line = ["agent", "--config", text(config)];
            let first = listed(ground);
            assert!(first["problems"].as_array().is_some_and(Vec::is_empty), "{first}");
            ground.run(["status", "--config", text(config)]).ok();
            agent.kill();

            // While nobody looks the slot goes, and the server recycles its log.
            wait_until("the server to notice", || !is_streaming(server));
            server.sql("select pg_drop_replication_slot('strongroom')");
            for _ in 0..4 {
                server.sql("insert into ledger (filler) select md5(i::text) from generate_series(1, 100) i; select pg_switch_wal()");
            }
            server.sql("checkpoint");
            server.sql("checkpoint");
            let agent = ground.call(line).start();
            wait_until("the second window", || {
                listed(ground)["windows"].as_array().is_some_and(|windows| windows.len() == 2)
            });
            let log = listed(ground);
            assert!(log["windows"][1]["gap_before"].is_object(), "{log}");
            assert_eq!(ground.run(["status", "--config", text(config)]).code, Some(1), "a gap is red");
            let answer = agent.terminate();
            assert!(answer.stderr.contains("GAP"), "{answer}");

            // What lies elsewhere is not in the snapshot: it would be no base.
            let agent = ground.call(line).start();
            wait_until("the stream", || is_streaming(server));
            let elsewhere = server.socket().join("elsewhere");
            server.sql(&format!("copy (select 1) to program 'mkdir {}'", elsewhere.display()));
            server.sql(&format!("create tablespace fast location '{}'", elsewhere.display()));
            let answer = ground.run(["backup", "run", "--volume", "db", "--config", text(config)]).ok();
            assert!(answer.stderr.contains("it has the tablespace fast in"), "{answer}");
            server.sql("drop tablespace fast");
            agent.terminate();
        },
    );
}

/// A second server over a restored data folder, asked one question, and ended properly.
fn ask_restored(server: &Server, data: &Path, sql: &str) -> String {
    let (data, socket) = (text(data), text(server.socket()));
    let options = format!("-p 5999 -k {socket} -c listen_addresses=");
    let log = server.socket().join("restored.log");
    server.run("pg_ctl", &["-D", data, "-o", &options, "-l", text(&log), "-w", "start"]);
    let answer = server
        .command("psql")
        .args(["-h", socket, "-p", "5999", "-U", "postgres", "-X", "-A", "-t", "-q", "-c", sql, "postgres"])
        .output();
    server.run("pg_ctl", &["-D", data, "-m", "fast", "-w", "stop"]);
    let answer = answer.expect("psql can be started");
    format!("{}{}", String::from_utf8_lossy(&answer.stdout), String::from_utf8_lossy(&answer.stderr))
        .trim()
        .to_owned()
}

#[test]
fn a_dropped_table_comes_back_beside_the_live_database_with_everything_up_to_the_drop() {
    let test = "a_dropped_table_comes_back_beside_the_live_database_with_everything_up_to_the_drop";
    on_a_volume(
        test,
        "autovacuum = off",
        "orders (id bigserial primary key, what text)",
        |ground, server, config, agent| {
            server.sql("insert into orders (what) select md5(i::text) from generate_series(1, 1000) i");
            server.sql("drop table orders");
            server.sql("create table regrets (id int)");
            // The base before the drop is not the newest any more, and not further away than the pool.
            ground.run(["backup", "run", "--volume", "db", "--config", text(config)]).ok();
            let end = position(&server.sql("select pg_current_wal_flush_lsn()"));
            wait_until("the log", || {
                listed(ground)["windows"][0]["latest"]["position"]
                    .as_str()
                    .is_some_and(|at| position(at) >= end)
            });

            // Which second was it? The log knows.
            let timeline = ground.run(["db", "timeline", "db", "--around", "now"]).ok().json();
            let events = timeline["events"].as_array().expect("events").clone();
            let is_drop = |event: &&Value| {
                event["changes"]["statements"]
                    .as_array()
                    .is_some_and(|kinds| kinds.contains(&Value::from("drop")))
            };
            let dropping = events.iter().find(is_drop).unwrap_or_else(|| panic!("no drop in {timeline}"));
            let transaction = dropping["transaction"].as_str().expect("a transaction").to_owned();
            assert!(timeline["minutes"].as_array().is_some_and(|minutes| !minutes.is_empty()), "{timeline}");

            let line = ["db", "restore", "db", "--transaction", &transaction];
            let plan = ground.run(line.into_iter().chain(["--plan"])).ok().json();
            assert_eq!(plan["first_dropped"]["transaction"], Value::from(transaction.as_str()), "{plan}");
            assert_eq!(plan["last_kept"]["changes"]["inserted"], Value::from(1000), "{plan}");
            assert_eq!(plan["dropped_commits"], Value::from(2), "{plan}");
            let far = ground.run(["db", "restore", "db", "--at", "2001-01-01T00:00:00Z", "--plan"]);
            far.refused(1, "database.before-window");

            let more = ["--to-volume", "back", "--yes"];
            let done = ground.run(line.into_iter().chain(more)).ok();
            assert!(done.stderr.contains("which is kept here: nothing is fetched"), "{done}");
            let done = done.json();
            let back = ground.path("mnt-back");
            fs::create_dir_all(&back).expect("a mount point can be made");
            ground.run(["volume", "mount", "back", text(&back)]).ok();
            let folder =
                done["data_directory"].as_str().expect("where it is").trim_start_matches('/').to_owned();
            let asked = "select (select count(*) from orders), to_regclass('regrets') is null, timeline_id from pg_control_checkpoint()";
            assert_eq!(ask_restored(server, &back.join(folder), asked), "1000|t|2", "{done}");
            unmount(ground, "back");

            // The live database knows nothing of it, and its archive goes on in its own history.
            assert_eq!(
                server.sql("select to_regclass('orders') is null and to_regclass('regrets') is not null"),
                "t"
            );
            assert_eq!(listed(ground)["lineage"], Value::from(1));
            server.sql("insert into regrets values (1)");
            ground.run(["backup", "run", "--volume", "db", "--config", text(config)]).ok();
            let kept = ground.run(["snapshot", "list", "db"]).ok().json();
            assert_eq!(
                kept["snapshots"].as_array().map(Vec::len),
                Some(2),
                "two bases stay in the pool: {kept}"
            );
            assert!(fs::read_dir("/var/tmp").is_ok_and(|left| {
                left.flatten().all(|entry| !entry.file_name().to_string_lossy().starts_with("strongroom-db-"))
            }));
            agent.terminate();
        },
    );
}

/// Nothing of a restore test is left: no volume, no folder, no mount, no server.
#[track_caller]
fn assert_nothing_of_a_test_is_left(ground: &Ground, work: &Path) {
    let volumes = ground.run(["volume", "list"]).ok().json();
    let names: Vec<_> =
        volumes["volumes"].as_array().expect("volumes").iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["db"], "volumes");
    assert_eq!(fs::read_dir(work).expect("the folder").count(), 0, "folders");
    let mounts = fs::read_to_string("/proc/self/mounts").expect("the mounts");
    assert!(!mounts.contains(text(work)), "{mounts}");
    assert_eq!(servers_below(work), Vec::<String>::new(), "servers");
}

/// The servers that work below a folder, by their numbers.
fn servers_below(work: &Path) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("processes").flatten();
    let is_there = |entry: &fs::DirEntry| {
        fs::read_link(entry.path().join("cwd")).is_ok_and(|place| place.starts_with(work))
    };
    processes.filter(is_there).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn archived_all(ground: &Ground, server: &Server) {
    let end = position(&server.sql("select pg_current_wal_flush_lsn()"));
    wait_until("the log", || {
        listed(ground)["windows"][0]["latest"]["position"].as_str().is_some_and(|at| position(at) >= end)
    });
}

#[test]
fn a_restore_test_proves_a_random_second_and_names_what_does_not_hold_and_leaves_nothing_even_when_killed() {
    let test = "a_restore_test_proves_a_random_second_and_names_what_does_not_hold_and_leaves_nothing_even_when_killed";
    on_a_volume(test, "", "orders (id bigserial primary key, what text)", |ground, server, config, agent| {
        let work = ground.path("work");
        fs::create_dir(&work).expect("a folder can be made");
        for _ in 0..20 {
            server.sql("insert into orders (what) select md5(i::text) from generate_series(1, 50) i");
        }
        archived_all(ground, server);
        let line = ["db", "test", "db", "--config", text(config), "--work-dir", text(&work)];
        let told = ["--sql", "select count(*) % 50 = 0 from orders"];
        let proof = ground.run(line.into_iter().chain(told)).ok().json();
        assert_eq!(proof["proven"], Value::from(true), "{proof}");
        assert!(proof["rto_ms"].as_u64().is_some_and(|took| took > 0), "{proof}");
        let checks = proof["checks"].to_string();
        assert!(checks.contains("replayed up to") && checks.contains("it holds"), "{checks}");
        assert!(
            checks.contains("rows") || checks.contains("every row of") || checks.contains("pg_"),
            "{checks}"
        );
        assert_nothing_of_a_test_is_left(ground, &work);

        let told = [
            "--latest",
            "--sql",
            "select count(*) = 1000 from orders",
            "--sql",
            "select count(*) > 1000 from orders",
        ];
        let answer = ground.run(line.into_iter().chain(told));
        assert_eq!(answer.code, Some(1), "{answer}");
        let proof = answer.json();
        assert_eq!(proof["failure"]["code"], Value::from("database.test-assertion"), "{proof}");
        let message = proof["failure"]["message"].as_str().expect("a message");
        assert!(message.contains("count(*) > 1000"), "{message}");
        assert_nothing_of_a_test_is_left(ground, &work);

        // Killed while its server waits for a long answer.
        let slow = ground.call(line.into_iter().chain(["--latest", "--sql", "select pg_sleep(300)"])).start();
        wait_until("the server of the test", || servers_below(&work).len() > 3);
        slow.kill();
        assert!(!servers_below(&work).is_empty(), "its server goes on");
        let proof = ground.run(line.into_iter().chain(["--newest-base"])).ok().json();
        assert_eq!(proof["proven"], Value::from(true), "{proof}");
        assert_nothing_of_a_test_is_left(ground, &work);

        // Told to stop, it clears away by itself.
        let slow = ground.call(line.into_iter().chain(["--latest", "--sql", "select pg_sleep(300)"])).start();
        wait_until("the server of the test", || servers_below(&work).len() > 3);
        let second = ground.run(line);
        second.refused(5, "database.test-running");
        assert_eq!(slow.terminate().code, Some(5));
        assert_nothing_of_a_test_is_left(ground, &work);
        assert_eq!(server.sql("select count(*) from orders"), "1000");
        agent.terminate();
    });
}

/// The agent goes on with another `[database.test]`.
fn agent_that_tests(ground: &Ground, server: &Server, work: &Path, test: &str) -> Running {
    let settings = format!("[database.test]\nwork_dir = \"{}\"\n{test}\n", text(work));
    let config = ground.config(&format!("{}{settings}", database(server)));
    ground.call(["agent", "--config", text(&config)]).start()
}

#[test]
fn the_agent_tests_restores_by_itself_and_status_shows_the_last_proven_one_and_turns_red_by_one_that_fails() {
    let test = "the_agent_tests_restores_by_itself_and_status_shows_the_last_proven_one_and_turns_red_by_one_that_fails";
    on_a_volume(test, "", "orders (id bigserial primary key, what text)", |ground, server, config, agent| {
        let work = ground.path("work");
        fs::create_dir(&work).expect("a folder can be made");
        server.sql("insert into orders (what) values ('a book')");
        archived_all(ground, server);
        assert_eq!(listed(ground)["last_proven_restore"], Value::Null);
        agent.terminate();

        let right = "at_most_every = \"1ms\"\nsql = [\"select count(*) >= 0 from orders\"]";
        let agent = agent_that_tests(ground, server, &work, right);
        wait_until("a proof", || listed(ground)["last_proven_restore"].is_object());
        let proven = listed(ground)["last_proven_restore"].clone();
        assert!(proven["rto_ms"].as_u64().is_some_and(|took| took > 0), "{proven}");
        assert!(
            proven["checks"].to_string().contains("it holds: select count(*) >= 0 from orders"),
            "{proven}"
        );
        let status = ground.run(["status", "--config", text(config)]).ok().json();
        assert_eq!(status["databases"][0]["last_proven_restore"], proven, "{status}");
        agent.terminate();

        let wrong = "at_most_every = \"1ms\"\nevery = \"1ms\"\nsql = [\"select count(*) > 5 from orders\"]";
        let agent = agent_that_tests(ground, server, &work, wrong);
        wait_until("a failed test", || listed(ground)["last_unproven_restore"].is_object());
        let red = ground.run(["status", "--config", text(config)]).ended(1).json();
        let problems = red["databases"][0]["problems"].to_string();
        assert!(problems.contains("select count(*) > 5 from orders"), "{problems}");
        assert!(problems.contains("database.test-assertion"), "{problems}");
        let said = agent.terminate();
        assert!(said.stderr.contains("NOT PROVEN"), "{said}");

        // The assertion was too strict: the state that failed is tested again, and green.
        let failed = listed(ground)["last_unproven_restore"]["wanted_at"].clone();
        let agent = agent_that_tests(ground, server, &work, right);
        wait_until("the state that failed", || listed(ground)["last_proven_restore"]["wanted_at"] == failed);
        ground.run(["status", "--config", text(config)]).ok();
        agent.terminate();
        assert_nothing_of_a_test_is_left(ground, &work);
        ground.run(["repository", "check"]).ok();
    });
}
