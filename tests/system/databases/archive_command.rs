//! PostgreSQL whose log is handed over by its `archive_command`, as nobody may replicate: the same windows and restores, a segment
//! later; and the log given back to a server of the user's own by `restore_command`.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::process::Command;

use strongroom_database::postgres::history_name;

use super::*;
use crate::call::binary;

/// Makes the server hand over its log, by a role that may nothing.
fn hand_over(server: &Server) -> PathBuf {
    let folder = server.socket().join("wal");
    fs::create_dir(&folder).expect("a folder");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("it is ours");
    if let Ok(of) = fs::metadata(server.data()) {
        chown(&folder, Some(of.uid()), Some(of.gid())).expect("it is the server's");
    }
    server.sql("alter role strongroom noreplication");
    server.sql("grant pg_checkpoint to strongroom");
    server.sql("grant execute on function pg_switch_wal() to strongroom");
    command(server, &format!("{} db archive-wal %p --to {}", binary().display(), folder.display()));
    folder
}

fn command(server: &Server, command: &str) {
    server.sql(&format!("alter system set archive_command = '{command}'"));
    server.sql("select pg_reload_conf()");
}

fn settings(server: &Server, folder: &Path) -> String {
    format!("{}log = \"archive_command\"\nhandover = \"{}\"\n", database(server), folder.display())
}

/// What a person calls to hand over a file, as the server does.
fn archive(ground: &Ground, path: &Path, folder: &Path) -> crate::answer::Answer {
    ground.run(["db", "archive-wal", text(path), "--to", text(folder)])
}

fn log_end(ground: &Ground) -> Position {
    listed(ground)["log_end"].as_str().map(position).unwrap_or_default()
}

/// Ends the segment, and answers where the next begins.
fn switch(server: &Server) -> Position {
    server.sql("insert into orders (what) values ('the last of its segment')");
    let end = position(&server.sql("select pg_switch_wal()"));
    end.plus(SEGMENT as u64 - 1).segment_start(SEGMENT as u64)
}

/// Files that wait until they are handed over.
fn ready(server: &Server) -> usize {
    let files = fs::read_dir(server.data().join("pg_wal/archive_status")).expect("its folder").flatten();
    files.filter(|file| file.file_name().to_string_lossy().ends_with(".ready")).count()
}

