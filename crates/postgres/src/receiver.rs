//! Receives the log of one timeline into the spool, and reports it only then.
//!
//! What has come in one go is written in one go: under load a sync carries many commits, on a quiet server each commit has
//! its own. While the spool is full nothing is read, and the slot keeps the log at the server.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use strongroom_database::{LineageId, Position};
use strongroom_log_spool::{Progress, Spool, SpoolError};
use strongroom_model::World;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::replication::{Event, LogStream, SlotName};
use crate::{PostgresError, ReplicationConnection, System};

/// How often the server is told where we are and asked for a sign of life.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// A server that is silent for this long is taken for dead: three answers are missing.
const SILENCE: Duration = Duration::from_secs(20);

/// What is gathered before it is written: one sync for as much, and no more memory.
const GATHER_BYTES: usize = 1 << 20;

/// How a stream ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// We were told to stop.
    Cancelled,
    /// The timeline ended at `at`; `next` goes on from there.
    Timeline {
        /// Which.
        next: LineageId,
        /// From where.
        at: Position,
    },
}

/// What a receiver needs.
#[derive(Debug, Clone)]
pub struct Receiver {
    /// The slot that keeps what was not reported.
    pub slot: SlotName,
    /// Of which timeline.
    pub timeline: LineageId,
    /// Where it goes.
    pub spool: Arc<Spool>,
    /// How much of the disk the spool may take.
    pub budget_bytes: u64,
    /// Clock, for what we report.
    pub world: World,
}

impl Receiver {
    /// Streams from `from` until the timeline ends, the connection breaks, or `cancel`.
    ///
    /// # Errors
    /// When the connection breaks, the server no longer has the log from here, or the spool fails.
    pub async fn receive(
        &self,
        mut connection: ReplicationConnection,
        system: &System,
        from: Position,
        progress: &watch::Sender<Progress>,
        cancel: &CancellationToken,
    ) -> Result<Ended, PostgresError> {
        if system.timeline == self.timeline && system.flushed < from {
            return Err(PostgresError::Behind { server: system.flushed, ours: from });
        }
        connection.create_slot(&self.slot).await?;
        let stream = connection.stream(&self.slot, from, self.timeline).await?;
        progress.send_modify(|progress| {
            progress.streaming = true;
            progress.flushed = from;
            progress.server_end = progress.server_end.max(system.flushed);
        });
        let server_end = if system.timeline == self.timeline { system.flushed } else { from };
        let whole_at = Timestamp::UNIX_EPOCH;
        let ended =
            Flow { receiver: self, stream, flushed: from, server_end, whole_at, progress }.run(cancel).await;
        progress.send_modify(|progress| progress.streaming = false);
        ended
    }
}

struct Flow<'a> {
    receiver: &'a Receiver,
    stream: LogStream,
    flushed: Position,
    /// The farthest that was heard. A sign of life names what was sent, not what there is; so it never takes this back.
    server_end: Position,
    /// When nothing that the server had was missing here; 1970 before the first time.
    whole_at: Timestamp,
    progress: &'a watch::Sender<Progress>,
}

/// What came together and is written together.
#[derive(Default)]
struct Gathered {
    start: Position,
    chunks: Vec<Bytes>,
    bytes: usize,
    server_end: Position,
    sent_at: Option<Timestamp>,
}

impl Flow<'_> {
    async fn run(mut self, cancel: &CancellationToken) -> Result<Ended, PostgresError> {
        let mut ticks = tokio::time::interval(REPORT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            let is_full = self.receiver.spool.disk_bytes() >= self.receiver.budget_bytes;
            self.progress
                .send_if_modified(|progress| std::mem::replace(&mut progress.is_full, is_full) != is_full);
            tokio::select! {
                biased;
                () = cancel.cancelled() => {
                    // The last word, so that the slot does not keep what is safe here.
                    self.report(false).await?;
                    return Ok(Ended::Cancelled);
                }
                event = self.stream.next(), if !is_full => {
                    heard = Instant::now();
                    if let Some(ended) = self.take(event?).await? {
                        return Ok(ended);
                    }
                }
                _ = ticks.tick() => {
                    if !is_full && heard.elapsed() > SILENCE {
                        let cause = std::io::ErrorKind::TimedOut.into();
                        return Err(PostgresError::Broken { place: "the stream".into(), cause });
                    }
                    if is_full {
                        heard = Instant::now();
                    }
                    self.report(true).await?;
                }
            }
        }
    }

    /// Takes an event and what is here behind it already.
    async fn take(&mut self, first: Event) -> Result<Option<Ended>, PostgresError> {
        let mut gathered = Gathered::default();
        let mut next = Some(first);
        while let Some(event) = next {
            match event {
                Event::Log { start, server_end, sent_at, bytes } => {
                    if gathered.chunks.is_empty() {
                        gathered.start = start;
                    }
                    gathered.bytes += bytes.len();
                    gathered.chunks.push(bytes);
                    gathered.heard(server_end, sent_at);
                    if gathered.bytes >= GATHER_BYTES {
                        break;
                    }
                }
                Event::Alive { server_end, sent_at, reply } => {
                    gathered.heard(server_end, sent_at);
                    if reply {
                        self.report(false).await?;
                    }
                }
                Event::TimelineEnded { next, at } => {
                    self.keep(gathered).await?;
                    return Ok(Some(Ended::Timeline { next, at }));
                }
            }
            next = self.stream.ready().await?;
        }
        self.keep(gathered).await?;
        Ok(None)
    }

    async fn keep(&mut self, gathered: Gathered) -> Result<(), PostgresError> {
        let Some(sent_at) = gathered.sent_at else { return Ok(()) };
        if gathered.bytes > 0 {
            let spool = Arc::clone(&self.receiver.spool);
            let end = gathered.start.plus(gathered.bytes as u64);
            // While it catches up the server's clock says nothing of these bytes: what was stamped long ago still comes.
            if end >= gathered.server_end.max(self.server_end) {
                self.whole_at = sent_at;
            }
            let whole_at = self.whole_at;
            let written = tokio::task::spawn_blocking(move || {
                let bytes = gathered.chunks.concat();
                spool.append(gathered.start, whole_at, &bytes)
            });
            written.await.map_err(SpoolError::ended)??;
            self.flushed = end;
            self.report(false).await?;
        }
        self.server_end = self.server_end.max(gathered.server_end);
        let (flushed, server_end) = (self.flushed, self.server_end);
        self.progress.send_modify(|progress| {
            progress.flushed = flushed;
            progress.server_end = server_end;
            progress.heard_at = Some(sent_at);
            if flushed >= server_end {
                progress.current_at = Some(sent_at);
            }
        });
        Ok(())
    }

    async fn report(&mut self, ask: bool) -> Result<(), PostgresError> {
        self.stream.report(self.flushed, ask, self.receiver.world.clock.now()).await
    }
}

impl Gathered {
    fn heard(&mut self, server_end: Position, sent_at: Timestamp) {
        self.server_end = self.server_end.max(server_end);
        self.sent_at = self.sent_at.max(Some(sent_at));
    }
}
