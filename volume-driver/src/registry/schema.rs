//! The tables, and the steps from each version to the next. A released step is never edited.

use rusqlite::{Connection, Transaction};

/// `user_version` counts the steps that were taken.
const STEPS: &[&str] = &[BEGINNING, DOCKER, POINTS, CLUSTERS, INLINE, DELIVERIES, COSTS];

const BEGINNING: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE volumes (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    kind       TEXT NOT NULL,
    bytes      INTEGER NOT NULL,
    image      TEXT NOT NULL UNIQUE,
    step       TEXT NOT NULL,              -- creating | ready | hydrating
    grow       INTEGER NOT NULL,           -- the filesystem is smaller than the volume
    source     TEXT,                       -- JSON
    labels     TEXT NOT NULL,              -- JSON
    condition  TEXT,
    created_at TEXT NOT NULL
) STRICT;
CREATE TABLE snapshots (
    id          TEXT PRIMARY KEY,
    volume      TEXT NOT NULL,             -- may be gone
    volume_name TEXT NOT NULL,
    label       TEXT NOT NULL,
    owner       TEXT NOT NULL,
    labels      TEXT NOT NULL,
    kind        TEXT NOT NULL,
    bytes       INTEGER NOT NULL,
    ready       INTEGER NOT NULL,          -- 0: being taken
    quiesced    INTEGER NOT NULL,
    grow        INTEGER NOT NULL,          -- as the volume was
    created_at  TEXT NOT NULL,
    UNIQUE (volume, label)
) STRICT;
CREATE TABLE mounts (
    volume   TEXT NOT NULL REFERENCES volumes (id),
    path     TEXT NOT NULL,
    purpose  TEXT NOT NULL,                -- JSON
    access   TEXT NOT NULL,                -- JSON
    readonly INTEGER NOT NULL,
    options  TEXT NOT NULL,                -- JSON
    done     INTEGER NOT NULL,             -- 0: being mounted
    PRIMARY KEY (volume, path)
) STRICT;
CREATE TABLE exchanges (
    run       TEXT PRIMARY KEY,
    volume    TEXT NOT NULL,
    staged    TEXT NOT NULL,
    safety    TEXT NOT NULL,               -- snapshot id, chosen beforehand
    remounts  TEXT NOT NULL,               -- JSON: what was mounted by hand before
    step      TEXT NOT NULL                -- begun | switched | done
) STRICT;
CREATE TABLE discarded (image TEXT PRIMARY KEY) STRICT;
";

/// Who of Docker's uses a volume.
const DOCKER: &str = "
CREATE TABLE docker_references (
    volume    TEXT NOT NULL REFERENCES volumes (id) ON DELETE CASCADE,
    reference TEXT NOT NULL,               -- what Docker calls one use by one container
    boot      TEXT NOT NULL,               -- of which run of the machine
    PRIMARY KEY (volume, reference)
) STRICT;
";

/// Volumes that begin with a recovery point.
const POINTS: &str = "
CREATE TABLE chosen_points (
    volume TEXT PRIMARY KEY REFERENCES volumes (id),
    words  TEXT NOT NULL               -- by which the recovery point in its source was chosen
) STRICT;
";

/// What orchestrators add: attachments, groups of snapshots, what can be changed about a volume.
const CLUSTERS: &str = "
CREATE TABLE attachments (
    volume      TEXT NOT NULL REFERENCES volumes (id) ON DELETE CASCADE,
    node        TEXT NOT NULL,
    readonly    INTEGER NOT NULL,
    only_target INTEGER NOT NULL,
    PRIMARY KEY (volume, node)
) STRICT;
CREATE TABLE groups (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    owner      TEXT NOT NULL,
    labels     TEXT NOT NULL,              -- JSON
    ready      INTEGER NOT NULL,           -- 0: being taken
    created_at TEXT NOT NULL
) STRICT;
ALTER TABLE snapshots ADD COLUMN grouped TEXT REFERENCES groups (id);  -- the group it is a member of
CREATE TABLE volume_settings (
    volume TEXT PRIMARY KEY REFERENCES volumes (id) ON DELETE CASCADE,
    limits TEXT NOT NULL,                  -- JSON: how much I/O a second it may do
    asked  TEXT NOT NULL                   -- JSON: the labels and limits that it was created with
) STRICT;
";

/// Inline volumes.
const INLINE: &str = "
CREATE TABLE ephemerals (
    handle TEXT PRIMARY KEY,               -- what the orchestrator calls it
    volume TEXT NOT NULL,                  -- may not be there yet
    target TEXT NOT NULL
) STRICT;
";

/// Snapshots of type backup: what has to be brought to the agent.
const DELIVERIES: &str = "
CREATE TABLE deliveries (
    point       TEXT PRIMARY KEY,          -- chosen before the cut
    name        TEXT NOT NULL UNIQUE,      -- what the orchestrator calls it
    volume      TEXT NOT NULL,             -- may be gone
    volume_name TEXT NOT NULL,
    kind        TEXT NOT NULL,
    bytes       INTEGER NOT NULL,
    labels      TEXT NOT NULL,             -- JSON
    snapshot    TEXT NOT NULL,             -- the cut; gone or the agent's once it is published
    taken_at    TEXT NOT NULL,
    step        TEXT NOT NULL              -- cutting | waiting | published | cancelled
) STRICT;
";

/// What snapshots cost each volume, and when it was last looked after.
const COSTS: &str = "
CREATE TABLE volume_costs (
    volume     TEXT PRIMARY KEY REFERENCES volumes (id) ON DELETE CASCADE,
    extents    INTEGER,                    -- at its last snapshot
    stall_us   INTEGER,                    -- how long writers waited for that
    taken_at   TEXT,
    trimmed_at TEXT
) STRICT;
";

/// Takes the steps that are missing.
pub(super) fn migrate(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let taken: usize = version(transaction)?;
    if taken > STEPS.len() {
        let reason = format!("it has version {taken}, and this program knows versions up to {}", STEPS.len());
        return Err(rusqlite::Error::FromSqlConversionFailure(
            0,
            rusqlite::types::Type::Integer,
            reason.into(),
        ));
    }
    if taken == STEPS.len() {
        // Nothing is written then: the disk may be full, and the driver must start to make room.
        return Ok(());
    }
    for step in &STEPS[taken..] {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", i64::try_from(STEPS.len()).expect("there are few steps"))
}

fn version(connection: &Connection) -> rusqlite::Result<usize> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    // A negative number was not written by us; it is refused as too new.
    Ok(usize::try_from(version).unwrap_or(usize::MAX))
}
