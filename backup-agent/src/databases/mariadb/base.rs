//! What MariaDB is asked before and after the cut.
//!
//! From `BACKUP STAGE BLOCK_COMMIT` until the cut is done nothing commits: what the binary log has then is what the snapshot has,
//! neither more nor less, also of tables that know no transactions. A new file is begun first, so that a replay reads whole ones.

use async_trait::async_trait;
use jiff::Timestamp;
use strongroom_database::Position;
use strongroom_database::mariadb::{file, place};
use strongroom_mariadb::{Connection, LogEnd, MariadbError};
use strongroom_repository::record::LogOpened;

use super::super::engine::{Begun, EngineError, Guard};
use super::Mariadb;

/// For how long commits may wait for one that does not end, in seconds.
const LOCK_SECONDS: u32 = 20;

struct Held {
    connection: Connection,
    end: LogEnd,
}

pub(super) async fn begin(mariadb: &Mariadb, opened: &LogOpened) -> Result<Begun, MariadbError> {
    let mut connection = Connection::open(&mariadb.target).await?;
    // The agent may be another process than this one: the server knows whether somebody receives.
    let asked = "SELECT COUNT(*) FROM information_schema.processlist WHERE command = 'Binlog Dump'";
    if connection.ask_row("its connections", asked).await?.first().is_none_or(|count| count == "0") {
        return Ok(Begun::No("nobody receives its binary log".to_owned()));
    }
    // What such a server says it committed is for a second in its memory alone, and in no snapshot.
    let asked = "SELECT @@innodb_flush_log_at_trx_commit";
    if connection.ask_row("its settings", asked).await?.first().is_some_and(|value| value == "0") {
        let why = "innodb_flush_log_at_trx_commit is 0, so its files lack what it committed last: set it to 1, or 2";
        return Ok(Begun::No(why.to_owned()));
    }
    connection.ask("a new file of the binary log", "FLUSH LOCAL BINARY LOGS").await?;
    let start = place(file(connection.log_end().await?.end), 0);
    if start < Position::new(opened.start) {
        return Ok(Begun::No("its binary log began anew".to_owned()));
    }
    connection.ask("patience", &format!("SET lock_wait_timeout = {LOCK_SECONDS}")).await?;
    connection.ask("BACKUP STAGE START", "BACKUP STAGE START").await?;
    // Dropped with an error, the connection ends and the server lets go.
    connection.ask("BACKUP STAGE BLOCK_COMMIT", "BACKUP STAGE BLOCK_COMMIT").await?;
    let end = connection.log_end().await?;
    Ok(Begun::At { start, guard: Box::new(Held { connection, end }) })
}

#[async_trait]
impl Guard for Held {
    async fn end(mut self: Box<Self>) -> Result<(Position, Timestamp), EngineError> {
        // Refused when the server let go before: then it may have committed what the snapshot has.
        self.connection.ask("BACKUP STAGE END", "BACKUP STAGE END").await?;
        Ok((self.end.end, self.end.at))
    }
}
