//! When the store does not answer: no commit waits, the spool holds the log up to its budget, the server keeps no more than it may,
//! and what is said of how much could be lost stays true.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::server::Server;
use super::{config_without_driver, database, is_streaming, listed, on_a_volume, position, wait_until};
use crate::ground::{Ground, text};
use crate::s3;

/// How long the store is away. By hand: 120.
fn outage() -> Duration {
    let seconds = std::env::var("STRONGROOM_OUTAGE_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(20))
}

/// A line to a server that can be cut: then whoever calls is hung up on.
struct Line {
    address: String,
    is_cut: Arc<AtomicBool>,
    is_over: Arc<AtomicBool>,
    listening: Option<JoinHandle<()>>,
}

impl Line {
    fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port of loopback");
        let address = listener.local_addr().expect("its address").to_string();
        let (is_cut, is_over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (server, cut, over) = (server.to_owned(), Arc::clone(&is_cut), Arc::clone(&is_over));
        let listening = thread::spawn(move || {
            for caller in listener.incoming().flatten() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let Some(called) =
                    (!cut.load(Ordering::Relaxed)).then(|| TcpStream::connect(&server).ok()).flatten()
                else {
                    continue;
                };
                for (from, to) in [(&caller, &called), (&called, &caller)] {
                    let (from, to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
                    let cut = Arc::clone(&cut);
                    thread::spawn(move || carry(from, to, &cut));
                }
            }
        });
        Self { address, is_cut, is_over, listening: Some(listening) }
    }

    fn set_cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::Relaxed);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.set_cut(true);
        self.is_over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(&self.address);
        if let Some(listening) = self.listening.take() {
            let _ = listening.join();
        }
    }
}

/// Until either side ends, or the line is cut.
fn carry(mut from: TcpStream, mut to: TcpStream, cut: &AtomicBool) {
    let _ = from.set_read_timeout(Some(Duration::from_millis(100)));
    let mut buffer = [0; 64 << 10];
    while !cut.load(Ordering::Relaxed) {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) if to.write_all(&buffer[..count]).is_ok() => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            _ => break,
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// One of the agent's figures for the database.
pub(super) fn figure(address: &str, name: &str) -> Option<f64> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).ok()?;
    let line = page.lines().find_map(|line| line.strip_prefix(&format!("{name}{{database=\"shop\"}} ")))?;
    line.trim().parse().ok()
}

