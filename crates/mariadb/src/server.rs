//! What a server says of itself and of its binary log.

use jiff::Timestamp;
use strongroom_database::Position;
use strongroom_database::mariadb::{file_number, offset, place};

use crate::{Connection, MariadbError};

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its version, such as `10.11.19-MariaDB-log`.
    pub version: String,
    /// Its `server_id`.
    pub id: u32,
    /// How the files of its binary log are called, without folder and number: `mysql-bin`.
    pub log_name: String,
    /// Settings without which its files cannot be read by another server.
    pub settings: Vec<(&'static str, String)>,
    /// `sync_binlog` and `innodb_flush_log_at_trx_commit` are both 1: no crash takes back what was committed.
    pub is_durable: bool,
}

/// Where a binary log ends at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnd {
    /// Here.
    pub end: Position,
    /// The moment, by the server's clock: what was committed before it lies before `end`.
    pub at: Timestamp,
}

/// What has to be the same in a server that reads the files: its name there, and as a setting on the command line.
const SETTINGS: [(&str, &str); 5] = [
    ("innodb-page-size", "innodb_page_size"),
    ("innodb-data-file-path", "innodb_data_file_path"),
    ("innodb-undo-tablespaces", "innodb_undo_tablespaces"),
    ("innodb-checksum-algorithm", "innodb_checksum_algorithm"),
    ("lower-case-table-names", "lower_case_table_names"),
];

impl Connection {
    /// What the server says of itself.
    ///
    /// # Errors
    /// When it cannot be archived as it is set up, or does not answer.
    pub async fn identify(&mut self) -> Result<Server, MariadbError> {
        let version = self.version().to_owned();
        if !version.contains("MariaDB") {
            return Err(self.unfit(format!("it is {version:?}, and only MariaDB is supported")));
        }
        let asked = "SELECT @@log_bin, @@encrypt_binlog, @@server_id, COALESCE(@@log_bin_basename, ''), @@sync_binlog, @@innodb_flush_log_at_trx_commit";
        let row = self.ask_row("its settings", asked).await?;
        let [log_bin, encrypted, id, path, sync, flush] = &row[..] else {
            return Err(self.talk.protocol("settings that are none"));
        };
        if log_bin != "1" {
            return Err(self.unfit("it writes none: set `log_bin`".to_owned()));
        }
        if encrypted != "0" {
            return Err(
                self.unfit("`encrypt_binlog` is on, and what it sends then is not what it wrote".to_owned())
            );
        }
        let id = id.parse().map_err(|_| self.talk.protocol("a server_id that is no number"))?;
        let log_name = path.rsplit('/').next().unwrap_or_default().to_owned();
        let is_durable = sync == "1" && flush == "1";
        let names: Vec<String> = SETTINGS.iter().map(|(_, variable)| format!("@@{variable}")).collect();
        let values = self.ask_row("its settings", &format!("SELECT {}", names.join(", "))).await?;
        let settings = SETTINGS.iter().zip(values).map(|((name, _), value)| (*name, value)).collect();
        Ok(Server { version, id, log_name, settings, is_durable })
    }

    /// Where the binary log ends now.
    ///
    /// # Errors
    /// When the server refuses: the account needs BINLOG MONITOR.
    pub async fn log_end(&mut self) -> Result<LogEnd, MariadbError> {
        // The clock first: what was committed by then is in the log by the time its end is asked for.
        let clock =
            self.ask_row("its clock", "SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS UNSIGNED)").await?;
        let rows = self.ask("the end of its binary log", "SHOW MASTER STATUS").await?;
        let understood = (|| {
            let mut row = rows.into_iter().next()?.into_iter().flatten();
            let end = place(file_number(&row.next()?)?, row.next()?.parse().ok()?);
            let at = Timestamp::from_microsecond(clock.first()?.parse().ok()?).ok()?;
            Some(LogEnd { end, at })
        })();
        understood.ok_or_else(|| self.talk.protocol("an end of the binary log that is none"))
    }

    /// The files of the binary log: each one's end, oldest first.
    ///
    /// # Errors
    /// When the server refuses: the account needs BINLOG MONITOR.
    pub async fn log_files(&mut self) -> Result<Vec<Position>, MariadbError> {
        let rows = self.ask("its binary logs", "SHOW BINARY LOGS").await?;
        let files: Option<Vec<Position>> = rows
            .into_iter()
            .map(|row| {
                let mut row = row.into_iter().flatten();
                Some(place(file_number(&row.next()?)?, row.next()?.parse().ok()?))
            })
            .collect();
        files.ok_or_else(|| self.unfit("a file of it is larger than 4 GiB, or has no number".to_owned()))
    }

    /// What was committed before a place, of each domain the last, as the server writes it; `None`: it does not know the place.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn committed_before(
        &mut self,
        log_name: &str,
        at: Position,
    ) -> Result<Option<String>, MariadbError> {
        let name = file_name(log_name, at).replace('\'', "''");
        let sql = format!("SELECT BINLOG_GTID_POS('{name}', {})", offset(at).max(4));
        let rows = self.ask("what was committed before a place", &sql).await?;
        Ok(rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten())
    }

    fn unfit(&self, reason: String) -> MariadbError {
        MariadbError::Unfit { place: self.talk.place().to_owned(), reason }
    }
}

/// The name of the file in which a position lies.
#[must_use]
pub fn file_name(log_name: &str, at: Position) -> String {
    format!("{log_name}.{:06}", strongroom_database::mariadb::file(at))
}