#[test]
fn segments_that_archive_command_hands_over_restore_to_any_transaction_and_are_given_to_a_standby() {
    let test =
        "segments_that_archive_command_hands_over_restore_to_any_transaction_and_are_given_to_a_standby";
    if !is_root(test) {
        return;
    }
    let mut ground = Ground::new();
    ground.init();
    ground.start_driver("3GiB");
    let mount = ground.mounted_volume("db", "768MiB");
    let with = "archive_mode = on\narchive_command = ''\nautovacuum = off\nmax_wal_size = '128MB'\nwal_keep_size = '96MB'";
    if let Some(server) = Server::start_on(Some(&mount), with) {
        server.sql("create table orders (id bigserial primary key, what text)");
        let folder = hand_over(&server);
        let config = ground.config(&settings(&server, &folder));
        let line = ["agent", "--config", text(&config)];
        let agent = ground.call(line).args(["--metrics-listen", "127.0.0.1:0"]).start();
        let since = Instant::now();
        while listed(&ground)["windows"].as_array().is_none_or(|windows| windows.len() != 1) {
            assert!(since.elapsed() < Duration::from_secs(120), "{}: {}", listed(&ground), agent.stderr());
            thread::sleep(Duration::from_millis(200));
        }
        assert_eq!(server.sql("select count(*) from pg_replication_slots"), "0");

        // A commit is in the window once its segment is: not before, and that is what is said.
        server.sql("insert into orders (what) select md5(i::text) from generate_series(1, 1000) i");
        let mistake = server.sql(
            "with gone as (delete from orders returning 1) select min(pg_current_xact_id()::text) from gone",
        );
        let written = position(&server.sql("select pg_current_wal_flush_lsn()"));
        thread::sleep(Duration::from_secs(6));
        let log = listed(&ground);
        assert!(log_end(&ground) < written, "{log}");
        assert!(log["rpo_now_seconds"].as_u64().is_some_and(|seconds| seconds >= 5), "{log}");
        server.sql("select pg_switch_wal()");
        wait_until("the segment", || log_end(&ground) >= written);
        // Nothing is committed any more: what the server writes by itself does not make it look stuck.
        server.sql("checkpoint");
        thread::sleep(Duration::from_secs(11));
        let said = agent.stderr();
        let address = said.split_once("metrics at http://").expect("it says where").1;
        let address = address.split('/').next().expect("an address");
        let age = outage::figure(address, "strongroom_database_rpo_seconds").expect("the agent answers");
        assert!(age < 8.0, "{age} seconds on a quiet server");

        let line_of = ["db", "restore", "db", "--transaction", &mistake, "--to-volume", "back", "--yes"];
        let done = ground.run(line_of).ok().json();
        let back = ground.path("mnt-back");
        fs::create_dir_all(&back).expect("a mount point can be made");
        ground.run(["volume", "mount", "back", text(&back)]).ok();
        let data = done["data_directory"].as_str().expect("where it is").trim_start_matches('/').to_owned();
        assert_eq!(ask_restored(&server, &back.join(data), "select count(*) from orders"), "1000", "{done}");
        unmount(&ground, "back");

        a_standby_is_fed(&ground, &server);

        // One segment goes elsewhere, and is recycled: that is a gap, which heals by itself.
        wait_until("all of it", || ready(&server) == 0);
        command(&server, "/bin/true");
        server.sql("select pg_sleep(0.5)");
        let lost = switch(&server);
        wait_until("the lost segment", || ready(&server) == 0);
        command(&server, &format!("{} db archive-wal %p --to {}", binary().display(), folder.display()));
        server.sql("select pg_sleep(0.5)");
        switch(&server);
        let since = Instant::now();
        while listed(&ground)["windows"].as_array().is_none_or(|windows| windows.len() != 2) {
            assert!(since.elapsed() < Duration::from_secs(150), "{}: {}", listed(&ground), agent.stderr());
            thread::sleep(Duration::from_millis(500));
        }
        let log = listed(&ground);
        assert!(log["windows"][1]["gap_before"].is_object(), "{log}");
        let first = position(log["windows"][0]["latest"]["position"].as_str().expect("a position"));
        assert!(first < lost, "{log}");
        let answer = agent.terminate();
        assert!(answer.stderr.contains("GAP"), "{answer}");
        assert!(answer.stderr.contains("it was not handed over"), "{answer}");
        drop(server);
    }
    unmount(&ground, "db");
    ground.stop_driver();
    ground.assert_nothing_leaks();
}

