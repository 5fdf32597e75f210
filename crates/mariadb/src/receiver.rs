//! Receives the binary log into the spool.
//!
//! A server has no slot that keeps what was not received; it deletes files when they are old enough. So nothing is reported, and
//! what counts is that a stream goes on where the spool ends, in the same history. That is seen before anything is stored: the
//! stream begins at the last transaction that is known, and has to bring it again.
//!
//! Events carry no clock of the server. A second connection asks every second where the log ends and what the time is: once so
//! much is here, nothing of that time is missing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use strongroom_database::Position;
use strongroom_database::mariadb::{file, place};
use strongroom_log_spool::{Progress, Spool, SpoolError};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::stream::{Anchor, LogStream, Piece};
use crate::{Connection, LogEnd, MariadbError, Server, Target};

/// How often the server is asked where its log ends.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// A server that is silent for this long is taken for dead: four signs of life are missing.
const SILENCE: Duration = Duration::from_secs(20);

/// What is gathered before it is written: one sync for as much, and no more memory.
const GATHER_BYTES: usize = 1 << 20;

/// Stamps are cut to seconds: what is stamped with one may come until it is over.
const STAMP: SignedDuration = SignedDuration::from_secs(1);

/// A transaction that is archived: what the server has at its place has to be it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Last {
    /// Where it begins.
    pub start: Position,
    /// Its name, such as `0-1-270`.
    pub transaction: String,
    /// When, to a second.
    pub at: Timestamp,
}

/// What a receiver needs.
#[derive(Debug)]
pub struct Receiver {
    /// Where the server is.
    pub target: Target,
    /// By which the server tells its replicas apart; the same each time, so that it ends a stream that was left.
    pub replica: u32,
    /// A transaction begins here, or a file; all up to here is archived, and perhaps more.
    pub whole_to: Position,
    /// The last transaction that is archived.
    pub last: Option<Last>,
    /// Where the stream goes on.
    pub from: Position,
    /// What was committed before the log began, as the server wrote it then.
    pub committed_before: Option<String>,
    /// Where it goes.
    pub spool: Arc<Spool>,
    /// How much of the disk the spool may take.
    pub budget_bytes: u64,
}

/// Why nothing is received any more.
#[derive(Debug)]
pub enum Trouble {
    /// Because of the server.
    Server(MariadbError),
    /// Because of the spool.
    Spool(SpoolError),
}

impl From<MariadbError> for Trouble {
    fn from(error: MariadbError) -> Self {
        Self::Server(error)
    }
}

impl From<SpoolError> for Trouble {
    fn from(error: SpoolError) -> Self {
        Self::Spool(error)
    }
}

impl Receiver {
    /// Streams until `cancel` or until something goes wrong.
    ///
    /// # Errors
    /// When a connection breaks, the server no longer has the log from here or has another, or the spool fails.
    pub async fn receive(
        self,
        mut asking: Connection,
        server: &Server,
        progress: &watch::Sender<Progress>,
        cancel: &CancellationToken,
    ) -> Result<(), Trouble> {
        let (begin, anchor) = self.beginning(&mut asking, server).await?;
        let streaming = Connection::open(&self.target).await?;
        let application = self.target.application.clone();
        let stream = streaming.stream(&server.log_name, begin, anchor, self.replica, &application).await?;
        let end = asking.log_end().await?;
        progress.send_modify(|progress| {
            progress.flushed = self.from;
            progress.server_end = progress.server_end.max(end.end);
        });
        let flushed = self.from;
        let flow = Flow { receiver: self, stream, flushed, current_at: None, wanted: end, progress };
        let ended = flow.run(asking, cancel).await;
        progress.send_modify(|progress| progress.streaming = false);
        ended
    }

    /// From where the stream is asked for, so that it shows whether it is the same history.
    async fn beginning(
        &self,
        asking: &mut Connection,
        server: &Server,
    ) -> Result<(Position, Option<Anchor>), MariadbError> {
        let files = asking.log_files().await?;
        let has = |at: Position| files.iter().any(|end| file(*end) == file(at) && at <= *end);
        let newest = files.last().copied().unwrap_or_default();
        if file(newest) < file(self.from) {
            let what = format!("its binary log ends at {newest}");
            return Err(MariadbError::OtherHistory { at: self.from, what });
        }
        if !has(self.from) {
            let oldest = files.first().map(|end| place(file(*end), 0)).unwrap_or_default();
            let message = format!("its oldest file begins at {oldest}");
            return Err(MariadbError::Gap { from: self.from, message });
        }
        if let Some(last) = self.last.as_ref().filter(|last| has(last.start)) {
            let anchor = Anchor { transaction: last.transaction.clone(), seconds: last.at.as_second() };
            return Ok((last.start, Some(anchor)));
        }
        // Nothing was committed since the log began, or the file in which it was is gone: what was committed before has to be the
        // same at least.
        let found = asking.committed_before(&server.log_name, self.whole_to).await?.unwrap_or_default();
        let is_same = match &self.last {
            Some(last) => found.split(',').any(|one| one == last.transaction),
            None => self.committed_before.as_ref().is_none_or(|before| *before == found),
        };
        if !is_same {
            let what = format!("there, {found:?} was committed before");
            return Err(MariadbError::OtherHistory { at: self.whole_to, what });
        }
        Ok((self.whole_to, None))
    }
}

