//! What the folder store promises beyond the suite.
