//! The protocol under trial: a store that misbehaves from a seed, and actors that meet in it.
//!
//! `store` is the store, `world` makes repositories, volumes and points in it, `races` holds the races of
//! section 5 of the protocol one by one, `random` lets everybody loose at once and checks the invariants I1 to
//! I6.

mod check;
mod damage;
mod journal;
mod races;
mod random;
pub(crate) mod store;
pub(crate) mod world;
