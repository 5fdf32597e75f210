//! The ledger for MariaDB: writers commit rows to a real server, server and receiver are killed under them, and every target gives
//! exactly the rows that were committed before it, in the order of the binary log.
//!
//! What is right is not known to the code that is tested: the order of transactions and their stamps are those that MariaDB's own
//! `mariadb-binlog` tells of the server's own files. `STRONGROOM_LEDGER_TARGETS` says how many targets are tried (200, when it
//! does not).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod archive;
mod receiving;
#[path = "../../../crates/mariadb/tests/real/server.rs"]
#[allow(dead_code, reason = "it serves the tests of the receiver, which use all of it")]
mod server;
mod truth;
mod writers;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use archive::Archive;
use receiving::Receiving;
use strongroom_database::mariadb::place;
use strongroom_database::{Plan, PlanError, Position, Rates, Refusal, Side, Target, Wanted, plan, windows};
use strongroom_restore::database::{LaidOutLog, MariadbCopy};
use truth::Truth;
use writers::Writers;

use crate::server::Server;

/// Numbers that look random and are the same each time.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, most: u64) -> u64 {
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

/// What is wanted, and which rows are right.
fn targets(truth: &Truth, archive: &Archive, count: usize) -> Vec<(Wanted, BTreeSet<u64>)> {
    let mut dice = Dice(20_261_122);
    let window = windows(&archive.catalogue, archive.lineage).pop().unwrap();
    let (from, to) = (window.earliest, window.latest);
    let span = u64::try_from(to.at.duration_since(from.at).as_micros()).unwrap();
    let later: Vec<_> =
        truth.commits.iter().filter(|commit| commit.start >= from.position && commit.at > from.at).collect();
    let mut targets = Vec::new();
    for number in 0..count {
        let some = later[usize::try_from(dice.below(later.len() as u64)).unwrap()];
        // Stamps are whole seconds, and many commits share one: most targets are transactions and positions.
        let (target, right) = match number % 8 {
            0 => {
                let time = from.at + Duration::from_micros(dice.below(span));
                (Target::Time(time), truth.until(time))
            }
            1 => (Target::Time(some.at), truth.until(some.at)),
            2 | 5 => (Target::Transaction(some.transaction, Side::Before), truth.before(some.start)),
            3 | 6 => (Target::Transaction(some.transaction, Side::After), truth.before(some.start.plus(1))),
            _ => (Target::Position(some.start.plus(1)), truth.before(some.start.plus(1))),
        };
        targets.push((Wanted::new(target), right));
    }
    targets.push((Wanted::new(Target::Latest), truth.before(Position::END)));
    targets.push((Wanted::new(Target::Time(to.at)), truth.until(to.at)));
    targets
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_target_gives_exactly_the_transactions_before_it() {
    // What is acknowledged is on disk: as kills of processes take nothing from the kernel, that is said with less waiting.
    let settings = ["--sync-binlog=1", "--innodb-flush-log-at-trx-commit=1", "--binlog-format=MIXED"];
    let Some(mut server) = Server::start(&settings) else { return };
    let count =
        std::env::var("STRONGROOM_LEDGER_TARGETS").ok().and_then(|text| text.parse().ok()).unwrap_or(200);
    let folder = tempfile::Builder::new().prefix("strongroom-ledger-").tempdir().unwrap();
    let (spool, from) = (folder.path().join("spool"), place(1, 0));
    let mut archive = Archive::new(folder.path());
    writers::prepare(&server);
    let mut acknowledged = BTreeSet::new();
    let mut confirmed = Position::START;
    for life in 0..3 {
        let mut receiving = Receiving::start(&server, &spool, from);
        let writers = Writers::start(&server, life);
        tokio::time::sleep(Duration::from_millis(1500)).await;
        archive.cut_base(&server, folder.path()).await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        // Everything at once, in the middle of whatever it does.
        server.kill();
        confirmed = confirmed.max(receiving.kill());
        acknowledged.extend(writers.end().await);
        server.start_again();
    }
    let mut receiving = Receiving::start(&server, &spool, from);
    let end = archive::log_end(&server).await;
    receiving.wait_for(end.end).await;
    receiving.kill();
    archive.take_log(&spool, from, end);
    assert!(archive.end() >= confirmed, "what the receiver confirmed is not there");
    let truth = Truth::of(&server);
    let all = truth.before(Position::END);
    let lost: Vec<_> = acknowledged.difference(&all).collect();
    assert!(lost.is_empty(), "acknowledged, and not in the log: {lost:?}");
    assert!(acknowledged.len() > 300, "the writers wrote {} rows only", acknowledged.len());

    let mut planned: Vec<_> = targets(&truth, &archive, count)
        .into_iter()
        .map(|(wanted, right)| {
            let plan = planned(&archive, &wanted);
            (plan.unwrap_or_else(|refusal| panic!("{wanted:?}: {refusal:?}")), wanted, right)
        })
        .collect();
    // One copy of a base serves all of its targets, in their order: it is brought further from stop to stop. The bases side by
    // side: each has its own copy and server.
    planned.sort_by_key(|(plan, ..)| (plan.base.end, plan.cut));
    let tried = planned.len();
    let of_bases = planned.chunk_by(|(one, ..), (other, ..)| one.base.end == other.base.end);
    let bases = of_bases.clone().count();
    futures::future::join_all(of_bases.map(|targets| try_all(&archive, folder.path(), targets))).await;
    eprintln!("{tried} targets from {bases} bases, {} transactions, {} rows", truth.commits.len(), all.len());
    assert_eq!(bases, 3, "each base has its targets");

    // A time before the first base is refused, and never a state that has what came later.
    let first = archive.catalogue.bases.iter().map(|base| base.ready_at).min().unwrap();
    let before = Wanted::new(Target::Time(first - Duration::from_secs(60)));
    assert!(matches!(crate::planned(&archive, &before), Err(Refusal::BeforeWindow { .. })));
}

/// Restores every target of one base, and compares the ledger.
async fn try_all(archive: &Archive, folder: &Path, targets: &[(Plan, Wanted, BTreeSet<u64>)]) {
    let mut begun: Option<(MariadbCopy, LaidOutLog)> = None;
    for (plan, wanted, right) in targets {
        let (copy, log) = match &mut begun {
            Some(begun) => begun,
            none => none.insert(archive.copy_base(plan, folder).await),
        };
        archive.lay_out(plan, log);
        copy.go_to(log, plan).await.unwrap_or_else(|error| panic!("{wanted:?}: {error}: {plan:?}"));
        let got = restored(copy).await;
        let (missing, extra): (Vec<_>, Vec<_>) =
            (right.difference(&got).collect(), got.difference(right).collect());
        assert!(
            missing.is_empty() && extra.is_empty(),
            "{wanted:?}: missing {missing:?}, too many {extra:?}: {plan:?}"
        );
    }
    if let Some((copy, _)) = begun {
        copy.end().await.unwrap();
    }
}

/// The rows of the restored ledger; and what changes together adds up.
async fn restored(copy: &mut MariadbCopy) -> BTreeSet<u64> {
    let sum = copy.ask("the accounts", "select sum(balance) from shop.account").await.unwrap();
    assert_eq!(sum, [[Some("0".to_owned())]], "half of a transaction is there");
    let rows = copy.ask("the ledger", "select id from shop.ledger").await.unwrap();
    rows.into_iter().flatten().flatten().map(|id| id.parse().unwrap()).collect()
}
