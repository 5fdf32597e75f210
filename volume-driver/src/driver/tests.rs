//! The driver on real loop devices and mounts.

mod crashes;
mod doctor;
mod groups;
mod held_back;
mod in_place;
mod inline;
mod limits;
mod lives;
mod node;
mod raw;
mod repair;
mod restarts;
mod snapshots;

pub(crate) use crashes::act;
