//! The wire: CSI, and Strongroom's own control services.
//!
//! The programs never link each other: they meet here. [`csi`] is the whole of CSI 1.12 with its alpha parts, [`control`]
//! is what the command line, the agent and restore need beyond it. Both are generated from the .proto files beside
//! this crate; what holds secrets prints how many there are and never what they are.

mod call_error;
mod connect;
mod limits;
mod patience;
mod secrets;

pub use call_error::{CallError, code_for, status};
pub use connect::{AgentClients, Clients, ConnectError, EndpointError, connect, socket_path};
pub use limits::{LimitedCodec, LimitedDecoder, Limits};
pub use patience::while_busy;
pub use secrets::Withheld;

/// The label of a volume that is there for a restore test and goes with it: its value is the folder of the test. Nobody backs such a volume up.
pub const RESTORE_TEST_LABEL: &str = "strongroom.restore.test";

/// The label of a volume that a command made for itself and takes away again; its value names the volume whose content it has. It
/// is not backed up.
pub const TEMPORARY_LABEL: &str = "strongroom.database.temporary";

/// CSI 1.12: messages, clients and servers.
#[allow(
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    reason = "generated code is not written by hand"
)]
pub mod csi {
    include!(concat!(env!("OUT_DIR"), "/csi.v1.rs"));
}

/// Strongroom's control services: messages, clients and servers.
#[allow(
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    reason = "generated code is not written by hand"
)]
pub mod control {
    include!(concat!(env!("OUT_DIR"), "/strongroom.v1.rs"));
}

/// Both packages as protobuf describes them (a `FileDescriptorSet`), for reflection and for tests of the wire.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
