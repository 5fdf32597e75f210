//! The protocol under trial: a store that misbehaves from a seed, and actors that meet in it.
//!
//! `store` is the store, `world` makes repositories, volumes and points in it, `races` holds the races of
//! section 5 of the protocol one by one. `history` lets everybody (`actors`) loose at once, while `oracle` judges
//! every change by the invariants I1 to I6; `seeds` lives through many histories, and through such in which one
//! rule is taken away. docs/simulation.md tells how to use it.

mod actors;
mod check;
mod damage;
mod history;
mod journal;
mod oracle;
mod races;
mod seeds;
pub(crate) mod store;
pub(crate) mod world;
