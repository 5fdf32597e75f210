//! What a restored server is asked: is this the state that the commit index says, do the assertions of the settings hold, and
//! are its files whole by the engine's own means.
//!
//! The server is in recovery, so nothing that is asked can write.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use strongroom_database::{Plan, Position, TransactionId};
use strongroom_postgres::{Connection, PostgresError, Target, TlsMode};
use tokio_util::sync::CancellationToken;

use super::super::Recovered;
use super::{ProvingError, off_thread, or_stop};

/// How long a server may think about one question; the time limit of the whole test ends it sooner.
const PATIENCE: Duration = Duration::from_hours(24);

/// How much of an assertion and its answer is told.
const MOST_TOLD: usize = 300;

/// Names behind which databases cannot be hidden from a check: they allow connections. The first is always there.
const DATABASES: &str = "SELECT datname FROM pg_database WHERE datallowconn ORDER BY datname";

/// Everything that has rows on disk; what is unlogged is empty after a recovery, and cannot be read during one.
const TABLES: &str = "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind IN ('r', 'm') AND c.relpersistence = 'p' AND (c.relkind = 'r' OR c.relispopulated) ORDER BY c.oid";

/// What is asked, and as whom.
#[derive(Debug, Clone)]
pub(in super::super) struct Questions {
    /// A superuser of the restored database.
    pub(in super::super) role: String,
    /// In which database the assertions are asked.
    pub(in super::super) database: String,
    /// Each must hold.
    pub(in super::super) sql: Vec<String>,
}

/// What was seen of the state.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) replayed_to: Position,
    pub(super) last_at: Option<Timestamp>,
    pub(super) said: String,
}

impl Questions {
    pub(super) async fn connect(&self, socket: &Path) -> Result<Connection, ProvingError> {
        self.connect_to(socket, &self.database).await
    }

    async fn connect_to(&self, socket: &Path, database: &str) -> Result<Connection, ProvingError> {
        let target = Target {
            host: socket.display().to_string(),
            port: 5432,
            user: self.role.clone(),
            database: database.to_owned(),
            password_file: None,
            pgpass: None,
            tls: TlsMode::Disable,
            tls_ca: None,
            application: "strongroom restore test".to_owned(),
        };
        let opened = Connection::open(&target).await;
        let mut connection = opened
            .map_err(|cause| ProvingError::LogIn { role: self.role.clone(), cause: Box::new(cause) })?;
        connection.wait_for_answers(PATIENCE);
        Ok(connection)
    }

    /// Asks the assertions. Answers what was asked.
    pub(super) async fn ask(&self, socket: &Path) -> Result<Vec<String>, ProvingError> {
        let mut done = Vec::new();
        if self.sql.is_empty() {
            return Ok(done);
        }
        let mut connection = self.connect(socket).await?;
        for sql in &self.sql {
            let rows = connection.ask("an assertion", sql).await;
            let rows = rows.map_err(|cause| question(sql, cause))?;
            if !holds(&rows) {
                return Err(ProvingError::Assertion { sql: told(sql), answer: answer(&rows) });
            }
            done.push(format!("it holds: {}", told(sql)));
        }
        Ok(done)
    }

