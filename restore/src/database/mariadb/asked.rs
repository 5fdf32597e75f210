//! A copy of MariaDB that is looked at, or proved: its server answers where it was brought to.
//!
//! The server can write, unlike one of PostgreSQL in recovery: what is asked is asked in transactions that may only read. What it
//! does otherwise goes with the copy.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use async_trait::async_trait;
use strongroom_archive::DatabaseArchive;
use strongroom_console::Failed;
use strongroom_database::{Plan, Position, TransactionId};
use strongroom_mariadb::MariadbError;

use super::super::RecoveryError;
use super::super::answer::{Answer, AskError, told};
use super::super::beside::folder_with;
use super::super::copy::{Compared, DatabaseCopy, Place};
use super::super::look::LookError;
use super::super::mark::Mark;
use super::super::proving::{ProvingError, or_stop};
use super::{LARGEST_PACKET, LaidOutLog, MARK, MariadbCopy, Reached, ReplayError, log_name, settings};

/// Everything that has rows on disk, and what should have but cannot be opened.
const TABLES: &str = "SELECT table_schema, table_name FROM information_schema.tables \
     WHERE table_type NOT IN ('VIEW', 'SYSTEM VIEW') AND (engine IS NULL OR engine IN ('InnoDB', 'Aria', 'MyISAM', 'ARCHIVE', 'CSV')) \
     ORDER BY 1, 2";

/// The engine's own check.
const CHECK: &str = "CHECK TABLE";

/// What a table is said to be that has nothing wrong.
const WHOLE: [&str; 2] = ["OK", "Table is already up to date"];

/// The numbers with which the server says that a database, a column, a table or a function is not there.
const MISSING: [u16; 5] = [1049, 1054, 1109, 1146, 1305];

/// A copy, from a volume that is mounted to the one that is unmounted again.
pub(in super::super) struct AskedCopy {
    archive: Arc<DatabaseArchive>,
    place: Place,
    data: PathBuf,
    copy: Option<MariadbCopy>,
    log: Option<LaidOutLog>,
    /// What it was brought to when it rested.
    stood: Option<Reached>,
}

impl AskedCopy {
    pub(in super::super) fn new(archive: Arc<DatabaseArchive>, place: Place) -> Self {
        Self { archive, place, data: PathBuf::new(), copy: None, log: None, stood: None }
    }

    fn copy(&mut self) -> Result<&mut MariadbCopy, LookError> {
        self.copy.as_mut().ok_or(LookError::Gone)
    }

    /// A program that comes in where everybody may do everything.
    async fn client(&mut self, name: &'static str) -> Result<Command, Failed> {
        let settings = settings(&self.archive);
        let copy = self.copy()?;
        let socket = copy.open_doors(&settings).await?;
        let mut command = Command::new(copy.program(name)?);
        command.args(["--no-defaults", "--user=root", "--default-character-set=utf8mb4", LARGEST_PACKET]);
        command.arg(format!("--socket={}", socket.display()));
        Ok(command)
    }

    async fn query(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, AskError> {
        let copy = self.copy.as_mut().ok_or(AskError::Ending)?;
        copy.ask("the copy", sql).await.map_err(|cause| question(sql, cause))
    }
}

fn question(sql: &str, cause: ReplayError) -> AskError {
    let number = match &cause {
        ReplayError::Server(MariadbError::Refused { number, .. }) => Some(*number),
        _ => None,
    };
    let is_missing = number.is_some_and(|number| MISSING.contains(&number));
    AskError::Question { sql: told(sql), is_missing, cause: Box::new(cause) }
}

#[async_trait]
impl DatabaseCopy for AskedCopy {
    /// Whatever is planned can be replayed.
    fn fits(&self, _: &Plan) -> Result<(), Failed> {
        Ok(())
    }

    async fn take_up(&mut self, _: &Plan) -> Result<PathBuf, Failed> {
        let place = &self.place;
        self.data = folder_with(MARK, &place.mounted, place.data_directory.as_deref())?;
        let programs = place.programs.as_deref();
        let copy = MariadbCopy::prepare(&self.data, &place.server, programs, log_name(&self.archive))?;
        if self.log.is_none() {
            self.log = Some(copy.log()?);
        }
        self.copy = Some(copy);
        Ok(self.data.clone())
    }

