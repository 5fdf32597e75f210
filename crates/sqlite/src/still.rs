//! A database that lies still: nobody writes it, so it is read without locks and without files beside it.
//!
//! Nothing that is asked can write: the file is opened for reading alone, and a statement that would write elsewhere is refused.

use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rusqlite::fallible_iterator::FallibleIterator as _;
use rusqlite::types::ValueRef;
use rusqlite::{Batch, Connection, InterruptHandle, OpenFlags};

use crate::SqliteError;

/// What an answer may take in memory: what a person reads, with much to spare.
const MOST_BYTES: usize = 64 << 20;

/// Rows of values as text; `None`: NULL.
pub type Rows = Vec<Vec<Option<String>>>;

/// A database file that nobody writes.
#[derive(Debug)]
pub struct Still {
    path: PathBuf,
    connection: Connection,
}

impl Still {
    /// Opens it. What is in a log file beside it does not count.
    ///
    /// # Errors
    /// When it is missing, or SQLite refuses.
    pub fn open(path: &Path) -> Result<Self, SqliteError> {
        if !path.is_file() {
            return Err(SqliteError::Missing { path: path.to_owned() });
        }
        let flags =
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(uri(path), flags)
            .map_err(|cause| SqliteError::Refused { doing: "opening", path: path.to_owned(), cause })?;
        Ok(Self { path: path.to_owned(), connection })
    }

    /// To end a question that takes too long, from another thread.
    #[must_use]
    pub fn interrupt(&self) -> InterruptHandle {
        self.connection.get_interrupt_handle()
    }

