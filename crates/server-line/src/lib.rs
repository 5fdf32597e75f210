//! The line to a database's server, whatever its protocol: encrypted as far as the setting asks for it, and the password for it.
//!
//! What always holds: passwords come from files that nobody else may read, and no error says what is in one; a mode that asks
//! for TLS never goes on without it (a client that is told to [`TlsMode::Prefer`] decides that by itself).

mod password;
pub mod tls;

pub use password::{Password, PasswordFileError, first_line, read};
pub use tls::{TlsMode, encrypt};
