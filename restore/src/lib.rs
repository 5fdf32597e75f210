//! Restore: select, plan, hydrate, verify, swap and undo.
