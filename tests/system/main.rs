//! Tests of the whole, through the real `strongroom` binary: real mounts, real loop devices, real object stores.
//!
//! They need root for the volume driver; without it those that do say `SKIPPED` and pass. Everything a test makes lies
//! below one temporary directory, its [`ground::Ground`], which takes down drivers, mounts and loop devices when it goes,
//! also after a failure.

mod answer;
mod call;
mod content;
mod ground;
mod kernel;
mod s3;

mod agent;
mod command_line;
mod copies;
mod cost;
mod crashes;
mod damage;
mod databases;
mod deploy;
mod docker;
mod documents;
mod domains;
mod files;
mod images;
mod imports;
mod json_output;
mod keys;
mod memory;
mod monitoring;
mod points;
mod refusals;
mod secrets;
mod status;
mod story;
mod verify;
mod volumes;
