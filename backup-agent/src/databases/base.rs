//! Making a snapshot a base: what is asked of the database before and after the cut.
//!
//! The snapshot is atomic and crash consistent, so the database needs not know of it. What has to be known is from where it
//! replays (a checkpoint before the cut), and a position that nothing in it is behind (read after the cut). A database that does
//! not answer costs the base, never the backup.

use std::sync::Arc;

use jiff::Timestamp;
use strongroom_database::Position;
use strongroom_model::{LogId, VolumeName, chain};
use strongroom_postgres::{Connection, PostgresError};
use strongroom_repository::Fold;
use strongroom_repository::record::BaseOfDatabase;

use super::{Database, Databases, view};

/// The beginning of a base, before the cut.
pub(crate) struct BaseMark {
    database: Arc<Database>,
    connection: Connection,
    log: LogId,
    identity: String,
    timeline: String,
    /// The beginning of the segment in which it replays first.
    start: Position,
}

impl Databases {
    /// To be called before a volume is cut. `None`: it has no database, or none that is archived now.
    pub(crate) async fn begin_base(
        &self,
        volume: &VolumeName,
        fold: &Fold,
        now: Timestamp,
    ) -> Option<BaseMark> {
        let database = self.on(volume)?;
        let log = view::newest_log(fold, &database.name)?;
        let why = match BaseMark::begin(database, log.opened.log).await {
            Ok(mut mark) => {
                // A server that replays asks for whole segments, and looks at the beginning of each.
                let bytes = log.opened.facts.get("segment-bytes").and_then(|bytes| bytes.parse().ok());
                mark.start = mark.start.segment_start(bytes.filter(|bytes| *bytes > 0).unwrap_or(16 << 20));
                let is_same = mark.identity == log.opened.identity
                    && mark.timeline == log.opened.lineage.to_string()
                    && mark.start >= Position::new(log.opened.start);
                if is_same {
                    return Some(mark);
                }
                "it is ahead of its archived log".to_owned()
            }
            Err(error) => chain(&error),
        };
        database.no_base(now, &why);
        None
    }
}

impl Database {
    /// The backup is one all the same.
    fn no_base(&self, now: Timestamp, why: &str) {
        self.live.update(|live| live.base_failed_at = Some(now));
        let (database, volume) = (&self.name, &self.volume);
        tracing::warn!(database, %volume, why, "this backup of its volume is no base of the database");
    }
}

impl BaseMark {
    async fn begin(database: &Arc<Database>, log: LogId) -> Result<Self, PostgresError> {
        let mut connection = Connection::open(&database.target).await?;
        // The agent may be another process than this one: the server knows whether somebody receives.
        let slot =
            format!("SELECT active FROM pg_replication_slots WHERE slot_name = '{}'", database.slot.as_str());
        let rows = connection.ask("the slot", &slot).await?;
        if rows.first().and_then(|row| row.first()?.as_deref()) != Some("t") {
            let what = format!("nobody receives the log through the slot {:?}", database.slot.as_str());
            return Err(PostgresError::Protocol { place: database.target.to_string(), what });
        }
        // A role that may not (superuser, or pg_checkpoint from 15 on) replays a little more.
        let _ = connection.ask("a checkpoint", "CHECKPOINT").await;
        let asked = "SELECT system_identifier, timeline_id, redo_lsn FROM pg_control_system(), pg_control_checkpoint()";
        let rows = connection.ask("the last checkpoint", asked).await?;
        let mut row = rows.into_iter().next().unwrap_or_default().into_iter().flatten();
        let understood = (|| Some((row.next()?, row.next()?, row.next()?.parse().ok()?)))();
        let (identity, timeline, start) = understood.ok_or_else(|| not_understood(database))?;
        Ok(Self { database: Arc::clone(database), connection, log, identity, timeline, start })
    }

    /// To be called after the cut.
    pub(crate) async fn end(mut self, now: Timestamp) -> Option<BaseOfDatabase> {
        match self.position().await {
            Ok((end, ready_at)) => {
                self.database.live.update(|live| live.base_failed_at = None);
                Some(BaseOfDatabase {
                    log: self.log,
                    start: self.start.number(),
                    end: end.number(),
                    ready_at,
                })
            }
            Err(error) => {
                self.database.no_base(now, &chain(&error));
                None
            }
        }
    }

    async fn position(&mut self) -> Result<(Position, Timestamp), PostgresError> {
        let asked = "SELECT pg_current_wal_insert_lsn(), to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
        let rows = self.connection.ask("the end of the log", asked).await?;
        let mut row = rows.into_iter().next().unwrap_or_default().into_iter().flatten();
        let understood = (|| Some((row.next()?.parse().ok()?, row.next()?.parse().ok()?)))();
        understood.ok_or_else(|| not_understood(&self.database))
    }
}

fn not_understood(database: &Database) -> PostgresError {
    PostgresError::Protocol { place: database.target.to_string(), what: "an answer that is none".into() }
}
