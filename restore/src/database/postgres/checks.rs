//! What a restored server is asked: is this the state that the commit index says, and are its files whole by the engine's own
//! means.
//!
//! The server is in recovery, so nothing that is asked can write.

use std::path::PathBuf;
use std::time::Duration;

use strongroom_console::Failed;
use strongroom_database::{Plan, Position, TransactionId};
use strongroom_postgres::{Connection, PostgresError, Target, TlsMode};
use tokio_util::sync::CancellationToken;

use super::super::Recovered;
use super::super::answer::{Answer, AskError, told};
use super::super::copy::{Asking, Compared};
use super::super::proving::{ProvingError, or_stop};
use super::off_thread;

/// How long a server may think about one question; the time limit of the whole test ends it sooner.
const PATIENCE: Duration = Duration::from_hours(24);

/// Names behind which databases cannot be hidden from a check: they allow connections. The first is always there.
const DATABASES: &str = "SELECT datname FROM pg_database WHERE datallowconn ORDER BY datname";

/// Everything that has rows on disk; what is unlogged is empty after a recovery, and cannot be read during one.
const TABLES: &str = "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind IN ('r', 'm') AND c.relpersistence = 'p' AND (c.relkind = 'r' OR c.relispopulated) ORDER BY c.oid";

/// A server that waits, and who asks it.
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    /// The folder of its socket.
    pub(super) socket: PathBuf,
    pub(super) asking: Asking,
    pub(super) given_up: CancellationToken,
}

impl Cluster {
    pub(super) async fn connect(&self) -> Result<Connection, AskError> {
        self.connect_to(self.asking.database()).await
    }

    async fn connect_to(&self, database: &str) -> Result<Connection, AskError> {
        let role = self.asking.role.clone();
        let target = Target {
            host: self.socket.display().to_string(),
            port: 5432,
            user: role.clone(),
            database: database.to_owned(),
            password_file: None,
            pgpass: None,
            tls: TlsMode::Disable,
            tls_ca: None,
            application: "strongroom restore".to_owned(),
        };
        let opened = Connection::open(&target).await;
        let mut connection = opened.map_err(|cause| AskError::LogIn { role, cause: Box::new(cause) })?;
        connection.wait_for_answers(PATIENCE);
        Ok(connection)
    }

    /// The engine's own check, and ends the server. Answers what was done.
    ///
    /// Databases with the extension amcheck are checked by it. If there are others, all files are held against their
    /// checksums where the cluster has them; where it has none, every row of those databases is read.
    pub(super) async fn check(&self, recovered: Recovered) -> Result<Vec<String>, Failed> {
        let stop = &self.given_up;
        let (checkable, others, checksums) = or_stop(stop, self.what_there_is()).await?;
        let mut done = Vec::new();
        let (checkable, mut others) = if recovered.recovery().has_program("pg_amcheck") {
            (checkable, others)
        } else {
            (Vec::new(), [checkable, others].concat())
        };
        let mut recovered = recovered;
        if !checkable.is_empty() {
            let (args, names) = (self.amcheck_args(&checkable), checkable.join(", "));
            let (back, (is_whole, words)) = off_thread(move || {
                let args: Vec<&str> = args.iter().map(String::as_str).collect();
                let answer = recovered.recovery().ask_program("pg_amcheck", &args)?;
                Ok((recovered, answer))
            })
            .await?;
            recovered = back;
            if !is_whole {
                return Err(ProvingError::Corrupt { tool: "pg_amcheck", words: told(&words) }.into());
            }
            done.push(format!("pg_amcheck: tables and indexes of {names} are whole"));
        }
        if !others.is_empty() && !checksums {
            others.sort();
            let (mut tables, mut read) = (0, 0_u64);
            for database in &others {
                let (more, bytes) = or_stop(stop, self.read_all(database)).await?;
                (tables, read) = (tables + more, read + bytes);
            }
            let size = strongroom_console::Size(read);
            done.push(format!(
                "every row of {tables} tables was read, {size} of files, in {}",
                others.join(", ")
            ));
        }
        let verify = !others.is_empty() && checksums && recovered.recovery().has_program("pg_checksums");
        if verify {
            let (is_whole, words) = off_thread(move || {
                let recovery = recovered.shut_down()?;
                recovery.ask_program(
                    "pg_checksums",
                    &["--check", "--pgdata", &recovery.data().display().to_string()],
                )
            })
            .await?;
            if !is_whole {
                return Err(ProvingError::Corrupt { tool: "pg_checksums", words: told(&words) }.into());
            }
            done.push("pg_checksums: every block of the cluster has its checksum".to_owned());
        } else {
            off_thread(move || recovered.end().map(drop)).await?;
        }
        Ok(done)
    }

    fn amcheck_args(&self, databases: &[String]) -> Vec<String> {
        let mut args: Vec<String> = [
            "--host",
            &self.socket.display().to_string(),
            "--port",
            "5432",
            "--username",
            &self.asking.role,
            "--no-password",
        ]
        .map(str::to_owned)
        .to_vec();
        args.extend(databases.iter().map(|name| format!("--database={name}")));
        args
    }

    /// Databases with amcheck, databases without, and whether blocks have checksums.
    async fn what_there_is(&self) -> Result<(Vec<String>, Vec<String>, bool), AskError> {
        let mut connection = self.connect().await?;
        let names = ask(&mut connection, DATABASES).await?.firsts();
        let checksums = ask(&mut connection, "SHOW data_checksums").await?.firsts();
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for name in names {
            let mut there = self.connect_to(&name).await?;
            let found = ask(&mut there, "SELECT 1 FROM pg_extension WHERE extname = 'amcheck'").await?;
            if found.0.is_empty() { without.push(name) } else { with.push(name) }
        }
        Ok((with, without, checksums.first().is_some_and(|on| on == "on")))
    }