/// A copy of the data folder as it is after a crash, started as a standby that has nothing but the archive to go on with.
fn a_standby_is_fed(ground: &Ground, server: &Server) {
    let wal = |number: u32| {
        server.sql(&format!("insert into orders (what) values ('for the standby {number}')"));
        let end = switch(server);
        wait_until("the segment for the standby", || log_end(ground) >= end);
    };
    let standby = server.socket().join("standby");
    server.kill();
    let copied = Command::new("cp").arg("-a").arg(server.data()).arg(&standby).status();
    assert!(copied.is_ok_and(|copied| copied.success()));
    server.start_again();
    wal(1);
    let repository = PathBuf::from(ground.repository().strip_prefix("file://").expect("a folder"));
    let (copied, key) = (server.socket().join("repository"), server.socket().join("key"));
    // The standby's user may read neither, here.
    let for_it = || {
        let _ = fs::remove_dir_all(&copied);
        let _ = fs::remove_file(&key);
        let of = fs::metadata(server.data()).expect("its owner");
        for (from, to) in [(repository.as_path(), &copied), (ground.key().as_path(), &key)] {
            let done = Command::new("cp").arg("-a").arg(from).arg(to).status();
            assert!(done.is_ok_and(|done| done.success()));
            let owner = format!("{}:{}", of.uid(), of.gid());
            let done = Command::new("chown").arg("-R").arg(owner).arg(to).status();
            assert!(done.is_ok_and(|done| done.success()));
        }
    };
    for_it();
    let fetch = format!(
        "{} db fetch-wal db %f %p --repository {} --key-file {}",
        binary().display(),
        text(&copied),
        text(&key)
    );
    let more = format!(
        "port = 5998\narchive_mode = off\nrestore_command = '{fetch}'\nunix_socket_directories = '{}'\nlisten_addresses = ''\n",
        text(server.socket())
    );
    let auto = standby.join("postgresql.auto.conf");
    let had = fs::read_to_string(&auto).expect("its settings");
    fs::write(&auto, format!("{had}{more}")).expect("they can be written");
    let _ = fs::remove_file(standby.join("postmaster.pid"));
    fs::write(standby.join("standby.signal"), "").expect("it is a standby");
    let log = server.socket().join("standby.log");
    let start = || server.run("pg_ctl", &["-D", text(&standby), "-l", text(&log), "-w", "-t", "60", "start"]);
    let stop = || server.run("pg_ctl", &["-D", text(&standby), "-m", "fast", "-w", "stop"]);
    start();
    let asked = |sql: &str| {
        let line = [
            "-h",
            text(server.socket()),
            "-p",
            "5998",
            "-U",
            "postgres",
            "-X",
            "-A",
            "-t",
            "-q",
            "-c",
            sql,
            "postgres",
        ];
        let answer = server.command("psql").args(line).output().expect("psql starts");
        String::from_utf8_lossy(&answer.stdout).trim().to_owned()
    };
    let has = |number: u32| {
        asked(&format!("select count(*) from orders where what = 'for the standby {number}'")) == "1"
    };
    let waits_for = |number: u32| {
        let since = Instant::now();
        while !has(number) && since.elapsed() < Duration::from_secs(60) {
            thread::sleep(Duration::from_millis(200));
        }
        has(number)
    };
    let first = waits_for(1);
    stop();
    wal(2);
    for_it();
    start();
    let second = waits_for(2);
    let is_standby = asked("select pg_is_in_recovery()");
    stop();
    let said = fs::read_to_string(&log).unwrap_or_default();
    assert_eq!((first, second, is_standby.as_str()), (true, true, "t"), "{said}");

    // What is not archived is no error to a standby; what cannot be known stops a recovery.
    let line = |name: &str, repository: &str| {
        ground
            .call([
                "db",
                "fetch-wal",
                "db",
                name,
                text(&server.socket().join("fetched")),
                "--repository",
                repository,
            ])
            .run()
    };
    line("0000000100000FFF00000001", ground.repository()).refused(1, "fetch-wal.not-there");
    line("00000009.history", ground.repository()).refused(1, "fetch-wal.not-there");
    let away = line("0000000100000FFF00000001", "file:///nowhere/at/all");
    assert_eq!(away.code, Some(200), "{away}");
}

