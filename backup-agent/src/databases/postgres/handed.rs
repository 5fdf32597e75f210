//! PostgreSQL whose log comes by its `archive_command`: finished segments, taken from a folder in the order of the log.
//!
//! They are the same bytes as those of a stream, at the same positions. What differs is how soon they come: a commit is here when
//! its segment is full, or when `archive_timeout` ends it.
//!
//! A server on which nothing happens finishes no segment either, and what it writes by itself is no commit. So that its log is not
//! taken for stuck, it is asked: whether any transaction that could commit was begun since a moment of which all is here.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use strongroom_database::postgres::{SegmentHead, forks};
use strongroom_database::{LineageId, Position};
use strongroom_log_spool::{Progress, SpoolError};
use strongroom_postgres::handover::{Taken, Taker};
use strongroom_postgres::{Connection, PostgresError, System};
use strongroom_repository::fold::LogState;
use strongroom_repository::record::LogOpened;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::{Postgres, parting, segment_bytes};
use crate::databases::engine::{Beginning, Ended, EngineError, Fork, Known, Onward, Receiving, Source};

/// How often the folder is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How often the server is asked where it is.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// A server hands over one segment after the other. One that is missing while later ones are here for so long does not come.
const MISSING_AFTER: Duration = Duration::from_secs(30);

/// The folder of a database, held from the first connection on until the agent ends: so the command is answered while this
/// comes and goes.
#[derive(Debug, Default)]
pub(super) struct Handover {
    folder: std::path::PathBuf,
    taker: Mutex<Option<Arc<Taker>>>,
}

impl Handover {
    pub(super) fn new(folder: std::path::PathBuf) -> Self {
        Self { folder, taker: Mutex::default() }
    }

    pub(super) fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    pub(super) fn taker(&self) -> Result<Arc<Taker>, PostgresError> {
        let mut held = self.taker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taker) = &*held {
            return Ok(Arc::clone(taker));
        }
        let taker = Arc::new(Taker::open(&self.folder)?);
        *held = Some(Arc::clone(&taker));
        Ok(taker)
    }
}

/// Connects, and tells the commands whose log is taken.
pub(super) async fn connect(postgres: &Postgres, handover: &Handover) -> Result<Handed, PostgresError> {
    let taker = handover.taker()?;
    let mut connection = Connection::open(&postgres.target).await?;
    let asked = "SELECT system_identifier, pg_current_wal_flush_lsn(), current_setting('archive_mode'), setting, \
         (SELECT setting FROM pg_settings WHERE name = 'archive_timeout') \
         FROM pg_control_system(), pg_settings WHERE name = 'wal_segment_size'";
    let rows = connection.ask("what cluster it is", asked).await?;
    let mut row = rows.into_iter().next().unwrap_or_default().into_iter().flatten();
    let understood = (|| {
        let identifier = row.next()?.parse().ok()?;
        let flushed = row.next()?.parse().ok()?;
        Some((identifier, flushed, row.next()?, row.next()?.parse().ok()?, row.next()?))
    })();
    let place = postgres.target.to_string();
    let (identifier, flushed, mode, segment_bytes, timeout) = understood.ok_or_else(|| {
        PostgresError::Protocol { place: place.clone(), what: "an answer that is none".into() }
    })?;
    if mode == "off" {
        return Err(PostgresError::NotArchiving { place });
    }
    if timeout == "0" {
        tracing::warn!(
            server = place,
            "archive_timeout is 0: a commit is archived only when its segment is full, which takes as long as it takes"
        );
    }
    let version = connection.setting("server_version").unwrap_or_default().to_owned();
    let now = Asked::of(&mut connection, postgres).await?;
    let system = System { identifier, timeline: now.timeline, flushed, version, segment_bytes };
    taker.say(&system, postgres.handover_bytes)?;
    Ok(Handed { postgres: postgres.clone(), connection, system, taker })
}

/// How much of its log the server keeps until it is handed over; `None`: it tells only members of pg_monitor.
pub(super) async fn held(postgres: &Postgres) -> Result<Option<u64>, PostgresError> {
    let mut connection = Connection::open(&postgres.target).await?;
    let asked = "SELECT count(*) * (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size') \
         FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'";
    match connection.ask("what it keeps", asked).await {
        Ok(rows) => Ok(rows.first().and_then(|row| row.first()?.as_deref()?.parse().ok())),
        Err(PostgresError::Refused { state, .. }) if state == "42501" => Ok(None),
        Err(error) => Err(error),
    }
}

/// Tells the commands that what lies before the segment which is being written may be forgotten.
pub(super) async fn let_go(postgres: &Postgres, handover: &Handover) -> Result<(), PostgresError> {
    let mut connection = Connection::open(&postgres.target).await?;
    let now = Asked::of(&mut connection, postgres).await?;
    let taker = handover.taker()?;
    // What waits in the folder is durable here, and stays.
    Ok(taker.let_go(now.flushed)?)
}

