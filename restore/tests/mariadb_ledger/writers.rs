//! Who writes: in all ways of logging, with tables that come and go and tables that only their session sees.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use strongroom_mariadb::{Connection, MariadbError, Target};
use tokio::task::JoinHandle;

use crate::server::Server;

/// So many write at once.
const WRITERS: u64 = 5;

/// How long each waits between two transactions.
const PAUSE: Duration = Duration::from_millis(8);

/// No row has the number of another.
static NEXT: AtomicU64 = AtomicU64::new(1);

pub(crate) fn prepare(server: &Server) {
    server.sql("create database shop; create table shop.ledger (id bigint primary key, what varchar(100)) engine=innodb");
    server.sql("create table shop.account (id int primary key, balance bigint) engine=innodb; insert into shop.account values (0, 0), (1, 0), (2, 0), (3, 0), (4, 0)");
}

/// Somebody who may do everything.
pub(crate) fn root(server: &Server) -> Target {
    Target {
        host: server.socket().display().to_string(),
        user: "root".into(),
        password_file: None,
        ..server.target()
    }
}

pub(crate) struct Writers {
    running: Vec<JoinHandle<()>>,
    is_over: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<BTreeSet<u64>>>,
}

impl Writers {
    pub(crate) fn start(server: &Server, life: u64) -> Self {
        let (is_over, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let running = (0..WRITERS).map(|number| {
            let (target, is_over) = (root(server), Arc::clone(&is_over));
            let acknowledged: Arc<Mutex<BTreeSet<u64>>> = Arc::clone(&acknowledged);
            tokio::spawn(async move {
                let Ok(mut connection) = Connection::open(&target).await else { return };
                let mut round = life;
                while !is_over.load(Ordering::Relaxed) {
                    round += 1;
                    let row = NEXT.fetch_add(1, Ordering::Relaxed);
                    // Killed, it ends: what it was not told is not known to be there.
                    if write(&mut connection, number, round, row).await.is_err() {
                        return;
                    }
                    acknowledged.lock().unwrap().insert(row);
                    tokio::time::sleep(PAUSE).await;
                }
            })
        });
        let running = running.collect();
        Self { running, is_over, acknowledged }
    }

    /// Answers which rows they were told are committed.
    pub(crate) async fn end(self) -> BTreeSet<u64> {
        self.is_over.store(true, Ordering::Relaxed);
        for writer in self.running {
            writer.await.unwrap();
        }
        std::mem::take(&mut *self.acknowledged.lock().unwrap())
    }
}

/// Commits a row, in one of several ways.
async fn write(connection: &mut Connection, number: u64, round: u64, row: u64) -> Result<(), MariadbError> {
    let format = ["row", "statement", "mixed"][usize::try_from(round % 3).unwrap()];
    let insert = format!("insert into shop.ledger values ({row}, 'row:{row};')");
    let (other, amount) = ((number + 1) % WRITERS, round % 7 + 1);
    let statements = match round % 6 {
        0 => vec![
            "begin".to_owned(),
            insert,
            // In the order of their numbers, so that nobody waits for another in a circle.
            change(number.min(other), amount, number < other),
            change(number.max(other), amount, number > other),
            "commit".to_owned(),
        ],
        1 if number == 0 => vec![
            // Its statements are logged, so a copy that is brought further has to have it still.
            "create temporary table if not exists shop.mine (a bigint)".to_owned(),
            format!("insert into shop.mine values ({row})"),
            format!("insert into shop.ledger select a, 'row:{row};' from shop.mine where a = {row}"),
        ],
        2 if number == 1 => vec![
            format!("create or replace table shop.side{number} (a bigint) engine=innodb"),
            format!("insert into shop.side{number} values ({row})"),
            insert,
            format!("drop table shop.side{number}"),
        ],
        // Random, so it is logged by rows when it may.
        3 if format == "mixed" => {
            vec![format!("insert into shop.ledger select {row}, concat('row:{row};', uuid())")]
        }
        _ => vec![insert],
    };
    if number != 0 {
        connection.ask("how it is logged", &format!("set binlog_format = {format}")).await?;
    }
    for sql in statements {
        connection.ask("a transaction", &sql).await?;
    }
    Ok(())
}

fn change(account: u64, amount: u64, is_less: bool) -> String {
    let sign = if is_less { '-' } else { '+' };
    format!("update shop.account set balance = balance {sign} {amount} where id = {account}")
}
