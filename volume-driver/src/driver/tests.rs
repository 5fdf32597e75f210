//! The driver on real loop devices and mounts.

mod crashes;
mod doctor;
mod full;
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
mod upkeep;

pub(crate) use crashes::act;
