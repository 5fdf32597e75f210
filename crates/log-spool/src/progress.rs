//! How receiving is doing.

use jiff::Timestamp;
use strongroom_database::Position;

/// How a stream is doing. What counts is `flushed`: it is durable here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Whether a stream runs.
    pub streaming: bool,
    /// Durable here up to this byte.
    pub flushed: Position,
    /// How far the server's log went when it was last heard.
    pub server_end: Position,
    /// At this moment, by the server's clock, nothing was missing here.
    pub current_at: Option<Timestamp>,
    /// When the server was last heard, by its clock.
    pub heard_at: Option<Timestamp>,
    /// Whether the spool is full, so that the log piles up at the server.
    pub is_full: bool,
}