    /// What it answers to one or several statements, none of which can write.
    ///
    /// # Errors
    /// What SQLite says; also when the answer is too large.
    pub fn ask(&self, sql: &str) -> rusqlite::Result<Rows> {
        let (mut all, mut bytes) = (Rows::new(), 0);
        let mut statements = Batch::new(&self.connection, sql);
        while let Some(mut statement) = statements.next()? {
            if !statement.readonly() {
                return Err(refusal("the copy is only read: this would write"));
            }
            let columns = statement.column_count();
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let values: Vec<_> =
                    (0..columns).map(|at| row.get_ref(at).map(shown)).collect::<rusqlite::Result<_>>()?;
                bytes += values.iter().flatten().map(String::len).sum::<usize>() + 24 * columns;
                if bytes > MOST_BYTES {
                    return Err(refusal("the answer is too large"));
                }
                all.push(values);
            }
        }
        Ok(all)
    }

    /// `PRAGMA integrity_check`
    ///
    /// # Errors
    /// When it finds something.
    pub fn check(&self) -> Result<(), SqliteError> {
        let found = self.connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0));
        match self.done("checking", found)? {
            found if found == "ok" => Ok(()),
            found => Err(SqliteError::Differs { path: self.path.clone(), what: found }),
        }
    }

    /// How many pages it has.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn pages(&self) -> Result<u32, SqliteError> {
        let found = self.connection.query_row("PRAGMA page_count", [], |row| row.get(0));
        self.done("reading", found)
    }

    /// Writes tables with their rows, indexes and triggers as SQL that makes them anew. `*` and `?` in a name stand for others.
    ///
    /// # Errors
    /// When there is no such table, one is virtual, or it cannot be written.
    pub fn dump(&self, names: &[String], out: &mut dyn Write) -> Result<(), SqliteError> {
        let mut tables: Vec<String> = Vec::new();
        for name in names {
            let found = self.tables_like(name.strip_prefix("main.").unwrap_or(name));
            let found = self.done("reading the schema of", found)?;
            if found.is_empty() {
                return Err(self.not_dumped(format!("there is no table {name}")));
            }
            tables.extend(found.into_iter().filter(|table| !tables.contains(table)).collect::<Vec<_>>());
        }
        self.line(out, "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;")?;
        for table in &tables {
            self.dump_table(table, out)?;
        }
        self.line(out, "COMMIT;")?;
        out.flush().map_err(|cause| self.unwritten(cause))
    }

    fn tables_like(&self, pattern: &str) -> rusqlite::Result<Vec<String>> {
        let is_pattern = pattern.contains(['*', '?']);
        let wanted = if is_pattern { "lower(name) GLOB lower(?1)" } else { "name = ?1 COLLATE NOCASE" };
        let sql = format!(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND {wanted} ORDER BY rowid"
        );
        // What a bracket means in a pattern of SQLite is nothing that a person means.
        let pattern = if is_pattern { pattern.replace('[', "[[]") } else { pattern.to_owned() };
        self.connection.prepare(&sql)?.query_map([pattern], |row| row.get(0))?.collect()
    }

    fn dump_table(&self, table: &str, out: &mut dyn Write) -> Result<(), SqliteError> {
        let schema = "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?1";
        let made: rusqlite::Result<String> = self.connection.query_row(schema, [table], |row| row.get(0));
        let made = self.done("reading the schema of", made)?;
        if made.trim_start().get(..14).is_some_and(|begin| begin.eq_ignore_ascii_case("CREATE VIRTUAL")) {
            return Err(self.not_dumped(format!("{table} is a virtual table")));
        }
        self.line(out, &format!("{made};"))?;
        let quoted = quoted(table);
        // Columns that are computed cannot be inserted.
        let columns = self
            .connection
            .prepare("SELECT name FROM pragma_table_xinfo(?1) WHERE hidden = 0 ORDER BY cid")
            .and_then(|mut columns| {
                columns.query_map([table], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()
            });
        let columns: Vec<String> =
            self.done("reading the schema of", columns)?.iter().map(|name| self::quoted(name)).collect();
        let columns = columns.join(",");
        let all = format!("SELECT {columns} FROM {quoted}");
        let mut all = self.done("reading", self.connection.prepare(&all))?;
        let count = all.column_count();
        let mut rows = self.done("reading", all.query([]))?;
        let mut line = String::new();
        while let Some(row) = self.done("reading", rows.next())? {
            line.clear();
            line.push_str("INSERT INTO ");
            line.push_str(&quoted);
            line.push_str(&format!("({columns}) VALUES("));
            for at in 0..count {
                if at > 0 {
                    line.push(',');
                }
                let literal = row.get_ref(at).and_then(|value| self.literal(value));
                line.push_str(&self.done("reading", literal)?);
            }
            line.push_str(");");
            self.line(out, &line)?;
        }
        self.dump_rest(table, out)
    }

    /// What belongs to a table: how far its numbers went, indexes, triggers.
    fn dump_rest(&self, table: &str, out: &mut dyn Write) -> Result<(), SqliteError> {
        let sequence: rusqlite::Result<i64> =
            self.connection
                .query_row("SELECT seq FROM sqlite_sequence WHERE name = ?1", [table], |row| row.get(0));
        // Without such a table there is no such number.
        if let Ok(number) = sequence {
            let name = text_literal(table.as_bytes());
            self.line(out, &format!("DELETE FROM sqlite_sequence WHERE name = {name};"))?;
            self.line(out, &format!("INSERT INTO sqlite_sequence VALUES({name},{number});"))?;
        }
        let others = "SELECT sql FROM sqlite_schema WHERE tbl_name = ?1 AND type IN ('index', 'trigger') AND sql NOT NULL ORDER BY rowid";
        let others = self.connection.prepare(others).and_then(|mut others| {
            others.query_map([table], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()
        });
        for made in self.done("reading the schema of", others)? {
            self.line(out, &format!("{made};"))?;
        }
        Ok(())
    }

    fn literal(&self, value: ValueRef<'_>) -> rusqlite::Result<String> {
        Ok(match value {
            ValueRef::Null => "NULL".to_owned(),
            ValueRef::Integer(number) => number.to_string(),
            // SQLite writes so many digits that it reads the very same number.
            ValueRef::Real(number) => {
                self.connection.query_row("SELECT quote(?1)", [number], |row| row.get(0))?
            }
            ValueRef::Text(text) => text_literal(text),
            ValueRef::Blob(bytes) => blob_literal(bytes),
        })
    }

    fn line(&self, out: &mut dyn Write, line: &str) -> Result<(), SqliteError> {
        writeln!(out, "{line}").map_err(|cause| self.unwritten(cause))
    }

    fn unwritten(&self, cause: std::io::Error) -> SqliteError {
        SqliteError::File { path: "the dump".into(), cause }
    }

    fn not_dumped(&self, what: String) -> SqliteError {
        SqliteError::NotDumped { path: self.path.clone(), what }
    }

    fn done<T>(&self, doing: &'static str, done: rusqlite::Result<T>) -> Result<T, SqliteError> {
        done.map_err(|cause| SqliteError::Refused { doing, path: self.path.clone(), cause })
    }
}

/// Whether SQLite does not know what a statement names: a table that was dropped, or not made yet.
#[must_use]
pub fn is_missing(error: &rusqlite::Error) -> bool {
    let words = match error {
        rusqlite::Error::SqlInputError { msg, .. } => msg,
        rusqlite::Error::SqliteFailure(_, Some(msg)) => msg,
        _ => return false,
    };
    ["no such table", "no such column", "no such function"].iter().any(|begin| words.starts_with(begin))
}

/// A file as SQLite wants it named that is to be read as it lies there.
#[must_use]
pub fn uri(path: &Path) -> String {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                uri.push(char::from(*byte))
            }
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri + "?immutable=1"
}

