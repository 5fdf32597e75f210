//! The ledger: writers commit rows to a real PostgreSQL, all of it is killed, and every target gives exactly the rows that were
//! committed before it, in the order of the log.
//!
//! What is right is not known to the code that is tested: the order of commits is `pg_waldump`'s, and their times are
//! the server's own. `STRONGROOM_LEDGER_TARGETS` says how many targets are tried (200, when it does not).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod archive;
#[path = "../../../crates/postgres/tests/real/server.rs"]
#[allow(dead_code, reason = "it serves the tests of the receiver, which use all of it")]
mod server;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use archive::{Archive, Truth};
use strongroom_database::{
    Plan, PlanError, Position, Rates, Refusal, Side, Target, TransactionId, Wanted, plan, windows,
};
use strongroom_restore::database::{Engine, Recovered, Recovery};

use crate::server::Server;

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most.max(1)
    }
}

fn planned(archive: &Archive, wanted: &Wanted) -> Result<Plan, Refusal> {
    plan(&archive.catalogue, archive, wanted, &Rates::default()).map_err(|error| match error {
        PlanError::Refused(refusal) => *refusal,
        PlanError::Index(never) => match never {},
    })
}

/// Asks a server in recovery, over the socket in its private folder.
fn ask(socket: &Path, sql: &str) -> String {
    let output = Command::new("/usr/bin/psql")
        .args([
            "-h",
            socket.to_str().unwrap(),
            "-p",
            "5432",
            "-U",
            "postgres",
            "-X",
            "-A",
            "-t",
            "-q",
            "-c",
            sql,
            "postgres",
        ])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The transactions whose rows are in the restored ledger; and the tables that change together add up.
fn restored(recovered: &Recovered) -> BTreeSet<u64> {
    let socket = recovered.socket();
    let sums = ask(
        socket,
        "select (select sum(abalance) from pgbench_accounts) = (select coalesce(sum(delta), 0) from pgbench_history) \
         and (select sum(bbalance) from pgbench_branches) = (select coalesce(sum(delta), 0) from pgbench_history) \
         and (select sum(tbalance) from pgbench_tellers) = (select coalesce(sum(delta), 0) from pgbench_history)",
    );
    assert_eq!(sums, "t", "half of a transaction is there");
    ask(socket, "select xmin from ledger").lines().map(|line| line.parse().unwrap()).collect()
}

/// What is wanted, and which rows are right.
fn targets(truth: &Truth, archive: &Archive, count: usize) -> Vec<(Wanted, BTreeSet<u64>)> {
    let mut dice = Dice(20_261_121);
    let window = windows(&archive.catalogue, archive.lineage).pop().unwrap();
    let (from, to) = (window.earliest, window.latest);
    let span = u64::try_from(to.at.duration_since(from.at).as_micros()).unwrap();
    let later: Vec<_> =
        truth.commits.iter().filter(|commit| commit.start >= from.position && commit.at > from.at).collect();
    let mut targets = Vec::new();
    for number in 0..count {
        let some = later[usize::try_from(dice.below(later.len() as u64)).unwrap()];
        let time = match number % 4 {
            0 => Some(from.at + Duration::from_micros(dice.below(span))),
            1 => Some(some.at),
            2 => Some(some.at - Duration::from_micros(1)),
            _ => None,
        };
        let (target, right) = match (time, number % 8) {
            (Some(time), _) => (Target::Time(time), truth.until(time)),
            (_, 3) => (
                Target::Transaction(TransactionId::Number(some.transaction), Side::Before),
                truth.before(some.start),
            ),
            _ => (Target::Position(some.start.plus(1)), truth.before(some.start.plus(1))),
        };
        targets.push((Wanted::new(target), right));
    }
    targets.push((Wanted::new(Target::Latest), truth.before(Position::END)));
    targets.push((Wanted::new(Target::Time(to.at)), truth.until(to.at)));
    targets
}

#[test]
fn every_target_gives_exactly_the_commits_before_it() {
    let Some(server) = Server::start("track_commit_timestamp = on\nautovacuum = off\nfsync = off\n") else {
        return;
    };
    let count =
        std::env::var("STRONGROOM_LEDGER_TARGETS").ok().and_then(|text| text.parse().ok()).unwrap_or(200);
    let folder = tempfile::Builder::new().prefix("strongroom-ledger-").tempdir().unwrap();
    let mut archive = Archive::new(folder.path());
    archive::fill(&server, &mut archive, folder.path());
    // Everything at once, without a good-bye; what was acknowledged is in the log.
    let acknowledged: u64 = server.sql("select count(*) from ledger").parse().unwrap();
    server.kill();
    server.start_again();
    let truth = Truth::of(&server, &mut archive);
    assert!(
        truth.before(Position::END).len() as u64 >= acknowledged,
        "an acknowledged commit is not in the log"
    );

    let mut planned: Vec<_> = targets(&truth, &archive, count)
        .into_iter()
        .map(|(wanted, right)| {
            (
                planned(&archive, &wanted).unwrap_or_else(|refusal| panic!("{wanted:?}: {refusal:?}")),
                wanted,
                right,
            )
        })
        .collect();
    // One copy of a base serves all of its targets, in their order: it is brought further from stop to stop. The bases side by
    // side: each has its own copy and server.
    planned.sort_by_key(|(plan, ..)| (plan.base.end, plan.cut));
    let tried = planned.len();
    let (archive, whole) = (&archive, folder.path());
    std::thread::scope(|scope| {
        for of_base in planned.chunk_by(|(one, ..), (other, ..)| one.base.end == other.base.end) {
            scope.spawn(move || try_all(archive, whole, of_base));
        }
    });
    eprintln!("{tried} targets, {} commits, {} of the ledger", truth.commits.len(), truth.ledger.len());

    // A time before the first base is refused, and never a state that has what came later.
    let first = archive.catalogue.bases.iter().map(|base| base.ready_at).min().unwrap();
    let before = Wanted::new(Target::Time(first - Duration::from_secs(60)));
    assert!(matches!(crate::planned(archive, &before), Err(Refusal::BeforeWindow { .. })));

    promoted_copies_begin_histories_of_their_own(archive, &truth, folder.path());
}

/// Restores every target of one base, and compares the ledger.
fn try_all(archive: &Archive, folder: &Path, targets: &[(Plan, Wanted, BTreeSet<u64>)]) {
    let mut copy: Option<Recovery> = None;
    for (plan, wanted, right) in targets {
        let mut recovery = copy.take().unwrap_or_else(|| archive.copy_base(plan, folder));
        recovery.go_on_to(plan.stop, plan.lineage);
        archive.lay_out(plan, &recovery.archive());
        let recovered = recovery.run().unwrap_or_else(|error| panic!("{wanted:?}: {error}: {plan:?}"));
        let got = restored(&recovered);
        let (missing, extra): (Vec<_>, Vec<_>) =
            (right.difference(&got).collect(), got.difference(right).collect());
        assert!(
            missing.is_empty() && extra.is_empty(),
            "{wanted:?}: missing {missing:?}, too many {extra:?}: {plan:?}"
        );
        copy = Some(recovered.end().unwrap());
    }
}

/// Promoted twice, from two moments: each is an ordinary database that takes writes, and the archive it came from is as before.
fn promoted_copies_begin_histories_of_their_own(archive: &Archive, truth: &Truth, folder: &Path) {
    let commits: Vec<_> = truth.commits.iter().collect();
    for place in [commits.len() / 2, commits.len() - 1] {
        let wanted = Wanted::new(Target::Position(commits[place].start));
        let Ok(plan) = planned(archive, &wanted) else { continue };
        let mut recovery = archive.copy_base(&plan, folder);
        recovery.go_on_to(plan.stop, plan.lineage);
        archive.lay_out(&plan, &recovery.archive());
        let log = recovery.archive();
        let archived = archive.names(&log);
        let data = archive.copy_of(&plan, folder);
        recovery.run().unwrap().promote().unwrap();
        let control = Command::new(Engine::of(&data, None).unwrap().program("pg_controldata"))
            .arg(&data)
            .output()
            .unwrap();
        let control = String::from_utf8(control.stdout).unwrap();
        assert!(control.contains("Database cluster state:               shut down"), "{control}");
        assert!(control.contains("Latest checkpoint's TimeLineID:       2"), "{control}");
        assert!(!data.join("recovery.signal").exists() && !data.join("postmaster.opts").exists());
        assert_eq!(archive.names(&log), archived, "the recovery wrote into the archive");
    }
}
