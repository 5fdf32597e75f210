//! What every store must do: one suite, run by every adapter.
