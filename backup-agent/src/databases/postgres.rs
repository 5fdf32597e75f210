//! PostgreSQL, as archiving knows it: a physical slot that keeps the log, a stream of it, two positions around the cut. Where
//! nobody may replicate, its `archive_command` hands the log over instead.

mod base;
mod handed;
mod parting;
mod slot;

use std::sync::Arc;

use async_trait::async_trait;
use strongroom_database::postgres::{Start, Version, forks};
use strongroom_database::{Indexed, Indexer, LineageId, Position};
use strongroom_postgres::receiver::{Ended as StreamEnded, Receiver};
use strongroom_postgres::replication::SlotName;
use strongroom_postgres::{PostgresError, ReplicationConnection, System, Target};
use strongroom_repository::fold::LogState;
use strongroom_repository::record::LogOpened;
use strongroom_settings::{PostgresConfig, PostgresLog};

use super::engine::{
    Beginning, Begun, Ended, Engine, EngineError, Fork, Held, Known, LogReader, Onward, ReadFrom, Receiving,
    Source,
};
use handed::Handover;

/// Segments of a server that says nothing else.
const USUAL_SEGMENT: u32 = 16 << 20;

/// A cluster, and the slot that is ours in it.
#[derive(Debug, Clone)]
pub(super) struct Postgres {
    target: Target,
    slot: SlotName,
    /// How much of its log the server may be made to keep.
    held_bytes: u64,
    /// Through which its log is handed over; `None`: it is streamed.
    handover: Option<Arc<Handover>>,
    /// How much may wait there.
    handover_bytes: u64,
}

impl Postgres {
    /// `None`: the name of its slot is none, which the configuration was checked for.
    pub(super) fn new(config: &PostgresConfig, spool_bytes: u64) -> Option<Self> {
        let target = Target {
            host: config.host.clone(),
            port: config.port,
            user: config.user.clone(),
            database: config.database.clone(),
            password_file: config.password_file.clone(),
            pgpass: config.pgpass_file.clone(),
            tls: config.tls,
            tls_ca: config.tls_ca.clone(),
            application: "strongroom".to_owned(),
        };
        let handover = match &config.log {
            PostgresLog::Stream => None,
            PostgresLog::Handover(folder) => Some(Arc::new(Handover::new(folder.clone()))),
        };
        Some(Self {
            target,
            slot: SlotName::new(&config.slot)?,
            held_bytes: config.held.bytes(),
            handover,
            handover_bytes: spool_bytes / 4,
        })
    }
}

impl From<PostgresError> for EngineError {
    fn from(error: PostgresError) -> Self {
        let is_gap = error.is_gap();
        Self::new(error, is_gap)
    }
}

#[async_trait]
impl Engine for Postgres {
    fn name(&self) -> &'static str {
        "postgresql"
    }

    async fn connect(&self) -> Result<Box<dyn Source>, EngineError> {
        if let Some(handover) = &self.handover {
            return Ok(Box::new(handed::connect(self, handover).await?));
        }
        let mut connection = ReplicationConnection::open(&self.target).await?;
        // The slot first: from here on the server keeps what the log will begin with.
        connection.create_slot(&self.slot).await?;
        let system = connection.identify().await?;
        tracing::debug!(server = %self.target, encrypted = connection.is_encrypted(), "connected to PostgreSQL");
        Ok(Box::new(Stream { cluster: self.clone(), connection, system }))
    }

    fn reader(&self, opened: &LogOpened, from: ReadFrom) -> Option<Box<dyn LogReader>> {
        let major = opened.facts.get("version").and_then(|version| version.split('.').next()?.parse().ok());
        let version = major.and_then(Version::of_major)?;
        let start = match from {
            ReadFrom::Anywhere(at) => Start::Anywhere(at),
            ReadFrom::Boundary(at) => Start::Boundary(at),
        };
        let segment_bytes = segment_bytes(opened);
        Some(Box::new(Indexer::new(start, LineageId(opened.lineage), segment_bytes, Some(version))))
    }

    async fn begin_base(&self, opened: &LogOpened) -> Result<Begun, EngineError> {
        Ok(base::begin(self, opened).await?)
    }

    async fn held(&self) -> Result<Option<Held>, EngineError> {
        let bytes = match &self.handover {
            None => slot::held(self).await?,
            Some(_) => handed::held(self).await?,
        };
        Ok(bytes.map(|bytes| Held { bytes, limit_bytes: self.held_bytes }))
    }

    async fn let_go(&self) -> Result<(), EngineError> {
        match &self.handover {
            None => slot::let_go(self).await?,
            Some(handover) => handed::let_go(self, handover).await?,
        }
        Ok(())
    }
}

