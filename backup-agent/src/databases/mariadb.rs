//! MariaDB, as archiving knows it: a stream of its binary log, and commits held back around the cut.
//!
//! A server has neither a name of its own nor a slot. What tells its history from another is what is in it: a log goes on only
//! where its last transaction is still at its place. After `RESET MASTER` files and positions come again; so that is a history of its
//! own, with the next number.

mod base;

use async_trait::async_trait;
use strongroom_database::mariadb::{Indexer, file, place};
use strongroom_database::{Indexed, LineageId, Position, TransactionId};
use strongroom_mariadb::receiver::{Last, Receiver, Trouble};
use strongroom_mariadb::{Connection, MariadbError, Server, Target};
use strongroom_repository::fold::LogState;
use strongroom_repository::record::{CommitNote, LogOpened};
use strongroom_settings::MariadbConfig;

use super::engine::{
    Beginning, Begun, Ended, Engine, EngineError, Fork, LogReader, ReadFrom, Receiving, Source,
};

/// What was committed before the log began.
const COMMITTED_BEFORE: &str = "gtid";

/// A server, and the number by which it knows us.
#[derive(Debug, Clone)]
pub(super) struct Mariadb {
    target: Target,
    replica: u32,
}

impl Mariadb {
    pub(super) fn new(database: &str, config: &MariadbConfig) -> Self {
        let target = Target {
            host: config.host.clone(),
            port: config.port,
            user: config.user.clone(),
            password_file: config.password_file.clone(),
            tls: config.tls,
            tls_ca: config.tls_ca.clone(),
            application: "strongroom".to_owned(),
        };
        // The same each time, and far from the small numbers that people give their servers.
        let name = blake3::hash(database.as_bytes());
        let number = name.as_bytes().first_chunk().copied().map(u32::from_le_bytes).unwrap_or_default();
        Self { target, replica: number | 0x8000_0000 }
    }
}

impl From<MariadbError> for EngineError {
    fn from(error: MariadbError) -> Self {
        let is_gap = error.is_gap();
        Self::new(error, is_gap)
    }
}

#[async_trait]
impl Engine for Mariadb {
    fn name(&self) -> &'static str {
        "mariadb"
    }

    async fn connect(&self) -> Result<Box<dyn Source>, EngineError> {
        let mut connection = Connection::open(&self.target).await?;
        let server = connection.identify().await?;
        tracing::debug!(server = %self.target, encrypted = connection.is_encrypted(), "connected to MariaDB");
        if !server.is_durable {
            tracing::warn!(
                server = %self.target,
                "sync_binlog and innodb_flush_log_at_trx_commit are not both 1: when its machine loses power, the database may lose commits that are archived; then a new log begins"
            );
        }
        Ok(Box::new(Stream { mariadb: self.clone(), connection, server }))
    }

    fn reader(&self, opened: &LogOpened, from: ReadFrom) -> Option<Box<dyn LogReader>> {
        let lineage = LineageId(opened.lineage);
        Some(Box::new(match from {
            ReadFrom::Boundary(at) => Indexer::new(at, lineage),
            ReadFrom::Anywhere(at) => Indexer::anywhere(at, lineage),
        }))
    }

    async fn begin_base(&self, opened: &LogOpened) -> Result<Begun, EngineError> {
        Ok(base::begin(self, opened).await?)
    }
}

impl LogReader for Indexer {
    fn push(&mut self, at: Position, bytes: &[u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self::push(self, at, bytes)?)
    }

    fn cut(&mut self) -> Indexed {
        Self::cut(self)
    }
}

struct Stream {
    mariadb: Mariadb,
    connection: Connection,
    server: Server,
}

#[async_trait]
impl Source for Stream {
    /// What is in its log says that, when it is asked for.
    fn is_of(&self, _: &LogOpened) -> Result<(), EngineError> {
        Ok(())
    }

