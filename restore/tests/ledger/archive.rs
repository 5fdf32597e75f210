//! A small archive in memory: bases that were cut while the server was held, and its log in ranges of odd sizes.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use strongroom_database::postgres::{Start, segments};
use strongroom_database::{
    Base, Catalogue, Commit, CommitIndex, Index, Indexer, Lineage, LineageId, LogRange, NamedPoint, Plan,
    Position, StandsOn,
};
use strongroom_model::RecoveryPointId;
use strongroom_restore::database::{Engine, Recovery};

use crate::server::Server;

const SEGMENT: u64 = 16 << 20;

pub(crate) struct Archive {
    pub(crate) catalogue: Catalogue,
    pub(crate) lineage: LineageId,
    bases: PathBuf,
    bytes: BTreeMap<String, Vec<u8>>,
    indexes: BTreeMap<String, Index>,
}

/// What `pg_waldump` and the server say.
pub(crate) struct Truth {
    pub(crate) commits: Vec<Told>,
    pub(crate) ledger: BTreeSet<u64>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    pub(crate) start: Position,
    pub(crate) at: Timestamp,
    pub(crate) transaction: u64,
}

impl Truth {
    /// Ends the archive's log, and asks `pg_waldump` for the order of all commits.
    pub(crate) fn of(server: &Server, archive: &mut Archive) -> Self {
        let until: Position = server.sql("select pg_current_wal_flush_lsn()").parse().unwrap();
        let heard = now(server);
        archive.take_log(&server.data(), until, heard);
        let folder = server.data().join("pg_wal");
        let from = archive.catalogue.log.iter().map(|range| range.from).min().unwrap();
        let output = server
            .command("pg_waldump")
            .env("TZ", "UTC")
            .args([
                "-r",
                "Transaction",
                "-p",
                folder.to_str().unwrap(),
                "-s",
                &from.to_string(),
                "-e",
                &until.to_string(),
            ])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let commits = text.lines().filter(|line| line.contains("desc: COMMIT ")).map(|line| {
            let after = |mark: &str| line.split_once(mark).unwrap().1.trim_start();
            let word = |text: &str, end: char| text.split(end).next().unwrap().to_owned();
            let at = word(after("desc: COMMIT "), ';').trim_end_matches(" UTC").replace(' ', "T");
            Told {
                start: word(after("lsn: "), ',').parse().unwrap(),
                at: format!("{at}Z").parse().unwrap(),
                transaction: word(after("tx:"), ',').parse().unwrap(),
            }
        });
        let commits = commits.collect();
        let ledger =
            server.sql("select xmin from ledger").lines().map(|line| line.parse().unwrap()).collect();
        Self { commits, ledger }
    }

    /// The rows of the longest part of the log without a later commit.
    pub(crate) fn until(&self, time: Timestamp) -> BTreeSet<u64> {
        let before = self.commits.iter().take_while(|commit| commit.at <= time);
        before.map(|commit| commit.transaction).filter(|one| self.ledger.contains(one)).collect()
    }

    pub(crate) fn before(&self, position: Position) -> BTreeSet<u64> {
        let before = self.commits.iter().filter(|commit| commit.start < position);
        before.map(|commit| commit.transaction).filter(|one| self.ledger.contains(one)).collect()
    }
}

fn now(server: &Server) -> Timestamp {
    let micros: i64 =
        server.sql("select (extract(epoch from clock_timestamp()) * 1000000)::bigint").parse().unwrap();
    Timestamp::from_microsecond(micros).unwrap()
}

/// Ends what writes, even when the test fails.
struct Writers(Vec<Child>);

impl Drop for Writers {
    fn drop(&mut self) {
        for writer in &mut self.0 {
            let _ = writer.kill();
            let _ = writer.wait();
        }
    }
}

