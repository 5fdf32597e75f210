//! The driver's part of the command line: `driver`, `volume` and `snapshot`.
