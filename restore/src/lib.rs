//! Restore: select, plan, hydrate, verify, swap and undo.

pub mod aim;
pub mod chunk_set;
pub mod journal;
pub mod select;
