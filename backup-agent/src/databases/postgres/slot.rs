//! What the slot makes the server keep, and letting go of it.

use std::time::Duration;

use strongroom_postgres::{Connection, PostgresError};

use super::Postgres;

/// A stream that was told to end is gone soon; a slot in use cannot be moved.
const TRIES: u32 = 20;
const TRY_EVERY: Duration = Duration::from_millis(250);

/// Where the server's log ends: what of it is durable.
const END: &str =
    "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_flush_lsn() END";

/// How much of its log the server keeps for the slot; `None`: there is no slot, or nothing left that it keeps.
pub(super) async fn held(postgres: &Postgres) -> Result<Option<u64>, PostgresError> {
    let mut connection = Connection::open(&postgres.target).await?;
    let asked = format!(
        "SELECT greatest(pg_wal_lsn_diff({END}, restart_lsn), 0)::bigint FROM pg_replication_slots WHERE slot_name = '{}' AND restart_lsn IS NOT NULL",
        postgres.slot.as_str()
    );
    let rows = connection.ask("the slot", &asked).await?;
    Ok(rows.first().and_then(|row| row.first()?.as_deref()?.parse().ok()))
}

/// Moves the slot to where the server is: what lies before that goes with its next checkpoint.
pub(super) async fn let_go(postgres: &Postgres) -> Result<(), PostgresError> {
    let mut connection = Connection::open(&postgres.target).await?;
    let slot = postgres.slot.as_str();
    let asked = format!("SELECT active FROM pg_replication_slots WHERE slot_name = '{slot}'");
    for _ in 0..TRIES {
        let rows = connection.ask("the slot", &asked).await?;
        if rows.first().and_then(|row| row.first()?.as_deref()) != Some("t") {
            break;
        }
        tokio::time::sleep(TRY_EVERY).await;
    }
    let moved = format!("SELECT end_lsn FROM pg_replication_slot_advance('{slot}', {END})");
    connection.ask("letting go of the log", &moved).await.map(drop)
}