    /// The engine's own check, and ends the server. Answers what was done.
    ///
    /// Databases with the extension amcheck are checked by it. If there are others, all files are held against their
    /// checksums where the cluster has them; where it has none, every row of those databases is read.
    pub(super) async fn check_engine(
        &self,
        recovered: Recovered,
        stop: &CancellationToken,
    ) -> Result<Vec<String>, strongroom_console::Failed> {
        let socket = recovered.socket().to_owned();
        let (checkable, others, checksums) = or_stop(stop, self.what_there_is(&socket)).await?;
        let mut done = Vec::new();
        let (checkable, mut others) = if recovered.recovery().has_program("pg_amcheck") {
            (checkable, others)
        } else {
            (Vec::new(), [checkable, others].concat())
        };
        let mut recovered = recovered;
        if !checkable.is_empty() {
            let (args, names) = (self.amcheck_args(&socket, &checkable), checkable.join(", "));
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
                let (more, bytes) = or_stop(stop, self.read_all(&socket, database)).await?;
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

    fn amcheck_args(&self, socket: &Path, databases: &[String]) -> Vec<String> {
        let mut args: Vec<String> = [
            "--host",
            &socket.display().to_string(),
            "--port",
            "5432",
            "--username",
            &self.role,
            "--no-password",
        ]
        .map(str::to_owned)
        .to_vec();
        args.extend(databases.iter().map(|name| format!("--database={name}")));
        args
    }

    /// Databases with amcheck, databases without, and whether blocks have checksums.
    async fn what_there_is(&self, socket: &Path) -> Result<(Vec<String>, Vec<String>, bool), ProvingError> {
        let mut connection = self.connect(socket).await?;
        let names = firsts(ask(&mut connection, DATABASES).await?);
        let checksums = firsts(ask(&mut connection, "SHOW data_checksums").await?);
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for name in names {
            let mut there = self.connect_to(socket, &name).await?;
            let found = ask(&mut there, "SELECT 1 FROM pg_extension WHERE extname = 'amcheck'").await?;
            if found.is_empty() { without.push(name) } else { with.push(name) }
        }
        Ok((with, without, checksums.first().is_some_and(|on| on == "on")))
    }

    /// Reads every row of every table of a database, as a dump would. Answers how many tables, and of how many bytes.
    async fn read_all(&self, socket: &Path, database: &str) -> Result<(u64, u64), ProvingError> {
        let mut connection = self.connect_to(socket, database).await?;
        let tables = firsts(ask(&mut connection, TABLES).await?);
        let count = tables.len() as u64;
        for table in tables {
            // The server writes to nowhere: no row is sent, and each is taken apart, also what lies out of line.
            ask(&mut connection, &format!("COPY (SELECT * FROM ONLY {table}) TO '/dev/null'")).await?;
        }
        let size = "SELECT pg_database_size(current_database())";
        let bytes = firsts(ask(&mut connection, size).await?);
        Ok((count, bytes.first().and_then(|bytes| bytes.parse().ok()).unwrap_or(0)))
    }
}

/// Holds the server's state against the plan: the last commit that should be in is, and the first that should not is not.
pub(super) async fn compare(connection: &mut Connection, plan: &Plan) -> Result<Seen, ProvingError> {
    const STATE: &str = "SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn(), \
         to_char(pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), \
         pg_snapshot_xmax(pg_current_snapshot())";
    let rows = ask(connection, STATE).await?;
    let differs = |what: String| ProvingError::Differs { what };
    let row = rows.into_iter().next().unwrap_or_default();
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
    Ok(Seen { replayed_to, last_at, said })
}

/// What became of a transaction; `None`: it is of the future, or too long ago.
async fn status(
    connection: &mut Connection,
    transaction: TransactionId,
    next: u64,
) -> Result<Option<String>, ProvingError> {
    let Some(id) = whole_id(transaction, next) else { return Ok(Some("in the future".to_owned())) };
    let sql = format!("SELECT pg_xact_status('{id}'::xid8)");
    Ok(firsts(ask(connection, &sql).await?).pop())
}

/// The log has the lower 32 bits of a transaction's number; the rest follows from that of the next one. `None`: it is not one of
/// the past.
fn whole_id(transaction: TransactionId, next: u64) -> Option<u64> {
    let TransactionId::Number(number) = transaction else { return None };
    let behind = next.wrapping_sub(number) % (1 << 32);
    // Of numbers half the circle away PostgreSQL itself says that they are of the future.
    if behind == 0 || behind > 1 << 31 { None } else { next.checked_sub(behind) }
}

async fn ask(connection: &mut Connection, sql: &str) -> Result<Vec<Vec<Option<String>>>, ProvingError> {
    connection.ask("the restored database", sql).await.map_err(|cause| question(sql, cause))
}

fn question(sql: &str, cause: PostgresError) -> ProvingError {
    ProvingError::Question { sql: told(sql), cause: Box::new(cause) }
}

fn firsts(rows: Vec<Vec<Option<String>>>) -> Vec<String> {
    rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect()
}

/// An assertion holds when it answers a row, and where that has one value, this is neither false nor missing.
fn holds(rows: &[Vec<Option<String>>]) -> bool {
    match rows.first().map(Vec::as_slice) {
        None => false,
        Some([value]) => value.as_deref().is_some_and(|value| value != "f"),
        Some(_) => true,
    }
}

fn answer(rows: &[Vec<Option<String>>]) -> String {
    match rows.first().map(Vec::as_slice) {
        None => "no row".to_owned(),
        Some([None]) => "NULL".to_owned(),
        Some(row) => told(&row.iter().flatten().cloned().collect::<Vec<_>>().join(", ")),
    }
}

fn told(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(MOST_TOLD) {
        None => text.to_owned(),
        Some((end, _)) => format!("{} …", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assertion_holds_by_a_row_that_is_not_false() {
        let row = |values: &[Option<&str>]| {
            vec![values.iter().map(|value| value.map(str::to_owned)).collect::<Vec<_>>()]
        };
        assert!(holds(&row(&[Some("t")])) && holds(&row(&[Some("17")])) && holds(&row(&[None, Some("f")])));
        assert!(!holds(&[]) && !holds(&row(&[Some("f")])) && !holds(&row(&[None])));
        assert_eq!(answer(&row(&[None])), "NULL");
        assert_eq!(answer(&[]), "no row");
    }

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
