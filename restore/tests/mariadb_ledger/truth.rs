//! What MariaDB's own program says of the server's own files.

use std::collections::BTreeSet;
use std::process::Command;

use jiff::Timestamp;
use strongroom_database::mariadb::{file_number, place};
use strongroom_database::{Position, TransactionId};

use crate::server::Server;

/// Every transaction, in the order of the log.
pub(crate) struct Truth {
    pub(crate) commits: Vec<Told>,
}

pub(crate) struct Told {
    pub(crate) start: Position,
    pub(crate) at: Timestamp,
    pub(crate) transaction: TransactionId,
    /// The rows of the ledger that it wrote.
    rows: Vec<u64>,
}

impl Truth {
    pub(crate) fn of(server: &Server) -> Self {
        let mut commits = Vec::new();
        for line in server.sql("show binary logs").lines() {
            let name = line.split('\t').next().unwrap();
            let output = Command::new("/usr/bin/mariadb-binlog")
                .env("TZ", "UTC")
                .args(["--no-defaults", "--base64-output=decode-rows"])
                .arg(server.data().join(name))
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            read(file_number(name).unwrap(), &String::from_utf8_lossy(&output.stdout), &mut commits);
        }
        Self { commits }
    }

    /// The rows of the longest part of the log without a later transaction.
    pub(crate) fn until(&self, time: Timestamp) -> BTreeSet<u64> {
        rows(self.commits.iter().take_while(|told| told.at <= time))
    }

    pub(crate) fn before(&self, position: Position) -> BTreeSet<u64> {
        rows(self.commits.iter().filter(|told| told.start < position))
    }
}

fn rows<'a>(commits: impl Iterator<Item = &'a Told>) -> BTreeSet<u64> {
    commits.flat_map(|told| &told.rows).copied().collect()
}

/// Transactions as the program writes them: `# at 4711`, a line with stamp and `GTID 0-7-12`, what they did, and `COMMIT`.
fn read(file: u32, text: &str, commits: &mut Vec<Told>) {
    let (mut at, mut under_way): (u32, Option<Told>) = (0, None);
    let mut stamped = Timestamp::UNIX_EPOCH;
    for line in text.lines() {
        // What the server does by itself after a crash has no stamp: it counts as what stands before it.
        if line.starts_with('#') && line.contains(" server id ") && !line.starts_with("#700101") {
            stamped = stamp(line);
        }
        if let Some(offset) = line.strip_prefix("# at ") {
            at = offset.parse().unwrap();
        } else if let Some((_, name)) = line.split_once("\tGTID ") {
            let mut words = name.split(' ');
            let transaction = words.next().unwrap().parse().unwrap();
            let told = Told { start: place(file, at), at: stamped, transaction, rows: Vec::new() };
            // A change of the schema is one statement, without a word that ends it.
            if words.any(|word| word == "ddl") {
                commits.push(told);
            } else {
                under_way = Some(told);
            }
        } else if line.starts_with("COMMIT") {
            commits.extend(under_way.take());
        } else if let Some(told) = &mut under_way {
            let marks = line.match_indices("row:").filter_map(|(place, mark)| {
                line[place + mark.len()..].split_once(';').and_then(|(number, _)| number.parse::<u64>().ok())
            });
            told.rows.extend(marks);
        }
    }
}

/// `#261122  7:40:13 server id 7 …`
fn stamp(line: &str) -> Timestamp {
    let mut words = line.trim_start_matches('#').split_whitespace();
    let (day, time) = (words.next().unwrap(), words.next().unwrap());
    format!("20{}-{}-{}T{time:0>8}Z", &day[..2], &day[2..4], &day[4..]).parse().unwrap()
}