fn segment_bytes(opened: &LogOpened) -> u32 {
    let bytes = opened.facts.get("segment-bytes").and_then(|bytes| bytes.parse().ok());
    bytes.filter(|bytes| *bytes > 0).unwrap_or(USUAL_SEGMENT)
}

fn is_of(system: &System, opened: &LogOpened) -> Result<(), EngineError> {
    let found = system.identifier;
    match opened.identity.parse::<u64>() {
        Ok(expected) if expected != found => Err(PostgresError::OtherCluster { expected, found }.into()),
        _ => Ok(()),
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
    cluster: Postgres,
    connection: ReplicationConnection,
    system: System,
}

impl Stream {
    /// How the server came to a timeline, in its own words. The first one has no history.
    async fn history(&mut self, timeline: LineageId) -> Result<Option<String>, PostgresError> {
        match timeline {
            LineageId(1) => Ok(None),
            timeline => self.connection.timeline_history(timeline).await.map(Some),
        }
    }
}

#[async_trait]
impl Source for Stream {
    fn is_of(&self, opened: &LogOpened) -> Result<(), EngineError> {
        is_of(&self.system, opened)
    }

    async fn onward(&mut self, known: &[Known]) -> Result<Onward, EngineError> {
        let timeline = self.system.timeline;
        let history = self.history(timeline).await?;
        let forks = history.as_deref().map(forks).unwrap_or_default();
        Ok(parting::onward(timeline, &forks, known)?)
    }

    /// With the segment in which the server would replay first, or in which the last timeline ended.
    async fn beginning(
        &mut self,
        fork: Option<Fork>,
        _: Option<&LogState>,
    ) -> Result<Beginning, EngineError> {
        let (lineage, at) = match fork {
            Some(fork) => (fork.next, fork.at),
            None => (self.system.timeline, base::last_redo(&self.cluster, self.system.flushed).await),
        };
        let history = self.history(lineage).await?;
        let fork = fork.and_then(|fork| Some((fork.parent?, fork.at)));
        Ok(Beginning {
            identity: self.system.identifier.to_string(),
            lineage,
            start: at.segment_start(self.system.segment_bytes),
            // Where nobody saw the fork, the server's own account of it does.
            fork: fork.or_else(|| history.as_deref().and_then(|history| forks(history).pop())),
            history,
            facts: vec![
                ("version", self.system.version.clone()),
                ("segment-bytes", self.system.segment_bytes.to_string()),
            ],
        })
    }

    async fn receive(self: Box<Self>, into: Receiving) -> Result<Ended, EngineError> {
        let receiver = Receiver {
            slot: self.cluster.slot,
            timeline: LineageId(into.opened.lineage),
            spool: into.spool,
            budget_bytes: into.budget_bytes,
            world: into.world,
        };
        let ended =
            receiver.receive(self.connection, &self.system, into.from, &into.progress, &into.cancel).await?;
        Ok(match ended {
            StreamEnded::Cancelled => Ended::Cancelled,
            StreamEnded::Timeline { next, at } => Ended::Lineage { next, at },
        })
    }
}
