//! The backup agent: capture, publish, retention, sweep, status.
