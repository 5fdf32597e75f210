//! The incident: a copy takes the live database's place, and nothing that is archived is lost by it.

use super::*;

/// Waits until all that is written is archived, in this history.
fn archived_in(ground: &Ground, server: &Server, lineage: u32) {
    let end = position(&server.sql("select pg_current_wal_flush_lsn()"));
    wait_until("the log in its history", || {
        let log = listed(ground);
        log["lineage"] == lineage
            && log["windows"].as_array().and_then(|windows| windows.last()).is_some_and(|window| {
                window["latest"]["position"].as_str().is_some_and(|at| position(at) >= end)
            })
    });
}

fn stop(server: &Server) {
    let data = server.data();
    server.run("pg_ctl", &["-D", text(&data), "-m", "fast", "-w", "stop"]);
}

/// What is asked of a restored copy, started as its own settings say.
fn ask_copy(ground: &Ground, server: &Server, volume: &str, data: &str, sql: &str) -> String {
    let mount = ground.path(&format!("mnt-{volume}"));
    fs::create_dir_all(&mount).expect("a mount point can be made");
    ground.run(["volume", "mount", volume, text(&mount)]).ok();
    let answer = ask_restored(server, &mount.join(data.trim_start_matches('/')), sql);
    unmount(ground, volume);
    answer
}

#[test]
fn a_promoted_copy_lives_in_a_history_of_its_own_and_both_histories_stay_restorable_until_it_is_undone() {
    let test =
        "a_promoted_copy_lives_in_a_history_of_its_own_and_both_histories_stay_restorable_until_it_is_undone";
    let settings = "autovacuum = off\narchive_mode = on\narchive_command = 'false'";
    on_a_volume(test, settings, "orders (what text)", |ground, server, _, agent| {
        server.sql("insert into orders select md5(i::text) from generate_series(1, 100) i");
        let mistake = server.sql(
            "with gone as (delete from orders returning 1) select min(pg_current_xact_id()::text) from gone",
        );
        server.sql("insert into orders values ('written after the mistake')");
        archived_in(ground, server, 1);

        // Two restores in a row, from one state: each is a whole copy.
        let restore = |more: &[&str]| {
            let line = ["db", "restore", "db", "--yes"];
            ground.run(line.iter().chain(more).copied()).ok().json()
        };
        let first = restore(&["--transaction", &mistake]);
        restore(&["--transaction", &mistake, "--to-volume", "second"]);
        ground.run(["db", "restore", "db", "--yes", "--latest"]).refused(1, "restore.volume-exists");
        let data = first["data_directory"].as_str().expect("where it is").to_owned();
        let asked = "select (select count(*) from orders), current_setting('archive_mode'), current_setting('max_logical_replication_workers')";
        assert_eq!(ask_copy(ground, server, "db-restored", &data, asked), "100|off|0", "it disturbs nobody");
        assert_eq!(listed(ground)["lineage"], Value::from(1), "a copy that was started is not archived");

        // The database runs: what has open files cannot be exchanged.
        let running = ground.run(["db", "promote", "db", "--yes"]);
        assert_ne!(running.code, Some(0), "{running}");
        ground.run(["db", "promote", "db", "--yes", "--no-remount"]).refused(1, "database.volume-in-use");
        assert_eq!(server.sql("select count(*) from orders"), "1");

        stop(server);
        let plan = ground.run(["db", "promote", "db", "--plan"]).ok().json();
        assert_eq!((&plan["left_lineage"], &plan["lineage"]), (&Value::from(1), &Value::from(2)), "{plan}");
        let done = ground.run(["db", "promote", "db", "--yes"]).ok().json();
        let again = ground.run(["db", "promote", "db", "--yes"]).ok().json();
        assert_eq!(again["swapped"]["undo"], done["swapped"]["undo"], "{again}");
        server.start_again();
        assert_eq!(server.sql("select count(*), current_setting('archive_mode') from orders"), "100|on");
        server.sql("insert into orders values ('written in the new history')");
        archived_in(ground, server, 2);

        // The other copy has the number that is taken now.
        let second = ["db", "promote", "db", "--restored", "second", "--yes"];
        ground.run(second).refused(1, "database.lineage-taken");
        let fork = position(plan["left_at"].as_str().expect("a position")).to_string();
        let what = |volume: &str, more: &[&str]| {
            let done = restore(&[&["--to-volume", volume], more].concat());
            let asked = "select count(*), max(what) filter (where what like 'written%') from orders";
            let answer =
                ask_copy(ground, server, volume, done["data_directory"].as_str().expect("a folder"), asked);
            ground.run(["volume", "delete", volume]).ok();
            answer
        };
        assert_eq!(what("old", &["--latest", "--lineage", "1"]), "1|written after the mistake");
        assert_eq!(what("new", &["--latest"]), "101|written in the new history");
        assert_eq!(what("fork", &["--position", &fork, "--lineage", "2"]), "100|");

        // Back to what was there before: its history goes on, and the other one stays.
        stop(server);
        let run = done["swapped"]["undo"].as_str().and_then(|undo| undo.rsplit(' ').next()).expect("a run");
        ground.run(["restore", "undo", run, "--yes"]).ok();
        server.start_again();
        assert_eq!(server.sql("select count(*) from orders"), "1");
        server.sql("insert into orders values ('written later')");
        archived_in(ground, server, 1);
        let plan = ground.run(["db", "restore", "db", "--latest", "--plan"]).ok().json();
        assert_eq!(plan["lineage"], Value::from(1), "{plan}");
        let plan = ground.run(["db", "restore", "db", "--latest", "--lineage", "2", "--plan"]).ok().json();
        assert_eq!(plan["lineage"], Value::from(2), "{plan}");
        let answer = agent.terminate();
        assert!(!answer.stderr.contains("GAP"), "{answer}");
        ground.run(["volume", "delete", "second"]).ok();
    });
}

