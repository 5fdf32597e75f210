//! The client and the receiver against a real PostgreSQL server.

mod logging_in;
mod receiving;
mod server;
