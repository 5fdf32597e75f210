//! The S3 adapter against real servers, and through a proxy that fails on purpose.
//!
//! The servers are started once for the whole run by `tests/servers/with-s3`; a test whose server is not there says so
//! and does nothing.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the verdict")]

mod faults;
mod locks;
mod promises;
mod proxy;
mod server;
