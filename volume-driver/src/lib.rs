//! The volume driver: volumes, snapshots, changed blocks and node mounts on a reflink pool.
//!
//! [`Volumes`] is the driver itself, as a value with methods: the CSI services, the control service and the
//! tests all call it and nothing below it. Below lie the registry (what was promised), the pool and its backend
//! (where bytes lie), loop devices and filesystems (how they are reached), and the reconciler, which makes the
//! four agree after a crash.

mod backend;
mod background;
pub mod cli;
mod control;
mod core_error;
mod crash;
mod csi;
mod docker;
mod driver;
mod filesystem;
mod findings;
mod freeze;
mod guards;
mod holders;
mod image;
mod image_note;
mod io_limits;
mod io_throttle;
mod labels;
mod limits;
mod loop_device;
mod metrics;
mod mount_options;
mod mount_table;
mod nouns;
mod place;
mod points;
mod pool;
mod provision;
mod registry;
mod requests;
mod server;
mod sys;
#[cfg(test)]
mod testing;
mod tool;
mod volumes;
mod watchdog;

pub use core_error::CoreError;
pub use findings::{Finding, Repair, Repaired, Severity};
pub use io_limits::{IoLimits, IoQuantity};
pub use limits::{Limits, Reserve, WhenFull};
pub use nouns::{
    Access, Attachment, Capacity, ContentSource, Filesystem, Group, Mount, MountUse, Outcome, Snapshot,
    SnapshotCost, Usage, Volume, VolumeKind, VolumeState,
};
pub use points::{Points, PointsError};
pub use provision::{Beginning, NewVolume, PointChoice, Provision, Provisioned, WantedKind};
pub use requests::{
    BeginRestore, Changes, CreateGroup, CreateSnapshot, CreateVolume, DriverSettings, Exchange, Exchanged,
    Expanded, LabelScope, PointContent, PublishEphemeral, PublishRequest, RestoreTarget, SizeRange,
    SnapshotFilter, StageRequest, WatchdogCommand,
};
pub use server::{ServeError, Socket};
pub use volumes::{ExtentReader, OpenedDriver, Volumes};
pub use watchdog::thaw_watchdog;
