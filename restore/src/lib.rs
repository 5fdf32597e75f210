//! Restore: select, plan, hydrate, verify, swap and undo.

pub mod aim;
pub mod chunk_set;
pub mod cli;
mod compare;
pub mod error;
pub mod hydrate;
pub mod journal;
pub mod plan;
pub mod select;
pub mod supply;
pub mod survey;
pub mod verify;
pub mod work;