#[test]
fn while_the_store_is_away_no_commit_waits_and_then_the_log_catches_up() {
    let test = "while_the_store_is_away_no_commit_waits_and_then_the_log_catches_up";
    let (Some(mut ground), Some(store)) = (Ground::on_s3(test), s3::server(test)) else { return };
    let Some(server) = Server::start("") else { return };
    let line = Line::to(store.endpoint().trim_start_matches("http://"));
    ground.set_env("AWS_ENDPOINT_URL", &format!("http://{}", line.address));
    ground.init();
    let config = config_without_driver(&ground, &server);
    let agent = ground.call(["agent", "--config", text(&config), "--metrics-listen", "127.0.0.1:0"]).start();
    wait_until("the stream", || is_streaming(&server));
    let said = agent.stderr();
    let address = said.split_once("metrics at http://").expect("it says where").1;
    let address = address.split('/').next().expect("an address").to_owned();
    let socket = text(server.socket()).to_owned();
    let port = server.port.to_string();
    let host = ["-h", &socket, "-p", &port, "-U", "postgres"];
    server.run("pgbench", &[&host[..], &["-i", "-s", "2", "-q", "postgres"]].concat());
    wait_until("the log", || figure(&address, "strongroom_database_unarchived_bytes") == Some(0.0));

    let seconds = (outage() + Duration::from_secs(10)).as_secs().to_string();
    let log = server.socket().join("commits");
    let bench = ["-T", &seconds, "-c", "4", "-R", "200", "-n", "-l", "--log-prefix", text(&log), "postgres"];
    let mut load = server.command("pgbench").args(host).args(bench).spawn().expect("pgbench starts");
    thread::sleep(Duration::from_secs(5));
    line.set_cut(true);
    let since = Instant::now();
    let (mut worst_here, mut worst_spool, mut told) = (0.0_f64, 0.0_f64, 0.0_f64);
    while since.elapsed() < outage() {
        thread::sleep(Duration::from_secs(1));
        let now = |name: &str| figure(&address, name).expect("the agent answers");
        worst_here = worst_here.max(now("strongroom_database_rpo_seconds"));
        worst_spool = worst_spool.max(now("strongroom_database_spool_bytes"));
        let age = now("strongroom_database_archived_rpo_seconds");
        // The bundle that was being filled when the line was cut is at most ten seconds old.
        assert!(age + 2.0 >= since.elapsed().as_secs_f64(), "{age} seconds after {:?}", since.elapsed());
        told = told.max(age);
        assert!(now("strongroom_database_streaming") > 0.5, "the log comes in all the time");
    }
    line.set_cut(false);
    let back = Instant::now();
    wait_until("the log to catch up", || {
        figure(&address, "strongroom_database_archived_rpo_seconds").is_some_and(|age| age < 15.0)
    });
    let caught_up = back.elapsed();
    assert!(load.wait().expect("pgbench ends").success());
    let budget = figure(&address, "strongroom_database_spool_budget_bytes").expect("a budget");
    assert!(worst_spool <= budget, "{worst_spool} of {budget}");
    assert!(worst_here < 5.0, "the log was on this machine's disk all the time: {worst_here}");

    // Every transaction's latency, in microseconds, is the third figure of its line.
    let mut latencies: Vec<u64> = Vec::new();
    for entry in fs::read_dir(server.socket()).expect("its folder").flatten() {
        if entry.file_name().to_string_lossy().starts_with("commits.") {
            let lines = fs::read_to_string(entry.path()).expect("a log");
            latencies.extend(lines.lines().filter_map(|line| line.split(' ').nth(2)?.parse::<u64>().ok()));
        }
    }
    latencies.sort_unstable();
    let slowest = Duration::from_micros(*latencies.last().expect("transactions"));
    let median = Duration::from_micros(latencies[latencies.len() / 2]);
    eprintln!(
        "{} commits, median {median:?}, slowest {slowest:?}; the store was away for {:?}; told RPO up to {told:.0} s here {worst_here:.1} s; \
         spool {worst_spool} bytes; caught up in {caught_up:?}",
        latencies.len(),
        outage(),
    );
    // What waits for a store waits for all of its absence.
    assert!(slowest < outage() / 2, "{slowest:?}");

    let end = position(&server.sql("select pg_current_wal_flush_lsn()"));
    wait_until("the last bundle", || {
        position(listed(&ground)["log_end"].as_str().expect("a position")) >= end
    });
    let answer = agent.terminate();
    assert_eq!(answer.code, Some(0), "{answer}");
    assert!(!answer.stderr.contains("GAP"), "{answer}");
    ground.run(["repository", "check", "--read-data"]).ok();
}

/// All that is in a repository's folder goes, and files are in its way: whoever has the folder open finds nothing either, and can store
/// nothing. Answers what came from where.
fn take_away(folder: &Path) -> Vec<(PathBuf, PathBuf)> {
    let away = folder.with_extension("away");
    fs::create_dir(&away).expect("a folder beside it");
    let mut taken = Vec::new();
    for entry in fs::read_dir(folder).expect("the repository").flatten() {
        let to = away.join(entry.file_name());
        fs::rename(entry.path(), &to).expect("it goes");
        fs::write(entry.path(), "in the way").expect("nothing can be stored");
        taken.push((entry.path(), to));
    }
    taken
}

/// What a server's log takes of its disk.
fn log_on_disk(server: &Server) -> u64 {
    let files = fs::read_dir(server.data().join("pg_wal")).expect("its log").flatten();
    files.filter_map(|file| file.metadata().ok()).filter(fs::Metadata::is_file).map(|file| file.len()).sum()
}

