//! The driver on real loop devices and mounts.

mod crashes;
mod in_place;
mod limits;
mod lives;
mod node;
mod snapshots;

pub(crate) use crashes::act;
