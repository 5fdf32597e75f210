//! Against a real MariaDB server of the test's own.

#[allow(dead_code, reason = "it serves the system tests as well")]
mod server;
mod streaming;
