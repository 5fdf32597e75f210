//! Finds out what a store can really do.