#[test]
fn segments_out_of_order_twice_or_of_another_server_never_mix_and_a_timeline_goes_on_where_it_forks() {
    let ground = Ground::new();
    let with = "archive_mode = on\narchive_command = ''\nautovacuum = off";
    let Some(server) = Server::start(with) else { return };
    ground.init();
    let folder = hand_over(&server);
    server.sql("create table orders (id bigserial primary key, what text)");
    let path = ground.config(&settings(&server, &folder));
    let config = fs::read_to_string(&path).expect("it was written");
    let driver = format!("[driver]\nendpoint = \"{}\"\n", ground.endpoint());
    fs::write(&path, config.replace(&driver, "")).expect("it can be written");
    let line = ["agent", "--config", text(&path)];

    // Nobody takes it: PostgreSQL keeps it.
    let pg_wal = server.data().join("pg_wal");
    let first = pg_wal.join(server.sql("select pg_walfile_name(pg_switch_wal())"));
    archive(&ground, &first, &folder).refused(5, "handover.no-agent");
    wait_until("the server to say so", || server.sql("select failed_count > 0 from pg_stat_archiver") == "t");

    let agent = ground.call(line).start();
    let end = switch(&server);
    wait_until("what was kept", || log_end(&ground) >= end);
    wait_until("nothing to be left", || ready(&server) == 0);

    // Handed over in another order than it was written, by whoever.
    command(&server, "/bin/false");
    server.sql("select pg_sleep(0.5)");
    let begins = end;
    let names: Vec<String> = (0..3)
        .map(|number| segment_name(LineageId(1), begins.plus(number * SEGMENT as u64), SEGMENT as u64))
        .collect();
    switch(&server);
    switch(&server);
    let last = switch(&server);
    for name in names.iter().rev().take(2) {
        archive(&ground, &pg_wal.join(name), &folder).ok();
    }
    thread::sleep(Duration::from_secs(1));
    assert!(log_end(&ground) <= begins, "they are held back");
    assert_eq!(archive(&ground, &pg_wal.join(&names[2]), &folder).ok().json()["outcome"], "known");
    archive(&ground, &pg_wal.join(&names[0]), &folder).ok();
    wait_until("all three", || log_end(&ground) >= last);
    assert!(!folder.join(&names[2]).exists(), "what was taken is gone");
    assert_eq!(archive(&ground, &pg_wal.join(&names[1]), &folder).ok().json()["outcome"], "known");

    // What has the name of another is refused: before it is taken, and behind.
    let forged = server.socket().join(&names[1]);
    let mut bytes = fs::read(pg_wal.join(&names[1])).expect("a segment");
    bytes[SEGMENT / 2] ^= 1;
    fs::write(&forged, &bytes).expect("it can be written");
    archive(&ground, &forged, &folder).refused(3, "handover.differs");
    bytes[24] ^= 1;
    fs::write(&forged, &bytes).expect("it can be written");
    archive(&ground, &forged, &folder).refused(1, "handover.other-cluster");
    fs::write(&forged, &bytes[..SEGMENT / 2]).expect("it can be written");
    archive(&ground, &forged, &folder).refused(3, "handover.misnamed");
    archive(&ground, &path, &folder).refused(1, "handover.no-name");
    let label = server.socket().join(format!("{}.00000028.backup", names[0]));
    fs::write(&label, "START WAL LOCATION").expect("it can be written");
    assert_eq!(archive(&ground, &label, &folder).ok().json()["outcome"], "not-needed");
    command(&server, &format!("{} db archive-wal %p --to {}", binary().display(), folder.display()));
    switch(&server);
    wait_until("the server's own", || ready(&server) == 0);

    // The agent is killed while much is written: the server keeps what was not taken.
    agent.kill();
    for _ in 0..3 {
        switch(&server);
    }
    let fork = server.sql("select pg_current_wal_flush_lsn()");
    assert!(ready(&server) >= 3, "the server keeps it");
    let agent = ground.call(line).start();

    // The server goes on in another timeline, from within a segment.
    server.sql("insert into orders (what) values ('before the fork')");
    server.run("pg_ctl", &["-D", text(&server.data()), "-m", "fast", "-w", "stop"]);
    fs::write(server.data().join("standby.signal"), "").expect("it is a standby for a moment");
    server.start_again();
    server.run("pg_ctl", &["-D", text(&server.data()), "-w", "promote"]);
    let since = Instant::now();
    let mut end = switch(&server);
    while listed(&ground)["lineage"] != 2 || log_end(&ground) < end {
        assert!(since.elapsed() < Duration::from_secs(150), "{}: {}", listed(&ground), agent.stderr());
        thread::sleep(Duration::from_millis(500));
        if listed(&ground)["lineage"] == 2 && log_end(&ground) < end && ready(&server) == 0 {
            end = end.min(switch(&server));
        }
    }
    let answer = agent.terminate();
    assert_eq!(answer.code, Some(0), "{answer}");
    assert!(!answer.stderr.contains("GAP"), "{answer}");
    let mut logs = archived(&ground);
    logs.sort_by_key(|(timeline, ..)| *timeline);
    assert_eq!(logs.iter().map(|(timeline, ..)| timeline.0).collect::<Vec<_>>(), [1, 2], "after {fork}");
    // Bytes are those of the server: of what the first left in a segment that was not filled, those before the fork.
    let history = fs::read_to_string(pg_wal.join(history_name(LineageId(2)))).expect("how it came about");
    let (_, left) = strongroom_database::postgres::forks(&history)[0];
    let (_, start, first) = &logs[0];
    assert_eq!(start.plus(first.len() as u64), left, "the first timeline is whole");
    let whole = first.len() - first.len() % SEGMENT;
    let mut compared = assert_the_servers_own(&server, &[(LineageId(1), *start, first[..whole].to_vec())]);
    let tail = logs[1].2.get(..first.len() - whole).expect("the segment of the fork");
    assert!(tail == &first[whole..], "what lies before the fork is the same in both");
    compared += assert_the_servers_own(&server, &logs[1..]);
    assert!(compared > 8 * SEGMENT as u64, "{compared} bytes were compared");
    ground.run(["repository", "check", "--read-data"]).ok();
}