struct Flow<'a> {
    receiver: Receiver,
    stream: LogStream,
    flushed: Position,
    /// At this moment nothing was missing here.
    current_at: Option<Timestamp>,
    /// What the server said last.
    wanted: LogEnd,
    progress: &'a watch::Sender<Progress>,
}

/// What came together and is written together.
#[derive(Default)]
struct Gathered {
    start: Position,
    chunks: Vec<Bytes>,
    bytes: usize,
}

impl Flow<'_> {
    async fn run(mut self, asking: Connection, cancel: &CancellationToken) -> Result<(), Trouble> {
        // The question runs by itself, so that nothing that comes waits for the answer.
        let (ends, mut heard_end) = watch::channel(self.wanted);
        let mut watching = std::pin::pin!(ask(asking, ends));
        let mut heard = Instant::now();
        let mut ticks = tokio::time::interval(ASK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_full = self.receiver.spool.disk_bytes() >= self.receiver.budget_bytes;
            self.progress
                .send_if_modified(|progress| std::mem::replace(&mut progress.is_full, is_full) != is_full);
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                piece = self.stream.next(), if !is_full => {
                    heard = Instant::now();
                    self.take(piece?).await?;
                }
                error = &mut watching => return Err(error.into()),
                _ = heard_end.changed() => {
                    self.wanted = *heard_end.borrow_and_update();
                    if file(self.wanted.end) < file(self.flushed) {
                        let what = format!("its binary log ends at {}", self.wanted.end);
                        return Err(MariadbError::OtherHistory { at: self.flushed, what }.into());
                    }
                    self.tell();
                }
                _ = ticks.tick() => {
                    if is_full {
                        heard = Instant::now();
                    }
                    if heard.elapsed() > SILENCE {
                        let cause = std::io::ErrorKind::TimedOut.into();
                        return Err(MariadbError::Broken { place: "the stream".into(), cause }.into());
                    }
                }
            }
        }
    }

    /// Takes a piece and what is here behind it already.
    async fn take(&mut self, first: Piece) -> Result<(), Trouble> {
        // The first one shows that it is the same history.
        self.progress.send_if_modified(|progress| !std::mem::replace(&mut progress.streaming, true));
        let mut gathered = Gathered::default();
        let mut next = Some(first);
        while let Some(piece) = next {
            if let Piece::Log { start, bytes } = piece {
                // What is known already came only to be compared.
                let known = usize::try_from(self.flushed.since(start)).unwrap_or(usize::MAX).min(bytes.len());
                let known = if gathered.bytes == 0 { known } else { 0 };
                let (start, bytes) = (start.plus(known as u64), bytes.slice(known..));
                if gathered.bytes > 0 && gathered.start.plus(gathered.bytes as u64) != start {
                    self.keep(std::mem::take(&mut gathered)).await?;
                }
                if !bytes.is_empty() {
                    if gathered.bytes == 0 {
                        gathered.start = start;
                    }
                    gathered.bytes += bytes.len();
                    gathered.chunks.push(bytes);
                }
                if gathered.bytes >= GATHER_BYTES {
                    self.keep(std::mem::take(&mut gathered)).await?;
                    break;
                }
            }
            next = self.stream.ready()?;
        }
        self.keep(gathered).await?;
        self.tell();
        Ok(())
    }

    async fn keep(&mut self, gathered: Gathered) -> Result<(), Trouble> {
        if gathered.bytes == 0 {
            return Ok(());
        }
        let spool = Arc::clone(&self.receiver.spool);
        let end = gathered.start.plus(gathered.bytes as u64);
        // What is known of the time of these bytes; more is said when the server was asked again.
        let sent_at = self.current_at.unwrap_or(Timestamp::UNIX_EPOCH);
        let written = tokio::task::spawn_blocking(move || {
            spool.append(gathered.start, sent_at, &gathered.chunks.concat())
        });
        written.await.map_err(SpoolError::ended)??;
        self.flushed = end;
        Ok(())
    }

    fn tell(&mut self) {
        if self.flushed >= self.wanted.end {
            self.current_at = self.wanted.at.checked_sub(STAMP).ok().max(self.current_at);
        }
        let (flushed, wanted, current_at) = (self.flushed, self.wanted, self.current_at);
        self.progress.send_modify(|progress| {
            progress.flushed = flushed;
            progress.server_end = wanted.end.max(flushed);
            progress.heard_at = Some(wanted.at);
            progress.current_at = current_at;
        });
    }
}

/// Asks for ever; ends with what went wrong.
async fn ask(mut asking: Connection, ends: watch::Sender<LogEnd>) -> MariadbError {
    loop {
        tokio::time::sleep(ASK_EVERY).await;
        match asking.log_end().await {
            Ok(end) => drop(ends.send_replace(end)),
            Err(error) => return error,
        }
    }
}