/// Where the server is.
#[derive(Debug, Clone, Copy)]
struct Asked {
    timeline: LineageId,
    flushed: Position,
    /// By its clock, before all of the rest was asked.
    at: Timestamp,
    /// Nobody had a transaction open that could commit.
    is_quiet: bool,
    /// One that was begun by then has a number below this, and is over if `are_over`.
    next_transaction: u64,
    are_over: bool,
    /// Behind the records of all that were over.
    written: Position,
}

impl Asked {
    async fn of(connection: &mut Connection, postgres: &Postgres) -> Result<Self, PostgresError> {
        // Who holds a number holds a lock on it, until all can see that it is over. This comes before the numbers are looked
        // at: who ended in between shows in them.
        let asked = "SELECT to_char(statement_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), \
             count(*) FROM pg_locks WHERE locktype = 'transactionid'";
        let running = connection.ask("who is at work", asked).await?;
        let asked = "SELECT pg_snapshot_xmin(now), pg_snapshot_xmax(now), pg_current_wal_insert_lsn(), \
             pg_current_wal_flush_lsn(), pg_walfile_name(pg_current_wal_insert_lsn()) FROM pg_current_snapshot() AS now";
        let rows = connection.ask("where it is", asked).await?;
        let understood = (|| {
            let first = running.first()?;
            let row = rows.first()?;
            let field = |number: usize| row.get(number)?.as_deref();
            let next_transaction = field(1)?.parse().ok()?;
            Some(Self {
                timeline: LineageId(u32::from_str_radix(field(4)?.get(..8)?, 16).ok()?),
                flushed: field(3)?.parse().ok()?,
                at: first.first()?.as_deref()?.parse().ok()?,
                is_quiet: first.get(1)?.as_deref()? == "0",
                next_transaction,
                are_over: field(0)?.parse() == Ok(next_transaction),
                written: field(2)?.parse().ok()?,
            })
        })();
        understood.ok_or_else(|| PostgresError::Protocol {
            place: postgres.target.to_string(),
            what: "an answer that is none".into(),
        })
    }
}

/// Since when no transaction that could commit was begun.
#[derive(Debug, Default)]
struct Quiet {
    /// The number that the next one gets, and a position behind the records of all before it.
    since: Option<(u64, Position)>,
}

impl Quiet {
    /// Whether every commit up to the moment of this answer lies before `end`.
    fn is_all_before(&mut self, end: Position, asked: &Asked) -> bool {
        match self.since {
            Some((next, _)) if next == asked.next_transaction => {}
            _ => self.since = asked.are_over.then_some((asked.next_transaction, asked.written)),
        }
        asked.is_quiet && self.since.is_some_and(|(_, behind)| behind <= end)
    }
}

/// A server that hands over its log.
pub(super) struct Handed {
    postgres: Postgres,
    connection: Connection,
    system: System,
    taker: Arc<Taker>,
}

impl Handed {
    /// How the server came to its timeline.
    fn forks(&self) -> Option<Vec<(LineageId, Position)>> {
        match self.system.timeline {
            LineageId(1) => Some(Vec::new()),
            timeline => self.taker.history(timeline).as_deref().map(forks),
        }
    }
}

#[async_trait]
impl Source for Handed {
    fn is_of(&self, opened: &LogOpened) -> Result<(), EngineError> {
        super::is_of(&self.system, opened)
    }

    async fn onward(&mut self, known: &[Known]) -> Result<Onward, EngineError> {
        let timeline = self.system.timeline;
        let forks = match self.forks() {
            Some(forks) => forks,
            // It came to where it is before anybody took its log.
            None if known.iter().any(|known| known.lineage == timeline && known.fork.is_none()) => Vec::new(),
            None => return Err(PostgresError::NoHistory { timeline }.into()),
        };
        Ok(parting::onward(timeline, &forks, known)?)
    }

    /// With the first of the segments that wait and have no hole behind them, or that which is being written.
    async fn beginning(
        &mut self,
        fork: Option<Fork>,
        _: Option<&LogState>,
    ) -> Result<Beginning, EngineError> {
        let bytes = self.system.segment_bytes;
        let (lineage, start) = match fork {
            Some(fork) => (fork.next, fork.at.segment_start(bytes)),
            None => {
                let timeline = self.system.timeline;
                let waiting = self.taker.waiting().map_err(PostgresError::from)?;
                let mut ours = waiting.segments.iter().filter(|(lineage, _)| *lineage == timeline).rev();
                let newest = ours.next().map(|(_, at)| *at);
                let mut start = newest.unwrap_or_else(|| self.system.flushed.segment_start(bytes));
                for (_, at) in ours {
                    if at.plus(bytes) != start {
                        break;
                    }
                    start = *at;
                }
                (timeline, start)
            }
        };
        let history = if lineage == LineageId(1) { None } else { self.taker.history(lineage) };
        let fork = fork.and_then(|fork| Some((fork.parent?, fork.at)));
        Ok(Beginning {
            identity: self.system.identifier.to_string(),
            lineage,
            start,
            fork: fork.or_else(|| history.as_deref().and_then(|history| forks(history).pop())),
            history,
            facts: vec![
                ("version", self.system.version.clone()),
                ("segment-bytes", bytes.to_string()),
                ("received", "archive_command".to_owned()),
            ],
        })
    }