    async fn fetch(&mut self, plan: &Plan) -> Result<(), Failed> {
        let log = self.log.as_mut().ok_or(LookError::Gone)?;
        or_stop(&self.place.given_up, log.fetch(&self.archive, plan)).await
    }

    async fn go_to(&mut self, plan: &Plan) -> Result<Option<Position>, Failed> {
        self.fetch(plan).await?;
        let settings = settings(&self.archive);
        let (copy, log) =
            (self.copy.as_mut().ok_or(LookError::Gone)?, self.log.as_ref().ok_or(LookError::Gone)?);
        let stood = &self.stood;
        let going = async {
            if !copy.is_running() {
                copy.start(&settings).await?;
                if let Some(stood) = stood.clone() {
                    copy.go_on_from(stood).await?;
                }
            }
            copy.go_to(log, plan).await
        };
        Ok(Some(or_stop(&self.place.given_up, going).await?))
    }

    async fn ask(&mut self, sql: &str) -> Result<Answer, AskError> {
        let given_up = self.place.given_up.clone();
        let database = self.place.asking.database.as_deref().map(|name| format!("USE {}", quoted(name)));
        let asking = async {
            if let Some(choose) = database {
                self.query(&choose).await?;
            }
            self.query("SET SESSION TRANSACTION READ ONLY").await?;
            let rows = self.query(sql).await;
            self.query("SET SESSION TRANSACTION READ WRITE").await?;
            Ok::<_, AskError>(Answer(rows?))
        };
        tokio::select! {
            answer = asking => answer,
            () = given_up.cancelled() => Err(AskError::Ending),
        }
    }

    /// That it has exactly what the log says up to its stop was proved when it was brought there.
    async fn compare(&mut self, plan: &Plan) -> Result<Compared, Failed> {
        let given_up = self.place.given_up.clone();
        let copy = self.copy()?;
        let state = or_stop(&given_up, copy.committed()).await?;
        let replayed_to = copy.reached().map_or(plan.base.end, Reached::at);
        let has = |transaction: TransactionId| match transaction {
            TransactionId::Global { source, sequence } => state.has(source, sequence),
            TransactionId::Number(_) => false,
        };
        let differs = |what: String| ProvingError::Differs { what };
        let mut said = format!("it has exactly the transactions of the log up to {replayed_to}");
        if let Some(kept) = plan.last_kept {
            if !has(kept.transaction) {
                let what = format!("transaction {} should be in, and it has {state}", kept.transaction);
                return Err(differs(what).into());
            }
            said = format!("{said}; transaction {} of {} is in", kept.transaction, kept.at);
        }
        if let Some(dropped) = plan.first_dropped {
            if has(dropped.transaction) {
                let what =
                    format!("transaction {} should not be in, and it has {state}", dropped.transaction);
                return Err(differs(what).into());
            }
            said = format!("{said}; transaction {} of {} is not", dropped.transaction, dropped.at);
        }
        Ok(Compared { replayed_to, last_at: plan.last_kept.map(|kept| kept.at), said })
    }

    /// Each table with all of its indexes.
    async fn check(&mut self) -> Result<Vec<String>, Failed> {
        let given_up = self.place.given_up.clone();
        let tables = or_stop(&given_up, self.query(TABLES)).await?;
        let mut whole = 0;
        for table in tables {
            let [Some(schema), Some(name)] = &table[..] else { continue };
            let table = format!("{}.{}", quoted(schema), quoted(name));
            let sql = format!("{CHECK} {table}");
            let copy = self.copy()?;
            let asked = tokio::select! {
                asked = copy.ask("the copy", &sql) => asked,
                () = given_up.cancelled() => return Err(RecoveryError::Ending.into()),
            };
            let rows = match asked {
                Ok(rows) => rows,
                // InnoDB ends its server rather than going on with a damaged page.
                Err(ReplayError::Server(MariadbError::Broken { .. })) => {
                    return Err(ProvingError::Corrupt { tool: CHECK, words: told(&copy.words()) }.into());
                }
                Err(cause) => return Err(question(&sql, cause).into()),
            };
            // Table, what was done, kind of message, message.
            let word =
                |row: &[Option<String>], place: usize| row.get(place).cloned().flatten().unwrap_or_default();
            let said: Vec<(String, String)> = rows.iter().map(|row| (word(row, 2), word(row, 3))).collect();
            if let Some((_, words)) = said.iter().find(|(kind, words)| is_damage(kind, words)) {
                let words = told(&format!("{table}: {words}"));
                return Err(ProvingError::Corrupt { tool: CHECK, words }.into());
            }
            whole += u64::from(said.iter().any(|(kind, _)| kind == "status"));
        }
        Ok(vec![format!("{CHECK}: {whole} tables are whole, and their indexes")])
    }

