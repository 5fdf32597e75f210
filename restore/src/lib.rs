//! Restore: select, plan, hydrate, verify, swap and undo.
//!
//! ```text
//! bucket -> [select] -> [plan] -> [hydrate] -> [verify] -> [swap]
//! ```
//! * [`fn@strongroom_settings::select`] finds the point a person means; [`plan`] is what will be done, as a value that is shown and then carried out;
//!   [`survey`] makes its windows from the map and the packs' tables; [`mod@hydrate`] carries them out; [`mod@verify`] reads
//!   everything back; the driver exchanges content in place, and `undo` takes that back.
//! * The bucket and the key are enough: what is kept locally (the [`journal`] of a run) only saves time.
//! * No wrong byte is written: each chunk's seal and id are checked first. What is damaged is named, never guessed.
//!
//! It knows the repository and the driver's control service; it does not know how either works inside.

pub mod aim;
pub mod chunk_set;
pub mod cli;
mod compare;
pub mod database;
mod driver;
pub mod error;
pub mod hydrate;
pub mod journal;
pub mod plan;
pub mod refusal;
pub mod report;
pub mod request;
pub mod restore;
pub mod serve;
pub mod supply;
pub mod survey;
mod target;
pub mod touched;
pub mod undo;
pub mod verify;
pub mod work;

#[cfg(test)]
mod testing;