fn refusal(words: &str) -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY);
    rusqlite::Error::SqliteFailure(code, Some(words.to_owned()))
}

fn shown(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Some(blob_literal(bytes)),
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn blob_literal(bytes: &[u8]) -> String {
    let mut literal = String::with_capacity(3 + 2 * bytes.len());
    literal.push_str("X'");
    for byte in bytes {
        literal.push_str(&format!("{byte:02x}"));
    }
    literal + "'"
}

/// Text ends for SQLite's parser where it has a zero byte.
fn text_literal(text: &[u8]) -> String {
    match std::str::from_utf8(text) {
        Ok(text) if !text.contains('\0') => format!("'{}'", text.replace('\'', "''")),
        _ => format!("CAST({} AS TEXT)", blob_literal(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(folder: &Path, sql: &str) -> PathBuf {
        let path = folder.join("a b%?#.db");
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        path
    }

    #[test]
    fn a_database_that_lies_still_answers_and_cannot_be_written_and_nothing_appears_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = made(
            folder.path(),
            "PRAGMA journal_mode=WAL; CREATE TABLE t (a, b); INSERT INTO t VALUES (1, NULL), (2.5, 'x'), (x'00ff', '');",
        );
        let still = Still::open(&path).unwrap();
        let value = |text: &str| Some(text.to_owned());
        assert_eq!(
            still.ask("SELECT * FROM t; SELECT count(*) FROM t").unwrap(),
            [
                vec![value("1"), None],
                vec![value("2.5"), value("x")],
                vec![value("X'00ff'"), value("")],
                vec![value("3")]
            ]
        );
        still.check().unwrap();
        for write in [
            "INSERT INTO t VALUES (1, 1)",
            "DROP TABLE t",
            &format!("VACUUM INTO '{}'", folder.path().join("other.db").display()),
            &format!(
                "ATTACH '{}' AS other; CREATE TABLE other.u (a)",
                folder.path().join("third.db").display()
            ),
        ] {
            still.ask(write).unwrap_err();
        }
        assert!(is_missing(&still.ask("SELECT * FROM u").unwrap_err()));
        assert!(is_missing(&still.ask("SELECT c FROM t").unwrap_err()));
        assert!(!is_missing(&still.ask("SELECT").unwrap_err()));
        let names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["a b%?#.db"]);
    }

    #[test]
    fn a_dump_makes_the_very_same_table_anew() {
        let folder = tempfile::tempdir().unwrap();
        let schema = "CREATE TABLE \"order s\" (id INTEGER PRIMARY KEY AUTOINCREMENT, v, twice AS (id * 2)); CREATE INDEX by_v ON \"order s\" (v);
            CREATE TABLE other (a); CREATE TABLE order_2 (a TEXT PRIMARY KEY) WITHOUT ROWID;
            INSERT INTO \"order s\" (v) VALUES (NULL), (0.1), (1e300), (-9223372036854775808), (9e999), ('it''s'), (x'00'), (CAST(x'610062' AS TEXT)), (CAST(x'ff' AS TEXT)), (3.0);
            DELETE FROM \"order s\" WHERE id = 1; INSERT INTO order_2 VALUES ('k');";
        let path = made(folder.path(), schema);
        let still = Still::open(&path).unwrap();
        let mut text = Vec::new();
        still.dump(&["ORDER S".to_owned(), "order_?".to_owned()], &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let again = Connection::open_in_memory().unwrap();
        again.execute_batch(&text).unwrap();
        let all = "SELECT group_concat(id || typeof(v) || hex(v) || iif(typeof(v) = 'real', quote(v), '') || twice, ';') FROM \"order s\"";
        let sequence = "SELECT seq FROM sqlite_sequence";
        let names = "SELECT group_concat(name) FROM (SELECT name FROM sqlite_schema ORDER BY name)";
        let ask = |sql: &str| again.query_row(sql, [], |row| row.get::<_, String>(0));
        assert_eq!(Some(ask(all).unwrap()), still.ask(all).unwrap()[0][0]);
        assert_eq!(again.query_row(sequence, [], |row| row.get::<_, i64>(0)).unwrap(), 10);
        assert_eq!(ask(names).unwrap(), "by_v,order s,order_2,sqlite_sequence");
        let missing = still.dump(&["nothing".to_owned()], &mut Vec::new()).unwrap_err();
        assert!(matches!(missing, SqliteError::NotDumped { .. }), "{missing}");
    }
}
