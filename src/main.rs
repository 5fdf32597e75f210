//! One program, three roles: this file only dispatches.
fn main() {}