/// The database's own clock, as the command line takes it.
fn clock(server: &Server) -> String {
    server.sql(r#"select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"#)
}

fn volumes(ground: &Ground) -> Vec<String> {
    let listed = ground.run(["volume", "list"]).ok().json();
    let volumes = listed["volumes"].as_array().expect("volumes");
    volumes.iter().map(|volume| volume["name"].as_str().expect("a name").to_owned()).collect()
}

fn work_folders() -> usize {
    let left = fs::read_dir("/var/tmp").expect("a folder").flatten();
    left.filter(|entry| entry.file_name().to_string_lossy().starts_with("strongroom-db-")).count()
}

#[test]
fn a_copy_is_looked_at_moved_forward_searched_and_dumped_and_nothing_of_it_stays() {
    let test = "a_copy_is_looked_at_moved_forward_searched_and_dumped_and_nothing_of_it_stays";
    on_a_volume(test, "autovacuum = off", "orders (id int, what text)", |ground, server, _, agent| {
        server.sql("insert into orders values (1, 'the first')");
        let first = clock(server);
        for id in 2..20 {
            server.sql(&format!("insert into orders values ({id}, 'before')"));
        }
        let before = clock(server);
        let mistake = server.sql("with gone as (delete from orders where id = 1 returning 1) select min(pg_current_xact_id()::text) from gone");
        for id in 20..40 {
            server.sql(&format!("insert into orders values ({id}, 'behind')"));
        }
        // Behind the last commit, on a database in which nothing is committed any more.
        let idle = clock(server);
        // What the log says of a time is sure a second later: however slow this machine is, this says enough of that one.
        server.sql("select pg_sleep(1.2)");
        server.sql("checkpoint");
        archived_in(ground, server, 1);

        let look = |more: &[&str]| ground.run([&["db", "restore", "db"], more].concat());
        let count = "select count(*) from orders";
        let seen =
            look(&["--at", &first, "--sql", count, "--advance", &before, "--advance", &idle]).ok().json();
        let answers: Vec<_> =
            seen["seen"].as_array().expect("answers").iter().map(|seen| seen["answer"].clone()).collect();
        assert_eq!(answers, ["1", "19", "38"], "{seen}");
        look(&["--at", &before, "--sql", count, "--advance", &first]).refused(1, "database.backwards");
        look(&["--at", "2026-10-25 02:30:00 Europe/Berlin", "--plan"]).refused(1, "time.ambiguous");

        let found =
            look(&["--bisect", "select count(*) from orders where id = 1", "--from", &first]).ok().json();
        assert_eq!(found["first_not"]["transaction"], Value::from(mistake.as_str()), "{found}");
        assert!(found["steps"].as_u64().is_some_and(|steps| steps <= 8), "{found}");
        look(&["--bisect", "select false"]).refused(1, "database.never-held");

        let dumped =
            ground.run(["db", "dump", "db", "--transaction", &mistake, "--table", "public.orders"]).ok();
        assert!(dumped.stdout.contains("1\tthe first\n") && !dumped.stdout.contains("behind"), "{dumped}");

        let file = ground.path("orders.sql");
        let line = ["db", "dump", "db", "--transaction", &mistake, "--table", "public.orders", "--to-file"];
        ground.run(line.into_iter().chain([text(&file)])).ok();
        // Each dump has a key of its own, so that nothing in it is taken for a command of psql.
        let lines = |dump: &str| -> Vec<String> {
            dump.lines().filter(|line| !line.contains("restrict ")).map(str::to_owned).collect()
        };
        assert_eq!(lines(&fs::read_to_string(&file).expect("the dump")), lines(&dumped.stdout));

        // A copy that was looked at stays when it is wanted, as a clone.
        let kept =
            look(&["--transaction", &mistake, "--sql", count, "--keep", "--to-volume", "kept"]).ok().json();
        assert_eq!((&kept["seen"][0]["answer"], &kept["kept"]), (&Value::from("19"), &Value::from("kept")));
        let data = kept["data_directory"].as_str().expect("where it is");
        assert_eq!(ask_copy(ground, server, "kept", data, count), "19");
        ground.run(["volume", "delete", "kept"]).ok();

        // A person at a terminal: the copy, a step forward, a step that is none, and away.
        let typed = ground.path("typed");
        let (ask, forward) = ("select 'rows=' || count(*) from orders;\n\\q\n", "+1h\n");
        fs::write(&typed, format!("{ask}yesterday soon\n{forward}{ask}q\n")).expect("a file");
        let shell = ["db", "restore", "db", "--transaction", &mistake, "--shell"];
        let said = ground.call(shell).at_a_terminal(&typed).run().ok();
        assert!(said.stdout.contains("rows=19"), "{said}");
        assert!(said.stdout.contains("database.step") || said.stdout.contains("is no step"), "{said}");

        ground.run(["db", "clone", "db", "--to-volume", "look"]).ok();
        ground
            .run(["db", "promote", "db", "--restored", "look", "--yes", "--no-remount"])
            .refused(1, "database.volume-in-use");
        assert_eq!(ask_copy(ground, server, "look", "/data", count), "38");
        stop(server);
        ground
            .run(["db", "promote", "db", "--restored", "look", "--yes"])
            .refused(1, "database.copy-is-clone");
        server.start_again();
        ground.run(["volume", "delete", "look"]).ok();

        // Killed while its copy is asked: the next one puts away server, mount, volume and folder.
        let killed =
            ground.call(["db", "restore", "db", "--latest", "--sql", "select pg_sleep(600)"]).start();
        wait_until("a server", || killed.stderr().contains("the next commit"));
        thread::sleep(Duration::from_millis(500));
        killed.kill();
        assert_eq!((volumes(ground).len(), work_folders()), (2, 1), "it left something");
        assert_eq!(look(&["--latest", "--sql", count]).ok().json()["seen"][0]["answer"], Value::from("38"));
        assert_eq!((volumes(ground), work_folders()), (vec!["db".to_owned()], 0));
        // Told to end, it clears away by itself.
        let told = ground.call(["db", "restore", "db", "--latest", "--sql", "select pg_sleep(600)"]).start();
        wait_until("a server", || told.stderr().contains("the next commit"));
        let answer = told.terminate();
        assert_ne!(answer.code, Some(0), "{answer}");
        assert_eq!((volumes(ground), work_folders()), (vec!["db".to_owned()], 0));
        agent.terminate();
    });
}
