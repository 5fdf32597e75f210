//! Finished segments of the log, handed over in a folder: for servers whose `archive_command` we are, as nobody may replicate.
//!
//! The folder is shared by the server, whose command puts files into it ([`give`]), and one agent that takes them out
//! ([`Taker`]). In it lie
//!
//! | file | what |
//! |---|---|
//! | `agent.lock` | locked (`flock`) while an agent lives |
//! | `agent.note` | what the agent says: whose log it takes, what it took already, how much may wait |
//! | `00000001000000000000002A` | a segment, whole and durable |
//! | `00000002.history` | how a timeline came about; it stays |
//! | `.NAME.PID` | one that is being written |
//!
//! What always holds: the command answers that a file is archived only when it is durable here and an agent lives that takes it from
//! here; a segment that was taken is gone from here only after it is durable in the agent's spool. What has the name of another
//! that was handed over, and not its bytes, is refused.
//!
//! The folder may belong to the server's user, and the agent may be root: no link in it is followed.

mod error;
mod give;
mod note;
mod segment;
mod take;

pub use error::HandoverError;
pub use give::{Given, give};
pub use take::{Found, Taken, Taker, Waiting, is_taken_from};

/// The file that is locked while an agent lives.
const LOCK: &str = "agent.lock";

/// The file in which the agent says what it does.
const NOTE: &str = "agent.note";

/// No history file is longer: one line for each timeline that was left.
const MOST_HISTORY_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests;