#[test]
fn a_store_that_stays_away_fills_neither_disk_and_the_gap_is_healed_when_it_is_back() {
    let test = "a_store_that_stays_away_fills_neither_disk_and_the_gap_is_healed_when_it_is_back";
    let settings = "wal_keep_size = 0\nmax_wal_size = '64MB'\nmin_wal_size = '32MB'";
    on_a_volume(test, settings, "marks (id int primary key)", |ground, server, config, agent| {
        agent.terminate();
        let small = format!("{}spool = \"64MiB\"\nheld = \"64MiB\"\n", database(server));
        fs::write(
            config,
            fs::read_to_string(config).expect("it is there").replace(&database(server), &small),
        )
        .expect("it can be written");
        let agent = ground.call(["agent", "--config", text(config)]).start();
        wait_until("the stream", || is_streaming(server));
        let folder = ground.repository().strip_prefix("file://").expect("a folder").to_owned();
        let taken = take_away(Path::new(&folder));

        // The log grows, and nothing else; by what nobody can make smaller.
        let write = || {
            server.sql(
                "select count(pg_logical_emit_message(false, 'load', noise)) from (
                    select string_agg(sha512(random()::text::bytea), ''::bytea) noise
                    from generate_series(1, 8) block, generate_series(1, 16000) group by block
                ) blocks",
            );
            // The volume has room for what comes between two looks of the guard.
            thread::sleep(Duration::from_millis(300));
        };
        server.sql("insert into marks values (1)");
        let since = Instant::now();
        while !agent.stderr().contains("as much of its log for us as it may") {
            let held = || {
                server.sql(
                    "select pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) from pg_replication_slots",
                )
            };
            assert!(since.elapsed() < Duration::from_secs(180), "{} bytes: {}", held(), agent.stderr());
            write();
        }
        assert!(agent.stderr().contains("keeps much of its log"), "the alarm comes before");
        let held = log_on_disk(server);
        for _ in 0..20 {
            write();
        }
        server.sql("insert into marks values (2); checkpoint");
        wait_until("the log to shrink", || {
            server.sql("checkpoint");
            log_on_disk(server) <= held.max(192 << 20)
        });
        let spool = agent_spool_bytes(&ground.path("agent-state"));
        // A file is freed as a whole, and what was on the way when it filled up is still taken.
        assert!(spool <= 72 << 20, "{spool} bytes in the spool");

        for (here, away) in taken {
            fs::remove_file(&here).expect("it is ours");
            fs::rename(&away, &here).expect("it comes back");
        }
        let since = Instant::now();
        while listed(ground)["windows"].as_array().is_none_or(|windows| windows.len() != 2) {
            assert!(since.elapsed() < Duration::from_secs(120), "{}: {}", listed(ground), agent.stderr());
            thread::sleep(Duration::from_secs(1));
        }
        let log = listed(ground);
        assert!(log["windows"][1]["gap_before"].is_object(), "{log}");
        // All that was received before is stored: the first mark is in the first window, the second is lost until the new base.
        let first = &log["windows"][0]["latest"]["position"];
        let stored = position(first.as_str().expect("a position"));
        let began = position(log["windows"][0]["earliest"]["position"].as_str().expect("a position"));
        assert!(stored.since(began) > 60 << 20, "{log}");
        let answer = agent.terminate();
        assert!(answer.stderr.contains("GAP"), "{answer}");
    });
}

