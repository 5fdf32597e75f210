//! What archiving needs of an engine: who answers, where a log can begin, its bytes as they come, what they say, and what has to be
//! known around the cut of a base.
//!
//! The archiver, the uploader and the bases above it know no engine. An engine knows no repository but what a log's opening says.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use strongroom_database::{Indexed, LineageId, Position};
use strongroom_log_spool::{Progress, Spool};
use strongroom_model::{Failure, Remedy, World};
use strongroom_repository::fold::LogState;
use strongroom_repository::record::{CommitNote, LogOpened};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// One database, as its engine knows it.
#[async_trait]
pub(super) trait Engine: fmt::Debug + Send + Sync {
    /// What a log's opening calls it.
    fn name(&self) -> &'static str;

    /// Connects. From here on the engine keeps what its log says next, or says that it did not.
    async fn connect(&self) -> Result<Box<dyn Source>, EngineError>;

    /// Reads what the bytes of a log say; `None`: nobody here understands them.
    fn reader(&self, opened: &LogOpened, from: ReadFrom) -> Option<Box<dyn LogReader>>;

    /// Asks the database what has to be known before a snapshot that is to be a base of this log.
    async fn begin_base(&self, opened: &LogOpened) -> Result<Begun, EngineError>;

    /// How much of its log the engine keeps for us on the database's own disk; `None`: it keeps none for anybody.
    async fn held(&self) -> Result<Option<Held>, EngineError> {
        Ok(None)
    }

    /// Lets the engine throw away what it keeps for us. The stream has ended, or is about to.
    async fn let_go(&self) -> Result<(), EngineError> {
        Ok(())
    }
}

/// What an engine keeps for us.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) bytes: u64,
    /// How much it may keep.
    pub(super) limit_bytes: u64,
}

/// A connection to a database, from finding out who answers until its log ends.
#[async_trait]
pub(super) trait Source: Send {
    /// Whether it is what this log is of.
    fn is_of(&self, opened: &LogOpened) -> Result<(), EngineError>;

    /// With which history the log goes on, where the database is not in the one that was written last any more: what is
    /// archived of each is `known`, the one that was written last at the end. An engine with one history only has nothing to say.
    async fn onward(&mut self, _known: &[Known]) -> Result<Onward, EngineError> {
        Ok(Onward::Same)
    }

    /// Where a log begins that does not go on with another; `newest`: the last one of this database, whatever became of it.
    async fn beginning(
        &mut self,
        fork: Option<Fork>,
        newest: Option<&LogState>,
    ) -> Result<Beginning, EngineError>;

    /// Receives the log until it ends, the connection breaks or is cancelled.
    async fn receive(self: Box<Self>, into: Receiving) -> Result<Ended, EngineError>;
}

/// A history that left another: its number, which one, and where. Without a parent it is one that was left itself, and goes on
/// there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fork {
    pub(super) next: LineageId,
    pub(super) parent: Option<LineageId>,
    pub(super) at: Position,
}

/// What is archived of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) lineage: LineageId,
    /// Which history it left, and where.
    pub(super) fork: Option<(LineageId, Position)>,
    /// Where its log ends.
    pub(super) end: Position,
}

/// How a log goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Onward {
    /// As it is.
    Same,
    /// With a log of another history.
    With(Fork),
    /// With one that has nothing to do with any that is known.
    Elsewhere,
}

/// What a log's opening has to say.
#[derive(Debug)]
pub(super) struct Beginning {
    pub(super) identity: String,
    pub(super) lineage: LineageId,
    pub(super) start: Position,
    /// Which history this one left, and where.
    pub(super) fork: Option<(LineageId, Position)>,
    pub(super) history: Option<String>,
    pub(super) facts: Vec<(&'static str, String)>,
}

/// Where a stream goes on, and what it goes into.
#[derive(Debug)]
pub(super) struct Receiving {
    pub(super) opened: LogOpened,
    pub(super) from: Position,
    pub(super) reached: Reached,
    pub(super) spool: Arc<Spool>,
    /// The spool's folder, in which an engine may keep what it has to remember; gone with the spool.
    pub(super) folder: PathBuf,
    /// How much of the disk the spool may take.
    pub(super) budget_bytes: u64,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) world: World,
    pub(super) cancel: CancellationToken,
}

/// What the repository has before the place where a stream goes on, by which an engine can see that it is the same history.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reached {
    /// Where the first record begins that is not whole in it.
    pub(super) whole_to: Position,
    /// The last commit in it.
    pub(super) commit: Option<CommitNote>,
}

/// How a stream ended without an error.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ended {
    Cancelled,
    /// The database went on in another history.
    Lineage {
        next: LineageId,
        at: Position,
    },
}

/// From where a log is read.
#[derive(Debug, Clone, Copy)]
pub(super) enum ReadFrom {
    /// Somewhere, perhaps within a record: that is passed over.
    Anywhere(Position),
    /// Where a record begins.
    Boundary(Position),
}

/// Reads a log from somewhere on.
pub(super) trait LogReader: fmt::Debug + Send {
    /// Takes the bytes that come next. An error: it cannot be read on.
    fn push(&mut self, at: Position, bytes: &[u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;

    /// Ends a stretch where it is, and begins the next there.
    fn cut(&mut self) -> Indexed;
}

/// What is known before the cut.
pub(super) enum Begun {
    /// A base from here on, and what is held until it is cut.
    At { start: Position, guard: Box<dyn Guard> },
    /// It would be none, and why.
    No(String),
}

/// Held from before the cut until behind it. Dropped, it lets go of the database.
#[async_trait]
pub(super) trait Guard: Send {
    /// Lets go: a position that nothing in the snapshot is behind, and the moment.
    async fn end(self: Box<Self>) -> Result<(Position, Timestamp), EngineError>;
}

/// An engine did not do what it was asked for.
#[derive(Debug)]
pub(super) struct EngineError {
    cause: Box<dyn Failure + Send + Sync>,
    /// What comes next has to be another log.
    is_gap: bool,
}

impl EngineError {
    pub(super) fn new(cause: impl Failure + Send + Sync + 'static, is_gap: bool) -> Self {
        Self { cause: Box::new(cause), is_gap }
    }

    pub(super) const fn is_gap(&self) -> bool {
        self.is_gap
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

impl std::error::Error for EngineError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.source()
    }
}

impl Failure for EngineError {
    fn code(&self) -> &'static str {
        self.cause.code()
    }

    fn remedy(&self) -> Remedy {
        self.cause.remedy()
    }

    fn advice(&self) -> String {
        self.cause.advice()
    }
}
