//! What PostgreSQL is asked before and after the cut.
//!
//! The snapshot is atomic and crash consistent, so the server needs not know of it, and nothing is held. What has to be known is
//! from where it replays (a checkpoint before the cut), and a position that nothing in it is behind (read after the cut).

use async_trait::async_trait;
use jiff::Timestamp;
use strongroom_database::Position;
use strongroom_postgres::handover::is_taken_from;
use strongroom_postgres::{Connection, PostgresError, Target};
use strongroom_repository::record::LogOpened;

use super::super::engine::{Begun, EngineError, Guard};
use super::{Postgres, segment_bytes};

struct Asked {
    connection: Connection,
    target: Target,
    /// The base can be restored only when the segment with its end is handed over: then it should end soon.
    switches: bool,
}

pub(super) async fn begin(postgres: &Postgres, opened: &LogOpened) -> Result<Begun, PostgresError> {
    let target = postgres.target.clone();
    let mut connection = Connection::open(&target).await?;
    // The agent may be another process than this one.
    if let Some(handover) = &postgres.handover {
        if !is_taken_from(handover.folder()) {
            return Ok(Begun::No(format!("nobody takes the log from {}", handover.folder().display())));
        }
    } else {
        // The server knows whether somebody receives.
        let slot = postgres.slot.as_str();
        let asked = format!("SELECT active FROM pg_replication_slots WHERE slot_name = '{slot}'");
        let rows = connection.ask("the slot", &asked).await?;
        if rows.first().and_then(|row| row.first()?.as_deref()) != Some("t") {
            return Ok(Begun::No(format!("nobody receives the log through the slot {slot:?}")));
        }
    }
    // They lie outside of the data folder, and a copy's links to them lead to those of the original.
    let asked = "SELECT spcname || ' in ' || pg_tablespace_location(oid) FROM pg_tablespace WHERE pg_tablespace_location(oid) <> '' LIMIT 1";
    let rows = connection.ask("the tablespaces", asked).await?;
    if let Some(tablespace) = rows.first().and_then(|row| row.first()?.clone()) {
        return Ok(Begun::No(format!(
            "it has the tablespace {tablespace}: what lies outside of the data folder is not restored to a second yet"
        )));
    }
    // A role that may not (superuser, or pg_checkpoint from 15 on) replays a little more.
    let _ = connection.ask("a checkpoint", "CHECKPOINT").await;
    let asked =
        "SELECT system_identifier, timeline_id, redo_lsn FROM pg_control_system(), pg_control_checkpoint()";
    let rows = connection.ask("the last checkpoint", asked).await?;
    let mut row = rows.into_iter().next().unwrap_or_default().into_iter().flatten();
    let understood: Option<(String, String, Position)> =
        (|| Some((row.next()?, row.next()?, row.next()?.parse().ok()?)))();
    let (identity, timeline, redo) = understood.ok_or_else(|| not_understood(&target))?;
    // A server that replays asks for whole segments, and looks at the beginning of each.
    let start = redo.segment_start(segment_bytes(opened).into());
    let is_same = identity == opened.identity
        && timeline == opened.lineage.to_string()
        && start >= Position::new(opened.start);
    if !is_same {
        return Ok(Begun::No("it is ahead of its archived log".to_owned()));
    }
    Ok(Begun::At {
        start,
        guard: Box::new(Asked { connection, target, switches: postgres.handover.is_some() }),
    })
}

/// From where the server would replay now, or where it writes when it does not say. It has all of its log from there on; so the next
/// snapshot is a base, also where we may not ask for a checkpoint.
pub(super) async fn last_redo(postgres: &Postgres, flushed: Position) -> Position {
    let asked = async {
        let mut connection = Connection::open(&postgres.target).await?;
        connection.ask("the last checkpoint", "SELECT redo_lsn FROM pg_control_checkpoint()").await
    };
    match asked.await {
        Ok(rows) => {
            let redo = rows.first().and_then(|row| row.first()?.as_deref()?.parse().ok());
            redo.map_or(flushed, |redo: Position| redo.min(flushed))
        }
        Err(error) => {
            tracing::debug!(error = strongroom_model::chain(&error), "the log begins where the server is");
            flushed
        }
    }
}

#[async_trait]
impl Guard for Asked {
    async fn end(mut self: Box<Self>) -> Result<(Position, Timestamp), EngineError> {
        let asked = "SELECT pg_current_wal_insert_lsn(), to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
        let rows = self.connection.ask("the end of the log", asked).await?;
        let mut row = rows.into_iter().next().unwrap_or_default().into_iter().flatten();
        let understood = (|| Some((row.next()?.parse().ok()?, row.next()?.parse().ok()?)))();
        let end = understood.ok_or_else(|| not_understood(&self.target))?;
        if self.switches {
            // A role that may not waits for `archive_timeout`.
            let _ = self.connection.ask("the end of the segment", "SELECT pg_switch_wal()").await;
        }
        Ok(end)
    }
}

fn not_understood(target: &Target) -> PostgresError {
    PostgresError::Protocol { place: target.to_string(), what: "an answer that is none".into() }
}