    async fn shell(&mut self) -> Result<(&'static str, Command), Failed> {
        let database = self.place.asking.database.clone();
        let mut command = self.client("mariadb").await?;
        command.args(["--prompt=copy of \\d> ", "--init-command=SET SESSION TRANSACTION READ ONLY"]);
        command.args(database);
        Ok(("mariadb", command))
    }

    /// Tables are named with their database, unless one is chosen.
    async fn dump(&mut self, tables: &[String], out: File) -> Result<(), Failed> {
        const NAME: &str = "mariadb-dump";
        let failed = |cause| LookError::Program { name: NAME, cause };
        let mut of_databases: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for table in tables {
            let (database, table) = match (table.split_once('.'), &self.place.asking.database) {
                (Some((database, table)), _) => (database.to_owned(), table),
                (None, Some(database)) => (database.clone(), table.as_str()),
                (None, None) => {
                    let said = format!("{table:?} does not say in which database it is: DATABASE.TABLE");
                    return Err(LookError::Failed { name: NAME, said }.into());
                }
            };
            of_databases.entry(database).or_default().push(table);
        }
        for (database, tables) in of_databases {
            let mut command = self.client(NAME).await?;
            command.args(["--single-transaction", "--quick", "--hex-blob", "--"]).arg(database).args(tables);
            let out = out.try_clone().map_err(failed)?;
            command.stdin(Stdio::null()).stdout(out).stderr(Stdio::piped());
            let mut command = tokio::process::Command::from(command);
            let dumping = command.kill_on_drop(true).spawn().map_err(failed)?.wait_with_output();
            let output = tokio::select! {
                output = dumping => output.map_err(failed)?,
                () = self.place.given_up.cancelled() => return Err(RecoveryError::Ending.into()),
            };
            if !output.status.success() {
                return Err(LookError::Failed {
                    name: NAME,
                    said: told(&String::from_utf8_lossy(&output.stderr)),
                }
                .into());
            }
        }
        Ok(())
    }

    async fn rest(&mut self) -> Result<(), Failed> {
        if let Some(copy) = self.copy.take() {
            self.stood = copy.reached().cloned().or_else(|| self.stood.take());
            copy.end().await?;
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<(), Failed> {
        if let Some(copy) = self.copy.take() {
            copy.kill().await;
        }
        Ok(())
    }

    async fn keep(&mut self, mark: Mark) -> Result<(), Failed> {
        self.copy.take().ok_or(LookError::Gone)?.end().await?;
        let held = mark.of_mariadb().hold(&self.data);
        Ok(held.map_err(|cause| RecoveryError::Folder { path: self.data.clone(), cause })?)
    }
}

fn is_damage(kind: &str, words: &str) -> bool {
    kind.eq_ignore_ascii_case("error") || (kind == "status" && !WHOLE.contains(&words))
}

/// A name, as SQL has it.
fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_damaged_by_what_the_server_says_of_it() {
        assert!(!is_damage("status", "OK") && !is_damage("status", "Table is already up to date"));
        assert!(!is_damage("note", "The storage engine for the table doesn't support check"));
        assert!(!is_damage("warning", "1 client is using or hasn't closed the table properly"));
        assert!(
            is_damage("Error", "Table 'a.b' doesn't exist in engine")
                && is_damage("status", "Operation failed")
        );
        assert_eq!(quoted("a`b"), "`a``b`");
    }
}
