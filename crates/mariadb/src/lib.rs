//! MariaDB's binary log, received as it is written.
//!
//! Our own small client of the protocol (MariaDB 10.6 and newer): it logs in, asks in SQL, and receives the binary log as a
//! replica does. What always holds:
//!
//! * The bytes are those of the server's own files, put together from the events that it sends: each event is at the place
//!   that it says, and its sum is right; what is not is refused, never stored.
//! * Bytes of another history are never mixed in: a stream that goes on is begun where something is that is known already,
//!   and compared with it. A name of a file proves nothing, since `RESET MASTER` begins to count anew.
//! * Passwords come from files, and appear in no command line, no message and no log.
//!
//! What the bytes mean is the business of others; nothing here looks further than an event's header.

mod authentication;
pub mod connection;
pub mod error;
pub mod receiver;
pub mod server;
pub mod stream;
pub mod target;
mod wire;

pub use connection::Connection;
pub use error::MariadbError;
pub use server::{LogEnd, Server};
pub use strongroom_server_line::TlsMode;
pub use target::Target;