    /// Reads every row of every table of a database, as a dump would. Answers how many tables, and of how many bytes.
    async fn read_all(&self, database: &str) -> Result<(u64, u64), AskError> {
        let mut connection = self.connect_to(database).await?;
        let tables = ask(&mut connection, TABLES).await?.firsts();
        let count = tables.len() as u64;
        for table in tables {
            // The server writes to nowhere: no row is sent, and each is taken apart, also what lies out of line.
            ask(&mut connection, &format!("COPY (SELECT * FROM ONLY {table}) TO '/dev/null'")).await?;
        }
        let size = "SELECT pg_database_size(current_database())";
        let bytes = ask(&mut connection, size).await?.firsts();
        Ok((count, bytes.first().and_then(|bytes| bytes.parse().ok()).unwrap_or(0)))
    }
}

/// Holds the server's state against the plan: the last commit that should be in is, and the first that should not is not.
pub(super) async fn compare(connection: &mut Connection, plan: &Plan) -> Result<Compared, Failed> {
    const STATE: &str = "SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn(), \
         to_char(pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), \
         pg_snapshot_xmax(pg_current_snapshot())";
    let rows = ask(connection, STATE).await?;
    let differs = |what: String| Failed::from(ProvingError::Differs { what });
    let row = rows.0.into_iter().next().unwrap_or_default();
    let value = |column: usize| row.get(column).cloned().flatten();
    let understood =
        (|| Some((value(0)? == "t", value(1)?.parse::<Position>().ok()?, value(3)?.parse().ok()?)))();
    let (in_recovery, replayed_to, next) =
        understood.ok_or_else(|| differs(format!("its state makes no sense: {row:?}")))?;
    if !in_recovery {
        return Err(differs("it is not waiting at its stop".into()));
    }
    let last_at = value(2).and_then(|text| text.parse().ok());
    let mut said = format!("replayed up to {replayed_to}");
    if let Some(kept) = plan.last_kept {
        if kept.end > replayed_to && kept.end > plan.base.end {
            return Err(differs(format!("the last commit to be kept ends at {}, {said}", kept.end)));
        }
        let status = status(connection, kept.transaction, next).await?;
        // None: so old that it is not remembered whether it committed, which only what committed is.
        if !matches!(status.as_deref(), Some("committed") | None) {
            return Err(differs(format!("transaction {} should be in: {status:?}", kept.transaction)));
        }
        said = format!("{said}; transaction {} of {} is in", kept.transaction, kept.at);
    }
    if let Some(dropped) = plan.first_dropped {
        if dropped.start < replayed_to {
            return Err(differs(format!(
                "the first commit to be left out begins at {}, {said}",
                dropped.start
            )));
        }
        let status = status(connection, dropped.transaction, next).await?;
        if status.as_deref() == Some("committed") {
            return Err(differs(format!("transaction {} should not be in", dropped.transaction)));
        }
        said = format!("{said}; transaction {} of {} is not", dropped.transaction, dropped.at);
    }
    Ok(Compared { replayed_to, last_at, said })
}

/// What became of a transaction; `None`: it is of the future, or too long ago.
async fn status(
    connection: &mut Connection,
    transaction: TransactionId,
    next: u64,
) -> Result<Option<String>, AskError> {
    let Some(id) = whole_id(transaction, next) else { return Ok(Some("in the future".to_owned())) };
    let sql = format!("SELECT pg_xact_status('{id}'::xid8)");
    Ok(ask(connection, &sql).await?.firsts().pop())
}

/// The log has the lower 32 bits of a transaction's number; the rest follows from that of the next one. `None`: it is not one of
/// the past.
fn whole_id(transaction: TransactionId, next: u64) -> Option<u64> {
    let TransactionId::Number(number) = transaction else { return None };
    let behind = next.wrapping_sub(number) % (1 << 32);
    // Of numbers half the circle away PostgreSQL itself says that they are of the future.
    if behind == 0 || behind > 1 << 31 { None } else { next.checked_sub(behind) }
}

pub(super) async fn ask(connection: &mut Connection, sql: &str) -> Result<Answer, AskError> {
    // undefined_table, undefined_column, undefined_function, invalid_schema_name
    const MISSING: [&str; 4] = ["42P01", "42703", "42883", "3F000"];
    connection.ask("the restored database", sql).await.map(Answer).map_err(|cause| {
        let is_missing =
            matches!(&cause, PostgresError::Refused { state, .. } if MISSING.contains(&state.as_str()));
        AskError::Question { sql: told(sql), is_missing, cause: Box::new(cause) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_transaction_is_told_from_the_next_one_also_where_numbers_come_again() {
        let id = |low, next| whole_id(TransactionId::Number(low), next);
        assert_eq!(id(9410, 9411), Some(9410));
        assert_eq!(id(9411, 9411), None, "it is of the future");
        assert_eq!(id(9412, 9411), None);
        assert_eq!(id(0xFFFF_FFFE, 0x1_0000_0005), Some(0xFFFF_FFFE), "before the numbers began again");
        assert_eq!(id(3, 0x1_0000_0005), Some(0x1_0000_0003));
        assert_eq!(id(0xFFFF_FFFE, 5), None, "there is nothing before the first");
    }
}
