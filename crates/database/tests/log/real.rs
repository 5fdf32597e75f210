//! A real server, and its own reader of logs: both know the same ends of transactions.

use std::collections::BTreeMap;
use std::path::Path;

use strongroom_database::postgres::{Start, Version};
use strongroom_database::{Commit, Entry, Position, Statements, TransactionId};

use crate::server::Server;
use crate::{key, read};

const SEGMENT: u64 = 16 << 20;

/// All of the log that lies in the folder, from the first whole segment on.
fn log(data: &Path, until: u64) -> (u64, Vec<u8>) {
    let mut segments = BTreeMap::new();
    for entry in std::fs::read_dir(data.join("pg_wal")).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if name.len() == 24 {
            let log = u64::from_str_radix(&name[8..16], 16).unwrap();
            let segment = u64::from_str_radix(&name[16..], 16).unwrap();
            let at = (log << 32) + segment * SEGMENT;
            if at < until {
                segments.insert(at, std::fs::read(entry.path()).unwrap());
            }
        }
    }
    let from = *segments.keys().next().unwrap();
    let mut bytes = Vec::new();
    for (at, segment) in segments {
        assert_eq!(at, from + bytes.len() as u64, "a segment is missing");
        bytes.extend(segment);
    }
    bytes.truncate(usize::try_from(until - from).unwrap());
    (from, bytes)
}

/// What `pg_waldump` says of one end of a transaction.
type Line = (String, String, String, String);

/// `rmgr: Transaction len (rec/tot): 34/34, tx: 731, lsn: 0/01509A40, prev …, desc: COMMIT 2026-11-21 20:54:02.123456 UTC; …`
fn waldump(text: &str) -> Vec<Line> {
    let between = |line: &str, from: &str, to: &str| {
        let rest = &line[line.find(from).unwrap() + from.len()..];
        rest[..rest.find(to).unwrap_or(rest.len())].trim().to_owned()
    };
    let mut lines = Vec::new();
    for line in text.lines() {
        let what = between(line, "desc: ", " ");
        let mut transaction = between(line, "tx:", ",");
        let mut rest = between(line, &format!("desc: {what} "), ";");
        match what.as_str() {
            "COMMIT" | "ABORT" => {}
            "COMMIT_PREPARED" | "ABORT_PREPARED" => {
                let (of, at) = rest.split_once(": ").unwrap();
                (transaction, rest) = (of.to_owned(), at.to_owned());
            }
            "PREPARE" => rest = rest.rsplit_once(": ").unwrap().1.to_owned(),
            _ => continue,
        }
        let lsn = between(line, "lsn: ", ",");
        let (upper, lower) = lsn.split_once('/').unwrap();
        let lsn = format!("{upper}/{}", lower.trim_start_matches('0'));
        lines.push((what.replace("_PREPARED", ""), transaction, lsn, rest));
    }
    lines
}

fn ours(entries: &[Entry]) -> Vec<Line> {
    let line = |what: &str, transaction: TransactionId, start: Position, at: jiff::Timestamp| {
        let at = at.strftime("%Y-%m-%d %H:%M:%S%.6f UTC").to_string();
        (what.to_owned(), transaction.to_string(), start.to_string(), at)
    };
    let all = entries.iter().filter_map(|entry| match entry {
        Entry::Commit(commit) => Some(line("COMMIT", commit.transaction, commit.start, commit.at)),
        Entry::RolledBack(ended) => Some(line("ABORT", ended.transaction, ended.start, ended.at)),
        Entry::Prepared(ended) => Some(line("PREPARE", ended.transaction, ended.start, ended.at)),
        _ => None,
    });
    all.collect()
}

/// The commit of the statement that was run between two positions.
fn commits(entries: &[Entry], from: &str, to: &str) -> Vec<Commit> {
    let (from, to): (Position, Position) = (from.parse().unwrap(), to.parse().unwrap());
    let inside = |entry: &&Entry| from <= entry.start() && entry.start() < to;
    let commit = |entry: &Entry| if let Entry::Commit(commit) = entry { Some(*commit) } else { None };
    entries.iter().filter(inside).filter_map(commit).collect()
}

