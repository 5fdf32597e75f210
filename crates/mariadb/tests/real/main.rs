//! Against a real MariaDB server of the test's own.

mod server;
mod streaming;