/// Lets writers write, and cuts bases under them.
pub(crate) fn fill(server: &Server, archive: &mut Archive, folder: &Path) {
    let socket = server.socket().to_str().unwrap().to_owned();
    let port = server.port.to_string();
    let common = ["-h", &socket, "-p", &port, "-U", "postgres"];
    let quiet: Vec<_> = common.iter().chain(&["-i", "-q", "-s", "1", "postgres"]).copied().collect();
    server.run("pgbench", &quiet);
    server.sql(
        "create table ledger (id bigserial primary key, at timestamptz default clock_timestamp(), note text)",
    );
    let script = server.socket().join("ledger.sql");
    fs::write(&script, "insert into ledger (note) values (repeat('x', 40));\n").unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let spawn = |args: &[&str]| {
        let mut command = server.command("pgbench");
        command.args(common).args(args).arg("postgres").stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    let script = script.to_str().unwrap();
    let writers = Writers(vec![
        spawn(&["-n", "-c", "5", "-j", "2", "-T", "300", "-R", "200", "-f", script]),
        spawn(&["-n", "-c", "3", "-T", "300", "-R", "60"]),
    ]);
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(1500));
        archive.cut_base(server, folder);
    }
    std::thread::sleep(Duration::from_millis(1500));
    drop(writers);
}

fn signal(name: &str, pids: &[String]) {
    let status = Command::new("kill").arg(name).args(pids).stderr(Stdio::null()).status().unwrap();
    let _ = status;
}

impl Archive {
    pub(crate) fn new(folder: &Path) -> Self {
        let lineage = LineageId(1);
        let mut catalogue = Catalogue::default();
        let began_at = "2000-01-01T00:00:00Z".parse().unwrap();
        catalogue.lineages.add(Lineage { id: lineage, fork: None, began_at }).unwrap();
        let bases = folder.join("bases");
        fs::create_dir(&bases).unwrap();
        open_for_all(folder);
        Self { catalogue, lineage, bases, bytes: BTreeMap::new(), indexes: BTreeMap::new() }
    }

    /// Copies the data folder while every process of the server is held: all of it at one moment, as a snapshot is.
    fn cut_base(&mut self, server: &Server, folder: &Path) {
        let postmaster = fs::read_to_string(server.data().join("postmaster.pid")).unwrap();
        let postmaster = postmaster.lines().next().unwrap().to_owned();
        let children = || {
            let path = format!("/proc/{postmaster}/task/{postmaster}/children");
            fs::read_to_string(path)
                .unwrap_or_default()
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        signal("-STOP", std::slice::from_ref(&postmaster));
        signal("-STOP", &children());
        std::thread::sleep(Duration::from_millis(50));
        let number = u8::try_from(self.catalogue.bases.len()).unwrap() + 1;
        let to = self.bases.join(number.to_string());
        let copied =
            Command::new("cp").args(["-a", "--reflink=auto"]).arg(server.data()).arg(&to).status().unwrap();
        signal("-CONT", &children());
        signal("-CONT", &[postmaster]);
        assert!(copied.success());
        let end: Position = server.sql("select pg_current_wal_insert_lsn()").parse().unwrap();
        let ready_at = now(server);
        let control = server.command("pg_controldata").arg(&to).env("LC_ALL", "C").output().unwrap();
        let control = String::from_utf8(control.stdout).unwrap();
        let redo =
            control.lines().find_map(|line| line.strip_prefix("Latest checkpoint's REDO location:")).unwrap();
        let redo: Position = redo.trim().parse().unwrap();
        self.catalogue.bases.push(Base {
            stands_on: StandsOn::Point(RecoveryPointId::from_bytes([number; 16])),
            lineage: self.lineage,
            start: Position::new(redo.number() - redo.number() % SEGMENT),
            end,
            ready_at,
            bytes: 0,
        });
        let _ = folder;
    }

    /// Takes all log that is there, in ranges that begin and end anywhere.
    fn take_log(&mut self, data: &Path, until: Position, heard: Timestamp) {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(data.join("pg_wal")).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if name.len() == 24 {
                let number = |range: std::ops::Range<usize>| u64::from_str_radix(&name[range], 16).unwrap();
                let at = (number(8..16) << 32) + number(16..24) * SEGMENT;
                if at < until.number() {
                    found.insert(at, entry.path());
                }
            }
        }
        let mut at = *found.keys().next().unwrap();
        let mut all = Vec::new();
        for (start, path) in &found {
            assert_eq!(*start, at + all.len() as u64, "a segment is missing");
            all.extend(fs::read(path).unwrap());
        }
        all.truncate(usize::try_from(until.number() - at).unwrap());
        let mut indexer = Indexer::new(Start::Anywhere(Position::new(at)), self.lineage, 16 << 20, None);
        let mut rest = &all[..];
        let mut size = 300_001;
        while !rest.is_empty() {
            size = size * 7 % 900_000 + 100_000;
            let (piece, behind) = rest.split_at(size.min(rest.len()));
            rest = behind;
            indexer.push(Position::new(at), piece).unwrap();
            let said = indexer.cut();
            let place = format!("{at:X}");
            let complete_until = if rest.is_empty() {
                heard
            } else {
                said.commits.map_or(Timestamp::UNIX_EPOCH, |commits| commits.last.at)
            };
            self.catalogue.log.push(LogRange {
                place: place.clone(),
                lineage: self.lineage,
                from: Position::new(at),
                to: Position::new(at + piece.len() as u64),
                stored_bytes: piece.len() as u64,
                complete_until,
                whole_to: said.whole_to,
                last_record: said.last_record,
                commits: said.commits,
                named_points: said.named_points,
            });
            self.indexes.insert(place.clone(), Index::read(&said.index).unwrap());
            self.bytes.insert(place, piece.to_vec());
            at += piece.len() as u64;
        }
    }

