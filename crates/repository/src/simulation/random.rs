//! Everybody at once.
