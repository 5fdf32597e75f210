//! PostgreSQL's log, received as it is written.
//!
//! Our own small client of the streaming replication protocol (PostgreSQL 13 and newer): it logs in, makes a physical slot,
//! and receives the write-ahead log into a [`Spool`](strongroom_log_spool::Spool) on disk. What always holds:
//!
//! * The server is told that a byte is flushed only after it is durable in the spool. So the slot keeps whatever a crash of
//!   this machine, the server or both could have lost, and what was once reported is never missing.
//! * The bytes are the server's own, untouched: put together they are its segments.
//! * A stream belongs to one system identifier and one timeline; bytes of another are never mixed in.
//! * Passwords come from files, and appear in no command line, no message and no log.
//!
//! What the bytes mean is the business of others; nothing here reads records.

mod authentication;
pub mod connection;
pub mod error;
pub mod handover;
mod password;
pub mod receiver;
pub mod replication;
mod scram;
pub mod target;
mod wire;

pub use connection::Connection;
pub use error::PostgresError;
pub use replication::{ReplicationConnection, System};
pub use strongroom_server_line::TlsMode;
pub use target::Target;