fn agent_spool_bytes(state: &Path) -> u64 {
    let logs = fs::read_dir(state.join("databases/shop")).expect("its spools").flatten();
    let files = logs.flat_map(|log| fs::read_dir(log.path()).expect("a spool").flatten().collect::<Vec<_>>());
    files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

/// All bundles of a repository in a folder, oldest first.
fn bundles(ground: &Ground) -> Vec<PathBuf> {
    let folder = ground.repository().strip_prefix("file://").expect("a folder").to_owned();
    let (mut found, mut folders) = (Vec::new(), vec![PathBuf::from(format!("{folder}/logs"))]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the logs").flatten() {
            let of = entry.metadata().expect("what it is");
            if of.is_dir() {
                folders.push(entry.path());
            } else {
                found.push((of.modified().expect("when it was written"), entry.path()));
            }
        }
    }
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

/// Writes a row, and answers when it was all archived, with the bundle that has it.
fn mark(ground: &Ground, server: &Server, number: u32) -> (String, PathBuf) {
    server.sql(&format!("insert into marks values ({number})"));
    let end = position(&server.sql("select pg_current_wal_flush_lsn()"));
    wait_until("the log", || position(listed(ground)["log_end"].as_str().expect("a position")) >= end);
    let now = "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
    (server.sql(now), bundles(ground).pop().expect("bundles"))
}

#[test]
fn a_lost_part_of_the_log_is_fetched_again_or_splits_the_window_and_plans_go_round_it() {
    let test = "a_lost_part_of_the_log_is_fetched_again_or_splits_the_window_and_plans_go_round_it";
    let settings = "autovacuum = off\nwal_keep_size = 0\nmax_wal_size = '64MB'\nmin_wal_size = '32MB'";
    on_a_volume(test, settings, "marks (id int primary key)", |ground, server, config, agent| {
        let line = ["agent", "--config", text(config)];
        let plan = |at: &str| ground.run(["db", "restore", "db", "--at", at, "--plan"]);
        let noticed = "a part of a database's log is lost";
        let mut agent = agent;
        mark(ground, server, 1);
        let (within, lost) = mark(ground, server, 2);
        mark(ground, server, 3);
        // It stops properly, and says which bundles there are.
        agent.terminate();
        fs::remove_file(&lost).expect("a bundle is lost");

        // What the server still has is fetched again.
        agent = ground.call(line).start();
        wait_until("the loss to be noticed", || agent.stderr().contains(noticed));
        wait_until("the lost part", || plan(&within).code == Some(0));
        assert_eq!(listed(ground)["windows"].as_array().map(Vec::len), Some(1), "{}", listed(ground));

        // What it has not is a hole.
        let (before, _) = mark(ground, server, 4);
        // What is not behind a hole is proved by the commit that comes next.
        mark(ground, server, 5);
        let (within, lost) = mark(ground, server, 6);
        for number in 7..11 {
            mark(ground, server, number);
            server.sql("select pg_switch_wal()");
            server.sql("checkpoint");
        }
        agent.terminate();
        fs::remove_file(&lost).expect("another is lost");
        agent = ground.call(line).start();
        let since = Instant::now();
        while listed(ground)["windows"].as_array().is_none_or(|windows| windows.len() != 2) {
            assert!(since.elapsed() < Duration::from_secs(180), "{}: {}", listed(ground), agent.stderr());
            thread::sleep(Duration::from_secs(1));
        }
        assert!(agent.stderr().contains(noticed), "{}", agent.stderr());
        let log = listed(ground);
        assert!(log["problems"].as_array().is_some_and(|problems| !problems.is_empty()), "{log}");
        assert_eq!(ground.run(["status", "--config", text(config)]).code, Some(1), "a lost part is red");
        plan(&before).ok();
        let refused = plan(&within);
        assert_ne!(refused.code, Some(0), "{refused}");
        assert!(refused.stderr.contains("database.in-gap"), "{refused}");
        mark(ground, server, 11);
        let latest = ground.run(["db", "restore", "db", "--latest", "--plan"]).ok().json();
        let base = position(latest["base"]["end"].as_str().expect("a position"));
        assert!(
            base >= position(log["windows"][1]["earliest"]["position"].as_str().expect("one")),
            "{latest}"
        );

        // One that is there and spoiled is noticed by whoever reads it.
        let (within, spoiled) = mark(ground, server, 12);
        mark(ground, server, 13);
        agent.terminate();
        plan(&within).ok();
        let mut bytes = fs::read(&spoiled).expect("a bundle");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&spoiled, bytes).expect("it can be spoiled");
        assert_eq!(ground.run(["repository", "check", "--read-data"]).code, Some(3), "it is damage");
        assert_ne!(plan(&within).code, Some(0), "the plan knows");
    });
}