    async fn receive(self: Box<Self>, into: Receiving) -> Result<Ended, EngineError> {
        let progress = into.progress.clone();
        let (at, flushed) = (into.from, self.system.flushed);
        progress.send_modify(|progress| {
            progress.streaming = true;
            progress.flushed = at;
            progress.server_end = progress.server_end.max(flushed);
        });
        let taking = Taking {
            timeline: LineageId(into.opened.lineage),
            segment_bytes: segment_bytes(&into.opened).into(),
            at,
            whole_at: Timestamp::UNIX_EPOCH,
            missing_since: None,
            quiet: Quiet::default(),
            handed: *self,
            into,
        };
        let ended = taking.run().await;
        progress.send_modify(|progress| progress.streaming = false);
        Ok(ended?)
    }
}

struct Taking {
    handed: Handed,
    into: Receiving,
    timeline: LineageId,
    segment_bytes: u64,
    /// All before is in the spool.
    at: Position,
    whole_at: Timestamp,
    missing_since: Option<Instant>,
    quiet: Quiet,
}

/// What a look at the folder came to.
enum Look {
    Took(Taken),
    /// All of the timeline is here, up to where it was left.
    Left {
        next: LineageId,
        at: Position,
    },
    /// The server is in a history that left ours earlier.
    Elsewhere,
    /// What comes next is not there; whether what comes later is.
    Nothing {
        is_ahead: bool,
    },
}

impl Taking {
    async fn run(mut self) -> Result<Ended, PostgresError> {
        let cancel = self.into.cancel.clone();
        let mut asked_at: Option<Instant> = None;
        self.handed.taker.clear(self.into.world.clock.now())?;
        self.want()?;
        while !cancel.is_cancelled() {
            let is_full = self.into.spool.disk_bytes() >= self.into.budget_bytes;
            self.into
                .progress
                .send_if_modified(|progress| std::mem::replace(&mut progress.is_full, is_full) != is_full);
            if !is_full {
                match self.look().await? {
                    Look::Took(taken) => {
                        self.took(taken)?;
                        continue;
                    }
                    Look::Left { next, at } => {
                        self.into.progress.send_modify(|progress| progress.flushed = at);
                        return Ok(Ended::Lineage { next, at });
                    }
                    // The next connection finds out where that is.
                    Look::Elsewhere => return Ok(Ended::Cancelled),
                    Look::Nothing { is_ahead } => self.wait_for_it(is_ahead)?,
                }
            }
            if asked_at.is_none_or(|asked| asked.elapsed() >= ASK_EVERY) {
                self.ask().await?;
                asked_at = Some(Instant::now());
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = cancel.cancelled() => {}
            }
        }
        Ok(Ended::Cancelled)
    }

    fn want(&self) -> Result<(), PostgresError> {
        Ok(self.handed.taker.want(self.timeline, self.at.segment_start(self.segment_bytes))?)
    }

    async fn look(&mut self) -> Result<Look, PostgresError> {
        let (taker, spool) = (Arc::clone(&self.handed.taker), Arc::clone(&self.into.spool));
        let (timeline, at, whole_at) = (self.timeline, self.at, self.whole_at);
        let (bytes, server) = (self.segment_bytes, self.handed.system.timeline);
        let looking = spawn_blocking(move || {
            let segment = at.segment_start(bytes);
            if let Some(found) = taker.find(timeline, segment)? {
                return Ok(Look::Took(taker.take(found, at, whole_at, &spool)?));
            }
            if let Some((next, fork)) = left(&taker, timeline, server) {
                if fork < at {
                    return Ok(Look::Elsewhere);
                }
                if fork == at {
                    return Ok(Look::Left { next, at: fork });
                }
                if fork.segment_start(bytes) == segment
                    && let Some(found) = taker.find(next, segment)?
                {
                    taker.take_end(found, at, fork, whole_at, &spool)?;
                    return Ok(Look::Left { next, at: fork });
                }
            }
            let mut is_ahead = false;
            for (lineage, place) in taker.waiting()?.segments {
                if place > segment && (lineage == timeline || lineage == server) {
                    is_ahead = true;
                } else if place < segment && lineage <= timeline {
                    put_away(&taker, lineage, place)?;
                }
            }
            Ok(Look::Nothing { is_ahead })
        });
        looking.await.map_err(SpoolError::ended)?
    }