    /// With the file that the server writes.
    async fn beginning(
        &mut self,
        _: Option<Fork>,
        newest: Option<&LogState>,
    ) -> Result<Beginning, EngineError> {
        let end = self.connection.log_end().await?;
        let start = place(file(end.end), 0);
        let before =
            self.connection.committed_before(&self.server.log_name, start).await?.unwrap_or_default();
        let lineage = match newest {
            None => 1,
            Some(newest) if self.goes_on(newest, start, &before).await? => newest.opened.lineage,
            Some(newest) => newest.opened.lineage.saturating_add(1),
        };
        let identity = newest.map(|newest| newest.opened.identity.clone());
        let mut facts = vec![
            ("version", self.server.version.clone()),
            ("server-id", self.server.id.to_string()),
            ("log-name", self.server.log_name.clone()),
            (COMMITTED_BEFORE, before),
        ];
        facts.extend(self.server.settings.iter().cloned());
        Ok(Beginning {
            identity: identity.unwrap_or_else(|| format!("{}@{}", self.server.id, end.at)),
            lineage: LineageId(lineage),
            start,
            fork: None,
            history: None,
            facts,
        })
    }

    async fn receive(self: Box<Self>, into: Receiving) -> Result<Ended, EngineError> {
        let Self { mariadb, connection, server } = *self;
        let last = into.reached.commit.map(|commit| Last {
            start: Position::new(commit.start),
            transaction: name(&commit).to_string(),
            at: commit.at,
        });
        let receiver = Receiver {
            target: mariadb.target,
            replica: mariadb.replica,
            whole_to: into.reached.whole_to,
            last,
            from: into.from,
            committed_before: into.opened.facts.get(COMMITTED_BEFORE).cloned(),
            spool: into.spool,
            budget_bytes: into.budget_bytes,
        };
        match receiver.receive(connection, &server, &into.progress, &into.cancel).await {
            Ok(()) => Ok(Ended::Cancelled),
            Err(Trouble::Spool(error)) => {
                let is_gap = error.is_gap();
                Err(EngineError::new(error, is_gap))
            }
            Err(Trouble::Server(
                error @ (MariadbError::OtherHistory { at, .. } | MariadbError::Gap { from: at, .. }),
            )) => {
                // Another server by its own account: its log is not to mix with this one.
                let expected = into.opened.facts.get("server-id").and_then(|id| id.parse().ok());
                match expected.filter(|expected| *expected != server.id) {
                    Some(expected) => {
                        Err(MariadbError::OtherServer { at, expected, found: server.id }.into())
                    }
                    None => Err(error.into()),
                }
            }
            Err(Trouble::Server(error)) => Err(error.into()),
        }
    }
}

fn name(commit: &CommitNote) -> TransactionId {
    commit.source.map_or(TransactionId::Number(commit.transaction), |source| TransactionId::Global {
        source: u128::from_le_bytes(source),
        sequence: commit.transaction,
    })
}

impl Stream {
    /// Whether a file that begins at `start` belongs to the history of the newest log, of which something is missing then.
    ///
    /// Where the last commit that is known of it still has its file, it has to be there. Where that was purged, what was committed
    /// before `start` has to have it, or a later one.
    async fn goes_on(
        &mut self,
        newest: &LogState,
        start: Position,
        before: &str,
    ) -> Result<bool, EngineError> {
        let last = newest.bundles.values().rev().find_map(|note| note.commits).map(|commits| commits.last);
        let Some(last) = last.filter(|_| start.number() >= newest.end) else { return Ok(false) };
        let known = name(&last);
        let end = Position::new(last.end);
        if self.connection.log_files().await?.iter().any(|other| file(*other) == file(end)) {
            let there = self.connection.committed_before(&self.server.log_name, end).await?;
            return Ok(there.is_some_and(|there| there.split(',').any(|one| one == known.to_string())));
        }
        let TransactionId::Global { source: known, sequence } = known else { return Ok(false) };
        Ok(before.split(',').any(|one| {
            matches!(one.parse(), Ok(TransactionId::Global { source, sequence: found })
                if source >> 32 == known >> 32 && found >= sequence)
        }))
    }
}