    pub(crate) fn copy_of(&self, plan: &Plan, folder: &Path) -> PathBuf {
        folder.join(format!("copy-{}", self.number(plan)))
    }

    /// Which of the bases it is, from 1.
    pub(crate) fn number(&self, plan: &Plan) -> usize {
        self.catalogue.bases.iter().position(|base| *base == plan.base).unwrap() + 1
    }

    /// A fresh copy of the plan's base, ready for its recovery.
    pub(crate) fn copy_base(&self, plan: &Plan, folder: &Path) -> Recovery {
        let (data, work) = (self.copy_of(plan, folder), folder.join(format!("work-{}", self.number(plan))));
        let _ = fs::remove_dir_all(&data);
        let _ = fs::remove_dir_all(&work);
        let from = self.bases.join(self.number(plan).to_string());
        let copied = Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(&data).status().unwrap();
        assert!(copied.success());
        // What the base itself has of the log must not be needed.
        let engine = Engine::of(&data, None).unwrap();
        Recovery::prepare(&data, &work, engine, plan.stop, plan.lineage).unwrap()
    }

    /// Puts the plan's segments together.
    pub(crate) fn lay_out(&self, plan: &Plan, to: &Path) {
        for segment in segments(plan, SEGMENT).unwrap() {
            let path = to.join(&segment.name);
            let mut file = fs::File::create(&path).unwrap();
            file.set_len(SEGMENT).unwrap();
            for part in &segment.parts {
                let range = &plan.log[part.piece].range;
                let bytes = &self.bytes[&range.place];
                let from = usize::try_from(part.from.since(range.from)).unwrap();
                let to = usize::try_from(part.to.since(range.from)).unwrap();
                file.seek(SeekFrom::Start(part.from.since(segment.at))).unwrap();
                file.write_all(&bytes[from..to]).unwrap();
            }
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        }
    }

    pub(crate) fn names(&self, folder: &Path) -> BTreeSet<String> {
        fs::read_dir(folder)
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect()
    }
}

fn open_for_all(folder: &Path) {
    fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}

impl CommitIndex for Archive {
    type Error = Infallible;

    fn commits(&self, range: &LogRange) -> Result<Vec<Commit>, Infallible> {
        Ok(self.indexes[&range.place].commits())
    }

    fn named_points(&self, range: &LogRange) -> Result<Vec<NamedPoint>, Infallible> {
        Ok(self.indexes[&range.place].named_points())
    }
}