    fn took(&mut self, taken: Taken) -> Result<(), PostgresError> {
        self.at = taken.end;
        self.whole_at = self.whole_at.max(taken.written_at);
        self.missing_since = None;
        self.want()?;
        let (end, whole_at) = (self.at, self.whole_at);
        self.into.progress.send_modify(|progress: &mut Progress| {
            progress.flushed = end;
            progress.server_end = progress.server_end.max(end);
            progress.current_at = progress.current_at.max(Some(whole_at));
        });
        Ok(())
    }

    /// What is held back waits for what comes before it, for some time.
    fn wait_for_it(&mut self, is_ahead: bool) -> Result<(), PostgresError> {
        let segment_end = self.at.segment_start(self.segment_bytes).plus(self.segment_bytes);
        let let_go = self.handed.taker.let_go_before() >= segment_end;
        if !is_ahead && !let_go {
            self.missing_since = None;
            return Ok(());
        }
        let since = *self.missing_since.get_or_insert_with(Instant::now);
        if !let_go && since.elapsed() < MISSING_AFTER {
            return Ok(());
        }
        let message = if let_go {
            "the server kept as much of it as it may, and was let go"
        } else {
            "it was not handed over, and what comes after it was"
        };
        Err(PostgresError::Gap { from: self.at, timeline: self.timeline, message: message.to_owned() })
    }

    async fn ask(&mut self) -> Result<(), PostgresError> {
        let mut asked = Asked::of(&mut self.handed.connection, &self.handed.postgres).await?;
        // Where a segment was just begun, what is written is its header, and nothing.
        let begun = asked.written.segment_start(self.segment_bytes);
        if asked.written.since(begun) <= SegmentHead::BYTES as u64 {
            asked.written = begun;
        }
        self.handed.system.timeline = asked.timeline;
        let is_current = self.timeline == asked.timeline && self.quiet.is_all_before(self.at, &asked);
        self.into.progress.send_modify(|progress| {
            if self.timeline == asked.timeline {
                progress.server_end = progress.server_end.max(asked.flushed);
            }
            progress.heard_at = Some(asked.at);
            if is_current {
                progress.current_at = Some(asked.at);
            }
        });
        Ok(())
    }
}

/// Where the history of the server's timeline left this one, and for which.
fn left(taker: &Taker, timeline: LineageId, server: LineageId) -> Option<(LineageId, Position)> {
    if server == timeline {
        return None;
    }
    let forks = forks(&taker.history(server)?);
    let step = forks.iter().position(|(left, _)| *left == timeline)?;
    let next = forks.get(step + 1).map_or(server, |(left, _)| *left);
    Some((next, forks[step].1))
}

/// A segment that is not waited for: it came twice, or lies before the log.
fn put_away(taker: &Taker, timeline: LineageId, at: Position) -> Result<(), PostgresError> {
    match taker.put_away(timeline, at) {
        Err(error @ strongroom_postgres::handover::HandoverError::Differs { .. }) => {
            tracing::error!(
                error = strongroom_model::chain(&error),
                "a segment came twice, with different bytes: what came first is kept, and the other lies beside it"
            );
            Ok(())
        }
        put => Ok(put?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(next: u64, are_over: bool, is_quiet: bool, written: u64) -> Asked {
        Asked {
            timeline: LineageId(1),
            flushed: Position::new(written),
            at: Timestamp::UNIX_EPOCH,
            is_quiet,
            next_transaction: next,
            are_over,
            written: Position::new(written),
        }
    }

    #[test]
    fn a_quiet_server_is_all_here_once_what_it_wrote_before_it_was_quiet_is() {
        let mut quiet = Quiet::default();
        let end = Position::new;
        assert!(!quiet.is_all_before(end(100), &asked(10, true, true, 120)), "its segment is not here");
        // It goes on writing by itself, which is no commit.
        assert!(!quiet.is_all_before(end(119), &asked(10, true, true, 150)));
        assert!(quiet.is_all_before(end(120), &asked(10, true, true, 180)));
        // Somebody began one, and ended it.
        assert!(!quiet.is_all_before(end(120), &asked(10, true, false, 180)));
        assert!(!quiet.is_all_before(end(120), &asked(11, true, true, 190)));
        assert!(quiet.is_all_before(end(200), &asked(11, true, true, 195)));
        // Two at once: where all were over is seen only later.
        assert!(!quiet.is_all_before(end(999), &asked(13, false, false, 300)));
        assert!(!quiet.is_all_before(end(999), &asked(13, false, true, 310)));
        assert!(quiet.is_all_before(end(999), &asked(13, true, true, 320)));
    }
}
