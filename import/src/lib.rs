//! Import: recovery points from the backups of other programs, one way.
//!
//! ```text
//! place     where a restic repository is: a folder or a bucket, in our words or in restic's
//! shelf     its files, through our own stores; only ever read
//! restic    what lies in it: snapshots, and the image files in them
//! plan      which of them become points, under which names, and which are here already; pure
//! source    the bytes of one such file, range by range
//! cli       the command: shows the plan, and with --yes lets each image be kept
//! ```
//! Who keeps an image, that is captures it and publishes the point, is handed in ([`cli::Keep`]): this role reads,
//! and does not know the agent. What has been imported is known by labels of the points alone, so that a second
//! run goes on where the first one stopped, on any machine.

pub mod cli;
mod error;
mod place;
mod plan;
mod restic;
mod shelf;
mod source;

pub use error::ImportError;
