//! The repository in a real folder: what was written once stays readable, by others too, and damage is always named.
//!
//! These tests stand here because they need both the format and an adapter, and the adapters are above the format.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the verdict")]

mod copies;
mod copies_by_rule;
mod damage;
mod golden;
mod lines;
mod logs;
mod many_points;
#[allow(dead_code, reason = "the tests of the adapter plan faults that are not weather")]
#[path = "../s3/proxy.rs"]
mod proxy;
mod reader;
#[path = "../s3/server.rs"]
mod server;
mod vectors;
mod wholes;
mod world;
