//! The repository in a real folder: what was written once stays readable, by others too, and damage is always named.
//!
//! These tests stand here because they need both the format and an adapter, and the adapters are above the format.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the verdict")]

mod damage;
mod golden;
mod reader;
mod vectors;
mod world;