#[test]
fn the_commits_are_those_that_pg_waldump_lists_and_the_statements_those_that_ran() {
    let Some(server) = Server::start("max_prepared_transactions = 10\nautovacuum = off\n") else { return };
    let socket = server.socket().to_str().unwrap().to_owned();
    let port = server.port.to_string();
    let pgbench = |args: &[&str]| {
        let all: Vec<_> =
            ["-h", &socket, "-p", &port, "-U", "postgres"].iter().chain(args).copied().collect();
        server.run("pgbench", &all);
    };
    let position = || server.sql("select pg_current_wal_insert_lsn()");

    pgbench(&["-i", "-q", "-s", "1", "postgres"]);
    pgbench(&["-n", "-c", "4", "-j", "2", "-t", "300", "postgres"]);
    let mut ran = Vec::new();
    let mut run = |what: &'static str, statements: Statements, sql: &str| {
        let from = position();
        server.sql(sql);
        ran.push((what, statements, from, position()));
    };
    run("create", Statements::CREATE, "create table orders (id int primary key, what text)");
    run(
        "many rows",
        Statements::NONE,
        "insert into orders select n, repeat('x', 50) from generate_series(1, 5000) n",
    );
    run(
        "subtransactions",
        Statements::NONE,
        "begin; insert into orders values (9001, 'a'); savepoint one; delete from orders where id <= 700; savepoint two; update orders set what = 'b' where id <= 800; release one; commit",
    );
    run("alter", Statements::ALTER, "alter table orders add column price int");
    run("truncate", Statements::REWRITE, "truncate orders");
    run("drop", Statements::DROP, "drop table orders");
    run("database", Statements::CREATE_DATABASE, "create database other");
    run("drop database", Statements::DROP_DATABASE, "drop database other");
    server.sql("create table kept (id int)");
    server.sql("begin; insert into kept values (1); prepare transaction 'one'");
    server.sql("begin; insert into kept values (2); prepare transaction 'two'");
    server.sql("begin; insert into kept values (3); rollback");
    server.sql("commit prepared 'one'");
    server.sql("rollback prepared 'two'");
    server.sql("select pg_create_restore_point('before the release')");
    server.sql("select pg_switch_wal()");
    server.sql("checkpoint");
    // Many subtransactions, and a record longer than a page.
    server.sql("do $$ begin for n in 1..3000 loop begin insert into kept values (n); exception when others then null; end; end loop; end $$");
    pgbench(&["-n", "-c", "4", "-j", "2", "-t", "200", "postgres"]);

    let until: Position = server.sql("select pg_current_wal_flush_lsn()").parse().unwrap();
    let (from, bytes) = log(&server.data(), until.number());
    let (entries, reader, result) =
        read(Start::Anywhere(Position::new(from)), &bytes, &[65_536], 16 << 20, None);
    assert_eq!(result, Ok(()));
    assert_eq!((reader.version().map(Version::major), reader.whole_to()), (Some(15), until));
    let folder = server.data().join("pg_wal");
    let begins = Position::new(from).to_string();
    let dump = server
        .command("pg_waldump")
        .env("TZ", "UTC")
        .args(["-r", "Transaction", "-p", folder.to_str().unwrap(), "-s", &begins, "-e", &until.to_string()])
        .output()
        .unwrap();
    let theirs = waldump(&String::from_utf8_lossy(&dump.stdout));
    assert!(theirs.len() > 2000, "{}", String::from_utf8_lossy(&dump.stderr));
    assert_eq!(ours(&entries), theirs);

    // In pieces of one byte to some thousands it is the same.
    let first = bytes.len().min(3 << 20);
    let (small, ..) =
        read(Start::Anywhere(Position::new(from)), &bytes[..first], &[1, 3, 8191, 13, 100], 16 << 20, None);
    assert_eq!(small, entries[..small.len()]);
    // And from a place in the middle the rest.
    let middle = bytes.len() / 2;
    let (rest, ..) = read(
        Start::Anywhere(Position::new(from + middle as u64)),
        &bytes[middle..],
        &[10_000],
        16 << 20,
        None,
    );
    let (all, rest): (Vec<_>, Vec<_>) = (entries.iter().map(key).collect(), rest.iter().map(key).collect());
    assert!(rest.len() > 100 && all.ends_with(&rest));

    for (what, statements, from, to) in &ran {
        let found = commits(&entries, from, to);
        let kinds =
            found.iter().map(|commit| commit.changes.statements).fold(Statements::NONE, Statements::and);
        assert_eq!(kinds, *statements, "{what}: {found:?}");
        assert!(found.iter().all(|commit| commit.changes.whole()), "{what}: {found:?}");
    }
    let rows = |what: &str| {
        let (.., from, to) = ran.iter().find(|(one, ..)| *one == what).unwrap();
        let changes = commits(&entries, from, to)[0].changes;
        (changes.inserted, changes.updated, changes.deleted)
    };
    assert_eq!(rows("many rows"), (5000, 0, 0));
    assert_eq!(rows("subtransactions"), (1, 100, 700));
    let named = entries
        .iter()
        .find_map(|entry| if let Entry::Named(point) = entry { Some(point.name.as_str()) } else { None });
    assert_eq!(named, Some("before the release"));
    assert!(
        entries.iter().any(|entry| matches!(entry, Entry::Checkpoint { redo, .. } if redo.number() > from))
    );
}
