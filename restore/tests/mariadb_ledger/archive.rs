//! A small archive in memory: bases that were cut while commits were held back, and what was received, in ranges of odd sizes.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use strongroom_database::mariadb::{Indexer, file, place};
use strongroom_database::{
    Base, Catalogue, Commit, CommitIndex, Index, Lineage, LineageId, LogRange, NamedPoint, Plan, Position,
    StandsOn,
};
use strongroom_log_spool::Spool;
use strongroom_mariadb::{Connection, LogEnd};
use strongroom_model::RecoveryPointId;
use strongroom_restore::database::{LaidOutLog, MariadbCopy};

use crate::Dice;
use crate::server::Server;
use crate::writers::root;

pub(crate) struct Archive {
    pub(crate) catalogue: Catalogue,
    pub(crate) lineage: LineageId,
    bases: PathBuf,
    bytes: BTreeMap<String, Vec<u8>>,
    indexes: BTreeMap<String, Index>,
}

/// Where the server's log ends.
pub(crate) async fn log_end(server: &Server) -> LogEnd {
    Connection::open(&root(server)).await.unwrap().log_end().await.unwrap()
}

fn signal(name: &str, process: u32) {
    assert!(Command::new("kill").args([name, &process.to_string()]).status().unwrap().success());
}

impl Archive {
    pub(crate) fn new(folder: &Path) -> Self {
        let lineage = LineageId(1);
        let mut catalogue = Catalogue::default();
        let began_at = "2000-01-01T00:00:00Z".parse().unwrap();
        catalogue.lineages.add(Lineage { id: lineage, fork: None, began_at }).unwrap();
        let bases = folder.join("bases");
        fs::create_dir(&bases).unwrap();
        fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        Self { catalogue, lineage, bases, bytes: BTreeMap::new(), indexes: BTreeMap::new() }
    }

    /// Copies the data folder while commits are held back and the server is stopped: all of it at one moment, as a snapshot is.
    pub(crate) async fn cut_base(&mut self, server: &Server, folder: &Path) {
        let mut holding = Connection::open(&root(server)).await.unwrap();
        for sql in ["FLUSH LOCAL BINARY LOGS", "BACKUP STAGE START", "BACKUP STAGE BLOCK_COMMIT"] {
            holding.ask("a base", sql).await.unwrap();
        }
        let end = holding.log_end().await.unwrap();
        let number = u8::try_from(self.catalogue.bases.len()).unwrap() + 1;
        let to = self.bases.join(number.to_string());
        signal("-STOP", server.id());
        let copied = Command::new("cp").args(["-a", "--reflink=auto"]).arg(server.data()).arg(&to).status();
        signal("-CONT", server.id());
        holding.ask("a base", "BACKUP STAGE END").await.unwrap();
        assert!(copied.unwrap().success(), "{}", folder.display());
        self.catalogue.bases.push(Base {
            stands_on: StandsOn::Point(RecoveryPointId::from_bytes([number; 16])),
            lineage: self.lineage,
            start: place(file(end.end), 0),
            end: end.end,
            ready_at: end.at,
            bytes: 0,
        });
    }

    /// Takes all log that was received, in ranges that end anywhere.
    pub(crate) fn take_log(&mut self, spool: &Path, from: Position, end: LogEnd) {
        let spool = Spool::open(spool).unwrap();
        let mut indexer = Indexer::new(from, self.lineage);
        let (mut dice, mut from) = (Dice(7), from);
        let mut complete_until = jiff::Timestamp::UNIX_EPOCH;
        while let Some(piece) = spool.read(from, usize::try_from(dice.below(60_000)).unwrap() + 1000).unwrap()
        {
            let to = piece.start.plus(piece.bytes.len() as u64);
            indexer.push(piece.start, &piece.bytes).unwrap();
            let said = indexer.cut();
            complete_until = match said.commits {
                _ if to >= end.end => end.at,
                // The second of the last commit may have more of them.
                Some(commits) => complete_until.max(commits.last.at - std::time::Duration::from_secs(1)),
                None => complete_until,
            };
            let place = from.to_string();
            self.catalogue.log.push(LogRange {
                place: place.clone(),
                lineage: self.lineage,
                from,
                to,
                stored_bytes: piece.bytes.len() as u64,
                complete_until,
                whole_to: said.whole_to,
                last_record: said.last_record,
                commits: said.commits,
                named_points: said.named_points,
            });
            self.indexes.insert(place.clone(), Index::read(&said.index).unwrap());
            self.bytes.insert(place, piece.bytes.to_vec());
            from = to;
        }
    }

    /// Where the log ends.
    pub(crate) fn end(&self) -> Position {
        self.catalogue.log.iter().map(|range| range.to).max().unwrap()
    }

    /// A copy of the plan's base, whose server runs.
    pub(crate) async fn copy_base(&self, plan: &Plan, folder: &Path) -> (MariadbCopy, LaidOutLog) {
        let number = self.catalogue.bases.iter().position(|base| *base == plan.base).unwrap() + 1;
        let (data, work) = (folder.join(format!("copy-{number}")), folder.join(format!("work-{number}")));
        let from = self.bases.join(number.to_string());
        let copied = Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(&data).status().unwrap();
        assert!(copied.success());
        let mut copy = MariadbCopy::prepare(&data, &work, None, "mysql-bin").unwrap();
        let log = copy.log().unwrap();
        copy.start(&["--innodb-buffer-pool-size=16M".to_owned()]).await.unwrap();
        (copy, log)
    }

    /// Puts the plan's log where the copy finds it.
    pub(crate) fn lay_out(&self, plan: &Plan, log: &mut LaidOutLog) {
        for piece in &plan.log {
            let range = &piece.range;
            log.put_stretch(range.from, range.to, &self.bytes[&range.place], plan.base.start).unwrap();
        }
    }
}

impl CommitIndex for Archive {
    type Error = Infallible;

    fn commits(&self, range: &LogRange) -> Result<Vec<Commit>, Infallible> {
        Ok(self.indexes[&range.place].commits())
    }

    fn named_points(&self, range: &LogRange) -> Result<Vec<NamedPoint>, Infallible> {
        Ok(self.indexes[&range.place].named_points())
    }
}
